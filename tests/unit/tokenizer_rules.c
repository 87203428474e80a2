/* The rules on a small vocabulary: every id against a plain and slow reading of them, hostile input, no memory. */
#include "support/fault.h"
#include "unit/tokenizer_small.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static gm_mem mem;

static gm_tokenizer *make(small_vocab *v)
{
    gm_tokenizer *t = NULL;
    gemma_error error = { .size = sizeof error };
    if (gm_tokenizer_create(&mem, &v->input, &t, &error)) fail_msg("%s", error.message);
    return t;
}

static uint64_t seed = 1;
static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

/* ---- the slow reading: no cut, no heap, no hash ---- */
enum { MAX_SYMBOLS = 2048 };

static int32_t slow_find(const small_vocab *v, const char *text, size_t n)
{
    for (uint32_t i = 0; i < v->input.n_tokens; i++)
        if (v->types[i] == GM_TOKEN_NORMAL && v->n_texts[i] == n && !memcmp(v->texts[i], text, n)) return (int32_t)i;
    return -1;
}

/* Lower is better; UINT32_MAX: no merge. */
static uint32_t slow_rank(const small_vocab *v, const char *left, size_t n_left, size_t n_right)
{
    if (!v->input.bpe) {
        int32_t id = slow_find(v, left, n_left + n_right);
        return id < 0 ? UINT32_MAX : (uint32_t)id; /* scores fall with the id */
    }
    for (uint32_t i = 0; i < v->input.n_merges; i++)
        if (v->n_merges[i] == n_left + n_right + 1 && v->merges[i][n_left] == ' ' &&
            !memcmp(v->merges[i], left, n_left) && !memcmp(v->merges[i] + n_left + 1, left + n_left, n_right))
            return i;
    return UINT32_MAX;
}

static size_t slow_piece(const small_vocab *v, const char *text, size_t n_bytes, int32_t *ids)
{
    static char spaced[3 * MAX_SYMBOLS];
    static size_t at[MAX_SYMBOLS + 1];
    size_t n_spaced = 0, n = 0, n_ids = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        if (text[i] == ' ') {
            memcpy(spaced + n_spaced, SMALL_SPACE, 3);
            n_spaced += 3;
        } else {
            spaced[n_spaced++] = text[i];
        }
    }
    for (size_t i = 0, length; i < n_spaced; i += length) {
        length = gm_utf8_next(spaced + i, n_spaced - i, NULL);
        if (!length) length = 1;
        at[n++] = i;
    }
    at[n] = n_spaced;
    for (;;) {
        uint32_t best = UINT32_MAX;
        size_t where = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = slow_rank(v, spaced + at[i], at[i + 1] - at[i], at[i + 2] - at[i + 1]);
            if (rank < best) {
                best = rank;
                where = i;
            }
        }
        if (best == UINT32_MAX) break;
        memmove(at + where + 1, at + where + 2, (n - where - 1) * sizeof *at);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t id = slow_find(v, spaced + at[i], at[i + 1] - at[i]);
        if (id >= 0)
            ids[n_ids++] = id;
        else
            for (size_t k = at[i]; k < at[i + 1]; k++) {
                char name[] = {
                    '<', '0', 'x', "0123456789ABCDEF"[(uint8_t)spaced[k] >> 4], "0123456789ABCDEF"[spaced[k] & 15], '>'
                };
                for (uint32_t b = 0; b < v->input.n_tokens; b++)
                    if (v->types[b] == GM_TOKEN_BYTE && !memcmp(v->texts[b], name, 6)) ids[n_ids++] = (int32_t)b;
            }
    }
    return n_ids;
}

static bool slow_is_marker(const small_vocab *v, uint32_t id, uint32_t flags)
{
    int32_t type = v->types[id];
    if (type == GM_TOKEN_CONTROL || type == GM_TOKEN_UNKNOWN) return flags & GEMMA_TOKENIZE_SPECIAL;
    if (type != GM_TOKEN_USER) return false;
    if (!(flags & GEMMA_TOKENIZE_UNTRUSTED)) return true;
    return !v->input.bpe && strcmp(v->texts[id], "[multimodal]") && strcmp(v->texts[id], "<start_of_image>");
}

static size_t slow_encode(const small_vocab *v, const char *text, size_t n_bytes, uint32_t flags, int32_t *ids)
{
    size_t start = 0, n_ids = 0, at = 0;
    while (at < n_bytes) {
        int32_t longest = -1;
        for (uint32_t i = 0; i < v->input.n_tokens; i++)
            if (slow_is_marker(v, i, flags) && v->n_texts[i] <= n_bytes - at &&
                !memcmp(v->texts[i], text + at, v->n_texts[i]) && (longest < 0 || v->n_texts[i] > v->n_texts[longest]))
                longest = (int32_t)i;
        if (longest < 0) {
            at++;
            continue;
        }
        n_ids += slow_piece(v, text + start, at - start, ids + n_ids);
        ids[n_ids++] = longest;
        start = at += v->n_texts[longest];
    }
    return n_ids + slow_piece(v, text + start, n_bytes - start, ids + n_ids);
}

/* ---- tests ---- */
static size_t random_text(char *text, size_t n_max)
{
    static const char *const bits[] = { "a",
                                        "b",
                                        "c",
                                        " ",
                                        "a",
                                        "aa",
                                        "abc",
                                        "cab",
                                        "\n",
                                        "\n\n",
                                        SMALL_SPACE,
                                        "\xc3\xa9",
                                        "\xe6\x97\xa5\xe6\x9c\xac",
                                        "\xf0\x9f\x98\x80",
                                        "x",
                                        "<",
                                        ">",
                                        "<eos>",
                                        "<bos>",
                                        "<|\"|>",
                                        "[multimodal]",
                                        "<start_of_image>",
                                        "<b>",
                                        "<b",
                                        "  ",
                                        "[PAD]",
                                        "<0x41>",
                                        "\xff",
                                        "\xe2\x96",
                                        "\xf0\x9f",
                                        "\xc3",
                                        "<unk>",
                                        "\xc4\x80",
                                        "\xed\xa0\x80" };
    uint32_t n_kinds = draw(3) ? (uint32_t)GM_COUNT(bits) : 8;
    size_t n = 0;
    for (uint32_t left = draw(draw(4) ? 12 : 150); left > 0; left--) {
        if (draw(24) == 0) {
            text[n++] = 0;
            continue;
        }
        const char *bit = bits[draw(n_kinds)];
        if (n + strlen(bit) > n_max) break;
        memcpy(text + n, bit, strlen(bit));
        n += strlen(bit);
    }
    return n;
}

static void check_against_slow(bool bpe)
{
    small_vocab v;
    small_init(&v, bpe);
    gm_tokenizer *t = make(&v);
    static int32_t expected[3 * MAX_SYMBOLS], ids[3 * MAX_SYMBOLS];
    char text[MAX_SYMBOLS];
    static const uint32_t flags[] = { 0, GEMMA_TOKENIZE_SPECIAL, GEMMA_TOKENIZE_UNTRUSTED };
    for (int round = 0; round < 6000; round++) {
        size_t n_text = random_text(text, 1000), n_ids = 0, n_expected;
        uint32_t flag = flags[draw(3)];
        n_expected = slow_encode(&v, text, n_text, flag, expected);
        assert_int_equal(gm_tokenizer_encode(t, text, n_text, flag, ids, GM_COUNT(ids), &n_ids), GEMMA_OK);
        assert_int_equal(n_ids, n_expected);
        for (size_t i = 0; i < n_ids; i++) assert_int_equal(ids[i], expected[i]);
        assert_true(n_ids <= n_text);
    }
    gm_tokenizer_destroy(t);
}
static void test_slow_bpe(void **state) { (void)state, check_against_slow(true); }
static void test_slow_spm(void **state) { (void)state, check_against_slow(false); }

static int32_t encode_one(const gm_tokenizer *t, const char *text, uint32_t flags)
{
    int32_t id = -1;
    size_t n = 0;
    int rc = gm_tokenizer_encode(t, text, strlen(text), flags, &id, 1, &n);
    return rc == GEMMA_OK && n == 1 ? id : -1;
}

static void test_vocabulary(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, true);
    v.types[1] = GM_TOKEN_NORMAL; /* <eos>, as some files have it */
    gm_tokenizer *t = make(&v);
    assert_int_equal(gm_tokenizer_n_vocab(t), v.input.n_tokens);
    assert_int_equal(gm_tokenizer_token_type(t, 1), GM_TOKEN_CONTROL);
    assert_int_equal(encode_one(t, "<eos>", GEMMA_TOKENIZE_SPECIAL), 1);
    assert_int_equal(gm_tokenizer_token_type(t, 0x7fffffff), 0);
    assert_int_equal(gm_tokenizer_token_type(t, -1), 0);
    assert_int_equal(gm_tokenizer_find(t, "abc", 3), slow_find(&v, "abc", 3));
    assert_int_equal(gm_tokenizer_find(t, " abc", 4), slow_find(&v, SMALL_SPACE "abc", 6));
    assert_int_equal(gm_tokenizer_find(t, SMALL_SPACE "abc", 6), slow_find(&v, SMALL_SPACE "abc", 6));
    assert_int_equal(gm_tokenizer_find(t, "[PAD]", 5), -1);
    assert_int_equal(gm_tokenizer_find(t, "", 0), -1);
    assert_int_equal(gm_tokenizer_find(t, "zz", 2), -1);
    assert_int_equal(gm_tokenizer_find(t, "<turn|>", 7), 4);
    assert_true(gm_tokenizer_is_end(t, 1) && gm_tokenizer_is_end(t, 4));
    assert_false(gm_tokenizer_is_end(t, 2) || gm_tokenizer_is_end(t, -1) || gm_tokenizer_is_end(t, 0));
    gm_tokenizer_destroy(t);

    /* A token that is not UTF-8 is there, but no text leads to it. */
    small_init(&v, false);
    int32_t broken = (int32_t)small_add(&v, "a\xff", GM_TOKEN_NORMAL);
    t = make(&v);
    assert_int_equal(gm_tokenizer_find(t, "a\xff", 2), broken);
    assert_int_equal(gm_tokenizer_eos(t), 1);
    int32_t ids[4];
    size_t n;
    assert_int_equal(gm_tokenizer_encode(t, "a\xff", 2, 0, ids, 4, &n), GEMMA_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[1], gm_tokenizer_find(t, "<0xFF>", 6));
    gm_tokenizer_destroy(t);

    /* No types: bytes are known by their text, all else is normal; "</s>" never ends. */
    small_init(&v, true);
    v.input.types = NULL;
    v.texts[5] = "</s>";
    v.n_texts[5] = 4;
    v.input.eos = 5;
    t = make(&v);
    assert_false(gm_tokenizer_is_end(t, 5));
    assert_true(gm_tokenizer_is_end(t, 1)); /* by its text */
    assert_int_equal(gm_tokenizer_token_type(t, gm_tokenizer_find(t, "<0x00>", 6)), GM_TOKEN_BYTE);
    gm_tokenizer_destroy(t);
}

static void test_space_prefix(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, false);
    v.input.add_space_prefix = true;
    gm_tokenizer *t = make(&v);
    assert_int_equal(encode_one(t, "a", 0), slow_find(&v, SMALL_SPACE "a", 4));
    assert_int_equal(encode_one(t, "", 0), -1);
    int32_t ids[8];
    size_t n;
    assert_int_equal(gm_tokenizer_encode(t, "<b>a", 4, 0, ids, 8, &n), GEMMA_OK);
    assert_int_equal(n, 2); /* only at the very start */
    gm_tokenizer_destroy(t);
}

/* A space that is no token, and equal texts of several types. */
static void test_odd_vocabulary(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, true);
    v.input.n_merges = 3;
    v.types[slow_find(&v, SMALL_SPACE, 3)] = GM_TOKEN_CONTROL;
    uint32_t plain_space = small_add(&v, "x y", GM_TOKEN_NORMAL), twice = small_add(&v, "abc", GM_TOKEN_NORMAL);
    uint32_t empty = small_add(&v, "", GM_TOKEN_USER), user = small_add(&v, "Q", GM_TOKEN_USER);
    gm_tokenizer *t = make(&v);
    int32_t ids[8];
    size_t n;
    assert_int_equal(gm_tokenizer_encode(t, " ", 1, 0, ids, 8, &n), GEMMA_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], gm_tokenizer_find(t, "<0x20>", 6));
    assert_int_equal(gm_tokenizer_encode(t, "x y", 3, 0, ids, 8, &n), GEMMA_OK);
    assert_int_equal(n, 3);
    char text[8];
    assert_int_equal(gm_tokenizer_piece(t, (int32_t)plain_space, false, text, sizeof text), 3);
    assert_memory_equal(text, "x y", 3);
    assert_int_not_equal(encode_one(t, "abc", 0), (int32_t)twice);
    assert_int_equal(gm_tokenizer_piece(t, (int32_t)empty, false, text, sizeof text), 0);
    assert_int_equal(encode_one(t, "Q", 0), (int32_t)user);
    assert_int_equal(encode_one(t, "Q", GEMMA_TOKENIZE_UNTRUSTED), gm_tokenizer_find(t, "<0x51>", 6));
    gm_tokenizer_destroy(t);
}

/* ---- hostile vocabularies ---- */
static void expect_format(small_vocab *v, const char *sentence)
{
    gm_tokenizer *t = (gm_tokenizer *)v;
    gemma_error error = { .size = sizeof error };
    assert_int_equal(gm_tokenizer_create(&mem, &v->input, &t, &error), GEMMA_E_FORMAT);
    assert_null(t);
    if (!strstr(error.message, sentence)) fail_msg("\"%s\" lacks \"%s\"", error.message, sentence);
    assert_int_equal(gm_tokenizer_create(&mem, &v->input, &t, NULL), GEMMA_E_FORMAT);
    assert_int_equal(fault_live_blocks(), 0);
}

static void test_hostile_merges(void **state)
{
    (void)state;
    static const struct {
        const char *merge, *sentence;
    } cases[] = {
        { "", "merge 3 is not two" },        { " ", "merge 3 is not two" },    { "a", "merge 3 is not two" },
        { "a ", "merge 3 is not two" },      { " a", "merge 3 is not two" },   { "ab", "merge 3 is not two" },
        { "a b c", "merge 3 is not two" },   { "  ", "merge 3 is not two" },   { "z a", "merge 3: its left part" },
        { "a z", "merge 3: its right" },     { "a c", "merge 3: its result" }, { "a \xff", "merge 3: its right" },
        { "a [PAD]", "merge 3: its right" },
    };
    small_vocab v;
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        small_init(&v, true);
        v.merges[3] = cases[i].merge;
        v.n_merges[3] = strlen(cases[i].merge);
        expect_format(&v, cases[i].sentence);
    }
    static char huge[70000];
    memset(huge, 'a', sizeof huge);
    small_init(&v, true);
    v.merges[3] = huge;
    v.n_merges[3] = sizeof huge;
    expect_format(&v, "merge 3 is not two");
    small_init(&v, true);
    v.fail_merge = 3;
    expect_format(&v, "merge 3 cannot be read");
    small_init(&v, true);
    v.input.n_merges = UINT32_MAX;
    expect_format(&v, "4294967295 merges");
    /* The same pair twice counts once; a merge with a control token is never met. */
    small_init(&v, true);
    v.merges[v.input.n_merges] = "b c";
    v.n_merges[v.input.n_merges++] = 3;
    v.types[slow_find(&v, "aaaa", 4)] = GM_TOKEN_CONTROL;
    gm_tokenizer *t = make(&v);
    assert_int_equal(encode_one(t, "bc", 0), slow_find(&v, "bc", 2));
    assert_int_equal(encode_one(t, "aaaa", 0), -1);
    gm_tokenizer_destroy(t);
}

static void test_hostile_tokens(void **state)
{
    (void)state;
    small_vocab v;
    static char huge[70000];
    memset(huge, 'a', sizeof huge);
    for (int bpe = 0; bpe < 2; bpe++) {
        small_init(&v, bpe);
        v.input.n_tokens = 0;
        expect_format(&v, "a vocabulary of 0 tokens");
        v.input.n_tokens = (1 << 24) + 1;
        expect_format(&v, "a vocabulary of 16777217 tokens");
        small_init(&v, bpe);
        v.fail_token = 7;
        expect_format(&v, "token 7 cannot be read");
        small_init(&v, bpe);
        v.texts[270] = huge;
        v.n_texts[270] = sizeof huge;
        expect_format(&v, "token 270 has 70000 bytes");
        v.types[270] = GM_TOKEN_CONTROL;
        v.n_texts[270] = 256;
        expect_format(&v, "token 270: a control");
        small_init(&v, bpe);
        v.types[9] = 0;
        expect_format(&v, "token 9 has type 0");
        v.types[9] = 7;
        expect_format(&v, "token 9 has type 7");
        v.types[9] = INT32_MIN;
        expect_format(&v, "token 9 has type -2147483648");
        small_init(&v, bpe);
        v.types[20] = GM_TOKEN_NORMAL;
        expect_format(&v, "no token stands for the byte 0x7");
        v.texts[20] = "<0xG0>";
        v.types[20] = GM_TOKEN_BYTE;
        expect_format(&v, "token 20 is a byte");
        int32_t *const special[] = { &v.input.bos, &v.input.eos, &v.input.unknown, &v.input.padding };
        static const char *const names[] = { "the bos", "the eos", "the unknown", "the padding" };
        for (size_t i = 0; i < GM_COUNT(special); i++) {
            small_init(&v, bpe);
            *special[i] = (int32_t)v.input.n_tokens;
            expect_format(&v, names[i]);
            *special[i] = -2;
            expect_format(&v, names[i]);
        }
    }
    small_init(&v, false);
    v.scores[11] = gm_f32_from_bits(0x7fc00000);
    expect_format(&v, "the score of token 11");
    small_init(&v, false);
    v.input.scores = NULL;
    expect_format(&v, "no scores");
}

/* ---- arguments and memory ---- */
static void test_arguments(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, true);
    gm_tokenizer *t = make(&v);
    int32_t ids[4];
    size_t n = 9;
    char text[4];
    assert_int_equal(gm_tokenizer_encode(t, "a", 1, 6, ids, 4, &n), GEMMA_E_ARG);
    assert_int_equal(n, 0);
    assert_int_equal(gm_tokenizer_encode(t, "a", 1, 16, ids, 4, &n), GEMMA_E_ARG);
    assert_int_equal(gm_tokenizer_encode(t, "a", 1, 0, ids, 4, NULL), GEMMA_E_ARG);
    assert_int_equal(gm_tokenizer_encode(t, NULL, 1, 0, ids, 4, &n), GEMMA_E_ARG);
    assert_int_equal(gm_tokenizer_encode(t, "a", 1, 0, NULL, 4, &n), GEMMA_E_ARG);
    assert_int_equal(gm_tokenizer_encode(t, "a", SIZE_MAX, 0, ids, 4, &n), GEMMA_E_ARG);
    assert_int_equal(gm_tokenizer_encode(t, NULL, 0, 0, NULL, 0, &n), GEMMA_OK);
    assert_int_equal(n, 0);
    assert_int_equal(gm_tokenizer_decode(t, ids, 1, 2, text, 4, &n), GEMMA_E_ARG);
    assert_int_equal(gm_tokenizer_decode(t, NULL, 1, 0, text, 4, &n), GEMMA_E_ARG);
    assert_int_equal(gm_tokenizer_decode(t, ids, 1, 0, text, 4, NULL), GEMMA_E_ARG);
    assert_int_equal(gm_tokenizer_decode(t, NULL, 0, 0, NULL, 0, &n), GEMMA_OK);
    ids[0] = -1;
    assert_int_equal(gm_tokenizer_decode(t, ids, 1, 0, text, 4, &n), GEMMA_E_TOKEN);
    ids[0] = (int32_t)v.input.n_tokens;
    assert_int_equal(gm_tokenizer_decode(t, ids, 1, 0, text, 4, &n), GEMMA_E_TOKEN);
    assert_int_equal(gm_tokenizer_piece(t, ids[0], true, text, 4), 0);
    gm_tokenizer_destroy(t);
    gm_tokenizer_destroy(NULL);
}

static void test_no_memory(void **state)
{
    (void)state;
    small_vocab v;
    char text[400];
    memset(text, 'a', sizeof text);
    memcpy(text + 10, SMALL_SPACE, 3);
    int32_t ids[500];
    for (int bpe = 0; bpe < 2; bpe++) {
        small_init(&v, bpe);
        gm_tokenizer *t = NULL;
        int rc = GEMMA_E_NOMEM;
        uint64_t nth;
        for (nth = 1; rc == GEMMA_E_NOMEM; nth++) {
            gemma_error error = { .size = sizeof error };
            fault_fail_nth(nth);
            rc = gm_tokenizer_create(&mem, &v.input, &t, &error);
            assert_true((rc == GEMMA_OK) == (t != NULL));
            if (rc) assert_true(rc == GEMMA_E_NOMEM && error.message[0] && fault_live_blocks() == 0);
        }
        assert_true(nth > 8);
        uint64_t n_blocks = fault_live_blocks();
        size_t n;
        rc = GEMMA_E_NOMEM;
        for (nth = 1; rc == GEMMA_E_NOMEM; nth++) {
            fault_fail_nth(nth);
            rc = gm_tokenizer_encode(t, text, sizeof text, 0, ids, GM_COUNT(ids), &n);
            assert_true(rc == GEMMA_OK ? n > 0 : n == 0);
            assert_int_equal(fault_live_blocks(), n_blocks);
        }
        assert_int_equal(rc, GEMMA_OK);
        assert_int_equal(nth, 5); /* the copy, symbols, heap, and the time that none failed */
        fault_fail_nth(1);
        assert_int_equal(gm_tokenizer_encode(t, "abcabc abc", 10, 0, ids, GM_COUNT(ids), &n), GEMMA_OK);
        assert_false(fault_fired()); /* short parts take no memory */
        fault_fail_nth(0);
        gm_tokenizer_destroy(t);
    }
}

static int setup(void **state)
{
    (void)state;
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fault_live_blocks() || fault_mismatches() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_slow_bpe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_spm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vocabulary, setup, teardown),
        cmocka_unit_test_setup_teardown(test_space_prefix, setup, teardown),
        cmocka_unit_test_setup_teardown(test_odd_vocabulary, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_merges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };
    return cmocka_run_group_tests_name("tokenizer_rules", tests, NULL, NULL);
}
