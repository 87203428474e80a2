/* Timed readings of whole buffers, by the kernel of the bandwidth probe: everything is made beforehand, so that a reading
 * only submits. A buffer beyond the storage range is read by several dispatches. */
#include "backend/vulkan/device.h"

#define GROUPS 1024u /* at most; sums: one each */
#define GROUP  256u

typedef struct reading { /* of one buffer */
    VkCommandBuffer commands;
} reading;

struct gm_reader {
    gm_vk *vk;
    VkPipeline pipeline;
    VkDescriptorPool pool;
    reading *readings;
    uint32_t n;
};

/* Bytes of one dispatch, in whole bindings. */
static uint64_t span_of(const gm_vk *vk)
{
    uint64_t align = gm_max_u64(256, vk->caps.storage_align);
    return vk->caps.storage_range / align * align;
}

static uint32_t spans_of(const gm_vk *vk, const gm_buffer *b) { return (uint32_t)gm_div_up(b->n_bytes, span_of(vk)); }

static int create_set(gm_reader *r, const gm_buffer *from, uint64_t offset, uint64_t n_bytes, const gm_buffer *out,
                      VkDescriptorSet *set, gemma_error *error)
{
    gm_vk *vk = r->vk;
    VkDescriptorSetAllocateInfo one = { .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = r->pool,
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &vk->set_layout };
    VkResult vr = vk->fn.AllocateDescriptorSets(vk->handle, &one, set);
    if (vr) return gm_vk_check(vk, vr, "descriptor sets", error);
    VkDescriptorBufferInfo buffers[GM_VK_BINDINGS];
    for (uint32_t i = 0; i < GM_VK_BINDINGS; i++)
        buffers[i] = (VkDescriptorBufferInfo){ ((const gm_vk_buffer *)out)->handle, 0, GM_READER_BYTES };
    buffers[1] = (VkDescriptorBufferInfo){ ((const gm_vk_buffer *)from)->handle, offset, gm_align_up(n_bytes, 16) };
    VkWriteDescriptorSet write = { .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                   .dstSet = *set,
                                   .descriptorCount = GM_VK_BINDINGS,
                                   .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                   .pBufferInfo = buffers };
    vk->fn.UpdateDescriptorSets(vk->handle, 1, &write, 0, NULL);
    return GEMMA_OK;
}

static int record(gm_reader *r, const gm_buffer *from, const gm_buffer *out, VkCommandBuffer c, gemma_error *error)
{
    gm_vk *vk = r->vk;
    VkCommandBufferBeginInfo begin = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO };
    VkMemoryBarrier b = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                          .srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT,
                          .dstAccessMask = VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT };
    VkPipelineStageFlags work = VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    VkResult vr = vk->fn.BeginCommandBuffer(c, &begin);
    if (vr) return gm_vk_check(vk, vr, "vkBeginCommandBuffer", error);
    vk->fn.CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, r->pipeline);
    int rc = GEMMA_OK;
    for (uint64_t at = 0; at < from->n_bytes && !rc; at += span_of(vk)) {
        uint32_t push[GM_VK_PUSH_WORDS] = { 0 };
        VkDescriptorSet set = VK_NULL_HANDLE;
        uint64_t n_bytes = gm_min_u64(span_of(vk), from->n_bytes - at);
        uint32_t n_quads = push[GM_VK_BINDINGS] = (uint32_t)(n_bytes / 16);
        rc = create_set(r, from, at, n_bytes, out, &set, error);
        if (rc) break;
        vk->fn.CmdPipelineBarrier(c, work, work, 0, 1, &b, 0, NULL, 0, NULL);
        vk->fn.CmdBindDescriptorSets(c, VK_PIPELINE_BIND_POINT_COMPUTE, vk->layout, 0, 1, &set, 0, NULL);
        vk->fn.CmdPushConstants(c, vk->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof push, push);
        vk->fn.CmdDispatch(c, gm_min_u32(GROUPS, (uint32_t)gm_div_up(n_quads, GROUP)), 1, 1);
    }
    vk->fn.CmdPipelineBarrier(c, work, work, 0, 1, &b, 0, NULL, 0, NULL);
    return rc ? rc : gm_vk_check(vk, vk->fn.EndCommandBuffer(c), "vkEndCommandBuffer", error);
}

static int create_pool(gm_reader *r, gm_buffer *const *buffers, gemma_error *error)
{
    gm_vk *vk = r->vk;
    uint32_t n_sets = 0;
    for (uint32_t i = 0; i < r->n; i++) n_sets += spans_of(vk, buffers[i]);
    VkDescriptorPoolSize size = { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, n_sets * GM_VK_BINDINGS };
    VkDescriptorPoolCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                        .maxSets = n_sets,
                                        .poolSizeCount = 1,
                                        .pPoolSizes = &size };
    VkResult vr = vk->fn.CreateDescriptorPool(vk->handle, &info, NULL, &r->pool);
    return gm_vk_check(vk, vr, "vkCreateDescriptorPool", error);
}

static int create_readings(gm_reader *r, gm_buffer *const *buffers, const gm_buffer *out, gemma_error *error)
{
    gm_vk *vk = r->vk;
    VkCommandBufferAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                         .commandPool = vk->pool,
                                         .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                         .commandBufferCount = 1 };
    int rc = GEMMA_OK;
    gm_mutex_lock(vk->lock); /* of the command pool */
    for (uint32_t i = 0; i < r->n && !rc; i++) {
        VkResult vr = vk->fn.AllocateCommandBuffers(vk->handle, &info, &r->readings[i].commands);
        rc = gm_vk_check(vk, vr, "vkAllocateCommandBuffers", error);
        if (!rc) rc = record(r, buffers[i], out, r->readings[i].commands, error);
    }
    gm_mutex_unlock(vk->lock);
    return rc;
}

int gm_vk_reader_create(gm_backend *be, gm_buffer *const *buffers, uint32_t n, gm_buffer *out, gm_reader **reader,
                        gemma_error *error)
{
    gm_vk *vk = gm_vk_of(be);
    uint32_t spec[GM_VK_SPECS] = { GROUP, 0, 0, 0 };
    *reader = NULL;
    if (out->n_bytes < GM_READER_BYTES) return gm_fail(error, GEMMA_E_INTERNAL, "no room for the sums of a reading");
    gm_reader *r = gm_new(be->mem, sizeof *r, GEMMA_TAG_OBJECT);
    if (!r) return gm_fail_nomem(error, "a reader of buffers", sizeof *r);
    r->vk = vk;
    r->n = n;
    r->readings = gm_new_array(be->mem, n, sizeof *r->readings, GEMMA_TAG_OBJECT);
    int rc = r->readings ? GEMMA_OK : gm_fail_nomem(error, "a reader of buffers", n * sizeof *r->readings);
    if (!rc) rc = gm_vk_pipeline_get(vk, gm_vk_module("probe"), spec, &r->pipeline, error);
    if (!rc) rc = create_pool(r, buffers, error);
    if (!rc) rc = create_readings(r, buffers, out, error);
    if (rc) {
        gm_vk_reader_destroy(r);
        return rc;
    }
    *reader = r;
    return GEMMA_OK;
}

void gm_vk_reader_destroy(gm_reader *r)
{
    if (!r) return;
    gm_vk *vk = r->vk;
    gm_mutex_lock(vk->lock);
    for (uint32_t i = 0; r->readings && i < r->n; i++)
        if (r->readings[i].commands) vk->fn.FreeCommandBuffers(vk->handle, vk->pool, 1, &r->readings[i].commands);
    gm_mutex_unlock(vk->lock);
    if (r->pool) vk->fn.DestroyDescriptorPool(vk->handle, r->pool, NULL);
    gm_delete(vk->base.mem, r->readings);
    gm_delete(vk->base.mem, r);
}

int gm_vk_reader_time(gm_reader *r, uint32_t index, uint64_t *ns, gemma_error *error)
{
    uint64_t value, before = gm_now_ns();
    int rc = gm_vk_submit(r->vk, &r->readings[index].commands, 1, &value, error);
    if (!rc) rc = gm_vk_wait(r->vk, value, UINT64_MAX, error);
    *ns = gm_now_ns() - before;
    return rc;
}
