/* Making plans: as asked, or shrunk to fit, or split over two devices. */
#include "plan/layout.h"

int gm_plan_try(const gm_maker *k, gm_settings s, gm_plan **out)
{
    gm_settings_limit(&s);
    gemma_error why = { .size = sizeof why };
    int rc = gm_layout_create(k->mem, k->gguf, k->model, k->devices, &s, out, &why);
    if (rc == GEMMA_E_UNSUPPORTED) return GEMMA_OK;
    if (rc) return gm_fail(k->error, rc, "%s", why.message);
    if (!(*out)->fits) {
        gm_plan_destroy(*out);
        *out = NULL;
    }
    return GEMMA_OK;
}

int gm_plan_try_ctx(const gm_maker *k, gm_settings s, gm_plan **out)
{
    uint32_t low = (uint32_t)gm_div_up(gm_max_u32(s.min_ctx, 1), GM_PAGE), high = (s.ctx - 1) / GM_PAGE; /* pages */
    *out = NULL;
    for (uint32_t pages = low; low <= high;) { /* the smallest first: often nothing fits */
        gm_plan *plan;
        s.ctx = pages * GM_PAGE;
        int rc = gm_plan_try(k, s, &plan);
        if (rc) {
            gm_plan_destroy(*out);
            *out = NULL;
            return rc;
        }
        if (plan) {
            gm_plan_destroy(*out);
            *out = plan;
            low = pages + 1;
        } else {
            high = pages - 1;
        }
        pages = low + (high - low) / 2;
    }
    return GEMMA_OK;
}

bool gm_settings_smaller_kv(gm_settings *s)
{
    bool any = false;
    for (int kind = 0; kind < 2; kind++) {
        if (s->kv_type[kind] >= GEMMA_TYPE_Q4_0) continue;
        s->kv_type[kind]++;
        any = true;
    }
    return any;
}

/* SHRINK: a shorter context, then smaller KV types with as long a context as fits. */
static int shrink(const gm_maker *k, gm_settings s, gm_plan **out)
{
    gm_settings whole = s;
    int rc = gm_plan_try_ctx(k, s, out);
    while (!rc && !*out && gm_settings_smaller_kv(&whole)) {
        rc = gm_plan_try(k, whole, out);
        if (!rc && !*out) rc = gm_plan_try_ctx(k, whole, out);
    }
    return rc;
}

int gm_plan_create(gm_mem *mem, const gm_gguf *gguf, const gm_model *model, const gm_devices *devices,
                   const gm_settings *settings, gm_plan **out, gemma_error *error)
{
    const gm_maker k = { mem, gguf, model, devices, error };
    gm_plan *plan, *better = NULL;
    *out = NULL;
    int rc = gm_layout_create(mem, gguf, model, devices, settings, &plan, error);
    if (rc) return rc;
    if (!plan->fits && settings->fit == GEMMA_FIT_SHRINK) rc = shrink(&k, *settings, &better);
    if (!plan->fits && settings->fit == GEMMA_FIT_SPLIT) rc = gm_plan_split(&k, *settings, &better);
    if (better) {
        gm_plan_destroy(plan);
        plan = better;
    }
    if (!rc && !plan->fits) rc = gm_plan_advise(&k, plan);
    if (rc) {
        gm_plan_destroy(plan);
        return rc;
    }
    plan->settings.replaced = NULL;
    *out = plan;
    return GEMMA_OK;
}

void gm_plan_destroy(gm_plan *plan)
{
    if (!plan) return;
    for (uint32_t i = 0; i < plan->devices.n && plan->shares; i++) {
        gm_share *s = &plan->shares[i];
        for (uint32_t k = 0; k < GM_PROGRAMS; k++) {
            gm_program_destroy(s->programs[k]);
            gm_delete(plan->mem, s->slot_offset[k]);
        }
        gm_delete(plan->mem, s->weights);
    }
    for (uint32_t i = 0; i < GM_PROGRAMS; i++) {
        gm_program_destroy(plan->programs[i]);
        gm_cuts_clear(plan->mem, &plan->cuts[i]);
    }
    gm_delete(plan->mem, plan->shares);
    gm_delete(plan->mem, plan->blocks);
    gm_delete(plan->mem, plan->shapes);
    gm_delete(plan->mem, plan->kv_share);
    gm_delete(plan->mem, plan->kv_k);
    gm_delete(plan->mem, plan->kv_v);
    gm_delete(plan->mem, plan->advice);
    gm_delete(plan->mem, plan);
}
