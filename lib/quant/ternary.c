/* TQ1_0 and TQ2_0: -1, 0, 1 times one scale, as base-3 digits or in two bits. */
#include "quant/families.h"

static void same_scale(const uint8_t d[2], float scale[16])
{
    float v = gm_load_f16(d);
    for (int j = 0; j < 16; j++) scale[j] = v;
}

/* A byte is 256/243 of a number of five base-3 digits, rounded up: as a fraction of 256, whose first digits come out
 * of a multiplication by 3. Digit n of each byte in turn, then digit n + 1. */
static int8_t *expand_digits(const uint8_t *restrict bytes, int n_bytes, int n_digits, int8_t *restrict q)
{
    static const uint8_t power[5] = { 1, 3, 9, 27, 81 };
    for (int n = 0; n < n_digits; n++, q += n_bytes) {
        for (int i = 0; i < n_bytes; i++) q[i] = (int8_t)(((bytes[i] * power[n] & 255) * 3 >> 8) - 1);
    }
    return q;
}

void gm_expand_tq1_0(const void *restrict block, int8_t *restrict q, float *restrict scale)
{
    const gm_block_tq1_0 *b = block;
    same_scale(b->d, scale);
    q = expand_digits(b->q, 32, 5, q);
    q = expand_digits(b->q + 32, 16, 5, q);
    expand_digits(b->last, 4, 4, q);
}

void gm_expand_tq2_0(const void *restrict block, int8_t *restrict q, float *restrict scale)
{
    const gm_block_tq2_0 *b = block;
    same_scale(b->d, scale);
    for (int j = 0; j < 8; j++, q += 32) {
        const uint8_t *bits = b->q + 32 * (j >> 2);
        for (int i = 0; i < 32; i++) q[i] = (int8_t)((bits[i] >> 2 * (j & 3) & 3) - 1);
    }
}

GM_UNPACK_EXPANDED(tq1_0, 256)
GM_UNPACK_EXPANDED(tq2_0, 256)
