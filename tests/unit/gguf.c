#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "unit/gguf_fixture.h"

static void assert_says(const char *part)
{
    if (!strstr(error.message, part)) fail_msg("'%s' is not in: %s", part, error.message);
}

static void assert_refused(int rc, gm_gguf *const *g, int code, const char *part)
{
    assert_null(*g);
    if (rc != code) fail_msg("%d instead of %d: %s", rc, code, error.message);
    assert_int_equal(error.code, code);
    assert_says(part);
}

static const float ramp[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };

/* One key of every type and shape, four tensors. */
static gguf_writer *sample(uint32_t version, uint32_t alignment)
{
    gguf_writer *w = gguf_writer_create();
    gguf_set_version(w, version);
    gguf_put_string(w, "general.architecture", "gemma3");
    gguf_set_alignment(w, alignment);
    gguf_put_value(w, "u8", GM_GGUF_U8, &(uint8_t){ 200 }, 1);
    gguf_put_value(w, "i8", GM_GGUF_I8, &(int8_t){ -5 }, 1);
    gguf_put_u16(w, "u16", 60000);
    gguf_put_value(w, "i16", GM_GGUF_I16, &(int16_t){ -30000 }, 2);
    gguf_put_u32(w, "u32", 4000000000u);
    gguf_put_i32(w, "i32", 123456);
    gguf_put_i32(w, "i32.negative", -123456);
    gguf_put_u64(w, "u64", 7);
    gguf_put_u64(w, "u64.large", UINT64_MAX);
    gguf_put_value(w, "i64", GM_GGUF_I64, &(int64_t){ 1ll << 40 }, 8);
    gguf_put_f32(w, "f32", 0.75f);
    gguf_put_f32(w, "f32.small", 1e-6f);
    gguf_put_value(w, "f64", GM_GGUF_F64, &(double){ -2.5 }, 8);
    gguf_put_value(w, "f64.large", GM_GGUF_F64, &(double){ 1e300 }, 8);
    gguf_put_bool(w, "true", true);
    gguf_put_bool(w, "false", false);
    gguf_put_string(w, "empty", "");
    gguf_put_string_n(w, "bytes", "a\xffz\0!\xe2\x82\xac", 8);
    gguf_put_strings(w, "names", (const char *const[]){ "a", "", "bcd" }, 3);
    gguf_put_strings(w, "no.names", NULL, 0);
    gguf_put_array(w, "i8s", GM_GGUF_I8, (int8_t[]){ -1, 2 }, 2);
    gguf_put_array(w, "u16s", GM_GGUF_U16, (uint16_t[]){ 65535 }, 1);
    gguf_put_array(w, "i32s", GM_GGUF_I32, (int32_t[]){ -7, 8, 9 }, 3);
    gguf_put_array(w, "u64s", GM_GGUF_U64, (uint64_t[]){ 5, UINT64_MAX }, 2);
    gguf_put_array(w, "f32s", GM_GGUF_F32, ramp, 12);
    gguf_put_array(w, "bools", GM_GGUF_BOOL, (uint8_t[]){ 1, 0 }, 2);
    uint8_t block[144] = { 1, 2, 3, [143] = 9 };
    gguf_put_tensor(w, "ramp", GM_F32, 2, (uint64_t[]){ 4, 3 }, ramp, sizeof ramp);
    gguf_put_tensor(w, "half", GM_F16, 1, (uint64_t[]){ 1 }, "\x00\x3c", 2);
    gguf_put_tensor(w, "blocks", GM_Q4_K, 4, (uint64_t[]){ 256, 1, 1, 1 }, block, sizeof block);
    gguf_put_tensor(w, "a name of sixty-four bytes, which is the longest there may be...", GM_Q8_0, 3,
                    (uint64_t[]){ 32, 2, 3 }, NULL, 34 * 6);
    return w;
}

static gm_gguf *open_sample(gguf_writer *w)
{
    size_t n;
    const uint8_t *bytes = gguf_writer_finish(w, &n);
    gm_gguf *g;
    if (open_bytes(bytes, n, &g)) fail_msg("%s", error.message);
    return g;
}

/* ---- values ---- */

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        bool fits;
        uint32_t value;
    } cases[] = { { "u8", true, 200 },          { "i8", false, 0 },           { "u16", true, 60000 },
                  { "i16", false, 0 },          { "u32", true, 4000000000u }, { "i32", true, 123456 },
                  { "i32.negative", false, 0 }, { "u64", true, 7 },           { "u64.large", false, 0 },
                  { "i64", false, 0 },          { "f32", false, 0 },          { "true", false, 0 },
                  { "empty", false, 0 },        { "i32s", false, 0 },         { "absent", false, 0 },
                  { "general", false, 0 } };
    gguf_writer *w = sample(3, 32);
    gm_gguf *g = open_sample(w);
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        uint32_t value = 77;
        if (gm_gguf_u32(g, cases[i].key, &value) != cases[i].fits) fail_msg("%s", cases[i].key);
        assert_int_equal(value, cases[i].fits ? cases[i].value : 77);
    }
    assert_int_equal(gm_gguf_n_keys(g), 27);
    gm_gguf_close(g);
    gguf_writer_destroy(w);
}

static void test_other_values(void **state)
{
    (void)state;
    gguf_writer *w = sample(3, 32);
    gm_gguf *g = open_sample(w);
    float f = 1;
    bool b = false;
    gm_str s = { NULL, 9 };
    assert_true(gm_gguf_f32(g, "f32", &f) && f == 0.75f);
    assert_true(gm_gguf_f32(g, "f64", &f) && f == -2.5f);
    assert_false(gm_gguf_f32(g, "f64.large", &f) || gm_gguf_f32(g, "u32", &f) || gm_gguf_f32(g, "absent", &f));
    assert_true(f == -2.5f);
    assert_true(gm_gguf_bool(g, "true", &b) && b);
    assert_true(gm_gguf_bool(g, "false", &b) && !b);
    assert_false(gm_gguf_bool(g, "u8", &b));
    assert_true(gm_gguf_string(g, "general.architecture", &s) && s.n == 6 && memcmp(s.data, "gemma3", 6) == 0);
    assert_true(gm_gguf_string(g, "empty", &s) && s.n == 0);
    assert_false(gm_gguf_string(g, "names", &s) || gm_gguf_string(g, "u8", &s));
    assert_true(gm_gguf_has(g, "names") && gm_gguf_has(g, "i64"));
    assert_false(gm_gguf_has(g, "name") || gm_gguf_has(g, "names ") || gm_gguf_has(g, ""));
    gm_gguf_close(g);
    gguf_writer_destroy(w);
}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        const char *key, *text;
    } cases[] = { { "u8", "200" },
                  { "i8", "-5" },
                  { "i16", "-30000" },
                  { "u64.large", "18446744073709551615" },
                  { "i64", "1099511627776" },
                  { "f32", "0.75" },
                  { "f32.small", "0.000001" },
                  { "f64", "-2.5" },
                  { "true", "true" },
                  { "false", "false" },
                  { "general.architecture", "gemma3" },
                  { "empty", "" },
                  { "names", "[3]" },
                  { "f32s", "[12]" } };
    gguf_writer *w = sample(3, 32);
    gm_gguf *g = open_sample(w);
    char text[64];
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        assert_int_equal(gm_gguf_text(g, cases[i].key, text, sizeof text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
    }
    assert_int_equal(gm_gguf_text(g, "absent", text, sizeof text), -1);
    assert_int_equal(gm_gguf_text(g, "general.architecture", NULL, 0), 6);
    assert_int_equal(gm_gguf_text(g, "general.architecture", text, 4), 6);
    assert_string_equal(text, "gem");
    assert_int_equal(gm_gguf_text(g, "bytes", text, sizeof text), 8);
    assert_memory_equal(text, "a?z\0!\xe2\x82\xac", 9);
    assert_int_equal(gm_gguf_text(g, "bytes", text, 8), 8); /* no room for the whole of the last character */
    assert_memory_equal(text, "a?z\0!", 6);
    gm_gguf_close(g);
    gguf_writer_destroy(w);
}

static void test_arrays(void **state)
{
    (void)state;
    gguf_writer *w = sample(3, 32);
    gm_gguf *g = open_sample(w);
    uint32_t type;
    uint64_t n;
    int64_t value;
    gm_strings walk;
    gm_str s = { 0 };
    assert_true(gm_gguf_strings(g, "names", &walk) && gm_gguf_array(g, "names", &type, &n) && type == GM_GGUF_STRING &&
                n == 3);
    static const char *const names[] = { "a", "", "bcd" };
    for (int i = 0; i < 3; i++) {
        assert_true(gm_strings_next(&walk, &s));
        assert_true(s.n == strlen(names[i]) && memcmp(s.data, names[i], s.n) == 0);
    }
    assert_false(gm_strings_next(&walk, &s));
    assert_true(gm_gguf_strings(g, "no.names", &walk));
    assert_false(gm_strings_next(&walk, &s) || gm_gguf_strings(g, "i32s", &walk) || gm_gguf_strings(g, "u8", &walk));
    assert_false(gm_gguf_array(g, "u8", &type, &n) || gm_gguf_array(g, "absent", &type, &n));
    assert_null(gm_gguf_array_data(g, "names"));
    assert_null(gm_gguf_array_data(g, "u8"));
    assert_memory_equal(gm_gguf_array_data(g, "f32s"), ramp, sizeof ramp);

    assert_true(gm_gguf_array_int(g, "i8s", 0, &value) && value == -1);
    assert_true(gm_gguf_array_int(g, "u16s", 0, &value) && value == 65535);
    assert_true(gm_gguf_array_int(g, "i32s", 0, &value) && value == -7);
    assert_true(gm_gguf_array_int(g, "i32s", 2, &value) && value == 9);
    assert_true(gm_gguf_array_int(g, "bools", 0, &value) && value == 1);
    assert_true(gm_gguf_array_int(g, "u64s", 0, &value) && value == 5);
    assert_false(gm_gguf_array_int(g, "u64s", 1, &value)); /* no int64 */
    assert_false(gm_gguf_array_int(g, "f32s", 0, &value) || gm_gguf_array_int(g, "names", 0, &value));
    assert_false(gm_gguf_array_int(g, "i32s", 3, &value));
    gm_gguf_close(g);
    gguf_writer_destroy(w);
}

/* ---- tensors, versions, alignments, ways of opening ---- */

static void assert_sample_tensors(const gm_gguf *g, uint32_t alignment)
{
    assert_int_equal(gm_gguf_n_tensors(g), 4);
    assert_int_equal(gm_gguf_n_parts(g), 1);
    const gm_tensor *t = gm_gguf_find(g, "ramp");
    assert_ptr_equal(t, gm_gguf_tensor(g, 0));
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->ne[0], 4);
    assert_int_equal(t->ne[1], 3);
    assert_int_equal(t->ne[2] * t->ne[3], 1);
    assert_int_equal(t->format->type, GM_F32);
    assert_int_equal(t->n_bytes, sizeof ramp);
    float values[12];
    assert_int_equal(gm_gguf_read(g, t, 0, values, sizeof values, &error), GEMMA_OK);
    assert_memory_equal(values, ramp, sizeof ramp);
    assert_int_equal(gm_gguf_read(g, t, 8, values, 4, &error), GEMMA_OK);
    assert_true(values[0] == 2);

    t = gm_gguf_find(g, "blocks");
    uint8_t block[144];
    assert_int_equal(t->n_bytes, sizeof block);
    assert_int_equal(gm_gguf_read(g, t, 0, block, sizeof block, &error), GEMMA_OK);
    assert_true(block[0] == 1 && block[2] == 3 && block[143] == 9);
    const uint8_t *mapped = gm_gguf_mapped(g, t);
    if (mapped) assert_memory_equal(mapped, block, sizeof block);

    t = gm_gguf_tensor(g, 3);
    assert_int_equal(strlen(t->name), 64);
    assert_ptr_equal(gm_gguf_find(g, t->name), t);
    assert_int_equal(t->n_bytes, 34 * 6);
    assert_null(gm_gguf_find(g, "ram"));
    assert_null(gm_gguf_tensor(g, 4));
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(gm_gguf_tensor(g, i)->offset % alignment, 0);
}

static void test_versions_and_alignments(void **state)
{
    (void)state;
    static const uint32_t alignments[] = { 8, 16, 32, 64, 4096, 65536 };
    for (uint32_t version = 2; version <= 3; version++) {
        for (size_t i = 0; i < GM_COUNT(alignments); i++) {
            gguf_writer *w = sample(version, alignments[i]);
            gm_gguf *g = open_sample(w);
            assert_sample_tensors(g, alignments[i]);
            assert_non_null(gm_gguf_mapped(g, gm_gguf_tensor(g, 0)));
            gm_gguf_close(g);
            gguf_writer_destroy(w);
        }
    }
}

static char folder[] = "/tmp/gguf-test-XXXXXX";

static const char *in_folder(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int64_t read_file(void *user, const char *path, uint64_t offset, void *dst, uint64_t n)
{
    (void)user;
    FILE *file = fopen(path, "rb");
    if (!file) return -1;
    int64_t got = -1;
    if (!dst && fseek(file, 0, SEEK_END) == 0) got = ftell(file);
    if (dst && fseek(file, (long)offset, SEEK_SET) == 0) got = (int64_t)fread(dst, 1, n, file);
    fclose(file);
    return got;
}

static void test_ways_of_opening(void **state)
{
    (void)state;
    gguf_writer *w = sample(3, 32);
    const char *path = in_folder("sample.gguf");
    assert_true(gguf_writer_save(w, path));
    gm_gguf *read, *mapped, *by_host;
    assert_int_equal(open_path(path, false, &read), GEMMA_OK);
    assert_int_equal(open_path(path, true, &mapped), GEMMA_OK);
    gemma_host reading = host;
    reading.read = read_file;
    gm_mem host_mem;
    gm_mem_init(&host_mem, &reading);
    assert_int_equal(gm_gguf_open(&host_mem, &(gm_gguf_input){ .path = path }, &by_host, &error), GEMMA_OK);

    size_t n;
    gguf_writer_finish(w, &n);
    gm_gguf *const all[] = { read, mapped, by_host };
    for (size_t i = 0; i < 3; i++) {
        assert_sample_tensors(all[i], 32);
        assert_int_equal(gm_gguf_n_keys(all[i]), 27);
        assert_int_equal(gm_gguf_file_bytes(all[i]), n);
        assert_string_equal(gm_gguf_name(all[i]), path);
        assert_true((gm_gguf_mapped(all[i], gm_gguf_tensor(all[i], 0)) != NULL) == (i == 1));
        assert_memory_equal(gm_gguf_array_data(all[i], "f32s"), ramp, sizeof ramp);
        gm_gguf_close(all[i]);
    }
    gguf_writer_destroy(w);

    gm_gguf *g;
    assert_refused(open_path(in_folder("absent.gguf"), false, &g), &g, GEMMA_E_IO, "absent.gguf");
    assert_refused(open_bytes(NULL, 0, &g), &g, GEMMA_E_ARG, "neither");
    gm_gguf_close(NULL);
}

/* ---- a long header: pieces, progress, cancelling, a read that fails ---- */

typedef struct progress {
    uint64_t last_done, total, n_calls, cancel_at_call;
    bool backwards;
} progress;

static int on_progress(void *user, uint64_t done, uint64_t total)
{
    progress *p = user;
    p->backwards |= done < p->last_done;
    p->last_done = done;
    p->total = total;
    return ++p->n_calls == p->cancel_at_call;
}

static int64_t read_half(void *user, const char *path, uint64_t offset, void *dst, uint64_t n)
{
    return dst && offset + n > 2500000 ? -5 : read_file(user, path, offset, dst, n);
}

/* About 5 MB of keys: 200,000 strings and a string that spans pieces. */
static gguf_writer *long_header(void)
{
    enum { N = 200000, LONG = 2500000 };
    gguf_writer *w = gguf_writer_create();
    gm_str *texts = calloc(N, sizeof *texts);
    char *text = calloc(1, LONG);
    assert_true(texts && text);
    memset(text, 'x', LONG);
    for (size_t i = 0; i < N; i++) texts[i] = (gm_str){ text, i % 11 };
    gguf_put_strings_n(w, "tokens", texts, N);
    gguf_put_string_n(w, "long", text, LONG);
    gguf_put_tensor(w, "t", GM_F32, 1, (uint64_t[]){ 12 }, ramp, sizeof ramp);
    free(texts);
    free(text);
    return w;
}

static void test_long_header(void **state)
{
    (void)state;
    gguf_writer *w = long_header();
    const char *path = in_folder("long.gguf");
    assert_true(gguf_writer_save(w, path));
    size_t n;
    const uint8_t *bytes = gguf_writer_finish(w, &n);
    for (int way = 0; way < 3; way++) {
        progress p = { 0 };
        gm_gguf_input input = { .path = way == 2 ? NULL : path,
                                .map = way == 1,
                                .bytes = bytes,
                                .n_bytes = n,
                                .progress = on_progress,
                                .progress_user = &p };
        gm_gguf *g;
        assert_int_equal(gm_gguf_open(&mem, &input, &g, &error), GEMMA_OK);
        gm_str s;
        gm_strings walk;
        uint64_t n_seen = 0;
        assert_true(gm_gguf_strings(g, "tokens", &walk));
        for (; gm_strings_next(&walk, &s); n_seen++) assert_int_equal(s.n, n_seen % 11);
        assert_int_equal(n_seen, 200000);
        assert_true(gm_gguf_string(g, "long", &s) && s.n == 2500000 && s.data[s.n - 1] == 'x');
        assert_true(p.n_calls >= 5 && !p.backwards);
        assert_true(p.total == n && p.last_done < n && p.last_done + 256 > n);
        gm_gguf_close(g);

        uint64_t n_calls = p.n_calls;
        for (uint64_t call = 1; call <= n_calls; call++) {
            p = (progress){ .cancel_at_call = call };
            int rc = gm_gguf_open(&mem, &input, &g, &error);
            assert_refused(rc, &g, GEMMA_E_CANCELLED, "cancelled");
        }
    }
    gemma_host reading = host;
    reading.read = read_half;
    gm_mem host_mem;
    gm_mem_init(&host_mem, &reading);
    gm_gguf *g;
    int rc = gm_gguf_open(&host_mem, &(gm_gguf_input){ .path = path }, &g, &error);
    assert_refused(rc, &g, GEMMA_E_IO, "long.gguf");
    gguf_writer_destroy(w);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    remove(in_folder("sample.gguf"));
    remove(in_folder("long.gguf"));
    return rmdir(folder);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_integers),
        TEST(test_other_values),
        TEST(test_text),
        TEST(test_arrays),
        TEST(test_versions_and_alignments),
        TEST(test_ways_of_opening),
        TEST(test_long_header),
    };
    return cmocka_run_group_tests_name("gguf", tests, make_folder, remove_folder);
}
