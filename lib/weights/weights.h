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

/* ---- proof: every block of a loaded model is read once and timed, and later again where steps have become slow. Whether it
 * still lies where the plan says cannot be asked of a driver, only measured. */
typedef struct gm_proof gm_proof;

/* What a reading of the blocks has shown; rates are 10^9 bytes per second. */
typedef struct gm_proof_result {
    uint32_t n_read;      /* blocks that could be timed */
    uint32_t share, heap; /* of the slowest, by how much slower it is than it was or than the others */
    uint64_t slow_bytes;  /* of blocks at less than 0.35 of what is expected of them */
    double slowest_gb_s, expected_gb_s, median_gb_s;
} gm_proof_result;

/* Over the blocks of weights and KV of devices that can time a reading (none: n_read 0). Allocates what later readings
 * need; memory for the bytes read is the plan's scratch. The first reading is expected of later ones. NOMEM, DEVMEM, LOST. */
int gm_proof_create(const gm_plan *plan, const gm_resident *resident, gm_proof **out, gm_proof_result *result,
                    gemma_error *error);
void gm_proof_destroy(gm_proof *p);
/* Reads again; no step runs meanwhile. Allocates nothing. LOST. */
int gm_proof_again(gm_proof *p, gm_proof_result *result, gemma_error *error);

#endif
