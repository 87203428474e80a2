#include "sampler/sampler.h"

#include <math.h>

/* e^r for |r| ≤ 0.35 by its Taylor series to r^13, whose rest is below 5e-18; in pairs, so that few steps wait for each
 * other. */
static double exp_near_zero(double r)
{
    double r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
    double from_0 = (1.0 + r) + r2 * (1.0 / 2.0 + r * (1.0 / 6.0));
    double from_4 = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0));
    double from_8 = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * (1.0 / 3628800.0 + r * (1.0 / 39916800.0));
    double from_12 = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0);
    return (from_0 + r4 * from_4) + r8 * (from_8 + r4 * from_12);
}

/* e^x = 2^n e^r with n the integer nearest to x / ln 2. ln 2 is split in two: n × the upper part is exact (21 trailing
 * zero bits), so r is good to about 2^-53 of itself. */
double gm_exp(double x)
{
    const double per_ln2 = 0x1.71547652b82fep+0, ln2_upper = 0x1.62e42fee00000p-1, ln2_lower = 0x1.a39ef35793c76p-33;
    if (!(x >= -708.0)) return 0.0;
    if (x > 709.0) return (double)INFINITY;
    int n = (int)(x * per_ln2 + (x < 0 ? -0.5 : 0.5));
    double r = (x - n * ln2_upper) - n * ln2_lower, power;
    uint64_t power_bits = (uint64_t)(n + 1023) << 52; /* -1021 ≤ n ≤ 1023: a normal number */
    memcpy(&power, &power_bits, sizeof power);
    return exp_near_zero(r) * power;
}
