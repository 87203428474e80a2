/* Sequences moved to the pools of another shape: pages that several hold stay shared, marks stay where there is room. */
#include "kv/pages.h"

typedef struct move {
    gm_kv *to;
    uint32_t **map;
} move;

/* The page that stands for an old one, held once more; NO_PAGE: there is none left. */
static uint32_t page_for(const move *m, uint32_t kind, uint32_t old)
{
    uint32_t *at = &m->map[kind][old];
    if (*at != NO_PAGE)
        gm_kv_hold(m->to, kind, *at);
    else if (gm_kv_free_pages(m->to, (gm_kv_kind)kind))
        *at = gm_kv_take(m->to, kind);
    return *at;
}

static int move_ring(const move *m, uint32_t kind, const gm_kv_seq *from, gm_kv_seq *to)
{
    const ring *old = &from->rings[kind];
    ring *new = &to->rings[kind];
    if (!old->size) return GEMMA_OK;
    uint32_t end = gm_min_u32(old->end, pages_for(m->to->shape.ctx)), first = old->first;
    if (kind == GM_KV_SLIDING) first = gm_max_u32(first, gm_kv_first_seen(&m->to->shape, from->length));
    new->first = new->end = gm_min_u32(first, end);
    for (; new->end < end; new->end++) {
        uint32_t page = page_for(m, kind, *entry_of(old, new->end));
        if (page == NO_PAGE) return GEMMA_E_NOPAGES;
        gm_kv_set_entry(new, new->end, page);
    }
    return GEMMA_OK;
}

static int move_seq(const move *m, gm_kv_seq *from)
{
    if (from->length > m->to->shape.ctx) return GEMMA_E_FULL;
    int rc = gm_kv_seq_create(m->to, &from->moved);
    if (rc) return rc;
    from->moved->length = from->length;
    from->moved->reserved = gm_min_u32(from->reserved, pages_for(m->to->shape.ctx));
    for (uint32_t kind = 0; kind < KINDS && !rc; kind++) rc = move_ring(m, kind, from, from->moved);
    return rc;
}

/* As many of the marks as there is room for; the newest are worth most. */
static void move_marks(const move *m, const gm_kv *from)
{
    for (uint32_t i = from->shape.n_marks, n = 0; i-- > 0 && n < m->to->shape.n_marks;) {
        const mark *old = &from->marks[i];
        mark *new = &m->to->marks[n];
        if (!old->seq) continue;
        *new = (mark){ .position = old->position, .first = old->first, .pages = new->pages };
        uint32_t page = 0;
        for (; new->n_pages < old->n_pages &&page != NO_PAGE; new->n_pages += page != NO_PAGE) {
            page = page_for(m, GM_KV_SLIDING, old->pages[new->n_pages]);
            if (page != NO_PAGE) new->pages[new->n_pages] = page;
        }
        new->seq = old->seq->moved;
        if (page != NO_PAGE)
            n++;
        else
            gm_kv_free_mark(m->to, new);
    }
}

int gm_kv_rehouse(gm_kv *from, gm_kv *to, uint32_t *map[2])
{
    const move m = { to, map };
    int rc = GEMMA_OK;
    for (uint32_t kind = 0; kind < KINDS; kind++)
        for (uint32_t page = 0; page < from->pools[kind].n_pages; page++) map[kind][page] = NO_PAGE;
    for (uint32_t i = 0; i < from->shape.n_sessions && !rc; i++)
        if (from->seqs[i]) rc = move_seq(&m, from->seqs[i]);
    if (!rc) move_marks(&m, from);
    return rc;
}

gm_kv_seq *gm_kv_seq_moved(const gm_kv_seq *seq) { return seq->moved; }

bool gm_kv_page_used(const gm_kv *kv, gm_kv_kind kind, uint32_t page) { return kv->pools[kind].holders[page] > 0; }

void gm_kv_abandon(gm_kv *kv)
{
    for (uint32_t i = 0; kv && i < kv->shape.n_sessions; i++) gm_kv_seq_destroy(kv->seqs[i]);
    gm_kv_destroy(kv);
}
