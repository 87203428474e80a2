/* A model without its memory: KV pages that are in use wait in host memory, page tables stay. Resuming puts them into the
 * pools of the same plan or of another one of the model. */
#include "session/internal.h"

#define NOWHERE UINT32_MAX
#define KINDS   2 /* of gm_kv_kind */

typedef struct parked_layer {
    gm_kv_layer shape;
    uint8_t *bytes; /* [n_pages of its kind][K, V] */
    uint64_t n_bytes;
} parked_layer;

struct gm_parked {
    gm_mem *mem;
    uint32_t *place[KINDS]; /* [pages of the pool] which of the kept pages; NOWHERE: not in use */
    uint32_t *map[KINDS];   /* [pages of the pool] the new page, while resuming */
    uint32_t n_pages[KINDS];
    parked_layer *layers; /* [n_kv] */
    uint32_t n_kv;
};

/* ---- alone with the engine ---- */

static int begin(gm_engine *e, bool parked, gemma_error *error)
{
    gm_mutex_lock(e->lock);
    gm_engine_await_idle(e);
    int rc = e->lost && !parked ? gm_fail(error, GEMMA_E_LOST, "the device is lost: its sessions cannot be parked") : 0;
    if (!rc && (e->parked != NULL) != parked)
        rc = gm_fail(error, GEMMA_E_STATE, parked ? "the model is not parked" : "the model is parked already");
    if (!rc) e->busy = e->moving = true;
    gm_mutex_unlock(e->lock);
    return rc;
}

static int end(gm_engine *e, int rc)
{
    gm_mutex_lock(e->lock);
    e->busy = e->moving = false;
    gm_mutex_wake_all(e->lock);
    gm_mutex_unlock(e->lock);
    return rc;
}

/* ---- what is kept ---- */

void gm_parked_destroy(gm_parked *p)
{
    if (!p) return;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        gm_delete(p->mem, p->place[kind]);
        gm_delete(p->mem, p->map[kind]);
    }
    for (uint32_t i = 0; p->layers && i < p->n_kv; i++)
        gm_mem_free(p->mem, p->layers[i].bytes, p->layers[i].n_bytes, GEMMA_TAG_KV);
    gm_delete(p->mem, p->layers);
    gm_delete(p->mem, p);
}

static uint32_t pool_pages(const gm_kv_shape *s, uint32_t kind)
{
    return kind == GM_KV_SLIDING ? s->n_sliding : s->n_global;
}

/* Tables and room for the pages in use. */
static int take_room(const gm_engine *e, gm_parked *p, gemma_error *error)
{
    const gm_program *program = e->plan->programs[0];
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        uint32_t n = pool_pages(&e->plan->kv_shape, kind);
        p->place[kind] = gm_new_array(p->mem, n, sizeof(uint32_t), GEMMA_TAG_OBJECT);
        p->map[kind] = gm_new_array(p->mem, n, sizeof(uint32_t), GEMMA_TAG_OBJECT);
        if (!p->place[kind] || !p->map[kind]) return gm_fail_nomem(error, "a list of pages", n * sizeof(uint32_t));
        for (uint32_t page = 0; page < n; page++)
            p->place[kind][page] = gm_kv_page_used(e->kv, (gm_kv_kind)kind, page) ? p->n_pages[kind]++ : NOWHERE;
    }
    p->layers = gm_new_array(p->mem, program->n_kv, sizeof *p->layers, GEMMA_TAG_OBJECT);
    if (!p->layers) return gm_fail_nomem(error, "a list of layers", program->n_kv * sizeof *p->layers);
    p->n_kv = program->n_kv;
    for (uint32_t i = 0; i < p->n_kv; i++) {
        parked_layer *l = &p->layers[i];
        l->shape = program->kv[i];
        uint64_t n_bytes = 2 * p->n_pages[l->shape.kind] * gm_kv_page_bytes(&l->shape);
        if (!n_bytes) continue;
        l->bytes = gm_mem_alloc(p->mem, n_bytes, 64, GEMMA_TAG_KV);
        if (!l->bytes) return gm_fail_nomem(error, "the KV pages of parked sessions", n_bytes);
        l->n_bytes = n_bytes;
    }
    return GEMMA_OK;
}

static int keep_layer(const gm_engine *e, const gm_parked *p, uint32_t kv, gemma_error *error)
{
    const parked_layer *l = &p->layers[kv];
    const gm_resident_share *share = &e->resident->shares[e->plan->kv_share[kv]];
    const gm_span *spans[2] = { &share->kv_k[kv], &share->kv_v[kv] };
    uint64_t n = gm_kv_page_bytes(&l->shape);
    int rc = GEMMA_OK;
    for (uint32_t page = 0; page < pool_pages(&e->plan->kv_shape, l->shape.kind) && !rc; page++) {
        uint32_t at = p->place[l->shape.kind][page];
        for (uint32_t i = 0; i < 2 && at != NOWHERE && !rc; i++)
            rc =
                gm_buffer_read(spans[i]->buffer, spans[i]->offset + page * n, l->bytes + (2ull * at + i) * n, n, error);
    }
    return rc;
}

int gm_engine_park(gm_engine *e, gm_proof *proof, gemma_error *error)
{
    int rc = begin(e, false, error);
    if (rc) return rc;
    gm_parked *p = gm_new(e->mem, sizeof *p, GEMMA_TAG_OBJECT);
    if (!p) return end(e, gm_fail_nomem(error, "a parked model", sizeof *p));
    p->mem = e->mem;
    rc = take_room(e, p, error);
    for (uint32_t i = 0; i < p->n_kv && !rc; i++) rc = keep_layer(e, p, i, error);
    if (rc) {
        gm_parked_destroy(p);
        return end(e, rc);
    }
    gm_proof_destroy(proof);
    gm_segments_destroy(e);
    gm_mutex_lock(e->lock); /* the status is asked without waiting */
    gm_resident *resident = e->resident;
    e->resident = NULL;
    e->parked = p;
    gm_mutex_unlock(e->lock);
    gm_resident_destroy(resident);
    return end(e, GEMMA_OK);
}

/* ---- back ---- */

/* A page of one type as one of another, by way of floats. */
static void convert(const gm_kv_layer *from, const uint8_t *page, const gm_kv_layer *to, uint8_t *out)
{
    float values[64];
    uint32_t n = from->n_kv * GM_PAGE * from->head; /* heads are multiples of 32, a page holds 64 of each */
    for (uint32_t at = 0; at < n; at += GM_COUNT(values)) {
        from->format->unpack(page + gm_row_bytes(from->format, at), values, GM_COUNT(values) / from->format->block);
        to->format->pack(values, out + gm_row_bytes(to->format, at), GM_COUNT(values) / to->format->block);
    }
}

static int bring_layer(const gm_plan *plan, const gm_resident *r, const gm_parked *p, uint32_t kv, uint8_t *room,
                       gemma_error *error)
{
    const parked_layer *l = &p->layers[kv];
    const gm_kv_layer *to = &plan->programs[0]->kv[kv];
    const gm_resident_share *share = &r->shares[plan->kv_share[kv]];
    const gm_span *spans[2] = { &share->kv_k[kv], &share->kv_v[kv] };
    uint64_t n_old = gm_kv_page_bytes(&l->shape), n_new = gm_kv_page_bytes(to);
    uint32_t kind = to->kind;
    int rc = GEMMA_OK;
    for (uint32_t page = 0, left = p->n_pages[kind]; left && !rc; page++) {
        uint32_t at = p->place[kind][page], new = p->map[kind][page];
        left -= at != NOWHERE;
        for (uint32_t i = 0; i < 2 && at != NOWHERE && new != NOWHERE && !rc; i++) {
            const uint8_t *bytes = l->bytes + (2ull * at + i) * n_old;
            if (l->shape.format != to->format) convert(&l->shape, bytes, to, room);
            if (l->shape.format != to->format) bytes = room;
            rc = gm_buffer_write(spans[i]->buffer, spans[i]->offset + new *n_new, bytes, n_new, error);
        }
    }
    return rc;
}

static int bring_pages(const gm_plan *plan, const gm_resident *r, const gm_parked *p, gemma_error *error)
{
    uint64_t room_bytes = 0;
    for (uint32_t i = 0; i < p->n_kv; i++)
        room_bytes = gm_max_u64(room_bytes, gm_kv_page_bytes(&plan->programs[0]->kv[i]));
    uint8_t *room = gm_new(p->mem, room_bytes + 1, GEMMA_TAG_OBJECT);
    int rc = room ? GEMMA_OK : gm_fail_nomem(error, "a page of KV", room_bytes);
    for (uint32_t i = 0; i < p->n_kv && !rc; i++) rc = bring_layer(plan, r, p, i, room, error);
    gm_delete(p->mem, room);
    return rc;
}

/* New pools with the engine's sequences in them. */
static int rehouse(gm_engine *e, const gm_plan *plan, uint32_t *map[KINDS], gm_kv **out, gemma_error *error)
{
    int rc = gm_kv_create(e->mem, &plan->kv_shape, out);
    if (!rc) rc = gm_kv_rehouse(e->kv, *out, map);
    if (!rc) return GEMMA_OK;
    gm_kv_abandon(*out);
    *out = NULL;
    if (rc == GEMMA_E_FULL)
        return gm_fail(error, rc, "a session is longer than the plan's ctx of %u", plan->settings.ctx);
    if (rc == GEMMA_E_NOPAGES)
        return gm_fail(error, rc,
                       "the sessions there are need more than the plan's %u sessions, %u global and %u sliding "
                       "pages",
                       plan->kv_shape.n_sessions, plan->kv_shape.n_global, plan->kv_shape.n_sliding);
    return gm_fail(error, rc, "the page tables of %u sessions: %s", plan->kv_shape.n_sessions, gm_error_text(rc));
}

int gm_engine_can_take(gm_engine *e, const gm_plan *plan, gemma_error *error)
{
    uint32_t *map[KINDS] = { 0 };
    gm_kv *kv = NULL;
    int rc = GEMMA_OK;
    if (plan->model != e->plan->model) return gm_fail(error, GEMMA_E_ARG, "the plan is of another file than the model");
    for (uint32_t kind = 0; kind < KINDS && !rc; kind++) {
        uint32_t n = pool_pages(&e->plan->kv_shape, kind);
        map[kind] = gm_new_array(e->mem, n, sizeof(uint32_t), GEMMA_TAG_OBJECT);
        if (!map[kind]) rc = gm_fail_nomem(error, "a list of pages", n * sizeof(uint32_t));
    }
    gm_mutex_lock(e->lock);
    gm_engine_await_idle(e);
    if (!rc) rc = rehouse(e, plan, map, &kv, error);
    gm_mutex_unlock(e->lock);
    gm_kv_abandon(kv);
    for (uint32_t kind = 0; kind < KINDS; kind++) gm_delete(e->mem, map[kind]);
    return rc;
}

/* Sessions take over their new sequences; those of a larger plan can grow as far as they have room for ids. */
static void adopt(gm_engine *e, gm_kv *kv)
{
    for (gm_session *s = e->sessions; s; s = s->next) {
        s->seq = gm_kv_seq_moved(s->seq);
        s->ctx = gm_min_u32(s->ctx_asked, e->plan->kv_shape.ctx);
    }
    gm_kv_abandon(e->kv);
    e->kv = kv;
}

/* The status is asked without waiting. */
static void set_plan(gm_engine *e, const gm_plan *plan, gm_resident *resident)
{
    gm_mutex_lock(e->lock);
    e->plan = plan;
    e->resident = resident;
    gm_mutex_unlock(e->lock);
}

int gm_engine_resume(gm_engine *e, const gm_plan *plan, gm_resident *resident, gemma_error *error)
{
    gm_kv *kv = NULL;
    int rc = begin(e, true, error);
    if (rc) {
        gm_resident_destroy(resident);
        return rc;
    }
    const gm_plan *old = e->plan;
    rc = rehouse(e, plan, e->parked->map, &kv, error);
    if (!rc) rc = bring_pages(plan, resident, e->parked, error);
    if (!rc) {
        set_plan(e, plan, resident);
        rc = gm_segments_create(e, error);
        if (rc) gm_segments_destroy(e);
        if (rc) set_plan(e, old, NULL);
    }
    if (rc) {
        gm_kv_abandon(kv);
        gm_resident_destroy(resident);
        return end(e, rc);
    }
    gm_mutex_lock(e->lock);
    adopt(e, kv);
    gm_parked *parked = e->parked;
    e->parked = NULL;
    gm_mutex_unlock(e->lock);
    gm_parked_destroy(parked);
    return end(e, GEMMA_OK);
}

bool gm_engine_is_parked(gm_engine *e)
{
    gm_mutex_lock(e->lock);
    bool parked = e->parked != NULL;
    gm_mutex_unlock(e->lock);
    return parked;
}
