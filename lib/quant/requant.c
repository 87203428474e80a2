/* Any format as Q8_0, for devices without a kernel for it. */
#include "quant/families.h"

enum { UNIT = 256 }; /* values at once: a multiple of every block */

/* Of formats that are integers with a scale for each 16: where two runs share it, the integers stand as they are and
 * only the scale is rounded, so that ternary weights lose nothing. */
static void requant_expanded(const gm_format *f, const uint8_t *blocks, float factor, gm_block_q8_0 *out, size_t n)
{
    int8_t q[UNIT];
    float scale[UNIT / 16], values[32];
    for (size_t at = 0; at < n; at += f->block, blocks += f->block_bytes) {
        f->expand(blocks, q, scale);
        for (uint32_t i = 0; i < f->block; i += 32, out++) {
            const float *s = scale + i / 16;
            if (s[0] == s[1] && gm_absmax(s, 1) * gm_absmax(&factor, 1) <= 65504.0f) {
                gm_store_f16(out->d, s[0] * factor);
                memcpy(out->q, q + i, 32);
                continue;
            }
            float low = s[0] * factor, high = s[1] * factor;
            for (uint32_t j = 0; j < 16; j++) values[j] = low * (float)q[i + j];
            for (uint32_t j = 16; j < 32; j++) values[j] = high * (float)q[i + j];
            gm_pack_q8_0(values, out, 1);
        }
    }
}

static void requant(const gm_format *f, const uint8_t *from, float factor, gm_block_q8_0 *out, size_t n)
{
    float values[UNIT];
    for (size_t at = 0, step; at < n; at += step) {
        step = n - at < UNIT ? n - at : UNIT;
        f->unpack(from, values, step / f->block);
        if (factor != 1) {
            for (size_t i = 0; i < step; i++) values[i] *= factor;
        }
        gm_pack_q8_0(values, out, step / 32);
        from += gm_row_bytes(f, step);
        out += step / 32;
    }
}

void gm_requant_q8_0(const gm_format *f, const void *blocks, float factor, gm_block_q8_0 *out, size_t n)
{
    uint64_t modes = gm_float_env_set_default();
    if (f->expand)
        requant_expanded(f, blocks, factor, out, n);
    else
        requant(f, blocks, factor, out, n);
    gm_float_env_restore(modes);
}
