#include "api/handles.h"

void gm_model_drop(gemma_model *model)
{
    if (!model || !gm_ref_drop(&model->ref)) return;
    gemma_plan *plan = model->plan;
    gm_proof_destroy(model->proof);
    gm_engine_destroy(model->engine);
    gm_mutex_destroy(gm_model_mem(model), model->watch.lock);
    gm_delete(gm_model_mem(model), model);
    gm_plan_drop(plan);
}

/* What the drivers of GPUs say this process holds of the plan's heaps; CPUs are left out. */
static uint64_t held_bytes(const gm_plan *p)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->n_lines; i++) {
        const gm_backend *be = p->devices.backends[p->lines[i].share];
        gm_heap_state state = { 0 };
        if (!be->driver_bytes) continue;
        be->fns->heap(be, p->lines[i].heap, &state);
        if (state.budget_reported) bytes += state.used_bytes;
    }
    return bytes;
}

/* What the plan has there. */
static uint64_t planned_bytes(const gm_plan *p)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->n_lines; i++)
        if (p->devices.backends[p->lines[i].share]->driver_bytes) bytes += p->lines[i].total_bytes;
    return bytes;
}

/* Options, or with NULL those that were given before. */
static int read_options(gemma_model *model, const gemma_load_options *options, bool first, gemma_error *error)
{
    gemma_load_options o;
    if (!options && !first) return GEMMA_OK;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_load_options", error);
    if (rc) return rc;
    if (o.flags & ~(first ? (uint32_t)GEMMA_LOAD_REHEARSE : 0))
        return gm_fail(error, GEMMA_E_ARG, "gemma_load_options.flags 0x%x are not known here", o.flags);
    model->options = o;
    model->rehearsed = o.flags & GEMMA_LOAD_REHEARSE;
    return GEMMA_OK;
}

/* The memory of a plan, filled. */
static int take_memory(gemma_model *model, gemma_plan *plan, gm_resident **resident, gemma_error *error)
{
    gemma_file *file = plan->file;
    return gm_weights_load(plan->plan, file->gguf, file->runtime->pool, &model->options, resident, error);
}

/* How fast every block is read, before anything runs. */
static int prove(const gemma_model *model, const gm_plan *plan, const gm_resident *resident, gm_proof **proof,
                 gm_proof_result *proved, gemma_error *error)
{
    *proved = (gm_proof_result){ 0 };
    return model->rehearsed ? GEMMA_OK : gm_proof_create(plan, resident, proof, proved, error);
}

/* All is there; what drivers took for themselves can be said. */
static void settle(gemma_model *model, gm_proof *proof, const gm_proof_result *proved, uint64_t held_before)
{
    const gm_plan *p = model->plan->plan;
    uint64_t after = held_bytes(p), ours = held_before + planned_bytes(p);
    gm_watch_reset(&model->watch);
    gm_mutex_lock(model->watch.lock);
    model->driver_bytes = after > ours ? after - ours : 0;
    model->proof = proof;
    model->proved = *proved;
    gm_mutex_unlock(model->watch.lock);
    model->watch.paged = proved->slow_bytes > 0;
}

int gemma_model_load(gemma_plan *plan, const gemma_load_options *options, gemma_model **out, gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_model_load: out is NULL");
    *out = NULL;
    if (!plan) return gm_fail(error, GEMMA_E_ARG, "gemma_model_load: plan is NULL");
    int rc = gm_plan_check(plan->plan, error);
    if (rc) return rc;

    gemma_model *model = gm_new(&plan->file->runtime->mem, sizeof *model, GEMMA_TAG_OBJECT);
    if (!model) return gm_fail_nomem(error, "a model handle", sizeof *model);
    gm_ref_init(&model->ref);
    model->plan = plan;
    gm_ref_take(&plan->ref);
    gm_resident *resident = NULL;
    gm_proof_result proved;
    uint64_t before = held_bytes(plan->plan);
    rc = gm_mutex_create(gm_model_mem(model), &model->watch.lock);
    if (rc) gm_fail(error, rc, "a model handle: %s", gm_error_text(rc));
    if (!rc) rc = read_options(model, options, true, error);
    if (!rc) rc = take_memory(model, plan, &resident, error);
    if (!rc) rc = prove(model, plan->plan, resident, &model->proof, &proved, error);
    if (rc)
        gm_resident_destroy(resident);
    else
        rc = gm_engine_create(plan->plan, resident, &model->engine, error);
    if (rc) {
        gm_model_drop(model);
        return rc;
    }
    settle(model, model->proof, &proved, before);
    gm_engine_watch(model->engine, gm_model_between, model);
    *out = model;
    return GEMMA_OK;
}

/* ---- parked, resumed, planned anew ---- */

int gm_model_park(gemma_model *model, gemma_error *error)
{
    if (model->rehearsed) return gm_fail(error, GEMMA_E_STATE, "gemma_model_park: the model was loaded as a rehearsal");
    gm_proof *proof = model->proof; /* its readings are of memory that goes */
    int rc = gm_engine_park(model->engine, proof, error);
    if (!rc) model->proof = NULL;
    return rc;
}

int gemma_model_park(gemma_model *model, gemma_error *error)
{
    gm_error_clear(error);
    if (!model) return gm_fail(error, GEMMA_E_ARG, "gemma_model_park: model is NULL");
    gm_watch_take(&model->watch);
    int rc = gm_model_park(model, error);
    gm_watch_give(&model->watch);
    return rc;
}

/* The model is parked; on success the plan is the model's. */
int gm_model_resume(gemma_model *model, gemma_plan *plan, gemma_error *error)
{
    gm_resident *resident = NULL;
    gm_proof *proof = NULL;
    gm_proof_result proved;
    gemma_plan *old = model->plan;
    uint64_t before = held_bytes(plan->plan);
    int rc = gm_plan_check(plan->plan, error);
    if (!rc) rc = take_memory(model, plan, &resident, error);
    if (!rc) rc = prove(model, plan->plan, resident, &proof, &proved, error);
    if (rc)
        gm_resident_destroy(resident);
    else
        rc = gm_engine_resume(model->engine, plan->plan, resident, error);
    if (rc) {
        gm_proof_destroy(proof);
        return rc;
    }
    gm_ref_take(&plan->ref);
    model->plan = plan;
    settle(model, proof, &proved, before);
    gm_plan_drop(old);
    return GEMMA_OK;
}

int gemma_model_resume(gemma_model *model, const gemma_load_options *options, gemma_error *error)
{
    gm_error_clear(error);
    if (!model) return gm_fail(error, GEMMA_E_ARG, "gemma_model_resume: model is NULL");
    if (!gm_engine_is_parked(model->engine))
        return gm_fail(error, GEMMA_E_STATE, "gemma_model_resume: the model is not parked");
    gm_watch_take(&model->watch);
    int rc = read_options(model, options, false, error);
    if (!rc) rc = gm_model_resume(model, model->plan, error);
    gm_watch_give(&model->watch);
    return rc;
}

int gm_model_replan(gemma_model *model, gemma_plan *plan, gemma_error *error)
{
    int rc = gm_plan_check(plan->plan, error);
    if (!rc) rc = gm_engine_can_take(model->engine, plan->plan, error);
    if (!rc && !gm_engine_is_parked(model->engine)) rc = gm_model_park(model, error);
    return rc ? rc : gm_model_resume(model, plan, error);
}

int gemma_model_replan(gemma_model *model, gemma_plan *plan, const gemma_load_options *options, gemma_error *error)
{
    gm_error_clear(error);
    if (!model || !plan) return gm_fail(error, GEMMA_E_ARG, "gemma_model_replan: model or plan is NULL");
    gm_watch_take(&model->watch);
    int rc = read_options(model, options, false, error);
    if (!rc) rc = gm_model_replan(model, plan, error);
    gm_watch_give(&model->watch);
    return rc;
}

gemma_plan *gemma_model_plan(gemma_model *model) { return model ? model->plan : NULL; }

void gemma_model_close(gemma_model *model) { gm_model_drop(model); }

int gemma_model_query(const gemma_model *model, gemma_model_status *status)
{
    if (!model || !status) return GEMMA_E_ARG;
    gemma_model_status full = { .size = sizeof full };
    gm_engine_query(model->engine, &full);
    gm_mutex_lock(model->watch.lock);
    full.driver_bytes = model->driver_bytes;
    full.n_events = atomic_load(&model->watch.n_events);
    full.slowest_gb_s = model->proved.slowest_gb_s;
    full.median_gb_s = model->proved.median_gb_s;
    gm_mutex_unlock(model->watch.lock);
    return gm_result_write(status, &full, sizeof full);
}
