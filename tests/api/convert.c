/* Weights of types that a device has no kernel for: held as Q8_0, billed, warned of, and right.
 *
 * usage: convert [DEVICE]
 *
 * On the CPU, which has a kernel for every type, nothing may change. On other devices logits are compared with those of
 * the reference, which decodes the file's blocks to float32. */
#include "api/world.h"

#include <math.h>
#include <stdio.h>

enum { N = 40 };

static const char *device = "cpu";

typedef struct heard {
    uint32_t n;
    char line[320];
} heard;

static void hear(void *user, uint32_t level, const char *line)
{
    heard *h = user;
    if (level != GEMMA_LOG_WARN) return;
    h->n++;
    snprintf(h->line, sizeof h->line, "%s", line);
}

typedef struct shape {
    const char *name;
    gm_type type, table; /* of matrices; of the embedding and the per-layer embedding */
    uint32_t family;
    bool fused_qkv, untied, ple, experts, split_experts;
    double most; /* the largest difference of a logit over the largest logit */
} shape;

/* Types with a scale for each 32 values or more are as close to the reference as native ones. Where two scales meet in a
 * block of Q8_0, values move by half a step of the larger, which random models make much of (experts change). */
static const shape shapes[] = {
    { "TQ1_0", GM_TQ1_0, GM_TQ1_0, 3, .fused_qkv = true, .most = 2e-3 },
    { "TQ2_0 E", GM_TQ2_0, GM_TQ2_0, 4, .ple = true, .most = 2e-3 },
    { "IQ2_XXS", GM_IQ2_XXS, GM_IQ2_XXS, 3, .fused_qkv = true, .most = 4e-3 },
    { "IQ2_XXS E, Q4_K table", GM_IQ2_XXS, GM_Q4_K, 4, .ple = true, .most = 4e-3 },
    { "IQ2_XS E", GM_IQ2_XS, GM_IQ2_XS, 4, .ple = true, .most = 0.1 },
    { "IQ2_S, untied", GM_IQ2_S, GM_IQ2_XXS, 3, .untied = true, .most = 5e-2 },
    { "IQ1_S MoE", GM_IQ1_S, GM_Q6_K, 4, .experts = true, .most = 1e-2 },
    { "IQ1_M MoE, gate and up apart", GM_IQ1_M, GM_IQ1_M, 4, .experts = true, .split_experts = true, .most = 0.3 },
    { "NVFP4 with factors", GM_NVFP4, GM_Q8_0, 3, .fused_qkv = true, .untied = true, .most = 5e-2 },
    { "NVFP4 E with factors", GM_NVFP4, GM_Q8_0, 4, .ple = true, .most = 0.2 },
    { "NVFP4 MoE with factors", GM_NVFP4, GM_Q8_0, 4, .experts = true, .most = 0.3 },
};

static tiny_model model_of(const shape *s, bool as_q8_0)
{
    tiny_model t;
    tiny_model_defaults(&t, s->family);
    t.n_layers = 3;
    t.n_embd = t.n_ff = t.n_ff_expert = 256;
    t.n_head = 4;
    t.head = 64;
    t.type = s->type;
    t.table_type = s->table;
    t.fused_qkv = s->fused_qkv;
    t.untied = s->untied;
    t.as_q8_0 = as_q8_0;
    t.factors = true;
    t.n_ple = s->ple ? 256 : 0;
    t.n_shared = s->ple ? 1 : 0;
    t.n_expert = s->experts ? 4 : 0;
    t.split_experts = s->split_experts;
    t.eps = 0.1f; /* so that a factor left out shows */
    return t;
}

typedef enum way { BY_BYTES, BY_READ, MAPPED, WAYS } way;

/* world_open with the file by another way, and a log. */
static void open_by(world *w, way how, heard *h, const char **path)
{
    gemma_error *e = &w->error;
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 2 };
    gemma_file_options fo = { .size = sizeof fo, .flags = how == MAPPED ? GEMMA_FILE_MAP : 0 };
    gemma_plan_options po = { .size = sizeof po, .ctx = 64, .ubatch = 48, .logit_rows = N };
    *path = how == BY_BYTES ? NULL : world_save(w);
    if (how == BY_BYTES) fo.bytes = w->bytes;
    if (how == BY_BYTES) fo.n_bytes = w->n_bytes;
    w->host.log = hear;
    w->host.log_level = GEMMA_LOG_WARN;
    w->host.user = h;
    assert_ok(gemma_runtime_create(&w->host, &ro, &w->runtime, e), e->message);
    assert_ok(gemma_device_find(w->runtime, w->device, &po.device, e), e->message);
    assert_ok(gemma_file_open(w->runtime, *path, &fo, &w->file, e), e->message);
    assert_ok(gemma_plan_create(w->file, &po, &w->plan, e), e->message);
    assert_int_equal(h->n, 0); /* plans are tried often: they say it in their info */
    assert_ok(gemma_model_load(w->plan, NULL, &w->model, e), e->message);
}

/* Bill, info and log; on a device that has every kernel, their silence. */
static void check_words(const world *w, const shape *s, const heard *h, bool converts)
{
    gemma_plan_info info = { .size = sizeof info };
    gemma_model_status status = { .size = sizeof status };
    uint64_t billed = 0, weights = 0;
    assert_int_equal(gemma_plan_describe(w->plan, &info), GEMMA_OK);
    assert_int_equal(gemma_model_query(w->model, &status), GEMMA_OK);
    for (uint32_t i = 0; i < gemma_plan_n_heaps(w->plan); i++) {
        gemma_bill bill = { .size = sizeof bill };
        assert_int_equal(gemma_plan_bill(w->plan, i, &bill), GEMMA_OK);
        billed += bill.total_bytes;
        weights += bill.weight_bytes;
    }
    assert_int_equal(status.allocated_bytes, billed);
    assert_int_equal(info.n_converted > 0, converts);
    assert_int_equal(h->n, converts);
    if (!converts) {
        assert_string_equal(info.warning, "");
        assert_int_equal(info.converted_bytes, 0);
        return;
    }
    assert_string_equal(info.warning, h->line);
    assert_non_null(strstr(info.warning, gm_format_of(s->type)->name));
    assert_non_null(strstr(info.warning, "Q8_0"));
    assert_true(info.converted_bytes > info.converted_file_bytes && weights >= info.converted_bytes);
}

static void check_logits(const shape *s, const float *got, const float *want, uint32_t n_vocab)
{
    double most = 0, off = 0;
    for (size_t i = 0; i < (size_t)N * n_vocab; i++) {
        most = fmax(most, fabs((double)want[i]));
        off = fmax(off, fabs((double)got[i] - (double)want[i]));
    }
    print_message("%s on %s: off by %.1e of the largest logit\n", s->name, device, off / most);
    assert_true(off <= s->most * most);
}

typedef enum file { AS_IT_IS, IN_Q8_0 } file;

static void run_by(const shape *s, file kind, const char *on, way how, bool converts, float *logits)
{
    world w;
    heard h = { 0 };
    int32_t ids[N];
    const char *path;
    tiny_model t = model_of(s, kind == IN_Q8_0);
    world_init(&w, &t);
    w.device = on;
    open_by(&w, how, &h, &path);
    world_ids(ids, N, 3);
    gemma_session *session = world_session(&w);
    gemma_step *step = world_step(&w);
    world_rows(&w, step, session, ids, N, N, true, logits);
    check_words(&w, s, &h, converts);
    gemma_step_destroy(step);
    gemma_session_destroy(session);
    world_close(&w);
    if (path) world_forget_file(path);
}

static void as_the_reference(void **state)
{
    (void)state;
    bool converts = strcmp(device, "cpu") != 0;
    size_t n_bytes = N * TINY_VOCAB_MIN * sizeof(float);
    float *want = malloc(n_bytes), *got = malloc(n_bytes), *same = malloc(n_bytes);
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const shape *s = &shapes[i];
        run_by(s, AS_IT_IS, "reference", BY_BYTES, false, want);
        run_by(s, AS_IT_IS, device, i % WAYS, converts, got);
        if (!converts) continue;
        run_by(s, IN_Q8_0, device, BY_BYTES, false, same);
        assert_memory_equal(got, same, n_bytes); /* as if the file had held Q8_0 */
        check_logits(s, got, want, TINY_VOCAB_MIN);
    }
    free(want);
    free(got);
    free(same);
}

/* The same bytes, however the file is read. */
static void by_every_way(void **state)
{
    (void)state;
    const shape *s = &shapes[4];
    size_t n_bytes = N * TINY_VOCAB_MIN * sizeof(float);
    float *first = malloc(n_bytes), *logits = malloc(n_bytes);
    for (way how = 0; how < WAYS; how++) {
        run_by(s, AS_IT_IS, device, how, strcmp(device, "cpu") != 0, how ? logits : first);
        if (how) assert_memory_equal(first, logits, n_bytes);
    }
    free(first);
    free(logits);
}

/* The odd layers to another device: to the CPU, which takes every type as it is. */
static uint32_t odd_layers(void *user, const gemma_placement *want)
{
    gemma_home proposed = { .size = sizeof proposed }, home = { .size = sizeof home };
    (void)user;
    if (want->layer % 2 != 1 || gemma_placement_home(want, 0, &proposed)) return 0;
    for (uint32_t i = 1; i < want->n_candidates; i++) {
        assert_int_equal(gemma_placement_home(want, i, &home), GEMMA_OK);
        if (home.device != proposed.device) return i;
    }
    return 0;
}

static void only_where_it_must_be(void **state)
{
    (void)state;
    bool converts = strcmp(device, "cpu") != 0;
    gemma_plan_options o = { .size = sizeof o, .ctx = 64, .ubatch = 48, .logit_rows = N };
    uint32_t n_converted[2];
    float *want = malloc((size_t)N * TINY_VOCAB_MIN * sizeof *want), *got = malloc(N * TINY_VOCAB_MIN * sizeof *got);
    run_by(&shapes[0], AS_IT_IS, "reference", BY_BYTES, false, want);
    for (int split = 0; split < 2; split++) {
        world w;
        int32_t ids[N];
        gemma_plan_info info = { .size = sizeof info };
        tiny_model t = model_of(&shapes[0], false);
        world_init(&w, &t);
        w.device = device;
        o.place = split ? odd_layers : NULL;
        world_open(&w, &o);
        assert_int_equal(gemma_plan_describe(w.plan, &info), GEMMA_OK);
        n_converted[split] = info.n_converted;
        world_ids(ids, N, 3);
        gemma_session *session = world_session(&w);
        gemma_step *step = world_step(&w);
        world_rows(&w, step, session, ids, N, N, true, got);
        gemma_step_destroy(step);
        gemma_session_destroy(session);
        world_close(&w);
    }
    assert_int_equal(n_converted[0], converts ? 3 * 7 + 1 : 0); /* q, k, v, output, gate, up, down; the tied table */
    assert_int_equal(n_converted[1], converts ? 2 * 7 + 1 : 0);
    shape loose = shapes[0];
    loose.name = "TQ1_0, a layer on the CPU";
    loose.most = 5e-2; /* its activations have 8 bits */
    check_logits(&loose, got, want, TINY_VOCAB_MIN);
    free(want);
    free(got);
}

int main(int argc, char **argv)
{
    if (argc > 1) device = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_reference),
        cmocka_unit_test(by_every_way),
        cmocka_unit_test(only_where_it_must_be),
    };
    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
