/* The decoders against the results of another implementation (tests/generate/quant_goldens.py), and the packers against
 * the decoders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quant/quant.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    uint32_t type, block, block_bytes;
    const char *name;
    bool unpacks, packs;
} known[] = {
    { 0, 1, 4, "F32", true, true },          { 1, 1, 2, "F16", true, true },
    { 2, 32, 18, "Q4_0", true, true },       { 3, 32, 20, "Q4_1", true, true },
    { 6, 32, 22, "Q5_0", true, true },       { 7, 32, 24, "Q5_1", true, true },
    { 8, 32, 34, "Q8_0", true, true },       { 9, 32, 36, "Q8_1", false, false },
    { 10, 256, 84, "Q2_K", true, true },     { 11, 256, 110, "Q3_K", true, true },
    { 12, 256, 144, "Q4_K", true, true },    { 13, 256, 176, "Q5_K", true, true },
    { 14, 256, 210, "Q6_K", true, true },    { 15, 256, 292, "Q8_K", false, false },
    { 16, 256, 66, "IQ2_XXS", true, false }, { 17, 256, 74, "IQ2_XS", true, false },
    { 18, 256, 98, "IQ3_XXS", true, false }, { 19, 256, 50, "IQ1_S", true, false },
    { 20, 32, 18, "IQ4_NL", true, true },    { 21, 256, 110, "IQ3_S", true, false },
    { 22, 256, 82, "IQ2_S", true, false },   { 23, 256, 136, "IQ4_XS", true, false },
    { 24, 1, 1, "I8", false, false },        { 25, 1, 2, "I16", false, false },
    { 26, 1, 4, "I32", false, false },       { 27, 1, 8, "I64", false, false },
    { 28, 1, 8, "F64", false, false },       { 29, 256, 56, "IQ1_M", true, false },
    { 30, 1, 2, "BF16", true, true },        { 34, 256, 54, "TQ1_0", true, false },
    { 35, 256, 66, "TQ2_0", true, false },   { 39, 32, 17, "MXFP4", true, false },
    { 40, 64, 36, "NVFP4", true, false },    { 41, 128, 18, "Q1_0", false, false },
    { 42, 64, 18, "Q2_0", false, false },
};

static void table_is_consistent(void **state)
{
    (void)state;
    size_t n_found = 0;
    for (uint32_t type = 0; type < 1000; type++) n_found += gm_format_of(type) != NULL;
    assert_int_equal(n_found, GM_COUNT(known));
    for (size_t i = 0; i < GM_COUNT(known); i++) {
        const gm_format *f = gm_format_of(known[i].type);
        assert_non_null(f);
        assert_int_equal(f->type, known[i].type);
        assert_string_equal(f->name, known[i].name);
        assert_int_equal(f->block, known[i].block);
        assert_int_equal(f->block_bytes, known[i].block_bytes);
        assert_int_equal(f->unpack != NULL, known[i].unpacks);
        assert_int_equal(f->pack != NULL, known[i].packs);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(known[i].name, known[k].name);
    }
    assert_null(gm_format_of(4));
    assert_null(gm_format_of(GM_TYPE_LIMIT));
    assert_null(gm_format_of(UINT32_MAX));
}

static void row_bytes_count_blocks(void **state)
{
    (void)state;
    assert_int_equal(gm_row_bytes(gm_format_of(GM_F32), 7), 28);
    assert_int_equal(gm_row_bytes(gm_format_of(GM_BF16), 640), 1280);
    assert_int_equal(gm_row_bytes(gm_format_of(GM_Q4_0), 640), 360);
    assert_int_equal(gm_row_bytes(gm_format_of(GM_Q6_K), 2048), 1680);
    assert_int_equal(gm_row_bytes(gm_format_of(GM_Q8_0), 0), 0);
    uint64_t elements = UINT64_C(1) << 40; /* beyond 32 bits */
    assert_true(gm_row_bytes(gm_format_of(GM_Q4_K), elements) == elements / 256 * 144);
}

/* Exactly n bytes, so that a sanitizer sees a read past the end. */
static uint8_t *read_golden(const char *name, size_t *n)
{
    char path[64];
    snprintf(path, sizeof path, "data/quant/%s.bin", name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("cannot open tests/%s", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size > 0);
    rewind(file);
    uint8_t *bytes = malloc((size_t)size);
    assert_non_null(bytes);
    *n = fread(bytes, 1, (size_t)size, file);
    fclose(file);
    assert_int_equal(*n, size);
    return bytes;
}

static void check_golden(const gm_format *f)
{
    size_t n_bytes = 0, unit = f->block_bytes + 4 * f->block;
    uint8_t *golden = read_golden(f->name, &n_bytes);
    size_t n_blocks = n_bytes / unit, n = n_blocks * f->block;
    assert_true(n_blocks >= 64 && n_bytes % unit == 0);
    const uint8_t *expected = golden + n_blocks * f->block_bytes;

    uint8_t *blocks = malloc(n_blocks * f->block_bytes + 1); /* at an odd address */
    float *got = malloc(n * sizeof *got);
    assert_true(blocks && got);
    memcpy(blocks + 1, golden, n_blocks * f->block_bytes);
    f->unpack(blocks + 1, got, n_blocks);
    if (memcmp(got, expected, n * sizeof *got) != 0) {
        for (size_t i = 0; i < n; i++) {
            uint32_t want = gm_load_u32(expected + 4 * i);
            if (gm_f32_bits(got[i]) != want) {
                fail_msg("%s: element %zu of block %zu is %a, should be %a", f->name, i % f->block, i / f->block,
                         (double)got[i], (double)gm_f32_from_bits(want));
            }
        }
    }
    free(got);
    free(blocks);
    free(golden);
}

static void unpack_matches_goldens(void **state)
{
    (void)state;
    size_t n_checked = 0;
    for (uint32_t type = 0; type < GM_TYPE_LIMIT; type++) {
        const gm_format *f = gm_format_of(type);
        if (!f || !f->unpack) continue;
        check_golden(f);
        n_checked++;
    }
    assert_int_equal(n_checked, 26);
}

/* What the kernels multiply: integers that eight bits hold, -128 excepted, and the decoder's results exactly. */
static void expand_is_what_unpack_gives(void **state)
{
    (void)state;
    size_t n_checked = 0;
    for (uint32_t type = 0; type < GM_TYPE_LIMIT; type++) {
        const gm_format *f = gm_format_of(type);
        if (!f || !f->expand) continue;
        size_t n_bytes = 0;
        uint8_t *golden = read_golden(f->name, &n_bytes);
        size_t n_blocks = n_bytes / (f->block_bytes + 4 * f->block);
        for (size_t b = 0; b < n_blocks; b++) {
            const uint8_t *expected = golden + n_blocks * f->block_bytes + 4 * b * f->block;
            int8_t q[256];
            float scale[16];
            f->expand(golden + b * f->block_bytes, q, scale);
            for (size_t i = 0; i < f->block; i++) {
                assert_true(q[i] >= -127);
                assert_int_equal(gm_f32_bits(scale[i / 16] * (float)q[i]), gm_load_u32(expected + 4 * i));
            }
        }
        free(golden);
        n_checked++;
    }
    assert_int_equal(n_checked, 11);
}

static void f16_unpacks_every_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint8_t stored[2] = { (uint8_t)h, (uint8_t)(h >> 8) };
        float got, sign = h & 0x8000 ? -1.0f : 1.0f;
        gm_format_of(GM_F16)->unpack(stored, &got, 1);
        int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
        if (exponent == 31) {
            assert_true(fraction ? isnan(got) : got == sign * INFINITY);
        } else {
            float value = exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
            assert_int_equal(gm_f32_bits(got), gm_f32_bits(sign * value));
        }
    }
}

/* Uniform in −1 … 1, the same everywhere. */
static float next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)(*seed >> 8) / 0x1p23f - 1.0f;
}

enum { N_ROW = 1024 };

/* Largest error per element after a pack and unpack of x, as a part of the largest magnitude in its block. */
static float round_trip_error(const gm_format *f, const float *x)
{
    static uint8_t blocks[N_ROW * 4];
    static float y[N_ROW];
    size_t n_blocks = N_ROW / f->block;
    float worst = 0;
    f->pack(x, blocks, n_blocks);
    f->unpack(blocks, y, n_blocks);
    for (size_t b = 0; b < n_blocks; b++) {
        float max = 0, error = 0;
        for (size_t i = b * f->block; i < (b + 1) * f->block; i++) {
            assert_true(isfinite(y[i]));
            max = fmaxf(max, fabsf(x[i]));
            error = fmaxf(error, fabsf(x[i] - y[i]));
        }
        if (max == 0) assert_true(error == 0);
        worst = fmaxf(worst, error / fmaxf(max, 0x1p-14f)); /* subnormal f16 have an absolute precision */
    }
    return worst;
}

/* Bounds, as a part of the block's largest magnitude M. The step of Q4_0 is M/8, and the code that mirrors the extreme is
 * missing, so a whole step; Q4_1's is at most 2M/15, rounded, so half; K formats also lose up to half of 1/15, 1/31, 1/63
 * or 1/127 of M on the scale (over all steps) and half of 1/15 or 1/63 on the minimum. The values of IQ4_NL are -127 …
 * 113: the mirrored extreme loses 14. 2^-10 for the f16 scales. */
static const struct {
    gm_type type;
    float bound;
} round_trips[] = {
    { GM_F32, 0 },
    { GM_F16, 0x1p-11f },
    { GM_BF16, 0x1p-8f },
    { GM_Q4_0, 1.0f / 8 + 0x1p-10f },
    { GM_Q4_1, 1.0f / 15 + 0x1p-10f },
    { GM_Q5_0, 1.0f / 16 + 0x1p-10f },
    { GM_Q5_1, 1.0f / 31 + 0x1p-10f },
    { GM_Q8_0, 0.5f / 127 + 0x1p-10f },
    { GM_Q2_K, 1.0f / 3 + 0.5f / 15 + 2 * 0.5f / 15 + 0x1p-10f },
    { GM_Q3_K, 1.0f / 4 + 4.0f / 4 * 0.5f / 31 + 0x1p-10f },
    { GM_Q4_K, 1.0f / 15 + 0.5f / 63 + 2 * 0.5f / 63 + 0x1p-10f },
    { GM_Q5_K, 1.0f / 31 + 0.5f / 63 + 2 * 0.5f / 63 + 0x1p-10f },
    { GM_Q6_K, 0.5f / 31 + 32.0f / 31 * 0.5f / 127 + 0x1p-10f },
    { GM_IQ4_NL, 14.0f / 127 + 0x1p-10f },
};

static void round_trip_is_within_bounds(void **state)
{
    (void)state;
    static float x[N_ROW];
    uint32_t seed = 7;
    for (size_t k = 0; k < GM_COUNT(round_trips); k++) {
        const gm_format *f = gm_format_of(round_trips[k].type);
        for (int round = 0; round < 64; round++) {
            /* up to 49152; from 0.5, for scales that are normal f16; also one-sided blocks */
            float size = ldexpf(1.0f, round % 16 - 1), offset = (float)(round / 16 - 1);
            for (size_t i = 0; i < N_ROW; i++) x[i] = size * (next_random(&seed) + offset);
            float error = round_trip_error(f, x);
            if (!(error <= round_trips[k].bound)) {
                fail_msg("%s, round %d: error %g, bound %g", f->name, round, (double)error,
                         (double)round_trips[k].bound);
            }
        }
    }
}

/* What a packer may not disturb: zeros, and values that the format holds exactly. */
static void round_trip_is_exact_where_it_can_be(void **state)
{
    (void)state;
    static float x[N_ROW];
    for (size_t k = 0; k < GM_COUNT(round_trips); k++) {
        const gm_format *f = gm_format_of(round_trips[k].type);
        memset(x, 0, sizeof x);
        assert_true(round_trip_error(f, x) == 0);
    }
    for (size_t i = 0; i < N_ROW; i++) x[i] = 0.5f * (float)((int)(i % 16) - 8);
    assert_true(round_trip_error(gm_format_of(GM_Q4_0), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 0.5f * (float)(i % 16) - 3;
    assert_true(round_trip_error(gm_format_of(GM_Q4_1), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 2.0f * (float)((int)(i % 32) - 16);
    assert_true(round_trip_error(gm_format_of(GM_Q5_0), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 2.0f * (float)(i % 32) + 5;
    assert_true(round_trip_error(gm_format_of(GM_Q5_1), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 0.25f * (float)((int)(i * 2 % 32 * 8) - 127); /* −127 … 113 */
    assert_true(round_trip_error(gm_format_of(GM_Q8_0), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 15 * (float)(i % 4); /* scale 15, no minimum */
    assert_true(round_trip_error(gm_format_of(GM_Q2_K), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = (i / 16 % 2 ? 31 : -31) * (float)((int)(i % 8) - 4);
    assert_true(round_trip_error(gm_format_of(GM_Q3_K), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 63 * (float)(i % 32);
    assert_true(round_trip_error(gm_format_of(GM_Q5_K), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 0.5f * (float)gm_iq4_values[i % 16];
    assert_true(round_trip_error(gm_format_of(GM_IQ4_NL), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 63 * (float)(i % 16); /* scale 63, no minimum */
    assert_true(round_trip_error(gm_format_of(GM_Q4_K), x) == 0);
    for (size_t i = 0; i < N_ROW; i++) x[i] = 127 * (float)((int)(i % 16) * 2 + 1);
    assert_true(round_trip_error(gm_format_of(GM_Q6_K), x) == 0);
}

/* The scale is 1.4 × 2^-24, which f16 makes 2^-24: the codes must stop at their ends, not wrap round. */
static void tiny_values_saturate(void **state)
{
    (void)state;
    float x[32], y[32];
    uint8_t block[sizeof(gm_block_q8_0)];
    for (int i = 0; i < 32; i++) x[i] = (i % 2 ? 1.4f : -1.4f) * 0x1p-24f * 127;
    gm_format_of(GM_Q8_0)->pack(x, block, 1);
    gm_format_of(GM_Q8_0)->unpack(block, y, 1);
    for (int i = 0; i < 32; i++) assert_true(y[i] == (i % 2 ? 0x1p-24f : -0x1p-24f) * 127);
}

/* Each run has its own scale: a small run beside a large one keeps its precision. */
static void k_formats_scale_each_run(void **state)
{
    (void)state;
    uint32_t seed = 3;
    float x[256], y[256];
    uint8_t block[sizeof(gm_block_q6_k)];
    for (int i = 0; i < 256; i++) x[i] = next_random(&seed) * (float)(1 + i / 32);
    static const gm_type types[] = { GM_Q4_K, GM_Q6_K };
    for (size_t k = 0; k < GM_COUNT(types); k++) {
        gm_format_of(types[k])->pack(x, block, 1);
        gm_format_of(types[k])->unpack(block, y, 1);
        for (int i = 0; i < 256; i++) {
            float largest = (float)(1 + i / 32); /* of the run */
            float bound = types[k] == GM_Q4_K ? largest / 15 + 2 * 8 * 1.5f / 63 / 2 : largest / 62 + 8 * 0.6f / 127;
            assert_true(fabsf(x[i] - y[i]) <= bound);
        }
    }
}

/* The KV cache packs what a model computes: anything may come, none of it may be undefined, and it must stay visible. */
static void packing_keeps_non_finite_visible(void **state)
{
    (void)state;
    static const float bad[] = { INFINITY, -INFINITY, NAN, FLT_MAX };
    static uint8_t blocks[256 * 4];
    static float x[256], y[256];
    for (size_t k = 0; k < GM_COUNT(round_trips); k++) {
        const gm_format *f = gm_format_of(round_trips[k].type);
        for (size_t v = 0; v < GM_COUNT(bad); v++) {
            for (int i = 0; i < 256; i++) x[i] = (float)i;
            x[17] = bad[v];
            f->pack(x, blocks, 256 / f->block);
            f->unpack(blocks, y, 256 / f->block);
            bool finite = true;
            for (int i = 0; i < 256; i++) finite = finite && isfinite(y[i]);
            bool min_max = f->type == GM_Q4_1 || f->type == GM_Q5_1 || f->type == GM_Q2_K || f->type == GM_Q4_K ||
                           f->type == GM_Q5_K;
            if (min_max && isnan(bad[v])) continue; /* a minimum and a maximum pass over a NaN */
            if (finite != (f->type == GM_F32 && bad[v] == FLT_MAX)) {
                fail_msg("%s with %g: finite %d", f->name, (double)bad[v], finite);
            }
        }
    }
}

/* A ternary block of ±d times a factor, as Q8_0. */
static float requanted(float d, float factor)
{
    uint8_t block[66];
    gm_block_q8_0 q8_0[8];
    float out[256];
    memset(block, 0x89, 64); /* 1 2 0 2: d · (0, 1, −1, 1), low bits first */
    block[64] = (uint8_t)gm_f16_from_f32(d);
    block[65] = (uint8_t)(gm_f16_from_f32(d) >> 8);
    gm_requant_q8_0(gm_format_of(GM_TQ2_0), block, factor, q8_0, 256);
    gm_format_of(GM_Q8_0)->unpack(q8_0, out, 8);
    static const float codes[4] = { 0, 1, -1, 1 };
    for (int i = 0; i < 256; i++) assert_true(out[i] == codes[i / 32 % 4] * out[32]);
    return out[32];
}

static void requant_takes_any_scale(void **state)
{
    (void)state;
    assert_true(requanted(0.37f, 1) == gm_f32_from_f16(gm_f16_from_f32(0.37f)));
    assert_true(requanted(-0.5f, 0.25f) == -0.125f);
    float far = requanted(30000, 4); /* the product is beyond f16, a 127th of it is not */
    assert_true(fabsf(far - 120000) < 60);
    assert_true(requanted(0, 1) == 0);
    float x[64], out[64];
    uint16_t half[64];
    gm_block_q8_0 blocks[2];
    for (int i = 0; i < 64; i++) x[i] = (float)(i - 20) / 16;
    gm_format_of(GM_F16)->pack(x, half, 64);
    gm_requant_q8_0(gm_format_of(GM_F16), half, 3, blocks, 64);
    gm_format_of(GM_Q8_0)->unpack(blocks, out, 2);
    for (int i = 0; i < 64; i++)
        assert_true(fabsf(out[i] - 3 * x[i]) <= (i < 32 ? 20.0f : 43.0f) / 16 * 3 / 127 * 0.52f);
}

static void bf16_rounds_to_even(void **state)
{
    (void)state;
    static const struct {
        uint32_t in, out;
    } cases[] = {
        { 0x3f808000, 0x3f80 }, { 0x3f818000, 0x3f82 }, { 0x3f808001, 0x3f81 }, { 0xbf80ffff, 0xbf81 },
        { 0x00000001, 0x0000 }, { 0x007fffff, 0x0080 }, { 0x7f7fffff, 0x7f80 }, { 0xff800000, 0xff80 },
        { 0x7f800001, 0x7fc0 }, { 0xffffffff, 0xffff },
    };
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        uint8_t stored[2];
        float in = gm_f32_from_bits(cases[i].in);
        gm_format_of(GM_BF16)->pack(&in, stored, 1);
        assert_int_equal(gm_load_u16(stored), cases[i].out);
    }
}

static void activation_of_zeros(void **state)
{
    (void)state;
    float x[64] = { 0 };
    gm_q8a a[2];
    x[0] = -0.0f;
    x[40] = FLT_MIN; /* too small for its scale to be a normal number */
    memset(a, 0x55, sizeof a);
    gm_q8a_pack(x, a, 2);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(gm_f32_bits(a[k].d), 0);
        assert_int_equal(gm_f32_bits(a[k].sum), 0);
        for (int i = 0; i < 32; i++) assert_int_equal(a[k].q[i], 0);
    }
}

static void activation_properties(void **state)
{
    (void)state;
    uint32_t seed = 11;
    for (int exponent = -118; exponent <= 122; exponent++) {
        float x[32], max = 0;
        int at = 0, sum = 0;
        for (int i = 0; i < 32; i++) {
            x[i] = ldexpf(next_random(&seed), exponent);
            if (fabsf(x[i]) > max) max = fabsf(x[i]), at = i;
        }
        gm_q8a a;
        gm_q8a_pack(x, &a, 1);
        assert_true(a.d == max / 127);
        assert_int_equal(a.q[at], x[at] < 0 ? -127 : 127);
        for (int i = 0; i < 32; i++) {
            assert_int_equal(a.q[i], (int)nearbyintf(x[i] / a.d));
            assert_true(fabsf(x[i] / a.d - (float)a.q[i]) <= 0.5f);
            sum += a.q[i];
        }
        assert_true(a.sum == a.d * (float)sum);
    }
}

static void activation_ties_to_even(void **state)
{
    (void)state;
    float x[32] = { 127, 0.5f, 1.5f, 2.5f, 3.5f, -0.5f, -1.5f, -2.5f, -3.5f, 126.5f, -126.5f, 125.5f };
    static const int8_t q[32] = { 127, 0, 2, 2, 4, 0, -2, -2, -4, 126, -126, 126 };
    gm_q8a a;
    gm_q8a_pack(x, &a, 1);
    assert_true(a.d == 1);
    assert_memory_equal(a.q, q, sizeof q);
    assert_true(a.sum == 253);
}

static void activation_of_huge_values_is_finite(void **state)
{
    (void)state;
    static const float huge[] = { 1e38f, -1e38f, FLT_MAX, -FLT_MAX };
    for (size_t k = 0; k < GM_COUNT(huge); k++) {
        float x[32];
        gm_q8a a;
        for (int i = 0; i < 32; i++) x[i] = huge[k];
        gm_q8a_pack(x, &a, 1);
        assert_true(isfinite(a.d) && isfinite(a.sum));
        assert_true(a.sum == (huge[k] < 0 ? -FLT_MAX : FLT_MAX));
        for (int i = 0; i < 32; i++) assert_int_equal(a.q[i], huge[k] < 0 ? -127 : 127);
    }
}

static void activation_keeps_non_finite_visible(void **state)
{
    (void)state;
    static const float bad[] = { INFINITY, -INFINITY, NAN };
    for (size_t k = 0; k < GM_COUNT(bad); k++) {
        float x[32] = { 1, 2, 3 };
        gm_q8a a;
        x[30] = bad[k];
        gm_q8a_pack(x, &a, 1);
        assert_false(isfinite(a.d));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_consistent),
        cmocka_unit_test(row_bytes_count_blocks),
        cmocka_unit_test(unpack_matches_goldens),
        cmocka_unit_test(expand_is_what_unpack_gives),
        cmocka_unit_test(f16_unpacks_every_value),
        cmocka_unit_test(round_trip_is_within_bounds),
        cmocka_unit_test(round_trip_is_exact_where_it_can_be),
        cmocka_unit_test(tiny_values_saturate),
        cmocka_unit_test(k_formats_scale_each_run),
        cmocka_unit_test(packing_keeps_non_finite_visible),
        cmocka_unit_test(requant_takes_any_scale),
        cmocka_unit_test(bf16_rounds_to_even),
        cmocka_unit_test(activation_of_zeros),
        cmocka_unit_test(activation_properties),
        cmocka_unit_test(activation_ties_to_even),
        cmocka_unit_test(activation_of_huge_values_is_finite),
        cmocka_unit_test(activation_keeps_non_finite_visible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
