/* Numbers as files store them, half floats against arithmetic in double, checked sums. */
#include "base/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* The value by the definition of IEEE 754 binary16. */
static double f16_value(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double mantissa = h & 1023, sign = h & 0x8000 ? -1 : 1;
    if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

/* Nearest by search: the last finite half at or below |x|, then a comparison of the two distances. */
static uint16_t f16_nearest(double x)
{
    double size = fabs(x);
    uint16_t sign = signbit(x) ? 0x8000 : 0, low = 0, high = 0x7bff;
    while (low < high) {
        uint16_t middle = (uint16_t)((low + high + 1) / 2);
        if (f16_value(middle) <= size)
            low = middle;
        else
            high = (uint16_t)(middle - 1);
    }
    double below = f16_value(low), above = low == 0x7bff ? 65536 : f16_value((uint16_t)(low + 1));
    double to_below = size - below, to_above = above - size; /* exact: few bits */
    bool up = to_above < to_below || (to_above == to_below && (low & 1));
    return (uint16_t)(sign | (low + up));
}

static void test_loads(void **state)
{
    (void)state;
    const uint8_t bytes[] = { 0xff, 0x01, 0x02, 0x83, 0x04, 0x05, 0x06, 0x07, 0xf8 };
    assert_int_equal(gm_load_u16(bytes + 1), 0x0201);
    assert_int_equal(gm_load_u32(bytes + 1), 0x04830201);
    assert_true(gm_load_u64(bytes + 1) == 0xf807060504830201u);
    const uint8_t one[] = { 0, 0, 0, 0x80, 0x3f };
    assert_true(gm_load_f32(one + 1) == 1.0f);
    assert_true(gm_f32_from_bf16(0xc049) == -3.140625f);
    assert_int_equal(gm_f32_bits(-0.0f), 0x80000000u);
}

static void test_every_f16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        double expected = f16_value((uint16_t)h);
        float got = gm_f32_from_f16((uint16_t)h);
        if (isnan(expected)) {
            assert_true(isnan(got));
            assert_true(isnan(gm_f32_from_f16(gm_f16_from_f32(got))));
            assert_int_equal(gm_f16_from_f32(got) & 0x8000, h & 0x8000);
            continue;
        }
        assert_true((double)got == expected);
        assert_int_equal(signbit(got) != 0, h >> 15);
        assert_int_equal(gm_f16_from_f32(got), h);
    }
}

/* Around every half: the points in the middle, and the floats next to them. */
static void test_f16_rounding(void **state)
{
    (void)state;
    for (uint16_t h = 0; h < 0x7c00; h++) {
        double above = h == 0x7bff ? 65536 : f16_value((uint16_t)(h + 1));
        float middle = (float)((f16_value(h) + above) / 2);
        float points[] = { middle, nextafterf(middle, 0), nextafterf(middle, INFINITY), -middle };
        for (size_t i = 0; i < GM_COUNT(points); i++)
            assert_int_equal(gm_f16_from_f32(points[i]), f16_nearest(points[i]));
    }
}

static void test_f16_anywhere(void **state)
{
    (void)state;
    uint32_t bits = 12345;
    for (uint32_t i = 0; i < 200000; i++) {
        bits = bits * 1664525u + 1013904223u;
        /* exponents 2^-30 … 2^17, where something happens */
        float f = gm_f32_from_bits((bits & 0x807fffffu) | (97u + (bits >> 9) % 48u) << 23);
        assert_int_equal(gm_f16_from_f32(f), f16_nearest(f));
    }
    assert_int_equal(gm_f16_from_f32(gm_f32_from_bits(1)), 0);
    assert_int_equal(gm_f16_from_f32(-1e30f), 0xfc00);
    assert_int_equal(gm_f16_from_f32(INFINITY), 0x7c00);
    assert_int_equal(gm_f16_from_f32(gm_f32_from_bits(0x7f800001u)) & 0x7e00, 0x7e00); /* a NaN of low bits */
}

static void test_arithmetic(void **state)
{
    (void)state;
    uint64_t out = 7;
    assert_false(gm_mul_u64(UINT64_MAX, 2, &out));
    assert_false(gm_mul_u64((uint64_t)1 << 32, (uint64_t)1 << 32, &out));
    assert_false(gm_add_u64(UINT64_MAX, 1, &out));
    assert_true(out == 7);
    assert_true(gm_mul_u64(UINT64_MAX, 1, &out) && out == UINT64_MAX);
    assert_true(gm_mul_u64(UINT64_MAX, 0, &out) && out == 0);
    assert_true(gm_add_u64(UINT64_MAX - 1, 1, &out) && out == UINT64_MAX);
    assert_true(gm_div_up(UINT64_MAX, 2) == (uint64_t)1 << 63);
    assert_true(gm_div_up(0, 3) == 0 && gm_div_up(3, 3) == 1 && gm_div_up(4, 3) == 2);
    assert_true(gm_align_up(0, 64) == 0 && gm_align_up(1, 64) == 64 && gm_align_up(64, 64) == 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads),        cmocka_unit_test(test_every_f16),  cmocka_unit_test(test_f16_rounding),
        cmocka_unit_test(test_f16_anywhere), cmocka_unit_test(test_arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
