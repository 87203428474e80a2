/* The formatter against sentences and snprintf, UTF-8 against the table of the standard. */
#include "base/base.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/* Not checked by the compiler: some formats are wrong on purpose. */
static size_t (*volatile format_any)(char *, size_t, const char *, ...) = gm_text_format;

#define ASSERT_FORMAT(expected, ...)                                                                                   \
    do {                                                                                                               \
        char text_[400];                                                                                               \
        size_t length_ = format_any(text_, sizeof text_, __VA_ARGS__);                                                 \
        assert_string_equal(text_, expected);                                                                          \
        assert_int_equal(length_, strlen(expected));                                                                   \
    } while (0)

static void test_integers(void **state)
{
    (void)state;
    ASSERT_FORMAT("", "%s", "");
    ASSERT_FORMAT("a 0 b", "a %d b", 0);
    ASSERT_FORMAT("-2147483648 2147483647 4294967295", "%d %i %u", INT32_MIN, INT32_MAX, UINT32_MAX);
    ASSERT_FORMAT("-9223372036854775808", "%lld", (long long)INT64_MIN);
    ASSERT_FORMAT("18446744073709551615", "%llu", (unsigned long long)UINT64_MAX);
    ASSERT_FORMAT("-1 5", "%ld %lu", -1l, 5ul);
    ASSERT_FORMAT("12 -3", "%zu %zd", (size_t)12, (ptrdiff_t)-3);
    ASSERT_FORMAT("0 dead beefcafe00000001", "%x %x %llx", 0u, 0xdeadu, 0xbeefcafe00000001ull);
    ASSERT_FORMAT("100% A", "100%% %c", 'A');
}

static void test_strings(void **state)
{
    (void)state;
    ASSERT_FORMAT("blk.3: 7", "%s: %d", "blk.3", 7);
    ASSERT_FORMAT("(null)", "%s", (char *)NULL);
    ASSERT_FORMAT("abc|abcdef||ab", "%.3s|%.9s|%.0s|%.*s", "abcdef", "abcdef", "abcdef", 2, "abcdef");
    ASSERT_FORMAT("abc", "%.*s", -1, "abc"); /* as in C: no limit */
    const char unended[3] = { 'x', 'y', 'z' };
    ASSERT_FORMAT("xyz", "%.3s", unended);
    ASSERT_FORMAT("h", "%.2s", "hé"); /* not half a character */
    ASSERT_FORMAT("hé", "%.3s", "hé");
    ASSERT_FORMAT("1 %5d 2", "%d %5d 2", 1, 9); /* what is not known is shown as it stands */
    ASSERT_FORMAT("%q", "%q", 1);
    ASSERT_FORMAT("50%", "50%", 1);
    ASSERT_FORMAT("%.", "%.", 1);
}

static void test_floats(void **state)
{
    (void)state;
    ASSERT_FORMAT("0.000000 1.5 -2 3.14", "%f %.1f %.0f %.2f", 0.0, 1.5, -2.0, 3.14159);
    ASSERT_FORMAT("0 2 2 4 0.12 0.38", "%.0f %.0f %.0f %.0f %.2f %.2f", 0.5, 1.5, 2.5, 3.5, 0.125, 0.375);
    ASSERT_FORMAT("1.000 10 -0.0", "%.3f %.0f %.1f", 0.9999, 9.5, -0.0);
    ASSERT_FORMAT("nan inf -inf", "%f %f %.2f", (double)NAN, (double)INFINITY, -(double)INFINITY);
    ASSERT_FORMAT("9223372036854774784.0", "%.1f", 9223372036854774784.0);
    ASSERT_FORMAT("922337203685e7", "%f", 0x1p63);
    ASSERT_FORMAT("0.000000001 0.123456789", "%.9f %.20f", 1e-9, 0.123456789); /* no more than nine */
    char text[64];
    gm_text_format(text, sizeof text, "%f", DBL_MAX);
    assert_string_equal(text, "179769313486e297");
}

/* Correctly rounded means the same text as the C library's, wherever it is exact (glibc is). */
static void test_floats_as_printf(void **state)
{
    (void)state;
    uint64_t bits = 99;
    for (uint32_t i = 0; i < 60000; i++) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        uint64_t exponent = 1023 - 45 + (bits >> 40) % 100; /* 2^-45 … 2^54 */
        uint64_t b = (bits & 0x800fffffffffffffu) | exponent << 52;
        double value;
        memcpy(&value, &b, sizeof value);
        int n = (int)(i % 10);
        char ours[64], theirs[64];
        gm_text_format(ours, sizeof ours, "%.*f", n, value);
        snprintf(theirs, sizeof theirs, "%.*f", n, value);
        assert_string_equal(ours, theirs);
    }
}

static void test_cut(void **state)
{
    (void)state;
    char text[16];
    memset(text, 'x', sizeof text);
    assert_int_equal(gm_text_format(text, 0, "abc"), 0);
    assert_int_equal(text[0], 'x');
    assert_int_equal(gm_text_format(text, 1, "abc"), 0);
    assert_int_equal(text[0], 0);
    assert_int_equal(gm_text_format(text, 4, "abc"), 3);
    assert_string_equal(text, "abc");
    assert_int_equal(gm_text_format(text, 4, "%s%d", "ab", 123), 3);
    assert_string_equal(text, "ab1");
    assert_int_equal(text[4], 'x');
    assert_int_equal(gm_text_format(text, 5, "ab%s!", "€€"), 2); /* three bytes, two fit; nothing follows */
    assert_string_equal(text, "ab");
    assert_int_equal(gm_text_format(text, 6, "ab%s!", "€"), 5);
    assert_string_equal(text, "ab€");
}

static void test_bytes(void **state)
{
    (void)state;
    static const struct {
        uint64_t n_bytes;
        const char *text;
    } cases[] = {
        { 0, "0 B" },
        { 512, "512 B" },
        { 1023, "1023 B" },
        { 1024, "1.00 KiB" },
        { 12595, "12.3 KiB" },
        { 3532624568, "3.29 GiB" },
        { 345u << 20, "345 MiB" },
        { (1u << 20) - 1, "1.00 MiB" },
        { (1000u << 20), "1000 MiB" },
        { 10235, "10.0 KiB" },
        { UINT64_MAX, "16.0 EiB" },
    };
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        char text[24];
        assert_ptr_equal(gm_text_bytes(text, cases[i].n_bytes), text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_utf8_table(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t valid; /* bytes before the first that is not */
    } cases[] = {
        { "", 0 },
        { "plain", 5 },
        { "\x7f\xc2\x80\xdf\xbf", 5 },
        { "\xe0\xa0\x80\xef\xbf\xbf", 6 },
        { "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8 },
        { "\xed\x9f\xbf\xee\x80\x80", 6 },
        { "a\x80", 1 }, /* a continuation alone */
        { "a\xbf", 1 },
        { "\xc0\x80", 0 }, /* longer than needed */
        { "\xc1\xbf", 0 },
        { "\xe0\x9f\xbf", 0 },
        { "\xf0\x8f\xbf\xbf", 0 },
        { "\xed\xa0\x80", 0 }, /* surrogates */
        { "\xed\xbf\xbf", 0 },
        { "\xf4\x90\x80\x80", 0 }, /* above U+10FFFF */
        { "\xf5\x80\x80\x80", 0 },
        { "\xff", 0 },
        { "\xfe", 0 },
        { "ab\xc2", 2 }, /* unfinished */
        { "ab\xe2\x82", 2 },
        { "ab\xf0\x9f\x98", 2 },
        { "\xe2\x28\xa1", 0 }, /* a letter where a continuation should be */
        { "\xe2\x82\x28", 0 },
        { "\xf0\x9f\x98\x28", 0 },
    };
    for (size_t i = 0; i < GM_COUNT(cases); i++)
        assert_int_equal(gm_utf8_check(cases[i].text, strlen(cases[i].text)), cases[i].valid);
    assert_int_equal(gm_utf8_check("a\0b", 3), 3);
}

/* Every code point there and back, by its own encoder. */
static void test_utf8_all(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        uint8_t b[4];
        size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        static const uint8_t leads[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
        for (size_t i = 0; i < n; i++) {
            uint32_t part = code >> 6 * (n - 1 - i);
            b[i] = (uint8_t)(i == 0 ? part | leads[n] : (part & 0x3f) | 0x80);
        }
        bool surrogate = code >= 0xd800 && code < 0xe000;
        uint32_t got = UINT32_MAX;
        assert_int_equal(gm_utf8_next((char *)b, n, &got), surrogate ? 0 : n);
        assert_int_equal(got, surrogate ? UINT32_MAX : code);
        if (n == 1 || surrogate) continue;
        assert_int_equal(gm_utf8_next((char *)b, n - 1, NULL), 0);
        for (size_t part = 1; part <= n; part++) assert_int_equal(gm_utf8_whole((char *)b, part), part == n ? n : 0);
    }
}

static void test_utf8_whole(void **state)
{
    (void)state;
    assert_int_equal(gm_utf8_whole("", 0), 0);
    assert_int_equal(gm_utf8_whole("abc", 3), 3);
    assert_int_equal(gm_utf8_whole("ab\xc3", 3), 2);
    assert_int_equal(gm_utf8_whole("a\xf0\x9f\x98", 4), 1);
    assert_int_equal(gm_utf8_whole("a\xff", 2), 2); /* cannot become a character */
    assert_int_equal(gm_utf8_whole("a\xc0", 2), 2);
    assert_int_equal(gm_utf8_whole("a\xe0\x80", 3), 3);
    assert_int_equal(gm_utf8_whole("a\xed\xa0", 3), 3);
    assert_int_equal(gm_utf8_whole("\x80\x80\x80\x80", 4), 4);
    assert_int_equal(gm_utf8_whole("\xc3\xa9\xa9", 3), 3); /* one continuation too many */
    assert_int_equal(gm_utf8_whole("\x80", 1), 1);
}

static void test_contains(void **state)
{
    (void)state;
    assert_true(gm_text_contains("NVIDIA GeForce RTX", "geforce"));
    assert_true(gm_text_contains("aab", "AB"));
    assert_true(gm_text_contains("x", ""));
    assert_true(gm_text_contains("", ""));
    assert_false(gm_text_contains("", "a"));
    assert_false(gm_text_contains("abc", "abcd"));
    assert_false(gm_text_contains("[", "{")); /* not letters: no case */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),         cmocka_unit_test(test_strings),  cmocka_unit_test(test_floats),
        cmocka_unit_test(test_floats_as_printf), cmocka_unit_test(test_cut),      cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_utf8_table),       cmocka_unit_test(test_utf8_all), cmocka_unit_test(test_utf8_whole),
        cmocka_unit_test(test_contains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
