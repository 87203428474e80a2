/* Dots of K formats on 512-bit registers: two runs of 32 in each, read with half the instructions. Exact sums, factors and
 * the order of float additions are those of add_block, and so are the bits. */
#ifndef GM_CPU_X86_PAIRS_H
#define GM_CPU_X86_PAIRS_H

/* A block of 256: runs 2i and 2i + 1 in pair[i]. */
typedef struct four_pairs {
    __m512i pair[4];
    __m512 factors; /* twice eight: scales and minima of the runs, or scales of their first and of their last halves */
} four_pairs;

GM_INLINE __m512i twice(const void *p) { return _mm512_broadcast_i64x4(load(p)); }

/* Shifts in 16 bits, by a count for each half; what comes over from a neighbour is for the caller to mask. */
GM_INLINE __m512i counts(int first, int last)
{
    return _mm512_inserti64x4(_mm512_set1_epi16((short)first), _mm256_set1_epi16((short)last), 1);
}
GM_INLINE __m512i right(__m512i v, int first, int last) { return _mm512_srlv_epi16(v, counts(first, last)); }
GM_INLINE __m512i left(__m512i v, int first, int last) { return _mm512_sllv_epi16(v, counts(first, last)); }

/* The low nibbles of one and the high ones of the other, of which `mask` stays. */
GM_INLINE __m512i blend_nibbles(__m512i low, __m512i high, int mask)
{
    __m512i v = _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8(15), 0xe4);
    return _mm512_and_si512(v, _mm512_set1_epi8((char)mask));
}

/* From the start of a Q4_K or Q5_K block, d, dmin and eight codes of 6 bits for each: d × scale, then -dmin × minimum. */
GM_INLINE __m512 factors_k(const uint8_t *at)
{
    /* Into a dword of each code: the byte with its low four bits, then that with its high two. */
    const __m512i byte_of = _mm512_setr_epi32(0x0404, 0x0505, 0x0606, 0x0707, 0x040c, 0x050d, 0x060e, 0x070f, 0x0808,
                                              0x0909, 0x0a0a, 0x0b0b, 0x080c, 0x090d, 0x0a0e, 0x0b0f);
    const __m512i low_at = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4);
    const __m512i high_at = _mm512_setr_epi32(8, 8, 8, 8, 10, 10, 10, 10, 8, 8, 8, 8, 10, 10, 10, 10);
    const __m512i d_or_dmin = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    __m512i start = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)at));
    __m512i v = _mm512_shuffle_epi8(start, byte_of);
    __m512i low = _mm512_and_si512(_mm512_srlv_epi32(v, low_at), _mm512_set1_epi32(15));
    __m512i code = _mm512_ternarylogic_epi32(low, _mm512_srlv_epi32(v, high_at), _mm512_set1_epi32(0x30), 0xf8);
    __m128 by = _mm_cvtph_ps(_mm_cvtsi32_si128((int32_t)(gm_load_u32(at) ^ 0x80000000u)));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(code), _mm512_permutexvar_ps(d_or_dmin, _mm512_castps128_ps512(by)));
}

GM_INLINE void pairs_q4_k(const uint8_t *at, four_pairs *w)
{
    const gm_block_q4_k *b = (const void *)at;
    w->factors = factors_k(at);
    GM_UNROLL
    for (int i = 0; i < 4; i++) w->pair[i] = _mm512_and_si512(right(twice(b->q + 32 * i), 0, 4), _mm512_set1_epi8(15));
}

GM_INLINE void pairs_q5_k(const uint8_t *at, four_pairs *w)
{
    const gm_block_q5_k *b = (const void *)at;
    w->factors = factors_k(at);
    __m512i high = twice(b->high);
    __m512i bit[4] = { left(high, 4, 3), left(high, 2, 1), right(high, 0, 1), right(high, 2, 3) };
    GM_UNROLL
    for (int i = 0; i < 4; i++) w->pair[i] = blend_nibbles(right(twice(b->q + 32 * i), 0, 4), bit[i], 31);
}

GM_INLINE void pairs_q6_k(const uint8_t *at, four_pairs *w)
{
    const gm_block_q6_k *b = (const void *)at;
    const __m128i in_order = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    __m128i codes = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)b->scales), in_order);
    w->factors = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), _mm512_set1_ps(half(b->d)));
    GM_UNROLL
    for (int i = 0; i < 2; i++) {
        __m512i low = _mm512_loadu_si512(b->low + 64 * i), high = twice(b->high + 32 * i);
        w->pair[2 * i] = blend_nibbles(low, left(high, 4, 2), 63);
        w->pair[2 * i + 1] = blend_nibbles(_mm512_srli_epi16(low, 4), right(high, 0, 2), 63);
    }
}

/* fold_small, of each quarter. */
GM_INLINE __m512i fold_quarters(__m512i a, __m512i b)
{
    return _mm512_madd_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(1));
}

/* Of runs 0, 2, 4, 6 the sums of their first halves, then of their last; then of runs 1, 3, 5, 7. */
GM_INLINE __m512i sums_of_pairs(const four_pairs *w, const gm_activations *x, int most)
{
    __m512i s[4];
    GM_UNROLL
    for (int i = 0; i < 4; i++)
        s[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w->pair[i], _mm512_loadu_si512(x->q + 64 * i));
    __m512i a = fold_quarters(s[0], s[1]), b = fold_quarters(s[2], s[3]);
    if (8 * 127 * most <= INT16_MAX) return fold_quarters(a, b);
    __m512 u = _mm512_castsi512_ps(a), v = _mm512_castsi512_ps(b);
    __m512i even = _mm512_castps_si512(_mm512_shuffle_ps(u, v, 0x88));
    return _mm512_add_epi32(even, _mm512_castps_si512(_mm512_shuffle_ps(u, v, 0xdd)));
}

GM_INLINE __m256 upper(__m512 v) { return _mm512_extractf32x8_ps(v, 1); }

/* With a scale and a minimum for each run. */
GM_INLINE __m256 add_with_minima(__m256 sum, const four_pairs *w, const gm_activations *x)
{
    const __m512i in_order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 0, 8, 1, 9, 2, 10, 3, 11);
    __m512i s = sums_of_pairs(w, x, of_minima.most);
    s = _mm512_permutexvar_epi32(in_order, _mm512_add_epi32(s, _mm512_shuffle_i64x2(s, s, 0xb1)));
    __m256 scale = product(_mm512_castps512_ps256(w->factors), load_f32(x->d));
    sum = multiply_add(sum, to_floats(_mm512_castsi512_si256(s)), scale);
    return multiply_add(sum, upper(w->factors), load_f32(x->sum));
}

/* With a scale for each 16, and weights that are 32 less. */
GM_INLINE __m256 add_halves(__m256 sum, const four_pairs *w, const gm_activations *x)
{
    const __m512i in_order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    const __m512i less = _mm512_inserti64x4(_mm512_set1_epi32(0xffe0), _mm256_set1_epi32(-32 * 0x10000), 1);
    __m512i s = _mm512_permutexvar_epi32(in_order, sums_of_pairs(w, x, of_half_offset_32.most));
    __m512 exact = _mm512_cvtepi32_ps(_mm512_dpwssd_epi32(s, twice(x->half_sums), less));
    __m512 scale = _mm512_mul_ps(w->factors, _mm512_broadcast_f32x8(load_f32(x->d)));
    sum = multiply_add(sum, _mm512_castps512_ps256(exact), _mm512_castps512_ps256(scale));
    return multiply_add(sum, upper(exact), upper(scale));
}

#define ROW(name, n_bytes, add)                                                                                        \
    GM_INLINE void row_pairs_##name(const uint8_t *row, const gm_activations *const *in, uint32_t n_columns, size_t n, \
                                    float *out, size_t stride)                                                         \
    {                                                                                                                  \
        __m256 sum[GM_DOT_COLUMNS];                                                                                    \
        four_pairs w;                                                                                                  \
        for (uint32_t c = 0; c < n_columns; c++) sum[c] = zeros();                                                     \
        for (size_t b = 0; b < n / 256; b++, row += (n_bytes)) {                                                       \
            gm_fetch_soon(row + GM_ROWS_AHEAD, n_bytes);                                                               \
            pairs_##name(row, &w);                                                                                     \
            for (uint32_t c = 0; c < n_columns; c++) sum[c] = add(sum[c], &w, in[c] + b);                              \
        }                                                                                                              \
        for (uint32_t c = 0; c < n_columns; c++) out[c * stride] = total_floats(sum[c]);                               \
    }
ROW(q4_k, sizeof(gm_block_q4_k), add_with_minima)
ROW(q5_k, sizeof(gm_block_q5_k), add_with_minima)
ROW(q6_k, sizeof(gm_block_q6_k), add_halves)
#undef ROW
KERNEL(pairs_q4_k, Q4_K, , , )
KERNEL(pairs_q5_k, Q5_K, , , )
KERNEL(pairs_q6_k, Q6_K, , , )

/* Where 512-bit instructions take twice as long, only Q6_K gains from them. */
static void fill_pairs(gm_kernels *k, bool is_fast)
{
    k->q8[GM_Q6_K] = dot_pairs_q6_k;
    if (!is_fast) return;
    k->q8[GM_Q4_K] = dot_pairs_q4_k;
    k->q8[GM_Q5_K] = dot_pairs_q5_k;
}

#endif
