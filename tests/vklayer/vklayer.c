#include "vklayer/vklayer.h"

#include <dlfcn.h>
#include <string.h>
#include <vulkan/vulkan.h>

/* Calls that can fail; those in front of vkCreateDevice are the loader's, before there is an instance or a device. */
#define FALLIBLE(X)                                                                                                    \
    X(EnumerateInstanceVersion)                                                                                        \
    X(EnumerateInstanceExtensionProperties)                                                                            \
    X(CreateInstance)                                                                                                  \
    X(EnumeratePhysicalDevices)                                                                                        \
    X(EnumerateDeviceExtensionProperties)                                                                              \
    X(CreateDevice)                                                                                                    \
    X(CreateBuffer)                                                                                                    \
    X(CreateSemaphore)                                                                                                 \
    X(CreateShaderModule)                                                                                              \
    X(CreatePipelineCache)                                                                                             \
    X(GetPipelineCacheData)                                                                                            \
    X(MergePipelineCaches)                                                                                             \
    X(CreatePipelineLayout)                                                                                            \
    X(CreateDescriptorSetLayout)                                                                                       \
    X(CreateDescriptorPool)                                                                                            \
    X(CreateCommandPool)                                                                                               \
    X(CreateComputePipelines)                                                                                          \
    X(AllocateMemory)                                                                                                  \
    X(BindBufferMemory)                                                                                                \
    X(MapMemory)                                                                                                       \
    X(AllocateDescriptorSets)                                                                                          \
    X(AllocateCommandBuffers)                                                                                          \
    X(BeginCommandBuffer)                                                                                              \
    X(EndCommandBuffer)                                                                                                \
    X(QueueSubmit)                                                                                                     \
    X(WaitSemaphores)                                                                                                  \
    X(GetSemaphoreCounterValue)

#define INFALLIBLE(X)                                                                                                  \
    X(GetInstanceProcAddr)                                                                                             \
    X(GetDeviceProcAddr)                                                                                               \
    X(DestroyInstance)                                                                                                 \
    X(DestroyDevice)                                                                                                   \
    X(DestroyBuffer)                                                                                                   \
    X(DestroySemaphore)                                                                                                \
    X(DestroyShaderModule)                                                                                             \
    X(DestroyPipelineCache)                                                                                            \
    X(DestroyPipelineLayout)                                                                                           \
    X(DestroyDescriptorSetLayout)                                                                                      \
    X(DestroyDescriptorPool)                                                                                           \
    X(DestroyCommandPool)                                                                                              \
    X(DestroyPipeline)                                                                                                 \
    X(FreeMemory)                                                                                                      \
    X(QueueWaitIdle)                                                                                                   \
    X(FreeCommandBuffers)

#define AS_INDEX(name) AT_##name,
typedef enum call { FALLIBLE(AS_INDEX) N_FALLIBLE, LAST_FALLIBLE = N_FALLIBLE - 1, INFALLIBLE(AS_INDEX) N_CALLS } call;

#define AS_NAME(name) [AT_##name] = "vk" #name,
static const char *const names[N_CALLS] = { FALLIBLE(AS_NAME) INFALLIBLE(AS_NAME) };

/* What is allocated or belongs to a pool, so that freeing without a size can be counted. */
#define THINGS 4096
typedef struct thing {
    uint64_t handle; /* 0: free */
    uint64_t n;      /* memory: bytes; pools: members alive */
    uint32_t heap;
    vklayer_kind kind;
} thing;

static struct {
    PFN_vkVoidFunction real[N_CALLS];
    VkInstance own; /* keeps the drivers loaded from one runtime to the next */
    VkPhysicalDeviceMemoryProperties memory;
    vklayer_machine machine;
    uint64_t to_fail, to_lose; /* calls and submits from now; 0: none */
    VkResult result;
    bool fired, lost, polled;
    const char *victim;
    bool called[N_FALLIBLE], failed[N_FALLIBLE]; /* since the program began */
    uint64_t live[VKLAYER_KINDS], created[VKLAYER_KINDS], heap_bytes[VK_MAX_MEMORY_HEAPS], submits, mismatches;
    thing things[THINGS];
} it;

#define REAL(name) ((PFN_vk##name)it.real[AT_##name])

/* ---- counting ---- */

static void made(vklayer_kind kind, uint64_t n)
{
    it.live[kind] += n;
    it.created[kind] += n;
}

static void unmade(vklayer_kind kind, uint64_t n)
{
    if (n > it.live[kind]) {
        it.mismatches++;
        n = it.live[kind];
    }
    it.live[kind] -= n;
}

static thing *find(vklayer_kind kind, uint64_t handle)
{
    for (size_t i = 0; i < THINGS; i++)
        if (it.things[i].handle == handle && (!handle || it.things[i].kind == kind)) return &it.things[i];
    it.mismatches++;
    return &it.things[0];
}

static void remember(vklayer_kind kind, uint64_t handle, uint64_t n, uint32_t heap)
{
    *find(kind, 0) = (thing){ handle, n, heap, kind };
}

/* ---- failing ---- */

/* VK_SUCCESS: carry it out. */
static VkResult fate(call c)
{
    it.called[c] = true;
    if (it.to_fail == 0 || --it.to_fail) return VK_SUCCESS;
    it.fired = it.failed[c] = true;
    it.victim = names[c];
    return it.result;
}

/* Of calls that a lost device answers. */
static VkResult fate_of_device(call c)
{
    VkResult r = fate(c);
    return r ? r : it.lost ? VK_ERROR_DEVICE_LOST : VK_SUCCESS;
}

/* ---- objects with a create and a destroy ---- */

/* A pool's members go with it. */
static void forget(vklayer_kind kind, uint64_t handle)
{
    thing *t = find(kind, handle);
    unmade(kind, 1);
    if (kind == VKLAYER_SET_POOL) unmade(VKLAYER_SET, t->n);
    if (kind == VKLAYER_COMMAND_POOL) unmade(VKLAYER_COMMAND_BUFFER, t->n);
    if (kind == VKLAYER_MEMORY) it.heap_bytes[t->heap] -= t->n;
    *t = (thing){ 0 };
}

#define CREATE_AND_DESTROY(Name, KIND)                                                                                 \
    static VKAPI_ATTR VkResult VKAPI_CALL on_Create##Name(VkDevice d, const Vk##Name##CreateInfo *info,                \
                                                          const VkAllocationCallbacks *a, Vk##Name *out)               \
    {                                                                                                                  \
        *out = VK_NULL_HANDLE;                                                                                         \
        VkResult r = fate(AT_Create##Name);                                                                            \
        if (!r) r = REAL(Create##Name)(d, info, a, out);                                                               \
        if (!r) made(KIND, 1);                                                                                         \
        if (!r) remember(KIND, (uint64_t)*out, 0, 0);                                                                  \
        return r;                                                                                                      \
    }                                                                                                                  \
    static VKAPI_ATTR void VKAPI_CALL on_Destroy##Name(VkDevice d, Vk##Name o, const VkAllocationCallbacks *a)         \
    {                                                                                                                  \
        if (o) forget(KIND, (uint64_t)o);                                                                              \
        REAL(Destroy##Name)(d, o, a);                                                                                  \
    }

CREATE_AND_DESTROY(Buffer, VKLAYER_BUFFER)
CREATE_AND_DESTROY(Semaphore, VKLAYER_SEMAPHORE)
CREATE_AND_DESTROY(ShaderModule, VKLAYER_SHADER_MODULE)
CREATE_AND_DESTROY(PipelineCache, VKLAYER_PIPELINE_CACHE)
CREATE_AND_DESTROY(PipelineLayout, VKLAYER_PIPELINE_LAYOUT)
CREATE_AND_DESTROY(DescriptorSetLayout, VKLAYER_SET_LAYOUT)
CREATE_AND_DESTROY(DescriptorPool, VKLAYER_SET_POOL)
CREATE_AND_DESTROY(CommandPool, VKLAYER_COMMAND_POOL)

/* ---- instance and device ---- */

static VKAPI_ATTR VkResult VKAPI_CALL on_EnumerateInstanceVersion(uint32_t *version)
{
    VkResult r = fate(AT_EnumerateInstanceVersion);
    if (!r) r = REAL(EnumerateInstanceVersion)(version);
    if (!r && it.machine == VKLAYER_OLD) *version = VK_API_VERSION_1_1;
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_EnumerateInstanceExtensionProperties(const char *layer, uint32_t *n,
                                                                              VkExtensionProperties *all)
{
    VkResult r = fate(AT_EnumerateInstanceExtensionProperties);
    return r ? r : REAL(EnumerateInstanceExtensionProperties)(layer, n, all);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_CreateInstance(const VkInstanceCreateInfo *info,
                                                        const VkAllocationCallbacks *a, VkInstance *out)
{
    *out = NULL;
    VkResult r = it.machine == VKLAYER_NO_DRIVER ? VK_ERROR_INCOMPATIBLE_DRIVER : fate(AT_CreateInstance);
    if (!r) r = REAL(CreateInstance)(info, a, out);
    if (!r) made(VKLAYER_INSTANCE, 1);
    return r;
}

static VKAPI_ATTR void VKAPI_CALL on_DestroyInstance(VkInstance instance, const VkAllocationCallbacks *a)
{
    if (instance) unmade(VKLAYER_INSTANCE, 1);
    REAL(DestroyInstance)(instance, a);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_EnumeratePhysicalDevices(VkInstance instance, uint32_t *n,
                                                                  VkPhysicalDevice *all)
{
    VkResult r = fate(AT_EnumeratePhysicalDevices);
    if (!r && it.machine == VKLAYER_NO_DEVICE)
        *n = 0;
    else if (!r)
        r = REAL(EnumeratePhysicalDevices)(instance, n, all);
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_EnumerateDeviceExtensionProperties(VkPhysicalDevice physical,
                                                                            const char *layer, uint32_t *n,
                                                                            VkExtensionProperties *all)
{
    VkResult r = fate(AT_EnumerateDeviceExtensionProperties);
    return r ? r : REAL(EnumerateDeviceExtensionProperties)(physical, layer, n, all);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_CreateDevice(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                      const VkAllocationCallbacks *a, VkDevice *out)
{
    *out = NULL;
    VkResult r = fate(AT_CreateDevice);
    if (!r) r = REAL(CreateDevice)(physical, info, a, out);
    if (r) return r;
    PFN_vkGetPhysicalDeviceMemoryProperties memory = (PFN_vkGetPhysicalDeviceMemoryProperties)REAL(GetInstanceProcAddr)(
        it.own, "vkGetPhysicalDeviceMemoryProperties");
    memory(physical, &it.memory);
    it.lost = false;
    made(VKLAYER_DEVICE, 1);
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL on_DestroyDevice(VkDevice d, const VkAllocationCallbacks *a)
{
    if (d) unmade(VKLAYER_DEVICE, 1);
    REAL(DestroyDevice)(d, a);
    it.lost = false;
}

/* ---- memory, sets, command buffers, pipelines ---- */

static VKAPI_ATTR VkResult VKAPI_CALL on_AllocateMemory(VkDevice d, const VkMemoryAllocateInfo *info,
                                                        const VkAllocationCallbacks *a, VkDeviceMemory *out)
{
    *out = VK_NULL_HANDLE;
    VkResult r = fate_of_device(AT_AllocateMemory);
    if (!r) r = REAL(AllocateMemory)(d, info, a, out);
    if (r) return r;
    uint32_t heap = it.memory.memoryTypes[info->memoryTypeIndex].heapIndex;
    remember(VKLAYER_MEMORY, (uint64_t)*out, info->allocationSize, heap);
    it.heap_bytes[heap] += info->allocationSize;
    made(VKLAYER_MEMORY, 1);
    return r;
}

static VKAPI_ATTR void VKAPI_CALL on_FreeMemory(VkDevice d, VkDeviceMemory memory, const VkAllocationCallbacks *a)
{
    if (memory) forget(VKLAYER_MEMORY, (uint64_t)memory);
    REAL(FreeMemory)(d, memory, a);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_BindBufferMemory(VkDevice d, VkBuffer buffer, VkDeviceMemory memory,
                                                          VkDeviceSize offset)
{
    VkResult r = fate(AT_BindBufferMemory);
    return r ? r : REAL(BindBufferMemory)(d, buffer, memory, offset);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_MapMemory(VkDevice d, VkDeviceMemory memory, VkDeviceSize offset,
                                                   VkDeviceSize n, VkMemoryMapFlags flags, void **data)
{
    VkResult r = fate(AT_MapMemory);
    return r ? r : REAL(MapMemory)(d, memory, offset, n, flags, data);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_AllocateDescriptorSets(VkDevice d, const VkDescriptorSetAllocateInfo *info,
                                                                VkDescriptorSet *out)
{
    uint32_t n = info->descriptorSetCount;
    memset(out, 0, n * sizeof *out);
    VkResult r = fate(AT_AllocateDescriptorSets);
    if (!r) r = REAL(AllocateDescriptorSets)(d, info, out);
    if (r) return r;
    find(VKLAYER_SET_POOL, (uint64_t)info->descriptorPool)->n += n;
    made(VKLAYER_SET, n);
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_AllocateCommandBuffers(VkDevice d, const VkCommandBufferAllocateInfo *info,
                                                                VkCommandBuffer *out)
{
    uint32_t n = info->commandBufferCount;
    memset(out, 0, n * sizeof *out);
    VkResult r = fate(AT_AllocateCommandBuffers);
    if (!r) r = REAL(AllocateCommandBuffers)(d, info, out);
    if (r) return r;
    find(VKLAYER_COMMAND_POOL, (uint64_t)info->commandPool)->n += n;
    made(VKLAYER_COMMAND_BUFFER, n);
    return r;
}

static VKAPI_ATTR void VKAPI_CALL on_FreeCommandBuffers(VkDevice d, VkCommandPool pool, uint32_t n,
                                                        const VkCommandBuffer *all)
{
    uint32_t n_there = 0;
    for (uint32_t i = 0; i < n; i++) n_there += all[i] != NULL;
    find(VKLAYER_COMMAND_POOL, (uint64_t)pool)->n -= n_there;
    unmade(VKLAYER_COMMAND_BUFFER, n_there);
    REAL(FreeCommandBuffers)(d, pool, n, all);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_CreateComputePipelines(VkDevice d, VkPipelineCache cache, uint32_t n,
                                                                const VkComputePipelineCreateInfo *infos,
                                                                const VkAllocationCallbacks *a, VkPipeline *out)
{
    memset(out, 0, n * sizeof *out);
    VkResult r = fate(AT_CreateComputePipelines);
    if (!r) r = REAL(CreateComputePipelines)(d, cache, n, infos, a, out);
    for (uint32_t i = 0; i < n; i++) {
        if (!out[i]) continue;
        made(VKLAYER_PIPELINE, 1);
        remember(VKLAYER_PIPELINE, (uint64_t)out[i], 0, 0);
    }
    return r;
}

static VKAPI_ATTR void VKAPI_CALL on_DestroyPipeline(VkDevice d, VkPipeline pipeline, const VkAllocationCallbacks *a)
{
    if (pipeline) forget(VKLAYER_PIPELINE, (uint64_t)pipeline);
    REAL(DestroyPipeline)(d, pipeline, a);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_GetPipelineCacheData(VkDevice d, VkPipelineCache cache, size_t *n, void *data)
{
    VkResult r = fate(AT_GetPipelineCacheData);
    return r ? r : REAL(GetPipelineCacheData)(d, cache, n, data);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_MergePipelineCaches(VkDevice d, VkPipelineCache to, uint32_t n,
                                                             const VkPipelineCache *from)
{
    VkResult r = fate(AT_MergePipelineCaches);
    return r ? r : REAL(MergePipelineCaches)(d, to, n, from);
}

/* ---- recording, submitting, waiting ---- */

static VKAPI_ATTR VkResult VKAPI_CALL on_BeginCommandBuffer(VkCommandBuffer c, const VkCommandBufferBeginInfo *info)
{
    VkResult r = fate(AT_BeginCommandBuffer);
    return r ? r : REAL(BeginCommandBuffer)(c, info);
}

/* One that has failed is no longer being recorded either. */
static VKAPI_ATTR VkResult VKAPI_CALL on_EndCommandBuffer(VkCommandBuffer c)
{
    VkResult r = fate(AT_EndCommandBuffer), real = REAL(EndCommandBuffer)(c);
    return r ? r : real;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_QueueSubmit(VkQueue queue, uint32_t n, const VkSubmitInfo *infos,
                                                     VkFence fence)
{
    it.submits++;
    it.polled = false;
    if (it.to_lose && --it.to_lose == 0) it.lost = true;
    VkResult r = fate_of_device(AT_QueueSubmit);
    /* What the device still does must end before its memory goes. */
    if (it.lost) REAL(QueueWaitIdle)(queue);
    return r ? r : REAL(QueueSubmit)(queue, n, infos, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_QueueWaitIdle(VkQueue queue)
{
    return it.lost ? VK_ERROR_DEVICE_LOST : REAL(QueueWaitIdle)(queue);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_WaitSemaphores(VkDevice d, const VkSemaphoreWaitInfo *info, uint64_t timeout)
{
    VkResult r = fate_of_device(AT_WaitSemaphores);
    return r ? r : REAL(WaitSemaphores)(d, info, timeout);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_GetSemaphoreCounterValue(VkDevice d, VkSemaphore semaphore, uint64_t *value)
{
    VkResult r = it.polled ? VK_SUCCESS : fate(AT_GetSemaphoreCounterValue);
    it.polled = true;
    if (!r && it.lost) r = VK_ERROR_DEVICE_LOST;
    return r ? r : REAL(GetSemaphoreCounterValue)(d, semaphore, value);
}

/* ---- names ---- */

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL on_GetDeviceProcAddr(VkDevice d, const char *name);
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL on_GetInstanceProcAddr(VkInstance instance, const char *name);

#define AS_WRAPPER(name) [AT_##name] = (PFN_vkVoidFunction)on_##name,
static const PFN_vkVoidFunction wrappers[N_CALLS] = { FALLIBLE(AS_WRAPPER) INFALLIBLE(AS_WRAPPER) };

/* Ours for the driver's; the driver's is kept. */
static PFN_vkVoidFunction wrap(const char *name, PFN_vkVoidFunction real)
{
    for (call c = 0; real && c < N_CALLS; c++) {
        if (strcmp(names[c], name) != 0) continue;
        if (c != AT_GetInstanceProcAddr) it.real[c] = real;
        return wrappers[c];
    }
    return real;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL on_GetDeviceProcAddr(VkDevice d, const char *name)
{
    return wrap(name, REAL(GetDeviceProcAddr)(d, name));
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL on_GetInstanceProcAddr(VkInstance instance, const char *name)
{
    return wrap(name, REAL(GetInstanceProcAddr)(instance, name));
}

static PFN_vkVoidFunction get_proc(void *instance, const char *name) { return on_GetInstanceProcAddr(instance, name); }

/* ---- the test's side ---- */

static bool open_loader(void)
{
    union {
        void *data;
        PFN_vkVoidFunction function;
    } get = { NULL };
    void *loader = it.own ? NULL : dlopen("libvulkan.so.1", RTLD_NOW);
    if (it.own) return true;
    if (loader) get.data = dlsym(loader, "vkGetInstanceProcAddr");
    if (!get.data) return false;
    it.real[AT_GetInstanceProcAddr] = get.function;
    VkApplicationInfo app = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_2 };
    VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &app };
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)REAL(GetInstanceProcAddr)(NULL, "vkCreateInstance");
    if (create && create(&info, NULL, &it.own) != VK_SUCCESS) it.own = NULL; /* without a driver there is none */
    return true;
}

bool vklayer_host_init(gemma_vulkan_host *host)
{
    *host = (gemma_vulkan_host){ .size = sizeof *host, .get_instance_proc_addr = get_proc };
    it.machine = VKLAYER_AS_IS;
    it.to_fail = it.to_lose = it.submits = it.mismatches = 0;
    it.fired = it.lost = it.polled = false;
    memset(it.live, 0, sizeof it.live);
    memset(it.created, 0, sizeof it.created);
    memset(it.heap_bytes, 0, sizeof it.heap_bytes);
    memset(it.things, 0, sizeof it.things);
    return open_loader();
}

void vklayer_show(vklayer_machine machine) { it.machine = machine; }

void vklayer_fail_nth(uint64_t nth, int32_t result)
{
    it.to_fail = nth;
    it.result = (VkResult)result;
    it.fired = false;
}

bool vklayer_fired(void) { return it.fired; }
const char *vklayer_victim(void) { return it.victim ? it.victim : ""; }
void vklayer_lose_at(uint64_t nth_submit) { it.to_lose = nth_submit; }

const char *vklayer_spared(void)
{
    for (call c = 0; c < N_FALLIBLE; c++)
        if (it.called[c] && !it.failed[c]) return names[c];
    return NULL;
}

static uint64_t sum(const uint64_t *counts)
{
    uint64_t all = 0;
    for (int i = 0; i < VKLAYER_KINDS; i++) all += counts[i];
    return all;
}

uint64_t vklayer_live(vklayer_kind kind) { return it.live[kind]; }
uint64_t vklayer_created(vklayer_kind kind) { return it.created[kind]; }
uint64_t vklayer_live_objects(void) { return sum(it.live); }
uint64_t vklayer_created_objects(void) { return sum(it.created); }
uint64_t vklayer_heap_bytes(uint32_t heap) { return heap < VK_MAX_MEMORY_HEAPS ? it.heap_bytes[heap] : 0; }
uint64_t vklayer_submits(void) { return it.submits; }
uint64_t vklayer_mismatches(void) { return it.mismatches; }
