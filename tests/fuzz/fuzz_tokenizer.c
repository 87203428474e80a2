/* Byte 0: bit 0 the kind of vocabulary, bit 1 where it is from, bits 2 … 5 the flags. The rest is text for the built-in
 * vocabulary; or, when the input builds the vocabulary itself, tokens and merges (each a length byte and its bytes, the
 * lengths' top bits choosing a type or a merge) up to a zero length, and then text. What comes out must fit together. */
#include "../unit/tokenizer_small.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Adds what the input describes; returns the rest of it. The strings stay in the input. */
static const uint8_t *read_vocabulary(small_vocab *v, const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        uint8_t head = *at++;
        size_t n = head & 31;
        if (n > (size_t)(end - at)) n = (size_t)(end - at);
        if (head == 0) break;
        int32_t type = head >> 5; /* 0: a merge */
        if (type == 0 && v->input.n_merges < SMALL_MERGES_MAX) {
            v->merges[v->input.n_merges] = (const char *)at;
            v->n_merges[v->input.n_merges++] = n;
        } else if (v->input.n_tokens < SMALL_TOKENS_MAX) {
            uint32_t id = v->input.n_tokens++;
            v->texts[id] = (const char *)at;
            v->n_texts[id] = n;
            v->types[id] = type;
            v->scores[id] = n ? (float)(int8_t)at[0] : 0;
        }
        at += n;
    }
    return at;
}

static void check_text(const gm_tokenizer *t, const char *text, size_t n_text, uint32_t flags)
{
    size_t n_room = n_text + 2, n_ids, n_again, n_bytes;
    int32_t *ids = malloc(n_room * sizeof *ids);
    REQUIRE(ids);
    int rc = gm_tokenizer_encode(t, text, n_text, flags, ids, n_room, &n_ids);
    if (rc == GEMMA_E_ARG || rc == GEMMA_E_UTF8) {
        REQUIRE(rc != GEMMA_E_UTF8 || (flags & GEMMA_TOKENIZE_STRICT && n_ids < n_text));
        free(ids);
        return;
    }
    REQUIRE(rc == GEMMA_OK && n_ids <= n_room);
    rc = gm_tokenizer_encode(t, text, n_text, flags, NULL, 0, &n_again);
    REQUIRE(rc == (n_ids ? GEMMA_E_SMALL : GEMMA_OK) && n_again == n_ids);
    for (size_t i = 0; i < n_ids; i++) {
        uint32_t type = gm_tokenizer_token_type(t, ids[i]);
        REQUIRE(type >= GM_TOKEN_NORMAL && type <= GM_TOKEN_BYTE && type != GM_TOKEN_UNUSED);
        bool bos = i == 0 && flags & GEMMA_TOKENIZE_BOS && ids[0] == gm_tokenizer_bos(t);
        if ((type == GM_TOKEN_CONTROL || type == GM_TOKEN_UNKNOWN) && !bos) REQUIRE(flags & GEMMA_TOKENIZE_SPECIAL);
    }

    bool skip = n_ids > 0 && flags & GEMMA_TOKENIZE_BOS; /* perhaps not in the text */
    rc = gm_tokenizer_decode(t, ids + skip, n_ids - skip, GEMMA_DETOKENIZE_SPECIAL, NULL, 0, &n_bytes);
    REQUIRE(rc == (n_bytes ? GEMMA_E_SMALL : GEMMA_OK) && n_bytes <= n_text);
    char *whole = malloc(n_bytes + 1);
    REQUIRE(whole);
    rc = gm_tokenizer_decode(t, ids + skip, n_ids - skip, GEMMA_DETOKENIZE_SPECIAL, whole, n_bytes, &n_again);
    REQUIRE(rc == GEMMA_OK && n_again == n_bytes);
    if (!skip) { /* the text again, U+2581 as a space */
        size_t k = 0;
        for (size_t i = 0; i < n_text; k++) {
            bool mark = n_text - i >= 3 && !memcmp(text + i, SMALL_SPACE, 3);
            REQUIRE(k < n_bytes);
            if (mark && whole[k] != ' ') { /* as a part of a marker it stays */
                REQUIRE(n_bytes - k >= 3 && !memcmp(whole + k, SMALL_SPACE, 3));
                k += 2;
            } else {
                REQUIRE(whole[k] == (mark ? ' ' : text[i]));
            }
            i += mark ? 3 : 1;
        }
        REQUIRE(k == n_bytes);
    }

    size_t n_piece = 3 * (gm_tokenizer_longest(t) + 4), n_streamed = 0;
    char *piece = malloc(n_piece);
    REQUIRE(piece);
    bool valid = gm_utf8_check(whole, n_bytes) == n_bytes;
    gm_detok d;
    gm_detok_init(&d, t, true);
    for (size_t i = skip; i <= n_ids; i++) {
        size_t n = i < n_ids ? gm_detok_push(&d, ids[i], piece, n_piece) : gm_detok_flush(&d, piece, n_piece);
        REQUIRE(n <= n_piece && gm_utf8_check(piece, n) == n);
        if (valid) REQUIRE(n <= n_bytes - n_streamed && !memcmp(piece, whole + n_streamed, n));
        n_streamed += n;
    }
    if (valid) REQUIRE(n_streamed == n_bytes);
    free(piece);
    free(whole);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static small_vocab v;
    if (n == 0) return 0;
    const uint8_t *at = data + 1, *end = data + n;
    small_init(&v, data[0] & 1);
    if (data[0] & 2) {
        if (data[0] & 64) v.input.n_tokens = 13 + 256; /* markers and bytes only */
        at = read_vocabulary(&v, at, end);
        if (data[0] & 64) v.input.n_merges = 0;
    }
    gm_mem mem;
    gm_mem_init(&mem, NULL);
    gm_tokenizer *t = NULL;
    gemma_error error = { .size = sizeof error };
    int rc = gm_tokenizer_create(&mem, &v.input, &t, &error);
    REQUIRE(rc == GEMMA_OK || (rc == GEMMA_E_FORMAT && !t && error.message[0]));
    if (t) check_text(t, (const char *)at, (size_t)(end - at), data[0] >> 2 & 15);
    gm_tokenizer_destroy(t);
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++) REQUIRE(gm_mem_live(&mem, tag) == 0);
    return 0;
}
