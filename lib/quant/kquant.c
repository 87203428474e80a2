/* Decoding of Q2_K … Q6_K: 256 elements with their own small scales, in runs of 16 (Q2, Q3, Q6) or 32 (Q4, Q5).
 * A field narrower than a byte goes round the block before it moves up in the byte: with 2 bits, byte l of the first 32
 * holds elements l, l + 32, l + 64 and l + 96, and the next 32 bytes hold elements 128 and up. */
#include "quant/families.h"

void gm_unpack_q2_k(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q2_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++) {
        float d = gm_load_f16(b->d), dmin = gm_load_f16(b->dmin);
        for (int j = 0; j < 16; j++, out += 16) { /* runs of 16 */
            float scale = d * (float)(b->scales[j] & 15), min = dmin * (float)(b->scales[j] >> 4);
            const uint8_t *q = b->q + 32 * (j >> 3) + 16 * (j & 1);
            int shift = 2 * (j >> 1 & 3);
            for (int i = 0; i < 16; i++) out[i] = scale * (float)(q[i] >> shift & 3) - min;
        }
    }
}

/* 6 bits less 32: the low four in the nibbles of the first 8 bytes, the high two in the last 4 bytes. */
static int32_t scale_q3_k(const uint8_t packed[12], int j)
{
    int32_t low = packed[j & 7] >> 4 * (j >> 3) & 15;
    int32_t high = packed[8 + (j & 3)] >> 2 * (j >> 2) & 3;
    return (low | high << 4) - 32;
}

void gm_unpack_q3_k(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q3_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++) {
        float d = gm_load_f16(b->d);
        for (int j = 0; j < 16; j++, out += 16) { /* runs of 16 */
            float scale = d * (float)scale_q3_k(b->scales, j);
            const uint8_t *q = b->q + 32 * (j >> 3) + 16 * (j & 1), *high = b->high + 16 * (j & 1);
            int shift = 2 * (j >> 1 & 3), bit = j >> 1;
            for (int i = 0; i < 16; i++) out[i] = scale * (float)((q[i] >> shift & 3) + 4 * (high[i] >> bit & 1) - 4);
        }
    }
}

void gm_unpack_q4_k(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q4_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++) {
        float d = gm_load_f16(b->d), dmin = gm_load_f16(b->dmin);
        uint8_t scales[8], mins[8];
        gm_scales_q4_k(b->scales, scales, mins);
        for (int j = 0; j < 8; j++, out += 32) { /* runs of 32 */
            float scale = d * (float)scales[j], min = dmin * (float)mins[j];
            const uint8_t *q = b->q + 32 * (j >> 1);
            int shift = 4 * (j & 1);
            for (int i = 0; i < 32; i++) out[i] = scale * (float)(q[i] >> shift & 15) - min;
        }
    }
}

void gm_unpack_q5_k(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q5_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++) {
        float d = gm_load_f16(b->d), dmin = gm_load_f16(b->dmin);
        uint8_t scales[8], mins[8];
        gm_scales_q4_k(b->scales, scales, mins);
        for (int j = 0; j < 8; j++, out += 32) { /* runs of 32 */
            float scale = d * (float)scales[j], min = dmin * (float)mins[j];
            const uint8_t *q = b->q + 32 * (j >> 1);
            int shift = 4 * (j & 1);
            for (int i = 0; i < 32; i++)
                out[i] = scale * (float)((q[i] >> shift & 15) | (b->high[i] >> j & 1) << 4) - min;
        }
    }
}

void gm_unpack_q6_k(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q6_k *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++) {
        float d = gm_load_f16(b->d);
        for (int j = 0; j < 16; j++, out += 16) { /* runs of 16 */
            float scale = d * (float)b->scales[j];
            int group = j >> 1 & 3; /* which 32 of the 128 */
            const uint8_t *low = b->low + 64 * (j >> 3) + 32 * (group & 1) + 16 * (j & 1);
            const uint8_t *high = b->high + 32 * (j >> 3) + 16 * (j & 1);
            int low_shift = 4 * (group >> 1), high_shift = 2 * group;
            for (int i = 0; i < 16; i++)
                out[i] = scale * (float)(((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
        }
    }
}
