/* The layer's instances and physical devices: each driver's device as it is, or as a described one. */
#include "vklayer/layer.h"

#define it vklayer_it

static physical *physical_at(VkPhysicalDevice handle) { return (physical *)handle; }

vkdevice *vklayer_device_of(VkDevice d)
{
    for (size_t i = 0; i < DEVICES; i++)
        if (it.devices[i].handle == d) return &it.devices[i];
    it.mismatches++;
    return &it.devices[0];
}

vkdevice *vklayer_device_with(VkQueue queue)
{
    for (size_t i = 0; i < DEVICES; i++)
        if (it.devices[i].handle && it.devices[i].queue == queue) return &it.devices[i];
    it.mismatches++;
    return &it.devices[0];
}

static void heap_bytes(const physical *p, uint64_t bytes[VK_MAX_MEMORY_HEAPS])
{
    memset(bytes, 0, VK_MAX_MEMORY_HEAPS * sizeof *bytes);
    for (uint32_t i = 0; i < p->memory.memoryTypeCount; i++)
        bytes[p->memory.memoryTypes[i].heapIndex] += p->type_bytes[i];
}

/* ---- the instance ---- */

static VKAPI_ATTR VkResult VKAPI_CALL on_EnumerateInstanceVersion(uint32_t *version)
{
    VkResult r = vklayer_fate(AT_EnumerateInstanceVersion);
    if (!r) r = REAL(EnumerateInstanceVersion)(version);
    if (!r && it.shown == VKLAYER_OLD) *version = VK_API_VERSION_1_1;
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_EnumerateInstanceExtensionProperties(const char *layer, uint32_t *n,
                                                                              VkExtensionProperties *all)
{
    VkResult r = vklayer_fate(AT_EnumerateInstanceExtensionProperties);
    return r ? r : REAL(EnumerateInstanceExtensionProperties)(layer, n, all);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_CreateInstance(const VkInstanceCreateInfo *info,
                                                        const VkAllocationCallbacks *a, VkInstance *out)
{
    *out = NULL;
    VkResult r = it.shown == VKLAYER_NO_DRIVER ? VK_ERROR_INCOMPATIBLE_DRIVER : vklayer_fate(AT_CreateInstance);
    if (!r) r = REAL(CreateInstance)(info, a, out);
    if (!r) vklayer_made(VKLAYER_INSTANCE, 1);
    return r;
}

static VKAPI_ATTR void VKAPI_CALL on_DestroyInstance(VkInstance instance, const VkAllocationCallbacks *a)
{
    if (instance) vklayer_unmade(VKLAYER_INSTANCE, 1);
    REAL(DestroyInstance)(instance, a);
}

/* ---- the list of devices ---- */

/* Memory that the CPU sees, whatever it is shown as. */
static uint32_t find_real_type(const VkPhysicalDeviceMemoryProperties *m)
{
    const VkMemoryPropertyFlags seen = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    uint32_t i = 0;
    while (i + 1 < m->memoryTypeCount && (m->memoryTypes[i].propertyFlags & seen) != seen) i++;
    return i;
}

static void show(physical *p, VkPhysicalDevice real, const machine_device *described)
{
    p->real = real;
    p->described = described;
    REAL(GetPhysicalDeviceMemoryProperties)(real, &p->memory);
    p->real_type = find_real_type(&p->memory);
    if (described) p->memory = described->memory;
}

/* The driver's devices play the machine's in turn, so that one can be all of them. */
static VKAPI_ATTR VkResult VKAPI_CALL on_EnumeratePhysicalDevices(VkInstance instance, uint32_t *n,
                                                                  VkPhysicalDevice *all)
{
    VkPhysicalDevice real[PHYSICALS];
    uint32_t n_real = PHYSICALS, n_cap = *n;
    VkResult r = vklayer_fate(AT_EnumeratePhysicalDevices);
    if (!r) r = REAL(EnumeratePhysicalDevices)(instance, &n_real, real);
    if (r < 0) return r;
    uint32_t n_shown = it.machine.n_devices && n_real ? it.machine.n_devices : n_real;
    if (it.shown == VKLAYER_NO_DEVICE) n_shown = 0;
    *n = all && n_cap < n_shown ? n_cap : n_shown;
    for (uint32_t i = 0; i < *n && all; i++) {
        show(&it.physicals[i], real[i % n_real], it.machine.n_devices ? &it.machine.devices[i] : NULL);
        all[i] = (VkPhysicalDevice)&it.physicals[i];
    }
    return all && *n < n_shown ? VK_INCOMPLETE : VK_SUCCESS;
}

/* ---- what a device is ---- */

static VKAPI_ATTR void VKAPI_CALL on_GetPhysicalDeviceProperties(VkPhysicalDevice handle,
                                                                 VkPhysicalDeviceProperties *out)
{
    const physical *p = physical_at(handle);
    REAL(GetPhysicalDeviceProperties)(p->real, out);
    if (p->described) machine_answer_properties(p->described, out);
}

static VKAPI_ATTR void VKAPI_CALL on_GetPhysicalDeviceProperties2(VkPhysicalDevice handle,
                                                                  VkPhysicalDeviceProperties2 *out)
{
    const physical *p = physical_at(handle);
    REAL(GetPhysicalDeviceProperties2)(p->real, out);
    if (p->described) machine_answer_properties2(p->described, (uint32_t)(p - it.physicals), out);
}

static VKAPI_ATTR void VKAPI_CALL on_GetPhysicalDeviceFeatures2(VkPhysicalDevice handle, VkPhysicalDeviceFeatures2 *out)
{
    const physical *p = physical_at(handle);
    REAL(GetPhysicalDeviceFeatures2)(p->real, out);
    if (p->described) machine_answer_features2(p->described, out);
}

static VKAPI_ATTR void VKAPI_CALL on_GetPhysicalDeviceMemoryProperties(VkPhysicalDevice handle,
                                                                       VkPhysicalDeviceMemoryProperties *out)
{
    *out = physical_at(handle)->memory;
}

static VKAPI_ATTR void VKAPI_CALL on_GetPhysicalDeviceMemoryProperties2(VkPhysicalDevice handle,
                                                                        VkPhysicalDeviceMemoryProperties2 *out)
{
    const physical *p = physical_at(handle);
    uint64_t used[VK_MAX_MEMORY_HEAPS];
    vklayer_lock();
    heap_bytes(p, used);
    if (p->described)
        machine_answer_memory2(p->described, used, out);
    else
        REAL(GetPhysicalDeviceMemoryProperties2)(p->real, out);
    vklayer_unlock();
}

static VKAPI_ATTR void VKAPI_CALL on_GetPhysicalDeviceQueueFamilyProperties(VkPhysicalDevice handle, uint32_t *n,
                                                                            VkQueueFamilyProperties *all)
{
    REAL(GetPhysicalDeviceQueueFamilyProperties)(physical_at(handle)->real, n, all);
}

/* ---- extensions ---- */

/* Those that the layer answers for itself, so that a described device may have them and the driver not. */
static const uint32_t answered[] = { MACHINE_BUDGET, MACHINE_PRIORITY, MACHINE_OVERALLOC };
enum { N_ANSWERED = sizeof answered / sizeof *answered, EXTENSIONS = 512 };

static bool is_listed(const VkExtensionProperties *all, uint32_t n, const char *name)
{
    uint32_t i = 0;
    while (i < n && strcmp(all[i].extensionName, name) != 0) i++;
    return i < n;
}

static VkResult list_real(const physical *p, VkExtensionProperties all[EXTENSIONS], uint32_t *n)
{
    *n = EXTENSIONS - N_ANSWERED;
    VkResult r = REAL(EnumerateDeviceExtensionProperties)(p->real, NULL, n, all);
    return r < 0 ? r : VK_SUCCESS;
}

/* What of the driver's is described, and what is described and answered here. */
static void list_described(const machine_device *d, VkExtensionProperties *all, uint32_t *n)
{
    uint32_t n_kept = 0;
    for (uint32_t i = 0; i < *n; i++)
        if (machine_shows_extension(d, all[i].extensionName)) all[n_kept++] = all[i];
    for (uint32_t i = 0; i < N_ANSWERED; i++) {
        const char *name = machine_extension_of(answered[i]);
        if (!machine_has(d, answered[i]) || is_listed(all, n_kept, name)) continue;
        all[n_kept] = (VkExtensionProperties){ .specVersion = 1 };
        strncpy(all[n_kept++].extensionName, name, VK_MAX_EXTENSION_NAME_SIZE - 1);
    }
    *n = n_kept;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_EnumerateDeviceExtensionProperties(VkPhysicalDevice handle, const char *layer,
                                                                            uint32_t *n, VkExtensionProperties *all)
{
    const physical *p = physical_at(handle);
    VkExtensionProperties list[EXTENSIONS];
    uint32_t n_list, n_cap = *n;
    VkResult r = vklayer_fate(AT_EnumerateDeviceExtensionProperties);
    if (r || !p->described) return r ? r : REAL(EnumerateDeviceExtensionProperties)(p->real, layer, n, all);
    r = list_real(p, list, &n_list);
    if (r) return r;
    list_described(p->described, list, &n_list);
    *n = all && n_cap < n_list ? n_cap : n_list;
    if (all) memcpy(all, list, *n * sizeof *all);
    return all && *n < n_list ? VK_INCOMPLETE : VK_SUCCESS;
}

/* ---- the creation of devices ---- */

/* Of a chain, the structure in front of the one that says what over-allocation does; NULL: there is none. */
static VkBaseOutStructure *before_overallocation(VkBaseOutStructure *s)
{
    while (s->pNext && s->pNext->sType != VK_STRUCTURE_TYPE_DEVICE_MEMORY_OVERALLOCATION_CREATE_INFO_AMD) s = s->pNext;
    return s->pNext ? s : NULL;
}

/* The driver is not asked for extensions that only the layer has. */
static VkResult create_described(const physical *p, const VkDeviceCreateInfo *info, const VkAllocationCallbacks *a,
                                 VkDevice *out)
{
    VkExtensionProperties list[EXTENSIONS];
    const char *names[EXTENSIONS];
    VkDeviceCreateInfo asked = *info;
    uint32_t n_list;
    VkResult r = list_real(p, list, &n_list);
    if (r) return r;
    asked.enabledExtensionCount = 0;
    asked.ppEnabledExtensionNames = names;
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++) {
        const char *name = info->ppEnabledExtensionNames[i];
        if (is_listed(list, n_list, name)) names[asked.enabledExtensionCount++] = name;
    }
    VkBaseOutStructure *before = NULL, *overallocation = NULL;
    if (!is_listed(list, n_list, machine_extension_of(MACHINE_OVERALLOC)))
        before = before_overallocation((VkBaseOutStructure *)&asked);
    if (before) {
        overallocation = before->pNext;
        before->pNext = overallocation->pNext;
    }
    r = REAL(CreateDevice)(p->real, &asked, a, out);
    if (before) before->pNext = overallocation;
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_CreateDevice(VkPhysicalDevice handle, const VkDeviceCreateInfo *info,
                                                      const VkAllocationCallbacks *a, VkDevice *out)
{
    physical *p = physical_at(handle);
    *out = NULL;
    VkResult r = vklayer_fate(AT_CreateDevice);
    if (!r) r = p->described ? create_described(p, info, a, out) : REAL(CreateDevice)(p->real, info, a, out);
    if (r) return r;
    *vklayer_device_of(NULL) = (vkdevice){ .handle = *out, .of = p };
    vklayer_made(VKLAYER_DEVICE, 1);
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL on_GetDeviceQueue(VkDevice d, uint32_t family, uint32_t index, VkQueue *out)
{
    REAL(GetDeviceQueue)(d, family, index, out);
    vklayer_device_of(d)->queue = *out;
}

static VKAPI_ATTR void VKAPI_CALL on_DestroyDevice(VkDevice d, const VkAllocationCallbacks *a)
{
    if (d) vklayer_unmade(VKLAYER_DEVICE, 1);
    if (d) *vklayer_device_of(d) = (vkdevice){ 0 };
    REAL(DestroyDevice)(d, a);
}

/* ---- memory ---- */

VkResult vklayer_take(physical *p, const VkMemoryAllocateInfo *info, uint32_t *real_type, double *gb_s)
{
    enum { PAGED_GB_S = 10 };
    uint64_t used[VK_MAX_MEMORY_HEAPS];
    *real_type = info->memoryTypeIndex;
    *gb_s = 0;
    if (!p->described) return VK_SUCCESS;
    *real_type = p->real_type;
    heap_bytes(p, used);
    uint32_t heap = p->memory.memoryTypes[info->memoryTypeIndex].heapIndex;
    if (used[heap] + info->allocationSize <= vklayer_limit_of(p, heap)) return VK_SUCCESS;
    if (p->described->spill == MACHINE_REFUSES) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (p->described->spill == MACHINE_PAGES) *gb_s = it.paged_gb_s > 0 ? it.paged_gb_s : PAGED_GB_S;
    return VK_SUCCESS;
}

/* ---- the test's side ---- */

bool vklayer_pose(const machine *m)
{
    it.machine = m ? *m : (machine){ 0 };
    memset(it.limits, 0, sizeof it.limits);
    return it.own != NULL;
}

void vklayer_budget(uint32_t device, uint32_t heap, uint64_t n_bytes)
{
    vklayer_lock();
    it.machine.devices[device].budgets[heap] = n_bytes;
    vklayer_unlock();
}

uint64_t vklayer_type_bytes(uint32_t device, uint32_t type) { return it.physicals[device].type_bytes[type]; }

uint64_t vklayer_heap_bytes(uint32_t device, uint32_t heap)
{
    uint64_t bytes[VK_MAX_MEMORY_HEAPS];
    heap_bytes(&it.physicals[device], bytes);
    return bytes[heap];
}

void vklayer_physical_clear(void)
{
    for (size_t i = 0; i < PHYSICALS; i++) memset(it.physicals[i].type_bytes, 0, sizeof it.physicals[i].type_bytes);
    memset(it.devices, 0, sizeof it.devices);
}

#define AS_WRAPPER(name) [AT_##name] = (PFN_vkVoidFunction)on_##name,
#define PHYSICAL_CALLS(X)                                                                                              \
    X(EnumerateInstanceVersion)                                                                                        \
    X(EnumerateInstanceExtensionProperties)                                                                            \
    X(CreateInstance)                                                                                                  \
    X(DestroyInstance)                                                                                                 \
    X(EnumeratePhysicalDevices)                                                                                        \
    X(GetPhysicalDeviceProperties)                                                                                     \
    X(GetPhysicalDeviceProperties2)                                                                                    \
    X(GetPhysicalDeviceFeatures2)                                                                                      \
    X(GetPhysicalDeviceMemoryProperties)                                                                               \
    X(GetPhysicalDeviceMemoryProperties2)                                                                              \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                                          \
    X(EnumerateDeviceExtensionProperties)                                                                              \
    X(CreateDevice)                                                                                                    \
    X(GetDeviceQueue)                                                                                                  \
    X(DestroyDevice)

const PFN_vkVoidFunction vklayer_physical_calls[N_CALLS] = { PHYSICAL_CALLS(AS_WRAPPER) };
