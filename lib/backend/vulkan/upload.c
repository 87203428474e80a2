/* Bytes into and out of buffers: straight where the CPU sees them, else in pieces by way of the
 * buffer's staging (`via`). */
#include "backend/vulkan/device.h"

static int start_copy(gm_vk *vk, VkBuffer from, VkBuffer to, const VkBufferCopy *region, uint32_t lane,
                      gemma_error *error)
{
    VkCommandBufferBeginInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT };
    VkMemoryBarrier barrier = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                .srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT,
                                .dstAccessMask = VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT };
    VkPipelineStageFlags work = VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    VkCommandBuffer c = vk->transfer[lane];
    VkResult r = vk->fn.BeginCommandBuffer(c, &info);
    if (r) return gm_vk_check(vk, r, "vkBeginCommandBuffer", error);
    vk->fn.CmdPipelineBarrier(c, work, work, 0, 1, &barrier, 0, NULL, 0, NULL);
    vk->fn.CmdCopyBuffer(c, from, to, 1, region);
    vk->fn.CmdPipelineBarrier(c, VK_PIPELINE_STAGE_TRANSFER_BIT, work | VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0,
                              NULL, 0, NULL);
    r = vk->fn.EndCommandBuffer(c);
    if (r) return gm_vk_check(vk, r, "vkEndCommandBuffer", error);
    uint64_t value;
    int rc = gm_vk_submit(vk, &c, 1, &value, error);
    if (!rc) vk->transfer_value[lane] = value; /* else it never comes */
    return rc;
}

static int end_copy(gm_vk *vk, uint32_t lane, gemma_error *error)
{
    uint64_t value = vk->transfer_value[lane];
    vk->transfer_value[lane] = 0;
    return value ? gm_vk_wait(vk, value, UINT64_MAX, error) : GEMMA_OK;
}

static int copy(gm_vk *vk, VkBuffer from, VkBuffer to, const VkBufferCopy *region, gemma_error *error)
{
    int rc = start_copy(vk, from, to, region, 0, error);
    return rc ? rc : end_copy(vk, 0, error);
}

int gm_vk_send(gm_buffer *buffer, uint64_t offset, uint64_t from, uint64_t n, uint32_t lane, gemma_error *error)
{
    VkBufferCopy region = { .srcOffset = from, .dstOffset = offset, .size = n };
    return start_copy(gm_vk_of(buffer->backend), ((const gm_vk_buffer *)buffer->via)->handle,
                      ((gm_vk_buffer *)buffer)->handle, &region, lane, error);
}

int gm_vk_sent(gm_buffer *buffer, uint32_t lane, gemma_error *error)
{
    return end_copy(gm_vk_of(buffer->backend), lane, error);
}

static int check_via(const gm_buffer *via, gemma_error *error)
{
    return via && via->host ? GEMMA_OK : gm_fail(error, GEMMA_E_INTERNAL, "no way to memory the CPU does not see");
}

int gm_vk_buffer_write(gm_buffer *buffer, uint64_t offset, const void *src, uint64_t n, gemma_error *error)
{
    gm_vk *vk = gm_vk_of(buffer->backend);
    if (buffer->host) {
        memcpy((char *)buffer->host + offset, src, (size_t)n);
        return GEMMA_OK;
    }
    const gm_buffer *via = buffer->via;
    int rc = check_via(via, error);
    for (uint64_t at = 0; at < n && !rc; at += via->n_bytes) {
        VkBufferCopy region = { .dstOffset = offset + at, .size = gm_min_u64(via->n_bytes, n - at) };
        const char *from = (const char *)src + at;
        if (from != via->host) memcpy(via->host, from, (size_t)region.size);
        rc = copy(vk, ((const gm_vk_buffer *)via)->handle, ((gm_vk_buffer *)buffer)->handle, &region, error);
    }
    return rc;
}

int gm_vk_buffer_read(gm_buffer *buffer, uint64_t offset, void *dst, uint64_t n, gemma_error *error)
{
    gm_vk *vk = gm_vk_of(buffer->backend);
    if (buffer->host) {
        memcpy(dst, (const char *)buffer->host + offset, (size_t)n);
        return GEMMA_OK;
    }
    const gm_buffer *via = buffer->via;
    int rc = check_via(via, error);
    for (uint64_t at = 0; at < n && !rc; at += via->n_bytes) {
        VkBufferCopy region = { .srcOffset = offset + at, .size = gm_min_u64(via->n_bytes, n - at) };
        rc = copy(vk, ((gm_vk_buffer *)buffer)->handle, ((const gm_vk_buffer *)via)->handle, &region, error);
        if (!rc) memcpy((char *)dst + at, via->host, (size_t)region.size);
    }
    return rc;
}
