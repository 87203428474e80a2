/* Tests of lib/model: what files leave out, the weights, what the programs look like. */
#include "unit/model_fixture.h"

#include <math.h>

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
    t.skip[3] = "gemma4.rope.freq_base_swa";
    create_well(&f, &t);
    assert_true(f.m->softcap == 30.0f && f.m->attention_scale == 1.0f && f.m->rope_base_sliding == 1e4);
    gm_program *p = emit(&f, false);
    const gm_op *global = nth_op(p, GM_OP_ROPE, 0)->w[0] >= 0 ? nth_op(p, GM_OP_ROPE, 0) : nth_op(p, GM_OP_ROPE, 1);
    const gm_weight *made = &f.m->weights[global->w[0]];
    const float *freqs = made->made;
    assert_non_null(freqs);
    assert_int_equal(made->n_bytes, 32 * sizeof(float)); /* half a head of 64 */
    for (int i = 0; i < 32; i++) assert_true(freqs[i] == (i < 8 ? 1.0f : 1e30f));
    gm_program_destroy(p);
    finish(&f);
    t.n_ple = t.n_shared = 0;
    t.n_kv = t.n_head;
    t.skip[0] = "gemma4.attention.shared_kv_layers";
    t.skip[1] = "gemma4.attention.head_count_kv";
    t.skip[2] = "gemma4.rope.freq_base";
    create_well(&f, &t);
    assert_true(f.m->n_kv == 4 && f.m->layers[0].n_kv == 2 && f.m->rope_base_global == 1e4);
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
    assert_int_equal(create(&f, w), GEMMA_E_FORMAT);
    assert_string_equal(f.error.message, "tokenizer.ggml.tokens has 500 entries, but token_embd.weight 400 rows");
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

/* Tensors for keys and values of layers that read others': neither loaded nor billed. */
static void test_unread_kv(void **state)
{
    (void)state;
    tiny_model t;
    fixture without, with;
    tiny_model_defaults(&t, 4);
    create_well(&without, &t);
    t.unread_kv = true;
    create_well(&with, &t);
    assert_int_equal(gm_gguf_n_tensors(with.gguf), gm_gguf_n_tensors(without.gguf) + 6);
    assert_int_equal(with.m->n_weights, without.m->n_weights);
    for (uint32_t i = 0; i < with.m->n_weights; i++) {
        const gm_weight *a = &with.m->weights[i], *b = &without.m->weights[i];
        assert_string_equal(a->tensor->name, b->tensor->name);
        assert_true(a->n_bytes == b->n_bytes && a->read_per_token == b->read_per_token);
    }
    finish_quietly(&without);
    finish_quietly(&with);
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
        t.type = GM_NVFP4;
        t.factors = true;
        t.n_ff = 128;
        if (t.n_ple) t.n_ple = 64;
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
        cmocka_unit_test(test_unread_kv),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
