/* tokenizer: Gemma 3 (SPM) and Gemma 4 (BPE), text to ids and back. Takes arrays, never a file. */
#ifndef GM_TOKENIZER_H
#define GM_TOKENIZER_H

#include "base/base.h"

typedef struct gm_tokenizer gm_tokenizer; /* immutable after creation, any thread */

enum {
    GM_TOKEN_NORMAL = 1,
    GM_TOKEN_UNKNOWN = 2,
    GM_TOKEN_CONTROL = 3,
    GM_TOKEN_USER = 4,
    GM_TOKEN_UNUSED = 5,
    GM_TOKEN_BYTE = 6
};

/* The vocabulary as the caller has it. Strings are fetched in order of their index, once, by the calling thread. */
typedef struct gm_vocab_input {
    bool bpe; /* Gemma 4; else SPM */
    uint32_t n_tokens;
    uint32_t n_merges; /* bpe */
    void *user;
    /* Text of token i = 0, 1, …; false = the input is damaged. The bytes must live until the tokenizer is made. */
    bool (*token)(void *user, uint32_t i, const char **text, size_t *n_bytes);
    bool (*merge)(void *user, uint32_t i, const char **text, size_t *n_bytes); /* "left right" */
    const void *scores;                 /* f32 little-endian [n_tokens], spm; NULL: FORMAT */
    const void *types;                  /* i32 little-endian [n_tokens]; NULL: all normal */
    int32_t bos, eos, unknown, padding; /* -1: absent */
    bool add_space_prefix;              /* spm; false in Gemma */
    gm_pool *pool;                      /* whose threads help; NULL: none */
} gm_vocab_input;

/* FORMAT with a sentence for: no tokens or over 2^24 of them, over 2^24 - 1 merges, special ids out of range, a type that is
 * none of the above, a score that is not a number, a byte without a token, a token over 1024 bytes (255 if it is
 * control, unknown or user-defined), a merge without a space or whose parts or result are not in the vocabulary. Of
 * equal texts and equal merges the first counts. Id 1 of a bpe vocabulary is control if its text is "<eos>". */
int gm_tokenizer_create(gm_mem *mem, const gm_vocab_input *input, gm_tokenizer **out, gemma_error *error);
void gm_tokenizer_destroy(gm_tokenizer *t);

uint32_t gm_tokenizer_n_vocab(const gm_tokenizer *t);
int32_t gm_tokenizer_bos(const gm_tokenizer *t); /* -1: none; so the others */
int32_t gm_tokenizer_eos(const gm_tokenizer *t);
int32_t gm_tokenizer_unknown(const gm_tokenizer *t);
int32_t gm_tokenizer_padding(const gm_tokenizer *t);
/* The id of an exact token text, or -1; tokens of type unused are not found. In normal tokens U+2581 and a space are the
 * same. */
int32_t gm_tokenizer_find(const gm_tokenizer *t, const char *text, size_t n_bytes);
uint32_t gm_tokenizer_token_type(const gm_tokenizer *t, int32_t id); /* 0: id outside the vocabulary */
/* eos, id 1 if it is "<eos>", "<end_of_turn>" (spm), "<turn|>" and "<|tool_response>" (bpe); never "</s>". */
bool gm_tokenizer_is_end(const gm_tokenizer *t, int32_t id);

/* gemma_tokenize's contract; flags are GEMMA_TOKENIZE_…. On UTF8 *n_ids is the offset of the bad byte. A text over
 * 2^31 - 1 bytes is ARG. With add_space_prefix (not in Gemma's files) there may be n_bytes + 2 ids. Takes memory only
 * for parts of over 48 characters that merge among themselves, and for texts with a literal U+2581. */
int gm_tokenizer_encode(const gm_tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, int32_t *ids,
                        size_t n_cap, size_t *n_ids);

/* The bytes one id stands for: the stored text with U+2581 as a space (normal), as stored (user-defined), one raw byte
 * (byte), nothing (control, unknown, unused, unless `special`). Writes at most n_cap, returns the length there is
 * (0 too for ids outside the vocabulary). Never more than gm_tokenizer_longest(). */
size_t gm_tokenizer_piece(const gm_tokenizer *t, int32_t id, bool special, char *buffer, size_t n_cap);
size_t gm_tokenizer_longest(const gm_tokenizer *t);
/* gemma_detokenize's contract. */
int gm_tokenizer_decode(const gm_tokenizer *t, const int32_t *ids, size_t n_ids, uint32_t flags, char *buffer,
                        size_t n_cap, size_t *n_bytes);

/* Streaming: ids in, whole UTF-8 characters out. */
typedef struct gm_detok {
    const gm_tokenizer *tokenizer;
    bool special;
    size_t n_held;
    char held[4]; /* an unfinished character, ≤ 3 bytes */
} gm_detok;
void gm_detok_init(gm_detok *d, const gm_tokenizer *t, bool special);
/* Appends what can be emitted to buffer (n_cap ≥ gm_tokenizer_longest() + 4) and returns its length; never half a
 * character. Invalid bytes become U+FFFD (3 bytes each; n_cap must also hold 3 × (held + piece) then: give
 * 3 × (longest + 4)). */
size_t gm_detok_push(gm_detok *d, int32_t id, char *buffer, size_t n_cap);
size_t gm_detok_flush(gm_detok *d, char *buffer, size_t n_cap); /* an unfinished character becomes one U+FFFD */

#endif
