/* Packing of Q4_K and Q6_K without a search for better scales: good for tests and synthetic models. */
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

void gm_pack_q4_k(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q4_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 256) {
        float step[8], offset[8]; /* of each run of 32: x ≈ step × code − offset, offset ≥ 0 */
        for (int j = 0; j < 8; j++) {
            float min = 0, max = 0;
            for (int i = 0; i < 32; i++) {
                float x = in[32 * j + i];
                min = x < min ? x : min;
                max = x > max ? x : max;
            }
            step[j] = (max - min) / 15;
            offset[j] = -min;
        }
        float d = gm_store_f16(b->d, gm_absmax(step, 8) / 63), dmin = gm_store_f16(b->dmin, gm_absmax(offset, 8) / 63);
        uint8_t scales[8], mins[8];
        memset(b->q, 0, sizeof b->q);
        for (int j = 0; j < 8; j++) {
            scales[j] = (uint8_t)gm_code(step[j], d, 0, 63);
            mins[j] = (uint8_t)gm_code(offset[j], dmin, 0, 63);
            float scale = d * (float)scales[j], min = dmin * (float)mins[j];
            uint8_t *q = b->q + 32 * (j >> 1);
            for (int i = 0; i < 32; i++)
                q[i] = (uint8_t)(q[i] | gm_code(in[32 * j + i] + min, scale, 0, 15) << 4 * (j & 1));
        }
        join_scales(scales, mins, b->scales);
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
