/* Running a step: one pass of the pool over the phases of all ops. */
#include "backend/cpu/exec.h"

bool gm_cpu_stopped(gm_exec *x)
{
    if (x->cancel && atomic_load_explicit(&x->cancel->raised, memory_order_relaxed))
        atomic_store_explicit(&x->cancelled, true, memory_order_relaxed);
    return atomic_load_explicit(&x->cancelled, memory_order_relaxed);
}

/* Where a part's stretch of the items begins. A single item is the first part's. */
static uint32_t share_start(uint32_t n_items, uint32_t part, uint32_t n_parts)
{
    return (uint32_t)gm_div_up((uint64_t)n_items * part, n_parts);
}

bool gm_cpu_take(const gm_cpu_task *t, uint32_t n_items, uint32_t grain, uint32_t *first, uint32_t *last)
{
    if (gm_cpu_stopped(t->x)) return false;
    for (uint32_t i = 0; i < t->n_parts; i++) {
        uint32_t of = (t->part + i) % t->n_parts;
        uint32_t start = share_start(n_items, of, t->n_parts), end = share_start(n_items, of + 1, t->n_parts);
        atomic_uint *taken = &t->taken[of].n;
        if (atomic_load_explicit(taken, memory_order_relaxed) >= end - start) continue;
        uint32_t n = atomic_fetch_add_explicit(taken, grain, memory_order_relaxed);
        if (n >= end - start) continue;
        *first = start + n;
        *last = gm_min_u32(end, *first + grain);
        return true;
    }
    return false;
}

static uint32_t rows_of(const gm_exec *x, const gm_op *op)
{
    bool wanted = op->kind == GM_OP_HEAD || op->rows == GM_ROWS_WANTED;
    return wanted ? x->block->n_wanted : x->block->n_rows;
}

static void run_phase(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    gm_exec *x = arg;
    gm_cpu_phase *p = &x->phases[phase];
    gm_cpu_op *o = &x->ops[p->op];
    gm_cpu_taken *next = x->taken + (phase + 1) % 2 * n_parts;
    atomic_store_explicit(&next[part].n, 0, memory_order_relaxed);
    gm_cpu_task t = { .o = o,
                      .x = x,
                      .k = &x->cpu->kernels,
                      .block = x->block,
                      .n_rows = rows_of(x, &o->op),
                      .phase = p->phase,
                      .part = part,
                      .n_parts = n_parts,
                      .taken = x->taken + phase % 2 * n_parts };
    /* The thread may be a host's, with modes of its own. */
    uint64_t modes = gm_float_env_set_default();
    o->run(&t);
    gm_float_env_restore(modes);
}

static bool stop(void *arg) { return gm_cpu_stopped(arg); }

/* Copies in their order; layers apart, since they share nothing. */
static void copy_pages(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    (void)phase;
    const gm_exec *x = arg;
    for (uint32_t i = part; i < 2 * x->n_kv; i += n_parts) {
        const gm_cpu_kv *kv = &x->kv[i / 2];
        uint8_t *pages = i % 2 ? kv->v : kv->k;
        if (!pages) continue;
        for (uint32_t c = 0; c < x->block->n_copies; c++) {
            const gm_page_copy *copy = &x->block->copies[c];
            if (copy->kind == kv->kind && copy->from != copy->to)
                memcpy(pages + copy->to * kv->page_bytes, pages + copy->from * kv->page_bytes, kv->page_bytes);
        }
    }
}

static void list_phases(gm_exec *x)
{
    x->n_phases = 0;
    for (uint32_t i = 0; i < x->n_ops; i++) {
        uint32_t n = gm_cpu_op_phases(x, &x->ops[i], rows_of(x, &x->ops[i].op));
        for (uint32_t phase = 0; phase < n; phase++) {
            gm_cpu_phase *p = &x->phases[x->n_phases++];
            p->op = i;
            p->phase = phase;
        }
    }
}

int gm_cpu_submit(gm_exec *x, const gemma_cancel *cancel, gemma_error *error)
{
    if (x->block->n_rows > x->max_rows)
        return gm_fail(error, GEMMA_E_INTERNAL, "a step of %u rows for a program of %u", x->block->n_rows, x->max_rows);
    int rc = gm_step_block_check(x->block, &x->limits, error);
    if (rc) return rc;
    x->cancel = cancel;
    atomic_store(&x->cancelled, false);
    if (x->block->n_copies) gm_pool_run(x->cpu->pool, copy_pages, x, 1, NULL);
    list_phases(x);
    for (uint32_t i = 0; i < x->cpu->n_parts; i++) atomic_store_explicit(&x->taken[i].n, 0, memory_order_relaxed);
    bool whole = gm_pool_run(x->cpu->pool, run_phase, x, x->n_phases, stop);
    x->result = whole && !atomic_load(&x->cancelled) ? GEMMA_OK : GEMMA_E_CANCELLED;
    x->cancel = NULL;
    return GEMMA_OK;
}

int gm_cpu_wait(gm_exec *x, uint64_t timeout_ns, gemma_error *error)
{
    (void)timeout_ns;
    return x->result ? gm_fail(error, x->result, "the step was cancelled") : GEMMA_OK;
}

void gm_cpu_counts(const gm_exec *x, uint32_t *n_dispatches, uint32_t *n_submits)
{
    *n_dispatches = x->n_phases;
    *n_submits = 1;
}
