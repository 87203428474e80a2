/* Read bandwidth: a reader of one buffer, timed by the host. */
#include "backend/vulkan/device.h"

#define READ_NS 30000000u

int gm_vk_read_rate(gm_backend *be, gm_buffer *buffer, const gemma_cancel *cancel, double *gb_s, gemma_error *error)
{
    gm_buffer *sums = NULL;
    gm_reader *reader = NULL;
    uint64_t ns, best = UINT64_MAX, start = 0;
    uint32_t heap = gm_vk_heap_of(be, GEMMA_TAG_SCRATCH);
    int rc = gm_vk_buffer_create(be, heap, GM_READER_BYTES, GEMMA_TAG_SCRATCH, &sums, error);
    if (!rc) rc = gm_vk_reader_create(be, &buffer, 1, sums, &reader, error);
    /* Pages that nobody wrote may all be one page of zeros. */
    if (!rc && buffer->host) memset(buffer->host, 1, (size_t)buffer->n_bytes);
    if (!rc) rc = gm_vk_reader_time(reader, 0, &ns, error); /* compiles the kernel, clears the memory */
    start = gm_now_ns();
    for (uint32_t i = 0; !rc && (i < 2 || gm_now_ns() - start + best < READ_NS); i++) {
        rc = gm_vk_reader_time(reader, 0, &ns, error);
        best = gm_min_u64(best, gm_max_u64(ns, 1));
        if (!rc && cancel && atomic_load(&cancel->raised))
            rc = gm_fail(error, GEMMA_E_CANCELLED, "the probe was cancelled");
    }
    if (!rc) *gb_s = (double)buffer->n_bytes / (double)best;
    gm_vk_reader_destroy(reader);
    gm_vk_buffer_destroy(sums);
    return rc;
}
