/* Packing of Q2_K … Q6_K without a search for better scales: good for tests and synthetic models. */
#include "quant/families.h"

/* Inverse of gm_scales_q4_k. */
static void join_scales(const uint8_t scale[8], const uint8_t min[8], uint8_t packed[12])
{
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        packed[j + 4] = (uint8_t)(min[j] | (min[j + 4] >> 4) << 6);
        packed[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

/* Runs with a minimum: x ≈ scale × code - min, min ≥ 0, as a reader will see both. */
typedef struct fit {
    uint8_t scale_codes[16], min_codes[16];
    float scale[16], min[16];
} fit;

/* n_runs runs in 256 elements, codes 0 … top; the scales and minima themselves in codes 0 … small_top. */
static void fit_runs(const float *x, int n_runs, int top, int small_top, uint8_t d_at[2], uint8_t dmin_at[2], fit *f)
{
    int length = 256 / n_runs;
    float step[16] = { 0 }, offset[16] = { 0 };
    for (int j = 0; j < n_runs; j++) {
        float min = 0, max = 0;
        for (int i = 0; i < length; i++) {
            float v = x[length * j + i];
            min = v < min ? v : min;
            max = v > max ? v : max;
        }
        step[j] = (max - min) / (float)top;
        offset[j] = -min;
    }
    float d = gm_store_f16(d_at, gm_absmax(step, 16) / (float)small_top);
    float dmin = gm_store_f16(dmin_at, gm_absmax(offset, 16) / (float)small_top);
    for (int j = 0; j < n_runs; j++) {
        f->scale_codes[j] = (uint8_t)gm_code(step[j], d, 0, small_top);
        f->min_codes[j] = (uint8_t)gm_code(offset[j], dmin, 0, small_top);
        f->scale[j] = d * (float)f->scale_codes[j];
        f->min[j] = dmin * (float)f->min_codes[j];
    }
}

void gm_pack_q2_k(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q2_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 256) {
        fit f;
        fit_runs(in, 16, 3, 15, b->d, b->dmin, &f);
        for (int j = 0; j < 16; j++) b->scales[j] = (uint8_t)(f.scale_codes[j] | f.min_codes[j] << 4);
        memset(b->q, 0, sizeof b->q);
        for (int i = 0; i < 256; i++) {
            uint8_t *q = b->q + 32 * (i >> 7) + (i & 31);
            *q = (uint8_t)(*q | gm_code(in[i] + f.min[i >> 4], f.scale[i >> 4], 0, 3) << 2 * (i >> 5 & 3));
        }
    }
}

void gm_pack_q3_k(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q3_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 256) {
        float step[16];
        for (int j = 0; j < 16; j++) step[j] = gm_extreme(in + 16 * j, 16) / -4;
        float d = gm_store_f16(b->d, gm_absmax(step, 16) / 31);
        memset(b->high, 0, sizeof b->high);
        memset(b->q, 0, sizeof b->q);
        memset(b->scales, 0, sizeof b->scales);
        for (int j = 0; j < 16; j++) {
            int32_t code = gm_code(step[j], d, -31, 31);
            float scale = d * (float)code;
            code += 32;
            b->scales[j & 7] = (uint8_t)(b->scales[j & 7] | (code & 15) << 4 * (j >> 3));
            b->scales[8 + (j & 3)] = (uint8_t)(b->scales[8 + (j & 3)] | code >> 4 << 2 * (j >> 2));
            for (int i = 16 * j; i < 16 * j + 16; i++) {
                int32_t q = gm_code(in[i], scale, -4, 3) + 4;
                uint8_t *low = b->q + 32 * (i >> 7) + (i & 31), *high = b->high + (i & 31);
                *low = (uint8_t)(*low | (q & 3) << 2 * (i >> 5 & 3));
                *high = (uint8_t)(*high | (q >> 2) << (i >> 5));
            }
        }
    }
}

void gm_pack_q4_k(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q4_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 256) {
        fit f;
        fit_runs(in, 8, 15, 63, b->d, b->dmin, &f);
        join_scales(f.scale_codes, f.min_codes, b->scales);
        memset(b->q, 0, sizeof b->q);
        for (int i = 0; i < 256; i++) {
            uint8_t *q = b->q + 32 * (i >> 6) + (i & 31);
            *q = (uint8_t)(*q | gm_code(in[i] + f.min[i >> 5], f.scale[i >> 5], 0, 15) << 4 * (i >> 5 & 1));
        }
    }
}

void gm_pack_q5_k(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q5_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 256) {
        fit f;
        fit_runs(in, 8, 31, 63, b->d, b->dmin, &f);
        join_scales(f.scale_codes, f.min_codes, b->scales);
        memset(b->high, 0, sizeof b->high);
        memset(b->q, 0, sizeof b->q);
        for (int i = 0; i < 256; i++) {
            int32_t code = gm_code(in[i] + f.min[i >> 5], f.scale[i >> 5], 0, 31);
            uint8_t *q = b->q + 32 * (i >> 6) + (i & 31), *high = b->high + (i & 31);
            *q = (uint8_t)(*q | (code & 15) << 4 * (i >> 5 & 1));
            *high = (uint8_t)(*high | (code >> 4) << (i >> 5));
        }
    }
}

void gm_pack_q6_k(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q6_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 256) {
        float d = gm_store_f16(b->d, gm_absmax(in, 256) / 31 / 127);
        memset(b->low, 0, sizeof b->low);
        memset(b->high, 0, sizeof b->high);
        for (int j = 0; j < 16; j++) {
            const float *x = in + 16 * j;
            b->scales[j] = (int8_t)gm_code(gm_absmax(x, 16) / 31, d, 0, 127);
            float scale = d * (float)b->scales[j];
            int group = j >> 1 & 3;
            uint8_t *low = b->low + 64 * (j >> 3) + 32 * (group & 1) + 16 * (j & 1);
            uint8_t *high = b->high + 32 * (j >> 3) + 16 * (j & 1);
            for (int i = 0; i < 16; i++) {
                int32_t code = gm_code(x[i], scale, -32, 31) + 32;
                low[i] = (uint8_t)(low[i] | (code & 15) << 4 * (group >> 1));
                high[i] = (uint8_t)(high[i] | (code >> 4) << 2 * group);
            }
        }
    }
}
