/* Read bandwidth: a kernel that reads a buffer once, timed by the host over passes long enough not to see the submit. */
#include "backend/vulkan/device.h"

#define PROBE_BYTES ((uint64_t)256 << 20)
#define PROBE_NS    300000000u
#define GROUPS      1024u
#define GROUP       256u

typedef struct probe {
    gm_vk *vk;
    gm_buffer *source, *sums;
    uint64_t n_bytes;
    VkPipeline pipeline;
    VkDescriptorPool pool;
    VkDescriptorSet set;
    VkCommandBuffer commands;
} probe;

static int create_set(probe *p, gemma_error *error)
{
    gm_vk *vk = p->vk;
    VkDescriptorPoolSize size = { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, GM_VK_BINDINGS };
    VkDescriptorPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = 1, .poolSizeCount = 1, .pPoolSizes = &size
    };
    VkResult r = vk->fn.CreateDescriptorPool(vk->handle, &info, NULL, &p->pool);
    VkDescriptorSetAllocateInfo one = { .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = p->pool,
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &vk->set_layout };
    if (!r) r = vk->fn.AllocateDescriptorSets(vk->handle, &one, &p->set);
    if (r) return gm_vk_check(vk, r, "descriptor sets", error);
    VkDescriptorBufferInfo buffers[GM_VK_BINDINGS];
    for (uint32_t i = 0; i < GM_VK_BINDINGS; i++) {
        const gm_buffer *b = i == 1 ? p->source : p->sums;
        buffers[i] = (VkDescriptorBufferInfo){ ((const gm_vk_buffer *)b)->handle, 0, b->n_bytes };
    }
    VkWriteDescriptorSet write = { .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                   .dstSet = p->set,
                                   .descriptorCount = GM_VK_BINDINGS,
                                   .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                   .pBufferInfo = buffers };
    vk->fn.UpdateDescriptorSets(vk->handle, 1, &write, 0, NULL);
    return GEMMA_OK;
}

static int record(probe *p, gemma_error *error)
{
    gm_vk *vk = p->vk;
    uint32_t push[GM_VK_PUSH_WORDS] = { 0 };
    VkCommandBufferAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                         .commandPool = vk->pool,
                                         .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                         .commandBufferCount = 1 };
    VkCommandBufferBeginInfo begin = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO };
    push[GM_VK_BINDINGS] = (uint32_t)(p->n_bytes / 16);
    VkResult r = vk->fn.AllocateCommandBuffers(vk->handle, &info, &p->commands);
    if (!r) r = vk->fn.BeginCommandBuffer(p->commands, &begin);
    if (r) return gm_vk_check(vk, r, "vkBeginCommandBuffer", error);
    vk->fn.CmdBindPipeline(p->commands, VK_PIPELINE_BIND_POINT_COMPUTE, p->pipeline);
    vk->fn.CmdBindDescriptorSets(p->commands, VK_PIPELINE_BIND_POINT_COMPUTE, vk->layout, 0, 1, &p->set, 0, NULL);
    vk->fn.CmdPushConstants(p->commands, vk->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof push, push);
    vk->fn.CmdDispatch(p->commands, GROUPS, 1, 1);
    return gm_vk_check(vk, vk->fn.EndCommandBuffer(p->commands), "vkEndCommandBuffer", error);
}

static int create(probe *p, gemma_error *error)
{
    gm_vk *vk = p->vk;
    uint32_t spec[GM_VK_SPECS] = { GROUP, 0, 0, 0 };
    p->n_bytes = gm_min_u64(PROBE_BYTES, gm_min_u64(vk->caps.storage_range, vk->caps.buffer_bytes)) / 256 * 256;
    int rc = gm_vk_buffer_create(&vk->base, 0, p->n_bytes, GEMMA_TAG_WEIGHTS, &p->source, error);
    if (!rc) rc = gm_vk_buffer_create(&vk->base, 0, GROUPS * sizeof(uint32_t), GEMMA_TAG_SCRATCH, &p->sums, error);
    if (!rc) rc = gm_vk_pipeline_get(vk, gm_vk_module("probe"), spec, &p->pipeline, error);
    if (!rc) rc = create_set(p, error);
    if (!rc) rc = record(p, error);
    /* Pages that nobody wrote may all be one page of zeros. */
    if (!rc && p->source->host) memset(p->source->host, 1, (size_t)p->n_bytes);
    return rc;
}

static void destroy(probe *p)
{
    gm_vk *vk = p->vk;
    if (p->commands) vk->fn.FreeCommandBuffers(vk->handle, vk->pool, 1, &p->commands);
    if (p->pool) vk->fn.DestroyDescriptorPool(vk->handle, p->pool, NULL);
    gm_vk_buffer_destroy(p->sums);
    gm_vk_buffer_destroy(p->source);
}

static int pass(probe *p, uint64_t *ns, gemma_error *error)
{
    uint64_t value, before = gm_now_ns();
    int rc = gm_vk_submit(p->vk, &p->commands, 1, &value, error);
    if (!rc) rc = gm_vk_wait(p->vk, value, UINT64_MAX, error);
    *ns = gm_now_ns() - before;
    return rc;
}

int gm_vk_probe(gm_backend *be, const gemma_cancel *cancel, double *gb_s, gemma_error *error)
{
    probe p = { .vk = gm_vk_of(be) };
    uint64_t ns, best = UINT64_MAX, start;
    int rc = gm_vk_open(p.vk, error);
    if (rc) return rc;
    rc = create(&p, error);
    if (!rc) rc = pass(&p, &ns, error); /* compiles the kernel, clears the memory */
    start = gm_now_ns();
    for (uint32_t i = 0; !rc && (i < 2 || gm_now_ns() - start + best < PROBE_NS); i++) {
        rc = pass(&p, &ns, error);
        best = gm_min_u64(best, gm_max_u64(ns, 1));
        if (!rc && cancel && atomic_load(&cancel->raised))
            rc = gm_fail(error, GEMMA_E_CANCELLED, "the bandwidth probe was cancelled");
    }
    if (!rc) *gb_s = (double)p.n_bytes / (double)best;
    destroy(&p);
    return rc;
}
