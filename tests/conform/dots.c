/* Every level of the kernels that this processor has, against lib/quant and libm in double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/cpu/kernels.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LONGEST = 4096, COLUMNS = GM_DOT_COLUMNS };

typedef struct level {
    const char *name;
    uint32_t needs, also; /* features; `also` are those that say what is fast */
} level;
static const level levels[] = {
    { "plain", 0, 0 },
    { "avx2", GM_CPU_AVX2, 0 },
    { "avx2-vnni", GM_CPU_AVX2 | GM_CPU_AVX_VNNI, 0 },
    { "avx512-vnni", GM_CPU_AVX2 | GM_CPU_AVX512 | GM_CPU_AVX512_VNNI, 0 },
    { "avx512-vnni", GM_CPU_AVX2 | GM_CPU_AVX512 | GM_CPU_AVX512_VNNI, GM_CPU_FAST_512 },
    { "neon", GM_CPU_NEON, 0 },
    { "neon-dotprod", GM_CPU_NEON | GM_CPU_DOTPROD, 0 },
    { "neon-i8mm", GM_CPU_NEON | GM_CPU_DOTPROD | GM_CPU_I8MM, 0 },
};

static uint32_t seed;
static uint32_t draw(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}
static float uniform(void) { return (float)draw() / 0x1p23f - 1; } /* -1 … 1 */

/* Skips, visibly, where the processor lacks the level. */
static gm_kernels pick(void **state)
{
    const level *l = *state;
    if ((gm_cpu_features() & l->needs) != l->needs) {
        print_message("level %s: not on this processor\n", l->name);
        skip();
    }
    gm_kernels k;
    gm_kernels_pick(&k, l->needs | l->also);
    assert_string_equal(k.level, l->name);
    return k;
}

static void *allocate(size_t n_bytes)
{
    void *p = malloc(n_bytes);
    assert_non_null(p);
    return p;
}

static void pick_fills_every_entry_and_keeps_to_the_mask(void **state)
{
    gm_kernels k = pick(state);
    static const uint32_t q8[] = { GM_Q4_0,    GM_Q4_1,   GM_Q5_0,   GM_Q5_1,    GM_Q8_0,  GM_Q2_K,  GM_Q3_K,  GM_Q4_K,
                                   GM_Q5_K,    GM_Q6_K,   GM_IQ4_NL, GM_IQ4_XS,  GM_MXFP4, GM_NVFP4, GM_IQ1_S, GM_IQ1_M,
                                   GM_IQ2_XXS, GM_IQ2_XS, GM_IQ2_S,  GM_IQ3_XXS, GM_IQ3_S, GM_TQ1_0, GM_TQ2_0 };
    size_t n_q8 = 0, n_f32 = 0;
    for (size_t t = 0; t < GM_TYPE_LIMIT; t++) n_q8 += k.q8[t] != NULL, n_f32 += k.f32[t] != NULL;
    assert_int_equal(n_q8, GM_COUNT(q8));
    assert_true(k.tile_rows <= GM_TILE_ROWS);
    for (size_t i = 0; i < GM_COUNT(q8); i++) {
        assert_true(k.q8[q8[i]] != NULL);
        assert_true((k.tile[q8[i]].unpack != NULL) == (k.tile_rows != 0));
        assert_true((k.tile[q8[i]].multiply != NULL) == (k.tile_rows != 0));
    }
    assert_int_equal(n_f32, 3);
    assert_true(k.f32[GM_F32] && k.f32[GM_F16] && k.f32[GM_BF16]);
    assert_true(k.pack && k.dot_f32 && k.scores_f16 && k.scores_f32 && k.values_f16 && k.values_f32 && k.f32_to_f16);
    assert_true(k.sum_squares && k.geglu && k.softmax_exp);
}

/* ---- quantised rows ---- */
typedef enum pattern { RANDOM, LARGEST, ZERO_SCALE, ALL_ONES, ALL_ZEROS, N_PATTERNS } pattern;

/* Where a block keeps its f16 fields, or how another scale is as harmless. */
static void put_scales(uint8_t *block, uint32_t type, uint16_t d, uint16_t min)
{
    int at_d = 0, at_min = -1;
    switch (type) {
    case GM_Q4_1:
    case GM_Q5_1:
    case GM_Q4_K:
    case GM_Q5_K: at_min = 2; break;
    case GM_Q2_K: at_d = offsetof(gm_block_q2_k, d), at_min = offsetof(gm_block_q2_k, dmin); break;
    case GM_Q3_K: at_d = offsetof(gm_block_q3_k, d); break;
    case GM_Q6_K: at_d = offsetof(gm_block_q6_k, d); break;
    case GM_TQ1_0: at_d = offsetof(gm_block_tq1_0, d); break;
    case GM_TQ2_0: at_d = offsetof(gm_block_tq2_0, d); break;
    case GM_MXFP4: block[0] = (uint8_t)(100 + (d >> 8 & 31)); return; /* 2^-28 … 2^3 */
    case GM_NVFP4: return;                                            /* any byte is finite */
    case GM_IQ1_M:                                                    /* in four top nibbles */
        for (int j = 0; j < 4; j++) block[49 + 2 * j] = (uint8_t)((block[49 + 2 * j] & 15) | (d >> 4 * j & 15) << 4);
        return;
    default: break;
    }
    memcpy(block + at_d, (uint8_t[]){ (uint8_t)d, (uint8_t)(d >> 8) }, 2);
    if (at_min >= 0) memcpy(block + at_min, (uint8_t[]){ (uint8_t)min, (uint8_t)(min >> 8) }, 2);
}

static void fill_row(uint8_t *row, const gm_format *f, size_t n, pattern p)
{
    for (size_t b = 0; b < n / f->block; b++, row += f->block_bytes) {
        for (size_t i = 0; i < f->block_bytes; i++)
            row[i] = (uint8_t)(p == ALL_ONES ? 255 : p == ALL_ZEROS ? 0 : p == LARGEST ? 0x80 | draw() : draw());
        /* Any finite scale, of either sign, subnormal ones included. */
        uint16_t d = (uint16_t)(draw() & 0xbfff), min = (uint16_t)(draw() & 0xbfff);
        if (p == LARGEST) d = 0x7bff, min = 0xfbff;
        if (p == ZERO_SCALE && b % 2) d = min = 0;
        if (p == ALL_ONES || p == ALL_ZEROS) d = 0x3c00, min = 0xb800;
        put_scales(row, f->type, d, min);
    }
}

static void fill_activations(const gm_kernels *k, float *x, gm_activations *q, size_t n, pattern p)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = uniform();
        if (p == LARGEST) x[i] = x[i] < 0 ? -1e25f : 1e25f; /* every code ±127 */
        if (p == ALL_ONES || p == ALL_ZEROS) x[i] = draw() % 3 ? 5 : -5;
        if (i / 32 % 5 == 4) x[i] = 0;
    }
    k->pack(x, q, 0, n / 32, n / 32);
}

/* The bound is for adding floats: integer parts must be exact. Formats with a minimum take the sum of a block, itself
 * rounded, times a minimum that may cancel most of the rest: the bound counts both parts. */
static void check_column(const char *what, float got, const float *w, const float *mins, const gm_activations *q,
                         size_t n)
{
    double sum = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)q[i / 256].d[i % 256 / 32] * q[i / 256].q[i % 256];
        sum += (double)w[i] * x;
        size += (fabs((double)w[i]) + fabs((double)mins[i])) * fabs(x);
    }
    if (!(fabs((double)got - sum) <= 5e-7 * size))
        fail_msg("%s: %.9g, should be %.9g: off by %.2g of the sum of magnitudes", what, (double)got, sum,
                 fabs((double)got - sum) / size);
}

/* The values of the same row with every code, hence every step above the minimum, at zero. */
static void minima_of(const gm_format *f, const uint8_t *row, float *mins, size_t n)
{
    uint8_t block[256];
    float values[256];
    for (size_t b = 0; b < n / f->block; b++) {
        memcpy(block, row + b * f->block_bytes, f->block_bytes);
        switch (f->type) {
        case GM_Q4_1: memset(block + 4, 0, 16); break;
        case GM_Q5_1: memset(block + 4, 0, 20); break;
        case GM_Q2_K: memset(block + 16, 0, 64); break;
        case GM_Q4_K: memset(block + 16, 0, 128); break;
        case GM_Q5_K: memset(block + 16, 0, 160); break;
        default: memset(block, 0, f->block_bytes); break;
        }
        f->unpack(block, values, 1);
        memcpy(mins + b * f->block, values, f->block * sizeof *values);
    }
}

static void check_type(const gm_kernels *k, const gm_format *f, size_t n, pattern p)
{
    size_t row_bytes = gm_row_bytes(f, n), n_q = gm_div_up(n, 256);
    uint8_t *memory = allocate(2 * row_bytes + 4), *aligned = allocate(row_bytes);
    float *w = allocate(n * sizeof *w), *mins = allocate(n * sizeof *mins), *x = allocate(n * sizeof *x);
    gm_activations *q = allocate(COLUMNS * n_q * sizeof *q);
    fill_row(aligned, f, n, p);
    memcpy(memory + 3, aligned, row_bytes);
    memcpy(memory + 4 + row_bytes, aligned, row_bytes); /* ends where the allocation ends */
    f->unpack(aligned, w, n / f->block);
    minima_of(f, aligned, mins, n);
    const gm_activations *columns[COLUMNS];
    for (size_t c = 0; c < COLUMNS; c++) {
        columns[c] = q + c * n_q;
        fill_activations(k, x, q + c * n_q, n, p);
    }
    float all[COLUMNS];
    k->q8[f->type](aligned, 0, 1, columns, COLUMNS, n, all, 1);
    for (uint32_t c = 0; c < COLUMNS; c++) {
        char what[96];
        snprintf(what, sizeof what, "%s %s, K = %zu, pattern %d, column %u", k->level, f->name, n, (int)p, c);
        check_column(what, all[c], w, mins, columns[c], n);
    }
    for (uint32_t n_columns = 1; n_columns <= COLUMNS; n_columns++) {
        enum { STRIDE = 3 };
        float some[COLUMNS * STRIDE];
        for (size_t i = 0; i < GM_COUNT(some); i++) some[i] = 12345;
        k->q8[f->type](memory + 3, row_bytes + 1, 2, columns, n_columns, n, some, STRIDE);
        for (uint32_t i = 0; i < COLUMNS * STRIDE; i++) {
            float want = i / STRIDE < n_columns && i % STRIDE < 2 ? all[i / STRIDE] : 12345;
            assert_memory_equal(&some[i], &want, sizeof want);
        }
    }
    for (uint32_t c = 0; c < COLUMNS; c++) { /* in another place among the columns */
        const gm_activations *turned[COLUMNS];
        for (uint32_t i = 0; i < COLUMNS; i++) turned[i] = columns[(c + i) % COLUMNS];
        float some[COLUMNS];
        k->q8[f->type](aligned, 0, 1, turned, COLUMNS, n, some, 1);
        assert_memory_equal(&some[0], &all[c], sizeof *some);
    }
    free(q);
    free(x);
    free(mins);
    free(w);
    free(aligned);
    free(memory);
}

/* A tile gives the bits of the dots, for any number of rows and columns, and writes nothing else. */
static void check_tile(const gm_kernels *k, const gm_format *f, size_t n, uint32_t n_rows, uint32_t n_columns,
                       pattern p)
{
    enum { STRIDE = GM_TILE_ROWS + 5 };
    size_t row_bytes = gm_row_bytes(f, n), n_q = gm_div_up(n, 256), panel_bytes = gm_panel_bytes(k, n);
    uint8_t *rows = allocate(n_rows * row_bytes), *memory = allocate(panel_bytes + 64);
    uint8_t *panel = memory + (64 - (uintptr_t)memory % 64) % 64;
    float *x = allocate(n * sizeof *x), out[GM_TILE_COLUMNS * STRIDE + GM_TILE_ROWS];
    gm_activations *q = allocate(n_columns * n_q * sizeof *q);
    const gm_activations *columns[GM_TILE_COLUMNS];
    for (uint32_t r = 0; r < n_rows; r++) fill_row(rows + r * row_bytes, f, n, p);
    for (uint32_t c = 0; c < n_columns; c++) {
        columns[c] = q + c * n_q;
        fill_activations(k, x, q + c * n_q, n, p);
    }
    for (size_t i = 0; i < GM_COUNT(out); i++) out[i] = 12345;
    k->tile[f->type].unpack(rows, row_bytes, n_rows, n, panel);
    k->tile[f->type].multiply(panel, n_rows, columns, n_columns, n, out, STRIDE);
    for (uint32_t c = 0; c < GM_TILE_COLUMNS; c++)
        for (uint32_t r = 0; r < STRIDE; r++) {
            float want = 12345, got = out[c * STRIDE + r];
            if (c < n_columns && r < n_rows) k->q8[f->type](rows + r * row_bytes, 0, 1, columns + c, 1, n, &want, 1);
            if (memcmp(&want, &got, sizeof want) != 0)
                fail_msg("%s %s, K = %zu, pattern %d, %u × %u, row %u, column %u: %.9g, should be %.9g", k->level,
                         f->name, n, (int)p, n_rows, n_columns, r, c, (double)got, (double)want);
            if (c == GM_TILE_COLUMNS - 1 && r == GM_TILE_ROWS - 1) break;
        }
    free(q);
    free(x);
    free(memory);
    free(rows);
}

static void tiles_have_the_bits_of_the_dots(void **state)
{
    gm_kernels k = pick(state);
    static const size_t lengths[] = { 32, 64, 192, 256, 640, 1024, 1856 };
    seed = 9;
    size_t n_checked = 0;
    for (uint32_t type = 0; k.tile_rows && type < GM_TYPE_LIMIT; type++) {
        if (!k.tile[type].unpack) continue;
        const gm_format *f = gm_format_of(type);
        for (size_t i = 0; i < GM_COUNT(lengths); i++) {
            if (lengths[i] % f->block) continue;
            for (uint32_t n_rows = 1; n_rows <= k.tile_rows; n_rows += n_rows == 1 ? 4 : k.tile_rows - 5)
                for (uint32_t n_columns = 1; n_columns <= GM_TILE_COLUMNS; n_columns++, n_checked++)
                    check_tile(&k, f, lengths[i], n_rows, n_columns, (pattern)(n_checked % N_PATTERNS));
        }
    }
    if (k.tile_rows) assert_int_equal(n_checked, GM_TILE_COLUMNS * 3 * (7 * 7 + 1 * 6 + 15 * 2));
}

static void quantised_rows_match(void **state)
{
    gm_kernels k = pick(state);
    static const size_t lengths[] = { 32, 64, 256, 640, 1024, 2048, 2112 };
    seed = 1;
    size_t n_checked = 0;
    for (uint32_t type = 0; type < GM_TYPE_LIMIT; type++) {
        if (!k.q8[type]) continue;
        const gm_format *f = gm_format_of(type);
        for (size_t i = 0; i < GM_COUNT(lengths); i++) {
            if (lengths[i] % f->block) continue;
            for (int p = 0; p < N_PATTERNS; p++, n_checked++) check_type(&k, f, lengths[i], (pattern)p);
        }
    }
    assert_int_equal(n_checked, N_PATTERNS * (7 * 7 + 1 * 6 + 15 * 3));
}

/* ---- float rows ---- */
static void check_float_row(const gm_kernels *k, const gm_format *f, size_t n, bool unaligned)
{
    size_t row_bytes = gm_row_bytes(f, n);
    uint8_t *memory = allocate(row_bytes + 1), *row = memory + unaligned;
    float *x = allocate((COLUMNS * n + 1) * sizeof *x), *w = allocate((n + 1) * sizeof *w);
    for (size_t i = 0; i < n; i++) w[i] = uniform();
    f->pack(w, row, n);
    f->unpack(row, w, n);
    const float *columns[COLUMNS];
    for (size_t c = 0; c < COLUMNS; c++) {
        columns[c] = x + c * n;
        for (size_t i = 0; i < n; i++) x[c * n + i] = uniform();
    }
    float all[COLUMNS];
    k->f32[f->type](row, 0, 1, columns, COLUMNS, n, all, 1);
    for (uint32_t c = 0; c < COLUMNS; c++) {
        double sum = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)w[i] * (double)columns[c][i];
            size += fabs((double)w[i] * (double)columns[c][i]);
        }
        if (!(fabs((double)all[c] - sum) <= 2e-6 * size))
            fail_msg("%s %s, n = %zu: %.9g, should be %.9g", k->level, f->name, n, (double)all[c], sum);
    }
    for (uint32_t n_columns = 1; n_columns < COLUMNS; n_columns++) {
        float some[COLUMNS];
        k->f32[f->type](row, 0, 1, columns, n_columns, n, some, 1);
        assert_memory_equal(some, all, n_columns * sizeof *some);
    }
    if (!unaligned && f->type == GM_F32) {
        float one = k->dot_f32((const float *)(const void *)row, x, n);
        assert_memory_equal(&one, &all[0], sizeof one);
    }
    free(w);
    free(x);
    free(memory);
}

static void float_rows_match(void **state)
{
    gm_kernels k = pick(state);
    static const uint32_t types[] = { GM_F32, GM_F16, GM_BF16 };
    seed = 2;
    for (size_t t = 0; t < GM_COUNT(types); t++) {
        for (size_t n = 0; n <= 70; n++) check_float_row(&k, gm_format_of(types[t]), n, n % 2);
        check_float_row(&k, gm_format_of(types[t]), 256, false);
        check_float_row(&k, gm_format_of(types[t]), 2051, false);
        check_float_row(&k, gm_format_of(types[t]), 2051, true);
    }
}

/* ---- packing of activations: the oracle's bits ---- */
static void check_run(const gm_q8a *want, const gm_activations *got, size_t i)
{
    int32_t sums[2] = { 0, 0 };
    for (int k = 0; k < 32; k++) sums[k / 16] += want->q[k];
    assert_memory_equal(got->q + 32 * i, want->q, sizeof want->q);
    assert_memory_equal(&got->d[i], &want->d, sizeof want->d);
    assert_memory_equal(&got->sum[i], &want->sum, sizeof want->sum);
    assert_int_equal(got->bias[i], -128 * (sums[0] + sums[1]));
    assert_true(got->half_sums[i][0] == sums[0] && got->half_sums[i][1] == sums[1]);
}

static void activations_match(void **state)
{
    gm_kernels k = pick(state);
    seed = 3;
    enum { N_BLOCKS = 7 };
    for (int round = 0; round < 20000; round++) {
        float x[32 * N_BLOCKS];
        float scale = ldexpf(1, (int)(draw() % 250) - 125);
        for (size_t i = 0; i < GM_COUNT(x); i++) {
            x[i] = uniform() * scale;
            if (round % 3 == 1) x[i] = scale * (float)((int)(draw() % 509) - 254) / 2; /* ties */
            if (round % 3 == 2 && i / 32 == 1) x[i] = i % 2 ? 0.0f : -0.0f;
        }
        if (round % 7 == 1) x[draw() % 32] = INFINITY;
        gm_q8a want[N_BLOCKS];
        gm_activations got[2];
        gm_q8a_pack(x, want, N_BLOCKS);
        memset(got, 0x55, sizeof got);
        for (size_t first = 0; first < N_BLOCKS; first += round % 2 ? N_BLOCKS : 1)
            k.pack(x + 32 * first, got + 1, first, round % 2 ? N_BLOCKS : 1, N_BLOCKS);
        if (round % 7 == 1) assert_true(isinf(got[1].d[0])); /* of such a run only the scale is promised */
        for (size_t i = round % 7 == 1; i < N_BLOCKS; i++) check_run(&want[i], got + 1, i);
        check_run(&(gm_q8a){ 0 }, got + 1, N_BLOCKS);
        for (size_t i = 0; i < sizeof got[0]; i++) assert_int_equal(((const uint8_t *)got)[i], 0x55);
    }
    float nan_block[32] = { 1, 2, NAN };
    gm_activations got;
    k.pack(nan_block, &got, 0, 1, 1);
    assert_true(isnan(got.d[0]));
}

/* ---- helpers ---- */
/* All halves, the floats between them, and a walk through all exponents. */
static void f32_to_f16_matches(void **state)
{
    gm_kernels k = pick(state);
    enum { BATCH = 4099 };
    float *x = allocate(BATCH * sizeof *x);
    uint16_t *got = allocate(BATCH * sizeof *got);
    uint32_t next = 0, step = 1021; /* every bit pattern of 2^32 that is a multiple of 1021 */
    bool done = false;
    while (!done) {
        size_t n = 0;
        for (; n < BATCH && !done; n++) {
            x[n] = gm_f32_from_bits(next);
            done = next > UINT32_MAX - step;
            next += step;
        }
        k.f32_to_f16(x, got, n);
        for (size_t i = 0; i < n; i++) {
            uint16_t want = gm_f16_from_f32(x[i]);
            if (got[i] != want) fail_msg("%a: 0x%04x, should be 0x%04x", (double)x[i], got[i], want);
        }
    }
    for (uint32_t h = 0; h < 0x7c00; h++) { /* a half, the tie above it, and its neighbours */
        uint32_t a = gm_f32_bits(gm_f32_from_f16((uint16_t)h)), b = gm_f32_bits(gm_f32_from_f16((uint16_t)(h + 1)));
        uint32_t tie = h == 0x7bff ? 0x477ff000 : gm_f32_bits((gm_f32_from_bits(a) + gm_f32_from_bits(b)) / 2);
        uint32_t probes[9] = { a,
                               tie - 1,
                               tie,
                               tie + 1,
                               b,
                               a | 0x80000000u,
                               (tie - 1) | 0x80000000u,
                               tie | 0x80000000u,
                               (tie + 1) | 0x80000000u };
        for (size_t i = 0; i < 9; i++) x[i] = gm_f32_from_bits(probes[i]);
        k.f32_to_f16(x, got, 9);
        for (size_t i = 0; i < 9; i++) assert_int_equal(got[i], gm_f16_from_f32(x[i]));
    }
    free(got);
    free(x);
}

static void sum_squares_matches(void **state)
{
    gm_kernels k = pick(state);
    seed = 5;
    float x[LONGEST];
    for (size_t i = 0; i < LONGEST; i++) x[i] = uniform() * 1e15f; /* squares beyond float */
    for (size_t n = 0; n <= LONGEST; n = n < 40 ? n + 1 : n * 2 + 1) {
        double want = 0;
        for (size_t i = 0; i < n; i++) want += (double)x[i] * (double)x[i];
        assert_true(fabs(k.sum_squares(x, n) - want) <= 1e-14 * want);
    }
}

static double exact_gelu(double x)
{
    /* (1 + tanh u) / 2 = 1 / (1 + e^-2u) */
    return x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

static void geglu_matches(void **state)
{
    gm_kernels k = pick(state);
    seed = 6;
    double worst = 0;
    for (uint32_t bits = 0; bits < 0x7f800000u; bits += 4093 * LONGEST / 16) {
        float gate[LONGEST], up[LONGEST], x[LONGEST];
        for (size_t i = 0; i < LONGEST; i++) {
            x[i] = gm_f32_from_bits((bits + (uint32_t)(i * 1021)) % 0x7f800000u);
            if (bits / 4093 % 2) x[i] = uniform() * 12; /* the range that matters, densely */
            if (i % 2) x[i] = -x[i];
            gate[i] = x[i];
            up[i] = i % 5 ? 1 : -0.5f;
        }
        size_t n = LONGEST - draw() % 9;
        k.geglu(gate, up, n);
        for (size_t i = 0; i < n; i++) {
            double want = exact_gelu((double)x[i]) * (double)up[i], off = fabs((double)gate[i] - want);
            if (fabs(want) < 1e-36)
                assert_true(off <= 1e-36);
            else
                worst = fmax(worst, off / fabs(want));
        }
        for (size_t i = n; i < LONGEST; i++) assert_true(gate[i] == x[i]);
    }
    print_message("%s: geglu within %.2g\n", k.level, worst);
    assert_true(worst > 0 && worst < 3e-7);
    float special[4] = { INFINITY, -INFINITY, NAN, -0.0f }, one[4] = { 1, 1, 1, 1 };
    k.geglu(special, one, 4);
    assert_true(isinf(special[0]) && special[0] > 0);
    assert_true(isnan(special[2]) && special[3] == 0);
}

static void softmax_exp_matches(void **state)
{
    gm_kernels k = pick(state);
    seed = 7;
    double worst = 0, worst_sum = 0;
    for (int round = 0; round < 200; round++) {
        float x[LONGEST], e[LONGEST];
        size_t n = 1 + draw() % LONGEST;
        float range = (round % 4 == 0) ? 87 : (round % 4 == 1) ? 1e-3f : 20, max = uniform() * 10;
        for (size_t i = 0; i < n; i++) {
            x[i] = max - range * (float)draw() / 0x1p24f;
            if (i % 11 == 3) x[i] = -INFINITY; /* masked */
        }
        x[n / 2] = max;
        memcpy(e, x, sizeof e);
        double got = (double)k.softmax_exp(e, max, n), want = 0;
        for (size_t i = 0; i < n; i++) {
            double exact = exp((double)(x[i] - max));
            want += exact;
            if (x[i] == -INFINITY)
                assert_true(e[i] == 0);
            else
                worst = fmax(worst, fabs((double)e[i] - exact) / exact);
        }
        assert_true(e[n / 2] == 1);
        worst_sum = fmax(worst_sum, fabs(got - want) / want);
    }
    print_message("%s: exp within %.2g, its sum within %.2g\n", k.level, worst, worst_sum);
    assert_true(worst > 0 && worst < 1e-7 && worst_sum < 1e-7);
    float far[3] = { -100, -1e30f, NAN };
    k.softmax_exp(far, 0, 3);
    assert_true(far[0] == 0 && far[1] == 0 && isnan(far[2]));
    assert_true(k.softmax_exp(far, 0, 0) == 0);
}

/* The helpers that are plain loops give the same bits at every level. */
static void elementwise_helpers_are_the_same_everywhere(void **state)
{
    gm_kernels k = pick(state), plain;
    gm_kernels_pick(&plain, 0);
    seed = 8;
    float a[2][1001], b[2][1001], up[1001];
    for (size_t i = 0; i < GM_COUNT(up); i++) {
        a[0][i] = a[1][i] = uniform() * 8;
        b[0][i] = b[1][i] = uniform() * 8 - 8;
        up[i] = uniform();
    }
    assert_true(k.sum_squares(a[0], 1001) == plain.sum_squares(a[0], 1001));
    k.geglu(a[0], up, 1001);
    plain.geglu(a[1], up, 1001);
    assert_memory_equal(a[0], a[1], sizeof a[0]);
    assert_true(k.softmax_exp(b[0], 0, 1001) == plain.softmax_exp(b[1], 0, 1001));
    assert_memory_equal(b[0], b[1], sizeof b[0]);
}

/* Levels that add a product unrounded differ in nothing else: all have the bits of the lowest of them. */
static void quantised_rows_are_those_of_the_lowest_level(void **state)
{
    gm_kernels k = pick(state), lowest;
    gm_kernels_pick(&lowest, gm_cpu_features() & (GM_CPU_AVX2 | GM_CPU_NEON));
    if (strcmp(k.level, "plain") == 0 || strcmp(k.level, lowest.level) == 0) return;
    enum { N = 1792 };
    seed = 10;
    size_t n_checked = 0;
    for (uint32_t type = 0; type < GM_TYPE_LIMIT; type++) {
        if (!k.q8[type]) continue;
        const gm_format *f = gm_format_of(type);
        uint8_t *row = allocate(gm_row_bytes(f, N));
        for (int p = 0; p < N_PATTERNS; p++, n_checked++) {
            float x[N], got, want;
            gm_activations q[N / 256];
            const gm_activations *column = q;
            fill_row(row, f, N, (pattern)p);
            fill_activations(&k, x, q, N, (pattern)p);
            k.q8[type](row, 0, 1, &column, 1, N, &got, 1);
            lowest.q8[type](row, 0, 1, &column, 1, N, &want, 1);
            if (memcmp(&got, &want, sizeof want) != 0)
                fail_msg("%s %s, pattern %d: %.9g, %s: %.9g", k.level, f->name, p, (double)got, lowest.level,
                         (double)want);
        }
        free(row);
    }
    assert_int_equal(n_checked, N_PATTERNS * 23);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void **state);
    } checks[] = {
        { "pick", pick_fills_every_entry_and_keeps_to_the_mask },
        { "quantised rows", quantised_rows_match },
        { "rows of the lowest", quantised_rows_are_those_of_the_lowest_level },
        { "tiles", tiles_have_the_bits_of_the_dots },
        { "float rows", float_rows_match },
        { "activations", activations_match },
        { "f32_to_f16", f32_to_f16_matches },
        { "sum_squares", sum_squares_matches },
        { "geglu", geglu_matches },
        { "softmax_exp", softmax_exp_matches },
        { "same everywhere", elementwise_helpers_are_the_same_everywhere },
    };
    static char names[GM_COUNT(levels) * GM_COUNT(checks)][48];
    struct CMUnitTest tests[GM_COUNT(levels) * GM_COUNT(checks)];
    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < GM_COUNT(tests); i++) {
        const level *l = &levels[i / GM_COUNT(checks)];
        size_t c = i % GM_COUNT(checks);
        snprintf(names[i], sizeof names[i], "%s%s: %s", l->name, l->also ? ", fast" : "", checks[c].name);
        tests[i].name = names[i];
        tests[i].test_func = checks[c].run;
        tests[i].initial_state = (void *)(uintptr_t)l;
    }
    return cmocka_run_group_tests_name("dots", tests, NULL, NULL);
}
