/* Random models of Gemma 4's shapes (per-layer embeddings with shared KV, dense, experts; window 16) against the logits
 * of an independent float32 implementation over the dequantised weights. data/tiny, by generate/model_goldens.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gemma.h"

enum { N = 100, N_VOCAB = 1024, FAR = 200000 };

static const struct shape {
    const char *name;
    double cpu_kl; /* what quantised activations and an f16 KV may cost (the oracle quantises neither) */
} shapes[] = { { "tiny-gemma4-e2b", 1.36e-2 }, { "tiny-gemma4-dense", 1.21e-2 }, { "tiny-gemma4-moe", 0.242 } };

/* The oracle looks GELU up in a table of f16 values. */
static const double reference_kl = 1e-5;

static void read_all(const char *name, const char *end, void *to, size_t n_bytes)
{
    char path[128];
    snprintf(path, sizeof path, "data/tiny/%s%s", name, end);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(to, 1, n_bytes, f), n_bytes);
    fclose(f);
}

static double log_sum(const float *logits)
{
    double most = logits[0], sum = 0;
    for (int i = 1; i < N_VOCAB; i++) most = fmax(most, (double)logits[i]);
    for (int i = 0; i < N_VOCAB; i++) sum += exp((double)logits[i] - most);
    return most + log(sum);
}

/* Mean KL divergence of got from want. */
static double divergence(const float *want, const float *got, uint32_t n_rows)
{
    double sum = 0;
    for (uint32_t r = 0; r < n_rows; r++, want += N_VOCAB, got += N_VOCAB) {
        double a = log_sum(want), b = log_sum(got);
        for (int i = 0; i < N_VOCAB; i++) {
            double p = (double)want[i] - a;
            sum += exp(p) * (p - ((double)got[i] - b));
        }
    }
    return sum / n_rows;
}

typedef struct loaded {
    gemma_runtime *runtime;
    gemma_file *file;
    gemma_plan *plan;
    gemma_model *model;
    gemma_step *step;
} loaded;

static void must(int rc, const gemma_error *e)
{
    if (rc) fail_msg("%s: %s", gemma_error_name(rc), e->message);
}

static void load(loaded *m, const char *name, const char *device)
{
    char path[128];
    gemma_error e = { .size = sizeof e };
    gemma_plan_options po = { .size = sizeof po, .ctx = 128, .logit_rows = N };
    snprintf(path, sizeof path, "data/tiny/%s.Q4_K_M.gguf", name);
    must(gemma_runtime_create(NULL, NULL, &m->runtime, &e), &e);
    must(gemma_device_find(m->runtime, device, &po.device, &e), &e);
    must(gemma_file_open(m->runtime, path, NULL, &m->file, &e), &e);
    must(gemma_plan_create(m->file, &po, &m->plan, &e), &e);
    must(gemma_model_load(m->plan, NULL, &m->model, &e), &e);
    must(gemma_step_create(m->model, &m->step, &e), &e);
}

static void unload(loaded *m)
{
    gemma_step_destroy(m->step);
    gemma_model_close(m->model);
    gemma_plan_destroy(m->plan);
    gemma_file_close(m->file);
    gemma_runtime_destroy(m->runtime);
}

static void run(loaded *m, uint32_t first_position, const int32_t *ids, uint32_t n, uint32_t piece, float *logits)
{
    gemma_error e = { .size = sizeof e };
    gemma_session_options so = { .size = sizeof so, .first_position = first_position };
    gemma_session *s;
    must(gemma_session_create(m->model, &so, &s, &e), &e);
    for (uint32_t at = 0; at < n;) {
        uint32_t rows = n - at < piece ? n - at : piece;
        gemma_step_clear(m->step);
        for (uint32_t i = 0; i < rows; i++) {
            gemma_row row = { .size = sizeof row, .token = ids[at + i], .want = GEMMA_WANT_LOGITS };
            assert_int_equal(gemma_step_add(m->step, s, &row, NULL), GEMMA_OK);
        }
        assert_int_equal(gemma_step_submit(m->step, NULL), GEMMA_OK);
        assert_int_equal(gemma_step_wait(m->step, UINT64_MAX), GEMMA_OK);
        for (uint32_t i = 0; i < rows; i++)
            assert_int_equal(gemma_step_logits(m->step, i, logits + (size_t)(at + i) * N_VOCAB, N_VOCAB), GEMMA_OK);
        at += rows;
    }
    gemma_step_clear(m->step);
    gemma_session_destroy(s);
}

static float want[N * N_VOCAB], got[N * N_VOCAB], again[N * N_VOCAB];

static void check(const struct shape *shape, const char *device, double most)
{
    loaded m = { 0 };
    int32_t ids[N];
    read_all(shape->name, ".long.tokens.i32", ids, sizeof ids);
    read_all(shape->name, ".Q4_K_M.long.logits.f32", want, sizeof want);
    load(&m, shape->name, device);
    run(&m, 0, ids, N, N, got);
    double kl = divergence(want, got, N);
    run(&m, 0, ids, N, 1, again);
    assert_memory_equal(got, again, sizeof got); /* row by row */
    run(&m, 0, ids, N, 33, again);
    assert_memory_equal(got, again, sizeof got);
    run(&m, FAR, ids, 40, 40, again); /* attention is relative */
    double far_kl = divergence(want, again, 40);
    unload(&m);
    print_message("%s on %s: KL %.2e, %.2e at position %d\n", shape->name, device, kl, far_kl, FAR);
    assert_true(kl <= most);
    assert_true(far_kl <= most);
}

static void on_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check(&shapes[i], "reference", reference_kl);
}

static void on_cpu(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check(&shapes[i], "cpu", shapes[i].cpu_kl);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(on_reference), cmocka_unit_test(on_cpu) };
    return cmocka_run_group_tests_name("gemma4_tiny", tests, NULL, NULL);
}
