/* Activations as int8, the oracle of the kernels that do the same. */
#include "quant/families.h"

#include <float.h>

void gm_q8a_pack(const float *restrict x, gm_q8a *restrict out, size_t n_blocks)
{
    for (size_t n = 0; n < n_blocks; n++, out++, x += 32) {
        float d = gm_absmax(x, 32) / 127;
        /* With a subnormal d, x / d could pass 127, and half the devices flush it to zero anyway. */
        if (d < FLT_MIN) {
            memset(out, 0, sizeof *out);
            continue;
        }
        int32_t sum = 0;
        for (int i = 0; i < 32; i++) {
            int32_t q = gm_round(x[i] / d);
            out->q[i] = (int8_t)q;
            sum += out->q[i];
        }
        out->d = d;
        /* 32 values near FLT_MAX: an infinite sum would meet minima of zero and make NaN. */
        float s = d * (float)sum;
        s = s > FLT_MAX ? FLT_MAX : s;
        out->sum = s < -FLT_MAX ? -FLT_MAX : s;
    }
}
