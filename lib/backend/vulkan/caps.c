#include "backend/vulkan/caps.h"

#include "base/base.h"

bool gm_vk_report_has(const gm_vk_report *r, const char *extension)
{
    for (uint32_t i = 0; i < r->n_extensions; i++)
        if (strcmp(r->extensions[i].extensionName, extension) == 0) return true;
    return false;
}

static uint32_t kind_of(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return GEMMA_DEVICE_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return GEMMA_DEVICE_SOFTWARE;
    default: return GEMMA_DEVICE_INTEGRATED; /* virtual ones too: nothing is known of their memory */
    }
}

/* ---- memory ---- */

/* Device-local heaps first, the larger first. The small window into a discrete card's memory comes behind its memory. */
static bool comes_before(const gm_vk_heap *a, const gm_vk_heap *b)
{
    if (a->device_local != b->device_local) return a->device_local;
    return a->n_bytes > b->n_bytes;
}

static void list_heaps(const gm_vk_report *r, gm_vk_caps *c)
{
    c->n_heaps = 0;
    for (uint32_t i = 0; i < r->memory.memoryHeapCount; i++) {
        const VkMemoryHeap *h = &r->memory.memoryHeaps[i];
        gm_vk_heap heap = { .index = i,
                            .n_bytes = h->size,
                            .device_local = h->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT };
        uint32_t at = c->n_heaps++;
        for (; at && comes_before(&heap, &c->heaps[at - 1]); at--) c->heaps[at] = c->heaps[at - 1];
        c->heaps[at] = heap;
    }
}

static bool has_type(const gm_vk_report *r, VkMemoryPropertyFlags flags)
{
    for (uint32_t i = 0; i < r->memory.memoryTypeCount; i++)
        if ((r->memory.memoryTypes[i].propertyFlags & flags) == flags) return true;
    return false;
}

/* ---- queues: one with compute, and without graphics if there is such a one ---- */

static bool find_queue(const gm_vk_report *r, gm_vk_caps *c)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < r->n_queue_families; i++) {
        const VkQueueFamilyProperties *f = &r->queue_families[i];
        if (!f->queueCount || !(f->queueFlags & VK_QUEUE_COMPUTE_BIT)) continue;
        bool graphics = f->queueFlags & VK_QUEUE_GRAPHICS_BIT;
        if (best == UINT32_MAX || (!graphics && r->queue_families[best].queueFlags & VK_QUEUE_GRAPHICS_BIT)) best = i;
    }
    c->queue_family = best == UINT32_MAX ? 0 : best;
    return best != UINT32_MAX;
}

/* ---- what is wrong ---- */

/* "Mesa 22.3.6 (LLVM 15.0.6)" → 22; 0: not such a text. */
static uint32_t mesa_major(const char *info)
{
    uint32_t n = 0;
    if (strncmp(info, "Mesa ", 5) != 0) return 0;
    for (const char *s = info + 5; *s >= '0' && *s <= '9' && n < 1000; s++) n = n * 10 + (uint32_t)(*s - '0');
    return n;
}

static bool too_small(const gm_vk_report *r)
{
    const VkPhysicalDeviceLimits *l = &r->properties.limits;
    return l->maxComputeWorkGroupInvocations < 256 || l->maxComputeWorkGroupSize[0] < 256 ||
           l->maxComputeSharedMemorySize < 32768 || l->maxPushConstantsSize < 128 ||
           l->maxPerStageDescriptorStorageBuffers < 10 || l->maxStorageBufferRange < (1u << 27) ||
           l->minStorageBufferOffsetAlignment > 4096;
}

static const char *fault_of(const gm_vk_report *r)
{
    const VkPhysicalDeviceProperties *p = &r->properties;
    VkMemoryPropertyFlags seen = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if (p->apiVersion < VK_API_VERSION_1_2) return "its driver is older than Vulkan 1.2";
    if (r->driver.driverID == VK_DRIVER_ID_MESA_LLVMPIPE && mesa_major(r->driver.driverInfo) < 24)
        return "lavapipe before Mesa 24 computes wrongly: long loops end early";
    if (!r->timeline_semaphore) return "it has no timeline semaphores";
    if (too_small(r)) return "its compute limits are smaller than the kernels need";
    if (!r->memory.memoryHeapCount || !has_type(r, seen)) return "it has no memory that the CPU can write";
    return NULL;
}

/* ---- how kernels are shaped for it: see docs/vulkan.md ---- */

static void tune(const gm_vk_report *r, gm_vk_caps *c)
{
    c->matvec_group = 64;
    c->matvec_rows = 4;
    c->attention_groups = 128;
    c->attention_rows = 16;
    if (c->kind == GEMMA_DEVICE_SOFTWARE) {
        c->matvec_group = 32;
        c->matvec_rows = 2; /* larger ones take the driver seconds to compile */
        c->attention_groups = 8;
        c->attention_rows = 2; /* likewise */
    } else if (r->properties.vendorID == 0x10de) {
        c->matvec_rows = 2;
    }
}

void gm_vk_caps_read(const gm_vk_report *r, gm_vk_caps *c)
{
    const VkPhysicalDeviceProperties *p = &r->properties;
    const VkPhysicalDeviceLimits *l = &p->limits;
    *c = (gm_vk_caps){ .kind = kind_of(p->deviceType), .vendor = p->vendorID, .driver_id = r->driver.driverID };
    gm_text_format(c->name, sizeof c->name, "%s", p->deviceName);
    memcpy(c->uuid, r->id.deviceUUID, sizeof c->uuid);
    c->storage_range = l->maxStorageBufferRange;
    /* A soft limit that some drivers set beyond what they can do; blocks of weights stay below 1 GiB anyway. */
    c->buffer_bytes = r->maintenance3.maxMemoryAllocationSize ? r->maintenance3.maxMemoryAllocationSize : 1u << 30;
    c->storage_align = (uint32_t)gm_max_u64(16, l->minStorageBufferOffsetAlignment);
    c->max_groups_x = l->maxComputeWorkGroupCount[0];
    c->max_groups_yz = gm_min_u32(l->maxComputeWorkGroupCount[1], l->maxComputeWorkGroupCount[2]);
    c->subgroup = r->subgroup.subgroupSize;
    c->memory_budget = gm_vk_report_has(r, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    c->overallocation = gm_vk_report_has(r, VK_AMD_MEMORY_OVERALLOCATION_BEHAVIOR_EXTENSION_NAME);
    c->memory_priority = gm_vk_report_has(r, VK_EXT_MEMORY_PRIORITY_EXTENSION_NAME);
    c->shares_ram = c->kind != GEMMA_DEVICE_DISCRETE;
    list_heaps(r, c);
    const char *fault = fault_of(r);
    if (!fault && !find_queue(r, c)) fault = "it has no queue for compute";
    c->usable = !fault;
    gm_text_format(c->reason, sizeof c->reason, "%s", fault ? fault : "");
    tune(r, c);
}
