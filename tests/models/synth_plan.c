#include "models/synth_model.h"

#include <math.h>
#include <stdlib.h>

#define GEMMA4 .family = 4, .head_sliding = 256, .head_global = 512, .linear_factor = 1
#define GEMMA3 .family = 3, .pattern = 6
static const synth_shape shapes[] = {
    { .name = "gemma4-e2b",
      GEMMA4,
      .n_layers = 35,
      .n_embd = 1536,
      .n_head = 8,
      .n_kv_sliding = 1,
      .n_kv_global = 1,
      .n_ff = 6144,
      .window = 512,
      .ctx = 131072,
      .pattern = 5,
      .n_ple = 256,
      .n_shared = 20,
      .wide_shared = 2 },
    { .name = "gemma4-e4b",
      GEMMA4,
      .n_layers = 42,
      .n_embd = 2560,
      .n_head = 8,
      .n_kv_sliding = 2,
      .n_kv_global = 2,
      .n_ff = 10240,
      .window = 512,
      .ctx = 131072,
      .pattern = 6,
      .n_ple = 256,
      .n_shared = 18,
      .wide_shared = 1 },
    { .name = "gemma4-12b",
      GEMMA4,
      .n_layers = 48,
      .n_embd = 3840,
      .n_head = 16,
      .n_kv_sliding = 8,
      .n_kv_global = 1,
      .n_ff = 15360,
      .window = 1024,
      .ctx = 262144,
      .pattern = 6,
      .k_as_v = true },
    { .name = "gemma4-26b-a4b",
      GEMMA4,
      .n_layers = 30,
      .n_embd = 2816,
      .n_head = 16,
      .n_kv_sliding = 8,
      .n_kv_global = 2,
      .n_ff = 2112,
      .window = 1024,
      .ctx = 262144,
      .pattern = 6,
      .k_as_v = true,
      .n_expert = 128,
      .n_used = 8,
      .n_ff_expert = 704 },
    { .name = "gemma4-31b",
      GEMMA4,
      .n_layers = 60,
      .n_embd = 5376,
      .n_head = 32,
      .n_kv_sliding = 16,
      .n_kv_global = 4,
      .n_ff = 21504,
      .window = 1024,
      .ctx = 262144,
      .pattern = 6,
      .k_as_v = true },
    { .name = "gemma3-270m",
      GEMMA3,
      .n_layers = 18,
      .n_embd = 640,
      .n_head = 4,
      .n_kv_sliding = 1,
      .n_kv_global = 1,
      .head_sliding = 256,
      .head_global = 256,
      .n_ff = 2048,
      .window = 512,
      .ctx = 32768,
      .linear_factor = 1 },
    { .name = "gemma3-1b",
      GEMMA3,
      .n_layers = 26,
      .n_embd = 1152,
      .n_head = 4,
      .n_kv_sliding = 1,
      .n_kv_global = 1,
      .head_sliding = 256,
      .head_global = 256,
      .n_ff = 6912,
      .window = 512,
      .ctx = 32768,
      .linear_factor = 1 },
    { .name = "gemma3-4b",
      GEMMA3,
      .n_layers = 34,
      .n_embd = 2560,
      .n_head = 8,
      .n_kv_sliding = 4,
      .n_kv_global = 4,
      .head_sliding = 256,
      .head_global = 256,
      .n_ff = 10240,
      .window = 1024,
      .ctx = 131072,
      .linear_factor = 8 },
    { .name = "gemma3-12b",
      GEMMA3,
      .n_layers = 48,
      .n_embd = 3840,
      .n_head = 16,
      .n_kv_sliding = 8,
      .n_kv_global = 8,
      .head_sliding = 256,
      .head_global = 256,
      .n_ff = 15360,
      .window = 1024,
      .ctx = 131072,
      .linear_factor = 8 },
    { .name = "gemma3-27b",
      GEMMA3,
      .n_layers = 62,
      .n_embd = 5376,
      .n_head = 32,
      .n_kv_sliding = 16,
      .n_kv_global = 16,
      .head_sliding = 128,
      .head_global = 128,
      .n_ff = 21504,
      .window = 1024,
      .ctx = 131072,
      .linear_factor = 8 },
};

static const synth_mix mixes[] = {
    { "Q4_0", GM_Q4_0, GM_Q4_0, GM_Q6_K, 2 },  { "Q4_K_M", GM_Q4_K, GM_Q6_K, GM_Q6_K, 15 },
    { "Q6_K", GM_Q6_K, GM_Q6_K, GM_Q6_K, 18 }, { "Q8_0", GM_Q8_0, GM_Q8_0, GM_Q8_0, 7 },
    { "BF16", GM_BF16, GM_BF16, GM_BF16, 32 },
};

const char *synth_size_name(size_t i) { return i < GM_COUNT(shapes) ? shapes[i].name : NULL; }
const char *synth_mix_name(size_t i) { return i < GM_COUNT(mixes) ? mixes[i].name : NULL; }
size_t synth_n_tensors(const synth_model *m) { return m->n_tensors; }
const synth_tensor *synth_tensor_at(const synth_model *m, size_t i) { return &m->tensors[i]; }

uint64_t synth_tensor_bytes(const synth_model *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n_tensors; i++) sum += m->tensors[i].n_bytes;
    return sum;
}

/* ---- tensors ---- */

static bool has_attn_v(const synth_shape *s, uint32_t layer) { return synth_is_sliding(s, layer) || !s->k_as_v; }

static synth_tensor *add(synth_model *m, const char *name, uint32_t type, uint32_t n_dims, const uint64_t ne[3])
{
    if (m->n_tensors == m->capacity) {
        m->capacity = 2 * m->capacity + 64;
        m->tensors = realloc(m->tensors, m->capacity * sizeof *m->tensors);
        if (!m->tensors) abort();
    }
    synth_tensor *t = &m->tensors[m->n_tensors++];
    *t = (synth_tensor){ .type = type, .n_dims = n_dims, .ne = { 1, 1, 1 } };
    snprintf(t->name, sizeof t->name, "%s", name);
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++) n *= t->ne[i] = ne[i];
    t->n_bytes = gm_row_bytes(gm_format_of(type), n);
    return t;
}

/* What a row of n_in elements is stored as, where it is no multiple of a type's block. */
static uint32_t fitting(uint32_t type, uint64_t n_in)
{
    if (n_in % gm_format_of(type)->block == 0) return type;
    return type == GM_Q4_K ? GM_Q5_0 : GM_Q8_0; /* Q6_K */
}

/* Products keep the size of what goes in. */
static void add_matrix(synth_model *m, const char *name, uint32_t type, uint64_t n_in, uint64_t n_out,
                       uint64_t n_matrix)
{
    synth_tensor *t = add(m, name, fitting(type, n_in), n_matrix > 1 ? 3 : 2, (uint64_t[3]){ n_in, n_out, n_matrix });
    t->size = 1 / sqrtf((float)n_in);
}

static void add_vector(synth_model *m, const char *name, uint64_t n, float size)
{
    synth_tensor *t = add(m, name, GM_F32, 1, (uint64_t[3]){ n, 1, 1 });
    t->fill = SYNTH_NORM;
    t->size = size;
}

/* Tensor i of n of a kind gets the better type at both ends and in one of three places between. */
static uint32_t type_of(const synth_model *m, uint32_t i, uint32_t n)
{
    bool better = i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    return better ? m->mix->more : m->mix->most;
}

static const char *in_layer(uint32_t layer, const char *name)
{
    static char full[65];
    snprintf(full, sizeof full, "blk.%u.%s", layer, name);
    return full;
}

static void add_attention(synth_model *m, uint32_t i)
{
    const synth_shape *s = &m->shape;
    uint32_t type = m->mix->most, head = synth_is_sliding(s, i) ? s->head_sliding : s->head_global;
    uint64_t q = (uint64_t)s->n_head * head, kv = (uint64_t)synth_kv(s, i) * head;
    add_vector(m, in_layer(i, "attn_norm.weight"), s->n_embd, 1);
    add_matrix(m, in_layer(i, "attn_q.weight"), type, s->n_embd, q, 1);
    add_matrix(m, in_layer(i, "attn_k.weight"), type, s->n_embd, kv, 1);
    if (has_attn_v(s, i))
        add_matrix(m, in_layer(i, "attn_v.weight"), type_of(m, m->attn_v++, m->n_attn_v), s->n_embd, kv, 1);
    float norm =
        s->family == 4 ? powf((float)head, -0.25f) : 1; /* scores of size 1, though Gemma 4 divides by nothing */
    add_vector(m, in_layer(i, "attn_q_norm.weight"), head, norm);
    add_vector(m, in_layer(i, "attn_k_norm.weight"), head, norm);
    add_matrix(m, in_layer(i, "attn_output.weight"), type, q, s->n_embd, 1);
    add_vector(m, in_layer(i, "post_attention_norm.weight"), s->n_embd, 1);
}

static void add_experts(synth_model *m, uint32_t i)
{
    const synth_shape *s = &m->shape;
    add_matrix(m, in_layer(i, "ffn_gate_inp.weight"), GM_F32, s->n_embd, s->n_expert, 1);
    /* The router divides by the root of the width: this makes logits of size 1. */
    add_vector(m, in_layer(i, "ffn_gate_inp.scale"), s->n_embd, sqrtf((float)s->n_embd));
    add_matrix(m, in_layer(i, "ffn_gate_up_exps.weight"), m->mix->most, s->n_embd, 2 * s->n_ff_expert, s->n_expert);
    add_matrix(m, in_layer(i, "ffn_down_exps.weight"), type_of(m, i, s->n_layers), s->n_ff_expert, s->n_embd,
               s->n_expert);
    add_vector(m, in_layer(i, "ffn_down_exps.scale"), s->n_expert, 1);
    add_vector(m, in_layer(i, "pre_ffw_norm_2.weight"), s->n_embd, 1);
    add_vector(m, in_layer(i, "post_ffw_norm_1.weight"), s->n_embd, 1);
    add_vector(m, in_layer(i, "post_ffw_norm_2.weight"), s->n_embd, 1);
}

static void add_layer(synth_model *m, uint32_t i)
{
    const synth_shape *s = &m->shape;
    uint32_t type = m->mix->most, n_ff = synth_ff(s, i);
    add_attention(m, i);
    add_vector(m, in_layer(i, "ffn_norm.weight"), s->n_embd, 1);
    add_matrix(m, in_layer(i, "ffn_gate.weight"), type, s->n_embd, n_ff, 1);
    add_matrix(m, in_layer(i, "ffn_up.weight"), type, s->n_embd, n_ff, 1);
    add_matrix(m, in_layer(i, "ffn_down.weight"), type_of(m, i, s->n_layers), n_ff, s->n_embd, 1);
    add_vector(m, in_layer(i, "post_ffw_norm.weight"), s->n_embd, 1);
    if (s->family != 4) return;
    add_vector(m, in_layer(i, "layer_output_scale.weight"), 1, 1);
    if (s->n_ple) {
        add_matrix(m, in_layer(i, "inp_gate.weight"), type, s->n_embd, s->n_ple, 1);
        add_matrix(m, in_layer(i, "proj.weight"), type, s->n_ple, s->n_embd, 1);
        add_vector(m, in_layer(i, "post_norm.weight"), s->n_embd, 1);
    }
    if (s->n_expert) add_experts(m, i);
}

static void add_tensors(synth_model *m)
{
    const synth_shape *s = &m->shape;
    for (uint32_t i = 0; i < s->n_layers; i++) m->n_attn_v += has_attn_v(s, i);
    add_matrix(m, "token_embd.weight", m->mix->table, s->n_embd, m->n_vocab, 1);
    add_vector(m, "output_norm.weight", s->n_embd, 1);
    if (s->family == 4) add(m, "rope_freqs.weight", GM_F32, 1, (uint64_t[3]){ s->head_global / 2 })->fill = SYNTH_FREQS;
    if (s->n_ple) {
        uint64_t width = (uint64_t)s->n_ple * s->n_layers;
        add_matrix(m, "per_layer_token_embd.weight", m->mix->table, width, m->n_vocab, 1);
        m->tensors[m->n_tensors - 1].size = 1 / sqrtf((float)s->n_ple);
        add_matrix(m, "per_layer_model_proj.weight", GM_BF16, s->n_embd, width, 1);
        add_vector(m, "per_layer_proj_norm.weight", s->n_ple, 1);
    }
    for (uint32_t i = 0; i < s->n_layers; i++) add_layer(m, i);
}

/* Fewer layers, of which as large a part shares as before if a global layer is left before those. */
static void cut(synth_shape *s, uint32_t n_layers)
{
    uint32_t n_shared = s->n_shared * n_layers / s->n_layers;
    s->n_shared = n_layers - n_shared >= s->pattern ? n_shared : 0;
    s->n_layers = n_layers;
}

synth_model *synth_create(const char *size, const char *mix_name, uint32_t n_layers, uint64_t n_vocab)
{
    size_t s = 0, x = 0;
    while (s < GM_COUNT(shapes) && strcmp(shapes[s].name, size) != 0) s++;
    while (x < GM_COUNT(mixes) && strcmp(mixes[x].name, mix_name) != 0) x++;
    if (s == GM_COUNT(shapes) || x == GM_COUNT(mixes) || n_layers > shapes[s].n_layers) return NULL;
    synth_model *m = calloc(1, sizeof *m);
    if (!m) abort();
    m->shape = shapes[s];
    m->mix = &mixes[x];
    m->n_vocab = n_vocab;
    if (n_layers && n_layers < m->shape.n_layers) cut(&m->shape, n_layers);
    add_tensors(m);
    return m;
}

void synth_destroy(synth_model *m)
{
    if (!m) return;
    free(m->tensors);
    free(m);
}
