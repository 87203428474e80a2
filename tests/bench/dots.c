/* How fast each level's dots go through weights: bench_dots [K [type|all [level]]]. One thread; best and median of many
 * passes over a working set that may fit a cache (8 MB) and one that does not (256 MB). */
#include "backend/cpu/kernels.h"

#include <stdio.h>
#include <stdlib.h>

enum { MIN_PASSES = 3, MAX_PASSES = 25, ROWS = 16 };
#define CELL_NS UINT64_C(500000000) /* no more passes after that long */
static const uint32_t types[] = { GM_Q4_0,  GM_Q4_1,  GM_Q5_0, GM_Q5_1,   GM_Q8_0,   GM_Q2_K,  GM_Q3_K,
                                  GM_Q4_K,  GM_Q5_K,  GM_Q6_K, GM_IQ4_NL, GM_IQ4_XS, GM_MXFP4, GM_NVFP4,
                                  GM_IQ2_S, GM_IQ3_S, GM_F32,  GM_F16,    GM_BF16 };
static const uint32_t masks[] = { 0, GM_CPU_AVX2, GM_CPU_AVX2 | GM_CPU_AVX_VNNI, UINT32_MAX };

typedef struct work {
    const gm_kernels *k;
    const gm_format *f;
    uint8_t *rows;
    size_t n_rows, n;
    const gm_activations *packed[GM_DOT_COLUMNS];
    const float *floats[GM_DOT_COLUMNS];
} work;

static double pass(const work *w, uint32_t n_columns)
{
    size_t row_bytes = gm_row_bytes(w->f, w->n);
    gm_dot_q8 dot_q8 = w->k->q8[w->f->type];
    gm_dot_f32 dot_f32 = w->k->f32[w->f->type];
    volatile float sink = 0;
    uint64_t start = gm_now_ns();
    for (size_t r = 0; r < w->n_rows; r += ROWS) {
        float out[GM_DOT_COLUMNS * ROWS];
        uint32_t n_rows = (uint32_t)gm_min_u64(ROWS, w->n_rows - r);
        const uint8_t *rows = w->rows + r * row_bytes;
        if (dot_q8)
            dot_q8(rows, row_bytes, n_rows, w->packed, n_columns, w->n, out, ROWS);
        else
            dot_f32(rows, row_bytes, n_rows, w->floats, n_columns, w->n, out, ROWS);
        sink += out[(n_columns - 1) * ROWS];
    }
    (void)sink;
    return (double)(w->n_rows * row_bytes) / (double)(gm_now_ns() - start); /* GB/s */
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(work *w, size_t set_bytes, uint32_t n_columns)
{
    w->n_rows = set_bytes / gm_row_bytes(w->f, w->n);
    double rate[MAX_PASSES];
    int n_passes = 0;
    pass(w, n_columns);
    uint64_t start = gm_now_ns();
    while (n_passes < MIN_PASSES || (n_passes < MAX_PASSES && gm_now_ns() - start < CELL_NS))
        rate[n_passes++] = pass(w, n_columns);
    qsort(rate, (size_t)n_passes, sizeof *rate, ascending);
    printf("  %6.1f %6.1f", rate[n_passes - 1], rate[n_passes / 2]);
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) / 256 * 256 : 2048, small = 8000000, large = 256000000;
    if (!n) n = 256;
    uint8_t *rows = malloc(large);
    float *x = malloc(n * GM_DOT_COLUMNS * sizeof *x);
    gm_activations *packed = aligned_alloc(64, GM_DOT_COLUMNS * gm_activations_bytes(n)); /* as backends keep them */
    if (!rows || !x || !packed) return 1;
    uint32_t seed = 1;
    for (size_t i = 0; i < large; i++) { /* any two bytes are a normal f16 */
        seed = seed * 1664525u + 1013904223u;
        rows[i] = (uint8_t)((seed >> 24 & 0x2f) | 0x10);
    }
    for (size_t i = 0; i < n * GM_DOT_COLUMNS; i++) x[i] = (float)(int)(i * 7919 % 255) - 127;
    gm_kernels plain;
    gm_kernels_pick(&plain, 0);
    for (size_t c = 0; c < GM_DOT_COLUMNS; c++) plain.pack(x + c * n, packed + c * (n / 256), 0, n / 32, n / 32);
    work w = { .rows = rows, .n = n };
    for (size_t c = 0; c < GM_DOT_COLUMNS; c++) w.packed[c] = packed + c * (n / 256), w.floats[c] = x + c * n;

    printf("K = %zu, GB/s of weights: best and median\n%-12s %-7s  %13s  %13s  %13s  %13s\n", n, "level", "type",
           "8 MB, 1 col", "8 MB, 4 col", "256 MB, 1 col", "256 MB, 4 col");
    const char *previous = "";
    for (size_t m = 0; m < GM_COUNT(masks); m++) {
        gm_kernels k;
        gm_kernels_pick(&k, masks[m] & gm_cpu_features());
        if (strcmp(k.level, previous) == 0) continue;
        previous = k.level;
        w.k = &k;
        if (argc > 3 && strcmp(argv[3], k.level) != 0) continue;
        for (size_t t = 0; t < GM_COUNT(types); t++) {
            w.f = gm_format_of(types[t]);
            if (argc > 2 && strcmp(argv[2], "all") != 0 && strcmp(argv[2], w.f->name) != 0) continue;
            printf("%-12s %-7s", k.level, w.f->name);
            measure(&w, small, 1);
            measure(&w, small, 4);
            measure(&w, large, 1);
            measure(&w, large, 4);
            printf("\n");
            fflush(stdout);
        }
    }
    free(packed);
    free(x);
    free(rows);
    return 0;
}
