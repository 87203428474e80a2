/* The operations of kernels_dots.inc and kernels_floats.inc (dot_plain.c says what each does) on 256-bit registers:
 * AVX2 with FMA and F16C, and the 8-bit dot instruction where the compiler flags of the including file allow it.
 * 512-bit registers hold two runs of 32, which pays in the formats of pairs.h. */
#ifndef GM_CPU_X86_VECTOR_H
#define GM_CPU_X86_VECTOR_H

#include "backend/cpu/dot.h"

#include <float.h>
#include <immintrin.h>

/* ---- 32 bytes ---- */
typedef __m256i bytes;

GM_INLINE bytes load(const void *p) { return _mm256_loadu_si256(p); }
GM_INLINE bytes no_bytes(void) { return _mm256_setzero_si256(); }

GM_INLINE bytes nibbles(const uint8_t *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
}

GM_INLINE bytes field(bytes v, int shift, int mask)
{
    return _mm256_and_si256(_mm256_srli_epi16(v, shift), _mm256_set1_epi8((char)mask));
}

GM_INLINE bytes join(bytes low, bytes high, int shift) { return _mm256_or_si256(low, _mm256_slli_epi16(high, shift)); }
GM_INLINE bytes or_where(bytes v, const uint8_t bits[4])
{
    const __m256i sixteen = _mm256_set1_epi8(16);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    return _mm256_or_si256(v, _mm256_maskz_mov_epi8(gm_load_u32(bits), sixteen));
#else
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i set = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)gm_load_u32(bits)), byte_of);
    set = _mm256_cmpeq_epi8(_mm256_and_si256(set, bit_of), bit_of);
    return _mm256_or_si256(v, _mm256_and_si256(set, sixteen));
#endif
}

GM_INLINE bytes swap_middle(bytes v) { return _mm256_permute4x64_epi64(v, 0xd8); }

GM_INLINE bytes look_up(const int8_t table[16], bytes index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table)), index);
}

/* ---- eight sums; of a run, 0 … 3 come from its first 16 elements ---- */
typedef __m256i sums;
typedef __m256i ints;

#if (defined(__AVX512VNNI__) && defined(__AVX512VL__)) || defined(__AVXVNNI__)
/* The instruction takes weights as unsigned: signed ones as 128 more. */
#define SIGNED_IS_OFFSET 1
GM_INLINE __m256i add_dot(__m256i sum, __m256i w, __m256i x)
{
#if defined(__AVX512VNNI__)
    return _mm256_dpbusd_epi32(sum, w, x);
#else
    return _mm256_dpbusd_avx_epi32(sum, w, x);
#endif
}
GM_INLINE sums dot_unsigned(bytes w, const int8_t q[32]) { return add_dot(_mm256_setzero_si256(), w, load(q)); }
GM_INLINE bytes more_by_128(bytes w) { return _mm256_xor_si256(w, _mm256_set1_epi8(-128)); }
GM_INLINE sums dot_signed(bytes w, const int8_t q[32]) { return dot_unsigned(more_by_128(w), q); }
#else
#define SIGNED_IS_OFFSET 0
/* |w| ≤ 127 and |x| ≤ 127: two products fit in the 16 bits that AVX2 adds them in. */
GM_INLINE __m256i add_dot(__m256i sum, __m256i w, __m256i x)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
GM_INLINE sums dot_unsigned(bytes w, const int8_t q[32]) { return add_dot(_mm256_setzero_si256(), w, load(q)); }
/* |w| × (q with the sign of w), which q may take, being never -128. */
GM_INLINE sums dot_signed(bytes w, const int8_t q[32])
{
    return add_dot(_mm256_setzero_si256(), _mm256_abs_epi8(w), _mm256_sign_epi8(load(q), w));
}
#endif

/* In each half: a0 + a2, a1 + a3, b0 + b2, b1 + b3. One shuffle, where a horizontal addition takes two. */
GM_INLINE __m256i fold(__m256i a, __m256i b)
{
    __m256 x = _mm256_castsi256_ps(a), y = _mm256_castsi256_ps(b);
    __m256i same = _mm256_blend_epi32(a, b, 0xcc), other = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x4e));
    return _mm256_add_epi32(same, other);
}

/* a0 + a1, a2 + a3, b0 + b1, b2 + b3 in each half, of sums that fit in 16 bits. */
GM_INLINE __m256i fold_small(__m256i a, __m256i b)
{
    return _mm256_madd_epi16(_mm256_packs_epi32(a, b), _mm256_set1_epi16(1));
}

/* Of four runs: the sums of their first halves, then of their last ones. The weights' largest magnitude is `most`: what
 * fits in 16 bits, of 4 products a sum and then of 8, is folded there. */
GM_INLINE __m256i halves_of_four(const sums s[4], int most)
{
    bool fits = 4 * 127 * most <= INT16_MAX;
    __m256i a = fits ? fold_small(s[0], s[1]) : fold(s[0], s[1]), b = fits ? fold_small(s[2], s[3]) : fold(s[2], s[3]);
    if (8 * 127 * most <= INT16_MAX) return fold_small(a, b);
    __m256 x = _mm256_castsi256_ps(a), y = _mm256_castsi256_ps(b);
    __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88));
    return _mm256_add_epi32(even, _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd)));
}

GM_INLINE void totals_of_halves(const sums s[8], int most, ints *first, ints *last)
{
    __m256i a = halves_of_four(s, most), b = halves_of_four(s + 4, most);
    *first = _mm256_permute2x128_si256(a, b, 0x20);
    *last = _mm256_permute2x128_si256(a, b, 0x31);
}

GM_INLINE ints totals(const sums s[8], int most)
{
    ints first, last;
    totals_of_halves(s, most, &first, &last);
    return _mm256_add_epi32(first, last);
}

GM_INLINE void half_sums(const int16_t sums_of[8][2], ints *first, ints *last)
{
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)sums_of);
    *first = _mm256_srai_epi32(_mm256_slli_epi32(v, 16), 16);
    *last = _mm256_srai_epi32(v, 16);
}

GM_INLINE ints add_bias(ints t, const int32_t bias[8], int shift)
{
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)bias);
    return _mm256_add_epi32(t, _mm256_srai_epi32(v, shift));
}

GM_INLINE ints less_shifted(ints t, ints x, int shift) { return _mm256_sub_epi32(t, _mm256_slli_epi32(x, shift)); }

/* ---- floats ---- */
#define WIDTH 8
typedef __m256 floats;

GM_INLINE float half(const void *p) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(gm_load_u16(p)))); }
GM_INLINE floats zeros(void) { return _mm256_setzero_ps(); }
GM_INLINE floats all(float v) { return _mm256_set1_ps(v); }
GM_INLINE floats load_f32(const void *p) { return _mm256_loadu_ps(p); }
GM_INLINE floats load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
GM_INLINE floats load_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
GM_INLINE void store_f32(float *p, floats a) { _mm256_storeu_ps(p, a); }
GM_INLINE void store_f16(uint16_t *p, floats a)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
GM_INLINE floats to_floats(ints a) { return _mm256_cvtepi32_ps(a); }
GM_INLINE floats product(floats a, floats b) { return _mm256_mul_ps(a, b); }
GM_INLINE floats multiply_add(floats sum, floats a, floats b) { return _mm256_fmadd_ps(a, b, sum); }
GM_INLINE float total_floats(floats a)
{
    __m128 v = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

GM_INLINE floats spread(uint64_t codes, int n, float d)
{
    __m256i wide = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((int64_t)codes));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(wide, _mm256_set1_epi32(n))), _mm256_set1_ps(d));
}

GM_INLINE floats gather_halves(const uint8_t *at, size_t block_bytes, int count)
{
    __m128i v = _mm_setzero_si128();
    v = _mm_insert_epi16(v, gm_load_u16(at), 0);
    v = _mm_insert_epi16(v, gm_load_u16(at + block_bytes), 1);
    v = _mm_insert_epi16(v, gm_load_u16(at + 2 * block_bytes), 2);
    v = _mm_insert_epi16(v, gm_load_u16(at + 3 * block_bytes), 3);
    if (count > 4) {
        v = _mm_insert_epi16(v, gm_load_u16(at + 4 * block_bytes), 4);
        v = _mm_insert_epi16(v, gm_load_u16(at + 5 * block_bytes), 5);
        v = _mm_insert_epi16(v, gm_load_u16(at + 6 * block_bytes), 6);
        v = _mm_insert_epi16(v, gm_load_u16(at + 7 * block_bytes), 7);
    }
    return _mm256_cvtph_ps(v);
}

#if defined(__AVX512VNNI__)
#define DOTS_OF_PAIRS
#endif
#include "backend/cpu/kernels_dots.inc"
#include "backend/cpu/kernels_floats.inc"

/* ---- gelu: the operations of the plain loop, which compilers leave scalar ---- */
GM_INLINE __m256 exp_parts_8(__m256i n, __m256 r)
{
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0f / 720));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0f / 120));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0f / 24));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0f / 6));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(0.5f));
    p = _mm256_add_ps(_mm256_mul_ps(_mm256_mul_ps(p, r), r), r);
    __m256i power = _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(_mm256_add_ps(p, _mm256_set1_ps(1)), _mm256_castsi256_ps(power));
}

/* Whole part and rest of the exponent, in powers of two. */
GM_INLINE __m128 split_exponent(__m128 x, __m128 *rest)
{
    const __m256d magic = _mm256_set1_pd(0x1.8p52);
    __m256d g = _mm256_cvtps_pd(x), t = _mm256_mul_pd(_mm256_mul_pd(_mm256_set1_pd(0.044715), g), g);
    t = _mm256_mul_pd(g, _mm256_add_pd(_mm256_set1_pd(1), t));
    t = _mm256_mul_pd(t, _mm256_set1_pd(-0x1.26aec21bce75ap+1));
    t = _mm256_max_pd(_mm256_set1_pd(-126), t); /* of a NaN: the NaN, which stands second */
    t = _mm256_min_pd(_mm256_set1_pd(128), t);
    __m256d n = _mm256_sub_pd(_mm256_add_pd(t, magic), magic);
    *rest = _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_sub_pd(t, n), _mm256_set1_pd(0x1.62e42fefa39efp-1)));
    return _mm256_cvtpd_ps(n);
}

static void geglu_8(float *restrict gate, const float *restrict up, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        __m256 x = _mm256_loadu_ps(gate + i);
        __m128 low_rest, high_rest, low = split_exponent(_mm256_castps256_ps128(x), &low_rest);
        __m128 high = split_exponent(_mm256_extractf128_ps(x, 1), &high_rest);
        __m256 shifted = _mm256_add_ps(_mm256_set_m128(high, low), _mm256_set1_ps(0x1.8p23f));
        __m256 e = exp_parts_8(_mm256_castps_si256(shifted), _mm256_set_m128(high_rest, low_rest));
        __m256 y = _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1), e));
        _mm256_storeu_ps(gate + i, _mm256_mul_ps(y, _mm256_loadu_ps(up + i)));
    }
    geglu(gate + i, up + i, n - i);
}

#include "backend/cpu/x86/tile.h"

/* ---- activations: the bits of gm_q8a_pack ---- */
GM_INLINE void pack_run(const float *x, gm_activations *out, size_t j)
{
    const __m256 magic = _mm256_set1_ps(0x1.8p23f);
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), low_byte = _mm256_set1_epi32(255);
    __m256 v[4];
    __m256i top = _mm256_setzero_si256(), code[4];
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        top = _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
    }
    __m128i top4 = _mm_max_epu32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    top4 = _mm_max_epu32(top4, _mm_shuffle_epi32(top4, 0x4e));
    top4 = _mm_max_epu32(top4, _mm_shuffle_epi32(top4, 0xb1));
    float d = _mm_cvtss_f32(_mm_castsi128_ps(top4)) / 127;
    __m256i q = _mm256_setzero_si256();
    if (d < FLT_MIN) {
        d = 0;
    } else {
        /* The codes are the low bytes, as in the oracle: in range unless d is infinite or a NaN. */
        for (int i = 0; i < 4; i++) {
            __m256 rounded = _mm256_add_ps(_mm256_div_ps(v[i], _mm256_set1_ps(d)), magic);
            code[i] = _mm256_and_si256(_mm256_castps_si256(rounded), low_byte);
        }
        q = _mm256_packus_epi16(_mm256_packus_epi32(code[0], code[1]), _mm256_packus_epi32(code[2], code[3]));
        q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)); /* packing went by 128 bits */
    }
    _mm256_storeu_si256((__m256i *)(void *)(out->q + 32 * j), q);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q),
            fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    fours = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, 0x4e));
    fours = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, 0xb1));
    int32_t first = _mm_cvtsi128_si32(_mm256_castsi256_si128(fours));
    int32_t last = _mm_cvtsi128_si32(_mm256_extracti128_si256(fours, 1));
    float s = d * (float)(first + last);
    s = s > FLT_MAX ? FLT_MAX : s;
    out->d[j] = d;
    out->sum[j] = s < -FLT_MAX ? -FLT_MAX : s;
    out->bias[j] = -128 * (first + last);
    out->half_sums[j][0] = (int16_t)first;
    out->half_sums[j][1] = (int16_t)last;
}

static void pack(const float *x, gm_activations *out, size_t first, size_t n_runs, size_t total)
{
    for (size_t i = first; i < first + n_runs; i++, x += 32) pack_run(x, out + i / 8, i % 8);
    if (first + n_runs == total) gm_activations_end(out, total);
}

GM_INLINE void fill_level(gm_kernels *k, const char *level)
{
    k->level = level;
    k->pack = pack;
    fill_dots(k);
    fill_tiles(k);
    fill_floats(k);
    k->geglu = geglu_8;
}

#endif
