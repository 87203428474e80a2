#include "api/handles.h"

void gm_model_drop(gemma_model *model)
{
    if (!model || !gm_ref_drop(&model->ref)) return;
    gemma_plan *plan = model->plan;
    gm_engine_destroy(model->engine);
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

int gemma_model_load(gemma_plan *plan, const gemma_load_options *options, gemma_model **out, gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_model_load: out is NULL");
    *out = NULL;
    gemma_load_options o;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_load_options", error);
    if (rc) return rc;
    if (!plan) return gm_fail(error, GEMMA_E_ARG, "gemma_model_load: plan is NULL");
    rc = gm_plan_check(plan->plan, error);
    if (rc) return rc;

    gm_mem *mem = &plan->file->runtime->mem;
    gemma_model *model = gm_new(mem, sizeof *model, GEMMA_TAG_OBJECT);
    if (!model) return gm_fail_nomem(error, "a model handle", sizeof *model);
    gm_ref_init(&model->ref);
    model->plan = plan;
    gm_ref_take(&plan->ref);
    gm_resident *resident = NULL;
    uint64_t before = held_bytes(plan->plan);
    rc = gm_weights_load(plan->plan, plan->file->gguf, plan->file->runtime->pool, o.progress, o.progress_user, o.cancel,
                         &resident, error);
    if (!rc) rc = gm_engine_create(plan->plan, resident, &model->engine, error);
    if (rc) {
        gm_model_drop(model);
        return rc;
    }
    uint64_t after = held_bytes(plan->plan), ours = before + planned_bytes(plan->plan);
    if (after > ours) model->driver_bytes = after - ours;
    *out = model;
    return GEMMA_OK;
}

void gemma_model_close(gemma_model *model) { gm_model_drop(model); }

int gemma_model_query(const gemma_model *model, gemma_model_status *status)
{
    if (!model || !status) return GEMMA_E_ARG;
    gemma_model_status full = { .size = sizeof full };
    gm_engine_query(model->engine, &full);
    full.driver_bytes = model->driver_bytes;
    return gm_result_write(status, &full, sizeof full);
}
