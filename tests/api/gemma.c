/* Models of shapes that no golden has, against a Gemma written down in double precision (gemma_naive.c). Each case also
 * lists mistakes that it must be able to see: the naive model with that mistake is far off. Norms have a large eps where
 * they would hide a factor. */
#include "api/gemma_naive.h"
#include "api/world.h"

#include <math.h>
#include <stdio.h>

enum { N = 100, N_LONG = 24, MISTAKES = 8, FAR = 10 }; /* a window is 64; a mistake is FAR times what is allowed */

typedef struct shape {
    const char *name;
    tiny_model t;
    naive_mistake sees[MISTAKES]; /* NO_MISTAKE ends it */
    uint32_t n;
} shape;

/* What float32 may cost, of the largest logit. */
static const double tolerance = 5e-5;

static double largest(const float *logits, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)logits[i]));
    return most;
}

static double difference(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        assert_false(isnan(a[i]) || isnan(b[i]));
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    }
    return most;
}

static void check(const shape *s)
{
    world w;
    int32_t ids[N];
    gemma_plan_options o = { .size = sizeof o, .ctx = 128, .logit_rows = N, .kv_global = GEMMA_TYPE_F32 };
    o.kv_sliding = GEMMA_TYPE_F32;
    world_init(&w, &s->t);
    w.device = "reference";
    world_open(&w, &o);
    world_ids(ids, N, 5);
    size_t n = (size_t)s->n * w.n_vocab;
    float *got = calloc(n, sizeof *got), *want = calloc(n, sizeof *want);
    gemma_session *session = world_session(&w);
    gemma_step *step = world_step(&w);
    world_rows(&w, step, session, ids, s->n, 33, true, got);
    naive_gemma(&s->t, w.bytes, w.n_bytes, NO_MISTAKE, ids, s->n, want);
    double allowed = tolerance * largest(want, n), off = difference(got, want, n);
    print_message("%s: off by %.1e of %.1e\n", s->name, off, allowed);
    if (off > allowed) fail_msg("%s: off by %g, allowed are %g", s->name, off, allowed);
    for (int i = 0; i < MISTAKES && s->sees[i] != NO_MISTAKE; i++) {
        naive_gemma(&s->t, w.bytes, w.n_bytes, s->sees[i], ids, s->n, want);
        off = difference(got, want, n);
        print_message("  mistake %d: %.1e\n", (int)s->sees[i], off);
        if (!(off > FAR * allowed)) fail_msg("%s: mistake %d is off by %g only", s->name, (int)s->sees[i], off);
    }
    free(got);
    free(want);
    gemma_step_destroy(step);
    gemma_session_destroy(session);
    world_close(&w);
}

static tiny_model model_of(uint32_t family)
{
    tiny_model t;
    tiny_model_defaults(&t, family);
    return t;
}

/* ---- Gemma 3 ---- */

static void several_kv_heads(void **state)
{
    (void)state;
    shape s = { "Gemma 3, 4 heads on 2", model_of(3), { KV_HEADS_IN_TURN, BASES_SWAPPED, WINDOW_ONE_MORE }, N };
    s.t.n_head = 4;
    s.t.n_kv = 2;
    check(&s);
    s.name = "Gemma 3, 8 heads on 4";
    s.t.n_head = 8;
    s.t.n_kv = 4;
    check(&s);
}

static void heads_of_128(void **state)
{
    (void)state;
    shape s = { "Gemma 3, heads of 128", model_of(3), { OTHER_ATTENTION_SCALE, KV_HEADS_IN_TURN }, N };
    s.t.head = 128;
    s.t.n_head = 4;
    s.t.n_kv = 2;
    check(&s);
}

static void linear_factor(void **state)
{
    (void)state;
    shape s = { "Gemma 3, factor 8", model_of(3), { NO_ROPE_FACTOR, ROPE_FACTOR_EVERYWHERE, BASES_SWAPPED }, N };
    s.t.rope_factor = 8;
    check(&s);
}

static void scale_of_27b(void **state)
{
    (void)state;
    shape s = { "Gemma 3, 62 layers", model_of(3), { OTHER_ATTENTION_SCALE }, N_LONG };
    s.t.n_layers = 62;
    s.t.pattern = 6;
    s.t.n_embd = 96; /* 96 / 2 = 48, heads of 32 */
    check(&s);
}

static void untied(void **state)
{
    (void)state;
    shape s = { "Gemma 3, untied", model_of(3), { TIED_OUTPUT, NO_EMBEDDING_SCALE }, N };
    s.t.untied = true;
    check(&s);
    s.name = "Gemma 4, untied";
    s.t = model_of(4);
    s.t.untied = true;
    check(&s);
}

/* ---- Gemma 4 ---- */

static void per_layer_embeddings(void **state)
{
    (void)state;
    shape s = { "Gemma 4, PLE",
                model_of(4),
                { PLE_TOKEN_UNSCALED, PLE_CONTEXT_UNSCALED, PLE_SUM_UNSCALED, PLE_OF_UNSCALED, PLE_OTHER_LAYER,
                  SCALE_ONLY_UPDATE, NO_OUTPUT_SCALE },
                N };
    s.t.eps = 0.1f;
    check(&s);
    shape small = { "Gemma 4, PLE, small eps", model_of(4), { PLE_TOKEN_UNSCALED, PLE_OF_UNSCALED }, N };
    check(&small);
}

static void shared_kv(void **state)
{
    (void)state;
    shape s = { "Gemma 4, KV shared", model_of(4), { SHARED_FROM_FIRST, OTHER_ATTENTION_SCALE, NO_V_NORM }, N };
    s.t.n_layers = 6;
    check(&s);
    s.name = "Gemma 4, KV shared, with tensors that nobody reads";
    s.t.unread_kv = true;
    s.sees[3] = OWN_KV_ON_SHARED;
    check(&s);
}

static void values_from_keys(void **state)
{
    (void)state;
    shape s = { "Gemma 4, V from K",
                model_of(4),
                { V_IS_NORMED_K, NO_V_NORM, WHOLE_HEADS_TURN, BASES_SWAPPED, NO_SOFTCAP, WINDOW_ONE_MORE,
                  KV_HEADS_IN_TURN },
                N };
    s.t.n_ple = s.t.n_shared = 0;
    s.t.n_head = 4;
    s.t.n_kv = 2;
    s.t.k_as_v = true;
    check(&s);
}

static void experts(void **state)
{
    (void)state;
    shape s = { "Gemma 4, experts",
                model_of(4),
                { NO_RENORM, NO_EXPERT_SCALE, EXPERT_SCALE_FIRST, ROUTER_UNSCALED, ROUTER_READS_NORMED,
                  UP_BEFORE_GATE },
                N };
    s.t.n_ple = s.t.n_shared = 0;
    s.t.n_expert = 8;
    s.t.n_used = 3;
    s.t.eps = 0.1f;
    check(&s);
    s.name = "Gemma 4, experts, gate and up apart";
    s.t.split_experts = true;
    check(&s);
}

/* NVFP4 with its factors apart. */
static void factors_apart(void **state)
{
    (void)state;
    shape s = { "Gemma 3, NVFP4 with factors", model_of(3), { NO_FACTORS }, N };
    s.t.type = GM_NVFP4;
    s.t.n_ff = 128;
    s.t.factors = s.t.untied = true;
    check(&s);
    s.name = "Gemma 4, NVFP4 with factors";
    s.t = model_of(4);
    s.t.type = GM_NVFP4;
    s.t.n_ff = 128;
    s.t.n_ple = 64;
    s.t.factors = true;
    check(&s);
    s.name = "Gemma 4, experts of NVFP4 with factors";
    s.t.n_ple = s.t.n_shared = 0;
    s.t.n_expert = 4;
    s.t.n_ff_expert = 64;
    s.sees[1] = NO_EXPERT_SCALE;
    check(&s);
    s.name = "Gemma 4, experts of NVFP4 with factors, gate and up apart";
    s.t.split_experts = true;
    check(&s);
}

/* Tensors and keys that may be absent, all at once. */
static void left_out(void **state)
{
    (void)state;
    shape s = { "Gemma 4, optional parts left out", model_of(4), { WHOLE_HEADS_TURN, NO_SOFTCAP, BASES_SWAPPED }, N };
    s.t.n_ple = s.t.n_shared = 0;
    s.t.skip[0] = "rope_freqs.weight";
    s.t.skip[1] = "gemma4.final_logit_softcapping";
    s.t.skip[2] = "gemma4.rope.freq_base_swa";
    s.t.skip[3] = "blk.1.layer_output_scale.weight";
    check(&s);
    s.name = "Gemma 4, no scale of experts";
    s.t.n_expert = 4;
    s.t.skip[0] = "blk.0.ffn_down_exps.scale";
    s.t.skip[2] = "gemma4.attention.shared_kv_layers";
    s.sees[0] = NO_EXPERT_SCALE; /* of the other layers */
    check(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_kv_heads), cmocka_unit_test(heads_of_128),     cmocka_unit_test(linear_factor),
        cmocka_unit_test(scale_of_27b),     cmocka_unit_test(untied),           cmocka_unit_test(per_layer_embeddings),
        cmocka_unit_test(shared_kv),        cmocka_unit_test(values_from_keys), cmocka_unit_test(experts),
        cmocka_unit_test(factors_apart),    cmocka_unit_test(left_out),
    };
    return cmocka_run_group_tests_name("gemma", tests, NULL, NULL);
}
