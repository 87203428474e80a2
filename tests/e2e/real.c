/* The real Gemma 3 270M (Q4_K_M), named by GEMMA_TEST_MODEL, against goldens of an independent float32 implementation:
 * data/e2e/gemma3-270m.txt, written by generate/model_goldens.py. Skipped (77) without the file.
 *
 * "The same tokens": every golden token whose margin to the runner-up is at least `margin` is predicted, teacher-forced,
 * and free generation leaves the golden path only at a smaller margin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gemma.h"

enum { TEXT_MAX = 4096, IDS_MAX = 800, GEN_MAX = 64, PROMPTS_MAX = 8 };

typedef struct golden {
    char text[TEXT_MAX];
    size_t n_bytes;
    uint32_t n_ids, n_gen;
    double nll;
    int32_t ids[IDS_MAX], gen[GEN_MAX];
    double log_prob[GEN_MAX], margin[GEN_MAX];
} golden;

static golden goldens[PROMPTS_MAX];
static uint32_t n_goldens;
static const char *model_path;

static bool read_golden(FILE *f, golden *g)
{
    if (fscanf(f, " prompt %zu %u %u %lf", &g->n_bytes, &g->n_ids, &g->n_gen, &g->nll) != 4) return false;
    if (g->n_bytes >= TEXT_MAX || g->n_ids > IDS_MAX || g->n_gen > GEN_MAX) return false;
    bool good = fgetc(f) == '\n' && fread(g->text, 1, g->n_bytes, f) == g->n_bytes;
    for (uint32_t i = 0; i < g->n_ids; i++) good &= fscanf(f, "%d", &g->ids[i]) == 1;
    for (uint32_t i = 0; i < g->n_gen; i++) good &= fscanf(f, "%d", &g->gen[i]) == 1;
    for (uint32_t i = 0; i < g->n_gen; i++) good &= fscanf(f, "%lf", &g->log_prob[i]) == 1;
    for (uint32_t i = 0; i < g->n_gen; i++) good &= fscanf(f, "%lf", &g->margin[i]) == 1;
    return good;
}

static void read_goldens(void)
{
    FILE *f = fopen("data/e2e/gemma3-270m.txt", "rb");
    assert_non_null(f);
    while (n_goldens < PROMPTS_MAX && read_golden(f, &goldens[n_goldens])) n_goldens++;
    assert_true(feof(f));
    fclose(f);
    assert_int_equal(n_goldens, 4);
    assert_true(goldens[3].n_ids > 512); /* past the window */
}

/* ---- the model ---- */

typedef struct loaded {
    gemma_runtime *runtime;
    gemma_file *file;
    gemma_tokenizer *tokenizer;
    gemma_plan *plan;
    gemma_model *model;
    gemma_session *session;
    gemma_step *step;
} loaded;

static void must(int rc, const gemma_error *e)
{
    if (rc) fail_msg("%s: %s", gemma_error_name(rc), e->message);
}

static void load(loaded *m, const char *device)
{
    gemma_error e = { .size = sizeof e };
    gemma_file_options fo = { .size = sizeof fo, .flags = GEMMA_FILE_MAP };
    gemma_plan_options po = { .size = sizeof po, .ctx = 1024, .ubatch = 256, .logit_rows = 8 };
    must(gemma_runtime_create(NULL, NULL, &m->runtime, &e), &e);
    must(gemma_device_find(m->runtime, device, &po.device, &e), &e);
    must(gemma_file_open(m->runtime, model_path, &fo, &m->file, &e), &e);
    must(gemma_tokenizer_create(m->file, &m->tokenizer, &e), &e);
    must(gemma_plan_create(m->file, &po, &m->plan, &e), &e);
    must(gemma_model_load(m->plan, NULL, &m->model, &e), &e);
    must(gemma_session_create(m->model, NULL, &m->session, &e), &e);
    must(gemma_step_create(m->model, &m->step, &e), &e);
}

static void unload(loaded *m)
{
    gemma_step_destroy(m->step);
    gemma_session_destroy(m->session);
    gemma_model_close(m->model);
    gemma_plan_destroy(m->plan);
    gemma_tokenizer_destroy(m->tokenizer);
    gemma_file_close(m->file);
    gemma_runtime_destroy(m->runtime);
}

static void run_rows(loaded *m, const int32_t *ids, uint32_t n, uint32_t want)
{
    gemma_step_clear(m->step);
    for (uint32_t i = 0; i < n; i++) {
        gemma_row row = { .size = sizeof row, .token = ids[i], .target = ids[i + 1], .want = want };
        assert_int_equal(gemma_step_add(m->step, m->session, &row, NULL), GEMMA_OK);
    }
    assert_int_equal(gemma_step_submit(m->step, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_wait(m->step, UINT64_MAX), GEMMA_OK);
}

/* ---- scores ---- */

typedef struct tally {
    double nll, golden_nll, log_prob_off;
    uint32_t n_gen;
} tally;

/* Row k predicts ids[k + 1]: of the prompt (its NLL) or of the golden continuation. */
static void score_row(loaded *m, const golden *g, uint32_t row, uint32_t k, double margin, tally *sum)
{
    float logit, log_sum, first;
    int32_t best;
    assert_int_equal(gemma_step_score(m->step, row, &logit), GEMMA_OK);
    assert_int_equal(gemma_step_log_sum(m->step, row, &log_sum), GEMMA_OK);
    assert_int_equal(gemma_step_candidate(m->step, row, 0, &best, &first), GEMMA_OK);
    if (k + 1 < g->n_ids) {
        sum->nll -= (double)(logit - log_sum);
        return;
    }
    uint32_t at = k + 1 - g->n_ids;
    if (g->margin[at] >= margin && best != g->gen[at])
        fail_msg("\"%.20s…\": token %u is %d, not %d, with a margin of %.3f", g->text, at, best, g->gen[at],
                 g->margin[at]);
    sum->log_prob_off += fabs((double)(logit - log_sum) - g->log_prob[at]);
    sum->n_gen++;
}

static void score(loaded *m, const golden *g, uint32_t n_gen, double margin, tally *sum)
{
    int32_t ids[IDS_MAX + GEN_MAX];
    uint32_t n = g->n_ids + n_gen - 1;
    memcpy(ids, g->ids, g->n_ids * sizeof *ids);
    memcpy(ids + g->n_ids, g->gen, n_gen * sizeof *ids);
    assert_int_equal(gemma_session_rewind(m->session, 0), GEMMA_OK);
    for (uint32_t at = 0; at < n;) {
        uint32_t rows = n - at < 256 ? n - at : 256;
        run_rows(m, ids + at, rows, GEMMA_WANT_SCORE | GEMMA_WANT_CANDIDATES);
        for (uint32_t i = 0; i < rows; i++) score_row(m, g, i, at + i, margin, sum);
        at += rows;
    }
    sum->golden_nll += g->nll;
}

static void check_sum(const tally *sum, double nll_off, double log_prob_off)
{
    print_message("NLL %.2f against %.2f; mean difference of log-probabilities %.4f\n", sum->nll, sum->golden_nll,
                  sum->log_prob_off / sum->n_gen);
    assert_true(fabs(sum->nll / sum->golden_nll - 1) <= nll_off);
    assert_true(sum->log_prob_off / sum->n_gen <= log_prob_off);
}

/* ---- generation ---- */

/* The tokenizer gives the golden's ids; greedy text is the golden's up to the first token without a clear margin. */
static void generate(loaded *m, const golden *g, double margin)
{
    int32_t ids[IDS_MAX];
    size_t n;
    gemma_error e = { .size = sizeof e };
    gemma_sampler *sampler;
    gemma_generation *generation;
    gemma_generation_options o = { .size = sizeof o, .max_tokens = g->n_gen };
    must(gemma_tokenize(m->tokenizer, g->text, g->n_bytes, GEMMA_TOKENIZE_BOS, ids, IDS_MAX, &n), &e);
    assert_int_equal(n, g->n_ids);
    assert_memory_equal(ids, g->ids, n * sizeof *ids);
    must(gemma_sampler_create(m->runtime, NULL, &sampler, &e), &e);
    assert_int_equal(gemma_session_rewind(m->session, 0), GEMMA_OK);
    must(gemma_generation_create(m->session, sampler, m->tokenizer, ids, n, &o, &generation, &e), &e);
    uint32_t at = 0;
    for (gemma_piece piece = { .size = sizeof piece }; !piece.stop; at++) {
        assert_int_equal(gemma_generation_next(generation, &piece), GEMMA_OK);
        if (piece.id == g->gen[at]) continue;
        assert_true(g->margin[at] < margin);
        break;
    }
    print_message("\"%.20s…\": %u of %u greedy tokens are the golden's\n", g->text, at, g->n_gen);
    gemma_generation_destroy(generation);
    gemma_sampler_destroy(sampler);
}

static void cpu_against_goldens(void **state)
{
    loaded m = { 0 };
    tally sum = { 0 };
    (void)state;
    load(&m, "cpu");
    for (uint32_t i = 0; i < n_goldens; i++) score(&m, &goldens[i], goldens[i].n_gen, 0.35, &sum);
    for (uint32_t i = 0; i < n_goldens; i++) generate(&m, &goldens[i], 0.35);
    unload(&m);
    check_sum(&sum, 0.015, 0.06);
}

static void reference_against_goldens(void **state)
{
    loaded m = { 0 };
    tally sum = { 0 };
    (void)state;
    load(&m, "reference"); /* slow: short ones, and not to their end */
    for (uint32_t i = 0; i < 3; i++) score(&m, &goldens[i], 8, 0.05, &sum);
    unload(&m);
    check_sum(&sum, 0.003, 0.003);
}

/* Past the window: rows one by one have the logits they have in pieces, bitwise. */
static void rows_by_rows(void **state)
{
    enum { FROM = 560, N = 24, PIECE = 8 };
    loaded m = { 0 };
    (void)state;
    load(&m, "cpu");
    gemma_file_info info = { .size = sizeof info };
    assert_int_equal(gemma_file_describe(m.file, &info), GEMMA_OK);
    float *alone = malloc((size_t)N * info.n_vocab * sizeof *alone), *row = malloc(info.n_vocab * sizeof *row);
    const int32_t *ids = goldens[3].ids;
    assert_int_equal(gemma_session_feed(m.session, ids, FROM, NULL), GEMMA_OK);
    for (uint32_t i = 0; i < N; i++) {
        run_rows(&m, ids + FROM + i, 1, GEMMA_WANT_LOGITS);
        assert_int_equal(gemma_step_logits(m.step, 0, alone + (size_t)i * info.n_vocab, info.n_vocab), GEMMA_OK);
    }
    gemma_feed_options o = { .size = sizeof o, .piece = 61 };
    gemma_step_clear(m.step);
    assert_int_equal(gemma_session_rewind(m.session, 0), GEMMA_OK);
    assert_int_equal(gemma_session_feed(m.session, ids, FROM, &o), GEMMA_OK);
    for (uint32_t at = 0; at < N; at += PIECE) {
        run_rows(&m, ids + FROM + at, PIECE, GEMMA_WANT_LOGITS);
        for (uint32_t i = 0; i < PIECE; i++) {
            assert_int_equal(gemma_step_logits(m.step, i, row, info.n_vocab), GEMMA_OK);
            assert_memory_equal(row, alone + (size_t)(at + i) * info.n_vocab, info.n_vocab * sizeof *row);
        }
    }
    free(alone);
    free(row);
    unload(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_against_goldens),
        cmocka_unit_test(rows_by_rows),
        cmocka_unit_test(reference_against_goldens),
    };
    model_path = getenv("GEMMA_TEST_MODEL");
    if (!model_path || !*model_path) {
        puts("skipped: GEMMA_TEST_MODEL does not name the Gemma 3 270M (examples/fetch-model.sh)");
        return 77;
    }
    read_goldens();
    return cmocka_run_group_tests_name("real", tests, NULL, NULL);
}
