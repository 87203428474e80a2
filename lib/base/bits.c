#include "base/base.h"

uint16_t gm_f16_from_f32(float f)
{
    uint32_t bits = gm_f32_bits(f), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x3ffu)); /* NaN stays NaN */
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* ≥ 65520 rounds to infinity */
    uint32_t exponent = rest >> 23, mantissa = rest, dropped = 13;
    if (exponent < 113) { /* below 2^-14: subnormal, the mantissa moves right and shows its leading one */
        if (exponent < 102) return (uint16_t)sign; /* < 2^-25, half of the smallest */
        mantissa = (rest & 0x7fffffu) | 0x800000u;
        dropped = 126 - exponent;
    } else {
        mantissa -= 112u << 23;
    }
    uint32_t half = mantissa >> dropped, lost = mantissa & ((1u << dropped) - 1), tie = 1u << (dropped - 1);
    half += lost > tie || (lost == tie && (half & 1)); /* a carry into the exponent is right */
    return (uint16_t)(sign | half);
}
