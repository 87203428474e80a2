/* Tiles: sixteen weight rows against four columns at once, with the order of kernels.h.
 *
 * A panel holds, for each run of 32, the rows' integers (less what their format subtracts) in registers as add_16 takes
 * them, then registers of floats: the rows' scales and minima, as many as the format's kind has. Runs follow each other.
 * Sums, and the lanes they are added to, are sixteen registers: [of rows][of columns]. */
#ifndef GM_CPU_ARM_TILE_H
#define GM_CPU_ARM_TILE_H

enum { TILE_ROWS = 16, TILE_STEP = 4, WEIGHTS = 32 * TILE_ROWS, FACTOR = 4 * TILE_ROWS }; /* rows, columns, bytes */

/* Four rows by four: dword i of v[r] becomes dword r of v[i]. */
GM_INLINE void transpose(uint32x4_t v[4])
{
    uint32x4_t a = vzip1q_u32(v[0], v[2]), b = vzip2q_u32(v[0], v[2]);
    uint32x4_t c = vzip1q_u32(v[1], v[3]), d = vzip2q_u32(v[1], v[3]);
    v[0] = vzip1q_u32(a, c), v[1] = vzip2q_u32(a, c), v[2] = vzip1q_u32(b, d), v[3] = vzip2q_u32(b, d);
}

#if defined(__ARM_FEATURE_MATMUL_INT8)
/* A register of weights: eight elements of two rows. One of sums: two rows, of each two columns. */
enum { OF_ROWS = 8, OF_COLUMNS = 2 };

/* Sixteen elements of rows 4 × quarter … + 3, from element `at` of the run on. */
GM_INLINE void put_weights(const uint8x16_t v[4], int at, int quarter, uint8_t *weights)
{
    GM_UNROLL
    for (int i = 0; i < 2; i++) {
        uint8_t *to = weights + at * TILE_ROWS + (2 * quarter + i) * 16;
        vst1q_u8(to, first_eights(v[2 * i], v[2 * i + 1]));
        vst1q_u8(to + 8 * TILE_ROWS, last_eights(v[2 * i], v[2 * i + 1]));
    }
}

GM_INLINE void add_16(const uint8_t *weights, const int8_t *const q[TILE_STEP], int32x4_t sum[OF_ROWS][OF_COLUMNS])
{
    uint8x16_t x[TILE_STEP];
    GM_UNROLL
    for (int c = 0; c < TILE_STEP; c++) x[c] = load_16(q[c]);
    int8x16_t by[2][2];
    GM_UNROLL
    for (int c = 0; c < 2; c++) {
        by[0][c] = vreinterpretq_s8_u8(first_eights(x[2 * c], x[2 * c + 1]));
        by[1][c] = vreinterpretq_s8_u8(last_eights(x[2 * c], x[2 * c + 1]));
    }
    GM_UNROLL
    for (int i = 0; i < 2; i++) {
        GM_UNROLL
        for (int r = 0; r < OF_ROWS; r++) {
            int8x16_t w = vreinterpretq_s8_u8(load_16(weights + (i * OF_ROWS + r) * 16));
            sum[r][0] = vmmlaq_s32(sum[r][0], w, by[i][0]);
            sum[r][1] = vmmlaq_s32(sum[r][1], w, by[i][1]);
        }
    }
}

/* What the rows, or the columns, of a register of sums are multiplied with. */
GM_INLINE float32x4_t of_rows(const uint8_t *factors, int r)
{
    float32x4_t four = vreinterpretq_f32_u8(load_16(factors + r / 2 * 16));
    return r % 2 ? vzip2q_f32(four, four) : vzip1q_f32(four, four);
}
GM_INLINE float32x4_t of_columns(const float v[TILE_STEP], int c)
{
    float32x2_t two = vld1_f32(v + 2 * c);
    return vcombine_f32(two, two);
}

/* Rows 4 × quarter … + 3 of every column. */
GM_INLINE void quarter_of(float32x4_t v[OF_ROWS][OF_COLUMNS], int quarter, float32x4_t column[TILE_STEP])
{
    GM_UNROLL
    for (int c = 0; c < TILE_STEP; c += 2) {
        column[c] = vuzp1q_f32(v[2 * quarter][c / 2], v[2 * quarter + 1][c / 2]);
        column[c + 1] = vuzp2q_f32(v[2 * quarter][c / 2], v[2 * quarter + 1][c / 2]);
    }
}
#else
/* A register of weights: four elements of four rows. One of sums: four rows of one column. */
enum { OF_ROWS = 4, OF_COLUMNS = 4 };

GM_INLINE void put_weights(const uint8x16_t v[4], int at, int quarter, uint8_t *weights)
{
    uint32x4_t w[4];
    GM_UNROLL
    for (int r = 0; r < 4; r++) w[r] = vreinterpretq_u32_u8(v[r]);
    transpose(w);
    GM_UNROLL
    for (int i = 0; i < 4; i++) vst1q_u8(weights + (at + 4 * i) * TILE_ROWS + quarter * 16, vreinterpretq_u8_u32(w[i]));
}

/* Element 4 × lane on, of every row and column; the instruction wants a literal. */
#define ADD_4(lane)                                                                                                    \
    GM_UNROLL                                                                                                          \
    for (int r = 0; r < OF_ROWS; r++) {                                                                                \
        int8x16_t w = vreinterpretq_s8_u8(load_16(weights + ((lane)*OF_ROWS + r) * 16));                               \
        sum[r][0] = vdotq_laneq_s32(sum[r][0], w, x[0], lane);                                                         \
        sum[r][1] = vdotq_laneq_s32(sum[r][1], w, x[1], lane);                                                         \
        sum[r][2] = vdotq_laneq_s32(sum[r][2], w, x[2], lane);                                                         \
        sum[r][3] = vdotq_laneq_s32(sum[r][3], w, x[3], lane);                                                         \
    }
GM_INLINE void add_16(const uint8_t *weights, const int8_t *const q[TILE_STEP], int32x4_t sum[OF_ROWS][OF_COLUMNS])
{
    int8x16_t x[TILE_STEP];
    GM_UNROLL
    for (int c = 0; c < TILE_STEP; c++) x[c] = vld1q_s8(q[c]);
    ADD_4(0)
    ADD_4(1)
    ADD_4(2)
    ADD_4(3)
}
#undef ADD_4

GM_INLINE float32x4_t of_rows(const uint8_t *factors, int r) { return vreinterpretq_f32_u8(load_16(factors + r * 16)); }
GM_INLINE float32x4_t of_columns(const float v[TILE_STEP], int c) { return vdupq_n_f32(v[c]); }

GM_INLINE void quarter_of(float32x4_t v[OF_ROWS][OF_COLUMNS], int quarter, float32x4_t column[TILE_STEP])
{
    GM_UNROLL
    for (int c = 0; c < TILE_STEP; c++) column[c] = v[quarter][c];
}
#endif

/* ---- unpacking: four rows of a block at a time; rows that are not there are zero ---- */
typedef struct four_rows {
    uint8x16_t half[16][4]; /* of runs; [half][row] */
    floats factor[4][4];    /* [factor][row]: of the eight runs */
} four_rows;

GM_INLINE int n_factors(kind f) { return (f.halves ? 2 : 1) + f.n_minima; }
GM_INLINE size_t run_bytes(kind f) { return WEIGHTS + (size_t)n_factors(f) * FACTOR; }

GM_INLINE void keep_row(four_rows *e, uint32_t r, kind f, const eight_runs *w)
{
    uint8x16_t less = same_byte(f.is_signed || f.offset < 0 ? 0 : 1 << f.offset);
    GM_UNROLL
    for (int j = 0; j < 8; j++) {
        e->half[2 * j][r] = vsubq_u8(w->run[j].low, less);
        e->half[2 * j + 1][r] = vsubq_u8(w->run[j].high, less);
    }
    int i = 0;
    e->factor[i++][r] = w->scale[0];
    if (f.halves) e->factor[i++][r] = w->scale[1];
    if (f.n_minima) e->factor[i++][r] = w->min[0];
    if (f.n_minima == 2) e->factor[i++][r] = w->min[1];
}

GM_INLINE void write_rows(const four_rows *e, int quarter, kind f, uint32_t n_runs, uint8_t *panel)
{
    for (uint32_t j = 0; j < n_runs; j++)
        for (uint32_t h = 0; h < 2; h++)
            put_weights(e->half[2 * j + h], (int)(16 * h), quarter, panel + j * run_bytes(f));
    for (int i = 0; i < n_factors(f); i++) {
        uint32x4_t v[8];
        GM_UNROLL
        for (int r = 0; r < 4; r++) {
            v[r] = vreinterpretq_u32_f32(e->factor[i][r].low);
            v[r + 4] = vreinterpretq_u32_f32(e->factor[i][r].high);
        }
        transpose(v);
        transpose(v + 4);
        for (uint32_t j = 0; j < n_runs; j++)
            vst1q_u8(panel + j * run_bytes(f) + WEIGHTS + i * FACTOR + quarter * 16, vreinterpretq_u8_u32(v[j]));
    }
}

#define UNPACK(name, type, block, n_bytes, f)                                                                          \
    static void unpack_##name(const uint8_t *rows, uint64_t row_bytes, uint32_t n_rows, size_t n, uint8_t *panel)      \
    {                                                                                                                  \
        four_rows e;                                                                                                   \
        for (size_t b = 0; b < gm_div_up(n, 256); b++, panel += 8 * run_bytes(f)) {                                    \
            uint32_t n_runs = (uint32_t)gm_min_u64(8, n / 32 - 8 * b);                                                 \
            for (uint32_t i = 0; i < TILE_ROWS; i++) {                                                                 \
                const uint8_t *row = rows + i * row_bytes + b * (256 / (block) * (n_bytes));                           \
                eight_runs w;                                                                                          \
                if (i >= n_rows) {                                                                                     \
                    memset(&w, 0, sizeof w);                                                                           \
                } else if (n_runs == 8) {                                                                              \
                    fetch_##name(row, 8, &w);                                                                          \
                } else {                                                                                               \
                    FETCH_REST(name, block, n_bytes, row, n_runs, &w);                                                 \
                }                                                                                                      \
                keep_row(&e, i % 4, f, &w);                                                                            \
                if (i % 4 == 3) write_rows(&e, (int)i / 4, f, n_runs, panel);                                          \
            }                                                                                                          \
        }                                                                                                              \
    }
EACH_FORMAT(UNPACK)
#undef UNPACK

/* ---- multiplying. The lanes of all columns lie in memory, one load and one store a run ---- */
typedef float32x4_t tile_lanes[OF_ROWS][OF_COLUMNS];

/* Run j of every column's block b. */
GM_INLINE void tile_run(bool halves, bool minima, const uint8_t *panel, const gm_activations *const *x, size_t b,
                        uint32_t j, tile_lanes lane)
{
    const uint8_t *factors = panel + WEIGHTS;
    int n_parts = halves ? 2 : 1;
    float d[TILE_STEP], total[2][TILE_STEP];
    GM_UNROLL
    for (int c = 0; c < TILE_STEP; c++) {
        d[c] = x[c][b].d[j];
        total[0][c] = halves ? (float)x[c][b].half_sums[j][0] : x[c][b].sum[j];
        total[1][c] = halves ? (float)x[c][b].half_sums[j][1] : 0;
    }
    for (int h = 0; h < n_parts; h++) {
        int32x4_t sum[OF_ROWS][OF_COLUMNS];
        GM_UNROLL
        for (int r = 0; r < OF_ROWS; r++) {
            GM_UNROLL
            for (int c = 0; c < OF_COLUMNS; c++) sum[r][c] = vdupq_n_s32(0);
        }
        for (int k = 16 * h; k < (halves ? 16 * h + 16 : 32); k += 16) {
            const int8_t *q[TILE_STEP];
            GM_UNROLL
            for (int c = 0; c < TILE_STEP; c++) q[c] = x[c][b].q + 32 * j + k;
            add_16(panel + k * TILE_ROWS, q, sum);
        }
        GM_UNROLL
        for (int r = 0; r < OF_ROWS; r++) {
            float32x4_t scale = of_rows(factors + h * FACTOR, r);
            GM_UNROLL
            for (int c = 0; c < OF_COLUMNS; c++)
                lane[r][c] = vfmaq_f32(lane[r][c], vcvtq_f32_s32(sum[r][c]), vmulq_f32(scale, of_columns(d, c)));
        }
    }
    for (int h = 0; minima && h < n_parts; h++) {
        GM_UNROLL
        for (int r = 0; r < OF_ROWS; r++) {
            float32x4_t min = of_rows(factors + (n_parts + h) * FACTOR, r);
            GM_UNROLL
            for (int c = 0; c < OF_COLUMNS; c++) {
                float32x4_t by = halves ? vmulq_f32(min, of_columns(d, c)) : min;
                lane[r][c] = vfmaq_f32(lane[r][c], of_columns(total[h], c), by);
            }
        }
    }
}

GM_INLINE void tile_columns(bool halves, bool minima, const uint8_t *panel, uint32_t n_rows,
                            const gm_activations *const *x, uint32_t n_columns, size_t n, float *out, uint64_t stride)
{
    size_t step = WEIGHTS + (size_t)(halves ? 2 : 1) * (minima ? 2 : 1) * FACTOR;
    tile_lanes lanes[8], all_of;
    memset(lanes, 0, sizeof lanes);
    for (size_t i = 0; i < n / 32; i++, panel += step)
        tile_run(halves, minima, panel, x, i / 8, (uint32_t)(i % 8), lanes[i % 8]);
    for (int i = 0; i < OF_ROWS * OF_COLUMNS; i++) {
        int r = i / OF_COLUMNS, c = i % OF_COLUMNS;
        float32x4_t even =
            vaddq_f32(vaddq_f32(lanes[0][r][c], lanes[4][r][c]), vaddq_f32(lanes[2][r][c], lanes[6][r][c]));
        float32x4_t odd =
            vaddq_f32(vaddq_f32(lanes[1][r][c], lanes[5][r][c]), vaddq_f32(lanes[3][r][c], lanes[7][r][c]));
        all_of[r][c] = vaddq_f32(even, odd);
    }
    float values[TILE_STEP][TILE_ROWS];
    for (int quarter = 0; quarter < 4; quarter++) {
        float32x4_t column[TILE_STEP];
        quarter_of(all_of, quarter, column);
        for (int c = 0; c < TILE_STEP; c++) vst1q_f32(values[c] + 4 * quarter, column[c]);
    }
    for (uint32_t c = 0; c < n_columns; c++) memcpy(out + c * stride, values[c], n_rows * sizeof *out);
}

/* Columns that are not there repeat the last. */
#define MULTIPLY(name, halves, minima)                                                                                 \
    static void multiply_##name(const uint8_t *panel, uint32_t n_rows, const gm_activations *const *x,                 \
                                uint32_t n_columns, size_t n, float *out, uint64_t stride)                             \
    {                                                                                                                  \
        for (uint32_t c = 0; c < n_columns; c += TILE_STEP) {                                                          \
            const gm_activations *columns[TILE_STEP];                                                                  \
            uint32_t n_here = gm_min_u32(TILE_STEP, n_columns - c);                                                    \
            for (uint32_t i = 0; i < TILE_STEP; i++) columns[i] = x[c + gm_min_u32(i, n_here - 1)];                    \
            tile_columns(halves, minima, panel, n_rows, columns, n_here, n, out + c * stride, stride);                 \
        }                                                                                                              \
    }
MULTIPLY(scales, false, false)
MULTIPLY(minima, false, true)
MULTIPLY(halves, true, false)
MULTIPLY(half_minima, true, true)
#undef MULTIPLY

static void fill_tiles(gm_kernels *k)
{
    k->tile_rows = TILE_ROWS;
#define FILL(name, type, block, n_bytes, f)                                                                            \
    k->tile[GM_##type].unpack = unpack_##name;                                                                         \
    k->tile[GM_##type].multiply = f.halves     ? f.n_minima ? multiply_half_minima : multiply_halves                   \
                                  : f.n_minima ? multiply_minima                                                       \
                                               : multiply_scales;
    EACH_FORMAT(FILL)
#undef FILL
}

#endif
