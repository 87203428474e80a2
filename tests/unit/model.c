/* Tests of lib/model: what a file may say, what the programs look like. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/model.h"
#include "support/fault.h"
#include "support/tiny_model.h"

typedef struct fixture {
    gm_mem mem;
    gguf_writer *w;
    gm_gguf *gguf;
    gm_model *m;
    gemma_error error;
} fixture;

static void open_written(fixture *f, gguf_writer *w)
{
    *f = (fixture){ .w = w, .error = { .size = sizeof f->error } };
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&f->mem, &host);
    size_t n_bytes;
    const uint8_t *bytes = gguf_writer_finish(w, &n_bytes);
    gm_gguf_input input = { .bytes = bytes, .n_bytes = n_bytes };
    if (gm_gguf_open(&f->mem, &input, &f->gguf, &f->error)) fail_msg("%s", f->error.message);
}

static int create(fixture *f, gguf_writer *w)
{
    open_written(f, w);
    return gm_model_create(&f->mem, f->gguf, &f->m, &f->error);
}

static void create_well(fixture *f, const tiny_model *t)
{
    if (create(f, tiny_model_write(t))) fail_msg("%s", f->error.message);
}

static void finish(fixture *f)
{
    gm_model_destroy(f->m);
    gm_gguf_close(f->gguf);
    gguf_writer_destroy(f->w);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

static gm_program *emit(const fixture *f, bool cut)
{
    const gm_format *f16 = gm_format_of(GM_F16);
    gm_program *p;
    gemma_error error = { .size = sizeof error };
    gm_emit_options options = { .max_rows = 8, .cut = cut, .kv_format = { f16, f16 } };
    if (gm_model_emit(f->m, &options, &p, &error)) fail_msg("%s", error.message);
    return p;
}

static uint32_t count(const gm_program *p, gm_op_kind kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) n += p->ops[i].kind == kind;
    return n;
}

static const gm_op *nth_op(const gm_program *p, gm_op_kind kind, uint32_t nth)
{
    for (uint32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == kind && nth-- == 0) return &p->ops[i];
    fail_msg("no such op");
    return NULL;
}

/* ---- files that are wrong in one way ---- */

enum { NOTHING, U32, F32, BOOL, TEXT, U32S, BYTES };

typedef struct bad {
    uint32_t family;
    const char *key; /* left out, then put as follows */
    int put;
    double number;
    const char *text;
    uint32_t n; /* of an array of `number` */
    int code;
    const char *says;
} bad;

static void put(gguf_writer *w, const bad *b)
{
    uint32_t many[64];
    uint8_t bytes[64];
    bool whole = b->number >= 0.0 && b->number <= 4294967295.0;
    for (int i = 0; i < 64; i++) many[i] = whole ? (uint32_t)b->number : 0, bytes[i] = (uint8_t)many[i];
    switch (b->put) {
    case U32: gguf_put_u32(w, b->key, many[0]); break;
    case F32: gguf_put_f32(w, b->key, (float)b->number); break;
    case BOOL: gguf_put_bool(w, b->key, b->number != 0.0); break;
    case TEXT: gguf_put_string(w, b->key, b->text); break;
    case U32S: gguf_put_array(w, b->key, GM_GGUF_U32, many, b->n); break;
    case BYTES: gguf_put_array(w, b->key, GM_GGUF_BOOL, bytes, b->n); break;
    default: break;
    }
}

enum { FORMAT = GEMMA_E_FORMAT, LACKS = GEMMA_E_UNSUPPORTED };

static const bad bads[] = {
    { 3, "general.architecture", NOTHING, 0, NULL, 0, FORMAT, "general.architecture is missing" },
    { 3, "general.architecture", TEXT, 0, "llama", 0, LACKS, "\"llama\"; known are gemma3, gemma4" },
    { 3, "general.architecture", TEXT, 0, "gemma", 0, LACKS, "\"gemma\"; known" },
    { 3, "gemma3.block_count", NOTHING, 0, NULL, 0, FORMAT, "the key gemma3.block_count is missing" },
    { 3, "gemma3.block_count", U32, 0, NULL, 0, FORMAT, "gemma3.block_count is 0, but must be 1 to 512" },
    { 3, "gemma3.block_count", U32, 513, NULL, 0, FORMAT, "is 513" },
    { 3, "gemma3.block_count", TEXT, 0, "4", 0, FORMAT, "gemma3.block_count is not a whole number" },
    { 3, "gemma3.block_count", U32, 5, NULL, 0, FORMAT, "has 4 entries, but the model has 5 layers" },
    { 3, "gemma3.context_length", NOTHING, 0, NULL, 0, FORMAT, "gemma3.context_length is missing" },
    { 3, "gemma3.context_length", U32, 0, NULL, 0, FORMAT, "gemma3.context_length is 0" },
    { 3, "gemma3.embedding_length", NOTHING, 0, NULL, 0, FORMAT, "gemma3.embedding_length is missing" },
    { 3, "gemma3.embedding_length", U32, 4294967295.0, NULL, 0, FORMAT, "gemma3.embedding_length is 4294967295" },
    { 3, "gemma3.embedding_length", U32, 65, NULL, 0, LACKS, "is 65, which is not a multiple of 32" },
    { 3, "gemma3.embedding_length", U32, 96, NULL, 0, FORMAT, "has shape [64], but should have [96]" },
    { 3, "gemma3.feed_forward_length", NOTHING, 0, NULL, 0, FORMAT, "gemma3.feed_forward_length is missing" },
    { 3, "gemma3.feed_forward_length", U32, 128, NULL, 0, FORMAT, "blk.0.ffn_gate.weight has shape [64, 96]" },
    { 3, "gemma3.feed_forward_length", U32S, 96, NULL, 3, FORMAT, "feed_forward_length has 3 entries" },
    { 3, "gemma3.feed_forward_length", U32S, 0, NULL, 4, FORMAT, "gemma3.feed_forward_length[0] is 0" },
    { 3, "gemma3.attention.head_count", NOTHING, 0, NULL, 0, FORMAT, "attention.head_count is missing" },
    { 3, "gemma3.attention.head_count", U32, 0, NULL, 0, FORMAT, "attention.head_count is 0" },
    { 3, "gemma3.attention.head_count", U32, 3, NULL, 0, FORMAT, "blk.0.attn_q.weight has shape [64, 64]" },
    { 3, "gemma3.attention.head_count_kv", U32, 3, NULL, 0, FORMAT, "2 query heads cannot share 3" },
    { 3, "gemma3.attention.head_count_kv", F32, 1, NULL, 0, FORMAT, "head_count_kv is not a whole number" },
    { 3, "gemma3.attention.key_length", U32, 2048, NULL, 0, FORMAT, "key_length is 2048, but must be 1 to 1024" },
    { 3, "gemma3.attention.key_length", U32, 64, NULL, 0, LACKS,
      "key_length is 64, but gemma3.attention.value_length" },
    { 3, "gemma3.attention.layer_norm_rms_epsilon", NOTHING, 0, NULL, 0, FORMAT, "rms_epsilon is missing" },
    { 3, "gemma3.attention.layer_norm_rms_epsilon", F32, (double)NAN, NULL, 0, FORMAT, "rms_epsilon is not from" },
    { 3, "gemma3.attention.layer_norm_rms_epsilon", TEXT, 0, "x", 0, FORMAT, "rms_epsilon is not a number" },
    { 3, "gemma3.attention.sliding_window", U32, 4294967295.0, NULL, 0, FORMAT, "sliding_window is 4294967295" },
    { 3, "gemma3.attention.sliding_window_pattern", BYTES, 1, NULL, 3, FORMAT, "sliding_window_pattern has 3 entries" },
    { 3, "gemma3.attention.sliding_window_pattern", BYTES, 1, NULL, 0, FORMAT, "sliding_window_pattern has 0 entries" },
    { 3, "gemma3.attention.causal", BOOL, 0, NULL, 0, LACKS, "gemma3.attention.causal is false" },
    { 3, "gemma3.attention.shared_kv_layers", U32, 4, NULL, 0, FORMAT, "shared_kv_layers is 4, but must be 0 to 3" },
    { 3, "gemma3.attention.shared_kv_layers", U32, 3, NULL, 0, FORMAT, "no global layer before it has any" },
    { 3, "gemma3.rope.freq_base", F32, 0, NULL, 0, FORMAT, "rope.freq_base is not from" },
    { 3, "gemma3.rope.freq_base", F32, (double)INFINITY, NULL, 0, FORMAT, "rope.freq_base is not from" },
    { 3, "gemma3.rope.dimension_count", U32, 16, NULL, 0, LACKS, "dimension_count is 16, but the heads have 32" },
    { 3, "gemma3.rope.dimension_count_swa", U32, 16, NULL, 0, LACKS, "dimension_count_swa is 16" },
    { 3, "gemma3.rope.scaling.type", TEXT, 0, "yarn", 0, LACKS, "gemma3.rope.scaling.type is \"yarn\"" },
    { 3, "gemma3.rope.scaling.factor", F32, -1, NULL, 0, FORMAT, "rope.scaling.factor is not from" },
    { 3, "tokenizer.ggml.tokens", U32S, 0, NULL, 0, FORMAT, "tokenizer.ggml.tokens is empty" },
    { 4, "gemma4.attention.sliding_window", NOTHING, 0, NULL, 0, FORMAT, "sliding_window is missing" },
    { 4, "gemma4.attention.sliding_window", U32, 0, NULL, 0, FORMAT, "sliding_window is 0" },
    { 4, "gemma4.attention.sliding_window_pattern", NOTHING, 0, NULL, 0, FORMAT, "sliding_window_pattern is missing" },
    { 4, "gemma4.attention.sliding_window_pattern", U32, 2, NULL, 0, FORMAT, "sliding_window_pattern is missing" },
    { 4, "gemma4.attention.key_length_swa", NOTHING, 0, NULL, 0, FORMAT, "key_length_swa is missing" },
    { 4, "gemma4.embedding_length_per_layer_input", NOTHING, 0, NULL, 0, FORMAT, "per_layer_input is missing" },
    { 4, "gemma4.embedding_length_per_layer_input", U32, 64, NULL, 0, FORMAT, "per_layer_token_embd.weight has shape" },
    { 4, "gemma4.attention.head_count_kv", U32S, 2, NULL, 4, FORMAT, "blk.0.attn_k.weight has shape [64, 32]" },
};

static void test_bad_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < GM_COUNT(bads); i++) {
        const bad *b = &bads[i];
        tiny_model t;
        fixture f;
        tiny_model_defaults(&t, b->family);
        t.skip[0] = b->key;
        gguf_writer *w = tiny_model_write(&t);
        put(w, b);
        int rc = create(&f, w);
        if (rc != b->code || !strstr(f.error.message, b->says))
            fail_msg("case %zu, %s: code %d, \"%s\" does not say \"%s\"", i, b->key, rc, f.error.message, b->says);
        assert_null(f.m);
        finish(&f);
    }
}

/* Without these a model is another one: tied, dense, with values from keys. */
static bool is_optional(uint32_t family, const char *name)
{
    if (family == 4 && (strstr(name, "attn_v.") || strstr(name, "ffn_gate_inp.weight"))) return true;
    return strstr(name, "output_scale") || strstr(name, "down_exps.scale") || strcmp(name, "rope_freqs.weight") == 0 ||
           strcmp(name, "output.weight") == 0;
}

static void finish_quietly(fixture *f)
{
    gm_model_destroy(f->m);
    gm_gguf_close(f->gguf);
    gguf_writer_destroy(f->w);
}

/* The tensor of the good file, put with another shape or type. */
static int create_changed(fixture *f, const tiny_model *good, const gm_tensor *as, uint32_t type, uint64_t more_rows)
{
    tiny_model t = *good;
    t.skip[0] = as->name;
    gguf_writer *w = tiny_model_write(&t);
    uint64_t ne[4] = { as->ne[0], as->ne[1], as->ne[2], as->ne[3] };
    ne[as->n_dims - 1] += more_rows;
    const gm_format *format = gm_format_of(type);
    uint64_t n_bytes = gm_row_bytes(format, ne[0]) * ne[1] * ne[2] * ne[3];
    gguf_put_tensor(w, as->name, type, as->n_dims, ne, NULL, n_bytes);
    return create(f, w);
}

static void expect(const fixture *f, int rc, int code, const char *name, const char *says)
{
    if (rc != code || !strstr(f->error.message, name) || !strstr(f->error.message, says))
        fail_msg("%s: code %d, \"%s\" does not say \"%s\"", name, rc, f->error.message, says);
}

/* Every tensor of the model, missing, of another shape, of a type that cannot be decoded. */
static void walk_tensors(const tiny_model *good)
{
    fixture whole, f;
    create_well(&whole, good);
    for (uint32_t i = 0; i < gm_gguf_n_tensors(whole.gguf); i++) {
        const gm_tensor *t = gm_gguf_tensor(whole.gguf, i);
        tiny_model lacking = *good;
        lacking.skip[0] = t->name;
        int rc = create(&f, tiny_model_write(&lacking));
        const char *missed = strstr(t->name, "gate_up_exps") ? "ffn_gate_exps.weight" /* in whose place it stood */
                             : strstr(t->name, "attn_qkv")   ? "attn_q.weight"
                                                             : t->name;
        if (is_optional(good->family, t->name))
            assert_int_equal(rc, GEMMA_OK);
        else
            expect(&f, rc, GEMMA_E_FORMAT, missed, "is missing");
        finish_quietly(&f);
        rc = create_changed(&f, good, t, t->format->type, t->n_dims == 1 ? 32 : 1);
        if (strcmp(t->name, "token_embd.weight") && strcmp(t->name, "per_layer_token_embd.weight"))
            expect(&f, rc, GEMMA_E_FORMAT, t->name, "has shape [");
        finish_quietly(&f);
        rc = create_changed(&f, good, t, GM_I32, 0);
        expect(&f, rc, GEMMA_E_UNSUPPORTED, t->name, "type I32");
        finish_quietly(&f);
    }
    finish_quietly(&whole);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    tiny_model t;
    tiny_model_defaults(&t, 3);
    t.n_layers = 2;
    walk_tensors(&t);
    t.untied = t.fused_qkv = true;
    walk_tensors(&t);
    tiny_model_defaults(&t, 4);
    t.n_layers = 3;
    t.n_shared = 1;
    t.n_expert = 4;
    walk_tensors(&t);
}

static void test_sentence_of_a_shape(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.skip[0] = "blk.3.ffn_up.weight";
    gguf_writer *w = tiny_model_write(&t);
    gguf_put_tensor(w, t.skip[0], GM_F32, 2, (uint64_t[]){ 64, 97 }, NULL, 64 * 97 * 4);
    assert_int_equal(create(&f, w), GEMMA_E_FORMAT);
    assert_string_equal(f.error.message, "blk.3.ffn_up.weight has shape [64, 97], but should have [64, 96]");
    finish(&f);
    t.skip[0] = "blk.1.attn_norm.weight";
    w = tiny_model_write(&t);
    gguf_put_tensor(w, t.skip[0], GM_F16, 1, (uint64_t[]){ 64 }, NULL, 128);
    assert_int_equal(create(&f, w), GEMMA_E_UNSUPPORTED);
    assert_string_equal(f.error.message, "blk.1.attn_norm.weight has the type F16, but must be F32");
    finish(&f);
}

/* ---- what a file leaves out ---- */

static void test_defaults(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.n_layers = 12;
    t.n_kv = t.n_head;
    t.skip[0] = "gemma3.attention.head_count_kv";
    t.skip[1] = "gemma3.attention.key_length";
    t.skip[2] = "gemma3.attention.value_length";
    t.skip[3] = "gemma3.attention.sliding_window_pattern";
    create_well(&f, &t);
    assert_int_equal(f.m->layers[0].n_kv, 2);
    assert_int_equal(f.m->layers[0].head, 32); /* 64 / 2 */
    for (uint32_t i = 0; i < 12; i++) assert_int_equal(f.m->layers[i].sliding, i % 6 != 5);
    assert_true(f.m->softcap == 0.0f && f.m->rope_scale_global == 1.0f);
    assert_true(f.m->rope_base_global == 1e6 && f.m->rope_base_sliding == 1e4);
    assert_true(fabsf(f.m->attention_scale - 0.17677670f) < 1e-7f); /* 32^-0.5 */
    finish(&f);

    t.skip[2] = "gemma3.rope.freq_base"; /* value_length is there, and equals the default of key_length */
    create_well(&f, &t);
    assert_true(f.m->rope_base_global == 1e4);
    finish(&f);
}

static void check_sliding(uint32_t n, bool zero_window, uint32_t expected_global)
{
    tiny_model t;
    fixture f;
    uint32_t n_global = 0;
    tiny_model_defaults(&t, 3);
    if (zero_window) t.window = 0;
    t.skip[0] = "gemma3.attention.sliding_window_pattern";
    gguf_writer *w = tiny_model_write(&t);
    gguf_put_u32(w, t.skip[0], n);
    assert_int_equal(create(&f, w), GEMMA_OK);
    for (uint32_t i = 0; i < f.m->n_layers; i++) n_global += !f.m->layers[i].sliding;
    assert_int_equal(n_global, expected_global);
    if (!zero_window && n == 3) assert_false(f.m->layers[2].sliding);
    finish(&f);
}

static void test_pattern(void **state)
{
    (void)state;
    check_sliding(0, false, 0); /* all slide */
    check_sliding(1, false, 4); /* none does */
    check_sliding(2, false, 2);
    check_sliding(3, false, 1);
    check_sliding(2, true, 4); /* no window */
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.skip[0] = "gemma3.attention.sliding_window";
    create_well(&f, &t);
    assert_int_equal(f.m->window, 0);
    for (uint32_t i = 0; i < 4; i++) assert_false(f.m->layers[i].sliding);
    finish(&f);
}

static void test_scale_of_27b(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.n_layers = 62;
    t.n_embd = 96; /* 96 / 2 = 48, heads of 32 */
    create_well(&f, &t);
    assert_true(fabsf(f.m->attention_scale - 0.14433757f) < 1e-7f); /* 48^-0.5 */
    gm_program *p = emit(&f, false);
    assert_true(nth_op(p, GM_OP_HEADS, 61)->scale == f.m->attention_scale);
    gm_program_destroy(p);
    finish(&f);
}

static void check_linear(const char *key, const char *type, float scale)
{
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    gguf_writer *w = tiny_model_write(&t);
    gguf_put_f32(w, key, 8.0f);
    if (type) gguf_put_string(w, "gemma3.rope.scaling.type", type);
    assert_int_equal(create(&f, w), GEMMA_OK);
    gm_program *p = emit(&f, false);
    assert_int_equal(count(p, GM_OP_ROPE), 2);
    for (uint32_t i = 0; i < 2; i++) {
        const gm_op *op = nth_op(p, GM_OP_ROPE, i);
        assert_int_equal(op->width, 32);
        assert_true(op->base == 1e4 || op->base == 1e6);
        assert_true(op->scale == (op->base == 1e6 ? scale : 1.0f));
    }
    gm_program_destroy(p);
    finish(&f);
}

static void test_linear_factor(void **state)
{
    (void)state;
    check_linear("gemma3.rope.scaling.factor", NULL, 0.125f);
    check_linear("gemma3.rope.scaling.factor", "linear", 0.125f);
    check_linear("gemma3.rope.scaling.factor", "none", 1.0f);
    check_linear("gemma3.rope.scale_linear", NULL, 0.125f);
}

static void test_gemma4_defaults(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 4);
    t.skip[0] = "gemma4.final_logit_softcapping";
    t.skip[1] = "rope_freqs.weight";
    t.skip[2] = "blk.0.layer_output_scale.weight";
    create_well(&f, &t);
    assert_true(f.m->softcap == 30.0f && f.m->attention_scale == 1.0f);
    gm_program *p = emit(&f, false);
    const gm_op *global = nth_op(p, GM_OP_ROPE, 0)->w[0] >= 0 ? nth_op(p, GM_OP_ROPE, 0) : nth_op(p, GM_OP_ROPE, 1);
    const gm_weight *made = &f.m->weights[global->w[0]];
    const float *freqs = made->made;
    assert_non_null(freqs);
    assert_int_equal(made->n_bytes, 32 * sizeof(float)); /* half a head of 64 */
    for (int i = 0; i < 32; i++) assert_true(freqs[i] == (i < 8 ? 1.0f : 1e30f));
    gm_program_destroy(p);
    finish(&f);
}

/* ---- vocabulary ---- */

static void test_vocabulary(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.n_vocab = 400;
    t.n_padding = 3;
    gguf_writer *w = tiny_model_write(&t);
    gguf_put_array(w, "tokenizer.ggml.suppress_tokens", GM_GGUF_I32, (int32_t[]){ 9, 5, 9, -1, 400, 398 }, 6);
    assert_int_equal(create(&f, w), GEMMA_OK);
    const int32_t expected[] = { 5, 9, 397, 398, 399 };
    assert_int_equal(f.m->n_vocab, 400);
    assert_int_equal(f.m->n_suppressed, GM_COUNT(expected));
    assert_memory_equal(f.m->suppressed, expected, sizeof expected);
    gm_program *p = emit(&f, false);
    assert_ptr_equal(p->suppressed, f.m->suppressed);
    assert_int_equal(nth_op(p, GM_OP_HEAD, 0)->n_vocab, 400);
    gm_program_destroy(p);
    finish(&f);

    t.skip[0] = "tokenizer.ggml.tokens"; /* fewer tokens than rows, then more */
    const char *texts[500];
    for (int i = 0; i < 500; i++) texts[i] = "x";
    w = tiny_model_write(&t);
    gguf_put_strings(w, t.skip[0], texts, 390);
    assert_int_equal(create(&f, w), GEMMA_OK);
    assert_int_equal(f.m->n_vocab, 390);
    assert_int_equal(f.m->n_suppressed, 0);
    finish(&f);
    w = tiny_model_write(&t);
    gguf_put_strings(w, t.skip[0], texts, 500);
    assert_int_equal(create(&f, w), GEMMA_OK);
    assert_int_equal(f.m->n_vocab, 400);
    finish(&f);
}

/* ---- weights and programs ---- */

static void test_fused_qkv(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.fused_qkv = true;
    create_well(&f, &t);
    gm_program *p = emit(&f, false);
    const gm_op *op = nth_op(p, GM_OP_MATMUL, 0);
    uint64_t at = 0, row = gm_row_bytes(gm_format_of(GM_Q8_0), 64);
    assert_int_equal(op->n_weights, 3);
    for (int i = 0; i < 3; i++) {
        const gm_weight *w = &f.m->weights[op->w[i]];
        assert_string_equal(w->tensor->name, "blk.0.attn_qkv.weight");
        assert_int_equal(w->n_out, i == 0 ? 64 : 32);
        assert_int_equal(f.m->shapes[op->w[i]].n_out, w->n_out);
        assert_int_equal(w->offset, at);
        assert_int_equal(w->n_bytes, w->n_out * row);
        at += w->n_bytes;
    }
    assert_int_equal(at, f.m->weights[op->w[0]].tensor->n_bytes);
    gm_program_destroy(p);
    finish(&f);
}

static const gm_weight *weight_of(const gm_model *m, const char *name)
{
    for (uint32_t i = 0; i < m->n_weights; i++)
        if (strcmp(m->weights[i].tensor->name, name) == 0) return &m->weights[i];
    fail_msg("%s is not a weight", name);
    return NULL;
}

static void test_classes(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    uint64_t row = gm_row_bytes(gm_format_of(GM_Q8_0), 64);
    tiny_model_defaults(&t, 3);
    create_well(&f, &t);
    const gm_weight *table = weight_of(f.m, "token_embd.weight");
    assert_int_equal(table->bytes_class, GEMMA_CLASS_HEAD);
    assert_false(table->by_row);
    assert_int_equal(table->read_per_token, 385 * row);
    finish(&f);
    t.untied = true;
    create_well(&f, &t);
    table = weight_of(f.m, "token_embd.weight");
    assert_int_equal(table->bytes_class, GEMMA_CLASS_EMBEDDING);
    assert_true(table->by_row);
    assert_int_equal(table->read_per_token, row);
    assert_int_equal(weight_of(f.m, "output.weight")->bytes_class, GEMMA_CLASS_HEAD);
    gm_program *p = emit(&f, false);
    assert_ptr_equal(&f.m->weights[nth_op(p, GM_OP_HEAD, 0)->w[0]], weight_of(f.m, "output.weight"));
    gm_program_destroy(p);
    finish(&f);
    tiny_model_defaults(&t, 4);
    t.n_expert = 8;
    create_well(&f, &t);
    const gm_weight *experts = weight_of(f.m, "blk.0.ffn_gate_up_exps.weight");
    assert_int_equal(experts->bytes_class, GEMMA_CLASS_EXPERTS);
    assert_int_equal(experts->read_per_token, experts->n_bytes / 4); /* 2 of 8 */
    assert_int_equal(weight_of(f.m, "per_layer_token_embd.weight")->bytes_class, GEMMA_CLASS_PLE);
    assert_int_equal(weight_of(f.m, "blk.0.attn_q_norm.weight")->bytes_class, GEMMA_CLASS_NORMS);
    finish(&f);
}

/* In the cut program the layers from `last` on, and the query of `last`, run on the wanted rows only. */
static void check_cut(const tiny_model *t, int32_t last, uint32_t n_rows_ops)
{
    fixture f;
    create_well(&f, t);
    gm_program *full = emit(&f, false), *cut = emit(&f, true);
    assert_int_equal(count(full, GM_OP_ROWS), 0);
    assert_int_equal(count(cut, GM_OP_ROWS), n_rows_ops);
    for (uint32_t i = 0; i + 1 < full->n_ops; i++) assert_int_equal(full->ops[i].rows, GM_ROWS_ALL);
    bool wanted = false;
    for (uint32_t i = 0; i < cut->n_ops; i++) {
        const gm_op *op = &cut->ops[i];
        wanted |= op->kind == GM_OP_ROWS;
        assert_int_equal(op->rows, wanted ? GM_ROWS_WANTED : GM_ROWS_ALL);
        if (op->layer < 0) continue;
        if (op->layer < last) assert_false(wanted);
        if (op->layer > last) assert_true(wanted);
        if (op->layer == last && op->kind == GM_OP_HEADS) assert_int_equal(op->kv >= 0, !wanted);
        if (op->layer == last && op->kind == GM_OP_ATTENTION) assert_true(wanted);
    }
    assert_int_equal(count(cut, GM_OP_HEADS), count(full, GM_OP_HEADS) + 1);
    assert_int_equal(count(cut, GM_OP_ATTENTION), t->n_layers);
    gm_program_destroy(full);
    gm_program_destroy(cut);
    finish(&f);
}

static void test_cut(void **state)
{
    (void)state;
    tiny_model t;
    tiny_model_defaults(&t, 3);
    check_cut(&t, 3, 2); /* the stream and its norm */
    tiny_model_defaults(&t, 4);
    check_cut(&t, 1, 3); /* and the per-layer inputs */
    t.n_shared = t.n_ple = 0;
    t.k_as_v = true;
    t.n_expert = 4;
    check_cut(&t, 3, 2);
    t.split_experts = true;
    check_cut(&t, 3, 2);
}

static void test_gemma4_layers(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 4);
    t.k_as_v = true;
    create_well(&f, &t);
    assert_int_equal(f.m->n_kv, 2);
    const int32_t source[] = { 0, 1, 0, 1 };
    gm_program *p = emit(&f, false);
    for (uint32_t i = 0; i < 4; i++) {
        const gm_op *heads = nth_op(p, GM_OP_HEADS, i), *attention = nth_op(p, GM_OP_ATTENTION, i);
        assert_int_equal(f.m->layers[i].kv, source[i]);
        assert_int_equal(attention->kv, source[i]);
        assert_int_equal(attention->window, i % 2 ? 0 : 64);
        assert_int_equal(heads->kv, i < 2 ? (int)i : -1);
        assert_int_equal(heads->head, i % 2 ? 64 : 32);
        assert_int_equal(heads->v_from_k, i == 1);
        assert_true(heads->v_norm && heads->scale == 1.0f);
    }
    const gm_op *mix = nth_op(p, GM_OP_PLE_MIX, 0);
    assert_true(mix->scale == 0.125f && fabsf(mix->scale2 - 0.70710678f) < 1e-7f); /* 64^-0.5, 2^-0.5 */
    assert_true(fabsf(nth_op(p, GM_OP_PLE_ROWS, 0)->scale - 5.6568542f) < 1e-6f);  /* 32^0.5 */
    assert_true(nth_op(p, GM_OP_EMBED, 0)->scale == 8.0f);
    assert_true(nth_op(p, GM_OP_HEAD, 0)->softcap == 30.0f);
    uint32_t n_gated = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].epilogue != GM_EPILOGUE_GELU_MUL) continue;
        assert_int_equal(p->ops[i].offset, 32 * n_gated++);
    }
    assert_int_equal(n_gated, 4);
    gm_program_destroy(p);
    finish(&f);
}

/* ---- no memory ---- */

static void test_no_memory(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        tiny_model t;
        fixture f;
        tiny_model_defaults(&t, family);
        t.n_padding = 1;
        t.skip[0] = "rope_freqs.weight";
        open_written(&f, tiny_model_write(&t));
        uint64_t before = fault_live_blocks(), nth;
        int rc = GEMMA_E_NOMEM;
        for (nth = 1; rc; nth++) {
            fault_fail_nth(nth);
            rc = gm_model_create(&f.mem, f.gguf, &f.m, &f.error);
            assert_int_equal(rc, fault_fired() ? GEMMA_E_NOMEM : GEMMA_OK);
            if (rc) assert_int_equal(fault_live_blocks(), before);
        }
        assert_true(nth > 8);
        before = fault_live_blocks();
        rc = GEMMA_E_NOMEM;
        const gm_format *f16 = gm_format_of(GM_F16);
        gm_emit_options options = { .max_rows = 8, .cut = true, .kv_format = { f16, f16 } };
        gm_program *p = NULL;
        for (nth = 1; rc; nth++) {
            fault_fail_nth(nth);
            rc = gm_model_emit(f.m, &options, &p, &f.error);
            assert_int_equal(rc, fault_fired() ? GEMMA_E_NOMEM : GEMMA_OK);
            if (rc) assert_int_equal(fault_live_blocks(), before);
        }
        assert_true(nth > 4);
        fault_fail_nth(0);
        gm_program_destroy(p);
        finish(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_sentence_of_a_shape),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_pattern),
        cmocka_unit_test(test_scale_of_27b),
        cmocka_unit_test(test_linear_factor),
        cmocka_unit_test(test_gemma4_defaults),
        cmocka_unit_test(test_vocabulary),
        cmocka_unit_test(test_fused_qkv),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_gemma4_layers),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
