/* The kernels of the production path, picked once from plain C upwards. */
#ifndef GM_CPU_KERNELS_H
#define GM_CPU_KERNELS_H

#include "quant/quant.h"

#define GM_DOT_COLUMNS  4 /* activation columns a dot kernel takes at most */
#define GM_TILE_COLUMNS 8 /* and a tile */
#define GM_TILE_ROWS    16

/* 256 Q8 activations, eight runs of 32 as gm_q8a_pack makes them. A vector of n, a multiple of 32, is ⌈n / 256⌉ of
 * these; runs behind its end are zero. */
typedef struct gm_activations {
    int8_t q[256];
    float d[8];              /* of a run */
    float sum[8];            /* d × Σ q */
    int32_t bias[8];         /* -128 × Σ q: what taking weights as 128 more adds, negated */
    int16_t half_sums[8][2]; /* Σ q of a run's first and last 16 */
} gm_activations;
static inline size_t gm_activations_bytes(size_t n) { return gm_div_up(n, 256) * sizeof(gm_activations); }

/* n_rows weight rows, row_bytes apart, against n_columns (1 … GM_DOT_COLUMNS) activation vectors: out[c × stride + r] =
 * Σ_i row r [i] x_c[i]. n values, a multiple of the format's block and of 32. x[c] is the c-th vector.
 *
 * The result for a column does not depend on what it is computed with, nor on which kernel of a level does: for run i of
 * 32 weights, lane[i % 8] += S × (scale × d), S the exact integer sum, in ascending order of i; formats with a scale for
 * each 16 add the first half, then the last; then those with a minimum add min × sum. (Levels differ in whether a product
 * is rounded before it is added.) The lanes are added as ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)). */
typedef void (*gm_dot_q8)(const void *rows, size_t row_bytes, uint32_t n_rows, const gm_activations *const *x,
                          uint32_t n_columns, size_t n, float *out, size_t stride);
/* A tile is tile_rows weight rows, unpacked once into a panel and then multiplied with many columns: out[c × stride + r]
 * for the rows and n_columns (1 … GM_TILE_COLUMNS) columns. */
typedef struct gm_tile {
    void (*unpack)(const uint8_t *rows, uint64_t row_bytes, uint32_t n_rows, size_t n, uint8_t *panel);
    void (*multiply)(const uint8_t *panel, uint32_t n_rows, const gm_activations *const *x, uint32_t n_columns,
                     size_t n, float *out, uint64_t stride);
} gm_tile;
/* The same for F32, F16, BF16 weights, which keep float activations; any n. */
typedef void (*gm_dot_f32)(const void *rows, size_t row_bytes, uint32_t n_rows, const float *const *x,
                           uint32_t n_columns, size_t n, float *out, size_t stride);

/* Lines of keys, stride_bytes apart, against n_columns (1 … GM_DOT_COLUMNS) queries of n values: out[c][l] = line l · q[c],
 * with the bits of a gm_dot_f32. `next` is where as many bytes will be read from after these, which come into the cache
 * meanwhile: a page is too short for the processor to see the next one coming. NULL: nowhere. */
typedef void (*gm_scores)(const void *lines, const void *next, size_t stride_bytes, size_t n_lines,
                          const float *const *q, float *const *out, uint32_t n_columns, size_t n);
/* Lines of values, stride_bytes apart, for n_columns (1 … GM_DOT_COLUMNS) queries: out[c][i] += weights[c][l] × line l [i],
 * one line after another. */
typedef void (*gm_values)(const void *lines, const void *next, size_t stride_bytes, size_t n_lines,
                          const float *const *weights, float *const *out, uint32_t n_columns, size_t n);

typedef struct gm_kernels {
    const char *level;           /* "plain", "avx2", "neon" */
    gm_dot_q8 q8[GM_TYPE_LIMIT]; /* by weight type; NULL: none for it */
    gm_dot_f32 f32[GM_TYPE_LIMIT];
    gm_tile tile[GM_TYPE_LIMIT]; /* as q8, or NULL: none at this level */
    uint32_t tile_rows;          /* at most GM_TILE_ROWS; 0: no tiles */
    /* Runs first … first + n_runs - 1 of a vector of `total` runs from x; the zeros behind its end come with the last. */
    void (*pack)(const float *x, gm_activations *out, size_t first, size_t n_runs, size_t total);
    float (*dot_f32)(const float *a, const float *b, size_t n);
    gm_scores scores_f16, scores_f32;
    gm_values values_f16, values_f32;
    void (*f32_to_f16)(const float *x, uint16_t *out, size_t n);
    double (*sum_squares)(const float *x, size_t n);
    void (*geglu)(float *gate, const float *up, size_t n); /* gate = gelu_tanh(gate) × up */
    /* Σ exp(x[i] - max) with x overwritten by exp(x[i] - max). */
    float (*softmax_exp)(float *x, float max, size_t n);
} gm_kernels;

/* Bytes of a panel of n values a row: 64-byte aligned. Weights as bytes, and up to four floats for each 32. */
static inline size_t gm_panel_bytes(const gm_kernels *k, size_t n)
{
    return k->tile_rows * (n / 32) * (32 + 4 * sizeof(float));
}

/* Fills every entry; features are GM_CPU_… bits. */
void gm_kernels_pick(gm_kernels *k, uint32_t features);

#endif
