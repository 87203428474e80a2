/* What the ops should give: double precision, the formulas of op.h written down again with plain loops. Beside each
 * value stands how far a device may be off. */
#ifndef TESTS_CONFORM_NAIVE_H
#define TESTS_CONFORM_NAIVE_H

#include "conform/scene.h"

/* How a device computes.
 * packs: activations of quantised matrices become 8 bit, 32 with one scale d. Each is off by up to d / 2, evenly spread,
 *   so a dot is off by a sum of independent errors of variance w² d² / 12: six deviations are allowed.
 * slack: times the rounding that 16 lanes of float additions and exact functions would have. */
typedef struct precision {
    bool packs;
    double slack;
    bool coarse_angles; /* sines and cosines good to 3e-7, not to the last bit */
} precision;

/* A value of an output and its bound. */
typedef struct expected {
    double value, error;
} expected;

/* Output `o` of row r: e[out_width]. */
void naive_output(const scene *s, precision p, unsigned o, uint32_t r, expected *e);
/* HEADS: what K or V of a head of row r holds, before it is packed: e[head]. */
void naive_line(const scene *s, precision p, bool v, uint32_t r, uint32_t kv_head, expected *e);
/* HEAD: e[n_vocab], -infinity where left out. */
void naive_logits(const scene *s, precision p, uint32_t r, expected *e);

#endif
