#include "kv/pages.h"

void gm_kv_free_mark(gm_kv *kv, mark *m)
{
    for (uint32_t i = 0; i < m->n_pages; i++) gm_kv_release(kv, GM_KV_SLIDING, m->pages[i]);
    m->seq = NULL;
    m->n_pages = 0;
}

static mark *find_mark(const gm_kv_seq *seq, uint32_t position)
{
    gm_kv *kv = seq->kv;
    for (uint32_t i = 0; i < kv->shape.n_marks; i++) {
        if (kv->marks[i].seq == seq && kv->marks[i].position == position) return &kv->marks[i];
    }
    return NULL;
}

void gm_kv_unmark_beyond(gm_kv_seq *seq, uint32_t position)
{
    gm_kv *kv = seq->kv;
    for (uint32_t i = 0; i < kv->shape.n_marks; i++) {
        if (kv->marks[i].seq == seq && kv->marks[i].position > position) gm_kv_free_mark(kv, &kv->marks[i]);
    }
}

void gm_kv_unmark_all(gm_kv_seq *seq)
{
    gm_kv_unmark_beyond(seq, 0);
    mark *m = find_mark(seq, 0);
    if (m) gm_kv_free_mark(seq->kv, m);
}

uint32_t gm_kv_marks_on(const gm_kv_seq *seq, uint32_t page_index, uint32_t page)
{
    const gm_kv *kv = seq->kv;
    uint32_t n = 0;
    for (uint32_t i = 0; i < kv->shape.n_marks; i++) {
        const mark *m = &kv->marks[i];
        if (m->seq != seq || page_index < m->first || page_index - m->first >= m->n_pages) continue;
        n += m->pages[page_index - m->first] == page;
    }
    return n;
}

/* A free record; else the sequence's oldest, which is the lowest, when all are its own. */
static mark *take_mark(gm_kv_seq *seq)
{
    gm_kv *kv = seq->kv;
    mark *oldest = NULL;
    bool all_own = true;
    for (uint32_t i = 0; i < kv->shape.n_marks; i++) {
        mark *m = &kv->marks[i];
        if (!m->seq) return m;
        if (m->seq != seq)
            all_own = false;
        else if (!oldest || m->position < oldest->position)
            oldest = m;
    }
    if (!all_own || !oldest) return NULL;
    gm_kv_free_mark(kv, oldest);
    return oldest;
}

int gm_kv_mark(gm_kv_seq *seq)
{
    if (find_mark(seq, seq->length)) return GEMMA_OK;
    mark *m = take_mark(seq);
    if (!m) return GEMMA_E_NOPAGES;
    m->seq = seq;
    m->position = seq->length;
    m->n_pages = 0;
    const ring *r = &seq->rings[GM_KV_SLIDING];
    if (!r->size) return GEMMA_OK;
    m->first = window_start(&seq->kv->shape, seq->length) / GM_PAGE;
    for (uint32_t index = m->first; index < pages_for(seq->length); index++) {
        gm_kv_hold(seq->kv, GM_KV_SLIDING, *entry_of(r, index));
        m->pages[m->n_pages++] = *entry_of(r, index);
    }
    return GEMMA_OK;
}

int gm_kv_unmark(gm_kv_seq *seq, uint32_t position)
{
    mark *m = find_mark(seq, position);
    if (!m) return GEMMA_E_ARG;
    gm_kv_free_mark(seq->kv, m);
    return GEMMA_OK;
}

/* The window of `position` lies in the pages of the sliding table. */
static bool table_covers(const gm_kv_seq *seq, uint32_t position)
{
    const ring *r = &seq->rings[GM_KV_SLIDING];
    return !r->size || position == 0 || r->first <= window_start(&seq->kv->shape, position) / GM_PAGE;
}

uint32_t gm_kv_reachable(const gm_kv_seq *seq, uint32_t position)
{
    const gm_kv *kv = seq->kv;
    position = gm_min_u32(position, seq->length);
    if (table_covers(seq, position)) return position;
    uint32_t best = 0;
    for (uint32_t i = 0; i < kv->shape.n_marks; i++) {
        const mark *m = &kv->marks[i];
        if (m->seq == seq && m->position <= position) best = gm_max_u32(best, m->position);
    }
    return best;
}

static void adopt_mark(gm_kv_seq *seq, const mark *m)
{
    gm_kv_empty(seq, GM_KV_SLIDING);
    ring *r = &seq->rings[GM_KV_SLIDING];
    r->first = r->end = m->first;
    for (uint32_t i = 0; i < m->n_pages; i++) {
        gm_kv_hold(seq->kv, GM_KV_SLIDING, m->pages[i]);
        gm_kv_set_entry(r, r->end++, m->pages[i]);
    }
}

int gm_kv_rewind(gm_kv_seq *seq, uint32_t position, uint32_t *nearest)
{
    uint32_t reachable = gm_kv_reachable(seq, position);
    if (nearest) *nearest = reachable;
    if (reachable != position) return GEMMA_E_REWIND;
    if (!table_covers(seq, position)) adopt_mark(seq, find_mark(seq, position));
    gm_kv_unmark_beyond(seq, position);
    seq->length = position;
    gm_kv_trim(seq, GM_KV_GLOBAL, pages_for(position));
    gm_kv_trim(seq, GM_KV_SLIDING, pages_for(position));
    if (position == 0) gm_kv_empty(seq, GM_KV_SLIDING);
    return GEMMA_OK;
}

uint32_t gm_kv_window_first(const gm_kv_seq *seq) { return seq->rings[GM_KV_SLIDING].first * GM_PAGE; }
