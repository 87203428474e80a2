/* gemma/vulkan.h: Gemma on a program's own Vulkan. Opt-in; needs no Vulkan header. */
#ifndef GEMMA_VULKAN_H
#define GEMMA_VULKAN_H

#include "../gemma.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the program has of Vulkan already. Zero means: the library looks for it itself. Nothing given here is destroyed
 * by the library; it all outlives the runtime. */
typedef struct gemma_vulkan_host {
    uint32_t size;
    uint32_t api_version; /* of the given instance and device, at least 1.2; 0: 1.2 */
    /* PFN_vkGetInstanceProcAddr; NULL: the system's loader. */
    void (*(*get_instance_proc_addr)(void *instance, const char *name))(void);
    void *instance; /* VkInstance; NULL: one of our own */
    /* All three or none: with them the runtime has this one Vulkan device. It must have been created with the feature
     * timelineSemaphore. */
    void *physical_device; /* VkPhysicalDevice */
    void *device;          /* VkDevice */
    void *queue;           /* VkQueue of `queue_family`, which has compute */
    uint32_t queue_family;
    uint32_t reserved;
    /* Extensions that were enabled when the device was created; only these are used. */
    const char *const *extensions;
    uint64_t n_extensions;
    /* Held around every use of the queue; NULL: nobody else uses it. */
    void *user;
    void (*lock)(void *user);
    void (*unlock)(void *user);
} gemma_vulkan_host;

#ifdef __cplusplus
}
#endif

#endif
