/* Read bandwidth: all threads read a buffer through. */
#include "backend/cpu/exec.h"

#define READ_NS 30000000u

typedef struct reading {
    uint64_t *words;
    size_t n_words;
    const gemma_cancel *cancel;
    atomic_uint_least64_t sum; /* so that the reads cannot be left out */
} reading;

static bool is_stopped(void *arg)
{
    const reading *p = arg;
    return p->cancel && atomic_load(&p->cancel->raised);
}

static void range_of(const reading *p, uint32_t part, uint32_t n_parts, size_t *first, size_t *last)
{
    size_t n = p->n_words / 64; /* in units of 64 words */
    *first = n * part / n_parts * 64;
    *last = n * (part + 1) / n_parts * 64;
}

static void fill(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    (void)phase;
    size_t first, last;
    range_of(arg, part, n_parts, &first, &last);
    memset(((reading *)arg)->words + first, 1, (last - first) * sizeof(uint64_t));
}

static void read_all(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    (void)phase;
    reading *p = arg;
    uint64_t sums[32] = { 0 }, sum = 0;
    size_t first, last;
    range_of(p, part, n_parts, &first, &last);
    for (size_t i = first; i < last; i += GM_COUNT(sums))
        for (size_t j = 0; j < GM_COUNT(sums); j++) sums[j] += p->words[i + j];
    for (size_t j = 0; j < GM_COUNT(sums); j++) sum += sums[j];
    atomic_fetch_add(&p->sum, sum);
}

int gm_cpu_read_rate(gm_backend *be, gm_buffer *buffer, const gemma_cancel *cancel, double *gb_s, gemma_error *error)
{
    gm_pool *pool = ((gm_cpu *)be)->pool;
    reading p = { .words = buffer->host, .n_words = buffer->n_bytes / sizeof(uint64_t), .cancel = cancel };
    bool whole = gm_pool_run(pool, fill, &p, 1, NULL) && !is_stopped(&p);
    uint64_t start = gm_now_ns(), best = UINT64_MAX, now = start;
    /* The best of the passes that fit, and of two at least. */
    for (uint32_t pass = 0; whole && (pass < 2 || now - start + best < READ_NS); pass++) {
        uint64_t before = gm_now_ns();
        gm_pool_run(pool, read_all, &p, 1, NULL);
        now = gm_now_ns();
        best = gm_min_u64(best, now - before);
        whole = !is_stopped(&p);
    }
    if (!whole) return gm_fail(error, GEMMA_E_CANCELLED, "the probe was cancelled");
    *gb_s = (double)buffer->n_bytes / (double)gm_max_u64(best, 1);
    return GEMMA_OK;
}
