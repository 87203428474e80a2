/* Errors and structs across the ABI: callers older and newer than the library. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(gm_error_name(GEMMA_OK), "GEMMA_OK");
    assert_string_equal(gm_error_name(GEMMA_E_NOMEM), "GEMMA_E_NOMEM");
    assert_string_equal(gm_error_name(-22), "GEMMA_E_INTERNAL");
    assert_string_equal(gm_error_name(-1000), "GEMMA_E_UNKNOWN");
    assert_string_equal(gm_error_name(1), "GEMMA_E_UNKNOWN");
    assert_string_equal(gm_error_text(GEMMA_E_ARG), "invalid argument");
    for (int code = 0; code >= -30; code--) assert_true(strlen(gm_error_text(code)) > 5);
}

static void test_fail(void **state)
{
    (void)state;
    gemma_error error;
    gm_error_init(&error);
    assert_int_equal(gm_fail(&error, GEMMA_E_FORMAT, "%s: %u of %d", "blk.3", 7u, -2), GEMMA_E_FORMAT);
    assert_int_equal(error.code, GEMMA_E_FORMAT);
    assert_string_equal(error.message, "blk.3: 7 of -2");
    assert_int_equal(gm_fail(&error, GEMMA_E_IO, "inner: %s", error.message), GEMMA_E_IO); /* into itself */
    assert_string_equal(error.message, "inner: blk.3: 7 of -2");
    assert_int_equal(gm_fail(NULL, GEMMA_E_IO, "x"), GEMMA_E_IO);
    assert_int_equal(gm_fail_nomem(&error, "the vocabulary", 12595), GEMMA_E_NOMEM);
    assert_string_equal(error.message, "out of host memory: 12.3 KiB for the vocabulary");
    gm_error_clear(&error);
    assert_int_equal(error.code, 0);
    assert_string_equal(error.message, "");
    assert_int_equal(error.size, sizeof error);
    gm_error_clear(NULL);
}

/* A caller's struct of any size: nothing is written behind it, and what is there is a whole string. */
static void test_fail_short(void **state)
{
    (void)state;
    for (uint32_t size = 0; size <= 40; size++) {
        union {
            gemma_error error;
            uint8_t bytes[sizeof(gemma_error)];
        } u;
        memset(u.bytes, 0x77, sizeof u.bytes);
        u.error.size = size;
        assert_int_equal(gm_fail(&u.error, GEMMA_E_IO, "a sentence of some length"), GEMMA_E_IO);
        for (size_t i = gm_max_u32(size, 4); i < sizeof u.bytes; i++) assert_int_equal(u.bytes[i], 0x77);
        if (size >= 8) assert_int_equal(u.error.code, GEMMA_E_IO);
        if (size > 8) {
            assert_non_null(memchr(u.error.message, 0, size - 8));
            assert_int_equal(strlen(u.error.message), gm_min_u32(size - 9, 25));
        }
        gm_error_clear(&u.error);
        for (size_t i = gm_max_u32(size, 4); i < sizeof u.bytes; i++) assert_int_equal(u.bytes[i], 0x77);
    }
}

static void test_fail_long(void **state)
{
    (void)state;
    char text[2000];
    for (size_t i = 0; i + 2 < sizeof text; i += 2) memcpy(text + i, "é", 2);
    text[sizeof text - 2] = 0;
    gemma_error error;
    gm_error_init(&error);
    error.size = 100000; /* of a newer library: what we know is all we write */
    gm_fail(&error, GEMMA_E_IO, "%s", text);
    assert_int_equal(strlen(error.message), 502);
    assert_int_equal(gm_utf8_check(error.message, 502), 502);
}

static void test_message_copy(void **state)
{
    (void)state;
    gemma_error kept;
    char buffer[8];
    gm_error_init(&kept);
    assert_int_equal(gm_message_copy(&kept, buffer, sizeof buffer), 0);
    assert_string_equal(buffer, "");
    gm_fail(&kept, GEMMA_E_FULL, "100%% sure");
    assert_int_equal(gm_message_copy(&kept, buffer, sizeof buffer), 7);
    assert_string_equal(buffer, "100% su");
    assert_int_equal(gm_message_copy(&kept, NULL, 0), 0);
}

typedef struct options {
    uint32_t size, a;
    uint64_t b;
    const void *p;
} options;

static void test_options(void **state)
{
    (void)state;
    options known;
    gemma_error error;
    gm_error_init(&error);
    memset(&known, 0x77, sizeof known);
    assert_int_equal(gm_options_read(&known, sizeof known, NULL, "options", &error), GEMMA_OK);
    assert_true(known.size == sizeof known && known.a == 0 && known.b == 0 && known.p == NULL);

    options full = { sizeof full, 1, 2, &known };
    assert_int_equal(gm_options_read(&known, sizeof known, &full, "options", &error), GEMMA_OK);
    assert_true(known.size == sizeof known && known.a == 1 && known.b == 2 && known.p == &known);

    options *old = &full; /* knew only size and a; the rest is not its memory */
    old->size = 8;
    assert_int_equal(gm_options_read(&known, sizeof known, old, "options", &error), GEMMA_OK);
    assert_true(known.size == sizeof known && known.a == 1 && known.b == 0 && known.p == NULL);

    struct newer {
        options o;
        uint32_t c, d;
    } newer = { { sizeof newer, 1, 2, NULL }, 0, 0 };
    assert_int_equal(gm_options_read(&known, sizeof known, &newer, "options", &error), GEMMA_OK);
    assert_true(known.size == sizeof known && known.b == 2);
    newer.d = 1;
    memset(&known, 0, sizeof known);
    assert_int_equal(gm_options_read(&known, sizeof known, &newer, "plan options", &error), GEMMA_E_VERSION);
    assert_non_null(strstr(error.message, "plan options"));
    assert_int_equal(known.b, 0);
}

static void test_options_refused(void **state)
{
    (void)state;
    static const uint32_t sizes[] = { 0, 4, 7, 4097, UINT32_MAX };
    for (size_t i = 0; i < GM_COUNT(sizes); i++) {
        options given = { sizes[i], 1, 2, NULL }, known;
        gemma_error error;
        gm_error_init(&error);
        assert_int_equal(gm_options_read(&known, sizeof known, &given, "options", &error), GEMMA_E_ARG);
        assert_int_equal(error.code, GEMMA_E_ARG);
        assert_int_equal(gm_options_read(&known, sizeof known, &given, "options", NULL), GEMMA_E_ARG);
    }
}

static void test_results(void **state)
{
    (void)state;
    const options src = { sizeof src, 1, 2, &src };
    options dst;
    assert_int_equal(gm_result_write(NULL, &src, sizeof src), GEMMA_E_ARG);
    for (uint32_t size = 0; size < 8; size++) {
        dst.size = size;
        assert_int_equal(gm_result_write(&dst, &src, sizeof src), GEMMA_E_ARG);
    }
    memset(&dst, 0x77, sizeof dst);
    dst.size = 8;
    assert_int_equal(gm_result_write(&dst, &src, sizeof src), GEMMA_OK);
    assert_true(dst.size == 8 && dst.a == 1 && dst.b == 0x7777777777777777u);
    struct newer {
        options o;
        uint64_t c;
    } newer = { { .size = sizeof newer }, 5 };
    assert_int_equal(gm_result_write(&newer, &src, sizeof src), GEMMA_OK);
    assert_true(newer.o.size == sizeof newer && newer.o.b == 2 && newer.o.p == &src && newer.c == 5);
}

static struct {
    uint32_t n, level;
    char line[2000];
} heard;

static void hear(void *user, uint32_t level, const char *line)
{
    assert_ptr_equal(user, &heard);
    heard.n++;
    heard.level = level;
    gm_text_format(heard.line, sizeof heard.line, "%s", line);
}

static void test_log(void **state)
{
    (void)state;
    gemma_host host = { .size = sizeof host, .log_level = GEMMA_LOG_WARN, .user = &heard, .log = hear };
    gm_mem mem;
    gm_mem_init(&mem, &host);
    gm_log(&mem, GEMMA_LOG_INFO, "not this");
    gm_log(&mem, GEMMA_LOG_NONE, "nor this");
    assert_int_equal(heard.n, 0);
    gm_log(&mem, GEMMA_LOG_WARN, "heap %d is %s short", 0, "12 MiB");
    assert_int_equal(heard.n, 1);
    assert_int_equal(heard.level, GEMMA_LOG_WARN);
    assert_string_equal(heard.line, "heap 0 is 12 MiB short");
    gm_mem_init(&mem, NULL);
    gm_log(&mem, GEMMA_LOG_ERROR, "into the void");
    assert_int_equal(heard.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),           cmocka_unit_test(test_fail),         cmocka_unit_test(test_fail_short),
        cmocka_unit_test(test_fail_long),       cmocka_unit_test(test_message_copy), cmocka_unit_test(test_options),
        cmocka_unit_test(test_options_refused), cmocka_unit_test(test_results),      cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
