/* Making plans: as asked, or shrunk to fit; and advice for one that does not fit. */
#include "plan/layout.h"

enum { MAX_ADVICE = 4, MIN_UBATCH = 32, SMALL_UBATCH = 64 };

typedef struct maker {
    gm_mem *mem;
    const gm_gguf *gguf;
    const gm_model *model;
    gm_backend *backend;
    gemma_error *error;
} maker;

/* *out is the plan for s if it fits, else NULL. A KV type that the device lacks counts as not fitting. */
static int try(const maker *k, gm_settings s, gm_plan **out)
{
    gm_settings_limit(&s);
    gemma_error why = { .size = sizeof why };
    int rc = gm_layout_create(k->mem, k->gguf, k->model, k->backend, &s, out, &why);
    if (rc == GEMMA_E_UNSUPPORTED) return GEMMA_OK;
    if (rc) return gm_fail(k->error, rc, "%s", why.message);
    if (!(*out)->fits) {
        gm_plan_destroy(*out);
        *out = NULL;
    }
    return GEMMA_OK;
}

/* The largest context from s.min_ctx up to below s.ctx, in whole pages, that fits; *out NULL: none does. */
static int try_ctx(const maker *k, gm_settings s, gm_plan **out)
{
    uint32_t low = (uint32_t)gm_div_up(gm_max_u32(s.min_ctx, 1), GM_PAGE), high = (s.ctx - 1) / GM_PAGE; /* pages */
    *out = NULL;
    for (uint32_t pages = low; low <= high;) { /* the smallest first: often nothing fits */
        gm_plan *plan;
        s.ctx = pages * GM_PAGE;
        int rc = try(k, s, &plan);
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

/* The next smaller KV type for both kinds; false: there is none. */
static bool smaller_kv(gm_settings *s)
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
static int shrink(const maker *k, gm_settings s, gm_plan **out)
{
    gm_settings whole = s;
    int rc = try_ctx(k, s, out);
    while (!rc && !*out && smaller_kv(&whole)) {
        rc = try(k, whole, out);
        if (!rc && !*out) rc = try_ctx(k, whole, out);
    }
    return rc;
}

/* ---- advice ---- */

static void advise(gm_plan *plan, gm_plan *tried)
{
    if (!tried) return;
    const gm_settings *s = &tried->settings;
    plan->advice[plan->n_advice++] = (gemma_advice){ .size = sizeof(gemma_advice),
                                                     .ctx = s->ctx,
                                                     .kv_global = s->kv_type[GM_KV_GLOBAL],
                                                     .kv_sliding = s->kv_type[GM_KV_SLIDING],
                                                     .n_sessions = s->n_sessions,
                                                     .ubatch = s->ubatch,
                                                     .total_bytes = tried->lines[0].total_bytes,
                                                     .budget_bytes = tried->lines[0].budget_bytes };
    gm_plan_destroy(tried);
}

static int advise_ctx(const maker *k, gm_plan *plan)
{
    gm_plan *tried;
    int rc = try_ctx(k, plan->settings, &tried);
    advise(plan, tried);
    return rc;
}

static int advise_sessions(const maker *k, gm_plan *plan)
{
    gm_plan *tried = NULL;
    gm_settings s = plan->settings;
    int rc = GEMMA_OK;
    while (!rc && !tried && s.n_sessions > 1) {
        s.n_sessions /= 2;
        rc = try(k, s, &tried);
    }
    advise(plan, tried);
    return rc;
}

static int advise_ubatch(const maker *k, gm_plan *plan)
{
    gm_plan *tried = NULL;
    gm_settings s = plan->settings;
    int rc = GEMMA_OK;
    while (!rc && !tried && s.ubatch > MIN_UBATCH) {
        s.ubatch = gm_max_u32(s.ubatch / 2, MIN_UBATCH);
        rc = try(k, s, &tried);
    }
    advise(plan, tried);
    return rc;
}

/* Smaller KV types alone; where no single change was enough, everything at once. */
static int advise_kv(const maker *k, gm_plan *plan)
{
    gm_plan *tried = NULL;
    gm_settings s = plan->settings;
    int rc = GEMMA_OK;
    while (!rc && !tried && smaller_kv(&s)) rc = try(k, s, &tried);
    if (!rc && !tried && plan->n_advice == 0) {
        s = plan->settings;
        s.n_sessions = 1;
        s.ubatch = gm_min_u32(s.ubatch, SMALL_UBATCH);
        rc = try_ctx(k, s, &tried);
    }
    advise(plan, tried);
    return rc;
}

static int give_advice(const maker *k, gm_plan *plan)
{
    const gm_bill_line *line = &plan->lines[0];
    uint64_t weight_bytes = 0;
    for (uint32_t c = GEMMA_CLASS_EMBEDDING; c <= GEMMA_CLASS_NORMS; c++) weight_bytes += line->class_bytes[c];
    plan->fits_mapped = k->backend->can_map && line->total_bytes - weight_bytes <= line->budget_bytes;
    plan->advice = gm_new_array(k->mem, MAX_ADVICE, sizeof *plan->advice, GEMMA_TAG_OBJECT);
    if (!plan->advice) return gm_fail_nomem(k->error, "advice", MAX_ADVICE * sizeof *plan->advice);
    if (line->total_bytes > line->budget_bytes && weight_bytes > line->budget_bytes) return GEMMA_OK;
    int rc = advise_ctx(k, plan);
    if (!rc) rc = advise_sessions(k, plan);
    if (!rc) rc = advise_ubatch(k, plan);
    if (!rc) rc = advise_kv(k, plan);
    return rc;
}

int gm_plan_create(gm_mem *mem, const gm_gguf *gguf, const gm_model *model, gm_backend *backend,
                   const gm_settings *settings, gm_plan **out, gemma_error *error)
{
    const maker k = { mem, gguf, model, backend, error };
    gm_plan *plan, *shrunk = NULL;
    *out = NULL;
    int rc = gm_layout_create(mem, gguf, model, backend, settings, &plan, error);
    if (rc) return rc;
    if (!plan->fits && settings->fit == GEMMA_FIT_SHRINK) rc = shrink(&k, *settings, &shrunk);
    if (shrunk) {
        gm_plan_destroy(plan);
        plan = shrunk;
    }
    if (!rc && !plan->fits) rc = give_advice(&k, plan);
    if (rc) {
        gm_plan_destroy(plan);
        return rc;
    }
    *out = plan;
    return GEMMA_OK;
}

void gm_plan_destroy(gm_plan *plan)
{
    if (!plan) return;
    for (uint32_t i = 0; i < GM_PROGRAMS; i++) {
        gm_program_destroy(plan->programs[i]);
        gm_delete(plan->mem, plan->slot_offset[i]);
    }
    gm_delete(plan->mem, plan->blocks);
    gm_delete(plan->mem, plan->weights);
    gm_delete(plan->mem, plan->shapes);
    gm_delete(plan->mem, plan->kv_k);
    gm_delete(plan->mem, plan->kv_v);
    gm_delete(plan->mem, plan->advice);
    gm_delete(plan->mem, plan);
}
