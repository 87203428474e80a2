/* A VkDevice and what belongs to it; submitting and waiting. */
#include "backend/vulkan/device.h"

int gm_vk_check(gm_vk *vk, VkResult r, const char *what, gemma_error *error)
{
    switch (r) {
    case VK_SUCCESS: return GEMMA_OK;
    case VK_ERROR_OUT_OF_HOST_MEMORY: return gm_fail(error, GEMMA_E_NOMEM, "%s: out of host memory", what);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_TOO_MANY_OBJECTS:
        return gm_fail(error, GEMMA_E_DEVMEM, "%s: %s is out of memory", what, vk->caps.name);
    case VK_ERROR_DEVICE_LOST:
        atomic_store(&vk->lost, true);
        return gm_fail(error, GEMMA_E_LOST, "%s: %s was lost; load the model again", what, vk->caps.name);
    default: return gm_fail(error, GEMMA_E_INTERNAL, "%s: %s answered %d", what, vk->caps.name, (int)r);
    }
}

/* ---- creation ---- */

static int create_handle(gm_vk *vk, gemma_error *error)
{
    const char *extensions[4];
    float priority = 0.5f;
    uint32_t n = 0;
    if (vk->caps.memory_budget) extensions[n++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES, .timelineSemaphore = VK_TRUE
    };
    /* The driver is to refuse what does not fit rather than to move it out of the device's memory. */
    VkDeviceMemoryOverallocationCreateInfoAMD overallocation = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_MEMORY_OVERALLOCATION_CREATE_INFO_AMD,
        .overallocationBehavior = VK_MEMORY_OVERALLOCATION_BEHAVIOR_DISALLOWED_AMD
    };
    VkPhysicalDeviceMemoryPriorityFeaturesEXT memory_priority = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PRIORITY_FEATURES_EXT,
        .pNext = &timeline,
        .memoryPriority = VK_TRUE
    };
    if (vk->caps.memory_priority) extensions[n++] = VK_EXT_MEMORY_PRIORITY_EXTENSION_NAME;
    if (vk->caps.overallocation) {
        extensions[n++] = VK_AMD_MEMORY_OVERALLOCATION_BEHAVIOR_EXTENSION_NAME;
        timeline.pNext = &overallocation;
    }
    VkDeviceQueueCreateInfo queue = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                      .queueFamilyIndex = vk->caps.queue_family,
                                      .queueCount = 1,
                                      .pQueuePriorities = &priority };
    VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                .pNext = vk->caps.memory_priority ? (void *)&memory_priority : (void *)&timeline,
                                .queueCreateInfoCount = 1,
                                .pQueueCreateInfos = &queue,
                                .enabledExtensionCount = n,
                                .ppEnabledExtensionNames = extensions };
    VkResult r = vk->instance->fn.CreateDevice(vk->physical, &info, NULL, &vk->handle);
    return gm_vk_check(vk, r, "vkCreateDevice", error);
}

static int load_functions(gm_vk *vk, gemma_error *error)
{
    const char *missing = NULL;
#define LOAD(name)                                                                                                     \
    vk->fn.name = (PFN_vk##name)vk->instance->fn.GetDeviceProcAddr(vk->handle, "vk" #name);                            \
    if (!vk->fn.name) missing = "vk" #name;
    GM_VK_DEVICE_FUNCTIONS(LOAD)
#undef LOAD
    return missing ? gm_fail(error, GEMMA_E_DEVICE, "%s lacks %s", vk->caps.name, missing) : GEMMA_OK;
}

static int create_layouts(gm_vk *vk, gemma_error *error)
{
    VkDescriptorSetLayoutBinding bindings[GM_VK_BINDINGS];
    for (uint32_t i = 0; i < GM_VK_BINDINGS; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){ .binding = i,
                                                      .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                      .descriptorCount = 1,
                                                      .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT };
    VkDescriptorSetLayoutCreateInfo set = { .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                            .bindingCount = GM_VK_BINDINGS,
                                            .pBindings = bindings };
    VkResult r = vk->fn.CreateDescriptorSetLayout(vk->handle, &set, NULL, &vk->set_layout);
    if (r) return gm_vk_check(vk, r, "vkCreateDescriptorSetLayout", error);
    VkPushConstantRange push = { VK_SHADER_STAGE_COMPUTE_BIT, 0, GM_VK_PUSH_WORDS * sizeof(uint32_t) };
    VkPipelineLayoutCreateInfo layout = { .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                          .setLayoutCount = 1,
                                          .pSetLayouts = &vk->set_layout,
                                          .pushConstantRangeCount = 1,
                                          .pPushConstantRanges = &push };
    r = vk->fn.CreatePipelineLayout(vk->handle, &layout, NULL, &vk->layout);
    if (r) return gm_vk_check(vk, r, "vkCreatePipelineLayout", error);
    VkPipelineCacheCreateInfo cache = { .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO };
    return gm_vk_check(vk, vk->fn.CreatePipelineCache(vk->handle, &cache, NULL, &vk->cache), "vkCreatePipelineCache",
                       error);
}

static int create_queue(gm_vk *vk, gemma_error *error)
{
    if (vk->instance->host.queue)
        vk->queue = vk->instance->host.queue;
    else
        vk->fn.GetDeviceQueue(vk->handle, vk->caps.queue_family, 0, &vk->queue);
    VkSemaphoreTypeCreateInfo type = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                       .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE };
    VkSemaphoreCreateInfo semaphore = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type };
    VkResult r = vk->fn.CreateSemaphore(vk->handle, &semaphore, NULL, &vk->timeline);
    if (r) return gm_vk_check(vk, r, "vkCreateSemaphore", error);
    VkCommandPoolCreateInfo pool = { .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                     .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                     .queueFamilyIndex = vk->caps.queue_family };
    r = vk->fn.CreateCommandPool(vk->handle, &pool, NULL, &vk->pool);
    if (r) return gm_vk_check(vk, r, "vkCreateCommandPool", error);
    VkCommandBufferAllocateInfo transfer = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                             .commandPool = vk->pool,
                                             .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                             .commandBufferCount = GM_VK_LANES };
    return gm_vk_check(vk, vk->fn.AllocateCommandBuffers(vk->handle, &transfer, vk->transfer),
                       "vkAllocateCommandBuffers", error);
}

static int open_device(gm_vk *vk, gemma_error *error)
{
    if (atomic_load(&vk->lost)) return gm_fail(error, GEMMA_E_LOST, "%s was lost", vk->caps.name);
    if (!vk->caps.usable) return gm_fail(error, GEMMA_E_DEVICE, "%s: %s", vk->caps.name, vk->caps.reason);
    if (vk->handle) return GEMMA_OK;
    int rc = GEMMA_OK;
    if (vk->instance->host.device)
        vk->handle = vk->instance->host.device;
    else
        rc = create_handle(vk, error);
    if (!rc) rc = load_functions(vk, error);
    if (!rc) rc = create_layouts(vk, error);
    if (!rc) rc = create_queue(vk, error);
    if (rc) gm_vk_close(vk);
    return rc;
}

int gm_vk_open(gm_vk *vk, gemma_error *error)
{
    gm_mutex_lock(vk->lock);
    int rc = open_device(vk, error);
    gm_mutex_unlock(vk->lock);
    return rc;
}

/* Buffers and programs are gone by now. */
void gm_vk_close(gm_vk *vk)
{
    if (!vk->handle) return;
    VkDevice d = vk->handle;
    for (uint32_t i = 0; i < vk->n_pipelines; i++) vk->fn.DestroyPipeline(d, vk->pipelines[i].handle, NULL);
    gm_delete(vk->base.mem, vk->pipelines);
    if (vk->cache) vk->fn.DestroyPipelineCache(d, vk->cache, NULL);
    if (vk->layout) vk->fn.DestroyPipelineLayout(d, vk->layout, NULL);
    if (vk->set_layout) vk->fn.DestroyDescriptorSetLayout(d, vk->set_layout, NULL);
    if (vk->pool) vk->fn.DestroyCommandPool(d, vk->pool, NULL);
    if (vk->timeline) vk->fn.DestroySemaphore(d, vk->timeline, NULL);
    if (!vk->instance->host.device && vk->fn.DestroyDevice) vk->fn.DestroyDevice(d, NULL);
    vk->pipelines = NULL;
    vk->n_pipelines = vk->cap_pipelines = 0;
    vk->cache = VK_NULL_HANDLE;
    vk->layout = VK_NULL_HANDLE;
    vk->set_layout = VK_NULL_HANDLE;
    vk->pool = VK_NULL_HANDLE;
    vk->timeline = VK_NULL_HANDLE;
    vk->handle = NULL;
}

/* ---- submitting ---- */

/* Before an error goes up: whoever hears of it may free or record again what the device still uses. Where even that
 * cannot be waited for, the device counts as lost: nothing more is submitted to it. */
static int settle(gm_vk *vk, int rc, gemma_error *error)
{
    const gm_vulkan_host *host = &vk->instance->host;
    if (!rc || atomic_load(&vk->lost)) return rc;
    gm_mutex_lock(vk->lock);
    if (host->lock) host->lock(host->user);
    VkResult r = vk->fn.QueueWaitIdle(vk->queue);
    if (host->unlock) host->unlock(host->user);
    gm_mutex_unlock(vk->lock);
    return r ? gm_vk_check(vk, VK_ERROR_DEVICE_LOST, "vkQueueWaitIdle", error) : rc;
}

int gm_vk_submit(gm_vk *vk, const VkCommandBuffer *commands, uint32_t n, uint64_t *value, gemma_error *error)
{
    const gm_vulkan_host *host = &vk->instance->host;
    if (atomic_load(&vk->lost)) return gm_vk_check(vk, VK_ERROR_DEVICE_LOST, "vkQueueSubmit", error);
    gm_mutex_lock(vk->lock);
    *value = vk->submitted + 1;
    VkTimelineSemaphoreSubmitInfo timeline = { .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                               .signalSemaphoreValueCount = 1,
                                               .pSignalSemaphoreValues = value };
    VkSubmitInfo info = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                          .pNext = &timeline,
                          .commandBufferCount = n,
                          .pCommandBuffers = commands,
                          .signalSemaphoreCount = 1,
                          .pSignalSemaphores = &vk->timeline };
    if (host->lock) host->lock(host->user);
    VkResult r = vk->fn.QueueSubmit(vk->queue, 1, &info, VK_NULL_HANDLE);
    if (host->unlock) host->unlock(host->user);
    if (!r) vk->submitted = *value;
    gm_mutex_unlock(vk->lock);
    return settle(vk, gm_vk_check(vk, r, "vkQueueSubmit", error), error);
}

#define SPIN_NS 50000u /* a decode step's end is not slept through */

int gm_vk_wait(gm_vk *vk, uint64_t value, uint64_t timeout_ns, gemma_error *error)
{
    uint64_t start = gm_now_ns(), spin = gm_min_u64(SPIN_NS, timeout_ns), done = 0, passed = 0;
    do {
        VkResult r = vk->fn.GetSemaphoreCounterValue(vk->handle, vk->timeline, &done);
        if (r) return settle(vk, gm_vk_check(vk, r, "vkGetSemaphoreCounterValue", error), error);
        if (done >= value) return GEMMA_OK;
        gm_cpu_relax();
        passed = gm_now_ns() - start;
    } while (passed < spin);
    VkSemaphoreWaitInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                 .semaphoreCount = 1,
                                 .pSemaphores = &vk->timeline,
                                 .pValues = &value };
    uint64_t left = timeout_ns == UINT64_MAX ? UINT64_MAX : timeout_ns - gm_min_u64(passed, timeout_ns);
    VkResult r = vk->fn.WaitSemaphores(vk->handle, &info, left);
    if (r == VK_TIMEOUT) return gm_fail(error, GEMMA_E_TIMEOUT, "the device is still at work");
    return settle(vk, gm_vk_check(vk, r, "vkWaitSemaphores", error), error);
}
