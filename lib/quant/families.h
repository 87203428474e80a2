/* What the files of this folder share: the functions behind the format table, and the arithmetic of packing. */
#ifndef GM_QUANT_FAMILIES_H
#define GM_QUANT_FAMILIES_H

#include "quant/quant.h"

#define GM_UNPACK(name) void gm_unpack_##name(const void *restrict blocks, float *restrict out, size_t n_blocks)
#define GM_PACK(name)   void gm_pack_##name(const float *restrict in, void *restrict blocks, size_t n_blocks)

GM_UNPACK(f32); /* plain.c */
GM_UNPACK(f16);
GM_UNPACK(bf16);
GM_PACK(f32);
GM_PACK(f16);
GM_PACK(bf16);

GM_UNPACK(q4_0); /* legacy.c */
GM_UNPACK(q4_1);
GM_UNPACK(q5_0);
GM_UNPACK(q5_1);
GM_UNPACK(q8_0);
GM_PACK(q4_0);
GM_PACK(q4_1);
GM_PACK(q5_0);
GM_PACK(q5_1);
GM_PACK(q8_0);

GM_UNPACK(q2_k); /* kquant.c */
GM_UNPACK(q3_k);
GM_UNPACK(q4_k);
GM_UNPACK(q5_k);
GM_UNPACK(q6_k);
GM_PACK(q4_k); /* kpack.c */
GM_PACK(q6_k);

GM_UNPACK(iq4_nl); /* iq4.c */
GM_UNPACK(iq4_xs);

/* To nearest, ties to even, for |v| ≤ 2^22; any int, but no undefined behaviour, beyond and for NaN. Adding 1.5 × 2^23
 * leaves the integer in the low bits of the mantissa, in the default rounding mode. */
static inline int32_t gm_round(float v) { return (int32_t)(gm_f32_bits(v + 0x1.8p23f) - 0x4b400000u); }

/* Largest |x|. A NaN wins: as bits it is larger than infinity. */
static inline float gm_absmax(const float *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++) max = gm_max_u32(max, gm_f32_bits(x[i]) & 0x7fffffffu);
    return gm_f32_from_bits(max);
}

/* v / d to the nearest of low … high; 0 where d is 0 (then any code decodes to zero). */
static inline int32_t gm_code(float v, float d, int32_t low, int32_t high)
{
    if (d == 0) return 0;
    float q = v / d;
    /* clamped before rounding, for gm_round's range */
    q = q < (float)low ? (float)low : q;
    q = q > (float)high ? (float)high : q;
    return gm_round(q);
}

/* Stores v as f16 and returns what a reader will see. */
static inline float gm_store_f16(uint8_t at[2], float v)
{
    uint16_t h = gm_f16_from_f32(v);
    at[0] = (uint8_t)h;
    at[1] = (uint8_t)(h >> 8);
    return gm_f32_from_f16(h);
}

#endif
