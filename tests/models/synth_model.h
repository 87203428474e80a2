/* What synth_plan.c and synth_header.c share: a model's shape. */
#ifndef SYNTH_MODEL_H
#define SYNTH_MODEL_H

#include "models/synth.h"

typedef struct synth_shape {
    const char *name;
    uint32_t family, n_layers, n_embd, n_head, n_kv_sliding, n_kv_global, head_sliding, head_global, n_ff;
    uint32_t window, ctx, pattern, n_ple, n_shared, wide_shared; /* pattern: every so many layers one is global */
    uint32_t n_expert, n_used, n_ff_expert;
    bool k_as_v;         /* global layers take V from the K projection */
    float linear_factor; /* of the rotary angles of global layers */
} synth_shape;

/* The types that llama-quantize gives: `more` to some attn_v and ffn_down, `table` to the embedding tables. */
typedef struct synth_mix {
    const char *name;
    uint32_t most, more, table, file_type;
} synth_mix;

struct synth_model {
    synth_shape shape;
    const synth_mix *mix;
    uint64_t n_vocab;
    uint32_t n_attn_v, attn_v; /* attn_v tensors in all, and how many came before */
    synth_tensor *tensors;
    size_t n_tensors, capacity;
};

static inline bool synth_is_sliding(const synth_shape *s, uint32_t layer) { return (layer + 1) % s->pattern != 0; }
static inline uint32_t synth_kv(const synth_shape *s, uint32_t layer)
{
    return synth_is_sliding(s, layer) ? s->n_kv_sliding : s->n_kv_global;
}
static inline uint32_t synth_ff(const synth_shape *s, uint32_t layer)
{
    return s->n_shared && layer >= s->n_layers - s->n_shared ? s->n_ff * s->wide_shared : s->n_ff;
}

#endif
