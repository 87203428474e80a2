/* The kernels of the reference device: float32, no table, no approximation; sums are in double where it costs little.
 * It has no dots over packed weights: rows are unpacked by lib/quant. */
#include "backend/cpu/exec.h"

#include <math.h>

#define LANES 16 /* partial sums: as many as the widest registers hold */

static float sum_lanes(const float sums[LANES])
{
    double sum = 0;
    for (int j = 0; j < LANES; j++) sum += (double)sums[j];
    return (float)sum;
}

static float dot_f32(const float *a, const float *b, size_t n)
{
    float sums[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) sums[j] += a[i + j] * b[i + j];
    for (int j = 0; i < n; i++, j++) sums[j] += a[i] * b[i];
    return sum_lanes(sums);
}

static float dot_f16(const uint16_t *a, const float *b, size_t n)
{
    float sums[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) sums[j] += gm_f32_from_f16(a[i + j]) * b[i + j];
    for (int j = 0; i < n; i++, j++) sums[j] += gm_f32_from_f16(a[i]) * b[i];
    return sum_lanes(sums);
}

static void scores_f32(const void *lines, const void *next, size_t stride_bytes, size_t n_lines, const float *const *q,
                       float *const *out, uint32_t n_columns, size_t n)
{
    (void)next;
    for (size_t l = 0; l < n_lines; l++) {
        const float *line = (const void *)((const uint8_t *)lines + l * stride_bytes);
        for (uint32_t c = 0; c < n_columns; c++) out[c][l] = dot_f32(line, q[c], n);
    }
}

static void scores_f16(const void *lines, const void *next, size_t stride_bytes, size_t n_lines, const float *const *q,
                       float *const *out, uint32_t n_columns, size_t n)
{
    (void)next;
    for (size_t l = 0; l < n_lines; l++) {
        const uint16_t *line = (const void *)((const uint8_t *)lines + l * stride_bytes);
        for (uint32_t c = 0; c < n_columns; c++) out[c][l] = dot_f16(line, q[c], n);
    }
}

static void values_f32(const void *lines, const void *next, size_t stride_bytes, size_t n_lines,
                       const float *const *weights, float *const *out, uint32_t n_columns, size_t n)
{
    (void)next;
    for (size_t l = 0; l < n_lines; l++) {
        const float *line = (const void *)((const uint8_t *)lines + l * stride_bytes);
        for (uint32_t c = 0; c < n_columns; c++)
            for (size_t i = 0; i < n; i++) out[c][i] += weights[c][l] * line[i];
    }
}

static void values_f16(const void *lines, const void *next, size_t stride_bytes, size_t n_lines,
                       const float *const *weights, float *const *out, uint32_t n_columns, size_t n)
{
    (void)next;
    for (size_t l = 0; l < n_lines; l++) {
        const uint16_t *line = (const void *)((const uint8_t *)lines + l * stride_bytes);
        for (uint32_t c = 0; c < n_columns; c++)
            for (size_t i = 0; i < n; i++) out[c][i] += weights[c][l] * gm_f32_from_f16(line[i]);
    }
}

static void f32_to_f16(const float *x, uint16_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = gm_f16_from_f32(x[i]);
}

static double sum_squares(const float *x, size_t n)
{
    double sums[4] = { 0 };
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++) sums[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++) sums[0] += (double)x[i] * (double)x[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

static void geglu(float *restrict gate, const float *restrict up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float z = gate[i];
        gate[i] = 0.5f * z * (1 + tanhf(0.7978845608028654f * (z + 0.044715f * z * z * z))) * up[i];
    }
}

static float softmax_exp(float *x, float max, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += (double)x[i];
    }
    return (float)sum;
}

void gm_cpu_reference_kernels(gm_kernels *k)
{
    *k = (gm_kernels){ .level = "reference",
                       .dot_f32 = dot_f32,
                       .scores_f32 = scores_f32,
                       .scores_f16 = scores_f16,
                       .values_f32 = values_f32,
                       .values_f16 = values_f16,
                       .f32_to_f16 = f32_to_f16,
                       .sum_squares = sum_squares,
                       .geglu = geglu,
                       .softmax_exp = softmax_exp };
}
