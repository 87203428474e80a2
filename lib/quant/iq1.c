/* IQ1_S, IQ1_M: a grid entry gives eight elements of -1, 0, 1, all moved up or down by an eighth: integers of eighths. */
#include "quant/families.h"

static void expand_8(uint32_t entry, bool down, int8_t q[8])
{
    /* 8 × (code - 1) ± 1 with the top bit set, so that no byte borrows from the next. */
    uint64_t v = (8 * gm_bytes_of_codes(entry) | 0x80 * GM_EACH_BYTE) - (down ? 9u : 7u) * GM_EACH_BYTE;
    gm_store_bytes(q, v ^ 0x80 * GM_EACH_BYTE);
}

static float scale_of(float d, uint32_t code) { return d * (float)(2 * code + 1) * 0.125f; }

void gm_expand_iq1_s(const void *block, int8_t *q, float *scale)
{
    const gm_block_iq1_s *b = block;
    float d = gm_load_f16(b->d);
    for (int j = 0; j < 8; j++) { /* runs of 32: four times three high bits of grid, the scale, the direction */
        uint32_t rest = gm_load_u16(b->rest + 2 * j);
        scale[2 * j] = scale[2 * j + 1] = scale_of(d, rest >> 12 & 7);
        for (int l = 0; l < 4; l++, q += 8)
            expand_8(gm_grid_iq1[b->q[4 * j + l] | (rest >> 3 * l & 7) << 8], rest >> 15, q);
    }
}

void gm_expand_iq1_m(const void *block, int8_t *q, float *scale)
{
    const gm_block_iq1_m *b = block;
    uint32_t bits = 0; /* of d, four in the top of each word of scales */
    for (int j = 0; j < 4; j++) bits |= (uint32_t)(b->scales[2 * j + 1] >> 4) << 4 * j;
    float d = gm_f32_from_f16((uint16_t)bits);
    for (int j = 0; j < 16; j++)
        scale[j] = scale_of(d, (uint32_t)gm_load_u16(b->scales + 2 * (j >> 2)) >> 3 * (j & 3) & 7);
    for (int k = 0; k < 32; k++, q += 8) {
        uint32_t high = b->high[k >> 1] >> 4 * (k & 1) & 15u; /* three bits of grid and the direction */
        expand_8(gm_grid_iq1[b->q[k] | (high & 7) << 8], high >> 3, q);
    }
}

GM_UNPACK_EXPANDED(iq1_s, 256)
GM_UNPACK_EXPANDED(iq1_m, 256)
