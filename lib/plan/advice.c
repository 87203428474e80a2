/* What would fit instead: changed options, each tried. */
#include "plan/layout.h"

enum { MAX_ADVICE = 8, MIN_UBATCH = 32, SMALL_UBATCH = 64 };

/* Takes a plan that fits over as a piece of advice; NULL: there is none. */
static void advise(gm_plan *plan, gm_plan *tried)
{
    if (!tried) return;
    const gm_settings *s = &tried->settings;
    plan->advice[plan->n_advice++] = (gemma_advice){
        .size = sizeof(gemma_advice),
        .ctx = s->ctx,
        .kv_global = s->kv_type[GM_KV_GLOBAL],
        .kv_sliding = s->kv_type[GM_KV_SLIDING],
        .n_sessions = s->n_sessions,
        .ubatch = s->ubatch,
        .total_bytes = tried->lines[0].total_bytes,
        .budget_bytes = tried->lines[0].budget_bytes,
        .fit = s->split_layers || s->split_experts ? (uint32_t)GEMMA_FIT_SPLIT : plan->settings.fit,
        .second_device = s->split_layers || s->split_experts ? tried->devices.numbers[s->second] : s->device,
        .split_layers = s->split_layers,
        .split_experts = s->split_experts,
        .decode_tok_s = tried->prediction.decode_tok_s,
        .decode_full_tok_s = tried->prediction.decode_full_tok_s,
    };
    gm_plan_destroy(tried);
}

static int advise_ctx(const gm_maker *k, gm_plan *plan)
{
    gm_plan *tried;
    int rc = gm_plan_try_ctx(k, plan->settings, &tried);
    advise(plan, tried);
    return rc;
}

/* Halves a number of the settings s, of which `number` is a field, down to `least` until the plan fits. */
static int advise_less(const gm_maker *k, gm_plan *plan, gm_settings *s, uint32_t *number, uint32_t least)
{
    gm_plan *tried = NULL;
    int rc = GEMMA_OK;
    while (!rc && !tried && *number > least) {
        *number = gm_max_u32(*number / 2, least);
        rc = gm_plan_try(k, *s, &tried);
    }
    advise(plan, tried);
    return rc;
}

/* Each smaller KV type with as long a context as fits, where that is longer than any advised before. */
static int advise_kv_and_ctx(const gm_maker *k, gm_plan *plan)
{
    gm_settings s = plan->settings;
    uint32_t longest = plan->n_advice ? plan->advice[0].ctx : UINT32_MAX;
    int rc = GEMMA_OK;
    while (!rc && longest < s.ctx && gm_settings_smaller_kv(&s)) {
        gm_plan *tried;
        rc = gm_plan_try_ctx(k, s, &tried);
        if (tried && tried->settings.ctx > longest) {
            longest = tried->settings.ctx;
            advise(plan, tried);
        } else {
            gm_plan_destroy(tried);
        }
    }
    return rc;
}

/* Smaller KV types alone, or with a shorter context; where nothing was enough, everything at once. */
static int advise_kv(const gm_maker *k, gm_plan *plan)
{
    gm_plan *tried = NULL;
    gm_settings s = plan->settings;
    int rc = GEMMA_OK;
    while (!rc && !tried && gm_settings_smaller_kv(&s)) rc = gm_plan_try(k, s, &tried);
    if (!rc && !tried) rc = advise_kv_and_ctx(k, plan);
    if (!rc && !tried && plan->n_advice == 0) {
        s = plan->settings;
        s.n_sessions = 1;
        s.ubatch = gm_min_u32(s.ubatch, SMALL_UBATCH);
        rc = gm_plan_try_ctx(k, s, &tried);
        while (!rc && !tried && gm_settings_smaller_kv(&s)) rc = gm_plan_try_ctx(k, s, &tried);
    }
    advise(plan, tried);
    return rc;
}

static int advise_split(const gm_maker *k, gm_plan *plan)
{
    gm_plan *tried = NULL;
    if (plan->settings.fit == GEMMA_FIT_SPLIT) return GEMMA_OK; /* was tried */
    int rc = gm_plan_split(k, plan->settings, &tried);
    advise(plan, tried);
    return rc;
}

int gm_plan_advise(const gm_maker *k, gm_plan *plan)
{
    const gm_bill_line *line = &plan->lines[0];
    uint64_t weight_bytes = 0;
    for (uint32_t c = GEMMA_CLASS_EMBEDDING; c <= GEMMA_CLASS_NORMS; c++) weight_bytes += line->class_bytes[c];
    plan->fits_mapped = plan->shares[line->share].backend->can_map && plan->n_lines == 1 &&
                        line->total_bytes - weight_bytes <= line->budget_bytes;
    plan->advice = gm_new_array(k->mem, MAX_ADVICE, sizeof *plan->advice, GEMMA_TAG_OBJECT);
    if (!plan->advice) return gm_fail_nomem(k->error, "advice", MAX_ADVICE * sizeof *plan->advice);
    gm_settings fewer = plan->settings, shorter = plan->settings;
    int rc = GEMMA_OK;
    if (line->total_bytes <= line->budget_bytes || weight_bytes <= line->budget_bytes) {
        rc = advise_ctx(k, plan);
        if (!rc) rc = advise_less(k, plan, &fewer, &fewer.n_sessions, 1);
        if (!rc) rc = advise_less(k, plan, &shorter, &shorter.ubatch, MIN_UBATCH);
        if (!rc) rc = advise_kv(k, plan);
    }
    return rc ? rc : advise_split(k, plan);
}
