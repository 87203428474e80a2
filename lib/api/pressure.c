/* Watching a model's memory between steps: budgets once a second, and the blocks themselves where steps have become slow.
 * What is found is told to the host, whose answer is carried out here. */
#include "api/handles.h"

#define SECOND_NS ((uint64_t)1000000000)

enum { SLOW_STEPS = 3, WARM_STEPS = 4 };

static bool try_take(gm_watch *w)
{
    gm_mutex_lock(w->lock);
    bool free = !w->taken;
    w->taken = true;
    gm_mutex_unlock(w->lock);
    return free;
}

void gm_watch_take(gm_watch *w)
{
    gm_mutex_lock(w->lock);
    while (w->taken) gm_mutex_wait(w->lock, UINT64_MAX);
    w->taken = true;
    gm_mutex_unlock(w->lock);
}

void gm_watch_give(gm_watch *w)
{
    gm_mutex_lock(w->lock);
    w->taken = false;
    gm_mutex_wake_all(w->lock);
    gm_mutex_unlock(w->lock);
}

void gm_watch_reset(gm_watch *w)
{
    memset(w->shrunk, 0, sizeof w->shrunk);
    w->polled_ns = w->read_ns = w->n_decoded = 0;
    w->paged = w->suspected = false;
    atomic_store(&w->stopped, false);
    w->n_slow = 0;
    w->best_gb_s = 0;
}

/* ---- answers ---- */

/* How much a heap that pages holds no budget says. What was read slowly need not have been out of it altogether: half of
 * it is given up, and of what is slow then half again. */
static void leave_out_slow(const gm_plan *old, const gemma_pressure *event, gm_settings *s)
{
    if (event->kind != GEMMA_EVENT_PAGED || event->device != old->devices.numbers[0]) return;
    uint64_t slow = gm_min_u64(event->slow_bytes, event->planned_bytes), held = event->planned_bytes - (slow + 1) / 2;
    if (!s->budget_bytes || held < s->budget_bytes) s->budget_bytes = gm_max_u64(held, 1);
}

/* A plan of the same settings as the model's, shrunk to the budgets of now. */
static int plan_anew(gemma_model *model, const gemma_pressure *event, gemma_plan **out, gemma_error *error)
{
    const gm_plan *old = model->plan->plan;
    gemma_file *file = model->plan->file;
    gm_settings s = old->settings;
    s.fit = GEMMA_FIT_SHRINK;
    leave_out_slow(old, event, &s);
    s.replaced = gm_engine_is_parked(model->engine) ? NULL : old;
    gemma_plan *plan = gm_new(&file->runtime->mem, sizeof *plan, GEMMA_TAG_OBJECT);
    if (!plan) return gm_fail_nomem(error, "a plan handle", sizeof *plan);
    gm_ref_init(&plan->ref);
    plan->file = file;
    gm_ref_take(&file->ref);
    int rc = gm_plan_create(&file->runtime->mem, file->gguf, file->model, &old->devices, &s, &plan->plan, error);
    if (!rc) rc = gm_plan_check(plan->plan, error);
    if (rc) {
        gm_plan_drop(plan);
        return rc;
    }
    *out = plan;
    return GEMMA_OK;
}

static int replan(gemma_model *model, const gemma_pressure *event, gemma_error *error)
{
    gemma_plan *plan = NULL;
    int rc = plan_anew(model, event, &plan, error);
    if (!rc) rc = gm_engine_can_take(model->engine, plan->plan, error);
    if (rc) { /* memory is wanted back all the same */
        if (!gm_engine_is_parked(model->engine)) gm_model_park(model, NULL);
        gm_plan_drop(plan);
        return rc;
    }
    rc = gm_model_replan(model, plan, error);
    gm_plan_drop(plan);
    return rc;
}

static int carry_out(gemma_model *model, const gemma_pressure *event, uint32_t answer, gemma_error *error)
{
    switch (answer) {
    case GEMMA_PRESSURE_STOP: model->watch.stopped = true; return GEMMA_OK;
    case GEMMA_PRESSURE_PARK: return gm_model_park(model, error);
    case GEMMA_PRESSURE_REPLAN: return replan(model, event, error);
    default: return GEMMA_OK;
    }
}

static int tell(gemma_model *model, gemma_pressure *event, gemma_error *error)
{
    event->size = sizeof *event;
    atomic_fetch_add(&model->watch.n_events, 1);
    uint32_t answer = model->options.pressure(model->options.pressure_user, event);
    if (event->kind == GEMMA_EVENT_RECOVERED) {
        model->watch.stopped = false;
        if (answer == GEMMA_PRESSURE_STOP) answer = GEMMA_PRESSURE_KEEP; /* there is nothing to stop for */
    }
    return carry_out(model, event, answer, error);
}

/* ---- budgets ---- */

static gemma_pressure event_of(const gm_plan *p, const gm_bill_line *line, uint32_t kind)
{
    gm_heap_state state = { 0 };
    const gm_backend *be = p->devices.backends[line->share];
    be->fns->heap(be, line->heap, &state);
    return (gemma_pressure){ .kind = kind,
                             .device = p->devices.numbers[line->share],
                             .heap = line->heap,
                             .budget_bytes = state.budget_bytes,
                             .used_bytes = state.used_bytes,
                             .planned_bytes = line->total_bytes };
}

/* The first heap whose budget has come to cover what is there, or to cover it no more. Where none is reported nothing is
 * known. */
static int poll_budgets(gemma_model *model, gemma_error *error)
{
    const gm_plan *p = model->plan->plan;
    gm_watch *w = &model->watch;
    for (uint32_t i = 0; i < p->n_lines; i++) {
        const gm_bill_line *line = &p->lines[i];
        gm_heap_state state = { 0 };
        const gm_backend *be = p->devices.backends[line->share];
        be->fns->heap(be, line->heap, &state);
        bool shrunk = state.budget_reported && state.budget_bytes < gm_max_u64(line->total_bytes, state.used_bytes);
        if (shrunk == w->shrunk[i]) continue;
        w->shrunk[i] = shrunk;
        gemma_pressure event = event_of(p, line, shrunk ? GEMMA_EVENT_SHRUNK : GEMMA_EVENT_RECOVERED);
        return tell(model, &event, error);
    }
    return GEMMA_OK;
}

/* ---- speed ---- */

/* Whether decode steps have been much slower than the best for a while. */
static bool looks_slow(gemma_model *model)
{
    gm_watch *w = &model->watch;
    uint64_t n, ns;
    gm_engine_last_decode(model->engine, &n, &ns);
    if (n == w->n_decoded) return w->n_slow >= SLOW_STEPS;
    w->n_decoded = n;
    double gb_s = (double)model->plan->plan->prediction.bytes_per_token / (double)gm_max_u64(ns, 1);
    if (n <= WARM_STEPS) return false;
    w->best_gb_s = gm_max_f64(w->best_gb_s, gb_s);
    w->n_slow = gb_s < 0.6 * w->best_gb_s ? w->n_slow + 1 : 0;
    return w->n_slow >= SLOW_STEPS;
}

/* What a reading of the blocks has shown, of the heap with the slowest. */
static int tell_blocks(gemma_model *model, const gm_proof_result *r, uint32_t kind, gemma_error *error)
{
    const gm_plan *p = model->plan->plan;
    const gm_bill_line *line = p->lines;
    for (uint32_t i = 0; i < p->n_lines; i++)
        if (p->lines[i].share == r->share && p->lines[i].heap == r->heap) line = &p->lines[i];
    gemma_pressure event = event_of(p, line, kind);
    event.slow_bytes = r->slow_bytes;
    event.gb_s = r->slowest_gb_s;
    event.expected_gb_s = r->expected_gb_s;
    return tell(model, &event, error);
}

/* Reads the blocks again. What is slow for another reason, a busy machine say, is not called paged. */
static int read_blocks(gemma_model *model, gemma_error *error)
{
    gm_watch *w = &model->watch;
    gm_proof_result now;
    int rc = gm_engine_prove_again(model->engine, model->proof, &now, error);
    if (rc) return rc;
    w->n_slow = 0;
    bool paged = now.slow_bytes > 0, again = w->suspected;
    w->suspected = paged && !w->paged && !again;
    if (w->suspected) return GEMMA_OK; /* what passes by itself is not told */
    if (!paged) w->best_gb_s *= 0.9;   /* a machine that has become slower is not asked again and again */
    if (paged == w->paged) return GEMMA_OK;
    w->paged = paged;
    return tell_blocks(model, &now, paged ? GEMMA_EVENT_PAGED : GEMMA_EVENT_RECOVERED, error);
}

/* ---- between steps ---- */

static int look(gemma_model *model, gemma_error *error)
{
    gm_watch *w = &model->watch;
    uint64_t now = gm_now_ns();
    bool first = w->polled_ns == 0, slow = looks_slow(model);
    if (first && w->paged) {
        w->polled_ns = w->read_ns = now;
        return tell_blocks(model, &model->proved, GEMMA_EVENT_PAGED, error); /* slow from the first */
    }
    if (first || now - w->polled_ns >= SECOND_NS) {
        w->polled_ns = now;
        int rc = poll_budgets(model, error);
        if (rc) return rc;
    }
    bool due = w->suspected ? now - w->read_ns >= SECOND_NS / 4
               : slow       ? now - w->read_ns >= SECOND_NS / 2
                            : w->paged && now - w->read_ns >= 2 * SECOND_NS;
    if (!due || !model->proof || !model->proved.n_read) return GEMMA_OK;
    w->read_ns = now;
    return read_blocks(model, error);
}

int gm_model_between(void *user, gemma_error *error)
{
    gemma_model *model = user;
    gm_watch *w = &model->watch;
    if (model->rehearsed)
        return gm_fail(error, GEMMA_E_STATE, "the model was loaded as a rehearsal: its weights are not there");
    if (try_take(w)) {
        bool watched = model->options.pressure && !gm_engine_is_parked(model->engine);
        int rc = watched ? look(model, error) : GEMMA_OK;
        gm_watch_give(w);
        if (rc) return rc;
    }
    if (!w->stopped) return GEMMA_OK;
    return gm_fail(error, GEMMA_E_STALE, "stopped: a heap's budget no longer covers what the model has there");
}
