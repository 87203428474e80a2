/* IQ2_XXS, IQ2_XS, IQ2_S: a grid entry gives the magnitudes of eight elements, further bits their signs. */
#include "quant/families.h"

/* Codes 0, 1, 2 are 8, 25, 43. */
static void expand_8(uint32_t entry, uint32_t signs, int8_t q[8])
{
    uint64_t code = gm_bytes_of_codes(entry);
    gm_store_bytes(q, gm_negated_where(8 * GM_EACH_BYTE + 17 * code + (code >> 1 & GM_EACH_BYTE), signs));
}

static float scale_of(float d, uint32_t code) { return d * (0.5f + (float)code) * 0.25f; }

void gm_expand_iq2_xxs(const void *block, int8_t *q, float *scale)
{
    const gm_block_iq2_xxs *b = block;
    float d = gm_load_f16(b->d);
    for (int j = 0; j < 8; j++) { /* runs of 32: four grid bytes, then four times seven signs and the scale */
        const uint8_t *grid = b->q + 8 * j;
        uint32_t rest = gm_load_u32(grid + 4);
        scale[2 * j] = scale[2 * j + 1] = scale_of(d, rest >> 28);
        for (int l = 0; l < 4; l++, q += 8) expand_8(gm_grid_iq2_xxs[grid[l]], gm_even_signs(rest >> 7 * l & 127), q);
    }
}

void gm_expand_iq2_xs(const void *block, int8_t *q, float *scale)
{
    const gm_block_iq2_xs *b = block;
    float d = gm_load_f16(b->d);
    for (int j = 0; j < 16; j++) scale[j] = scale_of(d, b->scales[j >> 1] >> 4 * (j & 1) & 15u);
    for (int k = 0; k < 32; k++, q += 8) { /* nine bits of grid, seven of signs */
        uint32_t code = gm_load_u16(b->q + 2 * k);
        expand_8(gm_grid_iq2_xs[code & 511], gm_even_signs(code >> 9), q);
    }
}

void gm_expand_iq2_s(const void *block, int8_t *q, float *scale)
{
    const gm_block_iq2_s *b = block;
    float d = gm_load_f16(b->d);
    for (int j = 0; j < 16; j++) scale[j] = scale_of(d, b->scales[j >> 1] >> 4 * (j & 1) & 15u);
    for (int k = 0; k < 32; k++, q += 8) {
        uint32_t high = b->high[k >> 2] >> 2 * (k & 3) & 3u;
        expand_8(gm_grid_iq2_s[b->q[k] | high << 8], b->signs[k], q);
    }
}

GM_UNPACK_EXPANDED(iq2_xxs, 256)
GM_UNPACK_EXPANDED(iq2_xs, 256)
GM_UNPACK_EXPANDED(iq2_s, 256)
