/* The operations of kernels_dots.inc and kernels_floats.inc (dot_plain.c says what each does) on 256-bit registers:
 * AVX2 with FMA and F16C, and the 8-bit dot instruction where the compiler flags of the including file allow it.
 * 512-bit registers would hold two runs of 32, which lie apart in the activations and have scales of their own. */
#ifndef GM_CPU_X86_VECTOR_H
#define GM_CPU_X86_VECTOR_H

#include "backend/cpu/dot.h"

#include <float.h>
#include <immintrin.h>

/* ---- 32 bytes ---- */
typedef __m256i bytes;

GM_INLINE bytes load(const void *p) { return _mm256_loadu_si256(p); }
GM_INLINE bytes ones(void) { return _mm256_set1_epi8(1); }

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
GM_INLINE bytes less(bytes v, int n) { return _mm256_sub_epi8(v, _mm256_set1_epi8((char)n)); }

GM_INLINE bytes add_where(bytes v, uint32_t bits, int n)
{
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    return _mm256_mask_add_epi8(v, bits, v, _mm256_set1_epi8((char)n));
#else
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i set = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bits), byte_of), bit_of);
    return _mm256_add_epi8(v, _mm256_and_si256(_mm256_cmpeq_epi8(set, bit_of), _mm256_set1_epi8((char)n)));
#endif
}

GM_INLINE bytes swap_middle(bytes v) { return _mm256_permute4x64_epi64(v, 0xd8); }

GM_INLINE bytes look_up(const int8_t table[16], bytes index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table)), index);
}

/* ---- eight floats; of a run, lanes 0 … 3 come from its first 16 elements ---- */
typedef __m256 lanes;

GM_INLINE lanes same(float v) { return _mm256_set1_ps(v); }
GM_INLINE lanes halves(float first, float last)
{
    return _mm256_blend_ps(_mm256_set1_ps(first), _mm256_set1_ps(last), 0xf0);
}

GM_INLINE lanes sum_of(lanes a, lanes b) { return _mm256_add_ps(a, b); }
GM_INLINE float total(lanes a)
{
    __m128 v = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

/* |w| ≤ 128 and |x| ≤ 127: two products fit in the 16 bits that AVX2 adds them in. */
GM_INLINE lanes dot_bytes(bytes w, bytes x)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(_mm256_setzero_si256(), w, x));
#elif defined(__AVXVNNI__)
    return _mm256_cvtepi32_ps(_mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), w, x));
#else
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
#endif
}

GM_INLINE lanes dot_unsigned(bytes w, const int8_t q[32]) { return dot_bytes(w, load(q)); }

/* The instructions want one operand unsigned: |w| × (q with the sign of w), which q may take, being never -128. */
GM_INLINE lanes dot_signed(bytes w, const int8_t q[32])
{
    return dot_bytes(_mm256_abs_epi8(w), _mm256_sign_epi8(load(q), w));
}

GM_INLINE void spread(uint64_t codes, int n, float d, float out[8])
{
    __m256i wide = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((int64_t)codes));
    __m256 v = _mm256_cvtepi32_ps(_mm256_sub_epi32(wide, _mm256_set1_epi32(n)));
    _mm256_storeu_ps(out, _mm256_mul_ps(v, _mm256_set1_ps(d)));
}

GM_INLINE lanes scaled(lanes a, float by) { return _mm256_mul_ps(a, _mm256_set1_ps(by)); }
GM_INLINE lanes add_product(lanes sum, lanes a, lanes b) { return _mm256_fmadd_ps(a, b, sum); }

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
GM_INLINE floats multiply_add(floats sum, floats a, floats b) { return _mm256_fmadd_ps(a, b, sum); }
GM_INLINE float total_floats(floats a) { return total(a); }

#include "backend/cpu/kernels_dots.inc"
#include "backend/cpu/kernels_floats.inc"

/* ---- activations: the bits of gm_q8a_pack ---- */
static void q8a_pack(const float *x, gm_q8a *out, size_t n_blocks)
{
    const __m256 magic = _mm256_set1_ps(0x1.8p23f);
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    for (size_t n = 0; n < n_blocks; n++, out++, x += 32) {
        __m256 v[4];
        __m256i top = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            top = _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
        }
        __m128i top4 = _mm_max_epu32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
        top4 = _mm_max_epu32(top4, _mm_shuffle_epi32(top4, 0x4e));
        top4 = _mm_max_epu32(top4, _mm_shuffle_epi32(top4, 0xb1));
        float d = _mm_cvtss_f32(_mm_castsi128_ps(top4)) / 127;
        if (d < FLT_MIN) {
            memset(out, 0, sizeof *out);
            continue;
        }
        /* The codes are the low bytes, as in the oracle: in range unless d is infinite or a NaN. */
        const __m256i low_byte = _mm256_set1_epi32(255);
        __m256i code[4];
        for (int i = 0; i < 4; i++) {
            __m256 rounded = _mm256_add_ps(_mm256_div_ps(v[i], _mm256_set1_ps(d)), magic);
            code[i] = _mm256_and_si256(_mm256_castps_si256(rounded), low_byte);
        }
        __m256i q = _mm256_packus_epi16(_mm256_packus_epi32(code[0], code[1]), _mm256_packus_epi32(code[2], code[3]));
        q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)); /* packing went by 128 bits */
        _mm256_storeu_si256((__m256i *)out->q, q);

        __m256i pairs = _mm256_maddubs_epi16(ones(), q), fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
        float s = d * (float)_mm_cvtsi128_si32(sum);
        s = s > FLT_MAX ? FLT_MAX : s;
        out->d = d;
        out->sum = s < -FLT_MAX ? -FLT_MAX : s;
    }
}

GM_INLINE void fill_level(gm_kernels *k, const char *level)
{
    k->level = level;
    k->q8a_pack = q8a_pack;
    fill_dots(k);
    fill_floats(k);
}

#endif
