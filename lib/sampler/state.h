/* What a sampler holds; private to lib/sampler. */
#ifndef GM_SAMPLER_STATE_H
#define GM_SAMPLER_STATE_H

#include "sampler/sampler.h"

/* Rows in ascending order of id, each id once. */
typedef struct id_value {
    int32_t id;
    float value;
} id_value;
typedef struct id_table {
    id_value *rows;
    uint32_t n;
} id_table;

typedef struct entry {
    float logit;
    int32_t id;
} entry;

struct gm_sampler {
    gm_mem *mem;
    gemma_sampler_options options; /* checked, defaults filled in */
    gm_rng rng;

    id_table biases; /* [biases_cap] */
    uint32_t biases_cap;

    /* The last penalty_last accepted ids, and how often each is among them; only kept when penalties are on. */
    bool penalties;
    int32_t *ring;    /* [penalty_last] */
    id_table tallies; /* [penalty_last] */
    uint32_t n_ring, ring_next;

    entry *entries; /* [n_entries], a draw's work memory */
    uint32_t n_entries;
};

#endif
