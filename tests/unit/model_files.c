/* Tests of lib/model: files that are wrong in one way. */
#include "unit/model_fixture.h"

#include <math.h>

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
    { 4, "gemma4.attention.head_count_kv", U32, 3, NULL, 0, FORMAT, "layer 0: 2 query heads cannot share 3" },
    { 4, "gemma4.attention.sliding_window_pattern", BYTES, 1, NULL, 5, FORMAT, "has 5 entries, but the model has 4" },
    { 4, "gemma4.attention.shared_kv_layers", U32, 3, NULL, 0, FORMAT,
      "layer 1 shares keys and values, but no global" },
    { 4, "gemma4.attention.shared_kv_layers", U32, 4, NULL, 0, FORMAT, "shared_kv_layers is 4, but must be 0 to 3" },
    { 4, "gemma4.block_count", U32, 0, NULL, 0, FORMAT, "gemma4.block_count is 0, but must be 1 to 512" },
};

/* In a file with 4 experts, of which a token takes 2. */
static const bad bads_of_experts[] = {
    { 4, "gemma4.expert_count", NOTHING, 0, NULL, 0, FORMAT, "blk.0 has experts, but the key gemma4.expert_count is" },
    { 4, "gemma4.expert_count", U32, 0, NULL, 0, FORMAT, "blk.0 has experts, but the key gemma4.expert_count is" },
    { 4, "gemma4.expert_count", U32, 2000, NULL, 0, FORMAT, "expert_count is 2000, but must be 0 to 1024" },
    { 4, "gemma4.expert_count", U32, 8, NULL, 0, FORMAT,
      "ffn_gate_inp.weight has shape [64, 4], but should have [64, 8" },
    { 4, "gemma4.expert_count", U32, 1, NULL, 0, FORMAT, "expert_used_count is 2, but must be 1 to 1" },
    { 4, "gemma4.expert_used_count", NOTHING, 0, NULL, 0, FORMAT, "gemma4.expert_used_count is missing" },
    { 4, "gemma4.expert_used_count", U32, 0, NULL, 0, FORMAT, "expert_used_count is 0, but must be 1 to 4" },
    { 4, "gemma4.expert_used_count", U32, 5, NULL, 0, FORMAT, "expert_used_count is 5, but must be 1 to 4" },
    { 4, "gemma4.expert_used_count", U32S, 5, NULL, 4, FORMAT, "expert_used_count[0] is 5, but must be 1 to 4" },
    { 4, "gemma4.expert_used_count", U32S, 2, NULL, 3, FORMAT, "expert_used_count has 3 entries" },
    { 4, "gemma4.expert_feed_forward_length", NOTHING, 0, NULL, 0, FORMAT, "expert_feed_forward_length is missing" },
    { 4, "gemma4.expert_feed_forward_length", U32, 0, NULL, 0, FORMAT, "expert_feed_forward_length is 0" },
    { 4, "gemma4.expert_feed_forward_length", U32, 33, NULL, 0, LACKS, "is 33, which is not a multiple of 32" },
    { 4, "gemma4.expert_feed_forward_length", U32, 64, NULL, 0, FORMAT, "gate_up_exps.weight has shape [64, 64, 4]" },
};

static void check_bad(const bad *b, uint32_t n_expert)
{
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, b->family);
    t.n_expert = n_expert;
    t.skip[0] = b->key;
    gguf_writer *w = tiny_model_write(&t);
    put(w, b);
    int rc = create(&f, w);
    if (rc != b->code || !strstr(f.error.message, b->says))
        fail_msg("%s: code %d, \"%s\" does not say \"%s\"", b->key, rc, f.error.message, b->says);
    assert_null(f.m);
    finish(&f);
}

static void test_bad_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < GM_COUNT(bads); i++) check_bad(&bads[i], 0);
    for (size_t i = 0; i < GM_COUNT(bads_of_experts); i++) check_bad(&bads_of_experts[i], 4);
}

/* A layer that reads more heads than its source has; one whose heads do not divide. */
static void test_bad_heads_of_layers(void **state)
{
    static const struct {
        const char *key;
        uint32_t values[4];
        const char *says;
    } cases[] = {
        { "gemma4.attention.head_count_kv",
          { 1, 1, 2, 1 },
          "layer 2 reads 2 key/value heads of 32 values, but layer 0, which it shares them with, has 1 of 32" },
        { "gemma4.attention.head_count_kv", { 1, 4, 1, 1 }, "layer 1: 2 query heads cannot share 4 key/value heads" },
        { "gemma4.attention.head_count_kv",
          { 1, 0, 1, 1 },
          "gemma4.attention.head_count_kv[1] is 0, but must be 1 to" },
    };
    (void)state;
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        tiny_model t;
        fixture f;
        tiny_model_defaults(&t, 4);
        t.skip[0] = cases[i].key;
        gguf_writer *w = tiny_model_write(&t);
        gguf_put_array(w, cases[i].key, GM_GGUF_U32, cases[i].values, 4);
        assert_int_equal(create(&f, w), GEMMA_E_FORMAT);
        if (!strstr(f.error.message, cases[i].says)) fail_msg("%s, not %s", f.error.message, cases[i].says);
        finish(&f);
    }
}

/* Without these a model is another one: tied, with values from keys. */
static bool is_optional(uint32_t family, const char *name)
{
    if (family == 4 && strstr(name, "attn_v.")) return true;
    return strstr(name, "output_scale") || strstr(name, "down_exps.scale") || strcmp(name, "rope_freqs.weight") == 0 ||
           strcmp(name, "output.weight") == 0;
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

/* Factors of NVFP4 matrices: taken where products apply them, never dropped in silence. */
static void test_factors_apart(void **state)
{
    static const struct {
        const char *weight, *scale;
        uint64_t rows, n;
        float value;
        int code;
        const char *says;
    } cases[] = {
        { "blk.3.ffn_up.weight", NULL, 96, 0, 0, GEMMA_OK, "" },
        { "blk.3.ffn_up.weight", "blk.3.ffn_up.scale", 96, 1, 2, GEMMA_OK, "" },
        { "blk.3.ffn_up.weight", "blk.3.ffn_up.scale", 96, 2, 2, FORMAT,
          "blk.3.ffn_up.scale must be 1 or 1 values of type F32" },
        { "blk.3.ffn_up.weight", "blk.3.ffn_up.scale", 96, 1, NAN, FORMAT,
          "blk.3.ffn_up.scale: value 0 is no finite number" },
        { "token_embd.weight", "token_embd.scale", 385, 1, 2, LACKS, "token_embd.weight is read by row" },
    };
    (void)state;
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        tiny_model t;
        fixture f;
        uint32_t n_factors = 0;
        float factors[2] = { cases[i].value, cases[i].value };
        tiny_model_defaults(&t, 3);
        t.skip[0] = cases[i].weight;
        gguf_writer *w = tiny_model_write(&t);
        gguf_put_tensor(w, t.skip[0], GM_NVFP4, 2, (uint64_t[]){ 64, cases[i].rows }, NULL, cases[i].rows * 36);
        if (cases[i].scale) gguf_put_tensor(w, cases[i].scale, GM_F32, 1, &cases[i].n, factors, cases[i].n * 4);
        expect(&f, create(&f, w), cases[i].code, "", cases[i].says);
        for (uint32_t k = 0; f.m && k < f.m->n_weights; k++) {
            if (!f.m->weights[k].factors) continue;
            n_factors++;
            assert_ptr_equal(f.m->shapes[k].factors, f.m->weights[k].factors);
            assert_true(f.m->weights[k].factors[0] == cases[i].value);
        }
        assert_int_equal(n_factors, f.m && cases[i].scale);
        finish(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_keys),      cmocka_unit_test(test_bad_heads_of_layers),
        cmocka_unit_test(test_bad_tensors),   cmocka_unit_test(test_sentence_of_a_shape),
        cmocka_unit_test(test_factors_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
