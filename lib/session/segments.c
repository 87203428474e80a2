/* A program's segments, one behind the other: each on its device, what the next one needs carried over between them. */
#include "session/internal.h"

/* ---- create, destroy ---- */

static int compile(gm_engine *e, gm_which which, uint32_t index, gemma_error *error)
{
    const gm_segment *segment = &e->plan->cuts[which].segments[index];
    const gm_share *share = &e->plan->shares[segment->share];
    const gm_resident_share *resident = &e->resident->shares[segment->share];
    gm_program ops = *share->programs[which];
    ops.ops += segment->first_op;
    ops.n_ops = segment->n_ops;
    gm_exec_desc desc = {
        .program = &ops,
        .weights = resident->weights,
        .kv_k = resident->kv_k,
        .kv_v = resident->kv_v,
        .scratch = resident->scratch,
        .slot_offset = share->slot_offset[which],
        .workspace_offset = share->workspace_offset,
        .block = &e->blocks[segment->share],
        .limits = share->limits,
    };
    return gm_exec_create(share->backend, &desc, &e->execs[which][index], error);
}

int gm_segments_create(gm_engine *e, gemma_error *error)
{
    const gm_plan *p = e->plan;
    e->blocks = gm_new_array(e->mem, p->devices.n, sizeof *e->blocks, GEMMA_TAG_OBJECT);
    if (!e->blocks) return gm_fail_nomem(error, "the step blocks", p->devices.n * sizeof *e->blocks);
    for (uint32_t i = p->devices.n; i-- > 0;) {
        const gm_share *s = &p->shares[i];
        if (!gm_share_used(s)) continue;
        char *base = (char *)e->resident->shares[i].staging->host + s->staging.offset;
        gm_step_block_layout(&s->limits, base, &e->blocks[i]);
        e->blocks[i].n_rows = e->blocks[i].n_wanted = e->blocks[i].n_copies = 0;
        e->first_share = i;
    }
    int rc = GEMMA_OK;
    for (int which = 0; !rc && which < GM_PROGRAMS; which++) {
        uint32_t n = p->cuts[which].n_segments;
        e->execs[which] = gm_new_array(e->mem, n, sizeof(gm_exec *), GEMMA_TAG_OBJECT);
        if (!e->execs[which]) return gm_fail_nomem(error, "a program's segments", n * sizeof(gm_exec *));
        for (uint32_t i = 0; !rc && i < n; i++) rc = compile(e, (gm_which)which, i, error);
    }
    return rc;
}

void gm_segments_destroy(gm_engine *e)
{
    for (int which = 0; which < GM_PROGRAMS; which++) {
        const gm_cuts *cuts = &e->plan->cuts[which];
        for (uint32_t i = 0; e->execs[which] && i < cuts->n_segments; i++)
            gm_exec_destroy(e->plan->shares[cuts->segments[i].share].backend, e->execs[which][i]);
        gm_delete(e->mem, e->execs[which]);
        e->execs[which] = NULL;
    }
    gm_delete(e->mem, e->blocks);
    e->blocks = NULL;
}

/* ---- running ---- */

static const gm_segment *segment_of(const gm_engine *e) { return &e->plan->cuts[e->which].segments[e->segment]; }

/* From the bridges of the devices that have sent to that of the segment's device. */
static void carry_over(gm_engine *e)
{
    const gm_cuts *cuts = &e->plan->cuts[e->which];
    const gm_segment *segment = segment_of(e);
    const gm_step_limits *l = &e->plan->shares[segment->share].limits;
    for (uint32_t i = 0; i < segment->n_crossings; i++) {
        const gm_crossing *x = &cuts->crossings[segment->first_crossing + i];
        const gm_slot *slot = &e->plan->programs[e->which]->slots[x->slot];
        const gm_step_block *from = &e->blocks[x->from], *to = &e->blocks[x->to];
        size_t n_rows = slot->rows == GM_ROWS_WANTED ? to->n_wanted : to->n_rows;
        memcpy(gm_bridge_at(to, l, x->offset), gm_bridge_at(from, l, x->offset), n_rows * slot->width * sizeof(float));
    }
}

static int submit(gm_engine *e, gemma_error *error)
{
    const gm_segment *segment = segment_of(e);
    if (!e->cancelled) carry_over(e);
    return e->plan->shares[segment->share].backend->fns->submit(e->execs[e->which][e->segment], e->cancel, error);
}

int gm_segments_start(gm_engine *e, gm_which which, const gemma_cancel *cancel, gemma_error *error)
{
    e->which = which;
    e->segment = 0;
    e->cancel = cancel;
    e->cancelled = false;
    e->n_dispatches = e->n_submits = 0;
    return submit(e, error);
}

/* To the segment that runs next; false: there is none. Of a cancelled step only those run that have page copies to do. */
static bool go_on(gm_engine *e)
{
    e->blocks[segment_of(e)->share].n_copies = 0;
    while (++e->segment < e->plan->cuts[e->which].n_segments)
        if (!e->cancelled || e->blocks[segment_of(e)->share].n_copies) return true;
    return false;
}

static void count(gm_engine *e, gm_backend *be)
{
    uint32_t n_dispatches, n_submits;
    be->fns->counts(e->execs[e->which][e->segment], &n_dispatches, &n_submits);
    e->n_dispatches += n_dispatches;
    e->n_submits += n_submits;
}

int gm_segments_wait(gm_engine *e, uint64_t timeout_ns, gemma_error *error)
{
    uint64_t begun = gm_now_ns();
    for (;;) {
        uint64_t passed = timeout_ns == FOREVER ? 0 : gm_now_ns() - begun;
        uint64_t left = passed < timeout_ns ? timeout_ns - passed : 0;
        gm_backend *be = e->plan->shares[segment_of(e)->share].backend;
        int rc = be->fns->wait(e->execs[e->which][e->segment], left, error);
        if (rc && rc != GEMMA_E_CANCELLED) return rc;
        count(e, be);
        e->cancelled = e->cancelled || rc == GEMMA_E_CANCELLED;
        if (!go_on(e)) break;
        rc = submit(e, error);
        if (rc) return rc;
    }
    return e->cancelled ? gm_fail(error, GEMMA_E_CANCELLED, "the step was cancelled") : GEMMA_OK;
}
