/* Tiles: weight rows in the lanes of a register, one byte of four in each, against activations that are broadcast.
 *
 * A panel holds, for each run of 32, eight registers of weights (the k-th: elements 4k … 4k + 3 of every row), then
 * registers of floats: the rows' scales and minima, as many as the format's kind has. Runs follow each other. */
#ifndef GM_CPU_X86_TILE_H
#define GM_CPU_X86_TILE_H

#if defined(__AVX512VNNI__)
typedef __m512i wide_ints;
typedef __m512 wide_floats;
enum { TILE_ROWS = 16 };
GM_INLINE wide_ints wide_load(const void *p) { return _mm512_load_si512(p); }
GM_INLINE wide_floats wide_load_floats(const void *p) { return _mm512_load_ps(p); }
GM_INLINE wide_ints wide_four(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, sizeof v);
    return _mm512_set1_epi32(v);
}
GM_INLINE wide_ints wide_dot(wide_ints sum, wide_ints w, wide_ints x) { return _mm512_dpbusd_epi32(sum, w, x); }
GM_INLINE wide_ints wide_same(int32_t v) { return _mm512_set1_epi32(v); }
GM_INLINE wide_floats wide_same_float(float v) { return _mm512_set1_ps(v); }
GM_INLINE wide_floats wide_to_floats(wide_ints v) { return _mm512_cvtepi32_ps(v); }
GM_INLINE wide_floats wide_product(wide_floats a, wide_floats b) { return _mm512_mul_ps(a, b); }
GM_INLINE wide_floats wide_add(wide_floats a, wide_floats b) { return _mm512_add_ps(a, b); }
GM_INLINE wide_floats wide_multiply_add(wide_floats sum, wide_floats a, wide_floats b)
{
    return _mm512_fmadd_ps(a, b, sum);
}
GM_INLINE void wide_store(float *p, wide_floats v) { _mm512_storeu_ps(p, v); }
enum { TILE_STEP = 8 }; /* columns at once */
#else
typedef __m256i wide_ints;
typedef __m256 wide_floats;
enum { TILE_ROWS = 8 };
GM_INLINE wide_ints wide_load(const void *p) { return _mm256_load_si256(p); }
GM_INLINE wide_floats wide_load_floats(const void *p) { return _mm256_load_ps(p); }
GM_INLINE wide_ints wide_four(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, sizeof v);
    return _mm256_set1_epi32(v);
}
GM_INLINE wide_ints wide_dot(wide_ints sum, wide_ints w, wide_ints x) { return add_dot(sum, w, x); }
GM_INLINE wide_ints wide_same(int32_t v) { return _mm256_set1_epi32(v); }
GM_INLINE wide_floats wide_same_float(float v) { return _mm256_set1_ps(v); }
GM_INLINE wide_floats wide_to_floats(wide_ints v) { return _mm256_cvtepi32_ps(v); }
GM_INLINE wide_floats wide_product(wide_floats a, wide_floats b) { return _mm256_mul_ps(a, b); }
GM_INLINE wide_floats wide_add(wide_floats a, wide_floats b) { return _mm256_add_ps(a, b); }
GM_INLINE wide_floats wide_multiply_add(wide_floats sum, wide_floats a, wide_floats b)
{
    return _mm256_fmadd_ps(a, b, sum);
}
GM_INLINE void wide_store(float *p, wide_floats v) { _mm256_storeu_ps(p, v); }
enum { TILE_STEP = 4 };
#endif

enum { REGISTER = TILE_ROWS * 4 }; /* bytes */

/* ---- unpacking ---- */

/* Dword i of v[r] becomes dword r of out + i × REGISTER. */
GM_INLINE void transpose_to(const __m256i v[8], uint8_t *out)
{
    __m256i a[8], b[8];
    GM_UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    GM_UNROLL
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    GM_UNROLL
    for (int i = 0; i < 4; i++) {
        __m256i low = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20),
                high = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
        _mm256_store_si256((__m256i *)(void *)(out + i * REGISTER), low);
        _mm256_store_si256((__m256i *)(void *)(out + (i + 4) * REGISTER), high);
    }
}

/* A block of eight rows; rows that are not there are zero. */
typedef struct eight_rows {
    __m256i run[8][8]; /* [run][row] */
    __m256i factor[4][8];
} eight_rows;

GM_INLINE int n_factors(kind f) { return (f.halves ? 2 : 1) + f.n_minima; }
GM_INLINE size_t run_bytes(kind f) { return (size_t)(8 + n_factors(f)) * REGISTER; }

GM_INLINE void keep_row(eight_rows *e, uint32_t r, kind f, const eight_runs *w)
{
    GM_UNROLL
    for (int j = 0; j < 8; j++) {
        __m256i q = w->run[j];
#if SIGNED_IS_OFFSET
        if (f.is_signed) q = more_by_128(q);
#endif
        _mm256_store_si256(&e->run[j][r], q);
    }
    int i = 0;
    e->factor[i++][r] = _mm256_castps_si256(w->scale[0]);
    if (f.halves) e->factor[i++][r] = _mm256_castps_si256(w->scale[1]);
    if (f.n_minima) e->factor[i++][r] = _mm256_castps_si256(w->min[0]);
    if (f.n_minima == 2) e->factor[i++][r] = _mm256_castps_si256(w->min[1]);
}

/* Rows `at` … at + 7 of the panel, runs b × 8 … of which there are n_runs. */
GM_INLINE void write_rows(const eight_rows *e, uint32_t at, kind f, uint32_t n_runs, uint8_t *panel)
{
    uint8_t factors[4][8 * REGISTER] __attribute__((aligned(64)));
    for (int i = 0; i < n_factors(f); i++) transpose_to(e->factor[i], factors[i]);
    for (uint32_t j = 0; j < n_runs; j++) {
        uint8_t *out = panel + j * run_bytes(f) + at * 4;
        transpose_to(e->run[j], out);
        for (int i = 0; i < n_factors(f); i++) memcpy(out + (8 + i) * REGISTER, factors[i] + j * REGISTER, 32);
    }
}

#define UNPACK(name, type, block, n_bytes, f)                                                                          \
    static void unpack_##name(const uint8_t *rows, uint64_t row_bytes, uint32_t n_rows, size_t n, uint8_t *panel)      \
    {                                                                                                                  \
        eight_rows e;                                                                                                  \
        for (size_t b = 0; b < gm_div_up(n, 256); b++, panel += 8 * run_bytes(f)) {                                    \
            uint32_t n_runs = (uint32_t)gm_min_u64(8, n / 32 - 8 * b);                                                 \
            for (uint32_t at = 0; at < TILE_ROWS; at += 8) {                                                           \
                for (uint32_t r = 0; r < 8; r++) {                                                                     \
                    const uint8_t *row = rows + (at + r) * row_bytes + b * (256 / (block) * (n_bytes));                \
                    eight_runs w;                                                                                      \
                    if (at + r >= n_rows)                                                                              \
                        memset(&w, 0, sizeof w);                                                                       \
                    else if (n_runs == 8)                                                                              \
                        fetch_##name(row, 8, &w);                                                                      \
                    else                                                                                               \
                        FETCH_REST(name, block, n_bytes, row, n_runs, &w);                                             \
                    keep_row(&e, r, f, &w);                                                                            \
                }                                                                                                      \
                write_rows(&e, at, f, n_runs, panel);                                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }
EACH_FORMAT(UNPACK)
#undef UNPACK

/* ---- multiplying: the order of kernels.h. The lanes of all columns lie in memory, one load and one store a run ---- */

/* Four weights of every row, with their signs. */
GM_INLINE wide_ints tile_dot(kind f, wide_ints sum, wide_ints w, const int8_t *q)
{
#if !SIGNED_IS_OFFSET
    if (f.is_signed) return add_dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(wide_four(q), w));
#endif
    (void)f;
    return wide_dot(sum, w, wide_four(q));
}

/* What the sums of run j, or of half h of it, start with. */
GM_INLINE wide_ints tile_start(kind f, const gm_activations *x, uint32_t j, int h)
{
    int offset = f.is_signed ? SIGNED_IS_OFFSET ? SIGNED_OFFSET : -1 : f.offset;
    if (offset < 0) return wide_same(0);
    return wide_same(f.halves ? -x->half_sums[j][h] * (1 << offset) : x->bias[j] / (1 << (SIGNED_OFFSET - offset)));
}

GM_INLINE void tile_run(kind f, const uint8_t *panel, const gm_activations *const *x, size_t b, uint32_t j,
                        uint32_t n_columns, wide_floats *lane)
{
    const uint8_t *factors = panel + 8 * REGISTER;
    int n_parts = f.halves ? 2 : 1;
    for (int h = 0; h < n_parts; h++) {
        wide_ints sum[TILE_STEP];
        GM_UNROLL
        for (uint32_t c = 0; c < n_columns; c++) sum[c] = tile_start(f, x[c] + b, j, h);
        GM_UNROLL
        for (int i = h * 4; i < 8 / n_parts + h * 4; i++) {
            wide_ints w = wide_load(panel + i * REGISTER);
            GM_UNROLL
            for (uint32_t c = 0; c < n_columns; c++) sum[c] = tile_dot(f, sum[c], w, x[c][b].q + 32 * j + 4 * i);
        }
        wide_floats scale = wide_load_floats(factors + h * REGISTER);
        GM_UNROLL
        for (uint32_t c = 0; c < n_columns; c++) {
            wide_floats by = wide_product(scale, wide_same_float(x[c][b].d[j]));
            lane[c] = wide_multiply_add(lane[c], wide_to_floats(sum[c]), by);
        }
    }
    for (int h = 0; h < f.n_minima; h++) {
        wide_floats min = wide_load_floats(factors + (n_parts + h) * REGISTER);
        GM_UNROLL
        for (uint32_t c = 0; c < n_columns; c++) {
            if (f.halves)
                lane[c] = wide_multiply_add(lane[c], wide_same_float(x[c][b].half_sums[j][h]),
                                            wide_product(min, wide_same_float(x[c][b].d[j])));
            else
                lane[c] = wide_multiply_add(lane[c], min, wide_same_float(x[c][b].sum[j]));
        }
    }
}

GM_INLINE void tile_columns(kind f, const uint8_t *panel, uint32_t n_rows, const gm_activations *const *x,
                            uint32_t n_columns, size_t n, float *out, uint64_t stride)
{
    wide_floats lanes[8][TILE_STEP];
    memset(lanes, 0, sizeof lanes);
    for (size_t i = 0; i < n / 32; i++, panel += run_bytes(f))
        tile_run(f, panel, x, i / 8, (uint32_t)(i % 8), n_columns, lanes[i % 8]);
    for (uint32_t c = 0; c < n_columns; c++) {
        wide_floats even = wide_add(wide_add(lanes[0][c], lanes[4][c]), wide_add(lanes[2][c], lanes[6][c]));
        wide_floats odd = wide_add(wide_add(lanes[1][c], lanes[5][c]), wide_add(lanes[3][c], lanes[7][c]));
        float values[TILE_ROWS];
        wide_store(values, wide_add(even, odd));
        memcpy(out + c * stride, values, n_rows * sizeof *values);
    }
}

#define MULTIPLY(f)                                                                                                    \
    static void multiply_##f(const uint8_t *panel, uint32_t n_rows, const gm_activations *const *x,                    \
                             uint32_t n_columns, size_t n, float *out, uint64_t stride)                                \
    {                                                                                                                  \
        for (uint32_t c = 0; c < n_columns; c += TILE_STEP) {                                                          \
            const gm_activations *columns[TILE_STEP];                                                                  \
            uint32_t n_here = gm_min_u32(TILE_STEP, n_columns - c);                                                    \
            float spare[TILE_STEP][TILE_ROWS];                                                                         \
            if (n_here == TILE_STEP) {                                                                                 \
                tile_columns(f, panel, n_rows, x + c, TILE_STEP, n, out + c * stride, stride);                         \
                continue;                                                                                              \
            }                                                                                                          \
            for (uint32_t i = 0; i < TILE_STEP; i++) columns[i] = x[c + gm_min_u32(i, n_here - 1)];                    \
            tile_columns(f, panel, n_rows, columns, TILE_STEP, n, spare[0], TILE_ROWS);                                \
            for (uint32_t i = 0; i < n_here; i++) memcpy(out + (c + i) * stride, spare[i], n_rows * sizeof *out);      \
        }                                                                                                              \
    }
MULTIPLY(of_offset_8)
MULTIPLY(of_offset_16)
MULTIPLY(of_minima)
MULTIPLY(of_signed)
MULTIPLY(of_half_minima)
MULTIPLY(of_half_offset_4)
MULTIPLY(of_half_offset_32)
MULTIPLY(of_signed_halves)
#undef MULTIPLY

static void fill_tiles(gm_kernels *k)
{
    k->tile_rows = TILE_ROWS;
#define FILL(name, type, block, n_bytes, f) k->tile[GM_##type] = (gm_tile){ unpack_##name, multiply_##f };
    EACH_FORMAT(FILL)
#undef FILL
}

#endif
