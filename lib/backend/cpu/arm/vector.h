/* The operations of kernels_dots.inc and kernels_floats.inc (dot_plain.c says what each does) on pairs of NEON's 128-bit
 * registers, with the 8-bit dot instruction where the compiler flags of the including file allow it. */
#ifndef GM_CPU_ARM_VECTOR_H
#define GM_CPU_ARM_VECTOR_H

#include "backend/cpu/dot.h"

#include <arm_neon.h>
#include <float.h>

/* ---- 32 bytes ---- */
typedef struct bytes {
    uint8x16_t low, high;
} bytes;

GM_INLINE uint8x16_t load_16(const void *p) { return vld1q_u8(p); }
GM_INLINE uint8x16_t same_byte(int v) { return vdupq_n_u8((uint8_t)v); }
GM_INLINE bytes load(const void *p) { return (bytes){ load_16(p), load_16((const uint8_t *)p + 16) }; }
GM_INLINE bytes no_bytes(void) { return (bytes){ same_byte(0), same_byte(0) }; }

GM_INLINE bytes nibbles(const uint8_t *p)
{
    uint8x16_t v = load_16(p);
    return (bytes){ vandq_u8(v, same_byte(15)), vshrq_n_u8(v, 4) };
}

/* Shifts by operators, not intrinsics: those want a literal, and these become one once a loop is unrolled. */
GM_INLINE bytes field(bytes v, int shift, int mask)
{
    bytes r = { v.low >> same_byte(shift), v.high >> same_byte(shift) };
    if (mask == 255 >> shift) return r;
    return (bytes){ vandq_u8(r.low, same_byte(mask)), vandq_u8(r.high, same_byte(mask)) };
}

GM_INLINE bytes join(bytes low, bytes high, int shift)
{
    return (bytes){ vorrq_u8(low.low, high.low << same_byte(shift)),
                    vorrq_u8(low.high, high.high << same_byte(shift)) };
}

GM_INLINE bytes or_where(bytes v, const uint8_t bits[4])
{
    const uint8x16_t byte_of = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1 };
    const uint8x16_t bit_of = { 1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128 };
    uint8x16_t four = vreinterpretq_u8_u32(vdupq_n_u32(gm_load_u32(bits))), sixteen = same_byte(16);
    uint8x16_t low = vtstq_u8(vqtbl1q_u8(four, byte_of), bit_of);
    uint8x16_t high = vtstq_u8(vqtbl1q_u8(four, vaddq_u8(byte_of, same_byte(2))), bit_of);
    return (bytes){ vorrq_u8(v.low, vandq_u8(low, sixteen)), vorrq_u8(v.high, vandq_u8(high, sixteen)) };
}

GM_INLINE uint8x16_t first_eights(uint8x16_t a, uint8x16_t b)
{
    return vreinterpretq_u8_u64(vzip1q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
GM_INLINE uint8x16_t last_eights(uint8x16_t a, uint8x16_t b)
{
    return vreinterpretq_u8_u64(vzip2q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
GM_INLINE bytes swap_middle(bytes v) { return (bytes){ first_eights(v.low, v.high), last_eights(v.low, v.high) }; }

GM_INLINE bytes look_up(const int8_t table[16], bytes index)
{
    uint8x16_t t = load_16(table);
    return (bytes){ vqtbl1q_u8(t, index.low), vqtbl1q_u8(t, index.high) };
}

/* ---- eight sums. Those of a run are left until totals() says how runs and halves are added ---- */
typedef struct sums {
    bytes w;
    const int8_t *q;
} sums;
typedef struct ints {
    int32x4_t low, high;
} ints;

#define SIGNED_IS_OFFSET 0
GM_INLINE sums dot_signed(bytes w, const int8_t q[32]) { return (sums){ w, q }; }
GM_INLINE sums dot_unsigned(bytes w, const int8_t q[32]) { return (sums){ w, q }; }

GM_INLINE int32x4_t fold_four(const int32x4_t s[4])
{
    return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
}

#if defined(__ARM_FEATURE_DOTPROD)
GM_INLINE int32x4_t add_dot(int32x4_t sum, uint8x16_t w, const int8_t q[16])
{
    return vdotq_s32(sum, vreinterpretq_s8_u8(w), vld1q_s8(q));
}

GM_INLINE int32x4_t totals_of_four(const sums s[4], int most)
{
    (void)most;
    int32x4_t t[4];
    GM_UNROLL
    for (int j = 0; j < 4; j++) t[j] = add_dot(add_dot(vdupq_n_s32(0), s[j].w.low, s[j].q), s[j].w.high, s[j].q + 16);
    return fold_four(t);
}

GM_INLINE int32x4_t halves_of_four(const sums s[4], int most, bool last)
{
    (void)most;
    int32x4_t t[4];
    GM_UNROLL
    for (int j = 0; j < 4; j++)
        t[j] = add_dot(vdupq_n_s32(0), last ? s[j].w.high : s[j].w.low, s[j].q + (last ? 16 : 0));
    return fold_four(t);
}
#else
/* Two products to a lane: at most 2 × 128 × 127. */
GM_INLINE int16x8_t products(uint8x16_t w, const int8_t q[16])
{
    int8x16_t a = vreinterpretq_s8_u8(w), x = vld1q_s8(q);
    return vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(x)), a, x);
}
GM_INLINE int16x8_t add_products(int16x8_t sum, uint8x16_t w, const int8_t q[16])
{
    int8x16_t a = vreinterpretq_s8_u8(w), x = vld1q_s8(q);
    return vmlal_high_s8(vmlal_s8(sum, vget_low_s8(a), vget_low_s8(x)), a, x);
}

/* The sums of four vectors whose lanes are n products of weights up to `most`, added in 16 bits while that holds them. */
GM_INLINE int32x4_t fold_small(const int16x8_t p[4], int n, int most)
{
    if (2 * n * 127 * most > INT16_MAX) {
        int32x4_t wide[4];
        GM_UNROLL
        for (int j = 0; j < 4; j++) wide[j] = vpaddlq_s16(p[j]);
        return fold_four(wide);
    }
    int16x8_t a = vpaddq_s16(p[0], p[1]), b = vpaddq_s16(p[2], p[3]);
    if (4 * n * 127 * most > INT16_MAX) return vpaddq_s32(vpaddlq_s16(a), vpaddlq_s16(b));
    return vpaddlq_s16(vpaddq_s16(a, b));
}

GM_INLINE int32x4_t totals_of_four(const sums s[4], int most)
{
    int16x8_t p[4];
    int32x4_t wide[4];
    GM_UNROLL
    for (int j = 0; j < 4; j++) p[j] = products(s[j].w.low, s[j].q);
    if (4 * 127 * most <= INT16_MAX) {
        GM_UNROLL
        for (int j = 0; j < 4; j++) p[j] = add_products(p[j], s[j].w.high, s[j].q + 16);
        return fold_small(p, 4, most);
    }
    GM_UNROLL
    for (int j = 0; j < 4; j++) wide[j] = vpadalq_s16(vpaddlq_s16(p[j]), products(s[j].w.high, s[j].q + 16));
    return fold_four(wide);
}

GM_INLINE int32x4_t halves_of_four(const sums s[4], int most, bool last)
{
    int16x8_t p[4];
    GM_UNROLL
    for (int j = 0; j < 4; j++) p[j] = last ? products(s[j].w.high, s[j].q + 16) : products(s[j].w.low, s[j].q);
    return fold_small(p, 2, most);
}
#endif

GM_INLINE ints totals(const sums s[8], int most)
{
    return (ints){ totals_of_four(s, most), totals_of_four(s + 4, most) };
}

GM_INLINE void totals_of_halves(const sums s[8], int most, ints *first, ints *last)
{
    *first = (ints){ halves_of_four(s, most, false), halves_of_four(s + 4, most, false) };
    *last = (ints){ halves_of_four(s, most, true), halves_of_four(s + 4, most, true) };
}

GM_INLINE void half_sums(const int16_t sums_of[8][2], ints *first, ints *last)
{
    int16x8x2_t v = vld2q_s16(sums_of[0]);
    *first = (ints){ vmovl_s16(vget_low_s16(v.val[0])), vmovl_high_s16(v.val[0]) };
    *last = (ints){ vmovl_s16(vget_low_s16(v.val[1])), vmovl_high_s16(v.val[1]) };
}

GM_INLINE ints add_bias(ints t, const int32_t bias[8], int shift)
{
    int32x4_t by = vdupq_n_s32(shift);
    return (ints){ vaddq_s32(t.low, vld1q_s32(bias) >> by), vaddq_s32(t.high, vld1q_s32(bias + 4) >> by) };
}

GM_INLINE ints less_shifted(ints t, ints x, int shift)
{
    int32x4_t by = vdupq_n_s32(shift);
    return (ints){ vsubq_s32(t.low, x.low << by), vsubq_s32(t.high, x.high << by) };
}

/* ---- floats ---- */
#define WIDTH 8
typedef struct floats {
    float32x4_t low, high;
} floats;

GM_INLINE floats widen(float16x8_t h) { return (floats){ vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h) }; }
GM_INLINE float half(const void *p)
{
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(gm_load_u16(p)))), 0);
}
GM_INLINE floats all(float v) { return (floats){ vdupq_n_f32(v), vdupq_n_f32(v) }; }
GM_INLINE floats zeros(void) { return all(0); }
/* As bytes: rows lie at any address. */
GM_INLINE floats load_f32(const void *p)
{
    bytes v = load(p);
    return (floats){ vreinterpretq_f32_u8(v.low), vreinterpretq_f32_u8(v.high) };
}
GM_INLINE floats load_f16(const void *p) { return widen(vreinterpretq_f16_u8(load_16(p))); }
GM_INLINE floats load_bf16(const void *p)
{
    uint16x8_t v = vreinterpretq_u16_u8(load_16(p));
    return (floats){ vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(v), 16)),
                     vreinterpretq_f32_u32(vshll_high_n_u16(v, 16)) };
}
GM_INLINE void store_f32(float *p, floats a)
{
    vst1q_f32(p, a.low);
    vst1q_f32(p + 4, a.high);
}
GM_INLINE void store_f16(uint16_t *p, floats a)
{
    vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.low), a.high)));
}
GM_INLINE floats to_floats(ints a) { return (floats){ vcvtq_f32_s32(a.low), vcvtq_f32_s32(a.high) }; }
GM_INLINE floats product(floats a, floats b) { return (floats){ vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high) }; }
GM_INLINE floats multiply_add(floats sum, floats a, floats b)
{
    return (floats){ vfmaq_f32(sum.low, a.low, b.low), vfmaq_f32(sum.high, a.high, b.high) };
}
GM_INLINE float total_floats(floats a)
{
    float32x4_t v = vaddq_f32(a.low, a.high);
    float32x2_t w = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(w, 0) + vget_lane_f32(w, 1);
}

GM_INLINE floats spread(uint64_t codes, int n, float d)
{
    int16x8_t v = vsubl_s8(vcreate_s8(codes), vdup_n_s8((int8_t)n));
    return product(to_floats((ints){ vmovl_s16(vget_low_s16(v)), vmovl_high_s16(v) }), all(d));
}

GM_INLINE floats gather_halves(const uint8_t *at, size_t block_bytes, int count)
{
    uint16x8_t v = vdupq_n_u16(0);
    v = vsetq_lane_u16(gm_load_u16(at), v, 0);
    v = vsetq_lane_u16(gm_load_u16(at + block_bytes), v, 1);
    v = vsetq_lane_u16(gm_load_u16(at + 2 * block_bytes), v, 2);
    v = vsetq_lane_u16(gm_load_u16(at + 3 * block_bytes), v, 3);
    if (count > 4) {
        v = vsetq_lane_u16(gm_load_u16(at + 4 * block_bytes), v, 4);
        v = vsetq_lane_u16(gm_load_u16(at + 5 * block_bytes), v, 5);
        v = vsetq_lane_u16(gm_load_u16(at + 6 * block_bytes), v, 6);
        v = vsetq_lane_u16(gm_load_u16(at + 7 * block_bytes), v, 7);
    }
    return widen(vreinterpretq_f16_u16(v));
}

#include "backend/cpu/kernels_dots.inc"
#include "backend/cpu/kernels_floats.inc"

/* ---- gelu: the operations of the plain loop, which compilers leave scalar ---- */
GM_INLINE float32x4_t exp_parts_4(uint32x4_t n, float32x4_t r)
{
    float32x4_t p = vdupq_n_f32(1.0f / 5040);
    p = vaddq_f32(vmulq_f32(p, r), vdupq_n_f32(1.0f / 720));
    p = vaddq_f32(vmulq_f32(p, r), vdupq_n_f32(1.0f / 120));
    p = vaddq_f32(vmulq_f32(p, r), vdupq_n_f32(1.0f / 24));
    p = vaddq_f32(vmulq_f32(p, r), vdupq_n_f32(1.0f / 6));
    p = vaddq_f32(vmulq_f32(p, r), vdupq_n_f32(0.5f));
    p = vaddq_f32(vmulq_f32(vmulq_f32(p, r), r), r);
    uint32x4_t power = vshlq_n_u32(vaddq_u32(n, vdupq_n_u32(127)), 23);
    return vmulq_f32(vaddq_f32(p, vdupq_n_f32(1)), vreinterpretq_f32_u32(power));
}

/* Whole part and rest of the exponent, in powers of two. */
GM_INLINE float32x2_t split_exponent(float64x2_t g, float32x2_t *rest)
{
    const float64x2_t magic = vdupq_n_f64(0x1.8p52);
    float64x2_t t = vmulq_f64(vmulq_f64(vdupq_n_f64(0.044715), g), g);
    t = vmulq_f64(g, vaddq_f64(vdupq_n_f64(1), t));
    t = vmulq_f64(t, vdupq_n_f64(-0x1.26aec21bce75ap+1));
    t = vminq_f64(vmaxq_f64(t, vdupq_n_f64(-126)), vdupq_n_f64(128)); /* NaN stays */
    float64x2_t n = vsubq_f64(vaddq_f64(t, magic), magic);
    *rest = vcvt_f32_f64(vmulq_f64(vsubq_f64(t, n), vdupq_n_f64(0x1.62e42fefa39efp-1)));
    return vcvt_f32_f64(n);
}

static void geglu_4(float *restrict gate, const float *restrict up, size_t n)
{
    size_t i = 0;
    for (; n - i >= 4; i += 4) {
        float32x4_t x = vld1q_f32(gate + i);
        float32x2_t low_rest, high_rest, low = split_exponent(vcvt_f64_f32(vget_low_f32(x)), &low_rest);
        float32x2_t high = split_exponent(vcvt_high_f64_f32(x), &high_rest);
        float32x4_t shifted = vaddq_f32(vcombine_f32(low, high), vdupq_n_f32(0x1.8p23f));
        float32x4_t e = exp_parts_4(vreinterpretq_u32_f32(shifted), vcombine_f32(low_rest, high_rest));
        float32x4_t y = vdivq_f32(x, vaddq_f32(vdupq_n_f32(1), e));
        vst1q_f32(gate + i, vmulq_f32(y, vld1q_f32(up + i)));
    }
    geglu(gate + i, up + i, n - i);
}

/* ---- activations: the bits of gm_q8a_pack ---- */
/* The low bytes of sixteen rounded quotients: the codes, as in the oracle, unless d is infinite or a NaN. */
GM_INLINE int8x16_t codes_of(const float32x4_t v[4], float d)
{
    uint16x8_t pair[4];
    GM_UNROLL
    for (int i = 0; i < 4; i++) {
        float32x4_t rounded = vaddq_f32(vdivq_f32(v[i], vdupq_n_f32(d)), vdupq_n_f32(0x1.8p23f));
        pair[i] = vreinterpretq_u16_f32(rounded);
    }
    uint16x8_t low = vuzp1q_u16(pair[0], pair[1]), high = vuzp1q_u16(pair[2], pair[3]);
    return vreinterpretq_s8_u8(vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high)));
}

GM_INLINE void pack_run(const float *x, gm_activations *out, size_t j)
{
    float32x4_t v[8];
    uint32x4_t top = vdupq_n_u32(0);
    GM_UNROLL
    for (int i = 0; i < 8; i++) {
        v[i] = vld1q_f32(x + 4 * i);
        top = vmaxq_u32(top, vandq_u32(vreinterpretq_u32_f32(v[i]), vdupq_n_u32(0x7fffffff)));
    }
    float d = gm_f32_from_bits(vmaxvq_u32(top)) / 127;
    int8x16_t low = vdupq_n_s8(0), high = low;
    if (d < FLT_MIN)
        d = 0;
    else
        low = codes_of(v, d), high = codes_of(v + 4, d);
    vst1q_s8(out->q + 32 * j, low);
    vst1q_s8(out->q + 32 * j + 16, high);
    int16_t first = vaddlvq_s8(low), last = vaddlvq_s8(high);
    float s = d * (float)(first + last);
    s = s > FLT_MAX ? FLT_MAX : s;
    out->d[j] = d;
    out->sum[j] = s < -FLT_MAX ? -FLT_MAX : s;
    out->bias[j] = -128 * (first + last);
    out->half_sums[j][0] = first;
    out->half_sums[j][1] = last;
}

static void pack(const float *x, gm_activations *out, size_t first, size_t n_runs, size_t total)
{
    for (size_t i = first; i < first + n_runs; i++, x += 32) pack_run(x, out + i / 8, i % 8);
    if (first + n_runs == total) gm_activations_end(out, total);
}

#if defined(__ARM_FEATURE_DOTPROD)
#include "backend/cpu/arm/tile.h"
#endif

GM_INLINE void fill_level(gm_kernels *k, const char *level)
{
    k->level = level;
    k->pack = pack;
    fill_dots(k);
#if defined(__ARM_FEATURE_DOTPROD)
    fill_tiles(k);
#endif
    fill_floats(k);
    k->geglu = geglu_4;
}

#endif
