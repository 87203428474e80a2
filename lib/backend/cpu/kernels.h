/* The kernels of the production path, picked once from plain C upwards. */
#ifndef GM_CPU_KERNELS_H
#define GM_CPU_KERNELS_H

#include "quant/quant.h"

#define GM_DOT_COLUMNS 4 /* activation columns a dot kernel takes at most */

/* One weight row against n_columns (1 … GM_DOT_COLUMNS) activation vectors: out[c] = Σ_i w[i] x_c[i]. n values, a
 * multiple of the format's block and of 32. x[c] is the c-th vector. The result for a column does not depend on
 * n_columns. */
typedef void (*gm_dot_q8)(const void *row, const gm_q8a *const *x, uint32_t n_columns, size_t n, float *out);
/* The same for F32, F16, BF16 weights, which keep float activations; any n. */
typedef void (*gm_dot_f32)(const void *row, const float *const *x, uint32_t n_columns, size_t n, float *out);

typedef struct gm_kernels {
    const char *level;           /* "plain", "avx2", "avx512-vnni" */
    gm_dot_q8 q8[GM_TYPE_LIMIT]; /* by weight type; NULL: none for it */
    gm_dot_f32 f32[GM_TYPE_LIMIT];
    void (*q8a_pack)(const float *x, gm_q8a *out, size_t n_blocks);
    float (*dot_f32)(const float *a, const float *b, size_t n);
    float (*dot_f16)(const uint16_t *a, const float *b, size_t n);    /* attention scores, K in F16 */
    void (*axpy_f32)(float *y, float a, const float *x, size_t n);    /* y += a x */
    void (*axpy_f16)(float *y, float a, const uint16_t *x, size_t n); /* attention values, V in F16 */
    void (*f32_to_f16)(const float *x, uint16_t *out, size_t n);
    double (*sum_squares)(const float *x, size_t n);
    void (*geglu)(float *gate, const float *up, size_t n); /* gate = gelu_tanh(gate) × up */
    /* Σ exp(x[i] - max) with x overwritten by exp(x[i] - max). */
    float (*softmax_exp)(float *x, float max, size_t n);
} gm_kernels;

/* Fills every entry; features are GM_CPU_… bits. */
void gm_kernels_pick(gm_kernels *k, uint32_t features);

#endif
