/* Text to ids: markers are cut out first, what remains is cut where nothing can merge (joins.c), and most of these parts
 * are tokens as they stand. */
#include "tokenizer/vocab.h"

typedef struct encoder {
    const gm_tokenizer *t;
    int32_t *ids;
    size_t n_cap, n; /* n counts on beyond n_cap */
    gm_merge_work work;
    char *spaced; /* a piece with its U+2581 as spaces; NULL unless the text holds one or a space goes in front */
} encoder;

static void put(encoder *e, int32_t id)
{
    if (e->n < e->n_cap) e->ids[e->n] = id;
    e->n++;
}

static void put_symbol(encoder *e, int32_t id, const char *text, size_t n)
{
    if (id >= 0) {
        put(e, id);
    } else {
        for (size_t i = 0; i < n; i++) put(e, e->t->byte_id[(uint8_t)text[i]]);
    }
}

static int reserve_work(encoder *e, uint32_t n_chars)
{
    gm_merge_work *w = &e->work;
    if (n_chars <= w->n_room) return GEMMA_OK;
    gm_mem *mem = e->t->mem;
    gm_delete(mem, w->symbols);
    gm_delete(mem, w->heap);
    w->symbols = gm_new_array(mem, (uint64_t)n_chars + 1, sizeof *w->symbols, GEMMA_TAG_OBJECT);
    w->heap = gm_new_array(mem, (uint64_t)n_chars * 2, sizeof *w->heap, GEMMA_TAG_OBJECT);
    w->n_room = w->symbols && w->heap ? n_chars : 0;
    return w->n_room ? GEMMA_OK : GEMMA_E_NOMEM;
}

/* A character alone, or a byte that is none. */
static void encode_single(encoder *e, const char *text, size_t n)
{
    int32_t id = -1;
    if ((uint8_t)text[0] < 0x80)
        id = e->t->ascii_id[(uint8_t)text[0]];
    else if (n > 1)
        id = gm_text_find(e->t, text, n, GM_TYPES_NORMAL);
    put_symbol(e, id, text, n);
}

/* Two or more characters that are merged by themselves. */
static int encode_part(encoder *e, const char *part, size_t n, uint32_t n_chars)
{
    const gm_tokenizer *t = e->t;
    int32_t whole = n <= t->longest_normal ? gm_text_find(t, part, n, GM_TYPES_NORMAL) : -1;
    uint8_t known = GM_WHOLE_NO;
    if (whole >= 0) known = atomic_load_explicit(t->whole + whole, memory_order_relaxed);
    if (known == GM_WHOLE_YES) {
        put(e, whole);
        return GEMMA_OK;
    }
    gm_symbol few[GM_SHORT_PART + 1], *symbols = few;
    if (n_chars > GM_SHORT_PART) {
        int rc = reserve_work(e, n_chars);
        if (rc) return rc;
        symbols = e->work.symbols;
    }
    uint32_t n_symbols =
        gm_merge(t, part, (uint32_t)n, n_chars, symbols, n_chars > GM_SHORT_PART ? e->work.heap : NULL);
    for (uint32_t i = 0; i < n_symbols; i++)
        put_symbol(e, symbols[i].id, part + symbols[i].at, symbols[i + 1].at - symbols[i].at);
    if (known == GM_WHOLE_UNKNOWN) {
        known = n_symbols == 1 && symbols[0].id == whole ? GM_WHOLE_YES : GM_WHOLE_NO;
        atomic_store_explicit(t->whole + whole, known, memory_order_relaxed);
    }
    return GEMMA_OK;
}

/* Text without markers and without U+2581. */
static int encode_plain(encoder *e, const char *text, size_t n)
{
    const gm_joins *joins = &e->t->joins;
    size_t start = 0;
    uint32_t last = GM_NO_CHAR, n_chars = 0;
    for (size_t at = 0; at <= n;) {
        uint32_t code = GM_NO_CHAR;
        size_t length = 1;
        if (at < n) {
            code = (uint8_t)text[at];
            if (code >= 0x80 && !(length = gm_utf8_next(text + at, n - at, &code))) {
                code = GM_NO_CHAR;
                length = 1;
            }
        }
        if (n_chars && !gm_joins_have(joins, last, code)) {
            int rc = GEMMA_OK;
            if (n_chars == 1)
                encode_single(e, text + start, at - start);
            else
                rc = encode_part(e, text + start, at - start, n_chars);
            if (rc) return rc;
            start = at;
            n_chars = 0;
        }
        n_chars++;
        last = code;
        at += length;
    }
    return GEMMA_OK;
}

static int encode_piece(encoder *e, const char *text, size_t n, bool space_first)
{
    if (!n) return GEMMA_OK;
    if (!e->spaced) return encode_plain(e, text, n);
    if (space_first) e->spaced[0] = ' ';
    size_t n_spaced = gm_text_with_spaces(e->spaced + space_first, text, n) + space_first;
    return encode_plain(e, e->spaced, n_spaced);
}

static int encode_text(encoder *e, const char *text, size_t n, uint32_t kinds)
{
    const gm_markers *markers = &e->t->markers;
    bool space_first = e->t->add_space_prefix;
    size_t start = 0, length;
    int rc = GEMMA_OK;
    for (size_t at = 0; kinds && at < n && !rc; at += length) {
        int32_t id = -1;
        length = 1;
        if (!markers->first[(uint8_t)text[at]]) continue;
        size_t n_marker = gm_markers_match(markers, text + at, n - at, kinds, &id);
        if (!n_marker) continue;
        rc = encode_piece(e, text + start, at - start, space_first && start == 0);
        put(e, id);
        length = n_marker;
        start = at + n_marker;
    }
    return rc ? rc : encode_piece(e, text + start, n - start, space_first && start == 0);
}

static bool has_spaced_mark(const char *text, size_t n)
{
    for (const char *end = text + n; (text = memchr(text, 0xe2, (size_t)(end - text))); text++)
        if (end - text >= 3 && !memcmp(text, "\xe2\x96\x81", 3)) return true;
    return false;
}

static uint32_t marker_kinds(const gm_tokenizer *t, uint32_t flags)
{
    if (flags & GEMMA_TOKENIZE_SPECIAL) return GM_MARKER_CONTROL | GM_MARKER_USER | GM_MARKER_INJECTION;
    if (!(flags & GEMMA_TOKENIZE_UNTRUSTED)) return GM_MARKER_USER | GM_MARKER_INJECTION;
    return t->bpe ? 0 : GM_MARKER_USER;
}

int gm_tokenizer_encode(const gm_tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, int32_t *ids,
                        size_t n_cap, size_t *n_ids)
{
    const uint32_t both = GEMMA_TOKENIZE_SPECIAL | GEMMA_TOKENIZE_UNTRUSTED;
    const uint32_t all = both | GEMMA_TOKENIZE_BOS | GEMMA_TOKENIZE_STRICT;
    if (!n_ids) return GEMMA_E_ARG;
    *n_ids = 0;
    if (!t || (!text && n_bytes) || (!ids && n_cap) || flags & ~all || (flags & both) == both) return GEMMA_E_ARG;
    if (n_bytes > GM_TEXT_BYTES_MAX) return GEMMA_E_ARG;
    if (flags & GEMMA_TOKENIZE_STRICT && n_bytes) {
        size_t n_valid = gm_utf8_check(text, n_bytes);
        if (n_valid < n_bytes) {
            *n_ids = n_valid;
            return GEMMA_E_UTF8;
        }
    }
    int rc = GEMMA_OK;
    encoder e = { .t = t, .ids = ids, .n_cap = n_cap };
    uint32_t kinds = marker_kinds(t, flags);
    if (flags & GEMMA_TOKENIZE_BOS && t->bos >= 0) {
        int32_t first = -1;
        if (n_bytes && flags & GEMMA_TOKENIZE_SPECIAL) gm_markers_match(&t->markers, text, n_bytes, kinds, &first);
        if (first != t->bos) put(&e, t->bos);
    }
    if (n_bytes && (t->add_space_prefix || has_spaced_mark(text, n_bytes))) {
        e.spaced = gm_new(t->mem, n_bytes + 1, GEMMA_TAG_OBJECT);
        if (!e.spaced) rc = GEMMA_E_NOMEM;
    }
    if (!rc && n_bytes) rc = encode_text(&e, text, n_bytes, kinds);
    gm_delete(t->mem, e.spaced);
    gm_delete(t->mem, e.work.symbols);
    gm_delete(t->mem, e.work.heap);
    if (rc) return rc;
    *n_ids = e.n;
    return e.n > n_cap ? GEMMA_E_SMALL : GEMMA_OK;
}
