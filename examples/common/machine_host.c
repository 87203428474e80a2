/* A described machine as a program's own Vulkan: enough of a driver to list devices and plan for them. Their VkDevice
 * cannot be created. */
#include "machine_host.h"

#include <string.h>

static const machine *described;

static const machine_device *device_of(VkPhysicalDevice handle) { return (const machine_device *)(const void *)handle; }
static uint32_t number_of(const machine_device *d) { return (uint32_t)(d - described->devices); }

/* ---- the instance ---- */

static VKAPI_ATTR VkResult VKAPI_CALL instance_version(uint32_t *version)
{
    *version = VK_API_VERSION_1_2;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL instance_extensions(const char *layer, uint32_t *n, VkExtensionProperties *all)
{
    (void)layer, (void)all;
    *n = 0;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *a,
                                                      VkInstance *out)
{
    (void)info, (void)a;
    *out = (VkInstance)(uintptr_t)described;
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance instance, const VkAllocationCallbacks *a)
{
    (void)instance, (void)a;
}

static VKAPI_ATTR VkResult VKAPI_CALL list_devices(VkInstance instance, uint32_t *n, VkPhysicalDevice *all)
{
    (void)instance;
    uint32_t n_cap = *n;
    *n = all && n_cap < described->n_devices ? n_cap : described->n_devices;
    for (uint32_t i = 0; i < *n && all; i++) all[i] = (VkPhysicalDevice)(uintptr_t)&described->devices[i];
    return *n < described->n_devices ? VK_INCOMPLETE : VK_SUCCESS;
}

/* ---- a device ---- */

/* What is not described: the least that a GPU of Vulkan 1.2 has, or more where every desktop driver has it. */
static void answer_base(VkPhysicalDeviceProperties *p)
{
    memset(p, 0, sizeof *p);
    for (int i = 0; i < 3; i++) p->limits.maxComputeWorkGroupCount[i] = 65535;
    p->limits.maxComputeWorkGroupSize[2] = 64;
    p->limits.maxPerStageDescriptorStorageBuffers = 16;
}

static VKAPI_ATTR void VKAPI_CALL get_properties(VkPhysicalDevice handle, VkPhysicalDeviceProperties *p)
{
    answer_base(p);
    machine_answer_properties(device_of(handle), p);
}

static VKAPI_ATTR void VKAPI_CALL get_properties2(VkPhysicalDevice handle, VkPhysicalDeviceProperties2 *p)
{
    answer_base(&p->properties);
    machine_answer_properties2(device_of(handle), number_of(device_of(handle)), p);
}

/* Features that a description names are as described; of the others, what the library cannot do without. */
static VKAPI_ATTR void VKAPI_CALL get_features2(VkPhysicalDevice handle, VkPhysicalDeviceFeatures2 *f)
{
    for (VkBaseOutStructure *s = f->pNext; s; s = s->pNext) {
        VkPhysicalDeviceTimelineSemaphoreFeatures *timeline = (void *)s;
        VkPhysicalDevice16BitStorageFeatures *bits16 = (void *)s;
        VkPhysicalDevice8BitStorageFeatures *bits8 = (void *)s;
        VkPhysicalDeviceShaderFloat16Int8Features *small = (void *)s;
        VkPhysicalDeviceShaderIntegerDotProductFeatures *dot = (void *)s;
        switch (s->sType) {
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES:
            timeline->timelineSemaphore = VK_TRUE;
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES:
            bits16->storageBuffer16BitAccess = VK_TRUE;
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES: bits8->storageBuffer8BitAccess = VK_TRUE; break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES:
            small->shaderFloat16 = small->shaderInt8 = VK_TRUE;
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES:
            dot->shaderIntegerDotProduct = VK_TRUE;
            break;
        default: break;
        }
    }
    machine_answer_features2(device_of(handle), f);
}

static VKAPI_ATTR void VKAPI_CALL get_memory2(VkPhysicalDevice handle, VkPhysicalDeviceMemoryProperties2 *p)
{
    static const uint64_t nothing[VK_MAX_MEMORY_HEAPS];
    machine_answer_memory2(device_of(handle), nothing, p);
}

static VKAPI_ATTR void VKAPI_CALL get_queues(VkPhysicalDevice handle, uint32_t *n, VkQueueFamilyProperties *all)
{
    (void)handle;
    if (all && *n) *all = (VkQueueFamilyProperties){ .queueFlags = VK_QUEUE_COMPUTE_BIT, .queueCount = 1 };
    if (!all || *n) *n = 1;
}

static VKAPI_ATTR VkResult VKAPI_CALL get_extensions(VkPhysicalDevice handle, const char *layer, uint32_t *n,
                                                     VkExtensionProperties *all)
{
    (void)layer;
    uint32_t n_cap = *n, n_all = 0;
    for (uint32_t i = 0; i < MACHINE_N_FEATURES; i++) {
        const char *name = machine_extension_of(i);
        if (!name || !machine_has(device_of(handle), i)) continue;
        if (all && n_all < n_cap) {
            all[n_all] = (VkExtensionProperties){ .specVersion = 1 };
            memcpy(all[n_all].extensionName, name, strlen(name));
        }
        n_all++;
    }
    *n = all && n_cap < n_all ? n_cap : n_all;
    return *n < n_all ? VK_INCOMPLETE : VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice handle, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *a, VkDevice *out)
{
    (void)handle, (void)info, (void)a;
    *out = NULL;
    return VK_ERROR_INITIALIZATION_FAILED;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_proc(VkDevice device, const char *name)
{
    (void)device, (void)name;
    return NULL;
}

/* ---- names ---- */

static PFN_vkVoidFunction get_proc(void *instance, const char *name)
{
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } all[] = {
        { "vkEnumerateInstanceVersion", (PFN_vkVoidFunction)instance_version },
        { "vkEnumerateInstanceExtensionProperties", (PFN_vkVoidFunction)instance_extensions },
        { "vkCreateInstance", (PFN_vkVoidFunction)create_instance },
        { "vkDestroyInstance", (PFN_vkVoidFunction)destroy_instance },
        { "vkEnumeratePhysicalDevices", (PFN_vkVoidFunction)list_devices },
        { "vkGetPhysicalDeviceProperties", (PFN_vkVoidFunction)get_properties },
        { "vkGetPhysicalDeviceProperties2", (PFN_vkVoidFunction)get_properties2 },
        { "vkGetPhysicalDeviceFeatures2", (PFN_vkVoidFunction)get_features2 },
        { "vkGetPhysicalDeviceMemoryProperties2", (PFN_vkVoidFunction)get_memory2 },
        { "vkGetPhysicalDeviceQueueFamilyProperties", (PFN_vkVoidFunction)get_queues },
        { "vkEnumerateDeviceExtensionProperties", (PFN_vkVoidFunction)get_extensions },
        { "vkCreateDevice", (PFN_vkVoidFunction)create_device },
        { "vkGetDeviceProcAddr", (PFN_vkVoidFunction)get_device_proc },
    };
    (void)instance;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, name) == 0) return all[i].function;
    return NULL;
}

gemma_vulkan_host machine_host(const machine *m)
{
    described = m;
    return (gemma_vulkan_host){ .size = sizeof(gemma_vulkan_host), .get_instance_proc_addr = get_proc };
}
