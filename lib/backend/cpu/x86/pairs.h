/* Dots of K formats, Q4_0 and Q5_0 on 512-bit registers: two runs of 32 in each, read with half the instructions. Exact sums, factors and
 * the order of float additions are those of add_block, and so are the bits. */
#ifndef GM_CPU_X86_PAIRS_H
#define GM_CPU_X86_PAIRS_H

/* A block of 256: runs 2i and 2i + 1 in pair[i]. */
typedef struct four_pairs {
    __m512i pair[4];
    __m512 factors; /* twice eight: scales and minima of the runs, or scales of their first and of their last halves; or
                     * eight: scales of the runs */
} four_pairs;

#define BYTES_1 0x0101010101010101
#define ONES    INT64_C(0x0001000100010001)
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

/* Eight blocks of 32 with a scale in front, n_words each. Loads that overlap would be fast in a cache, and a third slower
 * from memory. */
typedef struct eight_blocks {
    __m512i part[3]; /* 32 words each, 0 behind the last block */
} eight_blocks;

GM_INLINE eight_blocks load_blocks(const uint8_t *at, int n_words)
{
    return (eight_blocks){ { _mm512_loadu_si512(at), _mm512_loadu_si512(at + 64),
                             _mm512_maskz_loadu_epi64((__mmask8)((1 << (2 * n_words - 16)) - 1), at + 128) } };
}

/* Four numbers in words: n, n + step … */
GM_INLINE int64_t four_words(int n, int step) { return n * ONES + step * INT64_C(0x0003000200010000); }

/* Words by their numbers, counted from the first of a part; `last` is the largest. */
GM_INLINE __m512i words_of(const eight_blocks *b, int part, int last, __m512i numbers)
{
    return last < 32 ? _mm512_permutexvar_epi16(numbers, b->part[part])
                     : _mm512_permutex2var_epi16(b->part[part], numbers, b->part[part + 1]);
}

/* Of the blocks 2i and 2i + 1: the low nibbles of 16 bytes from word `first`, then the high ones. */
GM_INLINE __m512i nibbles_of_two(const eight_blocks *b, int i, int n_words, int first)
{
    int word = 2 * i * n_words + first, at = word % 32, next = at + n_words;
    int64_t a = four_words(at, 1), a4 = four_words(at + 4, 1), c = four_words(next, 1), c4 = four_words(next + 4, 1);
    __m512i q = words_of(b, word / 32, next + 7, _mm512_setr_epi64(a, a4, a, a4, c, c4, c, c4));
    const __m512i by_four = _mm512_setr_epi64(0, 0, 4 * ONES, 4 * ONES, 0, 0, 4 * ONES, 4 * ONES);
    return _mm512_and_si512(_mm512_srlv_epi16(q, by_four), _mm512_set1_epi8(15));
}

/* The scales of the eight. */
GM_INLINE __m512 factors_of_blocks(const eight_blocks *b, int n_words)
{
    short n = (short)n_words;
    const __m128i at = _mm_setr_epi16(0, n, (short)(2 * n), (short)(3 * n), (short)(4 * n), (short)(5 * n),
                                      (short)(6 * n), (short)(7 * n)); /* of the last part modulo 32 */
    __m512i from = _mm512_castsi128_si512(at), d = _mm512_permutex2var_epi16(b->part[0], from, b->part[1]);
    if (7 * n_words >= 64) d = _mm512_mask_permutexvar_epi16(d, 0xc0, from, b->part[2]);
    return _mm512_castps256_ps512(_mm256_cvtph_ps(_mm512_castsi512_si128(d)));
}

GM_INLINE void pairs_q4_0(const uint8_t *at, four_pairs *w)
{
    enum { WORDS = sizeof(gm_block_q4_0) / 2 };
    eight_blocks b = load_blocks(at, WORDS);
    w->factors = factors_of_blocks(&b, WORDS);
    GM_UNROLL
    for (int i = 0; i < 4; i++) w->pair[i] = nibbles_of_two(&b, i, WORDS, 1);
}

/* Of the blocks 2i and 2i + 1: which of 32 bits from word `first` are set. */
GM_INLINE __mmask64 bits_of_two(const eight_blocks *b, int i, int n_words, int first)
{
    const __m512i eight_times = _mm512_setr_epi64(0, BYTES_1, 0, BYTES_1, 0, BYTES_1, 0, BYTES_1);
    int word = 2 * i * n_words + first, at = word % 32, next = at + n_words;
    int64_t a = four_words(at, 0), a1 = four_words(at + 1, 0), c = four_words(next, 0), c1 = four_words(next + 1, 0);
    __m512i words = words_of(b, word / 32, next + 1, _mm512_setr_epi64(a, a, a1, a1, c, c, c1, c1));
    return _mm512_test_epi8_mask(_mm512_shuffle_epi8(words, eight_times),
                                 _mm512_set1_epi64((int64_t)0x8040201008040201));
}

GM_INLINE void pairs_q5_0(const uint8_t *at, four_pairs *w)
{
    enum { WORDS = sizeof(gm_block_q5_0) / 2 };
    eight_blocks b = load_blocks(at, WORDS);
    w->factors = factors_of_blocks(&b, WORDS);
    GM_UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i q = nibbles_of_two(&b, i, WORDS, 3);
        w->pair[i] = _mm512_mask_add_epi8(q, bits_of_two(&b, i, WORDS, 1), q, _mm512_set1_epi8(16));
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

/* Of the eight runs. */
GM_INLINE __m256i sums_of_runs(const four_pairs *w, const gm_activations *x, int most)
{
    const __m512i in_order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 0, 8, 1, 9, 2, 10, 3, 11);
    __m512i s = sums_of_pairs(w, x, most);
    s = _mm512_permutexvar_epi32(in_order, _mm512_add_epi32(s, _mm512_shuffle_i64x2(s, s, 0xb1)));
    return _mm512_castsi512_si256(s);
}

/* With a scale for each run, and weights that are 2^f.offset less. */
GM_INLINE __m256 add_with_offset(__m256 sum, kind f, const four_pairs *w, const gm_activations *x)
{
    __m256i s = add_bias(sums_of_runs(w, x, f.most), x->bias, SIGNED_OFFSET - f.offset);
    return multiply_add(sum, to_floats(s), product(_mm512_castps512_ps256(w->factors), load_f32(x->d)));
}

/* With a scale and a minimum for each run. */
GM_INLINE __m256 add_with_minima(__m256 sum, const four_pairs *w, const gm_activations *x)
{
    __m256 scale = product(_mm512_castps512_ps256(w->factors), load_f32(x->d));
    sum = multiply_add(sum, to_floats(sums_of_runs(w, x, of_minima.most)), scale);
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

#define ADD_K(sum, f, w, x)      add_with_minima(sum, w, x)
#define ADD_HALVES(sum, f, w, x) add_halves(sum, w, x)
#define NO_REST(name, f)
/* Behind the last eight blocks of 32. */
#define REST(name, f)                                                                                                  \
    if (n % 256) {                                                                                                     \
        eight_runs runs;                                                                                               \
        FETCH_REST(name, 32, sizeof(gm_block_##name), row, n % 256 / 32, &runs);                                       \
        for (uint32_t c = 0; c < n_columns; c++) sum[c] = add_block(sum[c], f, &runs, in[c] + n / 256);                \
    }
#define ROW(name, n_bytes, f, add, rest_of)                                                                            \
    GM_INLINE void row_pairs_##name(const uint8_t *row, const gm_activations *const *in, uint32_t n_columns, size_t n, \
                                    float *out, size_t stride)                                                         \
    {                                                                                                                  \
        __m256 sum[GM_DOT_COLUMNS];                                                                                    \
        four_pairs w;                                                                                                  \
        for (uint32_t c = 0; c < n_columns; c++) sum[c] = zeros();                                                     \
        for (size_t b = 0; b < n / 256; b++, row += (n_bytes)) {                                                       \
            gm_fetch_soon(row + GM_ROWS_AHEAD, n_bytes);                                                               \
            pairs_##name(row, &w);                                                                                     \
            for (uint32_t c = 0; c < n_columns; c++) sum[c] = add(sum[c], f, &w, in[c] + b);                           \
        }                                                                                                              \
        rest_of(name, f) for (uint32_t c = 0; c < n_columns; c++) out[c * stride] = total_floats(sum[c]);              \
    }
ROW(q4_0, 8 * sizeof(gm_block_q4_0), of_offset_8, add_with_offset, REST)
ROW(q5_0, 8 * sizeof(gm_block_q5_0), of_offset_16, add_with_offset, REST)
ROW(q4_k, sizeof(gm_block_q4_k), , ADD_K, NO_REST)
ROW(q5_k, sizeof(gm_block_q5_k), , ADD_K, NO_REST)
ROW(q6_k, sizeof(gm_block_q6_k), , ADD_HALVES, NO_REST)
#undef ROW
KERNEL(pairs_q4_0, Q4_0, , , )
KERNEL(pairs_q5_0, Q5_0, , , )
KERNEL(pairs_q4_k, Q4_K, , , )
KERNEL(pairs_q5_k, Q5_K, , , )
KERNEL(pairs_q6_k, Q6_K, , , )

/* Where 512-bit instructions take twice as long, only Q6_K gains from them. */
static void fill_pairs(gm_kernels *k, bool is_fast)
{
    k->q8[GM_Q6_K] = dot_pairs_q6_k;
    if (!is_fast) return;
    k->q8[GM_Q4_0] = dot_pairs_q4_0;
    k->q8[GM_Q5_0] = dot_pairs_q5_0;
    k->q8[GM_Q4_K] = dot_pairs_q4_k;
    k->q8[GM_Q5_K] = dot_pairs_q5_k;
}

#endif
