/* Instance, devices, memory and pipelines: what the files of this folder share below programs. */
#ifndef GM_VK_DEVICE_H
#define GM_VK_DEVICE_H

#include "backend/vulkan/caps.h"
#include "backend/vulkan/spirv.h"
#include "backend/vulkan/vulkan.h"

#define GM_VK_BINDINGS   10
#define GM_VK_PUSH_WORDS 32
#define GM_VK_SPECS      5

#define GM_VK_INSTANCE_FUNCTIONS(X)                                                                                    \
    X(DestroyInstance)                                                                                                 \
    X(EnumeratePhysicalDevices)                                                                                        \
    X(GetPhysicalDeviceProperties)                                                                                     \
    X(GetPhysicalDeviceProperties2)                                                                                    \
    X(GetPhysicalDeviceFeatures2)                                                                                      \
    X(GetPhysicalDeviceMemoryProperties2)                                                                              \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                                          \
    X(EnumerateDeviceExtensionProperties)                                                                              \
    X(CreateDevice)                                                                                                    \
    X(GetDeviceProcAddr)

#define GM_VK_DEVICE_FUNCTIONS(X)                                                                                      \
    X(DestroyDevice)                                                                                                   \
    X(GetDeviceQueue)                                                                                                  \
    X(QueueSubmit)                                                                                                     \
    X(QueueWaitIdle)                                                                                                   \
    X(AllocateMemory)                                                                                                  \
    X(FreeMemory)                                                                                                      \
    X(MapMemory)                                                                                                       \
    X(CreateBuffer)                                                                                                    \
    X(DestroyBuffer)                                                                                                   \
    X(GetBufferMemoryRequirements)                                                                                     \
    X(BindBufferMemory)                                                                                                \
    X(CreateCommandPool)                                                                                               \
    X(DestroyCommandPool)                                                                                              \
    X(AllocateCommandBuffers)                                                                                          \
    X(FreeCommandBuffers)                                                                                              \
    X(BeginCommandBuffer)                                                                                              \
    X(EndCommandBuffer)                                                                                                \
    X(CmdBindPipeline)                                                                                                 \
    X(CmdBindDescriptorSets)                                                                                           \
    X(CmdPushConstants)                                                                                                \
    X(CmdDispatch)                                                                                                     \
    X(CmdPipelineBarrier)                                                                                              \
    X(CmdCopyBuffer)                                                                                                   \
    X(CmdUpdateBuffer)                                                                                                 \
    X(CreateSemaphore)                                                                                                 \
    X(DestroySemaphore)                                                                                                \
    X(WaitSemaphores)                                                                                                  \
    X(GetSemaphoreCounterValue)                                                                                        \
    X(CreateShaderModule)                                                                                              \
    X(DestroyShaderModule)                                                                                             \
    X(CreatePipelineCache)                                                                                             \
    X(DestroyPipelineCache)                                                                                            \
    X(GetPipelineCacheData)                                                                                            \
    X(MergePipelineCaches)                                                                                             \
    X(CreateComputePipelines)                                                                                          \
    X(DestroyPipeline)                                                                                                 \
    X(CreatePipelineLayout)                                                                                            \
    X(DestroyPipelineLayout)                                                                                           \
    X(CreateDescriptorSetLayout)                                                                                       \
    X(DestroyDescriptorSetLayout)                                                                                      \
    X(CreateDescriptorPool)                                                                                            \
    X(DestroyDescriptorPool)                                                                                           \
    X(AllocateDescriptorSets)                                                                                          \
    X(UpdateDescriptorSets)

#define GM_VK_MEMBER(name) PFN_vk##name name;

/* Shared by its devices; a host's is not destroyed. */
typedef struct gm_vk_instance {
    gm_mem *mem;
    gm_ref ref;
    bool owned;
    void *library;
    VkInstance handle;
    PFN_vkGetInstanceProcAddr get;
    struct {
        GM_VK_INSTANCE_FUNCTIONS(GM_VK_MEMBER)
    } fn;
    gm_vulkan_host host; /* zeros: none */
} gm_vk_instance;

typedef struct gm_vk_buffer gm_vk_buffer;
typedef struct gm_vk gm_vk;

struct gm_vk_buffer {
    gm_buffer base;
    VkBuffer handle;
    VkDeviceMemory memory;
    uint64_t held_bytes; /* what the driver takes for it */
    gm_vk_buffer *next;  /* of the device's list */
};

/* A kernel with its specialization. */
typedef struct gm_vk_pipeline {
    const gm_spirv *module;
    uint32_t spec[GM_VK_SPECS]; /* constants 0 … */
    VkPipeline handle;
} gm_vk_pipeline;

#define GM_VK_LANES 2 /* copies under way at once */

struct gm_vk {
    gm_backend base;
    gm_vk_instance *instance;
    VkPhysicalDevice physical;
    gm_vk_caps caps;
    uint32_t number; /* of its id */
    VkPhysicalDeviceMemoryProperties memory;
    gm_mutex *lock;                           /* of what follows, and of the queue */
    uint64_t held_bytes[VK_MAX_MEMORY_HEAPS]; /* by our heap number */
    atomic_bool lost;
    /* Made with the VkDevice, on first use. */
    VkDevice handle;
    struct {
        GM_VK_DEVICE_FUNCTIONS(GM_VK_MEMBER)
    } fn;
    VkQueue queue;
    VkCommandPool pool;
    VkSemaphore timeline; /* counts submits */
    uint64_t submitted;   /* its last value to come */
    uint64_t work_per_ms; /* multiplications, as last seen */
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipelineCache cache;
    gm_vk_pipeline *pipelines;
    uint32_t n_pipelines, cap_pipelines;
    gm_vk_buffer *buffers;
    VkCommandBuffer transfer[GM_VK_LANES];
    uint64_t transfer_value[GM_VK_LANES]; /* when its last copy is over */
};

/* ---- instance.c ---- */
int gm_vk_instance_create(gm_mem *mem, const gm_vulkan_host *host, gm_vk_instance **out, gemma_error *why_none);
void gm_vk_instance_drop(gm_vk_instance *instance);
/* Asks the driver; extensions are allocated and belong to the caller. */
int gm_vk_report_read(gm_vk_instance *instance, VkPhysicalDevice physical, gm_vk_report *report);

/* ---- devices.c ---- */
static inline gm_vk *gm_vk_of(gm_backend *be) { return (gm_vk *)be; }
static inline const gm_vk *gm_vk_of_const(const gm_backend *be) { return (const gm_vk *)be; }

/* ---- device.c ---- */
/* The VkDevice and all that belongs to it, created if need be; holds the lock. */
int gm_vk_open(gm_vk *vk, gemma_error *error);
void gm_vk_close(gm_vk *vk);
/* OK for success; else the code for a VkResult and a sentence that begins with `what`. Remembers a lost device. */
int gm_vk_check(gm_vk *vk, VkResult result, const char *what, gemma_error *error);
/* Submits command buffers in their order; *value is the timeline's when they are done. When this or the wait fails,
 * nothing is under way any more, or the device counts as lost (LOST). */
int gm_vk_submit(gm_vk *vk, const VkCommandBuffer *commands, uint32_t n, uint64_t *value, gemma_error *error);
int gm_vk_wait(gm_vk *vk, uint64_t value, uint64_t timeout_ns, gemma_error *error); /* TIMEOUT, LOST */

/* ---- memory.c ---- */
int gm_vk_buffer_create(gm_backend *be, uint32_t heap, uint64_t n_bytes, uint32_t tag, gm_buffer **out,
                        gemma_error *error);
void gm_vk_buffer_destroy(gm_buffer *buffer);
/* The buffer that a host address lies in, and where; NULL: none. */
gm_vk_buffer *gm_vk_buffer_at(gm_vk *vk, const void *address, uint64_t *offset);
uint32_t gm_vk_heap_of(const gm_backend *be, uint32_t tag);
bool gm_vk_is_seen(const gm_vk *vk, uint32_t tag); /* buffers of this kind, by the CPU */
void gm_vk_heap_state(const gm_backend *be, uint32_t heap, gm_heap_state *state);

/* ---- upload.c ---- */
int gm_vk_buffer_write(gm_buffer *buffer, uint64_t offset, const void *src, uint64_t n, gemma_error *error);
int gm_vk_buffer_read(gm_buffer *buffer, uint64_t offset, void *dst, uint64_t n, gemma_error *error);
int gm_vk_send(gm_buffer *buffer, uint64_t offset, uint64_t from, uint64_t n, uint32_t lane, gemma_error *error);
int gm_vk_sent(gm_buffer *buffer, uint32_t lane, gemma_error *error);

/* ---- pipeline.c ---- */
const gm_spirv *gm_vk_module(const char *name); /* NULL: not built */
int gm_vk_pipeline_get(gm_vk *vk, const gm_spirv *module, const uint32_t spec[GM_VK_SPECS], VkPipeline *out,
                       gemma_error *error);

/* ---- kernels.c ---- */
int gm_vk_save_kernels(gm_backend *be, void *buffer, size_t n_cap, size_t *n_bytes, gemma_error *error);
int gm_vk_load_kernels(gm_backend *be, const void *bytes, size_t n_bytes, gemma_error *error);

/* ---- reader.c ---- */
int gm_vk_reader_create(gm_backend *be, gm_buffer *const *buffers, uint32_t n, gm_buffer *out, gm_reader **reader,
                        gemma_error *error);
void gm_vk_reader_destroy(gm_reader *reader);
int gm_vk_reader_time(gm_reader *reader, uint32_t index, uint64_t *ns, gemma_error *error);

/* ---- probe.c ---- */
int gm_vk_read_rate(gm_backend *be, gm_buffer *buffer, const gemma_cancel *cancel, double *gb_s, gemma_error *error);

#endif
