/* IQ3_XXS, IQ3_S: a grid entry gives the magnitudes of four elements, further bits their signs. */
#include "quant/families.h"

static void expand_4(uint32_t entry, const uint8_t magnitude[8], uint32_t signs, int8_t q[4])
{
    for (int i = 0; i < 4; i++) {
        int m = magnitude[entry >> 3 * i & 7];
        q[i] = (int8_t)(signs >> i & 1 ? -m : m);
    }
}

void gm_expand_iq3_xxs(const void *block, int8_t *q, float *scale)
{
    static const uint8_t magnitude[8] = { 4, 12, 20, 28, 36, 44, 52, 62 };
    const gm_block_iq3_xxs *b = block;
    float d = gm_load_f16(b->d);
    for (int j = 0; j < 8; j++) { /* runs of 32 */
        uint32_t rest = gm_load_u32(b->rest + 4 * j);
        scale[2 * j] = scale[2 * j + 1] = d * (0.5f + (float)(rest >> 28)) * 0.5f;
        for (int l = 0; l < 4; l++, q += 8) {
            uint32_t signs = gm_even_signs(rest >> 7 * l & 127);
            const uint8_t *grid = b->q + 8 * j + 2 * l;
            expand_4(gm_grid_iq3_xxs[grid[0]], magnitude, signs, q);
            expand_4(gm_grid_iq3_xxs[grid[1]], magnitude, signs >> 4, q + 4);
        }
    }
}

void gm_expand_iq3_s(const void *block, int8_t *q, float *scale)
{
    static const uint8_t magnitude[8] = { 1, 3, 5, 7, 9, 11, 13, 15 };
    const gm_block_iq3_s *b = block;
    float d = gm_load_f16(b->d);
    for (int j = 0; j < 8; j++)
        scale[2 * j] = scale[2 * j + 1] = d * (float)(1 + 2 * (b->scales[j >> 1] >> 4 * (j & 1) & 15));
    for (int k = 0; k < 64; k++, q += 4) {
        uint32_t high = b->high[k >> 3] >> (k & 7) & 1u;
        expand_4(gm_grid_iq3_s[b->q[k] | high << 8], magnitude, (uint32_t)b->signs[k >> 1] >> 4 * (k & 1), q);
    }
}

GM_UNPACK_EXPANDED(iq3_xxs, 256)
GM_UNPACK_EXPANDED(iq3_s, 256)
