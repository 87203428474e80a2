#include "kv/pages.h"

uint32_t gm_kv_take(gm_kv *kv, uint32_t kind)
{
    pool *p = &kv->pools[kind];
    uint32_t page = p->free_pages[--p->n_free];
    p->holders[page] = 1;
    return page;
}

void gm_kv_hold(gm_kv *kv, uint32_t kind, uint32_t page) { kv->pools[kind].holders[page]++; }

void gm_kv_release(gm_kv *kv, uint32_t kind, uint32_t page)
{
    pool *p = &kv->pools[kind];
    if (--p->holders[page] == 0) p->free_pages[p->n_free++] = page;
}

void gm_kv_set_entry(ring *r, uint32_t page_index, uint32_t page)
{
    uint32_t at = page_index % r->size;
    r->entries[at] = page;
    bool clean = r->dirty_low == r->dirty_high;
    r->dirty_low = clean ? at : gm_min_u32(r->dirty_low, at);
    r->dirty_high = clean ? at + 1 : gm_max_u32(r->dirty_high, at + 1);
}

void gm_kv_trim(gm_kv_seq *seq, uint32_t kind, uint32_t end)
{
    ring *r = &seq->rings[kind];
    while (r->end > end && r->end > r->first) gm_kv_release(seq->kv, kind, *entry_of(r, --r->end));
}

void gm_kv_empty(gm_kv_seq *seq, uint32_t kind)
{
    gm_kv_trim(seq, kind, 0);
    seq->rings[kind].first = seq->rings[kind].end = 0;
}

uint32_t gm_kv_first_seen(const gm_kv_shape *s, uint32_t length)
{
    return length > s->slack ? window_start(s, length - s->slack) / GM_PAGE : 0;
}

static void slide(gm_kv_seq *seq)
{
    ring *r = &seq->rings[GM_KV_SLIDING];
    if (!r->size) return;
    uint32_t first = gm_kv_first_seen(&seq->kv->shape, seq->length);
    while (r->first < first) gm_kv_release(seq->kv, GM_KV_SLIDING, *entry_of(r, r->first++));
}

/* The page behind the committed positions is begun and someone else holds it too. A sequence's own marks do not count:
 * they need positions below their own only, and these are not written again while the mark lives. */
static bool must_split(const gm_kv_seq *seq, uint32_t kind)
{
    const ring *r = &seq->rings[kind];
    if (!r->size || seq->length % GM_PAGE == 0) return false;
    uint32_t index = seq->length / GM_PAGE, page = *entry_of(r, index), own = 1;
    if (kind == GM_KV_SLIDING) own += gm_kv_marks_on(seq, index, page);
    return seq->kv->pools[kind].holders[page] > own;
}

/* Pages of the kind for n more positions, and for the split before them, are free. */
static bool has_room(const gm_kv_seq *seq, uint32_t kind, uint32_t n)
{
    const ring *r = &seq->rings[kind];
    if (!r->size) return true;
    uint32_t end = pages_for(seq->length + n);
    uint32_t need = (end > r->end ? end - r->end : 0) + (n && must_split(seq, kind));
    return need <= seq->kv->pools[kind].n_free;
}

static void extend(gm_kv_seq *seq, uint32_t kind, uint32_t end)
{
    ring *r = &seq->rings[kind];
    if (!r->size) return;
    for (; r->end < end; r->end++) gm_kv_set_entry(r, r->end, gm_kv_take(seq->kv, kind));
}

/* The begun page is replaced by a copy of it. */
static gm_page_copy split(gm_kv_seq *seq, uint32_t kind)
{
    ring *r = &seq->rings[kind];
    uint32_t index = seq->length / GM_PAGE;
    r->split_from = *entry_of(r, index);
    gm_kv_set_entry(r, index, gm_kv_take(seq->kv, kind));
    return (gm_page_copy){ .kind = kind, .from = r->split_from, .to = *entry_of(r, index) };
}

int gm_kv_prepare(gm_kv_seq *seq, uint32_t n, gm_page_copy *copies, uint32_t *n_copies)
{
    if (n > seq->kv->shape.ubatch) return GEMMA_E_ARG;
    if (n > seq->kv->shape.ctx - seq->length) return GEMMA_E_FULL;
    if (!has_room(seq, GM_KV_GLOBAL, n) || !has_room(seq, GM_KV_SLIDING, n)) return GEMMA_E_NOPAGES;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        if (n && must_split(seq, kind)) copies[(*n_copies)++] = split(seq, kind);
        extend(seq, kind, pages_for(seq->length + n));
    }
    seq->prepared = n;
    return GEMMA_OK;
}

static void trim_to_length(gm_kv_seq *seq)
{
    uint32_t end = pages_for(seq->length);
    gm_kv_trim(seq, GM_KV_GLOBAL, gm_max_u32(end, seq->reserved));
    gm_kv_trim(seq, GM_KV_SLIDING, end);
}

void gm_kv_commit(gm_kv_seq *seq, uint32_t n)
{
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        ring *r = &seq->rings[kind];
        if (r->split_from != NO_PAGE) gm_kv_release(seq->kv, kind, r->split_from);
        r->split_from = NO_PAGE;
    }
    seq->length += gm_min_u32(n, seq->prepared);
    seq->prepared = 0;
    trim_to_length(seq);
    slide(seq);
}

void gm_kv_drop(gm_kv_seq *seq)
{
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        ring *r = &seq->rings[kind];
        if (r->split_from == NO_PAGE) continue;
        uint32_t index = seq->length / GM_PAGE;
        gm_kv_release(seq->kv, kind, *entry_of(r, index));
        gm_kv_set_entry(r, index, r->split_from);
        r->split_from = NO_PAGE;
    }
    seq->prepared = 0;
    trim_to_length(seq);
}

int gm_kv_reserve(gm_kv_seq *seq, uint32_t n)
{
    if (n > seq->kv->shape.ctx - seq->length) return GEMMA_E_FULL;
    if (!has_room(seq, GM_KV_GLOBAL, n)) return GEMMA_E_NOPAGES;
    seq->reserved = pages_for(seq->length + n);
    extend(seq, GM_KV_GLOBAL, seq->reserved);
    return GEMMA_OK;
}

void gm_kv_unreserve(gm_kv_seq *seq)
{
    seq->reserved = 0;
    if (!seq->prepared) trim_to_length(seq);
}

void gm_kv_held(const gm_kv_seq *seq, gm_kv_kind kind, uint32_t *first, uint32_t *end)
{
    const ring *r = &seq->rings[kind];
    *end = r->size ? gm_min_u32(r->end, pages_for(seq->length)) : 0;
    *first = gm_min_u32(r->first, *end);
}

uint32_t gm_kv_page(const gm_kv_seq *seq, gm_kv_kind kind, uint32_t index)
{
    return *entry_of(&seq->rings[kind], index);
}

int gm_kv_adopt(gm_kv_seq *seq, uint32_t length, uint32_t sliding_first)
{
    const gm_kv_shape *s = &seq->kv->shape;
    ring *sliding = &seq->rings[GM_KV_SLIDING];
    if (seq->length || seq->prepared || seq->reserved) return GEMMA_E_ARG;
    if (length > s->ctx) return GEMMA_E_FULL;
    if (sliding->size && sliding_first > window_start(s, length) / GM_PAGE) return GEMMA_E_ARG;
    if (sliding->size) sliding->first = sliding->end = gm_max_u32(sliding_first, gm_kv_first_seen(s, length));
    if (!has_room(seq, GM_KV_GLOBAL, length) || !has_room(seq, GM_KV_SLIDING, length)) {
        sliding->first = sliding->end = 0;
        return GEMMA_E_NOPAGES;
    }
    for (uint32_t kind = 0; kind < KINDS; kind++) extend(seq, kind, pages_for(length));
    seq->length = length;
    return GEMMA_OK;
}
