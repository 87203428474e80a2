/* What the files of the layer share: the calls it stands in, its state, and what happens before a call is carried out. */
#ifndef LAYER_H
#define LAYER_H

#include "vklayer/vklayer.h"

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
    X(QueueWaitIdle)                                                                                                   \
    X(QueueSubmit)                                                                                                     \
    X(WaitSemaphores)                                                                                                  \
    X(GetSemaphoreCounterValue)

#define INFALLIBLE(X)                                                                                                  \
    X(GetInstanceProcAddr)                                                                                             \
    X(GetDeviceProcAddr)                                                                                               \
    X(DestroyInstance)                                                                                                 \
    X(GetPhysicalDeviceProperties)                                                                                     \
    X(GetPhysicalDeviceProperties2)                                                                                    \
    X(GetPhysicalDeviceFeatures2)                                                                                      \
    X(GetPhysicalDeviceMemoryProperties)                                                                               \
    X(GetPhysicalDeviceMemoryProperties2)                                                                              \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                                          \
    X(GetDeviceQueue)                                                                                                  \
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
    X(GetBufferMemoryRequirements)                                                                                     \
    X(FreeMemory)                                                                                                      \
    X(FreeCommandBuffers)

#define AS_INDEX(name) AT_##name,
typedef enum call { FALLIBLE(AS_INDEX) N_FALLIBLE, LAST_FALLIBLE = N_FALLIBLE - 1, INFALLIBLE(AS_INDEX) N_CALLS } call;

/* A physical device as the program sees it; its handle is the address of this. */
typedef struct physical {
    VkPhysicalDevice real;
    const machine_device *described;          /* NULL: it is shown as it is */
    VkPhysicalDeviceMemoryProperties memory;  /* as shown */
    uint32_t real_type;                       /* of memory that a described device allocates */
    uint64_t type_bytes[VK_MAX_MEMORY_TYPES]; /* allocated and not freed */
} physical;

typedef struct vkdevice {
    VkDevice handle; /* NULL: free */
    VkQueue queue;
    physical *of;
    bool lost;
} vkdevice;

enum { PHYSICALS = 8, DEVICES = 8 };

/* What is allocated or belongs to a pool, so that freeing without a size can be counted. */
#define THINGS 4096
typedef struct thing {
    uint64_t handle; /* 0: free */
    uint64_t n;      /* memory: bytes; pools: members alive */
    physical *of;    /* memory: the device it is of, and its type */
    uint32_t type;
    vklayer_kind kind;
} thing;

typedef struct vklayer_state {
    PFN_vkVoidFunction real[N_CALLS];
    VkInstance own; /* keeps the drivers loaded from one runtime to the next */
    vklayer_machine shown;
    machine machine; /* posed as, where n_devices is not 0 */
    physical physicals[PHYSICALS];
    vkdevice devices[DEVICES];
    uint64_t to_fail, to_lose; /* calls and submits from now; 0: none */
    uint64_t n_to_fail;        /* in a row */
    VkResult result;
    bool fired, polled;
    const char *victim;
    bool called[N_FALLIBLE], failed[N_FALLIBLE]; /* since the program began */
    uint64_t live[VKLAYER_KINDS], created[VKLAYER_KINDS], submits, mismatches;
    thing things[THINGS];
} vklayer_state;

extern vklayer_state vklayer_it;

#define REAL(name) ((PFN_vk##name)vklayer_it.real[AT_##name])

/* ---- vklayer.c ---- */
/* What is to happen to a call; VK_SUCCESS: carry it out. */
VkResult vklayer_fate(call c);
void vklayer_made(vklayer_kind kind, uint64_t n);
void vklayer_unmade(vklayer_kind kind, uint64_t n);

/* ---- physical.c: instances, physical devices, the creation of devices; memory of described ones ---- */
extern const PFN_vkVoidFunction vklayer_physical_calls[N_CALLS]; /* NULL: not one of them */
vkdevice *vklayer_device_of(VkDevice d);
vkdevice *vklayer_device_with(VkQueue queue);
/* What a described device allocates: the driver's type for a shown one, or an error. */
VkResult vklayer_take(physical *p, const VkMemoryAllocateInfo *info, uint32_t *real_type);
/* Forgets the counts of bytes. */
void vklayer_physical_clear(void);

#endif
