/* The kernels of attention at every level of the CPU: scores and values of any number of lines and queries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/cpu/kernels.h"

#include <math.h>

enum { COLUMNS = GM_DOT_COLUMNS };

static const uint32_t levels[] = { 0,
                                   GM_CPU_AVX2,
                                   GM_CPU_AVX2 | GM_CPU_AVX_VNNI,
                                   GM_CPU_AVX2 | GM_CPU_AVX512 | GM_CPU_AVX512_VNNI,
                                   GM_CPU_NEON,
                                   GM_CPU_NEON | GM_CPU_DOTPROD,
                                   GM_CPU_NEON | GM_CPU_DOTPROD | GM_CPU_I8MM };

static uint32_t seed;
static float uniform(void) /* -1 … 1 */
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 0x1p23f - 1;
}

/* Skips, visibly, where the processor lacks the level. */
static gm_kernels pick(void **state)
{
    const uint32_t *needs = *state;
    if ((gm_cpu_features() & *needs) != *needs) skip();
    gm_kernels k;
    gm_kernels_pick(&k, *needs);
    print_message("level %s\n", k.level);
    return k;
}

/* For any number of lines and queries: the bits of one line and one query. */
static void scores_match(void **state)
{
    gm_kernels k = pick(state);
    enum { N_LINES = 5, LENGTH = 70, STRIDE = LENGTH + 3 };
    seed = 10;
    float lines[N_LINES * STRIDE], q[COLUMNS][LENGTH];
    uint16_t halves[N_LINES * STRIDE];
    for (size_t i = 0; i < GM_COUNT(lines); i++) {
        halves[i] = gm_f16_from_f32(uniform());
        lines[i] = gm_f32_from_f16(halves[i]);
    }
    for (size_t i = 0; i < COLUMNS * LENGTH; i++) q[i / LENGTH][i % LENGTH] = uniform();
    for (size_t n = 0; n <= LENGTH; n++) {
        for (uint32_t n_columns = 1; n_columns <= COLUMNS; n_columns++) {
            float out[2][COLUMNS][N_LINES + 1];
            float *to[2][COLUMNS];
            const float *by[COLUMNS];
            for (size_t c = 0; c < COLUMNS; c++) {
                by[c] = q[c];
                for (size_t i = 0; i < 2; i++) to[i][c] = out[i][c], out[i][c][N_LINES] = 12345;
            }
            k.scores_f32(lines, lines, STRIDE * sizeof *lines, N_LINES, by, to[0], n_columns, n);
            k.scores_f16(halves, NULL, STRIDE * sizeof *halves, N_LINES, by, to[1], n_columns, n);
            for (size_t c = 0; c < n_columns; c++)
                for (size_t l = 0; l < N_LINES; l++) {
                    float want[2];
                    k.f32[GM_F32](lines + l * STRIDE, 0, 1, by + c, 1, n, &want[0], 1);
                    k.f32[GM_F16](halves + l * STRIDE, 0, 1, by + c, 1, n, &want[1], 1);
                    assert_memory_equal(&out[0][c][l], &want[0], sizeof want[0]);
                    assert_memory_equal(&out[1][c][l], &want[1], sizeof want[1]);
                    assert_true(out[0][c][N_LINES] == 12345 && out[1][c][N_LINES] == 12345);
                }
        }
    }
}

static void values_match(void **state)
{
    gm_kernels k = pick(state);
    enum { N_LINES = 9, LENGTH = 70, STRIDE = LENGTH + 3 };
    seed = 4;
    float lines[N_LINES * STRIDE], weights[COLUMNS][N_LINES];
    uint16_t halves[N_LINES * STRIDE];
    for (size_t i = 0; i < GM_COUNT(lines); i++) {
        halves[i] = gm_f16_from_f32(uniform());
        lines[i] = gm_f32_from_f16(halves[i]);
    }
    for (size_t i = 0; i < COLUMNS * N_LINES; i++) weights[i / N_LINES][i % N_LINES] = uniform();
    for (size_t n = 0; n <= LENGTH; n++) {
        float first[COLUMNS][LENGTH + 1], out[2][COLUMNS][LENGTH + 1], one[LENGTH + 1];
        const float *by[COLUMNS];
        float *to[2][COLUMNS];
        for (size_t i = 0; i < COLUMNS * (LENGTH + 1); i++) first[i / (LENGTH + 1)][i % (LENGTH + 1)] = uniform();
        memcpy(out[0], first, sizeof first);
        memcpy(out[1], first, sizeof first);
        for (size_t c = 0; c < COLUMNS; c++) by[c] = weights[c], to[0][c] = out[0][c], to[1][c] = out[1][c];
        k.values_f32(lines, NULL, STRIDE * sizeof *lines, N_LINES, by, to[0], COLUMNS, n);
        k.values_f16(halves, halves, STRIDE * sizeof *halves, N_LINES, by, to[1], COLUMNS, n);
        assert_memory_equal(out[0], out[1], sizeof out[0]);
        for (size_t c = 0; c < COLUMNS; c++) {
            assert_true(out[0][c][n] == first[c][n]);
            for (size_t i = 0; i < n; i++) {
                double want = (double)first[c][i];
                for (size_t l = 0; l < N_LINES; l++) want += (double)weights[c][l] * (double)lines[l * STRIDE + i];
                assert_true(fabs((double)out[0][c][i] - want) <= 2e-6);
            }
            /* Alone, and line by line: the same bits. */
            memcpy(one, first[c], sizeof one);
            for (size_t l = 0; l < N_LINES; l++) {
                const float *weight = &weights[c][l];
                k.values_f16(halves + l * STRIDE, NULL, 0, 1, &weight, &(float *){ one }, 1, n);
            }
            assert_memory_equal(one, out[0][c], sizeof one);
        }
    }
}

int main(void)
{
    struct CMUnitTest tests[2 * GM_COUNT(levels)] = { { 0 } };
    for (size_t i = 0; i < GM_COUNT(levels); i++) {
        tests[2 * i] = (struct CMUnitTest)cmocka_unit_test_prestate(scores_match, (void *)(uintptr_t)&levels[i]);
        tests[2 * i + 1] = (struct CMUnitTest)cmocka_unit_test_prestate(values_match, (void *)(uintptr_t)&levels[i]);
    }
    return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
