/* Files that are cut, corrupted, incomplete, and memory that runs out. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "unit/gguf_fixture.h"

static void assert_refused(int rc, gm_gguf *const *g, int code, const char *part)
{
    assert_null(*g);
    if (rc != code) fail_msg("%d instead of %d: %s", rc, code, error.message);
    assert_int_equal(error.code, code);
    if (!strstr(error.message, part)) fail_msg("'%s' is not in: %s", part, error.message);
    assert_int_equal(fault_live_blocks(), 0);
}

/* A small file with everything that the corruptions below aim at. */
static gguf_writer *target(void)
{
    gguf_writer *w = gguf_writer_create();
    gguf_put_string(w, "architecture", "gemma3");
    gguf_put_u32(w, "general.alignment", 32);
    gguf_put_bool(w, "truth", true);
    gguf_put_array(w, "numbers", GM_GGUF_U32, (uint32_t[]){ 1, 2, 3 }, 3);
    gguf_put_array(w, "bools", GM_GGUF_BOOL, (uint8_t[]){ 1, 0, 1 }, 3);
    gguf_put_strings(w, "names", (const char *const[]){ "a", "bc" }, 2);
    gguf_put_u64(w, "key.1", 1);
    gguf_put_u64(w, "key.2", 2);
    gguf_put_tensor(w, "weight.1", GM_F32, 2, (uint64_t[]){ 4, 3 }, NULL, 48);
    gguf_put_tensor(w, "weight.2", GM_Q8_0, 2, (uint64_t[]){ 32, 2 }, NULL, 68);
    return w;
}

static void test_every_length(void **state)
{
    (void)state;
    gguf_writer *w = target();
    size_t n;
    const uint8_t *bytes = gguf_writer_finish(w, &n);
    gm_gguf *g;
    for (size_t cut = 0; cut < n; cut++) {
        void *copy = malloc(cut + !cut); /* of exactly this size: a sanitizer sees what is read behind it */
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        char ends_at[48];
        snprintf(ends_at, sizeof ends_at, "the file ends at byte %zu", cut);
        assert_refused(open_bytes(copy, cut, &g), &g, GEMMA_E_FORMAT, cut ? ends_at : "the file is empty");
        free(copy);
    }
    assert_int_equal(open_bytes(bytes, n, &g), GEMMA_OK);
    gm_gguf_close(g);
    gguf_writer_destroy(w);
}

static void test_vocabulary_only(void **state)
{
    (void)state;
    gguf_writer *w = gguf_writer_create();
    gm_gguf *g;
    for (int n_keys = 0; n_keys < 2; n_keys++) {
        size_t n;
        const uint8_t *bytes = gguf_writer_finish(w, &n);
        assert_int_equal(open_bytes(bytes, n, &g), GEMMA_OK);
        assert_int_equal(gm_gguf_n_tensors(g), 0);
        assert_int_equal(gm_gguf_n_keys(g), n_keys);
        assert_false(gm_gguf_has(g, "x") || gm_gguf_find(g, "x"));
        gm_gguf_close(g);
        gguf_put_u32(w, "a", 5);
    }
    gguf_writer_destroy(w);
}

/* `value`, of n bytes, is written `at` bytes behind the text `after` (NULL: from the start of the file). */
static const struct corruption {
    const char *after;
    int at, n;
    uint64_t value;
    int code;
    const char *says;
} corruptions[] = {
    { NULL, 0, 1, 'P', GEMMA_E_FORMAT, "not a GGUF file: it begins with 50 47 55 46 (\"PGUF\")" },
    { NULL, 0, 4, 0x04034b50, GEMMA_E_FORMAT, "50 4b 03 04 (\"PK..\")" },
    { NULL, 4, 4, 0, GEMMA_E_UNSUPPORTED, "version 0" },
    { NULL, 4, 4, 1, GEMMA_E_UNSUPPORTED, "version 1" },
    { NULL, 4, 4, 4, GEMMA_E_UNSUPPORTED, "version 4" },
    { NULL, 4, 4, 0x03000000, GEMMA_E_UNSUPPORTED, "big-endian" },
    { NULL, 8, 8, 65537, GEMMA_E_FORMAT, "65537 tensors are announced; at most 65536" },
    { NULL, 8, 8, UINT64_MAX, GEMMA_E_FORMAT, "tensors are announced" },
    { NULL, 8, 8, 65536, GEMMA_E_FORMAT, "65536 tensors are announced, but the file ends" },
    { NULL, 8, 8, 3, GEMMA_E_FORMAT, "tensor 3 of 3" },
    { NULL, 16, 8, 65537, GEMMA_E_FORMAT, "65537 keys are announced; at most 65536" },
    { NULL, 16, 8, 65536, GEMMA_E_FORMAT, "65536 keys are announced, but the file ends" },
    { NULL, 16, 8, 1ull << 63, GEMMA_E_FORMAT, "keys are announced" },
    { NULL, 24, 8, 0, GEMMA_E_FORMAT, "key 1 of 8 has a name of 0 bytes; 1 to 65535" },
    { NULL, 24, 8, 65536, GEMMA_E_FORMAT, "key 1 of 8 has a name of 65536 bytes" },
    { NULL, 24, 8, UINT64_MAX, GEMMA_E_FORMAT, "key 1 of 8 has a name of" },
    { NULL, 24, 8, 60000, GEMMA_E_FORMAT, "inside key 1 of 8" },
    { "archi", 0, 1, '\n', GEMMA_E_FORMAT, "the name of key 1 of 8 is not plain" },
    { "archi", 0, 1, 0, GEMMA_E_FORMAT, "the name of key 1 of 8 is not plain" },
    { "archi", 0, 1, 0xff, GEMMA_E_FORMAT, "the name of key 1 of 8 is not plain" },
    { "architecture", 4, 8, UINT64_MAX, GEMMA_E_FORMAT, "inside key 'architecture'" },
    { "architecture", 4, 8, 5000, GEMMA_E_FORMAT, "5000 bytes were expected" },
    { "general.alignment", 4, 4, 0, GEMMA_E_FORMAT, "general.alignment" },
    { "general.alignment", 4, 4, 4, GEMMA_E_FORMAT, "general.alignment" },
    { "general.alignment", 4, 4, 48, GEMMA_E_FORMAT, "power of two from 8 to 65536" },
    { "general.alignment", 4, 4, 131072, GEMMA_E_FORMAT, "general.alignment" },
    { "general.alignment", 0, 4, GM_GGUF_F32, GEMMA_E_FORMAT, "general.alignment" },
    { "truth", 0, 4, 13, GEMMA_E_FORMAT, "key 'truth' has the type 13" },
    { "truth", 0, 4, UINT32_MAX, GEMMA_E_FORMAT, "key 'truth' has the type 4294967295" },
    { "truth", 4, 1, 2, GEMMA_E_FORMAT, "key 'truth' holds the bool 2" },
    { "bools", 18, 1, 255, GEMMA_E_FORMAT, "key 'bools' holds the bool 255" },
    { "numbers", 4, 4, GM_GGUF_ARRAY, GEMMA_E_UNSUPPORTED, "key 'numbers' is an array of arrays" },
    { "numbers", 4, 4, 99, GEMMA_E_FORMAT, "key 'numbers' is an array of type 99" },
    { "numbers", 8, 8, 1ull << 62, GEMMA_E_FORMAT, "inside key 'numbers'" },
    { "numbers", 8, 8, 1ull << 30, GEMMA_E_FORMAT, "4294967296 bytes were expected" },
    { "names", 8, 8, 1ull << 61, GEMMA_E_FORMAT, "inside key 'names'" },
    { "names", 8, 8, 1ull << 30, GEMMA_E_FORMAT, "8589934592 bytes were expected" },
    { "names", 16, 8, UINT64_MAX - 7, GEMMA_E_FORMAT, "inside key 'names'" },
    { "key.", 0, 1, '2', GEMMA_E_FORMAT, "key 'key.2' is there twice" },
    { "weight.1", -16, 8, 0, GEMMA_E_FORMAT, "tensor 1 of 2 has a name of 0 bytes; 1 to 64" },
    { "weight.1", -16, 8, 65, GEMMA_E_FORMAT, "tensor 1 of 2 has a name of 65 bytes" },
    { "weight.1", -1, 1, '2', GEMMA_E_FORMAT, "tensor 'weight.2' is there twice" },
    { "weight.1", -1, 1, 0x80, GEMMA_E_FORMAT, "the name of tensor 1 of 2 is not plain" },
    { "weight.1", 0, 4, 0, GEMMA_E_FORMAT, "tensor 'weight.1' has 0 dimensions" },
    { "weight.1", 0, 4, 5, GEMMA_E_FORMAT, "tensor 'weight.1' has 5 dimensions; 1 to 4" },
    { "weight.1", 4, 8, 0, GEMMA_E_FORMAT, "tensor 'weight.1' has the size 0 in dimension 0" },
    { "weight.1", 12, 8, 0, GEMMA_E_FORMAT, "tensor 'weight.1' has the size 0 in dimension 1" },
    { "weight.1", 12, 8, 1ull << 62, GEMMA_E_FORMAT, "tensor 'weight.1' has more elements" },
    { "weight.1", 12, 8, 1ull << 60, GEMMA_E_FORMAT, "tensor 'weight.1' has more bytes" },
    { "weight.1", 12, 8, 1ull << 20, GEMMA_E_FORMAT, "but tensor 'weight.1' has 16777216 bytes" },
    { "weight.1", 20, 4, 4, GEMMA_E_UNSUPPORTED, "tensor 'weight.1' has the type 4," },
    { "weight.1", 20, 4, UINT32_MAX, GEMMA_E_UNSUPPORTED, "tensor 'weight.1' has the type 4294967295," },
    { "weight.2", 4, 8, 48, GEMMA_E_FORMAT, "rows of 48 elements, which is not a multiple of the 32 of a Q8_0 block" },
    { "weight.2", 24, 8, 72, GEMMA_E_FORMAT, "tensor 'weight.2' has the offset 72, which is not a multiple of 32" },
    { "weight.2", 24, 8, 96, GEMMA_E_FORMAT, "but tensor 'weight.2' has 68 bytes at byte" },
    { "weight.2", 24, 8, UINT64_MAX - 31, GEMMA_E_FORMAT, "tensor 'weight.2'" },
    { "weight.2", 24, 8, UINT64_MAX - 1023, GEMMA_E_FORMAT, "tensor 'weight.2'" },
};

static uint8_t *find_text(uint8_t *bytes, size_t n, const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i + length <= n; i++)
        if (memcmp(bytes + i, text, length) == 0) return bytes + i + length;
    fail_msg("'%s' is not in the file", text);
    return NULL;
}

static void test_corruptions(void **state)
{
    (void)state;
    gguf_writer *w = target();
    for (size_t i = 0; i < GM_COUNT(corruptions); i++) {
        const struct corruption *c = &corruptions[i];
        size_t n;
        uint8_t *bytes = (uint8_t *)(uintptr_t)gguf_writer_finish(w, &n); /* whole again */
        memcpy((c->after ? find_text(bytes, n, c->after) : bytes) + c->at, &c->value, (size_t)c->n);
        gm_gguf *g;
        assert_refused(open_bytes(bytes, n, &g), &g, c->code, c->says);
    }
    gguf_writer_destroy(w);
}

/* Any single byte may have any value: never a crash, never a leak. */
static void test_every_byte(void **state)
{
    (void)state;
    gguf_writer *w = target();
    size_t n, n_opened = 0;
    gguf_writer_finish(w, &n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *bytes = (uint8_t *)(uintptr_t)gguf_writer_finish(w, &n);
        static const uint8_t flips[] = { 0x01, 0x08, 0x80, 0xff };
        for (size_t k = 0; k < GM_COUNT(flips); k++) {
            bytes[i] ^= flips[k];
            gm_gguf *g;
            int rc = open_bytes(bytes, n, &g);
            assert_true((rc == GEMMA_OK) == (g != NULL));
            for (uint32_t t = 0; g && t < gm_gguf_n_tensors(g); t++) {
                const gm_tensor *tensor = gm_gguf_tensor(g, t);
                assert_true(tensor->offset <= n && tensor->n_bytes <= n - tensor->offset);
            }
            n_opened += g != NULL;
            gm_gguf_close(g);
            bytes[i] ^= flips[k];
        }
    }
    assert_true(n_opened > n / 8 && n_opened < 4 * n);
    gguf_writer_destroy(w);
}

/* 2 GiB, of which only the first bytes are not zero. */
static int64_t read_huge(void *user, const char *path, uint64_t offset, void *dst, uint64_t n)
{
    (void)path;
    if (!dst) return INT64_C(2) << 30;
    size_t n_head;
    const uint8_t *head = gguf_writer_finish(user, &n_head);
    memset(dst, 0, n);
    if (offset < n_head) memcpy(dst, head + offset, gm_min_u64(n, n_head - offset));
    return (int64_t)n;
}

static void test_header_limit(void **state)
{
    (void)state;
    gguf_writer *w = gguf_writer_create();
    uint64_t n_long = UINT64_C(3) << 29; /* inside the file, but no header is so long */
    gguf_put_value(w, "long", GM_GGUF_STRING, &n_long, sizeof n_long);
    gemma_host reading = host;
    reading.user = w;
    reading.read = read_huge;
    gm_mem host_mem;
    gm_mem_init(&host_mem, &reading);
    gm_gguf *g;
    int rc = gm_gguf_open(&host_mem, &(gm_gguf_input){ .path = "huge.gguf" }, &g, &error);
    assert_refused(rc, &g, GEMMA_E_FORMAT, "the header is larger than 1073741824 bytes, at key 'long'");
    gguf_writer_destroy(w);
}

/* ---- split files ---- */

static char folder[] = "/tmp/gguf-split-XXXXXX";

static const char *part_path(const char *stem, int no, int count)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s-%05d-of-%05d.gguf", folder, stem, no, count);
    return path;
}

typedef struct split {
    uint16_t count;
    uint16_t no_of[3], count_of[3]; /* what each part says */
    int32_t n_tensors;              /* what the first says */
    const char *tensor_of[3];
} split;

static const split good_split = { 3, { 0, 1, 2 }, { 3, 3, 3 }, 4, { "a", "b", "c" } };

static void write_split(const char *stem, const split *s)
{
    for (uint16_t i = 0; i < s->count; i++) {
        gguf_writer *w = gguf_writer_create();
        if (i == 0) gguf_put_string(w, "general.architecture", "gemma3");
        gguf_put_split(w, s->no_of[i], s->count_of[i], s->n_tensors);
        if (i == 1) gguf_set_alignment(w, 64);
        if (i == 1) gguf_put_tensor(w, "extra", GM_F32, 1, (uint64_t[]){ 3 }, "\1\2\3\4\5\6\7\10\11\12\13", 12);
        uint8_t data[8] = { (uint8_t)(10 + i) };
        gguf_put_tensor(w, s->tensor_of[i], GM_I8, 1, (uint64_t[]){ sizeof data }, data, sizeof data);
        assert_true(gguf_writer_save(w, part_path(stem, i + 1, s->count)));
        gguf_writer_destroy(w);
    }
}

static void test_split(void **state)
{
    (void)state;
    write_split("good", &good_split);
    for (int map = 0; map < 2; map++) {
        gm_gguf *g;
        gm_gguf_input input = { .path = part_path("good", 1, 3), .map = map };
        assert_int_equal(gm_gguf_open(&mem, &input, &g, &error), GEMMA_OK);
        assert_int_equal(gm_gguf_n_parts(g), 3);
        assert_int_equal(gm_gguf_n_tensors(g), 4);
        assert_true(gm_gguf_has(g, "general.architecture"));
        assert_string_equal(gm_gguf_name(g), input.path);
        static const char *const names[] = { "a", "b", "c" };
        for (uint32_t i = 0; i < 3; i++) {
            const gm_tensor *t = gm_gguf_find(g, names[i]);
            uint8_t first = 0;
            assert_int_equal(t->part, i);
            assert_int_equal(gm_gguf_read(g, t, 0, &first, 1, &error), GEMMA_OK);
            assert_int_equal(first, 10 + i);
            const uint8_t *mapped = gm_gguf_mapped(g, t);
            assert_true(map ? *mapped == first : !mapped);
        }
        assert_int_equal(gm_gguf_find(g, "extra")->part, 1);
        uint64_t n = 0;
        for (int i = 1; i <= 3; i++) {
            FILE *file = fopen(part_path("good", i, 3), "rb");
            assert_non_null(file);
            fseek(file, 0, SEEK_END);
            n += (uint64_t)ftell(file);
            fclose(file);
        }
        assert_int_equal(gm_gguf_file_bytes(g), n);
        gm_gguf_close(g);
    }
    gm_gguf *g;
    assert_refused(open_path(part_path("good", 2, 3), false, &g), &g, GEMMA_E_ARG, "is part 2 of 3; open the first, ");
    assert_refused(open_path(part_path("good", 2, 3), false, &g), &g, GEMMA_E_ARG, part_path("good", 1, 3));
}

static void test_split_damage(void **state)
{
    (void)state;
    static const struct {
        split split;
        const char *says;
    } cases[] = {
        { { 3, { 0, 2, 1 }, { 3, 3, 3 }, 4, { "a", "b", "c" } }, "part 2 of 3" },
        { { 3, { 0, 1, 2 }, { 3, 3, 2 }, 4, { "a", "b", "c" } }, "part 3 of 3" },
        { { 3, { 0, 1, 2 }, { 2, 3, 3 }, 4, { "a", "b", "c" } }, "the file says part 1 of 2" },
        { { 3, { 1, 1, 2 }, { 3, 3, 3 }, 4, { "a", "b", "c" } }, "the file says part 2 of 3" },
        { { 3, { 0, 1, 2 }, { 1, 3, 3 }, 4, { "a", "b", "c" } }, "the file says part 1 of 1" },
        { { 3, { 0, 1, 2 }, { 3, 3, 3 }, 5, { "a", "b", "c" } },
          "the parts hold 4 tensors, split.tensors.count says 5" },
        { { 3, { 0, 1, 2 }, { 3, 3, 3 }, -1, { "a", "b", "c" } }, "split.tensors.count" },
        { { 3, { 0, 1, 2 }, { 3, 3, 3 }, 4, { "a", "b", "a" } }, "tensor 'a' is there twice" },
    };
    gm_gguf *g;
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        write_split("bad", &cases[i].split);
        assert_refused(open_path(part_path("bad", 1, 3), false, &g), &g, GEMMA_E_FORMAT, cases[i].says);
    }
    write_split("bad", &good_split);
    assert_int_equal(remove(part_path("bad", 3, 3)), 0);
    assert_refused(open_path(part_path("bad", 1, 3), false, &g), &g, GEMMA_E_IO, part_path("bad", 3, 3));

    const char *renamed = part_path("bad", 0, 3); /* no part has the number 0 */
    assert_int_equal(rename(part_path("bad", 1, 3), renamed), 0);
    assert_refused(open_path(renamed, false, &g), &g, GEMMA_E_FORMAT, "part 1 of 3 of a split file, but the name");
    static const split many = { 1, { 0 }, { 513 }, 1, { "a" } };
    write_split("many", &many);
    const char *first = part_path("many", 1, 513);
    assert_int_equal(rename(part_path("many", 1, 1), first), 0);
    assert_refused(open_path(first, false, &g), &g, GEMMA_E_FORMAT, "513 parts; at most 512");
    assert_int_equal(remove(first), 0);
    gguf_writer *w = gguf_writer_create();
    gguf_put_split(w, 0, 2, 0);
    size_t n;
    const uint8_t *bytes = gguf_writer_finish(w, &n);
    assert_refused(open_bytes(bytes, n, &g), &g, GEMMA_E_UNSUPPORTED, "part 1 of 2");
    gguf_writer_destroy(w);
}

static void test_split_of_one(void **state)
{
    (void)state;
    static const split one = { 1, { 0 }, { 1 }, 1, { "a" } };
    write_split("one", &one);
    gm_gguf *g;
    assert_int_equal(open_path(part_path("one", 1, 1), false, &g), GEMMA_OK);
    assert_int_equal(gm_gguf_n_parts(g), 1);
    gm_gguf_close(g);
}

/* ---- memory ---- */

/* Every allocation of one opening fails once; returns how many there are. */
static uint64_t fail_each_allocation(const gm_gguf_input *input)
{
    uint64_t nth = 1;
    for (;; nth++) {
        fault_fail_nth(nth);
        gm_gguf *g;
        int rc = gm_gguf_open(&mem, input, &g, &error);
        bool fired = fault_fired();
        assert_true(rc == GEMMA_OK || rc == GEMMA_E_NOMEM);
        assert_true((rc == GEMMA_OK) == (g != NULL));
        assert_true(rc == GEMMA_OK || strstr(error.message, "memory"));
        if (!fired) assert_int_equal(rc, GEMMA_OK);
        gm_gguf_close(g);
        assert_int_equal(fault_live_blocks(), 0);
        assert_int_equal(fault_live_bytes(GEMMA_TAG_FILE), 0);
        if (!fired) break;
    }
    fault_fail_nth(0);
    return nth - 1;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    gguf_writer *w = target();
    size_t n;
    const uint8_t *bytes = gguf_writer_finish(w, &n);
    assert_true(fail_each_allocation(&(gm_gguf_input){ .bytes = bytes, .n_bytes = n }) >= 8);
    const char *path = part_path("memory", 1, 1);
    assert_true(gguf_writer_save(w, path));
    assert_true(fail_each_allocation(&(gm_gguf_input){ .path = path }) >= 9);
    assert_true(fail_each_allocation(&(gm_gguf_input){ .path = path, .map = true }) >= 9);
    gguf_writer_destroy(w);
    write_split("memory", &good_split);
    assert_true(fail_each_allocation(&(gm_gguf_input){ .path = part_path("memory", 1, 3) }) >= 20);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const stems[] = { "good", "bad", "one", "memory" };
    for (size_t i = 0; i < GM_COUNT(stems); i++)
        for (int count = 1; count <= 3; count++)
            for (int no = 0; no <= count; no++) remove(part_path(stems[i], no, count));
    return rmdir(folder);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_every_length), TEST(test_vocabulary_only), TEST(test_corruptions),
        TEST(test_every_byte),   TEST(test_header_limit),    TEST(test_split),
        TEST(test_split_damage), TEST(test_split_of_one),    TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("gguf_damage", tests, make_folder, remove_folder);
}
