/* proof: every block of a loaded model is read once and timed, and later again where steps have become slow: whether it
 * still lies where the plan says cannot be asked of a driver, only measured. */
#ifndef GM_PROOF_H
#define GM_PROOF_H

#include "weights/weights.h"

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
