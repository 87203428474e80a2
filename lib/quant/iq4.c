/* IQ4_NL and IQ4_XS: a nibble chooses one of sixteen unevenly spaced values. */
#include "quant/families.h"

const int8_t gm_iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

static void unpack_run(const uint8_t *restrict q, float scale, float *restrict out)
{
    for (int i = 0; i < 16; i++) {
        out[i] = scale * (float)gm_iq4_values[q[i] & 15];
        out[i + 16] = scale * (float)gm_iq4_values[q[i] >> 4];
    }
}

void gm_unpack_iq4_nl(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q4_0 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, out += 32) unpack_run(b->q, gm_load_f16(b->d), out);
}

void gm_unpack_iq4_xs(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_iq4_xs *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++) {
        float d = gm_load_f16(b->d);
        int32_t scales_high = gm_load_u16(b->scales_high);
        for (int j = 0; j < 8; j++, out += 32) { /* runs of 32, each laid out as in IQ4_NL */
            int32_t low = b->scales_low[j >> 1] >> 4 * (j & 1) & 15, high = scales_high >> 2 * j & 3;
            unpack_run(b->q + 16 * j, d * (float)((low | high << 4) - 32), out);
        }
    }
}

static int32_t nearest(float x)
{
    int32_t code = 0;
    while (code < 15 && x > (float)(gm_iq4_values[code] + gm_iq4_values[code + 1]) / 2) code++;
    return code;
}

void gm_pack_iq4_nl(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q4_0 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 32) {
        float d = gm_store_f16(b->d, gm_extreme(in, 32) / -127);
        for (int i = 0; i < 16; i++)
            b->q[i] = (uint8_t)(d == 0 ? 0 : nearest(in[i] / d) | nearest(in[i + 16] / d) << 4);
    }
}
