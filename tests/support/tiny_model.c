#include "support/tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct build {
    const tiny_model *t;
    gguf_writer *w;
    const char *arch;
    uint64_t random;
} build;

void tiny_model_defaults(tiny_model *t, uint32_t family)
{
    *t = (tiny_model){ .family = family,
                       .n_layers = 4,
                       .n_embd = 64,
                       .n_head = 2,
                       .n_kv = 1,
                       .n_ff = 96,
                       .n_vocab = TINY_VOCAB_MIN,
                       .window = 64,
                       .ctx = 512,
                       .head = 32,
                       .pattern = 2,
                       .eps = 1e-6f,
                       .type = GM_Q8_0,
                       .table_type = GM_Q8_0,
                       .seed = 1 };
    if (family != 4) return;
    t->n_ple = 32;
    t->n_shared = 2;
    t->n_used = 2;
    t->n_ff_expert = 32;
}

static bool skipped(const build *b, const char *name)
{
    for (int i = 0; i < TINY_SKIPS; i++)
        if (b->t->skip[i] && strcmp(b->t->skip[i], name) == 0) return true;
    return false;
}

static bool is_sliding(const tiny_model *t, uint32_t layer) { return !t->pattern || (layer + 1) % t->pattern; }

/* ---- keys ---- */

static const char *key_of(const build *b, const char *name)
{
    static char key[128];
    snprintf(key, sizeof key, "%s.%s", b->arch, name);
    return key;
}

static void put_u32(build *b, const char *name, uint32_t value)
{
    const char *key = key_of(b, name);
    if (!skipped(b, key)) gguf_put_u32(b->w, key, value);
}

static void put_f32(build *b, const char *name, float value)
{
    const char *key = key_of(b, name);
    if (!skipped(b, key)) gguf_put_f32(b->w, key, value);
}

static void put_pattern(build *b)
{
    uint8_t sliding[64] = { 0 };
    const char *key = key_of(b, "attention.sliding_window_pattern");
    for (uint32_t i = 0; i < b->t->n_layers; i++) sliding[i] = is_sliding(b->t, i);
    if (!skipped(b, key)) gguf_put_array(b->w, key, GM_GGUF_BOOL, sliding, b->t->n_layers);
}

static void put_keys(build *b)
{
    const tiny_model *t = b->t;
    uint32_t global = t->family == 4 ? 2 * t->head : t->head;
    if (!skipped(b, "general.architecture")) gguf_put_string(b->w, "general.architecture", b->arch);
    gguf_put_string(b->w, "general.name", "tiny");
    put_u32(b, "block_count", t->n_layers);
    put_u32(b, "context_length", t->ctx);
    put_u32(b, "embedding_length", t->n_embd);
    put_u32(b, "feed_forward_length", t->n_ff);
    put_u32(b, "attention.head_count", t->n_head);
    put_u32(b, "attention.head_count_kv", t->n_kv);
    put_u32(b, "attention.key_length", global);
    put_u32(b, "attention.value_length", global);
    put_f32(b, "attention.layer_norm_rms_epsilon", t->eps);
    put_u32(b, "attention.sliding_window", t->window);
    put_f32(b, "rope.freq_base", 1e6f);
    if (t->rope_factor > 0) put_f32(b, "rope.scaling.factor", t->rope_factor);
    put_pattern(b);
    if (t->family != 4) return;
    put_u32(b, "attention.key_length_swa", t->head);
    put_u32(b, "attention.value_length_swa", t->head);
    put_u32(b, "attention.shared_kv_layers", t->n_shared);
    put_u32(b, "embedding_length_per_layer_input", t->n_ple);
    put_f32(b, "final_logit_softcapping", 30.0f);
    put_f32(b, "rope.freq_base_swa", 1e4f);
    if (t->n_expert == 0) return;
    put_u32(b, "expert_count", t->n_expert);
    put_u32(b, "expert_used_count", t->n_used);
    put_u32(b, "expert_feed_forward_length", t->n_ff_expert);
}

/* ---- vocabulary ---- */

enum { TEXT_BYTES = 24 };
#define SPACE "\xe2\x96\x81" /* U+2581 */

typedef struct piece {
    const char *left, *right;
} piece;
/* Longer pieces in the order of their merges; parts are letters or earlier pieces. */
static const piece pieces[] = { { "h", "e" },   { "t", "he" },  { SPACE, "the" }, { "i", "n" },
                                { "a", "n" },   { "an", "d" },  { SPACE, "and" }, { "e", "r" },
                                { SPACE, "a" }, { "o", "n" },   { "l", "l" },     { "he", "ll" },
                                { "o", "r" },   { SPACE, "w" }, { "or", "d" },    { "in", "g" } };
enum { N_PIECES = sizeof pieces / sizeof *pieces, FIRST_PIECE = TINY_ASCII + 95 };

static int32_t make_token(const tiny_model *t, uint32_t i, char text[TEXT_BYTES])
{
    static const char *const special[2][TINY_BYTES] = { { "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>",
                                                          "<end_of_turn>" },
                                                        { "<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>" } };
    if (i >= t->n_vocab - t->n_padding) {
        snprintf(text, TEXT_BYTES, "[PAD%u]", i);
        return 5;
    }
    if (i < TINY_BYTES) {
        snprintf(text, TEXT_BYTES, "%s", special[t->family == 4][i]);
        return i == TINY_UNK ? 2 : 3;
    }
    if (i < TINY_ASCII) {
        snprintf(text, TEXT_BYTES, "<0x%02X>", i - TINY_BYTES);
        return 6;
    }
    if (i == TINY_ASCII)
        snprintf(text, TEXT_BYTES, SPACE);
    else if (i < FIRST_PIECE)
        snprintf(text, TEXT_BYTES, "%c", (char)(' ' + (i - TINY_ASCII)));
    else if (i < FIRST_PIECE + N_PIECES)
        snprintf(text, TEXT_BYTES, "%s%s", pieces[i - FIRST_PIECE].left, pieces[i - FIRST_PIECE].right);
    else
        snprintf(text, TEXT_BYTES, "<unused%u>", i - FIRST_PIECE - N_PIECES);
    return 1;
}

static void put_merges(build *b)
{
    char text[N_PIECES][TEXT_BYTES];
    const char *texts[N_PIECES];
    for (int i = 0; i < N_PIECES; i++) {
        snprintf(text[i], TEXT_BYTES, "%s %s", pieces[i].left, pieces[i].right);
        texts[i] = text[i];
    }
    gguf_put_strings(b->w, "tokenizer.ggml.merges", texts, N_PIECES);
}

static void put_vocabulary(build *b)
{
    uint32_t n = b->t->n_vocab;
    char(*text)[TEXT_BYTES] = calloc(n, sizeof *text);
    const char **texts = calloc(n, sizeof *texts);
    float *scores = calloc(n, sizeof *scores);
    int32_t *types = calloc(n, sizeof *types);
    for (uint32_t i = 0; i < n; i++) {
        types[i] = make_token(b->t, i, text[i]);
        texts[i] = text[i];
        scores[i] = types[i] == 1 ? -(float)i : -1000.0f;
    }
    gguf_put_string(b->w, "tokenizer.ggml.model", b->t->family == 4 ? "gemma4" : "llama");
    if (!skipped(b, "tokenizer.ggml.tokens")) gguf_put_strings(b->w, "tokenizer.ggml.tokens", texts, n);
    gguf_put_array(b->w, "tokenizer.ggml.scores", GM_GGUF_F32, scores, n);
    gguf_put_array(b->w, "tokenizer.ggml.token_type", GM_GGUF_I32, types, n);
    if (b->t->family == 4) put_merges(b);
    gguf_put_u32(b->w, "tokenizer.ggml.bos_token_id", TINY_BOS);
    gguf_put_u32(b->w, "tokenizer.ggml.eos_token_id", TINY_EOS);
    gguf_put_u32(b->w, "tokenizer.ggml.unknown_token_id", TINY_UNK);
    gguf_put_u32(b->w, "tokenizer.ggml.padding_token_id", TINY_PAD);
    gguf_put_bool(b->w, "tokenizer.ggml.add_space_prefix", false);
    free(text);
    free(texts);
    free(scores);
    free(types);
}

/* ---- tensors ---- */

/* Uniform in -1 … 1. */
static float draw(build *b)
{
    uint64_t z = b->random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (float)((z ^ z >> 31) >> 40) * 0x1p-23f - 1.0f;
}

static void put_tensor(build *b, const char *name, uint32_t type, uint32_t n_dims, const uint64_t ne[3], float middle,
                       float spread)
{
    uint64_t n = ne[0];
    for (uint32_t i = 1; i < n_dims; i++) n *= ne[i];
    float *values = malloc(n * sizeof *values);
    for (uint64_t i = 0; i < n; i++) values[i] = middle + spread * draw(b); /* drawn for skipped ones too */
    if (!skipped(b, name)) gguf_put_tensor_f32(b->w, name, type, n_dims, ne, values);
    free(values);
}

/* Scales of NVFP4 that keep the size of what goes through it; the other bytes are random. */
static void scale_nvfp4(uint8_t *blocks, uint64_t n)
{
    enum { BLOCK = 36, SCALES = 4 };
    for (uint64_t i = 0; i < n; i++)
        if (i % BLOCK < SCALES) blocks[i] = (uint8_t)(0x0c + blocks[i] % 8);
}

/* The scale of a block: an f16, but for MXFP4, whose is a power of two. */
static void set_scale(uint32_t type, uint8_t *block, float d)
{
    uint16_t half = gm_f16_from_f32(d);
    if (type == GM_MXFP4) {
        block[0] = (uint8_t)(128 + lroundf(log2f(d)));
        return;
    }
    if (type == GM_IQ1_M) { /* in the top nibbles of four scales */
        for (int j = 0; j < 4; j++) block[49 + 2 * j] = (uint8_t)((block[49 + 2 * j] & 15) | (half >> 4 * j & 15) << 4);
        return;
    }
    uint8_t *at = block + (type == GM_TQ1_0 ? 52 : type == GM_TQ2_0 ? 64 : 0);
    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}

/* The same for types with one scale a block. */
static void scale_blocks(build *b, const gm_format *f, uint8_t *blocks, uint64_t n_blocks, uint64_t n_in)
{
    float values[256];
    double squares = 0;
    for (uint64_t i = 0; i < n_blocks; i++) {
        set_scale(f->type, blocks + i * f->block_bytes, 1);
        f->unpack(blocks + i * f->block_bytes, values, 1);
        for (uint32_t j = 0; j < f->block; j++) squares += (double)values[j] * (double)values[j];
    }
    float d = (float)sqrt((double)(n_blocks * f->block) / squares / (double)n_in);
    for (uint64_t i = 0; i < n_blocks; i++) set_scale(f->type, blocks + i * f->block_bytes, d * (1 + 0.5f * draw(b)));
}

/* Of a matrix called X.weight. Experts' down has them anyway. */
static bool has_factors(const build *b, const char *name, uint32_t type)
{
    return b->t->factors && type == GM_NVFP4 && !strstr(name, "ffn_down_exps");
}

static void put_factors(build *b, const char *name, const float *factors, uint64_t n)
{
    char scale[96];
    snprintf(scale, sizeof scale, "%.*s.scale", (int)(strlen(name) - strlen(".weight")), name);
    if (!skipped(b, scale)) gguf_put_tensor_f32(b->w, scale, GM_F32, 1, &n, factors);
}

static void put_as_q8_0(build *b, const char *name, const gm_format *f, uint32_t n_dims, const uint64_t ne[3],
                        const uint8_t *blocks, const float *factors)
{
    uint64_t n = ne[0] * ne[1], n_bytes = n / 32 * sizeof(gm_block_q8_0);
    uint8_t *made = malloc(n_bytes * ne[2]);
    for (uint64_t i = 0; i < ne[2]; i++)
        gm_requant_q8_0(f, blocks + i * gm_row_bytes(f, n), factors ? factors[i] : 1,
                        (gm_block_q8_0 *)(void *)(made + i * n_bytes), n);
    gguf_put_tensor(b->w, name, GM_Q8_0, n_dims, ne, made, n_bytes * ne[2]);
    free(made);
}

/* What no one packs: random blocks with scales that keep the size of what goes through them. */
static void put_blocks(build *b, const char *name, uint32_t type, uint32_t n_dims, const uint64_t ne[3])
{
    const gm_format *f = gm_format_of(type);
    uint64_t n_blocks = ne[0] / f->block * ne[1] * ne[2], n = n_blocks * f->block_bytes;
    uint8_t *blocks = malloc(n);
    float *factors = has_factors(b, name, type) ? malloc(ne[2] * sizeof *factors) : NULL;
    for (uint64_t i = 0; i < n; i++) blocks[i] = (uint8_t)(127.5f * (draw(b) + 1));
    if (type == GM_NVFP4)
        scale_nvfp4(blocks, n);
    else
        scale_blocks(b, f, blocks, n_blocks, ne[0]);
    for (uint64_t i = 0; factors && i < ne[2]; i++) factors[i] = 1.0f + 0.5f * draw(b);
    if (b->t->as_q8_0) {
        put_as_q8_0(b, name, f, n_dims, ne, blocks, factors);
    } else {
        if (!skipped(b, name)) gguf_put_tensor(b->w, name, type, n_dims, ne, blocks, n);
        if (factors) put_factors(b, name, factors, ne[2]);
    }
    free(blocks);
    free(factors);
}

/* Keeps the size of what goes through it. */
static void put_matrix(build *b, const char *name, uint32_t type, uint64_t n_in, uint64_t n_out, uint64_t n_matrix)
{
    uint64_t ne[3] = { n_in, n_out, n_matrix };
    if (gm_format_of(type)->pack)
        put_tensor(b, name, type, n_matrix > 1 ? 3 : 2, ne, 0.0f, sqrtf(3.0f / (float)n_in));
    else
        put_blocks(b, name, type, n_matrix > 1 ? 3 : 2, ne);
}

static void put_vector(build *b, const char *name, uint64_t n) /* a norm */
{
    put_tensor(b, name, GM_F32, 1, (uint64_t[3]){ n }, 1.0f, 0.2f);
}

static const char *in_layer(uint32_t layer, const char *name)
{
    static char full[96];
    snprintf(full, sizeof full, "blk.%u.%s", layer, name);
    return full;
}

static uint32_t head_of(const tiny_model *t, uint32_t i)
{
    return t->family == 4 && !is_sliding(t, i) ? 2 * t->head : t->head;
}

static void put_attention(build *b, uint32_t i)
{
    const tiny_model *t = b->t;
    bool sliding = is_sliding(t, i), owns = i < t->n_layers - t->n_shared;
    uint32_t head = head_of(t, i), q = t->n_head * head, kv = t->n_kv * head;
    if (t->fused_qkv) {
        put_matrix(b, in_layer(i, "attn_qkv.weight"), t->type, t->n_embd, q + 2 * kv, 1);
    } else {
        put_matrix(b, in_layer(i, "attn_q.weight"), t->type, t->n_embd, q, 1);
        if (owns) put_matrix(b, in_layer(i, "attn_k.weight"), t->type, t->n_embd, kv, 1);
        if (owns && !(t->k_as_v && !sliding)) put_matrix(b, in_layer(i, "attn_v.weight"), t->type, t->n_embd, kv, 1);
    }
    put_vector(b, in_layer(i, "attn_q_norm.weight"), head);
    if (owns) put_vector(b, in_layer(i, "attn_k_norm.weight"), head);
    put_matrix(b, in_layer(i, "attn_output.weight"), t->type, q, t->n_embd, 1);
}

static void put_experts(build *b, uint32_t i)
{
    const tiny_model *t = b->t;
    put_matrix(b, in_layer(i, "ffn_gate_inp.weight"), GM_F32, t->n_embd, t->n_expert, 1);
    put_vector(b, in_layer(i, "ffn_gate_inp.scale"), t->n_embd);
    if (t->split_experts) {
        put_matrix(b, in_layer(i, "ffn_gate_exps.weight"), t->type, t->n_embd, t->n_ff_expert, t->n_expert);
        put_matrix(b, in_layer(i, "ffn_up_exps.weight"), t->type, t->n_embd, t->n_ff_expert, t->n_expert);
    } else {
        put_matrix(b, in_layer(i, "ffn_gate_up_exps.weight"), t->type, t->n_embd, 2 * t->n_ff_expert, t->n_expert);
    }
    put_matrix(b, in_layer(i, "ffn_down_exps.weight"), t->type, t->n_ff_expert, t->n_embd, t->n_expert);
    put_vector(b, in_layer(i, "ffn_down_exps.scale"), t->n_expert);
    put_vector(b, in_layer(i, "pre_ffw_norm_2.weight"), t->n_embd);
    put_vector(b, in_layer(i, "post_ffw_norm_1.weight"), t->n_embd);
    put_vector(b, in_layer(i, "post_ffw_norm_2.weight"), t->n_embd);
}

static void put_layer(build *b, uint32_t i)
{
    const tiny_model *t = b->t;
    put_vector(b, in_layer(i, "attn_norm.weight"), t->n_embd);
    put_attention(b, i);
    put_vector(b, in_layer(i, "post_attention_norm.weight"), t->n_embd);
    put_vector(b, in_layer(i, "ffn_norm.weight"), t->n_embd);
    put_matrix(b, in_layer(i, "ffn_gate.weight"), t->type, t->n_embd, t->n_ff, 1);
    put_matrix(b, in_layer(i, "ffn_up.weight"), t->type, t->n_embd, t->n_ff, 1);
    put_matrix(b, in_layer(i, "ffn_down.weight"), t->type, t->n_ff, t->n_embd, 1);
    put_vector(b, in_layer(i, "post_ffw_norm.weight"), t->n_embd);
    if (t->family != 4) return;
    put_vector(b, in_layer(i, "layer_output_scale.weight"), 1);
    if (t->n_ple) {
        put_matrix(b, in_layer(i, "inp_gate.weight"), t->type, t->n_embd, t->n_ple, 1);
        put_matrix(b, in_layer(i, "proj.weight"), t->type, t->n_ple, t->n_embd, 1);
        put_vector(b, in_layer(i, "post_norm.weight"), t->n_embd);
    }
    if (t->n_expert) put_experts(b, i);
}

/* Keys and values of layers that read others'. */
static void put_unread_kv(build *b)
{
    const tiny_model *t = b->t;
    for (uint32_t i = t->n_layers - t->n_shared; i < t->n_layers; i++) {
        uint32_t head = head_of(t, i);
        put_matrix(b, in_layer(i, "attn_k.weight"), t->type, t->n_embd, t->n_kv * head, 1);
        put_matrix(b, in_layer(i, "attn_v.weight"), t->type, t->n_embd, t->n_kv * head, 1);
        put_vector(b, in_layer(i, "attn_k_norm.weight"), head);
    }
}

static void put_rope_freqs(build *b)
{
    uint64_t n = b->t->head; /* half a global head */
    float *freqs = malloc(n * sizeof *freqs);
    for (uint64_t i = 0; i < n; i++) freqs[i] = i < n / 4 ? 1.0f : 1e30f;
    if (!skipped(b, "rope_freqs.weight")) gguf_put_tensor_f32(b->w, "rope_freqs.weight", GM_F32, 1, &n, freqs);
    free(freqs);
}

gguf_writer *tiny_model_write(const tiny_model *t)
{
    build b = { t, gguf_writer_create(), t->family == 4 ? "gemma4" : "gemma3", t->seed };
    put_keys(&b);
    put_vocabulary(&b);
    put_matrix(&b, "token_embd.weight", t->table_type, t->n_embd, t->n_vocab, 1);
    if (t->untied) put_matrix(&b, "output.weight", t->type, t->n_embd, t->n_vocab, 1);
    put_vector(&b, "output_norm.weight", t->n_embd);
    if (t->family == 4) put_rope_freqs(&b);
    if (t->family == 4 && t->n_ple) {
        uint64_t width = t->n_layers * t->n_ple;
        put_matrix(&b, "per_layer_token_embd.weight", t->table_type, width, t->n_vocab, 1);
        put_matrix(&b, "per_layer_model_proj.weight", GM_F32, t->n_embd, width, 1);
        put_vector(&b, "per_layer_proj_norm.weight", t->n_ple);
    }
    for (uint32_t i = 0; i < t->n_layers; i++) put_layer(&b, i);
    if (t->unread_kv) put_unread_kv(&b);
    return b.w;
}
