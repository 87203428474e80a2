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
    X(UpdateDescriptorSets)                                                                                            \
    X(CmdBindDescriptorSets)                                                                                           \
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
    physical *of;    /* memory: the device it is of, its type, its place in the list of blocks */
    uint32_t type, block;
    void *hollow; /* memory: [n] what stands for it where it is mapped */
    vklayer_kind kind;
} thing;

/* Memory that is followed, as far as a word's bits go. */
enum { BLOCKS = 64, NOTES = 1 << 17 };
typedef struct block {
    physical *of; /* NULL: free */
    uint32_t type;
    uint64_t n_bytes;
    double gb_s; /* it is read no faster; 0: as fast as ever */
} block;

/* What a buffer lies on, what a set's bindings read, which list of reads a command buffer has. */
enum { BINDINGS = 12, COMMANDS = 8192 };
typedef struct note {
    uint64_t key;     /* 0: free */
    uint64_t missing; /* buffers: bytes that it is shorter than was asked for */
    uint32_t reads;   /* command buffers: of the list below, from 1 */
    uint32_t n_bytes[BINDINGS];
    uint8_t block[BINDINGS]; /* from 1; 0: none. Buffers: the first */
} note;

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
    block blocks[BLOCKS];
    note notes[NOTES];
    uint64_t reads[COMMANDS][BLOCKS]; /* bytes of each block */
    uint32_t n_commands;
    uint64_t n_notes, hollow;                        /* hollow: most bytes of a real block; 0: as asked */
    uint64_t limits[PHYSICALS][VK_MAX_MEMORY_HEAPS]; /* 0: the heap's size */
    double paged_gb_s;                               /* of what lies beyond; 0: 10 */
} vklayer_state;

extern vklayer_state vklayer_it;

#define REAL(name) ((PFN_vk##name)vklayer_it.real[AT_##name])

/* ---- vklayer.c ---- */
/* What one thread counts while another asks. */
void vklayer_lock(void);
void vklayer_unlock(void);
void vklayer_remember(vklayer_kind kind, uint64_t handle);
uint32_t vklayer_block_of(VkDeviceMemory memory); /* BLOCKS: not followed */
/* What is to happen to a call; VK_SUCCESS: carry it out. */
VkResult vklayer_fate(call c);
void vklayer_made(vklayer_kind kind, uint64_t n);
void vklayer_unmade(vklayer_kind kind, uint64_t n);

/* ---- physical.c: instances, physical devices, the creation of devices; memory of described ones ---- */
extern const PFN_vkVoidFunction vklayer_physical_calls[N_CALLS]; /* NULL: not one of them */
vkdevice *vklayer_device_of(VkDevice d);
vkdevice *vklayer_device_with(VkQueue queue);
/* What a described device allocates: the driver's type for a shown one and how fast it is read (0: as ever), or an error. */
VkResult vklayer_take(physical *p, const VkMemoryAllocateInfo *info, uint32_t *real_type, double *gb_s);
/* Forgets the counts of bytes. */
void vklayer_physical_clear(void);

/* ---- speed.c: buffers, sets, commands and the blocks they touch ---- */
extern const PFN_vkVoidFunction vklayer_speed_calls[N_CALLS]; /* NULL: not one of them */
uint32_t vklayer_block_add(physical *p, uint32_t type, uint64_t n_bytes, double gb_s);
void vklayer_block_drop(uint32_t i);
uint64_t vklayer_limit_of(const physical *p, uint32_t heap);
void vklayer_set_made(VkDescriptorSet set);
/* How long a submit's slow blocks take, in ns; one that touches more than there is loses the device. */
uint64_t vklayer_weigh_submit(vkdevice *d, uint32_t n, const VkSubmitInfo *infos);
void vklayer_speed_clear(void);

#endif
