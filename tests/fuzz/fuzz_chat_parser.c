/* Byte 0: bit 0 the family, bit 1 begins in a thought; byte 1: where to cut. The rest is what a model wrote: the parts
 * are the same whatever the cuts, and no marker is among thoughts and answers, by text or by ids. */
#include "../unit/chat_small.h"
#include "chat/chat.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { CALL_BYTES = 512, KINDS = 5 };

/* The text of each kind of part, one after the other; calls with their names. */
typedef struct sums {
    char *text[KINDS];
    size_t n[KINDS], cap;
} sums;

static void sums_add(sums *s, uint32_t kind, const char *text, size_t n)
{
    REQUIRE(kind < KINDS && s->n[kind] + n <= s->cap);
    memcpy(s->text[kind] + s->n[kind], text, n);
    s->n[kind] += n;
}

static void drain(gm_parser *p, sums *s)
{
    gemma_part part = { .size = sizeof part };
    while (gm_parser_next(p, &part)) {
        REQUIRE(gm_utf8_check(part.text, part.n_bytes) == part.n_bytes);
        REQUIRE((part.error != GEMMA_OK) == (part.kind == GEMMA_PART_BROKEN));
        if (part.kind == GEMMA_PART_CALL) sums_add(s, part.kind, part.name, strlen(part.name));
        sums_add(s, part.kind, part.text, part.n_bytes);
    }
}

static void finish(gm_parser *p, sums *s)
{
    REQUIRE(!gm_parser_finish(p));
    drain(p, s);
    REQUIRE(gm_parser_ended(p));
}

static void check_no_marker(const small_vocab *v, const sums *s)
{
    for (uint32_t kind = GEMMA_PART_ANSWER; kind <= GEMMA_PART_THOUGHT; kind++) {
        for (uint32_t id = 0; id < v->input.n_tokens; id++) {
            bool hidden = v->types[id] == GM_TOKEN_CONTROL || v->types[id] == GM_TOKEN_UNKNOWN;
            for (size_t at = 0; hidden && at + v->n_texts[id] <= s->n[kind]; at++)
                REQUIRE(memcmp(s->text[kind] + at, v->texts[id], v->n_texts[id]));
        }
    }
}

static void sums_begin(sums *s, size_t n)
{
    s->cap = 8 * n + 8 * CALL_BYTES;
    for (int i = 0; i < KINDS; i++) {
        s->n[i] = 0;
        s->text[i] = malloc(s->cap);
        REQUIRE(s->text[i]);
    }
}

static void sums_end(sums *s)
{
    for (int i = 0; i < KINDS; i++) free(s->text[i]);
}

static void check(const small_vocab *v, const gm_tokenizer *t, gm_parser *p, bool in_thought, size_t cut,
                  const char *text, size_t n)
{
    sums whole, pieces, by_ids;
    sums_begin(&whole, n);
    sums_begin(&pieces, n);
    sums_begin(&by_ids, n);
    gm_parser_reset(p, in_thought);
    REQUIRE(!gm_parser_push_text(p, text, n));
    drain(p, &whole);
    finish(p, &whole);
    check_no_marker(v, &whole);

    gm_parser_reset(p, in_thought);
    for (size_t at = 0; at < n; at += cut) {
        REQUIRE(!gm_parser_push_text(p, text + at, n - at < cut ? n - at : cut));
        drain(p, &pieces);
    }
    finish(p, &pieces);
    for (int i = 0; i < KINDS; i++)
        REQUIRE(pieces.n[i] == whole.n[i] && !memcmp(pieces.text[i], whole.text[i], whole.n[i]));

    size_t n_ids;
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    REQUIRE(ids && !gm_tokenizer_encode(t, text, n, GEMMA_TOKENIZE_SPECIAL, ids, n + 1, &n_ids));
    gm_parser_reset(p, in_thought);
    for (size_t i = 0; i < n_ids; i++) {
        REQUIRE(!gm_parser_push(p, ids[i]));
        drain(p, &by_ids);
    }
    finish(p, &by_ids);
    check_no_marker(v, &by_ids);
    free(ids);
    sums_end(&whole);
    sums_end(&pieces);
    sums_end(&by_ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static small_vocab v;
    if (n < 2) return 0;
    gm_mem mem;
    gm_tokenizer *t;
    gm_parser *p;
    gm_mem_init(&mem, NULL);
    chat_small_init(&v, data[0] & 1);
    REQUIRE(!gm_tokenizer_create(&mem, &v.input, &t, NULL) && !gm_parser_create(&mem, t, CALL_BYTES, &p, NULL));
    check(&v, t, p, data[0] & 2, (size_t)data[1] % 32 + 1, (const char *)data + 2, n - 2);
    gm_parser_destroy(p);
    gm_tokenizer_destroy(t);
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++) REQUIRE(gm_mem_live(&mem, tag) == 0);
    return 0;
}
