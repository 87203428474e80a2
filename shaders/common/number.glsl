// Floats by their bits: what drivers may fold away or treat differently.
#define MINUS_INFINITY 0xff800000u

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

// As halves_from, but a NaN stays one whatever clamp and packHalf2x16 do with it.
uint halves_or_nan(float low, float high)
{
    uint bits = halves_from(vec2(low, high));
    if (is_nan(low)) bits = (bits & 0xffff0000u) | 0x7e00u;
    if (is_nan(high)) bits = (bits & 0x0000ffffu) | 0x7e000000u;
    return bits;
}
