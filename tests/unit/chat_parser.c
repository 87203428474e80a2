/* What the model writes, cut at every byte and at every token. */
#include "chat/chat.h"
#include "unit/chat_small.h"

#include "support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { RESULT_MAX = 1 << 16, LIMIT = 4096 };
static gm_mem mem;
static small_vocab vocab;
static gm_tokenizer *tokenizer;
static gm_parser *parser;

/* An output taken apart: "T(…)" thoughts, "A(…)" answers, "C(name …)" calls, "B" broken ones; equal neighbours joined. */
typedef struct result {
    char text[RESULT_MAX], answer[RESULT_MAX], thought[RESULT_MAX];
    size_t n, n_answer, n_thought;
    uint32_t kind;
} result;

static void append(char *to, size_t *n, const char *text, size_t n_text)
{
    assert_true(*n + n_text < RESULT_MAX);
    memcpy(to + *n, text, n_text);
    *n += n_text;
    to[*n] = '\0';
}

static void close_part(result *r)
{
    if (r->kind) append(r->text, &r->n, ")", 1);
    r->kind = 0;
}

static void drain(gm_parser *p, result *r)
{
    gemma_part part = { .size = sizeof part };
    while (gm_parser_next(p, &part)) {
        assert_int_equal(gm_utf8_check(part.text, part.n_bytes), part.n_bytes);
        bool text = part.kind == GEMMA_PART_ANSWER || part.kind == GEMMA_PART_THOUGHT;
        if (part.kind != r->kind || !text) {
            close_part(r);
            append(r->text, &r->n, &"?ATCB"[part.kind], 1);
            append(r->text, &r->n, "(", 1);
            r->kind = part.kind;
        }
        if (part.kind == GEMMA_PART_CALL) {
            append(r->text, &r->n, part.name, strlen(part.name));
            append(r->text, &r->n, " ", 1);
        }
        append(r->text, &r->n, part.text, part.n_bytes);
        assert_int_equal(part.error != GEMMA_OK, part.kind == GEMMA_PART_BROKEN);
        if (part.kind == GEMMA_PART_ANSWER) append(r->answer, &r->n_answer, part.text, part.n_bytes);
        if (part.kind == GEMMA_PART_THOUGHT) append(r->thought, &r->n_thought, part.text, part.n_bytes);
        if (!text) close_part(r);
    }
}

static void begin(gm_parser *p, result *r)
{
    r->n = r->n_answer = r->n_thought = 0;
    r->text[0] = r->answer[0] = r->thought[0] = '\0';
    r->kind = 0;
    gm_parser_reset(p, false);
}

static void end(gm_parser *p, result *r)
{
    assert_int_equal(gm_parser_finish(p), GEMMA_OK);
    drain(p, r);
    close_part(r);
    assert_true(gm_parser_ended(p));
}

static void push_text(gm_parser *p, result *r, const char *text, size_t n)
{
    /* In a block of its own size, so that a sanitizer sees a read past the end. */
    char *copy = malloc(n ? n : 1);
    memcpy(copy, text, n);
    assert_int_equal(gm_parser_push_text(p, copy, n), GEMMA_OK);
    drain(p, r);
    free(copy);
}

static void parse_text(gm_parser *p, const char *text, size_t n, size_t piece, result *r)
{
    begin(p, r);
    for (size_t at = 0; at < n; at += piece) push_text(p, r, text + at, n - at < piece ? n - at : piece);
    end(p, r);
}

static void parse_ids(gm_parser *p, const char *text, size_t n, result *r)
{
    size_t n_ids;
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    assert_int_equal(gm_tokenizer_encode(tokenizer, text, n, GEMMA_TOKENIZE_SPECIAL, ids, n + 1, &n_ids), GEMMA_OK);
    begin(p, r);
    for (size_t i = 0; i < n_ids; i++) {
        assert_int_equal(gm_parser_push(p, ids[i]), GEMMA_OK);
        drain(p, r);
    }
    end(p, r);
    free(ids);
}

/* ---- outputs with a known result ---- */

#define Q "<|\"|>"

static const struct {
    const char *text, *result;
} known[] = {
    { "", "" },
    { "Hi.", "A(Hi.)" },
    { " Hi.\n<turn|>", "A( Hi.\n)" },
    { "Hi.<turn|>\n<|turn>user\nmore", "A(Hi.)" },
    { "Hi.<eos>x", "A(Hi.)" },
    { "<|channel>thought\nhm\nhm\n<channel|>Hi.<turn|>", "T(hm\nhm)A(Hi.)" },
    { "<|channel>thought\n\n\nhm\n\n<channel|>Hi.", "T(\n\nhm\n)A(Hi.)" },
    { "<|channel>thought\n<channel|>Hi.", "A(Hi.)" },
    { "<|channel><channel|>Hi.", "A(Hi.)" },
    { "<|channel>thought<channel|>Hi.", "A(Hi.)" },
    { "<|channel>final\nx\n<channel|>Hi.", "T(x)A(Hi.)" },
    { "<channel|>Hi.", "A(Hi.)" },
    { "Hi.<channel|> So.", "A(Hi. So.)" },
    { "a<|think|>b<bos>c" Q "d<tool_call|>e<tool_response|>f<|tool>g<tool|>h<|image|>i<unk>j<pad>k", "A(abcdefghijk)" },
    { "<|channel>thought\nunclosed", "T(unclosed)" },
    { "<|channel>thought\nunclosed\n<turn|>", "T(unclosed)" },
    { "<|channel>thought\na\n<|channel>thought\nb\n<channel|>c", "T(ab)A(c)" },
    { "<|turn>model\nHi.<turn|>", "A(Hi.)" },
    { "Hi.<|turn>user\nMe.", "A(Hi.)" },
    { "Hi.<|turn>", "A(Hi.)" },
    { "<|tool_call>call:f{}<tool_call|><|tool_response>response:f{}", "C(f {})" },
    { "<|tool_call>call:get_weather{city:" Q "Paris" Q ",days:2,f:1.50,l:[" Q "a" Q ",1],m:{k:" Q "v" Q
      "},ok:true,x:null}<tool_call|><|tool_response>",
      "C(get_weather "
      "{\"city\":\"Paris\",\"days\":2,\"f\":1.50,\"l\":[\"a\",1],\"m\":{\"k\":\"v\"},\"ok\":true,\"x\":null})" },
    { "<|tool_call>call:f{s:" Q "a}b{\"c\",d:]\\\n\x01" Q "}<tool_call|>",
      "C(f {\"s\":\"a}b{\\\"c\\\",d:]\\\\\\n\\u0001\"})" },
    { "<|tool_call>call:f{a:1}<tool_call|><|tool_call>call:g{b:[]}<tool_call|>", "C(f {\"a\":1})C(g {\"b\":[]})" },
    { "So:\n<|tool_call>call:f{}<tool_call|>then", "A(So:\n)C(f {})A(then)" },
    { "<|channel>thought\nhm\n<channel|><|tool_call>call:f{}<tool_call|><|tool_response>", "T(hm)C(f {})" },
    { "<|tool_call> call:f { a : 1 , b : " Q "x" Q " } <tool_call|>", "C(f {\"a\":1,\"b\":\"x\"})" },
    { "<|tool_call>f{a:True,b:None,c:word here,d:\"q\\n\"," Q "e" Q ":1}<tool_call|>",
      "C(f {\"a\":true,\"b\":null,\"c\":\"word here\",\"d\":\"q\\n\",\"e\":1})" },
    { "<|tool_call>call:now<tool_call|>", "C(now {})" },
    { "<|tool_call>call:f{a:1,}<tool_call|>", "C(f {\"a\":1})" },
    { "<|tool_call>call:f{}}<tool_call|>", "C(f {})" },
    { "<|tool_call>call:f{a:1}", "C(f {\"a\":1})" },
    { "<|tool_call>call:f{a:1", "B(call:f{a:1)" },
    { "<|tool_call>call:f{a:" Q "x<tool_call|>y", "B(call:f{a:x)A(y)" },
    { "<|tool_call>call:f{a:" Q "x<turn|>", "B(call:f{a:x)" },
    { "<|tool_call>call:f{a:1<|tool_call>call:g{}<tool_call|>", "B(call:f{a:1)C(g {})" },
    { "<|tool_call>{}<tool_call|>", "B({})" },
    { "<|tool_call><tool_call|>", "B()" },
    { "<|tool_call>call:f{a}<tool_call|>", "B(call:f{a})" },
    { "<|tool_call>call:f{a:1}x<tool_call|>", "B(call:f{a:1}x)" },
    { "<|tool_call>call:f{a:\"\\x\"}<tool_call|>", "B(call:f{a:\"\\x\"})" },
    { "1 < 2 <| 3 <turn", "A(1 < 2 <| 3 )" },
    { "a <", "A(a <)" },
    { "<<|channel>thought\nx\n<channel|>|turn>y", "T(x)A(y)" }, /* nothing is put together around a thought */
    { "<|tur<|think|>n>y", "A(y)" },
    { "a\xff"
      "b\xe2\x82",
      "A(a\xef\xbf\xbd"
      "b\xef\xbf\xbd)" },
    { "\xe2\x82<turn|>", "A(\xef\xbf\xbd)" },
};

static void known_outputs(void **state)
{
    static result r;
    (void)state;
    for (size_t i = 0; i < GM_COUNT(known); i++) {
        size_t n = strlen(known[i].text);
        parse_text(parser, known[i].text, n, n ? n : 1, &r);
        if (strcmp(r.text, known[i].result)) fail_msg("%s: %s, not %s", known[i].text, r.text, known[i].result);
    }
}

/* ---- outputs of all kinds, cut everywhere ---- */

static uint64_t seed = 11;
static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static size_t make_output(char *text, size_t cap)
{
    static const char *const pieces[] = {
        "Hello",
        " ",
        "\n",
        "\n\n",
        "a < b",
        "<",
        "<|",
        "é",
        "日本",
        "\xf0\x9f\x98\x80",
        "\xff",
        "\xe2\x82",
        "{",
        "}",
        "<|channel>",
        "<|channel>thought\n",
        "thought\n",
        "<channel|>",
        "\n<channel|>",
        "<|tool_call>",
        "<|tool_call>call:f{",
        "call:f{a:1}",
        "<tool_call|>",
        Q,
        "a:" Q "x}" Q,
        ",",
        ":",
        "[1,2]",
        "<|think|>",
        "<bos>",
        "<|turn>",
        "<|turn>model\n",
        "<|tool>",
        "<tool|>",
        "<tool_response|>",
        "<|image|>",
        "<|tur",
        "n>",
        "nel>",
        "<|chan",
        "<unk>",
        "\"q\"",
        "\\",
        "1.5e3",
        "<turn|>",
        "<eos>",
        "<|tool_response>",
    };
    size_t n = 0;
    for (uint32_t left = 1 + draw(16); left; left--) {
        const char *piece = pieces[draw(left > 2 ? GM_COUNT(pieces) - 3 : GM_COUNT(pieces))]; /* ends come late */
        size_t length = strlen(piece);
        if (n + length > cap) break;
        memcpy(text + n, piece, length);
        n += length;
    }
    return n;
}

static void check_no_marker(const char *text)
{
    static const char *const own[] = { "<pad>", "<eos>", "<bos>", "<unk>", "<turn|>", Q };
    for (size_t i = 0; i < GM_COUNT(own); i++) assert_null(strstr(text, own[i]));
    for (size_t i = 0; i < GM_COUNT(chat_markers_gemma4); i++) assert_null(strstr(text, chat_markers_gemma4[i]));
}

static void check_cuts(const char *text, size_t n)
{
    static result whole, cut;
    parse_text(parser, text, n, n ? n : 1, &whole);
    check_no_marker(whole.answer);
    check_no_marker(whole.thought);
    for (size_t at = 1; at < n; at++) {
        begin(parser, &cut);
        push_text(parser, &cut, text, at);
        push_text(parser, &cut, text + at, n - at);
        end(parser, &cut);
        assert_string_equal(cut.text, whole.text);
    }
    for (size_t piece = 1; piece <= 3; piece++) {
        parse_text(parser, text, n, piece, &cut);
        assert_string_equal(cut.text, whole.text);
    }
    for (size_t at = 0; at <= n; at++) { /* broken off */
        parse_text(parser, text, at, 7, &cut);
        check_no_marker(cut.answer);
        check_no_marker(cut.thought);
    }
    parse_ids(parser, text, n, &cut);
    check_no_marker(cut.answer);
    check_no_marker(cut.thought);
}

static void cut_everywhere(void **state)
{
    char text[512];
    (void)state;
    for (size_t i = 0; i < GM_COUNT(known); i++) check_cuts(known[i].text, strlen(known[i].text));
    for (int i = 0; i < 400; i++) check_cuts(text, make_output(text, sizeof text));
}

/* ---- outputs put together from parts whose results are known ---- */

typedef struct made {
    const char *text, *result;
} made;

static const made made_thoughts[] = {
    { "", "" },
    { "<channel|>", "" },
    { "<|channel>thought\n<channel|>", "" },
    { "<|channel>thought\nhm\n<channel|>", "T(hm)" },
    { "<|channel>thought\na {b} <| \xc3\xa9 \"call:f{}\"\n\nc\n<channel|>", "T(a {b} <| \xc3\xa9 \"call:f{}\"\n\nc)" },
    { "<|channel>final\n<bos>\xf0\x9f\x98\x80<tool|>x<channel|><channel|>", "T(\xf0\x9f\x98\x80x)" },
};
static const made made_answers[] = {
    { "", "" },
    { "Hi.", "A(Hi.)" },
    { " \xe6\x97\xa5\xe6\x9c\xac < \xf0\x9f\x98\x80\n", "A( \xe6\x97\xa5\xe6\x9c\xac < \xf0\x9f\x98\x80\n)" },
    { "```c\nif (a <b|| c|>d) {}\n```", "A(```c\nif (a <b|| c|>d) {}\n```)" },
    { "{\"k\":\"<|\\\"|>\"}", "A({\"k\":\"<|\\\"|>\"})" },
    { "a<|think|>b<tool_response|>c" Q "d<unk>", "A(abcd)" },
    { "x\xffy\xc0z", "A(x\xef\xbf\xbdy\xef\xbf\xbdz)" },
};
static const made made_calls[] = {
    { "", "" },
    { "<|tool_call>call:f{}<tool_call|>", "C(f {})" },
    { "<|tool_call>call:get{a:[1,{b:" Q "x}y{\"" Q "}],c:" Q "\xc3\xa9\\" Q ",d:-1.50e3}<tool_call|>",
      "C(get {\"a\":[1,{\"b\":\"x}y{\\\"\"}],\"c\":\"\xc3\xa9\\\\\",\"d\":-1.50e3})" },
    { "<|tool_call>call:f{a:1}<tool_call|><|tool_call>call:g{b:" Q Q "}<tool_call|>",
      "C(f {\"a\":1})C(g {\"b\":\"\"})" },
    { "<|tool_call>call:f{a:[1<tool_call|>", "B(call:f{a:[1)" },
    { "<|tool_call>call:f{a:" Q "<tool_call|>", "B(call:f{a:)" },
};
static const char *const made_ends[] = { "", "<turn|>\n<|turn>user\nx", "<eos>x<|tool_call>call:f{}<tool_call|>",
                                         "<|tool_response>response:f{}", "<|turn>user\n" };
_Static_assert(GM_COUNT(made_thoughts) * GM_COUNT(made_answers) * GM_COUNT(made_calls) * GM_COUNT(made_ends) >= 1000,
               "outputs put together");

/* The i-th of them; false behind the last. */
static bool put_together(size_t i, char *text, char *want, size_t cap)
{
    const made *t = &made_thoughts[i % GM_COUNT(made_thoughts)];
    i /= GM_COUNT(made_thoughts);
    const made *a = &made_answers[i % GM_COUNT(made_answers)];
    i /= GM_COUNT(made_answers);
    const made *c = &made_calls[i % GM_COUNT(made_calls)];
    i /= GM_COUNT(made_calls);
    if (i >= GM_COUNT(made_ends)) return false;
    gm_text_format(text, cap, "%s%s%s%s", t->text, a->text, c->text, made_ends[i]);
    gm_text_format(want, cap, "%s%s%s", t->result, a->result, c->result);
    return true;
}

static void parts_cut_everywhere(void **state)
{
    static result r;
    char text[512], want[512];
    (void)state;
    for (size_t i = 0; put_together(i, text, want, sizeof text); i++) {
        size_t n = strlen(text);
        parse_text(parser, text, n, n ? n : 1, &r);
        if (strcmp(r.text, want)) fail_msg("%s: %s, not %s", text, r.text, want);
        check_cuts(text, n);
    }
}

/* Ids give what their text gives. */
static void ids_as_text(void **state)
{
    static result a, b;
    (void)state;
    for (size_t i = 0; i < GM_COUNT(known); i++) {
        size_t n = strlen(known[i].text);
        parse_ids(parser, known[i].text, n, &b);
        parse_text(parser, known[i].text, n, 1, &a);
        assert_string_equal(a.text, b.text);
    }
}

/* By ids a quoted string may hold the text of a marker. */
static void marker_text_in_a_call(void **state)
{
    static result r;
    static const char *const pieces[] = { "<|tool_call>", "call:f{a:", Q, ("<tool_call|>" Q), Q, "}", "<tool_call|>" };
    (void)state;
    begin(parser, &r);
    for (size_t i = 0; i < GM_COUNT(pieces); i++) {
        int32_t ids[64];
        size_t n;
        uint32_t flags = i == 3 ? GEMMA_TOKENIZE_UNTRUSTED : GEMMA_TOKENIZE_SPECIAL;
        assert_int_equal(gm_tokenizer_encode(tokenizer, pieces[i], strlen(pieces[i]), flags, ids, 64, &n), GEMMA_OK);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(gm_parser_push(parser, ids[k]), GEMMA_OK);
            drain(parser, &r);
        }
    }
    end(parser, &r);
    assert_string_equal(r.text, "C(f {\"a\":\"<tool_call|><|\\\"|>\"})");
}

/* ---- limits and states ---- */

static void long_parts(void **state)
{
    static result r;
    static char text[3 * LIMIT + 100];
    (void)state;
    memset(text, 'x', sizeof text);
    parse_text(parser, text, sizeof text, sizeof text, &r);
    assert_int_equal(r.n_answer, sizeof text);
    memcpy(text, "<|tool_call>", 12);
    parse_text(parser, text, sizeof text, 100, &r);
    assert_int_equal(r.text[0], 'B');
    assert_true(r.n <= LIMIT + 3);
    memcpy(text, "<|channel>", 10); /* a name that is none */
    parse_text(parser, text, sizeof text, 1, &r);
    assert_int_equal(r.n_thought, sizeof text - 10);
    char deep[12 + 7 + 300];
    memcpy(deep, "<|tool_call>call:f{", 19);
    memset(deep + 19, '[', 300);
    parse_text(parser, deep, sizeof deep, sizeof deep, &r);
    assert_int_equal(r.text[0], 'B');
    gemma_part part = { .size = sizeof part };
    gm_parser_reset(parser, false);
    static const char call[] = "<|tool_call>call:f{}";
    assert_int_equal(gm_parser_push_text(parser, text, 200), GEMMA_OK);
    assert_int_equal(gm_parser_push_text(parser, text, 200), GEMMA_E_STATE); /* unread */
    assert_int_equal(gm_parser_push(parser, 5), GEMMA_E_STATE);
    gm_parser_reset(parser, true);
    assert_int_equal(gm_parser_push_text(parser, "hm\n<channel|>", 13), GEMMA_OK);
    assert_true(gm_parser_next(parser, &part));
    assert_int_equal(part.kind, GEMMA_PART_THOUGHT);
    assert_int_equal(part.n_bytes, 2);
    assert_false(gm_parser_next(parser, &part));
    assert_false(gm_parser_ended(parser));
    assert_int_equal(gm_parser_push_text(parser, call, sizeof call - 1), GEMMA_OK);
    assert_false(gm_parser_next(parser, &part));
    assert_int_equal(gm_parser_finish(parser), GEMMA_OK);
    assert_true(gm_parser_next(parser, &part));
    assert_int_equal(part.kind, GEMMA_PART_CALL);
    assert_string_equal(part.name, "f");
    gm_parser *p;
    assert_int_equal(gm_parser_create(&mem, tokenizer, UINT32_MAX, &p, NULL), GEMMA_E_ARG);
}

static void nothing_is_allocated(void **state)
{
    static result r;
    gemma_host host;
    gm_mem m;
    gm_tokenizer *t;
    gm_parser *p;
    (void)state;
    fault_host_init(&host);
    gm_mem_init(&m, &host);
    assert_int_equal(gm_tokenizer_create(&m, &vocab.input, &t, NULL), GEMMA_OK);
    assert_int_equal(gm_parser_create(&m, t, LIMIT, &p, NULL), GEMMA_OK);
    uint64_t n = fault_allocations();
    for (size_t i = 0; i < GM_COUNT(known); i++) parse_text(p, known[i].text, strlen(known[i].text), 3, &r);
    assert_int_equal(fault_allocations(), n);
    gm_parser_destroy(p);
    gm_tokenizer_destroy(t);
    assert_int_equal(fault_live_blocks(), 0);
}

static void gemma3(void **state)
{
    static result r;
    static small_vocab v;
    gm_tokenizer *t;
    gm_parser *p;
    (void)state;
    chat_small_init(&v, false);
    assert_int_equal(gm_tokenizer_create(&mem, &v.input, &t, NULL), GEMMA_OK);
    assert_int_equal(gm_parser_create(&mem, t, 0, &p, NULL), GEMMA_OK);
    static const char text[] = "<|channel> is text<start_of_image> here<end_of_turn>\nmore";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        parse_text(p, text, sizeof text - 1, piece, &r);
        assert_string_equal(r.text, "A(<|channel> is text here)");
    }
    gm_parser_destroy(p);
    gm_tokenizer_destroy(t);
}

static int open_parser(void **state)
{
    (void)state;
    gm_mem_init(&mem, NULL);
    chat_small_init(&vocab, true);
    if (gm_tokenizer_create(&mem, &vocab.input, &tokenizer, NULL)) return -1;
    return gm_parser_create(&mem, tokenizer, LIMIT, &parser, NULL);
}

static int close_parser(void **state)
{
    (void)state;
    gm_parser_destroy(parser);
    gm_tokenizer_destroy(tokenizer);
    return gm_mem_live(&mem, GEMMA_TAG_OBJECT) || gm_mem_live(&mem, GEMMA_TAG_VOCAB) ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_outputs),         cmocka_unit_test(cut_everywhere),
        cmocka_unit_test(parts_cut_everywhere),  cmocka_unit_test(ids_as_text),
        cmocka_unit_test(marker_text_in_a_call), cmocka_unit_test(long_parts),
        cmocka_unit_test(nothing_is_allocated),  cmocka_unit_test(gemma3),
    };
    return cmocka_run_group_tests(tests, open_parser, close_parser);
}
