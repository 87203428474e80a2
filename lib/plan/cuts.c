/* Cutting programs where the device changes: each share gets its ops, and what another share has made crosses over. */
#include "plan/layout.h"

typedef struct cutter {
    gm_plan *plan;
    const gm_program *whole;
    gm_cuts *cuts;
    gm_which which;
    uint32_t *valid;  /* [n_slots] the shares that hold the slot's value, a bit each */
    uint32_t *latest; /* [devices.n] the last segment of each share */
    gemma_error *error;
} cutter;

/* ---- who runs what ---- */

/* The weight that says where the op runs: the first that is no small one. Those lie wherever they are needed. */
static int32_t deciding_weight(const gm_plan *p, const gm_op *op)
{
    for (size_t i = 0; i < GM_COUNT(op->w); i++)
        if (op->w[i] >= 0 && p->model->weights[op->w[i]].bytes_class != GEMMA_CLASS_NORMS) return op->w[i];
    return -1;
}

uint32_t gm_layout_share_of(const gm_plan *p, const gm_op *op, const uint8_t *weight_share, uint32_t before)
{
    if (op->kv >= 0) return p->kv_share[op->kv];
    if (op->kind == GM_OP_HEADS) return p->kv_share[p->model->layers[op->layer].kv];
    int32_t w = deciding_weight(p, op);
    return w >= 0 ? weight_share[w] : before;
}

/* ---- cutting ---- */

/* Room for one more element of a growing array; NULL: out of memory, told. */
static void *room(cutter *c, void *array, uint32_t n, uint32_t *cap, size_t element_bytes)
{
    if (n < *cap) return array;
    uint32_t more = *cap ? 2 * *cap : 8;
    void *grown = gm_grow(c->plan->mem, array, more * element_bytes, GEMMA_TAG_OBJECT);
    if (grown)
        *cap = more;
    else
        gm_fail_nomem(c->error, "the segments of a program", more * element_bytes);
    return grown;
}

static int open_segment(cutter *c, uint32_t share)
{
    gm_cuts *cuts = c->cuts;
    gm_segment *segments = room(c, cuts->segments, cuts->n_segments, &cuts->cap_segments, sizeof *segments);
    if (!segments) return GEMMA_E_NOMEM;
    cuts->segments = segments;
    gm_share *s = &c->plan->shares[share];
    if (!s->programs[c->which]) {
        int rc = gm_program_create(c->plan->mem, c->whole->max_rows, c->whole->cut, &s->programs[c->which]);
        if (rc) return gm_fail_nomem(c->error, "a device's program", sizeof *c->whole);
        gm_program *p = s->programs[c->which];
        for (uint32_t i = 0; i < c->whole->n_slots; i++)
            gm_program_slot(p, c->whole->slots[i].width, (gm_rows)c->whole->slots[i].rows);
        p->weights = c->whole->weights;
        p->n_weights = c->whole->n_weights;
        p->kv = c->whole->kv;
        p->n_kv = c->whole->n_kv;
        p->suppressed = c->whole->suppressed;
        p->n_suppressed = c->whole->n_suppressed;
    }
    c->latest[share] = cuts->n_segments;
    segments[cuts->n_segments++] =
        (gm_segment){ .share = share, .first_op = s->programs[c->which]->n_ops, .first_crossing = cuts->n_crossings };
    return GEMMA_OK;
}

static gm_op *append(cutter *c, uint32_t share, gm_op_kind kind, gm_rows rows, int32_t layer)
{
    c->cuts->segments[c->latest[share]].n_ops++;
    return gm_program_op(c->plan->shares[share].programs[c->which], kind, rows, layer);
}

/* The first place on the bridge that no crossing of the same time has. */
static uint32_t find_offset(const cutter *c, const gm_crossing *x)
{
    uint32_t width = c->whole->slots[x->slot].width, offset = 0;
    for (uint32_t i = 0; i < c->cuts->n_crossings; i++) {
        const gm_crossing *o = &c->cuts->crossings[i];
        bool apart_in_time = o->taken < x->sent || x->taken < o->sent;
        bool apart = offset + width <= o->offset || o->offset + c->whole->slots[o->slot].width <= offset;
        if (apart_in_time || apart) continue;
        offset = o->offset + c->whole->slots[o->slot].width;
        i = UINT32_MAX; /* from the start: it may be in the way of others now */
    }
    return offset;
}

/* A slot's value from the share that has it to the one that needs it. */
static int cross(cutter *c, uint16_t slot, uint32_t to, int32_t layer)
{
    gm_cuts *cuts = c->cuts;
    uint32_t from = 0;
    while (!(c->valid[slot] >> from & 1)) from++;
    gm_crossing *crossings = room(c, cuts->crossings, cuts->n_crossings, &cuts->cap_crossings, sizeof *crossings);
    if (!crossings) return GEMMA_E_NOMEM;
    cuts->crossings = crossings;
    gm_crossing x = { .from = from, .to = to, .slot = slot, .sent = c->latest[from], .taken = cuts->n_segments - 1 };
    x.offset = find_offset(c, &x);
    crossings[cuts->n_crossings++] = x;
    cuts->segments[x.taken].n_crossings++;
    cuts->bridge_width = gm_max_u32(cuts->bridge_width, x.offset + c->whole->slots[slot].width);
    gm_rows rows = (gm_rows)c->whole->slots[slot].rows;
    gm_op *op = append(c, from, GM_OP_SEND, rows, layer);
    op->in[0] = slot;
    op->offset = x.offset;
    op = append(c, to, GM_OP_RECEIVE, rows, layer);
    op->out[0] = slot;
    op->offset = x.offset;
    c->valid[slot] |= 1u << to;
    return GEMMA_OK;
}

static int add_op(cutter *c, const gm_op *op, uint32_t share)
{
    gm_cuts *cuts = c->cuts;
    int rc = GEMMA_OK;
    if (!cuts->n_segments || cuts->segments[cuts->n_segments - 1].share != share) rc = open_segment(c, share);
    for (size_t i = 0; i < GM_COUNT(op->in) && !rc; i++)
        if (op->in[i] != GM_NONE && !(c->valid[op->in[i]] >> share & 1)) rc = cross(c, op->in[i], share, op->layer);
    if (rc) return rc;
    *append(c, share, (gm_op_kind)op->kind, (gm_rows)op->rows, op->layer) = *op;
    for (size_t i = 0; i < GM_COUNT(op->out); i++)
        if (op->out[i] != GM_NONE) c->valid[op->out[i]] = 1u << share;
    if (op->kind == GM_OP_HEAD) c->plan->head_share = share;
    return GEMMA_OK;
}

int gm_layout_cut(gm_plan *p, gm_which which, const uint8_t *weight_share, gemma_error *error)
{
    cutter c = { .plan = p, .whole = p->programs[which], .cuts = &p->cuts[which], .which = which, .error = error };
    uint64_t n_words = (uint64_t)c.whole->n_slots + p->devices.n;
    c.valid = gm_new_array(p->mem, n_words, sizeof *c.valid, GEMMA_TAG_OBJECT);
    if (!c.valid) return gm_fail_nomem(error, "the segments of a program", n_words * sizeof *c.valid);
    c.latest = c.valid + c.whole->n_slots;
    uint32_t share = 0;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < c.whole->n_ops && !rc; i++) {
        share = gm_layout_share_of(p, &c.whole->ops[i], weight_share, share);
        rc = add_op(&c, &c.whole->ops[i], share);
    }
    for (uint32_t i = 0; i < p->devices.n && !rc; i++)
        if (p->shares[i].programs[which]) rc = gm_program_check(p->shares[i].programs[which], error);
    gm_delete(p->mem, c.valid);
    return rc;
}

void gm_cuts_clear(gm_mem *mem, gm_cuts *cuts)
{
    gm_delete(mem, cuts->segments);
    gm_delete(mem, cuts->crossings);
    *cuts = (gm_cuts){ 0 };
}
