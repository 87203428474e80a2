/* sampler: from logits to one id. Pure arithmetic on the caller's arrays; seeded, the same draws on every platform. */
#ifndef GM_SAMPLER_H
#define GM_SAMPLER_H

#include "base/base.h"

#define GM_CANDIDATES       64 /* what a step returns per row without asking for all logits */
#define GM_BIAS_MAX         1024
#define GM_PENALTY_LAST     64 /* default */
#define GM_PENALTY_LAST_MAX 4096

typedef struct gm_sampler gm_sampler;

/* options are checked: NaN, negative temperature, top_p or min_p outside 0…1, … give ARG with the field's name. (top_p
 * above 1 is off, as gemma.h says; frequency and presence may be negative.) NULL: greedy. */
int gm_sampler_create(gm_mem *mem, const gemma_sampler_options *options, gm_sampler **out, gemma_error *error);
void gm_sampler_destroy(gm_sampler *s);
/* Replaces an earlier bias of the same id; 0 takes it away. ARG: id < 0, NaN or +INFINITY. SMALL: GM_BIAS_MAX others
 * are set. NOMEM: as before. */
int gm_sampler_bias(gm_sampler *s, int32_t id, float bias);
/* true: 64 candidates are not enough for an exact draw, the whole row is needed. */
bool gm_sampler_needs_row(const gm_sampler *s);
/* All memory a draw from n_vocab logits needs (8 bytes each); creation reserves options.n_vocab and at least
 * GM_CANDIDATES. NOMEM possible: what was reserved stands. */
int gm_sampler_reserve(gm_sampler *s, uint32_t n_vocab);
/* n candidates, best first (equal logits: lower id first). ids NULL: logits[i] belongs to id i (a whole row, any
 * order). Allocates nothing. NaN counts as -INFINITY. When no logit is above -INFINITY: the first id that is not
 * forbidden by a bias. -1: there is no such id, n is 0 or more than was reserved. */
int32_t gm_sampler_draw(gm_sampler *s, const int32_t *ids, const float *logits, uint32_t n);
void gm_sampler_accept(gm_sampler *s, int32_t id); /* negative ids are ignored */
void gm_sampler_reset(gm_sampler *s);              /* biases stay */

/* The generator, for tests: xoshiro256**, seeded through splitmix64. */
typedef struct gm_rng {
    uint64_t state[4];
} gm_rng;
void gm_rng_seed(gm_rng *r, uint64_t seed);
uint64_t gm_rng_next(gm_rng *r);
/* In [0, 1), a multiple of 2^-53, from the upper 53 of 64 bits. */
double gm_rng_unit(gm_rng *r);

/* e^x by IEEE double + - × only: the same bits on every platform, which libm does not promise. Relative error below
 * 1e-15 for -708 ≤ x ≤ 709; 0 below (also for NaN), infinity above. */
double gm_exp(double x);

#endif
