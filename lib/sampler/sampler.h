/* sampler: from logits to one id. Pure arithmetic on the caller's arrays; seeded, the same draws on every platform. */
#ifndef GM_SAMPLER_H
#define GM_SAMPLER_H

#include "base/base.h"

#define GM_CANDIDATES 64 /* what a step returns per row without asking for all logits */
#define GM_BIAS_MAX   1024

typedef struct gm_sampler gm_sampler;

/* options are checked: NaN, negative temperature, top_p or min_p outside 0…1, … give ARG with the field's name. */
int gm_sampler_create(gm_mem *mem, const gemma_sampler_options *options, gm_sampler **out, gemma_error *error);
void gm_sampler_destroy(gm_sampler *s);
int gm_sampler_bias(gm_sampler *s, int32_t id, float bias);
/* true: 64 candidates are not enough for an exact draw, the whole row is needed. */
bool gm_sampler_needs_row(const gm_sampler *s);
/* All memory a draw from n_vocab logits needs; called once before the first draw, NOMEM possible. */
int gm_sampler_reserve(gm_sampler *s, uint32_t n_vocab);
/* n candidates, best first (equal logits: lower id first), and the log of the whole softmax sum. ids NULL: logits[i]
 * belongs to id i (a whole row, any order). Allocates nothing. */
int32_t gm_sampler_draw(gm_sampler *s, const int32_t *ids, const float *logits, uint32_t n);
void gm_sampler_accept(gm_sampler *s, int32_t id);
void gm_sampler_reset(gm_sampler *s);

/* The generator, for tests: 64 bits, and a double in [0, 1) from the upper 53 of them. */
typedef struct gm_rng {
    uint64_t state[4];
} gm_rng;
void gm_rng_seed(gm_rng *r, uint64_t seed);
uint64_t gm_rng_next(gm_rng *r);

#endif
