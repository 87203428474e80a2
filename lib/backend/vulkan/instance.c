/* Finding Vulkan without linking to it, and asking a driver what it has. */
#include "backend/vulkan/device.h"

static const char *const loaders[] = { "libvulkan.so.1", "libvulkan.so", "vulkan-1.dll", "libvulkan.1.dylib",
                                       "libMoltenVK.dylib" };

typedef union entry {
    void *data;
    PFN_vkGetInstanceProcAddr get;
    void (*(*host)(void *, const char *))(void);
} entry;

static int find_loader(gm_vk_instance *in, gemma_error *why_none)
{
    if (in->host.get_instance_proc_addr) {
        in->get = ((entry){ .host = in->host.get_instance_proc_addr }).get;
        return GEMMA_OK;
    }
    for (size_t i = 0; i < GM_COUNT(loaders) && !in->library; i++) in->library = gm_library_open(loaders[i]);
    if (!in->library) return gm_fail(why_none, GEMMA_E_DEVICE, "no Vulkan loader is installed");
    /* Never closed: drivers leave threads behind. */
    in->get = ((entry){ .data = gm_library_symbol(in->library, "vkGetInstanceProcAddr") }).get;
    return in->get ? GEMMA_OK : gm_fail(why_none, GEMMA_E_DEVICE, "the Vulkan loader lacks vkGetInstanceProcAddr");
}

static int offers(PFN_vkEnumerateInstanceExtensionProperties list, gm_mem *mem, const char *extension, bool *found)
{
    uint32_t n = 0;
    *found = false;
    if (list(NULL, &n, NULL) != VK_SUCCESS || n == 0) return GEMMA_OK;
    VkExtensionProperties *all = gm_new_array(mem, n, sizeof *all, GEMMA_TAG_OBJECT);
    if (!all) return GEMMA_E_NOMEM;
    if (list(NULL, &n, all) < 0) n = 0;
    for (uint32_t i = 0; i < n; i++) *found |= strcmp(all[i].extensionName, extension) == 0;
    gm_delete(mem, all);
    return GEMMA_OK;
}

static int create(gm_vk_instance *in, gemma_error *why_none)
{
    PFN_vkEnumerateInstanceVersion version =
        (PFN_vkEnumerateInstanceVersion)in->get(NULL, "vkEnumerateInstanceVersion");
    PFN_vkEnumerateInstanceExtensionProperties list =
        (PFN_vkEnumerateInstanceExtensionProperties)in->get(NULL, "vkEnumerateInstanceExtensionProperties");
    PFN_vkCreateInstance make = (PFN_vkCreateInstance)in->get(NULL, "vkCreateInstance");
    uint32_t api = VK_API_VERSION_1_0;
    if (version) version(&api);
    if (!make || !list || api < VK_API_VERSION_1_2)
        return gm_fail(why_none, GEMMA_E_DEVICE, "the Vulkan loader is older than Vulkan 1.2");
    const char *portability = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
    bool portable;
    int rc = offers(list, in->mem, portability, &portable);
    if (rc) return rc;
    VkApplicationInfo app = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                              .pEngineName = "libgemma",
                              .apiVersion = VK_API_VERSION_1_2 };
    VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                  .flags = portable ? VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR : 0,
                                  .pApplicationInfo = &app,
                                  .enabledExtensionCount = portable,
                                  .ppEnabledExtensionNames = &portability };
    VkResult r = make(&info, NULL, &in->handle);
    if (r == VK_ERROR_OUT_OF_HOST_MEMORY) return GEMMA_E_NOMEM;
    if (r) return gm_fail(why_none, GEMMA_E_DEVICE, "no Vulkan driver is installed (vkCreateInstance: %d)", (int)r);
    in->owned = true;
    return GEMMA_OK;
}

static int load_functions(gm_vk_instance *in, gemma_error *why_none)
{
    const char *missing = NULL;
#define LOAD(name)                                                                                                     \
    in->fn.name = (PFN_vk##name)in->get(in->handle, "vk" #name);                                                       \
    if (!in->fn.name) missing = "vk" #name;
    GM_VK_INSTANCE_FUNCTIONS(LOAD)
#undef LOAD
    return missing ? gm_fail(why_none, GEMMA_E_DEVICE, "the Vulkan loader lacks %s", missing) : GEMMA_OK;
}

int gm_vk_instance_create(gm_mem *mem, const gm_vulkan_host *host, gm_vk_instance **out, gemma_error *why_none)
{
    *out = NULL;
    gm_vk_instance *in = gm_new(mem, sizeof *in, GEMMA_TAG_OBJECT);
    if (!in) return GEMMA_E_NOMEM;
    in->mem = mem;
    gm_ref_init(&in->ref);
    if (host) in->host = *host;
    int rc = find_loader(in, why_none);
    if (!rc && in->host.instance)
        in->handle = in->host.instance;
    else if (!rc)
        rc = create(in, why_none);
    if (!rc) rc = load_functions(in, why_none);
    if (rc) {
        gm_vk_instance_drop(in);
        in = NULL;
    }
    *out = in;
    return rc;
}

void gm_vk_instance_drop(gm_vk_instance *in)
{
    if (!in || !gm_ref_drop(&in->ref)) return;
    if (in->owned && in->fn.DestroyInstance) in->fn.DestroyInstance(in->handle, NULL);
    gm_delete(in->mem, in);
}

/* ---- what a device has ---- */

/* Of a host's device only what it says was enabled. */
static int host_extensions(gm_vk_instance *in, VkExtensionProperties **out, uint32_t *n)
{
    uint64_t count = gm_min_u64(in->host.n_extensions, 4096);
    *out = gm_new_array(in->mem, count + 1, sizeof **out, GEMMA_TAG_OBJECT);
    if (!*out) return GEMMA_E_NOMEM;
    for (uint64_t i = 0; i < count; i++)
        gm_text_format((*out)[i].extensionName, sizeof(*out)[i].extensionName, "%s", in->host.extensions[i]);
    *n = (uint32_t)count;
    return GEMMA_OK;
}

static int read_extensions(gm_vk_instance *in, VkPhysicalDevice physical, gm_vk_report *r)
{
    VkExtensionProperties *all = NULL;
    uint32_t n = 0;
    if (in->host.device) {
        int rc = host_extensions(in, &all, &n);
        if (rc) return rc;
    } else {
        if (in->fn.EnumerateDeviceExtensionProperties(physical, NULL, &n, NULL) != VK_SUCCESS) n = 0;
        all = gm_new_array(in->mem, (uint64_t)n + 1, sizeof *all, GEMMA_TAG_OBJECT);
        if (!all) return GEMMA_E_NOMEM;
        if (n && in->fn.EnumerateDeviceExtensionProperties(physical, NULL, &n, all) < 0) n = 0;
    }
    r->extensions = all;
    r->n_extensions = n;
    return GEMMA_OK;
}

int gm_vk_report_read(gm_vk_instance *in, VkPhysicalDevice physical, gm_vk_report *r)
{
    *r = (gm_vk_report){ 0 };
    in->fn.GetPhysicalDeviceProperties(physical, &r->properties);
    r->n_queue_families = GM_COUNT(r->queue_families);
    in->fn.GetPhysicalDeviceQueueFamilyProperties(physical, &r->n_queue_families, r->queue_families);
    if (r->properties.apiVersion >= VK_API_VERSION_1_2) {
        r->id.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES;
        r->driver = (VkPhysicalDeviceDriverProperties){ .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
                                                        .pNext = &r->id };
        r->maintenance3 = (VkPhysicalDeviceMaintenance3Properties){
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &r->driver
        };
        r->subgroup =
            (VkPhysicalDeviceSubgroupProperties){ .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
                                                  .pNext = &r->maintenance3 };
        VkPhysicalDeviceProperties2 all = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                            .pNext = &r->subgroup };
        in->fn.GetPhysicalDeviceProperties2(physical, &all);
        VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES
        };
        VkPhysicalDeviceFeatures2 features = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                               .pNext = &timeline };
        in->fn.GetPhysicalDeviceFeatures2(physical, &features);
        r->timeline_semaphore = timeline.timelineSemaphore;
        VkPhysicalDeviceMemoryProperties2 memory = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2 };
        in->fn.GetPhysicalDeviceMemoryProperties2(physical, &memory);
        r->memory = memory.memoryProperties;
        r->id.pNext = r->driver.pNext = r->maintenance3.pNext = r->subgroup.pNext = NULL;
    }
    return read_extensions(in, physical, r);
}
