/* What a device can do, as one pure function of what its driver reports. */
#ifndef GM_VK_CAPS_H
#define GM_VK_CAPS_H

#include "gemma.h"

#include <stdbool.h>
#include <vulkan/vulkan.h>

/* As the driver tells it; a host's device: only what was enabled. */
typedef struct gm_vk_report {
    VkPhysicalDeviceProperties properties;
    VkPhysicalDeviceIDProperties id;
    VkPhysicalDeviceDriverProperties driver;
    VkPhysicalDeviceMaintenance3Properties maintenance3;
    VkPhysicalDeviceSubgroupProperties subgroup;
    VkPhysicalDeviceMemoryProperties memory;
    uint32_t timeline_semaphore; /* the feature */
    uint32_t n_queue_families;
    VkQueueFamilyProperties queue_families[16];
    const VkExtensionProperties *extensions;
    uint32_t n_extensions;
} gm_vk_report;

typedef struct gm_vk_heap {
    uint32_t index; /* the driver's */
    uint64_t n_bytes;
    bool device_local;
} gm_vk_heap;

typedef struct gm_vk_caps {
    uint32_t kind; /* GEMMA_DEVICE_… */
    bool usable;
    char reason[128];
    char name[128];
    uint8_t uuid[VK_UUID_SIZE];
    uint32_t vendor, driver_id;
    uint32_t queue_family;
    uint64_t storage_range;             /* most bytes a binding can have */
    uint64_t buffer_bytes;              /* most bytes of one buffer and allocation */
    uint32_t storage_align;             /* of a binding's offset, at least 16 */
    uint32_t max_groups_x;              /* workgroups along x */
    uint32_t max_groups_yz;             /* and along y and z */
    uint32_t subgroup;                  /* invocations; for information */
    uint32_t matvec_group, matvec_rows; /* workgroup size, matrix rows of a workgroup */
    uint32_t attention_rows;            /* rows of a workgroup of attention at most */
    uint32_t attention_groups;          /* workgroups that keep the device busy */
    bool memory_budget, overallocation, memory_priority;
    bool shares_ram;                       /* its memory is the host's */
    gm_vk_heap heaps[VK_MAX_MEMORY_HEAPS]; /* 0 is where everything goes by default */
    uint32_t n_heaps;
} gm_vk_caps;

void gm_vk_caps_read(const gm_vk_report *report, gm_vk_caps *caps);
bool gm_vk_report_has(const gm_vk_report *report, const char *extension);

#endif
