/* What a sampler holds; private to lib/sampler. */
#ifndef GM_SAMPLER_STATE_H
#define GM_SAMPLER_STATE_H

#include "sampler/sampler.h"

/* Tables of these are sorted by id. */
typedef struct id_bias {
    int32_t id;
    float bias;
} id_bias;
typedef struct id_tally {
    int32_t id;
    uint32_t count;
} id_tally;

typedef struct entry {
    float logit;
    int32_t id;
} entry;

struct gm_sampler {
    gm_mem *mem;
    gemma_sampler_options options; /* checked, defaults filled in */
    gm_rng rng;

    id_bias *biases;
    uint32_t n_biases, biases_cap;

    /* The last penalty_last accepted ids and how often each is among them; only kept when penalties are on. */
    bool penalties;
    int32_t *ring;     /* [penalty_last] */
    id_tally *tallies; /* [penalty_last] */
    uint32_t n_ring, ring_next, n_tallies;

    entry *entries; /* [n_entries], a draw's work memory */
    uint32_t n_entries;
};

#endif
