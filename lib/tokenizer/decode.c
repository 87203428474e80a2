#include "tokenizer/vocab.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int gm_byte_value(const char *text, size_t n)
{
    if (n != 6 || memcmp(text, "<0x", 3) || text[5] != '>') return -1;
    int high = hex_value(text[3]), low = hex_value(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

const char *gm_piece(const gm_tokenizer *t, int32_t id, bool special, size_t *n)
{
    const char *text = gm_token_text(t, (uint32_t)id, n);
    switch (t->type[id]) {
    case GM_TOKEN_NORMAL:
    case GM_TOKEN_USER: return text;
    case GM_TOKEN_BYTE:
        text = t->byte_text + gm_byte_value(text, *n);
        *n = 1;
        return text;
    default:
        if (!special) *n = 0;
        return text;
    }
}

size_t gm_tokenizer_longest(const gm_tokenizer *t) { return t->longest; }

size_t gm_tokenizer_piece(const gm_tokenizer *t, int32_t id, bool special, char *buffer, size_t n_cap)
{
    if (id < 0 || (uint32_t)id >= t->n_tokens) return 0;
    size_t n;
    const char *text = gm_piece(t, id, special, &n);
    size_t n_copy = n < n_cap ? n : n_cap;
    if (n_copy) memcpy(buffer, text, n_copy);
    return n;
}

int gm_tokenizer_decode(const gm_tokenizer *t, const int32_t *ids, size_t n_ids, uint32_t flags, char *buffer,
                        size_t n_cap, size_t *n_bytes)
{
    if (!n_bytes) return GEMMA_E_ARG;
    *n_bytes = 0;
    if (!t || (!ids && n_ids) || (!buffer && n_cap) || flags & ~(uint32_t)GEMMA_DETOKENIZE_SPECIAL) return GEMMA_E_ARG;
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= t->n_tokens) return GEMMA_E_TOKEN;
    size_t n = 0;
    for (size_t i = 0; i < n_ids; i++) {
        size_t n_room = n < n_cap ? n_cap - n : 0;
        n += gm_tokenizer_piece(t, ids[i], flags & GEMMA_DETOKENIZE_SPECIAL, n_room ? buffer + n : NULL, n_room);
    }
    *n_bytes = n;
    return n > n_cap ? GEMMA_E_SMALL : GEMMA_OK;
}

/* ---- streaming ---- */
static const char replacement[3] = "\xef\xbf\xbd"; /* U+FFFD */

void gm_detok_init(gm_detok *d, const gm_tokenizer *t, bool special)
{
    *d = (gm_detok){ .tokenizer = t, .special = special };
}

static size_t emit(char *buffer, size_t n_cap, size_t n_out, const char *text, size_t n)
{
    if (n > n_cap - n_out) return n_out;
    memcpy(buffer + n_out, text, n);
    return n_out + n;
}

size_t gm_detok_push(gm_detok *d, int32_t id, char *buffer, size_t n_cap)
{
    if (id < 0 || (uint32_t)id >= d->tokenizer->n_tokens) return 0;
    size_t n, n_out = 0;
    const char *text = gm_piece(d->tokenizer, id, d->special, &n);
    for (size_t i = 0; i < n; i++) {
        d->held[d->n_held++] = text[i];
        while (d->n_held) {
            size_t n_char = gm_utf8_next(d->held, d->n_held, NULL), n_taken = n_char ? n_char : 1;
            if (!n_char && d->n_held < sizeof d->held && !gm_utf8_whole(d->held, d->n_held)) break; /* unfinished */
            n_out = n_char ? emit(buffer, n_cap, n_out, d->held, n_char)
                           : emit(buffer, n_cap, n_out, replacement, sizeof replacement);
            d->n_held -= n_taken;
            memmove(d->held, d->held + n_taken, d->n_held);
        }
    }
    return n_out;
}

size_t gm_detok_flush(gm_detok *d, char *buffer, size_t n_cap)
{
    if (!d->n_held) return 0;
    d->n_held = 0;
    return emit(buffer, n_cap, 0, replacement, sizeof replacement);
}
