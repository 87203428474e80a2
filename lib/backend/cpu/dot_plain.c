/* The plain C level: loops that a compiler turns into the SIMD every processor of its kind has (SSE2, NEON). */
#include "backend/cpu/dot.h"

/* Its vectors lie in memory, so a constant number of columns would bring nothing but code. */
#define ONE_BODY

/* ---- 32 bytes, held as 16 bits: what SSE2 multiplies ---- */
typedef struct bytes {
    int16_t b[32];
} bytes;

/* As signed bytes; field() gives the same bits of unsigned ones. */
GM_INLINE bytes load(const void *p)
{
    int8_t q[32];
    memcpy(q, p, sizeof q);
    bytes r;
    for (int i = 0; i < 32; i++) r.b[i] = q[i];
    return r;
}

/* The loops of the operations below, out of line: inlined, they come out scalar. */
GM_NOT_INLINE void split_nibbles(const uint8_t *restrict p, int16_t *restrict out)
{
    for (int i = 0; i < 16; i++) out[i] = p[i] & 15;
    for (int i = 0; i < 16; i++) out[i + 16] = p[i] >> 4;
}

GM_NOT_INLINE void shift_and_mask(const int16_t *restrict v, int shift, int mask, int16_t *restrict out)
{
    for (int i = 0; i < 32; i++) out[i] = (int16_t)(v[i] >> shift & mask);
}

GM_NOT_INLINE void join_to(int16_t *restrict low, const int16_t *restrict high, int shift)
{
    for (int i = 0; i < 32; i++) low[i] = (int16_t)(low[i] | high[i] << shift);
}

/* SSE2 has no shift that differs by lane. */
GM_NOT_INLINE void or_where_16(int16_t v[16], uint16_t bits)
{
    static const uint16_t bit[16] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768 };
    for (int i = 0; i < 16; i++) v[i] = (int16_t)(v[i] | (bits & bit[i] ? 16 : 0));
}

GM_NOT_INLINE void look_up_32(const int8_t *restrict table, int16_t *restrict v)
{
    for (int i = 0; i < 32; i++) v[i] = table[v[i] & 15];
}

/* 16 bytes: their low nibbles, then their high ones. */
GM_INLINE bytes nibbles(const uint8_t *p)
{
    bytes r;
    split_nibbles(p, r.b);
    return r;
}

GM_INLINE bytes no_bytes(void)
{
    bytes r;
    memset(r.b, 0, sizeof r.b);
    return r;
}

/* (v >> shift) & mask, of bits below 8. */
GM_INLINE bytes field(bytes v, int shift, int mask)
{
    bytes r;
    shift_and_mask(v.b, shift, mask, r.b);
    return r;
}

/* low | high << shift, which stays below 128. */
GM_INLINE bytes join(bytes low, bytes high, int shift)
{
    join_to(low.b, high.b, shift);
    return low;
}

/* Sets 16 in the elements whose bit is set. */
GM_INLINE bytes or_where(bytes v, const uint8_t bits[4])
{
    or_where_16(v.b, gm_load_u16(bits));
    or_where_16(v.b + 16, gm_load_u16(bits + 2));
    return v;
}

/* Quarters 0, 2, 1, 3. */
GM_INLINE bytes swap_middle(bytes v)
{
    bytes r = v;
    memcpy(r.b + 8, v.b + 16, 8 * sizeof *v.b);
    memcpy(r.b + 16, v.b + 8, 8 * sizeof *v.b);
    return r;
}

GM_INLINE bytes look_up(const int8_t table[16], bytes index)
{
    look_up_32(table, index.b);
    return index;
}

/* ---- integer sums of a run of 32, and of eight runs ---- */
typedef struct sums {
    int32_t first, last; /* of its halves */
} sums;

typedef struct ints {
    int32_t v[8];
} ints;

GM_NOT_INLINE int32_t dot_16(const int16_t w[16], const int8_t q[16])
{
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += w[i] * q[i];
    return sum;
}

/* Exact: at most 16 × 128 × 127. */
GM_INLINE sums dot_signed(bytes w, const int8_t q[32]) { return (sums){ dot_16(w.b, q), dot_16(w.b + 16, q + 16) }; }

/* For weights of 0 … 127. */
GM_INLINE sums dot_unsigned(bytes w, const int8_t q[32]) { return dot_signed(w, q); }

/* Whether dot_signed is 128 × Σ q too large. */
#define SIGNED_IS_OFFSET 0

/* `most` is the weights' largest magnitude: it says how few bits would do. */
GM_INLINE ints totals(const sums s[8], int most)
{
    (void)most;
    ints r;
    for (int i = 0; i < 8; i++) r.v[i] = s[i].first + s[i].last;
    return r;
}

GM_INLINE void totals_of_halves(const sums s[8], int most, ints *first, ints *last)
{
    (void)most;
    for (int i = 0; i < 8; i++) first->v[i] = s[i].first, last->v[i] = s[i].last;
}

GM_INLINE void half_sums(const int16_t sums_of[8][2], ints *first, ints *last)
{
    for (int i = 0; i < 8; i++) first->v[i] = sums_of[i][0], last->v[i] = sums_of[i][1];
}

/* t + bias / 2^shift, a whole number. */
GM_INLINE ints add_bias(ints t, const int32_t bias[8], int shift)
{
    for (int i = 0; i < 8; i++) t.v[i] += bias[i] / (1 << shift);
    return t;
}

/* t - x × 2^shift. */
GM_INLINE ints less_shifted(ints t, ints x, int shift)
{
    for (int i = 0; i < 8; i++) t.v[i] -= x.v[i] * (1 << shift);
    return t;
}

/* ---- floats ---- */
#define WIDTH 8
typedef struct floats {
    float v[WIDTH];
} floats;

GM_INLINE float half(const void *p) { return gm_load_f16(p); }

GM_INLINE floats zeros(void)
{
    floats r;
    memset(r.v, 0, sizeof r.v);
    return r;
}

GM_INLINE floats load_f32(const void *p)
{
    floats r;
    memcpy(r.v, p, sizeof r.v);
    return r;
}

GM_NOT_INLINE void widen_f16(const uint16_t h[restrict WIDTH], float out[restrict WIDTH])
{
    for (int i = 0; i < WIDTH; i++) out[i] = gm_f32_from_f16(h[i]);
}

GM_INLINE floats load_f16(const void *p)
{
    uint16_t h[WIDTH];
    memcpy(h, p, sizeof h);
    floats r;
    widen_f16(h, r.v);
    return r;
}

GM_INLINE floats load_bf16(const void *p)
{
    uint16_t h[WIDTH];
    memcpy(h, p, sizeof h);
    floats r;
    for (int i = 0; i < WIDTH; i++) r.v[i] = gm_f32_from_bf16(h[i]);
    return r;
}

GM_INLINE void store_f32(float *p, floats a) { memcpy(p, a.v, sizeof a.v); }
GM_INLINE void store_f16(uint16_t *p, floats a)
{
    for (int i = 0; i < WIDTH; i++) p[i] = gm_f16_from_f32(a.v[i]);
}

GM_INLINE floats to_floats(ints a)
{
    floats r;
    for (int i = 0; i < WIDTH; i++) r.v[i] = (float)a.v[i];
    return r;
}

/* Small scales: d × (byte j of codes, signed, less n). */
GM_INLINE floats spread(uint64_t codes, int n, float d)
{
    floats r;
    for (int j = 0; j < 8; j++) r.v[j] = d * (float)((int8_t)(codes >> 8 * j) - n);
    return r;
}

/* The f16 at the start of `count` blocks, then zeros. */
GM_INLINE floats gather_halves(const uint8_t *at, size_t block_bytes, int count)
{
    floats r = zeros();
    for (int j = 0; j < count; j++) r.v[j] = half(at + (size_t)j * block_bytes);
    return r;
}

GM_INLINE floats product(floats a, floats b)
{
    for (int i = 0; i < WIDTH; i++) a.v[i] *= b.v[i];
    return a;
}

GM_INLINE floats multiply_add(floats sum, floats a, floats b)
{
    for (int i = 0; i < WIDTH; i++) sum.v[i] += a.v[i] * b.v[i];
    return sum;
}

GM_INLINE floats all(float v)
{
    floats r;
    for (int i = 0; i < WIDTH; i++) r.v[i] = v;
    return r;
}

GM_INLINE float total_floats(floats a)
{
    for (int step = WIDTH / 2; step; step /= 2) {
        for (int i = 0; i < step; i++) a.v[i] += a.v[i + step];
    }
    return a.v[0];
}

#include "backend/cpu/kernels_dots.inc"
#include "backend/cpu/kernels_floats.inc"

static void pack(const float *x, gm_activations *out, size_t first, size_t n_runs, size_t total)
{
    for (size_t i = first; i < first + n_runs; i++, x += 32) {
        gm_activations *to = out + i / 8;
        gm_q8a a;
        gm_q8a_pack(x, &a, 1);
        memcpy(to->q + i % 8 * 32, a.q, sizeof a.q);
        int32_t sums_of[2] = { 0, 0 };
        for (int k = 0; k < 32; k++) sums_of[k / 16] += a.q[k];
        to->d[i % 8] = a.d;
        to->sum[i % 8] = a.sum;
        to->bias[i % 8] = -128 * (sums_of[0] + sums_of[1]);
        for (int k = 0; k < 2; k++) to->half_sums[i % 8][k] = (int16_t)sums_of[k];
    }
    if (first + n_runs == total) gm_activations_end(out, total);
}

void gm_kernels_plain(gm_kernels *k)
{
    k->level = "plain";
    k->pack = pack;
    fill_dots(k);
    fill_floats(k);
}
