#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "vklayer/layer.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

#define AS_NAME(name) [AT_##name] = "vk" #name,
static const char *const names[N_CALLS] = { FALLIBLE(AS_NAME) INFALLIBLE(AS_NAME) };

vklayer_state vklayer_it;
#define it vklayer_it

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
void vklayer_lock(void) { pthread_mutex_lock(&mutex); }
void vklayer_unlock(void) { pthread_mutex_unlock(&mutex); }

/* ---- counting ---- */

void vklayer_made(vklayer_kind kind, uint64_t n)
{
    it.live[kind] += n;
    it.created[kind] += n;
}

void vklayer_unmade(vklayer_kind kind, uint64_t n)
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

void vklayer_remember(vklayer_kind kind, uint64_t handle)
{
    *find(kind, 0) = (thing){ .handle = handle, .kind = kind };
}

uint32_t vklayer_block_of(VkDeviceMemory memory)
{
    const thing *t = find(VKLAYER_MEMORY, (uint64_t)memory);
    return t->handle ? t->block : BLOCKS;
}

/* ---- failing ---- */

static VkResult fate(call c)
{
    it.called[c] = true;
    if (it.to_fail == 0 || --it.to_fail) return VK_SUCCESS;
    if (--it.n_to_fail) it.to_fail = 1;
    it.fired = it.failed[c] = true;
    it.victim = names[c];
    return it.result;
}

VkResult vklayer_fate(call c)
{
    vklayer_lock();
    VkResult r = fate(c);
    vklayer_unlock();
    return r;
}

/* Of calls that a lost device answers. */
static VkResult fate_of_device(call c, const vkdevice *d)
{
    VkResult r = vklayer_fate(c);
    return r ? r : d->lost ? VK_ERROR_DEVICE_LOST : VK_SUCCESS;
}

/* ---- objects with a create and a destroy ---- */

/* A pool's members go with it. */
static void forget(vklayer_kind kind, uint64_t handle)
{
    thing *t = find(kind, handle);
    vklayer_unmade(kind, 1);
    if (kind == VKLAYER_SET_POOL) vklayer_unmade(VKLAYER_SET, t->n);
    if (kind == VKLAYER_COMMAND_POOL) vklayer_unmade(VKLAYER_COMMAND_BUFFER, t->n);
    if (kind == VKLAYER_MEMORY) t->of->type_bytes[t->type] -= t->n;
    if (kind == VKLAYER_MEMORY) vklayer_block_drop(t->block);
    if (t->hollow) munmap(t->hollow, t->n);
    *t = (thing){ 0 };
}

#define CREATE_AND_DESTROY(Name, KIND)                                                                                 \
    static VKAPI_ATTR VkResult VKAPI_CALL on_Create##Name(VkDevice d, const Vk##Name##CreateInfo *info,                \
                                                          const VkAllocationCallbacks *a, Vk##Name *out)               \
    {                                                                                                                  \
        *out = VK_NULL_HANDLE;                                                                                         \
        VkResult r = vklayer_fate(AT_Create##Name);                                                                    \
        if (!r) r = REAL(Create##Name)(d, info, a, out);                                                               \
        if (!r) vklayer_made(KIND, 1);                                                                                 \
        if (!r) vklayer_remember(KIND, (uint64_t)*out);                                                                \
        return r;                                                                                                      \
    }                                                                                                                  \
    DESTROY(Name, KIND)

#define DESTROY(Name, KIND)                                                                                            \
    static VKAPI_ATTR void VKAPI_CALL on_Destroy##Name(VkDevice d, Vk##Name o, const VkAllocationCallbacks *a)         \
    {                                                                                                                  \
        if (o) forget(KIND, (uint64_t)o);                                                                              \
        REAL(Destroy##Name)(d, o, a);                                                                                  \
    }

DESTROY(Buffer, VKLAYER_BUFFER)
CREATE_AND_DESTROY(Semaphore, VKLAYER_SEMAPHORE)
CREATE_AND_DESTROY(ShaderModule, VKLAYER_SHADER_MODULE)
CREATE_AND_DESTROY(PipelineCache, VKLAYER_PIPELINE_CACHE)
CREATE_AND_DESTROY(PipelineLayout, VKLAYER_PIPELINE_LAYOUT)
CREATE_AND_DESTROY(DescriptorSetLayout, VKLAYER_SET_LAYOUT)
CREATE_AND_DESTROY(DescriptorPool, VKLAYER_SET_POOL)
CREATE_AND_DESTROY(CommandPool, VKLAYER_COMMAND_POOL)

/* ---- memory, sets, command buffers, pipelines ---- */

static VKAPI_ATTR VkResult VKAPI_CALL on_AllocateMemory(VkDevice d, const VkMemoryAllocateInfo *info,
                                                        const VkAllocationCallbacks *a, VkDeviceMemory *out)
{
    physical *p = vklayer_device_of(d)->of;
    VkMemoryAllocateInfo real = *info;
    double gb_s = 0;
    *out = VK_NULL_HANDLE;
    VkResult r = fate_of_device(AT_AllocateMemory, vklayer_device_of(d));
    if (!r) r = vklayer_take(p, info, &real.memoryTypeIndex, &gb_s);
    if (it.hollow && real.allocationSize > 2 * it.hollow) real.allocationSize = 2 * it.hollow;
    if (!r) r = REAL(AllocateMemory)(d, &real, a, out);
    if (r) return r;
    vklayer_lock();
    *find(VKLAYER_MEMORY, 0) =
        (thing){ .handle = (uint64_t)*out,
                 .n = info->allocationSize,
                 .of = p,
                 .type = info->memoryTypeIndex,
                 .block = vklayer_block_add(p, info->memoryTypeIndex, info->allocationSize, gb_s),
                 .kind = VKLAYER_MEMORY };
    p->type_bytes[info->memoryTypeIndex] += info->allocationSize;
    vklayer_made(VKLAYER_MEMORY, 1);
    vklayer_unlock();
    return r;
}

static VKAPI_ATTR void VKAPI_CALL on_FreeMemory(VkDevice d, VkDeviceMemory memory, const VkAllocationCallbacks *a)
{
    vklayer_lock();
    if (memory) forget(VKLAYER_MEMORY, (uint64_t)memory);
    vklayer_unlock();
    REAL(FreeMemory)(d, memory, a);
}

/* As much as was asked for, of zeros that take no memory. */
static VkResult map_hollow(thing *t, void **data)
{
    if (!t->hollow)
        t->hollow = mmap(NULL, t->n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (t->hollow == MAP_FAILED) t->hollow = NULL;
    *data = t->hollow;
    return t->hollow ? VK_SUCCESS : VK_ERROR_MEMORY_MAP_FAILED;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_MapMemory(VkDevice d, VkDeviceMemory memory, VkDeviceSize offset,
                                                   VkDeviceSize n, VkMemoryMapFlags flags, void **data)
{
    VkResult r = vklayer_fate(AT_MapMemory);
    thing *t = find(VKLAYER_MEMORY, (uint64_t)memory);
    bool seen = t->of && t->of->memory.memoryTypes[t->type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    if (!seen) it.mismatches++;
    if (!r && !seen) r = VK_ERROR_MEMORY_MAP_FAILED;
    if (!r && it.hollow) return map_hollow(t, data);
    return r ? r : REAL(MapMemory)(d, memory, offset, n, flags, data);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_AllocateDescriptorSets(VkDevice d, const VkDescriptorSetAllocateInfo *info,
                                                                VkDescriptorSet *out)
{
    uint32_t n = info->descriptorSetCount;
    memset(out, 0, n * sizeof *out);
    VkResult r = vklayer_fate(AT_AllocateDescriptorSets);
    if (!r) r = REAL(AllocateDescriptorSets)(d, info, out);
    if (r) return r;
    find(VKLAYER_SET_POOL, (uint64_t)info->descriptorPool)->n += n;
    vklayer_made(VKLAYER_SET, n);
    for (uint32_t i = 0; i < n; i++) vklayer_set_made(out[i]);
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_AllocateCommandBuffers(VkDevice d, const VkCommandBufferAllocateInfo *info,
                                                                VkCommandBuffer *out)
{
    uint32_t n = info->commandBufferCount;
    memset(out, 0, n * sizeof *out);
    VkResult r = vklayer_fate(AT_AllocateCommandBuffers);
    if (!r) r = REAL(AllocateCommandBuffers)(d, info, out);
    if (r) return r;
    find(VKLAYER_COMMAND_POOL, (uint64_t)info->commandPool)->n += n;
    vklayer_made(VKLAYER_COMMAND_BUFFER, n);
    return r;
}

static VKAPI_ATTR void VKAPI_CALL on_FreeCommandBuffers(VkDevice d, VkCommandPool pool, uint32_t n,
                                                        const VkCommandBuffer *all)
{
    uint32_t n_there = 0;
    for (uint32_t i = 0; i < n; i++) n_there += all[i] != NULL;
    find(VKLAYER_COMMAND_POOL, (uint64_t)pool)->n -= n_there;
    vklayer_unmade(VKLAYER_COMMAND_BUFFER, n_there);
    REAL(FreeCommandBuffers)(d, pool, n, all);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_CreateComputePipelines(VkDevice d, VkPipelineCache cache, uint32_t n,
                                                                const VkComputePipelineCreateInfo *infos,
                                                                const VkAllocationCallbacks *a, VkPipeline *out)
{
    memset(out, 0, n * sizeof *out);
    VkResult r = vklayer_fate(AT_CreateComputePipelines);
    if (!r) r = REAL(CreateComputePipelines)(d, cache, n, infos, a, out);
    for (uint32_t i = 0; i < n; i++) {
        if (!out[i]) continue;
        vklayer_made(VKLAYER_PIPELINE, 1);
        vklayer_remember(VKLAYER_PIPELINE, (uint64_t)out[i]);
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
    VkResult r = vklayer_fate(AT_GetPipelineCacheData);
    return r ? r : REAL(GetPipelineCacheData)(d, cache, n, data);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_MergePipelineCaches(VkDevice d, VkPipelineCache to, uint32_t n,
                                                             const VkPipelineCache *from)
{
    VkResult r = vklayer_fate(AT_MergePipelineCaches);
    return r ? r : REAL(MergePipelineCaches)(d, to, n, from);
}

/* ---- recording, submitting, waiting ---- */

/* One that has failed is no longer being recorded either. */
static VKAPI_ATTR VkResult VKAPI_CALL on_EndCommandBuffer(VkCommandBuffer c)
{
    VkResult r = vklayer_fate(AT_EndCommandBuffer), real = REAL(EndCommandBuffer)(c);
    return r ? r : real;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_QueueSubmit(VkQueue queue, uint32_t n, const VkSubmitInfo *infos,
                                                     VkFence fence)
{
    vklayer_lock();
    it.submits++;
    it.polled = false;
    vkdevice *d = vklayer_device_with(queue);
    if (it.to_lose && --it.to_lose == 0) d->lost = true;
    uint64_t longer_ns = vklayer_weigh_submit(d, n, infos);
    vklayer_unlock();
    VkResult r = fate_of_device(AT_QueueSubmit, d);
    if (!r) vklayer_sleep(longer_ns);
    /* What the device still does must end before its memory goes. */
    if (d->lost) REAL(QueueWaitIdle)(queue);
    VkSubmitInfo empty = *infos;
    empty.commandBufferCount = 0; /* hollow blocks have no room for what is done; the library submits one at a time */
    return r ? r : REAL(QueueSubmit)(queue, n, it.hollow ? &empty : infos, fence);
}

/* It waits all the same: what the device still does must end before its memory goes. */
static VKAPI_ATTR VkResult VKAPI_CALL on_QueueWaitIdle(VkQueue queue)
{
    VkResult r = fate_of_device(AT_QueueWaitIdle, vklayer_device_with(queue)), real = REAL(QueueWaitIdle)(queue);
    return r ? r : real;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_WaitSemaphores(VkDevice d, const VkSemaphoreWaitInfo *info, uint64_t timeout)
{
    VkResult r = fate_of_device(AT_WaitSemaphores, vklayer_device_of(d));
    return r ? r : REAL(WaitSemaphores)(d, info, timeout);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_GetSemaphoreCounterValue(VkDevice d, VkSemaphore semaphore, uint64_t *value)
{
    vklayer_lock();
    VkResult r = it.polled ? VK_SUCCESS : fate(AT_GetSemaphoreCounterValue);
    it.polled = true;
    vklayer_unlock();
    if (!r && vklayer_device_of(d)->lost) r = VK_ERROR_DEVICE_LOST;
    return r ? r : REAL(GetSemaphoreCounterValue)(d, semaphore, value);
}

/* ---- names ---- */

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL on_GetDeviceProcAddr(VkDevice d, const char *name);
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL on_GetInstanceProcAddr(VkInstance instance, const char *name);

#define AS_WRAPPER(name) [AT_##name] = (PFN_vkVoidFunction)on_##name,
#define OTHER_CALLS(X)                                                                                                 \
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
    X(MapMemory)                                                                                                       \
    X(AllocateDescriptorSets)                                                                                          \
    X(AllocateCommandBuffers)                                                                                          \
    X(EndCommandBuffer)                                                                                                \
    X(QueueWaitIdle)                                                                                                   \
    X(QueueSubmit)                                                                                                     \
    X(WaitSemaphores)                                                                                                  \
    X(GetSemaphoreCounterValue)                                                                                        \
    X(GetInstanceProcAddr)                                                                                             \
    X(GetDeviceProcAddr)                                                                                               \
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
    X(FreeCommandBuffers)

static const PFN_vkVoidFunction other_calls[N_CALLS] = { OTHER_CALLS(AS_WRAPPER) };

/* Ours for the driver's; the driver's is kept. */
static PFN_vkVoidFunction wrap(const char *name, PFN_vkVoidFunction real)
{
    for (call c = 0; real && c < N_CALLS; c++) {
        if (strcmp(names[c], name) != 0) continue;
        if (c != AT_GetInstanceProcAddr) it.real[c] = real;
        if (vklayer_speed_calls[c]) return vklayer_speed_calls[c];
        return vklayer_physical_calls[c] ? vklayer_physical_calls[c] : other_calls[c];
    }
    /* It would be given a handle of ours. */
    return strncmp(name, "vkGetPhysicalDevice", 19) == 0 ? NULL : real;
}

/* The loader's functions rather than a driver's own: devices of two drivers may be there at once. */
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL on_GetDeviceProcAddr(VkDevice d, const char *name)
{
    PFN_vkVoidFunction real = REAL(GetInstanceProcAddr)(it.own, name);
    return wrap(name, real ? real : REAL(GetDeviceProcAddr)(d, name));
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
    if (it.own)
        it.real[AT_GetPhysicalDeviceMemoryProperties] =
            REAL(GetInstanceProcAddr)(it.own, "vkGetPhysicalDeviceMemoryProperties");
    return true;
}

bool vklayer_host_init(gemma_vulkan_host *host)
{
    *host = (gemma_vulkan_host){ .size = sizeof *host, .get_instance_proc_addr = get_proc };
    it.shown = VKLAYER_AS_IS;
    vklayer_pose(NULL);
    it.to_fail = it.to_lose = it.submits = it.mismatches = 0;
    it.fired = it.polled = false;
    memset(it.live, 0, sizeof it.live);
    memset(it.created, 0, sizeof it.created);
    vklayer_physical_clear();
    vklayer_speed_clear();
    memset(it.things, 0, sizeof it.things);
    return open_loader();
}

void vklayer_show(vklayer_machine shown) { it.shown = shown; }

void vklayer_fail_nth(uint64_t nth, int32_t result) { vklayer_fail_from(nth, 1, result); }

void vklayer_fail_from(uint64_t nth, uint64_t n, int32_t result)
{
    it.to_fail = nth;
    it.n_to_fail = n;
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
uint64_t vklayer_submits(void) { return it.submits; }
uint64_t vklayer_mismatches(void) { return it.mismatches; }
