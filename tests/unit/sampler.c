#include "sampler/sampler.h"
#include "support/fault.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#define N_VOCAB 1000

static gm_mem mem;

static gm_sampler *make(gemma_sampler_options o)
{
    gm_sampler *s = NULL;
    gemma_error error = { .size = sizeof error };
    o.size = sizeof o;
    int rc = gm_sampler_create(&mem, &o, &s, &error);
    if (rc) fail_msg("%s", error.message);
    assert_int_equal(gm_sampler_reserve(s, N_VOCAB), GEMMA_OK);
    return s;
}

/* N_VOCAB logits in [-8, 8), multiples of 2^-20. */
static void fill_row(float *row, uint64_t seed)
{
    gm_rng r;
    gm_rng_seed(&r, seed);
    for (uint32_t i = 0; i < N_VOCAB; i++) row[i] = (float)(int32_t)(gm_rng_next(&r) >> 40) * 0x1p-20f - 8.0f;
}

/* The first values of the generators' authors for these states. */
static void test_rng(void **state)
{
    (void)state;
    static const uint64_t splitmix[] = { 6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                         4593380528125082431u };
    gm_rng r;
    gm_rng_seed(&r, 1234567);
    for (int i = 0; i < 4; i++) assert_true(r.state[i] == splitmix[i]);

    static const uint64_t expected[] = { 11520u, 0u, 1509978240u, 1215971899390074240u };
    r = (gm_rng){ { 1, 2, 3, 4 } };
    for (int i = 0; i < 4; i++) assert_true(gm_rng_next(&r) == expected[i]);

    for (int i = 0; i < 10000; i++) {
        double unit = gm_rng_unit(&r);
        assert_true(unit >= 0 && unit < 1);
    }
}

static void test_exp(void **state)
{
    (void)state;
    gm_rng r;
    gm_rng_seed(&r, 5);
    double worst = 0;
    for (int i = 0; i < 400000; i++) {
        double x = i < 200000 ? -708 + 1417 * gm_rng_unit(&r) : -40 * gm_rng_unit(&r), want = exp(x);
        worst = fmax(worst, fabs(gm_exp(x) - want) / want);
    }
    assert_true(worst < 1e-15);
    assert_true(gm_exp(0) == 1.0);
    assert_true(gm_exp(-709) == 0.0 && gm_exp(-INFINITY) == 0.0 && gm_exp(NAN) == 0.0);
    assert_true(gm_exp(710) == INFINITY);
    assert_true(gm_exp(-708) > 0 && gm_exp(709) < INFINITY);
}

/* Bits that no platform may change. */
static void test_exp_bits(void **state)
{
    (void)state;
    static const struct {
        double x, y;
    } cases[] = {
        { -0x1.5e2p+9, 0x1.af5fe9a485c8fp-1011 },
        { -0x1.5d33333333333p+6, 0x1.09874c0b9cacap-126 },
        { -0x1.48p+4, 0x1.57a3afeed00abp-30 },
        { -0x1.921f9f01b866ep+1, 0x1.62026546050aep-5 },
        { -0x1p+0, 0x1.78b56362cef38p-2 },
        { -0x1.62e42fead449cp-2, 0x1.6a09e669a7145p-1 },
        { -0x1.0624dd2f1a9fcp-10, 0x1.ff7cfe56f1a9dp-1 },
        { 0x1.12e0be826d695p-30, 0x1.000000044b83p+0 },
        { 0x1p-1, 0x1.a61298e1e069dp+0 },
        { 0x1.26bb1bbb58975p+1, 0x1.40000000082eep+3 },
        { 0x1.62ccccccccccdp+6, 0x1.f4705bbffae5cp+127 },
        { 0x1.5ep+9, 0x1.d945df4f8ec8dp+1009 },
    };
    for (size_t i = 0; i < GM_COUNT(cases); i++) assert_true(gm_exp(cases[i].x) == cases[i].y);
}

static void test_options(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        gemma_sampler_options options;
    } bad[] = {
        { "temperature", { .temperature = -1 } },
        { "temperature", { .temperature = NAN } },
        { "temperature", { .temperature = INFINITY } },
        { "top_p", { .top_p = -0.5f } },
        { "top_p", { .top_p = NAN } },
        { "min_p", { .min_p = 1.5f } },
        { "min_p", { .min_p = -1 } },
        { "min_p", { .min_p = NAN } },
        { "repetition", { .repetition = -1 } },
        { "repetition", { .repetition = NAN } },
        { "frequency", { .frequency = NAN } },
        { "frequency", { .frequency = -INFINITY } },
        { "presence", { .presence = INFINITY } },
        { "penalty_last", { .penalty_last = 4097 } },
    };
    for (size_t i = 0; i < GM_COUNT(bad); i++) {
        gemma_sampler_options o = bad[i].options;
        gemma_error error = { .size = sizeof error };
        gm_sampler *s = (gm_sampler *)&o;
        o.size = sizeof o;
        assert_int_equal(gm_sampler_create(&mem, &o, &s, &error), GEMMA_E_ARG);
        assert_null(s);
        assert_int_equal(error.code, GEMMA_E_ARG);
        assert_non_null(strstr(error.message, bad[i].field));
    }
    gm_sampler *s = NULL;
    gm_sampler_destroy(make((gemma_sampler_options){ .top_p = 1.5f, .frequency = -1, .penalty_last = 4096 }));
    assert_int_equal(gm_sampler_create(&mem, NULL, &s, NULL), GEMMA_OK); /* greedy */
    assert_false(gm_sampler_needs_row(s));
    gm_sampler_destroy(s);
    gm_sampler_destroy(NULL);
}

static void test_needs_row(void **state)
{
    (void)state;
    static const struct {
        gemma_sampler_options options;
        bool row;
    } cases[] = {
        { { .temperature = 0 }, false },
        { { .top_k = 500 }, false }, /* greedy whatever top_k is */
        { { .temperature = 1 }, true },
        { { .temperature = 1, .top_k = 64 }, false },
        { { .temperature = 1, .top_k = 65 }, true },
        { { .temperature = 1, .top_p = 0.9f }, true },
        { { .repetition = 1.1f }, true },
        { { .repetition = 1.0f }, false },
        { { .temperature = 1, .top_k = 40, .presence = 0.1f }, true },
        { { .frequency = 0.1f }, true },
    };
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        gm_sampler *s = make(cases[i].options);
        assert_true(gm_sampler_needs_row(s) == cases[i].row);
        gm_sampler_destroy(s);
    }
}

static void test_greedy(void **state)
{
    (void)state;
    gm_sampler *s = make((gemma_sampler_options){ .temperature = 0 });
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 1, 3, 2, 3 }, 4), 1); /* a tie: the lower id */
    assert_int_equal(gm_sampler_draw(s, (int32_t[]){ 9, 4, 7 }, (float[]){ 5, 5, 5 }, 3), 4);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ NAN, -2, NAN, -1 }, 4), 3);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ -INFINITY, -1e30f, NAN }, 3), 1);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 0, INFINITY, 1e38f }, 3), 1);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 0 }, 0), -1);
    static float too_many[N_VOCAB + 1];
    assert_int_equal(gm_sampler_draw(s, NULL, too_many, N_VOCAB + 1), -1);
    gm_sampler_destroy(s);
}

static void test_strange_rows(void **state)
{
    (void)state;
    float T[] = { 0, 1, 1e-30f, 1e30f };
    for (size_t t = 0; t < GM_COUNT(T); t++) {
        gm_sampler *s = make((gemma_sampler_options){ .temperature = T[t], .seed = t });
        for (int i = 0; i < 50; i++) {
            assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ NAN, -INFINITY, 3, NAN }, 4), 2);
            assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 1, -INFINITY, INFINITY }, 3), 2);
        }
        /* Nothing above -INFINITY: the first that is not forbidden. */
        assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ -INFINITY, NAN, -INFINITY }, 3), 0);
        assert_int_equal(gm_sampler_bias(s, 0, -INFINITY), GEMMA_OK);
        assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 5, NAN, -INFINITY }, 3), 1);
        assert_int_equal(gm_sampler_bias(s, 1, -INFINITY), GEMMA_OK);
        assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 5, 6, -INFINITY }, 3), 2);
        assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 5, INFINITY }, 2), -1);
        gm_sampler_destroy(s);
    }
}

static void test_golden_draws(void **state)
{
    (void)state;
    static const struct {
        gemma_sampler_options options;
        int32_t ids[12];
    } cases[] = {
        { { .temperature = 1, .seed = 1 }, { 9, 897, 727, 678, 432, 234, 615, 131, 749, 320, 478, 196 } },
        { { .temperature = 1, .seed = 2 }, { 827, 946, 231, 606, 79, 196, 549, 717, 455, 18, 565, 876 } },
        { { .temperature = 0.5f, .top_k = 64, .seed = 3 },
          { 921, 597, 659, 25, 357, 374, 24, 851, 778, 570, 139, 371 } },
        { { .temperature = 1, .top_p = 0.95f, .seed = 4 },
          { 746, 819, 470, 106, 357, 104, 620, 626, 375, 635, 132, 800 } },
        { { .temperature = 1.5f, .min_p = 0.1f, .seed = 5 },
          { 921, 439, 429, 176, 193, 23, 157, 40, 421, 175, 609, 500 } },
        { { .temperature = 1, .top_k = 200, .top_p = 0.9f, .min_p = 0.02f, .seed = UINT64_MAX },
          { 34, 12, 98, 381, 225, 902, 514, 484, 574, 91, 658, 139 } },
        { { .temperature = 0.8f,
            .top_k = 40,
            .top_p = 0.95f,
            .repetition = 1.3f,
            .frequency = 0.2f,
            .presence = 0.1f,
            .penalty_last = 8,
            .seed = 7 },
          { 406, 126, 517, 546, 209, 377, 922, 589, 784, 62, 658, 939 } },
        { { .temperature = 0 }, { 5, 78, 571, 314, 502, 387, 142, 593, 549, 258, 301, 685 } },
    };
    static float row[N_VOCAB];
    for (size_t c = 0; c < GM_COUNT(cases); c++) {
        gm_sampler *s = make(cases[c].options);
        for (int round = 0; round < 2; round++) { /* reset goes back to the seed and forgets what was accepted */
            for (uint64_t i = 0; i < 12; i++) {
                fill_row(row, i);
                int32_t id = gm_sampler_draw(s, NULL, row, N_VOCAB);
                assert_int_equal(id, cases[c].ids[i]);
                gm_sampler_accept(s, id);
            }
            gm_sampler_reset(s);
        }
        gm_sampler_destroy(s);
    }
}

static void test_frequencies(void **state)
{
    (void)state;
    enum { N = 20000 };
    static const float weights[] = { 1, 2, 3, 4 }; /* at temperature 2: the square roots of these */
    float logits[4], T[] = { 1, 2 };
    for (int i = 0; i < 4; i++) logits[i] = logf(weights[i]);
    for (int t = 0; t < 2; t++) {
        gm_sampler *s = make((gemma_sampler_options){ .temperature = T[t], .seed = 99 });
        uint32_t seen[4] = { 0 };
        double total = 0, chi2 = 0;
        for (int i = 0; i < N; i++) seen[gm_sampler_draw(s, NULL, logits, 4)]++;
        for (int i = 0; i < 4; i++) total += pow((double)weights[i], 1 / (double)T[t]);
        for (int i = 0; i < 4; i++) {
            double expected = N * pow((double)weights[i], 1 / (double)T[t]) / total;
            chi2 += (seen[i] - expected) * (seen[i] - expected) / expected;
        }
        assert_true(chi2 < 21.1); /* 3 degrees of freedom: exceeded once in 10,000 seeds */
        gm_sampler_destroy(s);
    }
}

/* Draws many times and returns the set of ids seen (below 64) as bits. */
static uint64_t ids_drawn(gemma_sampler_options o, const float *logits, uint32_t n)
{
    gm_sampler *s = make(o);
    uint64_t seen = 0;
    for (int i = 0; i < 4000; i++) seen |= 1ull << gm_sampler_draw(s, NULL, logits, n);
    gm_sampler_destroy(s);
    return seen;
}

static void test_cuts(void **state)
{
    (void)state;
    float p[] = { 0.1f, 0.4f, 0.2f, 0.3f }, logits[4];
    for (int i = 0; i < 4; i++) logits[i] = logf(p[i]);
    const float T = 1;
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T }, logits, 4), 15);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_k = 1 }, logits, 4), 2);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_k = 2 }, logits, 4), 2 | 8);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_k = 900 }, logits, 4), 15);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_p = 0.39f }, logits, 4), 2);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_p = 0.65f }, logits, 4), 2 | 8);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_p = 0.75f }, logits, 4), 2 | 8 | 4);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_p = 2 }, logits, 4), 15);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .min_p = 0.6f }, logits, 4), 2 | 8);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .min_p = 1 }, logits, 4), 2);
    /* top-p counts what top-k left: 0.4 and 0.3 are 0.57 and 0.43 of it. */
    gemma_sampler_options both = { .temperature = T, .top_k = 2, .top_p = 0.55f };
    assert_int_equal(ids_drawn(both, logits, 4), 2);
    /* Temperature comes before min-p: at 0.5 the shares are as 1 : 16 : 4 : 9. */
    gemma_sampler_options cold = { .temperature = 0.5f, .min_p = 0.3f };
    assert_int_equal(ids_drawn(cold, logits, 4), 2 | 8);
    /* Ties at the edge of top-k: the lower id stays. */
    float equal[] = { 1, 2, 1, 1 };
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_k = 2 }, equal, 4), 1 | 2);
    assert_int_equal(ids_drawn((gemma_sampler_options){ .temperature = T, .top_p = 0.1f }, equal + 2, 2), 1);
}

static int by_logit(const void *a, const void *b)
{
    const struct {
        float logit;
        int32_t id;
    } *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

/* 64 candidates and the whole row draw the same when top_k ≤ 64. */
static void test_candidates_equal_row(void **state)
{
    (void)state;
    static const gemma_sampler_options options[] = {
        { .temperature = 1, .top_k = 64, .seed = 1 },
        { .temperature = 0.7f, .top_k = 40, .top_p = 0.95f, .seed = 2 },
        { .temperature = 3, .top_k = 64, .min_p = 0.05f, .seed = 3 },
        { .temperature = 0, .top_k = 64 },
    };
    static float row[N_VOCAB];
    static struct {
        float logit;
        int32_t id;
    } sorted[N_VOCAB];
    for (size_t o = 0; o < GM_COUNT(options); o++) {
        gm_sampler *from_row = make(options[o]), *from_candidates = make(options[o]);
        assert_false(gm_sampler_needs_row(from_candidates));
        for (uint64_t round = 0; round < 100; round++) {
            fill_row(row, round);
            for (int i = 0; i < N_VOCAB; i++) {
                row[i] = floorf(row[i] * 16) / 16; /* many ties, also at the 64th place */
                sorted[i].logit = row[i];
                sorted[i].id = i;
            }
            qsort(sorted, N_VOCAB, sizeof sorted[0], by_logit);
            int32_t ids[GM_CANDIDATES];
            float logits[GM_CANDIDATES];
            for (int i = 0; i < GM_CANDIDATES; i++) {
                ids[i] = sorted[i].id;
                logits[i] = sorted[i].logit;
            }
            assert_int_equal(gm_sampler_draw(from_row, NULL, row, N_VOCAB),
                             gm_sampler_draw(from_candidates, ids, logits, GM_CANDIDATES));
        }
        gm_sampler_destroy(from_row);
        gm_sampler_destroy(from_candidates);
    }
}

static void test_bias(void **state)
{
    (void)state;
    gm_sampler *s = make((gemma_sampler_options){ .temperature = 0 });
    const float row[] = { 1, 3, 2 };
    assert_int_equal(gm_sampler_bias(s, -1, 1), GEMMA_E_ARG);
    assert_int_equal(gm_sampler_bias(s, 1, NAN), GEMMA_E_ARG);
    assert_int_equal(gm_sampler_bias(s, 1, INFINITY), GEMMA_E_ARG);
    assert_false(gm_sampler_needs_row(s));

    assert_int_equal(gm_sampler_bias(s, 0, 2.5f), GEMMA_OK); /* 3.5 > 3 */
    assert_true(gm_sampler_needs_row(s));
    assert_int_equal(gm_sampler_draw(s, NULL, row, 3), 0);
    assert_int_equal(gm_sampler_bias(s, 0, 1.5f), GEMMA_OK); /* replaces: 2.5 < 3 */
    assert_int_equal(gm_sampler_draw(s, NULL, row, 3), 1);
    assert_int_equal(gm_sampler_bias(s, 1, -INFINITY), GEMMA_OK);
    assert_int_equal(gm_sampler_draw(s, NULL, row, 3), 0);
    gm_sampler_reset(s);
    assert_int_equal(gm_sampler_draw(s, NULL, row, 3), 0); /* biases outlive a reset */
    assert_int_equal(gm_sampler_draw(s, (int32_t[]){ 1, 2, 0 }, (float[]){ 3, 2, 1 }, 3), 0);
    assert_int_equal(gm_sampler_bias(s, 0, 0), GEMMA_OK);
    assert_int_equal(gm_sampler_draw(s, NULL, row, 3), 2);
    assert_int_equal(gm_sampler_bias(s, 1, 0), GEMMA_OK);
    assert_int_equal(gm_sampler_bias(s, 2, 0), GEMMA_OK);
    assert_false(gm_sampler_needs_row(s));
    assert_int_equal(gm_sampler_draw(s, NULL, row, 3), 1);

    /* Ids beyond the row do nothing; the limit counts ids. */
    for (int32_t i = GM_BIAS_MAX; i > 0; i--) assert_int_equal(gm_sampler_bias(s, i * 3, -1), GEMMA_OK);
    assert_int_equal(gm_sampler_bias(s, 4, 1), GEMMA_E_SMALL);
    assert_int_equal(gm_sampler_bias(s, 3, 9), GEMMA_OK);
    assert_int_equal(gm_sampler_bias(s, INT32_MAX, 0), GEMMA_OK);
    assert_int_equal(gm_sampler_draw(s, NULL, row, 3), 1);
    gm_sampler_destroy(s);

    s = make((gemma_sampler_options){ .temperature = 1 });
    assert_int_equal(gm_sampler_bias(s, 1, -INFINITY), GEMMA_OK);
    for (int i = 0; i < 2000; i++) assert_int_not_equal(gm_sampler_draw(s, NULL, row, 3), 1);
    gm_sampler_destroy(s);
}

static void test_penalties(void **state)
{
    (void)state;
    /* Positive logits are divided: 6 / 2 = 3 < 4. */
    gm_sampler *s = make((gemma_sampler_options){ .repetition = 2 });
    gm_sampler_accept(s, 1);
    gm_sampler_accept(s, 1); /* repetition counts once however often */
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 2.9f, 6 }, 2), 1);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 3.1f, 6 }, 2), 0);
    /* Negative ones are multiplied: -1 × 2 = -2. */
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ -2.1f, -1 }, 2), 1);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ -1.9f, -1 }, 2), 0);
    gm_sampler_reset(s);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 5.9f, 6 }, 2), 1);
    gm_sampler_destroy(s);

    /* 5 - 3 × 0.5 - 0.25 = 3.25 */
    s = make((gemma_sampler_options){ .frequency = 0.5f, .presence = 0.25f });
    for (int i = 0; i < 3; i++) gm_sampler_accept(s, 0);
    gm_sampler_accept(s, -5);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 5, 3.2f }, 2), 0);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 5, 3.3f }, 2), 1);
    /* Bias first, then repetition: (2 + 2) / 2 - 1 = 1. */
    gm_sampler_destroy(s);
    s = make((gemma_sampler_options){ .repetition = 2, .presence = 1 });
    gm_sampler_accept(s, 0);
    assert_int_equal(gm_sampler_bias(s, 0, 2), GEMMA_OK);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 2, 0.9f }, 2), 0);
    assert_int_equal(gm_sampler_draw(s, NULL, (float[]){ 2, 1.1f }, 2), 1);
    gm_sampler_destroy(s);

    /* Only the last two count. */
    s = make((gemma_sampler_options){ .presence = 1, .penalty_last = 2 });
    const float row[] = { 3, 2.5f, 2.25f };
    static const int32_t expected[] = { 0, 1, 2, 0, 1, 2, 0 };
    for (size_t i = 0; i < GM_COUNT(expected); i++) {
        int32_t id = gm_sampler_draw(s, NULL, row, 3);
        assert_int_equal(id, expected[i]);
        gm_sampler_accept(s, id);
    }
    gm_sampler_destroy(s);
}

/* The tallies of a long run are those of counting the window afresh. */
static void test_penalty_window(void **state)
{
    (void)state;
    enum { LAST = 50, N = 2000 };
    gm_sampler *s = make((gemma_sampler_options){ .frequency = 1, .penalty_last = LAST });
    static int32_t accepted[N];
    gm_rng r;
    gm_rng_seed(&r, 8);
    for (int i = 0; i < N; i++) {
        accepted[i] = (int32_t)(gm_rng_next(&r) % 20);
        gm_sampler_accept(s, accepted[i]);
        float row[20] = { 0 };
        int32_t counts[20] = { 0 }, rarest = 0;
        for (int k = i; k >= 0 && k > i - LAST; k--) counts[accepted[k]]++;
        for (int32_t k = 1; k < 20; k++)
            if (counts[k] < counts[rarest]) rarest = k;
        assert_int_equal(gm_sampler_draw(s, NULL, row, 20), rarest);
    }
    gm_sampler_destroy(s);
}

static int make_whole_sampler(gm_sampler **out)
{
    gemma_sampler_options o = { .size = sizeof o, .temperature = 1, .presence = 0.5f, .penalty_last = 32 };
    int rc = gm_sampler_create(&mem, &o, out, NULL);
    if (!rc) rc = gm_sampler_reserve(*out, N_VOCAB);
    for (int32_t id = 0; id < 40 && !rc; id++) rc = gm_sampler_bias(*out, id, 1); /* grows more than once */
    return rc;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    int rc = GEMMA_E_NOMEM;
    uint64_t nth = 0;
    while (rc == GEMMA_E_NOMEM) {
        gm_sampler *s = NULL;
        fault_fail_nth(++nth);
        rc = make_whole_sampler(&s);
        assert_true(fault_fired() == (rc != GEMMA_OK));
        gm_sampler_destroy(s);
        assert_int_equal(fault_live_blocks(), 0);
    }
    fault_fail_nth(0);
    assert_int_equal(rc, GEMMA_OK);
    assert_true(nth > 6); /* the object, ring, tallies, work memory, biases twice */

    /* Growing that fails leaves what was there. */
    gm_sampler *s = make((gemma_sampler_options){ .temperature = 0 });
    for (int32_t id = 0; id < 16; id++) assert_int_equal(gm_sampler_bias(s, id, id == 3 ? 5 : 1), GEMMA_OK);
    fault_fail_nth(1);
    assert_int_equal(gm_sampler_bias(s, 16, 9), GEMMA_E_NOMEM);
    fault_fail_nth(1);
    assert_int_equal(gm_sampler_reserve(s, N_VOCAB * 2), GEMMA_E_NOMEM);
    fault_fail_nth(0);
    static float row[N_VOCAB];
    assert_int_equal(gm_sampler_draw(s, NULL, row, N_VOCAB), 3);
    gm_sampler_destroy(s);
}

static void test_draws_allocate_nothing(void **state)
{
    (void)state;
    gemma_sampler_options o = { .temperature = 1, .top_p = 0.9f, .min_p = 0.01f, .repetition = 1.1f };
    gm_sampler *s = make(o);
    assert_int_equal(gm_sampler_bias(s, 7, 1), GEMMA_OK);
    static float row[N_VOCAB];
    fill_row(row, 1);
    uint64_t before = fault_allocations();
    for (int i = 0; i < 200; i++) gm_sampler_accept(s, gm_sampler_draw(s, NULL, row, N_VOCAB));
    gm_sampler_reset(s);
    assert_int_equal(fault_allocations(), before);
    gm_sampler_destroy(s);
}

static int check_nothing_left(void **state)
{
    (void)state;
    return fault_live_blocks() || fault_mismatches() ? -1 : 0;
}

int main(void)
{
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rng),
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_exp_bits),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_needs_row),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_strange_rows),
        cmocka_unit_test(test_golden_draws),
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_candidates_equal_row),
        cmocka_unit_test(test_bias),
        cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_penalty_window),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_draws_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, check_nothing_left);
}
