#include "models/synth_model.h"

#include <stdlib.h>

static const char *architecture(const synth_model *m) { return m->shape.family == 4 ? "gemma4" : "gemma3"; }

static const char *key_of(const synth_model *m, const char *name)
{
    static char key[96];
    snprintf(key, sizeof key, "%s.%s", architecture(m), name);
    return key;
}

static void put_u32(const synth_model *m, gguf_writer *w, const char *name, uint32_t value)
{
    gguf_put_u32(w, key_of(m, name), value);
}

static void put_f32(const synth_model *m, gguf_writer *w, const char *name, float value)
{
    gguf_put_f32(w, key_of(m, name), value);
}

/* One number for all layers, or an array where they differ. */
static void put_layers(const synth_model *m, gguf_writer *w, const char *name,
                       uint32_t (*value)(const synth_shape *s, uint32_t layer))
{
    int32_t values[64];
    bool same = true;
    for (uint32_t i = 0; i < m->shape.n_layers; i++) {
        values[i] = (int32_t)value(&m->shape, i);
        same = same && values[i] == values[0];
    }
    if (same)
        put_u32(m, w, name, (uint32_t)values[0]);
    else
        gguf_put_array(w, key_of(m, name), GM_GGUF_I32, values, m->shape.n_layers);
}

static void put_gemma4_keys(const synth_model *m, gguf_writer *w)
{
    const synth_shape *s = &m->shape;
    uint8_t sliding[64];
    for (uint32_t i = 0; i < s->n_layers; i++) sliding[i] = synth_is_sliding(s, i);
    gguf_put_array(w, key_of(m, "attention.sliding_window_pattern"), GM_GGUF_BOOL, sliding, s->n_layers);
    put_u32(m, w, "attention.key_length_swa", s->head_sliding);
    put_u32(m, w, "attention.value_length_swa", s->head_sliding);
    put_u32(m, w, "attention.shared_kv_layers", s->n_shared);
    put_u32(m, w, "embedding_length_per_layer_input", s->n_ple);
    put_f32(m, w, "final_logit_softcapping", 30);
    put_f32(m, w, "rope.freq_base_swa", 1e4f);
    put_u32(m, w, "rope.dimension_count", s->head_global);
    put_u32(m, w, "rope.dimension_count_swa", s->head_sliding);
    if (!s->n_expert) return;
    put_u32(m, w, "expert_count", s->n_expert);
    put_u32(m, w, "expert_used_count", s->n_used);
    put_u32(m, w, "expert_feed_forward_length", s->n_ff_expert);
}

static void put_keys(const synth_model *m, gguf_writer *w)
{
    const synth_shape *s = &m->shape;
    char name[64];
    snprintf(name, sizeof name, "synthetic %s", s->name);
    gguf_put_string(w, "general.architecture", architecture(m));
    gguf_put_string(w, "general.name", name);
    gguf_put_u32(w, "general.file_type", m->mix->file_type);
    put_u32(m, w, "block_count", s->n_layers);
    put_u32(m, w, "context_length", s->ctx);
    put_u32(m, w, "embedding_length", s->n_embd);
    put_layers(m, w, "feed_forward_length", synth_ff);
    put_u32(m, w, "attention.head_count", s->n_head);
    put_layers(m, w, "attention.head_count_kv", synth_kv);
    put_u32(m, w, "attention.key_length", s->head_global);
    put_u32(m, w, "attention.value_length", s->head_global);
    put_f32(m, w, "attention.layer_norm_rms_epsilon", 1e-6f);
    put_u32(m, w, "attention.sliding_window", s->window);
    put_f32(m, w, "rope.freq_base", 1e6f);
    if (s->family == 4) put_gemma4_keys(m, w);
    if (s->linear_factor == 1) return;
    gguf_put_string(w, key_of(m, "rope.scaling.type"), "linear");
    put_f32(m, w, "rope.scaling.factor", s->linear_factor);
}

uint64_t synth_data_bytes(const synth_model *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->n_tensors; i++) n += gm_align_up(m->tensors[i].n_bytes, SYNTH_ALIGNMENT);
    return n;
}

/* The writer counts offsets by the data it holds: tensors without data are given the offsets that theirs would have. */
const uint8_t *synth_header(const synth_model *m, gguf_writer *w, size_t *n_bytes)
{
    put_keys(m, w);
    uint64_t offset = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const synth_tensor *t = &m->tensors[i];
        gguf_put_tensor_at(w, t->name, t->type, t->n_dims, t->ne, offset);
        offset += gm_align_up(t->n_bytes, SYNTH_ALIGNMENT);
    }
    return gguf_writer_finish(w, n_bytes);
}

bool synth_write_hole(FILE *f, uint64_t n)
{
    for (uint64_t left = n - 1; left > 0;) {
        uint64_t step = gm_min_u64(left, 1u << 30); /* that a long holds everywhere */
        if (fseek(f, (long)step, SEEK_CUR) != 0) return false;
        left -= step;
    }
    return fputc(0, f) == 0;
}
