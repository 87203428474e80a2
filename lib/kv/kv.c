#include "kv/pages.h"

#define SHAPE_MAX (1u << 28) /* any number of a shape */

uint32_t gm_kv_global_pages(uint64_t kv_tokens)
{
    return (uint32_t)gm_min_u64(gm_div_up(kv_tokens, GM_PAGE), UINT32_MAX);
}

uint32_t gm_kv_sliding_pages(uint32_t window, uint32_t slack, uint32_t ubatch, uint32_t n_sessions)
{
    if (!window) return 0;
    uint64_t each = gm_div_up((uint64_t)window + slack, GM_PAGE) + 2;
    return (uint32_t)gm_min_u64(n_sessions * each + gm_div_up(ubatch, GM_PAGE), UINT32_MAX);
}

uint32_t gm_kv_mark_pages(uint32_t window) { return window ? (uint32_t)gm_div_up(window, GM_PAGE) + 1 : 0; }

uint32_t gm_kv_table_global(const gm_kv_shape *s) { return s->n_global ? pages_for(s->ctx) : 0; }

/* A sequence holds the pages of window + slack - 1 committed positions and of up to ubatch prepared ones. */
uint32_t gm_kv_table_ring(const gm_kv_shape *s)
{
    if (!s->n_sliding) return 0;
    uint64_t most = gm_div_up((uint64_t)s->window + s->slack + s->ubatch, GM_PAGE) + 1;
    return (uint32_t)gm_min_u64(most, pages_for(s->ctx));
}

static int pool_create(gm_mem *mem, uint32_t n_pages, pool *p)
{
    p->n_pages = n_pages;
    if (!n_pages) return GEMMA_OK;
    p->free_pages = gm_new_array(mem, n_pages, sizeof *p->free_pages, GEMMA_TAG_OBJECT);
    p->holders = gm_new_array(mem, n_pages, sizeof *p->holders, GEMMA_TAG_OBJECT);
    if (!p->free_pages || !p->holders) return GEMMA_E_NOMEM;
    for (uint32_t page = 0; page < n_pages; page++) p->free_pages[page] = n_pages - 1 - page;
    p->n_free = n_pages;
    return GEMMA_OK;
}

static bool shape_valid(const gm_kv_shape *s)
{
    if (s->n_global > SHAPE_MAX || s->n_sliding > SHAPE_MAX || s->ctx > SHAPE_MAX || s->window > SHAPE_MAX ||
        s->slack > SHAPE_MAX || s->ubatch > SHAPE_MAX || s->n_sessions > SHAPE_MAX || s->n_marks > SHAPE_MAX)
        return false;
    return s->ctx && s->ubatch && s->n_sessions && (s->window || !s->n_sliding);
}

int gm_kv_create(gm_mem *mem, const gm_kv_shape *shape, gm_kv **out)
{
    *out = NULL;
    if (!shape_valid(shape)) return GEMMA_E_ARG;
    gm_kv *kv = gm_new(mem, sizeof *kv, GEMMA_TAG_OBJECT);
    if (!kv) return GEMMA_E_NOMEM;
    kv->mem = mem;
    kv->shape = *shape;
    uint32_t per_mark = shape->n_sliding ? gm_kv_mark_pages(gm_min_u32(shape->window, shape->ctx)) : 0;
    int rc = pool_create(mem, shape->n_global, &kv->pools[GM_KV_GLOBAL]);
    if (!rc) rc = pool_create(mem, shape->n_sliding, &kv->pools[GM_KV_SLIDING]);
    if (rc) goto done;
    rc = GEMMA_E_NOMEM;
    kv->seqs = gm_new_array(mem, shape->n_sessions, sizeof(gm_kv_seq *), GEMMA_TAG_OBJECT);
    if (!kv->seqs) goto done;
    if (shape->n_marks) {
        kv->marks = gm_new_array(mem, shape->n_marks, sizeof *kv->marks, GEMMA_TAG_OBJECT);
        kv->mark_pages = gm_new_array(mem, (uint64_t)shape->n_marks * per_mark, sizeof(uint32_t), GEMMA_TAG_OBJECT);
        if (!kv->marks || !kv->mark_pages) goto done;
        for (uint32_t i = 0; i < shape->n_marks; i++) kv->marks[i].pages = kv->mark_pages + (size_t)i * per_mark;
    }
    rc = GEMMA_OK;
done:
    if (rc) {
        gm_kv_destroy(kv);
        kv = NULL;
    }
    *out = kv;
    return rc;
}

void gm_kv_destroy(gm_kv *kv)
{
    if (!kv) return;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        gm_delete(kv->mem, kv->pools[kind].free_pages);
        gm_delete(kv->mem, kv->pools[kind].holders);
    }
    gm_delete(kv->mem, kv->seqs);
    gm_delete(kv->mem, kv->marks);
    gm_delete(kv->mem, kv->mark_pages);
    gm_delete(kv->mem, kv);
}

uint32_t gm_kv_free_pages(const gm_kv *kv, gm_kv_kind kind) { return kv->pools[kind].n_free; }

uint64_t gm_kv_seq_bytes(const gm_kv_shape *shape)
{
    return sizeof(gm_kv_seq) + ((uint64_t)gm_kv_table_global(shape) + gm_kv_table_ring(shape)) * sizeof(uint32_t);
}

int gm_kv_seq_create(gm_kv *kv, gm_kv_seq **out)
{
    *out = NULL;
    uint32_t table = 0;
    while (table < kv->shape.n_sessions && kv->seqs[table]) table++;
    if (table == kv->shape.n_sessions) return GEMMA_E_NOPAGES;
    gm_kv_seq *seq = gm_new(kv->mem, gm_kv_seq_bytes(&kv->shape), GEMMA_TAG_OBJECT);
    if (!seq) return GEMMA_E_NOMEM;
    seq->kv = kv;
    seq->table = table;
    seq->rings[GM_KV_GLOBAL].size = gm_kv_table_global(&kv->shape);
    seq->rings[GM_KV_SLIDING].size = gm_kv_table_ring(&kv->shape);
    seq->rings[GM_KV_GLOBAL].entries = (uint32_t *)(seq + 1);
    seq->rings[GM_KV_SLIDING].entries = (uint32_t *)(seq + 1) + seq->rings[GM_KV_GLOBAL].size;
    for (uint32_t kind = 0; kind < KINDS; kind++) seq->rings[kind].split_from = NO_PAGE;
    kv->seqs[table] = seq;
    *out = seq;
    return GEMMA_OK;
}

void gm_kv_seq_destroy(gm_kv_seq *seq)
{
    if (!seq) return;
    gm_kv *kv = seq->kv;
    gm_kv_drop(seq);
    gm_kv_unmark_all(seq);
    for (uint32_t kind = 0; kind < KINDS; kind++) gm_kv_empty(seq, kind);
    kv->seqs[seq->table] = NULL;
    gm_delete(kv->mem, seq);
}

uint32_t gm_kv_seq_table(const gm_kv_seq *seq) { return seq->table; }
uint32_t gm_kv_seq_length(const gm_kv_seq *seq) { return seq->length; }

int gm_kv_fork(gm_kv_seq *seq, gm_kv_seq **out)
{
    int rc = gm_kv_seq_create(seq->kv, out);
    if (rc) return rc;
    gm_kv_seq *copy = *out;
    copy->length = seq->length;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        const ring *from = &seq->rings[kind];
        ring *to = &copy->rings[kind];
        to->first = to->end = from->first;
        uint32_t end = gm_min_u32(from->end, pages_for(seq->length)); /* not what is reserved */
        for (; to->end < end; to->end++) {
            gm_kv_hold(seq->kv, kind, *entry_of(from, to->end));
            gm_kv_set_entry(to, to->end, *entry_of(from, to->end));
        }
    }
    return GEMMA_OK;
}

void gm_kv_sync(gm_kv_seq *seq, uint32_t *table)
{
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        ring *r = &seq->rings[kind];
        for (uint32_t i = r->dirty_low; i < r->dirty_high; i++) table[i] = r->entries[i];
        r->dirty_low = r->dirty_high = 0;
        table += r->size;
    }
}
