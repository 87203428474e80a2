/* IQ3_XXS, IQ3_S: a grid entry gives the magnitudes of four elements, further bits their signs. */
#include "quant/families.h"

/* The codes of two entries of four times three bits. */
static uint64_t bytes_of_codes(uint32_t first, uint32_t second)
{
    uint64_t v = first | (uint64_t)second << 32;
    v = (v | v << 10) & UINT64_C(0x003f003f003f003f);
    return (v | v << 5) & UINT64_C(0x0707070707070707);
}

void gm_expand_iq3_xxs(const void *block, int8_t *q, float *scale)
{
    const gm_block_iq3_xxs *b = block;
    float d = gm_load_f16(b->d);
    for (int j = 0; j < 8; j++) { /* runs of 32 */
        uint32_t rest = gm_load_u32(b->rest + 4 * j);
        scale[2 * j] = scale[2 * j + 1] = d * (0.5f + (float)(rest >> 28)) * 0.5f;
        for (int l = 0; l < 4; l++, q += 8) {
            const uint8_t *grid = b->q + 8 * j + 2 * l;
            uint64_t code = bytes_of_codes(gm_grid_iq3_xxs[grid[0]], gm_grid_iq3_xxs[grid[1]]);
            uint64_t seven = code & code >> 1 & code >> 2 & GM_EACH_BYTE; /* 4, 12, … 52, and 62 */
            uint64_t magnitude = 4 * GM_EACH_BYTE + 8 * code + 2 * seven;
            gm_store_bytes(q, gm_negated_where(magnitude, gm_even_signs(rest >> 7 * l & 127)));
        }
    }
}

void gm_expand_iq3_s(const void *block, int8_t *q, float *scale)
{
    const gm_block_iq3_s *b = block;
    float d = gm_load_f16(b->d);
    for (int j = 0; j < 8; j++)
        scale[2 * j] = scale[2 * j + 1] = d * (float)(1 + 2 * (b->scales[j >> 1] >> 4 * (j & 1) & 15));
    for (int k = 0; k < 32; k++, q += 8) { /* two entries, each with one bit of `high` */
        uint32_t high = (uint32_t)b->high[k >> 2] >> 2 * (k & 3);
        const uint8_t *grid = b->q + 2 * k;
        uint64_t code =
            bytes_of_codes(gm_grid_iq3_s[grid[0] | (high & 1) << 8], gm_grid_iq3_s[grid[1] | (high & 2) << 7]);
        gm_store_bytes(q, gm_negated_where(GM_EACH_BYTE + 2 * code, b->signs[k]));
    }
}

GM_UNPACK_EXPANDED(iq3_xxs, 256)
GM_UNPACK_EXPANDED(iq3_s, 256)
