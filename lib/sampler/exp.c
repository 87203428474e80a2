#include "sampler/sampler.h"

/* e^x = 2^n e^r with n the integer nearest to x / ln 2, so |r| ≤ ln 2 / 2 + a little; e^r by its Taylor series to r^13,
 * whose rest is below 5e-18. ln 2 is split in two: n × the upper part is exact (21 trailing zero bits), so r is good to
 * about 2^-53 of itself. */
double gm_exp(double x)
{
    static const double per_ln2 = 0x1.71547652b82fep+0, ln2_upper = 0x1.62e42fee00000p-1,
                        ln2_lower = 0x1.a39ef35793c76p-33;
    static const double factors[] = { /* 1 / k!, k = 13 … 0 */
                                      1.0 / 6227020800.0,
                                      1.0 / 479001600.0,
                                      1.0 / 39916800.0,
                                      1.0 / 3628800.0,
                                      1.0 / 362880.0,
                                      1.0 / 40320.0,
                                      1.0 / 5040.0,
                                      1.0 / 720.0,
                                      1.0 / 120.0,
                                      1.0 / 24.0,
                                      1.0 / 6.0,
                                      0.5,
                                      1.0,
                                      1.0
    };
    if (!(x >= -708.0)) return 0.0;
    if (x > 709.0) return (double)gm_f32_from_bits(0x7f800000u);
    int n = (int)(x * per_ln2 + (x < 0 ? -0.5 : 0.5));
    double r = x - n * ln2_upper - n * ln2_lower, sum = factors[0];
    for (size_t i = 1; i < GM_COUNT(factors); i++) sum = sum * r + factors[i];
    uint64_t power_bits = (uint64_t)(n + 1023) << 52; /* -1021 ≤ n ≤ 1023: a normal number */
    double power;
    memcpy(&power, &power_bits, sizeof power);
    return sum * power;
}
