/* Gemma 3's and Gemma 4's real tokens, cut down to what the goldens touch (tests/generate/tokenizer_goldens.py). */
#include "tokenizer/vocab.h"
#include "unit/tokenizer_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SPECIAL   GEMMA_TOKENIZE_SPECIAL
#define UNTRUSTED GEMMA_TOKENIZE_UNTRUSTED
#define MARK      "\xe2\x96\x81"

enum { GEMMA3, GEMMA4, N_VOCABS };
static gm_mem mem;
static vocab_file files[N_VOCABS];
static gm_tokenizer *vocabs[N_VOCABS];

static uint64_t seed = 7;
static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

/* Encodes to a fresh array. */
static int32_t *encode(const gm_tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, size_t *n_ids)
{
    int32_t *ids = malloc((n_bytes + 1) * sizeof *ids);
    assert_non_null(ids);
    assert_int_equal(gm_tokenizer_encode(t, text, n_bytes, flags, ids, n_bytes + 1, n_ids), GEMMA_OK);
    assert_true(*n_ids <= n_bytes + 1);
    return ids;
}

static void check_ids(const gm_tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, const int32_t *expected,
                      size_t n_expected)
{
    size_t n;
    int32_t *ids = encode(t, text, n_bytes, flags, &n);
    for (size_t i = 0; i < n && i < n_expected; i++)
        if (ids[i] != expected[i]) fail_msg("\"%s\": id %zu is %d, not %d", text, i, ids[i], expected[i]);
    if (n != n_expected) fail_msg("\"%s\": %zu ids, not %zu", text, n, n_expected);
    free(ids);
}

#define CHECK(vocab, text, flags, ...)                                                                                 \
    do {                                                                                                               \
        const int32_t wanted[] = { __VA_ARGS__ };                                                                      \
        check_ids(vocabs[vocab], text, sizeof(text) - 1, flags, wanted, GM_COUNT(wanted));                             \
    } while (0)

/* The text as it comes back: U+2581 as a space. */
static size_t with_spaces(char *dst, const char *text, size_t n)
{
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        bool mark = n - i >= 3 && !memcmp(text + i, MARK, 3);
        dst[n_out++] = mark ? ' ' : text[i];
        i += mark ? 3 : 1;
    }
    return n_out;
}

static void check_round_trip(const gm_tokenizer *t, const char *text, size_t n_bytes, const int32_t *ids, size_t n_ids)
{
    char *expected = malloc(n_bytes + 1), *got = malloc(n_bytes + 1);
    size_t n_expected = with_spaces(expected, text, n_bytes), n;
    assert_int_equal(gm_tokenizer_decode(t, ids, n_ids, GEMMA_DETOKENIZE_SPECIAL, got, n_bytes + 1, &n), GEMMA_OK);
    assert_int_equal(n, n_expected);
    assert_memory_equal(got, expected, n);
    free(expected);
    free(got);
}

static void test_goldens(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABS; v++) {
        assert_int_equal(files[v].n_lines, 400);
        for (uint32_t i = 0; i < files[v].n_lines; i++) {
            const golden_line *line = files[v].lines + i;
            check_ids(vocabs[v], line->text, line->n_bytes, SPECIAL, line->ids, line->n_ids);
            check_round_trip(vocabs[v], line->text, line->n_bytes, line->ids, line->n_ids);
        }
    }
}

static void test_count_only(void **state)
{
    (void)state;
    int32_t ids[8], canary = ids[7] = 0x1234567;
    for (int v = 0; v < N_VOCABS; v++)
        for (uint32_t i = 0; i < files[v].n_lines; i += 7) {
            const golden_line *line = files[v].lines + i;
            size_t n;
            int rc = gm_tokenizer_encode(vocabs[v], line->text, line->n_bytes, SPECIAL, NULL, 0, &n);
            assert_int_equal(rc, line->n_ids ? GEMMA_E_SMALL : GEMMA_OK);
            assert_int_equal(n, line->n_ids);
            rc = gm_tokenizer_encode(vocabs[v], line->text, line->n_bytes, SPECIAL, ids, 7, &n);
            assert_int_equal(rc, line->n_ids > 7 ? GEMMA_E_SMALL : GEMMA_OK);
            assert_int_equal(n, line->n_ids);
            assert_memory_equal(ids, line->ids, (n < 7 ? n : 7) * sizeof *ids);
            assert_int_equal(ids[7], canary);
        }
    /* Bytes likewise. */
    int32_t hello[] = { 9259, 1902 };
    char text[8] = "???????";
    size_t n;
    assert_int_equal(gm_tokenizer_decode(vocabs[GEMMA4], hello, 2, 0, NULL, 0, &n), GEMMA_E_SMALL);
    assert_int_equal(n, 11);
    assert_int_equal(gm_tokenizer_decode(vocabs[GEMMA4], hello, 2, 0, text, 7, &n), GEMMA_E_SMALL);
    assert_int_equal(n, 11);
    assert_string_equal(text, "Hello w");
}

static void test_gemma4_vectors(void **state)
{
    (void)state;
    CHECK(GEMMA4, " ", 0, 236743);
    CHECK(GEMMA4, "  ", 0, 138);
    CHECK(GEMMA4, "\n", 0, 107);
    CHECK(GEMMA4, "\t", 0, 255968);
    CHECK(GEMMA4, "Hello world", 0, 9259, 1902);
    CHECK(GEMMA4, " Hello world", 0, 26352, 1902);
    CHECK(GEMMA4, MARK "Hello" MARK "world", 0, 26352, 1902);
    CHECK(GEMMA4, "Hello, world!", 0, 9259, 236764, 1902, 236888);
    CHECK(GEMMA4, "3333", 0, 236800, 236800, 236800, 236800);
    CHECK(GEMMA4, "I'm", 0, 236777, 236789, 236757);
    CHECK(GEMMA4, "a\r\nb", 0, 236746, 251, 107, 236763);
    CHECK(GEMMA4, "ied 4 \u00bd months", 0, 1178, 236743, 236812, 47041, 3794);
    CHECK(GEMMA4, "\u00c4pfel", 0, 239122, 22744, 535);
    CHECK(GEMMA4, "\u65e5\u672c\u8a9e", 0, 94951);
    CHECK(GEMMA4, "\U0001f999", 0, 478, 397, 404, 391);
    CHECK(GEMMA4, "x\u00a0y", 0, 236781, 432, 398, 236762);
    CHECK(GEMMA4, "foo\n\n\nbar", 0, 26537, 109, 2230);
    CHECK(GEMMA4, "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", 0, 137, 110);
    CHECK(GEMMA4, "    if x:\n\t\treturn 1\n", 0, 140, 584, 1123, 236787, 107, 255969, 2060, 236743, 236770, 107);
    CHECK(GEMMA4, "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n", SPECIAL, 2, 105, 9731,
          107, 3912, 8652, 236761, 106, 107, 105, 2364, 107, 10979, 106, 107, 105, 4368, 107);
    CHECK(GEMMA4, "<|turn>system\n<|think|>\n<turn|>\n", SPECIAL, 105, 9731, 107, 98, 107, 106, 107);
    CHECK(GEMMA4, "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>}<tool_call|>", SPECIAL, 48, 6639, 236787, 828,
          236779, 19323, 236782, 13319, 236787, 52, 50429, 52, 236783, 49);
}

static bool has_id(const gm_tokenizer *t, const char *text, uint32_t flags, int32_t id)
{
    size_t n;
    int32_t *ids = encode(t, text, strlen(text), flags, &n);
    bool found = false;
    for (size_t i = 0; i < n; i++) found |= ids[i] == id;
    free(ids);
    return found;
}

static void test_flags(void **state)
{
    (void)state;
    const gm_tokenizer *four = vocabs[GEMMA4], *three = vocabs[GEMMA3];
    assert_true(has_id(four, "<turn|>", SPECIAL, 106));
    assert_false(has_id(four, "<turn|>", 0, 106));
    assert_false(has_id(four, "<turn|>", UNTRUSTED, 106));
    assert_true(has_id(four, "a<|\"|>", SPECIAL, 52));
    assert_true(has_id(four, "a<|\"|>", 0, 52));
    assert_false(has_id(four, "a<|\"|>", UNTRUSTED, 52));
    assert_false(has_id(four, "<table>", SPECIAL, 168)); /* a normal token that no merge leads to */
    CHECK(GEMMA4, "\n\n", UNTRUSTED, 108);

    assert_true(has_id(three, "<end_of_turn>", SPECIAL, 106));
    assert_false(has_id(three, "<end_of_turn>", 0, 106));
    assert_false(has_id(three, "<end_of_turn>", UNTRUSTED, 106));
    const struct {
        const char *text;
        int32_t id;
        bool untrusted;
    } user[] = { { "[multimodal]", 5, false },
                 { "<start_of_image>", 255999, false },
                 { "<end_of_image>", 256000, false },
                 { "<table>", 168, true },
                 { "\n\n\n", 109, true },
                 { "   ", 139, true },
                 { "\t\t", 255969, true } };
    for (size_t i = 0; i < GM_COUNT(user); i++) {
        assert_true(has_id(three, user[i].text, 0, user[i].id));
        assert_true(has_id(three, user[i].text, SPECIAL, user[i].id));
        assert_int_equal(has_id(three, user[i].text, UNTRUSTED, user[i].id), user[i].untrusted);
    }
    assert_false(has_id(three, MARK MARK, 0, 138)); /* not a run of spaces */
    assert_true(has_id(three, "<unused7>", SPECIAL, gm_tokenizer_find(three, "<unused7>", 9)));
    assert_false(has_id(three, "<unused7>", UNTRUSTED, gm_tokenizer_find(three, "<unused7>", 9)));
}

static void test_bos(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABS; v++) {
        CHECK(v, "", GEMMA_TOKENIZE_BOS, 2);
        CHECK(v, "<bos>", GEMMA_TOKENIZE_BOS | SPECIAL, 2);
        CHECK(v, "<bos>\n", GEMMA_TOKENIZE_BOS | SPECIAL, 2, 107);
        CHECK(v, "\n<bos>", GEMMA_TOKENIZE_BOS | SPECIAL, 2, 107, 2);
        CHECK(v, "\n", GEMMA_TOKENIZE_BOS | UNTRUSTED, 2, 107);
        size_t n;
        int32_t *ids = encode(vocabs[v], "<bos>", 5, GEMMA_TOKENIZE_BOS, &n);
        assert_true(n > 1 && ids[0] == 2 && ids[1] != 2); /* as text, behind the real one */
        free(ids);
    }
}

static void test_ends(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABS; v++) {
        const gm_tokenizer *t = vocabs[v];
        assert_int_equal(gm_tokenizer_n_vocab(t), 262144);
        assert_int_equal(gm_tokenizer_bos(t), 2);
        assert_int_equal(gm_tokenizer_unknown(t), 3);
        assert_int_equal(gm_tokenizer_padding(t), 0);
        uint32_t n_ends = 0;
        for (int32_t id = 0; id < 262144; id++) n_ends += gm_tokenizer_is_end(t, id);
        assert_int_equal(n_ends, v == GEMMA4 ? 3 : 2);
        assert_true(gm_tokenizer_is_end(t, 1) && gm_tokenizer_is_end(t, 106));
        assert_int_equal(gm_tokenizer_is_end(t, 50), v == GEMMA4);
        assert_false(gm_tokenizer_is_end(t, 212));
        assert_int_equal(gm_tokenizer_find(t, "</s>", 4), 212);
        for (int32_t id = 0; id < 262144; id++)
            assert_true(gm_tokenizer_piece(t, id, true, NULL, 0) <= gm_tokenizer_longest(t));
    }
}

static void test_invalid_utf8(void **state)
{
    (void)state;
    static const char *const texts[] = { "a\xffz",
                                         "\x80",
                                         "\xc3",
                                         "\xe2\x96",
                                         "\xf0\x9f\x98",
                                         "\xc0\x80",
                                         "\xed\xa0\x80",
                                         "\xf4\x90\x80\x80",
                                         "\xe2\x96\x96\x81\xc3",
                                         "\xf0\xe2\x96\x81" };
    static const size_t bad_at[] = { 1, 0, 0, 0, 0, 0, 0, 0, 3, 0 };
    for (int v = 0; v < N_VOCABS; v++)
        for (size_t i = 0; i < GM_COUNT(texts); i++) {
            size_t n, n_text = strlen(texts[i]);
            int32_t *ids = encode(vocabs[v], texts[i], n_text, 0, &n), one[8];
            check_round_trip(vocabs[v], texts[i], n_text, ids, n);
            free(ids);
            assert_int_equal(gm_tokenizer_encode(vocabs[v], texts[i], n_text, GEMMA_TOKENIZE_STRICT, one, 8, &n),
                             GEMMA_E_UTF8);
            assert_int_equal(n, bad_at[i]);
        }
    CHECK(GEMMA4, "\xff", 0, 238 + 0xff);
    CHECK(GEMMA4, "\n\xed\xa0\x80\n", 0, 107, 238 + 0xed, 238 + 0xa0, 238 + 0x80, 107);
    CHECK(GEMMA4, "\n\0\n", GEMMA_TOKENIZE_STRICT, 107, 238, 107); /* a NUL is a character */
    CHECK(GEMMA3, "\n\0\n", GEMMA_TOKENIZE_STRICT, 107, 238, 107);
}

/* Nothing is quadratic: with n² steps this program would run into ctest's limit. */
static void test_long_texts(void **state)
{
    (void)state;
    const size_t n_text = 1 << 20;
    char *text = malloc(n_text);
    static const char fills[] = "a\n =\t<-";
    for (int v = 0; v < N_VOCABS; v++)
        for (size_t f = 0; f <= sizeof fills; f++) {
            for (size_t i = 0; i < n_text; i++)
                text[i] = f == sizeof fills       ? (char)draw(256)
                          : f + 1 == sizeof fills ? (char)('a' + draw(26))
                                                  : fills[f];
            size_t n;
            int32_t *ids = encode(vocabs[v], text, n_text, SPECIAL, &n);
            check_round_trip(vocabs[v], text, n_text, ids, n);
            free(ids);
        }
    /* Runs of newlines: 31 at a time, and the rest is the token of its length. */
    memset(text, '\n', 1000);
    size_t n;
    int32_t *ids = encode(vocabs[GEMMA3], text, 1000, UNTRUSTED, &n);
    assert_int_equal(n, 33);
    for (size_t i = 0; i < 32; i++) assert_int_equal(ids[i], 137);
    assert_int_equal(ids[32], 106 + 1000 % 31);
    free(ids);
    free(text);
}

static size_t random_character(char *dst)
{
    switch (draw(6)) {
    case 0: return dst[0] = (char)draw(128), 1;
    case 1: return memcpy(dst, " ", 1), 1;
    case 2: return dst[0] = (char)draw(256), 1; /* most likely invalid */
    case 3: return dst[0] = (char)(0xc4 + draw(20)), dst[1] = (char)(0x80 + draw(64)), 2;
    case 4: return memcpy(dst, MARK, 3), 3;
    default: return dst[0] = (char)('a' + draw(26)), 1;
    }
}

static void test_random_round_trip(void **state)
{
    (void)state;
    static const uint32_t flags[] = { 0, SPECIAL, UNTRUSTED };
    char text[1000];
    for (int round = 0; round < 3000; round++) {
        const gm_tokenizer *t = vocabs[round % N_VOCABS];
        size_t n_text = 0, n, n_max = draw(round % 8 ? 60 : 900);
        while (n_text < n_max) {
            if (draw(20) == 0) { /* a piece of a real text, markers included */
                const golden_line *line = files[round % N_VOCABS].lines + draw(400);
                size_t n_part = draw(40), at = line->n_bytes ? draw(line->n_bytes) : 0;
                if (n_part > line->n_bytes - at) n_part = line->n_bytes - at;
                memcpy(text + n_text, line->text + at, n_part);
                n_text += n_part;
            } else {
                n_text += random_character(text + n_text);
            }
        }
        int32_t *ids = encode(t, text, n_text, flags[draw(3)], &n);
        check_round_trip(t, text, n_text, ids, n);
        free(ids);
    }
}

/* ---- streaming ---- */
static size_t stream(const gm_tokenizer *t, const int32_t *ids, size_t n_ids, char *out, size_t n_room)
{
    gm_detok d;
    gm_detok_init(&d, t, true);
    size_t n_out = 0, n_cap = 3 * (gm_tokenizer_longest(t) + 4);
    char *piece = malloc(n_cap); /* exactly what the header asks for */
    for (size_t i = 0; i <= n_ids; i++) {
        size_t n = i < n_ids ? gm_detok_push(&d, ids[i], piece, n_cap) : gm_detok_flush(&d, piece, n_cap);
        assert_true(n <= n_cap && n_out + n <= n_room);
        assert_int_equal(gm_utf8_check(piece, n), n); /* whole characters only */
        memcpy(out + n_out, piece, n);
        n_out += n;
    }
    free(piece);
    return n_out;
}

static void test_streaming(void **state)
{
    (void)state;
    static char expected[8192], got[8192];
    static int32_t bytes[8192];
    for (int v = 0; v < N_VOCABS; v++)
        for (uint32_t i = 0; i < files[v].n_lines; i++) {
            const golden_line *line = files[v].lines + i;
            size_t n = with_spaces(expected, line->text, line->n_bytes);
            assert_int_equal(stream(vocabs[v], line->ids, line->n_ids, got, sizeof got), n);
            assert_memory_equal(got, expected, n);
            for (uint32_t k = 0; k < line->n_bytes; k++) bytes[k] = 238 + (uint8_t)line->text[k];
            assert_int_equal(stream(vocabs[v], bytes, line->n_bytes, got, sizeof got), line->n_bytes);
            assert_memory_equal(got, line->text, line->n_bytes);
        }
}

#define BAD "\xef\xbf\xbd"
static void test_streaming_invalid(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        { "\xff", BAD },
        { "a\x80"
          "b",
          "a" BAD "b" },
        { "\xc3", BAD },
        { "\xf0\x9f\x98", BAD },              /* unfinished at the end: one */
        { "\xf0\x9f\x98z", BAD BAD BAD "z" }, /* in the middle: each byte */
        { "\xf0\x9f\xc3\xa9", BAD BAD "\xc3\xa9" },
        { "\xe2\xe2\x96\x81", BAD MARK },
        { "\xed\xa0\x80", BAD BAD BAD },
        { "\xc0\x80", BAD BAD },
        { "\xf4\x90\x80\x80x", BAD BAD BAD BAD "x" },
    };
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        int32_t ids[8];
        size_t n = strlen(cases[i].bytes);
        for (size_t k = 0; k < n; k++) ids[k] = 238 + (uint8_t)cases[i].bytes[k];
        char got[64];
        got[stream(vocabs[GEMMA4], ids, n, got, sizeof got - 1)] = 0;
        assert_string_equal(got, cases[i].text);
    }
    /* An id that is none, and a buffer that is too small, lose text but nothing else. */
    gm_detok d;
    gm_detok_init(&d, vocabs[GEMMA4], false);
    char got[4] = "???";
    assert_int_equal(gm_detok_push(&d, -1, got, 4), 0);
    assert_int_equal(gm_detok_push(&d, 262144, got, 4), 0);
    assert_int_equal(gm_detok_push(&d, 106, got, 4), 0); /* control, not special */
    assert_int_equal(gm_detok_push(&d, 9259, got, 3), 3);
    assert_string_equal(got, "Hel");
}

/* ---- threads ---- */
typedef struct job {
    const gm_tokenizer *t;
    const vocab_file *file;
    uint32_t n_wrong;
} job;

static void encode_all(void *arg)
{
    job *j = arg;
    int32_t ids[4096];
    for (uint32_t i = 0; i < j->file->n_lines; i++) {
        const golden_line *line = j->file->lines + i;
        size_t n;
        int rc = gm_tokenizer_encode(j->t, line->text, line->n_bytes, SPECIAL, ids, GM_COUNT(ids), &n);
        j->n_wrong += rc || n != line->n_ids || memcmp(ids, line->ids, n * sizeof *ids);
    }
}

static void test_threads(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABS; v++) {
        gm_tokenizer *fresh = NULL;
        gm_vocab_input input = files[v].input; /* read by several threads too, */
        assert_int_equal(gm_pool_create(&mem, 3, &input.pool, NULL), GEMMA_OK);
        assert_int_equal(gm_tokenizer_create(&mem, &input, &fresh, NULL), GEMMA_OK);
        gm_pool_destroy(input.pool); /* which are needed no longer */
        if (input.n_merges) assert_memory_equal(fresh->pairs, vocabs[v]->pairs, input.n_merges * sizeof *fresh->pairs);
        gm_thread *threads[4];
        job jobs[4];
        for (int i = 0; i < 4; i++) {
            jobs[i] = (job){ fresh, &files[v], 0 };
            assert_int_equal(gm_thread_start(&mem, encode_all, jobs + i, threads + i), GEMMA_OK);
        }
        for (int i = 0; i < 4; i++) {
            gm_thread_join(&mem, threads[i]);
            assert_int_equal(jobs[i].n_wrong, 0);
        }
        gm_tokenizer_destroy(fresh);
    }
}

static int setup(void **state)
{
    (void)state;
    gm_mem_init(&mem, NULL);
    vocab_file_open(&files[GEMMA3], "data/tokenizer/gemma3.bin");
    vocab_file_open(&files[GEMMA4], "data/tokenizer/gemma4.bin");
    for (int v = 0; v < N_VOCABS; v++) {
        gemma_error error = { .size = sizeof error };
        if (gm_tokenizer_create(&mem, &files[v].input, &vocabs[v], &error)) {
            fprintf(stderr, "%s\n", error.message);
            return -1;
        }
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABS; v++) {
        gm_tokenizer_destroy(vocabs[v]);
        vocab_file_close(&files[v]);
    }
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++)
        if (gm_mem_live(&mem, tag)) return -1;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),
        cmocka_unit_test(test_count_only),
        cmocka_unit_test(test_gemma4_vectors),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_bos),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_random_round_trip),
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_streaming_invalid),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, setup, teardown);
}
