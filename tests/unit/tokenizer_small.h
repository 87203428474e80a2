/* A vocabulary of a few dozen tokens, of either kind, that tests and the fuzz target can take apart. */
#ifndef GM_TEST_TOKENIZER_SMALL_H
#define GM_TEST_TOKENIZER_SMALL_H

#include "tokenizer/tokenizer.h"

enum { SMALL_TOKENS_MAX = 400, SMALL_MERGES_MAX = 64 };

typedef struct small_vocab {
    gm_vocab_input input;
    const char *texts[SMALL_TOKENS_MAX];
    size_t n_texts[SMALL_TOKENS_MAX];
    float scores[SMALL_TOKENS_MAX];
    int32_t types[SMALL_TOKENS_MAX];
    const char *merges[SMALL_MERGES_MAX];
    size_t n_merges[SMALL_MERGES_MAX];
    char bytes[256][7];
    uint32_t fail_token, fail_merge; /* UINT32_MAX: none */
} small_vocab;

static inline bool small_token(void *user, uint32_t i, const char **text, size_t *n_bytes)
{
    const small_vocab *v = user;
    *text = v->texts[i];
    *n_bytes = v->n_texts[i];
    return i != v->fail_token;
}

static inline bool small_merge(void *user, uint32_t i, const char **text, size_t *n_bytes)
{
    const small_vocab *v = user;
    *text = v->merges[i];
    *n_bytes = v->n_merges[i];
    return i != v->fail_merge;
}

static inline uint32_t small_add(small_vocab *v, const char *text, int32_t type)
{
    uint32_t id = v->input.n_tokens++;
    v->texts[id] = text;
    v->n_texts[id] = strlen(text);
    v->types[id] = type;
    v->scores[id] = -(float)id;
    return id;
}

#define SMALL_SPACE "\xe2\x96\x81"

/* Control, user-defined and unused tokens, and the bytes. */
static inline void small_add_special(small_vocab *v)
{
    static const char *const control[] = { "<pad>", "<eos>", "<bos>" };
    for (size_t i = 0; i < GM_COUNT(control); i++) small_add(v, control[i], GM_TOKEN_CONTROL);
    small_add(v, "<unk>", GM_TOKEN_UNKNOWN);
    small_add(v, v->input.bpe ? "<turn|>" : "<end_of_turn>", GM_TOKEN_CONTROL);
    static const char *const user[] = { "<|\"|>", "[multimodal]", "<start_of_image>", "<b>", "<b", "  ", "\n\n\n" };
    for (size_t i = 0; i < GM_COUNT(user); i++) small_add(v, user[i], GM_TOKEN_USER);
    small_add(v, "[PAD]", GM_TOKEN_UNUSED);
    for (int i = 0; i < 256; i++) {
        const char *hex = "0123456789ABCDEF";
        memcpy(v->bytes[i], "<0x", 3);
        v->bytes[i][3] = hex[i >> 4];
        v->bytes[i][4] = hex[i & 15];
        v->bytes[i][5] = '>';
        small_add(v, v->bytes[i], GM_TOKEN_BYTE);
    }
}

/* The tokens are results of merges in several ways, some against the order of their length, so that ties, overlaps and
 * texts whose own merges end elsewhere ("cab") occur. */
static inline void small_init(small_vocab *v, bool bpe)
{
    memset(v, 0, sizeof *v);
    v->fail_token = v->fail_merge = UINT32_MAX;
    v->input = (gm_vocab_input){ .bpe = bpe,
                                 .user = v,
                                 .token = small_token,
                                 .merge = small_merge,
                                 .scores = v->scores,
                                 .types = v->types,
                                 .bos = 2,
                                 .eos = 1,
                                 .unknown = 3,
                                 .padding = 0 };
    small_add_special(v);
    static const char *const normal[] = { "bc",
                                          "ab",
                                          "aa",
                                          SMALL_SPACE "a",
                                          "ca",
                                          "aaaa",
                                          "abc",
                                          "cab",
                                          "aaa",
                                          "\xc3\xa9"
                                          "a",
                                          "\xe6\x97\xa5\xe6\x9c\xac",
                                          "a\xf0\x9f\x98\x80",
                                          "\n\n",
                                          SMALL_SPACE SMALL_SPACE,
                                          SMALL_SPACE "abc",
                                          "a",
                                          "b",
                                          "c",
                                          SMALL_SPACE,
                                          "\n",
                                          "<",
                                          ">",
                                          "\xc3\xa9",
                                          "\xe6\x97\xa5",
                                          "\xe6\x9c\xac",
                                          "\xf0\x9f\x98\x80",
                                          "<eos",
                                          "[PA",
                                          "\xc4\x80" };
    for (size_t i = 0; i < GM_COUNT(normal); i++) small_add(v, normal[i], GM_TOKEN_NORMAL);
    static const char *const merges[] = { "b c",
                                          "a b",
                                          "a a",
                                          SMALL_SPACE " a",
                                          "c a",
                                          "aa aa",
                                          "a bc",
                                          "ab c",
                                          "ca b",
                                          "aa a",
                                          "a aa",
                                          "\xc3\xa9 a",
                                          "\xe6\x97\xa5 \xe6\x9c\xac",
                                          "a \xf0\x9f\x98\x80",
                                          "\n \n",
                                          SMALL_SPACE " " SMALL_SPACE,
                                          SMALL_SPACE "a bc",
                                          SMALL_SPACE " abc",
                                          "c ab" };
    for (size_t i = 0; bpe && i < GM_COUNT(merges); i++) {
        v->merges[i] = merges[i];
        v->n_merges[i] = strlen(merges[i]);
        v->input.n_merges++;
    }
}

#endif
