/* What the files of this folder share: the functions behind the format table, and the arithmetic of packing. */
#ifndef GM_QUANT_FAMILIES_H
#define GM_QUANT_FAMILIES_H

#include "quant/quant.h"

/* plain.c */
void gm_unpack_f32(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_f16(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_bf16(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_pack_f32(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_f16(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_bf16(const float *restrict in, void *restrict blocks, size_t n_blocks);

/* legacy.c */
void gm_unpack_q4_0(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_q4_1(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_q5_0(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_q5_1(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_q8_0(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_pack_q4_0(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_q4_1(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_q5_0(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_q5_1(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_q8_0(const float *restrict in, void *restrict blocks, size_t n_blocks);

/* kquant.c */
void gm_unpack_q2_k(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_q3_k(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_q4_k(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_q5_k(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_q6_k(const void *restrict blocks, float *restrict out, size_t n_blocks);
/* kpack.c */
void gm_pack_q2_k(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_q3_k(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_q4_k(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_q5_k(const float *restrict in, void *restrict blocks, size_t n_blocks);
void gm_pack_q6_k(const float *restrict in, void *restrict blocks, size_t n_blocks);

/* iq4.c */
void gm_unpack_iq4_nl(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_unpack_iq4_xs(const void *restrict blocks, float *restrict out, size_t n_blocks);
void gm_pack_iq4_nl(const float *restrict in, void *restrict blocks, size_t n_blocks);

/* iq2.c, iq3.c, iq1.c, fp4.c, ternary.c: formats that are integers times the scale of their run of 16 */
#define GM_EXPANDED(name)                                                                                              \
    void gm_expand_##name(const void *block, int8_t *q, float *scale);                                                 \
    void gm_unpack_##name(const void *restrict blocks, float *restrict out, size_t n_blocks);
GM_EXPANDED(iq2_xxs)
GM_EXPANDED(iq2_xs)
GM_EXPANDED(iq2_s)
GM_EXPANDED(iq3_xxs)
GM_EXPANDED(iq3_s)
GM_EXPANDED(iq1_s)
GM_EXPANDED(iq1_m)
GM_EXPANDED(mxfp4)
GM_EXPANDED(nvfp4)
GM_EXPANDED(tq1_0)
GM_EXPANDED(tq2_0)
#undef GM_EXPANDED
#define GM_UNPACK_EXPANDED(name, block)                                                                                \
    void gm_unpack_##name(const void *restrict blocks, float *restrict out, size_t n_blocks)                           \
    {                                                                                                                  \
        const gm_block_##name *b = blocks;                                                                             \
        int8_t q[block];                                                                                               \
        float scale[(block) / 16];                                                                                     \
        for (size_t n = 0; n < n_blocks; n++, b++, out += (block)) {                                                   \
            gm_expand_##name(b, q, scale);                                                                             \
            for (int i = 0; i < (block); i++) out[i] = scale[i / 16] * (float)q[i];                                    \
        }                                                                                                              \
    }

/* grids.c: the elements of an entry from its lowest bits up, as indices of their values in ascending order: two bits
 * for each of eight in IQ1 and IQ2, three for each of four in IQ3. */
extern const uint16_t gm_grid_iq2_xxs[256], gm_grid_iq2_xs[512], gm_grid_iq2_s[1024];
extern const uint16_t gm_grid_iq3_xxs[256], gm_grid_iq3_s[512];
extern const uint16_t gm_grid_iq1[2048];

/* Seven stored signs of eight: the last makes the number of set bits even. */
static inline uint32_t gm_even_signs(uint32_t seven)
{
    uint32_t parity = seven ^ seven >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return seven | (parity & 1) << 7;
}

/* Eight bytes in a word, the first lowest. */
#define GM_EACH_BYTE UINT64_C(0x0101010101010101)
/* The eight codes of an entry of two bits each. */
static inline uint64_t gm_bytes_of_codes(uint32_t entry)
{
    uint64_t v = (entry | (uint64_t)entry << 24) & UINT64_C(0x000000ff000000ff);
    v = (v | v << 12) & UINT64_C(0x000f000f000f000f);
    return (v | v << 6) & UINT64_C(0x0303030303030303);
}
/* Bytes of 1 … 127, negated where a bit is set. */
static inline uint64_t gm_negated_where(uint64_t v, uint32_t signs)
{
    uint64_t set = (signs & 255) * GM_EACH_BYTE & UINT64_C(0x8040201008040201);
    uint64_t negative = (set + 0x7f * GM_EACH_BYTE) >> 7 & GM_EACH_BYTE;
    return (v ^ negative * 255) + negative;
}
static inline void gm_store_bytes(int8_t at[8], uint64_t v)
{
    for (int i = 0; i < 8; i++) at[i] = (int8_t)(v >> 8 * i);
}

/* To nearest, ties to even, for |v| ≤ 2^22; any int, but no undefined behaviour, beyond and for NaN. Adding 1.5 × 2^23
 * leaves the integer in the low bits of the mantissa, in the default rounding mode. */
static inline int32_t gm_round(float v) { return (int32_t)(gm_f32_bits(v + 0x1.8p23f) - 0x4b400000u); }

/* Largest |x|. A NaN wins: as bits it is larger than infinity. */
static inline float gm_absmax(const float *x, size_t n)
{
    int32_t max = 0; /* signed ones are compared faster */
    for (size_t i = 0; i < n; i++) {
        int32_t bits = (int32_t)(gm_f32_bits(x[i]) & 0x7fffffffu);
        max = bits > max ? bits : max;
    }
    return gm_f32_from_bits((uint32_t)max);
}

/* The element of largest magnitude, with its sign: it gets the code at the negative end, which has one step more. */
static inline float gm_extreme(const float *x, size_t n)
{
    float max = gm_absmax(x, n);
    for (size_t i = 0; i < n; i++) {
        if (x[i] == -max) return -max;
    }
    return max;
}

/* v / d to the nearest of low … high; low for NaN; 0 where d is 0, as any code decodes to zero then. */
static inline int32_t gm_code(float v, float d, int32_t low, int32_t high)
{
    if (d == 0) return 0;
    float q = v / d;
    q = q > (float)low ? q : (float)low; /* before rounding, for the range of gm_round */
    q = q < (float)high ? q : (float)high;
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
