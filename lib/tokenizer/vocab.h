/* Private to lib/tokenizer: the tables of a vocabulary and the functions that ask them.
 *
 * Spaces. The files store a space of a normal token as U+2581, and text is searched with its spaces turned into it.
 * Here it is the other way round, with the same result: normal tokens are kept with U+2581 as a space, plain text is
 * searched as it is, and only text that holds a literal U+2581 is copied (encode.c). Texts of all other types are kept
 * as stored.
 *
 * Limits: 2^24 tokens, 2^24 - 1 merges, 1024 bytes a token, 255 bytes a marker, 2^31 - 1 bytes of text a call. */
#ifndef GM_TOKENIZER_VOCAB_H
#define GM_TOKENIZER_VOCAB_H

#include "tokenizer/tokenizer.h"

enum {
    GM_TOKENS_MAX = 1 << 24,
    GM_MERGES_MAX = (1 << 24) - 1,
    GM_TOKEN_BYTES_MAX = 1024,
    GM_MARKER_BYTES_MAX = 255,
    GM_PROBES_MAX = 512 /* more texts or pairs than this in one heap of a table: the file was made to be slow */
};
#define GM_TEXT_BYTES_MAX ((size_t)INT32_MAX)

#define GM_NO_MERGE UINT32_MAX

/* Sets of token types. */
#define GM_TYPES_NORMAL (1u << GM_TOKEN_NORMAL)
#define GM_TYPES_OTHER  (1u << GM_TOKEN_UNKNOWN | 1u << GM_TOKEN_CONTROL | 1u << GM_TOKEN_USER | 1u << GM_TOKEN_BYTE)

typedef struct gm_pair {
    uint32_t left, right, result; /* ids */
} gm_pair;

/* Markers: the tokens that are recognised in the text before anything is merged. */
enum {
    GM_MARKER_CONTROL = 1,  /* control and unknown */
    GM_MARKER_USER = 2,     /* user-defined */
    GM_MARKER_INJECTION = 4 /* user-defined, but not for the text of a stranger */
};
typedef struct gm_marker_node {
    uint32_t child, sibling; /* 0: none */
    int32_t id;              /* of the marker that ends here */
    uint8_t kind;            /* GM_MARKER_…; 0: none ends here */
    uint8_t byte;
} gm_marker_node;

typedef struct gm_markers {
    gm_marker_node *nodes; /* node 0 is not used */
    uint32_t n, n_room;
    uint32_t first[256]; /* by first byte; 0: none */
} gm_markers;

/* Whether anything may ever be merged across two neighbouring characters (spec: the set P). `other` is a bit per hash,
 * so that it may say yes too often, which costs time but changes no id. A space has the code of U+0020. */
enum { GM_JOIN_BITS_LOG2 = 20 };
typedef atomic_uint_least64_t gm_bits; /* set by several threads while the vocabulary is read */
typedef struct gm_joins {
    gm_bits ascii[128][2];
    gm_bits *other; /* [2^GM_JOIN_BITS_LOG2 / 64] */
} gm_joins;
#define GM_NO_CHAR UINT32_MAX /* a byte that is no character: never joined */

enum { GM_WHOLE_UNKNOWN = 0, GM_WHOLE_YES = 1, GM_WHOLE_NO = 2, GM_WHOLE_NEVER = 3 /* no text leads to the token */ };

struct gm_tokenizer {
    gm_mem *mem;
    bool bpe, add_space_prefix;
    uint32_t n_tokens, n_ends;
    int32_t bos, eos, unknown, padding;
    int32_t ends[5];

    char *text;         /* all token texts in order of id, without gaps */
    uint64_t text_room; /* bytes there are for them; those behind the last are never touched */
    uint32_t *at;       /* [n_tokens + 1] where they begin in `text` */
    uint8_t *type;
    uint32_t longest;        /* bytes of the longest piece */
    uint32_t longest_normal; /* bytes of the longest normal token */
    uint32_t *texts;         /* open addressing, [2^text_log2] of id + 1 and 7 bits of the hash above it; 0: free */
    uint32_t text_log2;
    /* Whether merging a normal token's own text ends in that token, found out when it is first met. Threads may find
     * it out together: they all write the same. */
    atomic_uchar *whole;

    uint32_t *rank;       /* spm: of a token as the result of a merge; the best is 0 */
    gm_pair *pairs;       /* bpe: [n_merges] by rank */
    uint32_t *pair_slots; /* open addressing, [2^pair_log2] of rank + 1 and 8 bits of the hash above it; 0: free */
    uint32_t pair_log2;

    int32_t ascii_id[128]; /* ids of single characters, -1: none */
    int32_t byte_id[256];
    char byte_text[256]; /* every byte, for gm_piece */
    gm_markers markers;
    gm_joins joins;
};

/* ---- text.c: token texts to ids ---- */
static inline uint64_t gm_hash_step(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9fb21c651e98df25u;
    return h ^ h >> 32;
}
/* All of a text of up to 8 bytes; another for another text of the same length. */
enum { GM_WORD_BYTES = 8 };
static inline uint64_t gm_text_word(const char *text, size_t n)
{
    if (n >= 4) return gm_load_u32(text) | (uint64_t)gm_load_u32(text + n - 4) << 32;
    if (!n) return 0;
    return (uint64_t)(uint8_t)text[0] | (uint64_t)(uint8_t)text[n / 2] << 8 | (uint64_t)(uint8_t)text[n - 1] << 16;
}
static inline uint64_t gm_text_hash(const char *text, size_t n)
{
    uint64_t h = n * 0xd6e8feb86659fd93u;
    for (; n > GM_WORD_BYTES; text += 8, n -= 8) h = gm_hash_step(h, gm_load_u64(text));
    return gm_hash_step(h, gm_text_word(text, n));
}
static inline const char *gm_token_text(const gm_tokenizer *t, uint32_t id, size_t *n)
{
    *n = t->at[id + 1] - t->at[id];
    return t->text + t->at[id];
}
static inline uint32_t gm_text_home(const gm_tokenizer *t, uint64_t hash)
{
    return (uint32_t)(hash >> (64 - t->text_log2));
}
enum { GM_TEXT_ID_BITS = 25 }; /* of a slot: GM_TOKENS_MAX + 1 numbers */
/* What a slot of this hash holds, less the id + 1. */
static inline uint32_t gm_text_tag(uint64_t hash) { return (uint32_t)hash >> GM_TEXT_ID_BITS << GM_TEXT_ID_BITS; }
static inline uint32_t gm_text_slot_id(uint32_t slot) { return (slot & (((uint32_t)1 << GM_TEXT_ID_BITS) - 1)) - 1; }
static inline bool gm_text_is(const gm_tokenizer *t, uint32_t id, const char *text, size_t n)
{
    uint32_t at = t->at[id];
    if (t->at[id + 1] - at != n) return false;
    if (n <= GM_WORD_BYTES) return gm_text_word(t->text + at, n) == gm_text_word(text, n);
    return !memcmp(t->text + at, text, n);
}
/* The lowest id with this text and a type in `types` (bits 1 << GM_TOKEN_…), or -1. */
static inline int32_t gm_text_find_hashed(const gm_tokenizer *t, const char *text, size_t n, uint64_t hash,
                                          uint32_t types)
{
    uint32_t mask = ((uint32_t)1 << t->text_log2) - 1;
    for (uint32_t i = gm_text_home(t, hash);; i = (i + 1) & mask) {
        uint32_t slot = t->texts[i], id = gm_text_slot_id(slot);
        if (!slot) return -1;
        if ((slot ^ gm_text_tag(hash)) >> GM_TEXT_ID_BITS) continue;
        if (gm_text_is(t, id, text, n) && types >> t->type[id] & 1) return (int32_t)id;
    }
}
static inline int32_t gm_text_find(const gm_tokenizer *t, const char *text, size_t n, uint32_t types)
{
    return gm_text_find_hashed(t, text, n, gm_text_hash(text, n), types);
}
/* Enters token `id`, whose text, with this hash, and type are in place. A text that is there with the same type stays as
 * it is, and no text leads to this token. */
int gm_text_enter(gm_tokenizer *t, uint32_t id, uint64_t hash, gemma_error *error);
/* Whether U+2581 is at text[0]; n ≥ 1. */
static inline bool gm_is_space_mark(const char *text, size_t n)
{
    return n >= 3 && text[0] == '\xe2' && text[1] == '\x96' && text[2] == '\x81';
}
/* Copies with every U+2581 as a space; returns the length, ≤ n. dst may be text. */
size_t gm_text_with_spaces(char *dst, const char *text, size_t n);

/* ---- merge.c: which pairs merge, and merging ---- */
static inline uint64_t gm_pair_hash(uint32_t left, uint32_t right)
{
    return gm_hash_step((uint64_t)left << 32 | right, 0) * 0x9e3779b97f4a7c15u;
}
static inline uint32_t gm_pair_home(const gm_tokenizer *t, uint64_t hash)
{
    return (uint32_t)(hash >> (64 - t->pair_log2));
}
/* What a slot of this hash holds, less the rank + 1. */
static inline uint32_t gm_pair_tag(uint64_t hash) { return (uint32_t)(hash >> 8) & 0xff000000u; }
/* The rank of a merge, or GM_NO_MERGE. */
static inline uint32_t gm_pair_find(const gm_tokenizer *t, uint32_t left, uint32_t right)
{
    uint64_t hash = gm_pair_hash(left, right);
    uint32_t mask = ((uint32_t)1 << t->pair_log2) - 1;
    for (uint32_t i = gm_pair_home(t, hash);; i = (i + 1) & mask) {
        uint32_t slot = t->pair_slots[i];
        if (!slot) return GM_NO_MERGE;
        if ((slot & 0xff000000u) != gm_pair_tag(hash)) continue;
        uint32_t rank = (slot & 0xffffffu) - 1;
        if (t->pairs[rank].left == left && t->pairs[rank].right == right) return rank;
    }
}
/* Enters the pair of this rank; a pair that is there with a lower one stays as it is. */
int gm_pair_enter(gm_tokenizer *t, uint32_t rank, gemma_error *error);

typedef struct gm_symbol {
    uint32_t at;         /* first byte, from the start of the part */
    uint32_t prev, next; /* long parts only */
    uint32_t rank;       /* of the merge with the next symbol; GM_NO_MERGE: none */
    int32_t result;      /* of that merge */
    int32_t id;          /* -1: not in the vocabulary, to be spelt in bytes */
} gm_symbol;

enum { GM_SHORT_PART = 48 }; /* characters; longer parts use a heap */

/* Working memory of one encode call, for long parts. */
typedef struct gm_merge_work {
    gm_symbol *symbols; /* [n_room + 1] */
    uint64_t *heap;     /* [2 × n_room] rank << 32 | index of the left symbol */
    uint32_t n_room;
} gm_merge_work;
/* Merges a part of n_chars valid characters; symbols has n_chars + 1 entries. Leaves the symbols in their order at the
 * front, one with at = n_bytes behind them, and returns how many there are. heap NULL: n_chars ≤ GM_SHORT_PART. */
uint32_t gm_merge(const gm_tokenizer *t, const char *part, uint32_t n_bytes, uint32_t n_chars, gm_symbol *symbols,
                  uint64_t *heap);

/* ---- joins.c ---- */
static inline uint32_t gm_join_bit(uint32_t a, uint32_t b)
{
    uint64_t h = gm_hash_step((uint64_t)a << 32 | b, 0);
    return (uint32_t)(h * 0x9e3779b97f4a7c15u >> (64 - GM_JOIN_BITS_LOG2));
}
/* Of the bits' last 6 binary places. */
static inline bool gm_bit_is_set(const gm_bits *bits, uint32_t bit)
{
    return atomic_load_explicit(bits, memory_order_relaxed) >> (bit & 63) & 1;
}
static inline bool gm_joins_have(const gm_joins *j, uint32_t a, uint32_t b)
{
    if ((a | b) < 128) return gm_bit_is_set(&j->ascii[a][b >> 6], b);
    if (a == GM_NO_CHAR || b == GM_NO_CHAR) return false;
    uint32_t bit = gm_join_bit(a, b);
    return gm_bit_is_set(&j->other[bit >> 6], bit);
}
/* A merge of a left part of n_left bytes with the rest of the text. */
void gm_joins_add_border(gm_joins *j, const char *text, size_t n, size_t n_left);
/* All neighbours in a token. */
void gm_joins_add_text(gm_joins *j, const char *text, size_t n);

/* ---- marker.c ---- */
int gm_markers_add(gm_tokenizer *t, const char *text, size_t n, int32_t id, uint32_t kind, gemma_error *error);
/* The longest marker of the kinds at text[0], n ≥ 1; returns its length, 0: none. */
size_t gm_markers_match(const gm_markers *m, const char *text, size_t n, uint32_t kinds, int32_t *id);

/* ---- load_merges.c ---- */
int gm_read_merges(gm_tokenizer *t, const gm_vocab_input *in, gemma_error *error);

/* ---- decode.c ---- */
/* What gm_tokenizer_piece writes, where it lies. `id` is in the vocabulary. */
const char *gm_piece(const gm_tokenizer *t, int32_t id, bool special, size_t *n);
/* The value of "<0xHH>", or -1. */
int gm_byte_value(const char *text, size_t n);

#endif
