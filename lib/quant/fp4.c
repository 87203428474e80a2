/* MXFP4 and NVFP4: four-bit floats, with a scale that is a power of two or an eight-bit float. */
#include "quant/families.h"

/* Twice the values of E2M1, so that they are integers; the scales below are halved. */
const int8_t gm_fp4_values[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

void gm_expand_mxfp4(const void *block, int8_t *q, float *scale)
{
    const gm_block_mxfp4 *b = block;
    scale[0] = scale[1] = gm_scale_mxfp4(b->e);
    for (int i = 0; i < 16; i++) {
        q[i] = gm_fp4_values[b->q[i] & 15];
        q[i + 16] = gm_fp4_values[b->q[i] >> 4];
    }
}

void gm_expand_nvfp4(const void *block, int8_t *q, float *scale)
{
    const gm_block_nvfp4 *b = block;
    for (int j = 0; j < 4; j++, q += 16) { /* runs of 16 */
        scale[j] = gm_scale_nvfp4(b->d[j]);
        for (int i = 0; i < 8; i++) {
            q[i] = gm_fp4_values[b->q[8 * j + i] & 15];
            q[i + 8] = gm_fp4_values[b->q[8 * j + i] >> 4];
        }
    }
}

GM_UNPACK_EXPANDED(mxfp4, 32)
GM_UNPACK_EXPANDED(nvfp4, 64)
