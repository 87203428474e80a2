/* weights: the plan carried out: allocates its blocks and moves tensors from the file to their places. */
#ifndef GM_WEIGHTS_H
#define GM_WEIGHTS_H

#include "plan/plan.h"

/* What a device works on; all NULL where the plan does not use it. */
typedef struct gm_resident_share {
    gm_span *weights;                        /* [n_weights] */
    gm_span *kv_k, *kv_v;                    /* [n_kv]; without a place: on another device */
    gm_buffer *scratch, *staging, *transfer; /* among buffers; transfer NULL: the CPU sees them all */
} gm_resident_share;

typedef struct gm_resident {
    gm_mem *mem;
    const gm_gguf *gguf; /* for rows that are read with every step */
    gm_buffer **buffers; /* [n_blocks] of the plan */
    uint32_t n_blocks;
    gm_resident_share *shares; /* [n_shares] of the plan's devices */
    uint32_t n_shares;
    uint64_t allocated_bytes; /* = the plan's total */
    uint64_t read_bytes;
    double seconds;
} gm_resident;

/* STALE when a heap's budget no longer covers the plan. On failure nothing is left. The pool turns weights into Q8_0
 * (NULL: this thread does). Options have been read (size checked). KV memory is cleared. REHEARSE: memory is taken, and no
 * byte of it touched. */
int gm_weights_load(const gm_plan *plan, const gm_gguf *gguf, gm_pool *pool, const gemma_load_options *options,
                    gm_resident **out, gemma_error *error);
void gm_resident_destroy(gm_resident *r);

#endif
