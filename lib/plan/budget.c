#include "plan/layout.h"

#define MIB ((uint64_t)1 << 20)

static uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* What a plan has in the heap. */
static uint64_t replaced_bytes(const gm_backend *backend, uint32_t heap, const gm_plan *plan)
{
    for (uint32_t i = 0; plan && i < plan->n_lines; i++)
        if (plan->devices.backends[plan->lines[i].share] == backend && plan->lines[i].heap == heap)
            return plan->lines[i].total_bytes;
    return 0;
}

uint64_t gm_plan_budget(const gm_backend *backend, uint32_t heap, const gm_settings *settings)
{
    gm_heap_state state = { 0 };
    backend->fns->heap(backend, heap, &state);
    state.used_bytes = minus(state.used_bytes, replaced_bytes(backend, heap, settings->replaced));
    uint64_t budget = minus(state.budget_bytes, state.used_bytes), headroom;
    bool reported = state.budget_reported;
    if (settings->budget_bytes && heap == gm_backend_heap_of(backend, GEMMA_TAG_WEIGHTS)) {
        budget = settings->budget_bytes;
        reported = true;
    } else if (!reported) {
        budget = minus(state.total_bytes, state.used_bytes);
    }
    if (settings->headroom_bytes)
        headroom = settings->headroom_bytes;
    else if (reported)
        headroom = gm_max_u64(128 * MIB, budget / 100 * 3);
    else
        headroom = state.total_bytes / 5;
    return minus(budget, headroom);
}

uint64_t gm_line_budget(const gm_plan *plan, const gm_bill_line *line)
{
    gm_settings s = plan->settings;
    if (line->share) s.budget_bytes = 0;
    return gm_plan_budget(plan->devices.backends[line->share], line->heap, &s);
}

/* Heaps of one pool draw on the same memory: the host's is the only one that several heaps of several devices share. */
static void weigh_pool(gm_plan *plan)
{
    gm_settings s = plan->settings;
    const gm_bill_line *first = &plan->lines[0];
    bool apart = false, given = s.budget_bytes && first->pool == 0;
    for (uint32_t i = 0; i < plan->n_lines; i++) {
        const gm_bill_line *line = &plan->lines[i];
        if (line->pool) continue;
        plan->pool_bytes += line->total_bytes;
        apart = apart || plan->devices.backends[line->share] != plan->devices.host;
    }
    if (!plan->devices.host || !apart || given) return;
    s.budget_bytes = 0;
    plan->pool_budget_bytes = gm_plan_budget(plan->devices.host, 0, &s);
    /* An integrated GPU's carve-out is no RAM of the system's: where it is the larger part, the heap says what there is. */
    for (uint32_t i = 0; i < plan->n_lines; i++)
        if (!plan->lines[i].pool)
            plan->pool_budget_bytes = gm_max_u64(plan->pool_budget_bytes, plan->lines[i].budget_bytes);
    if (plan->pool_bytes > plan->pool_budget_bytes) plan->fits = false;
}

void gm_plan_weigh(gm_plan *plan)
{
    plan->fits = true;
    for (uint32_t i = 0; i < plan->n_lines; i++) {
        gm_bill_line *line = &plan->lines[i];
        line->budget_bytes = gm_line_budget(plan, line);
        if (line->total_bytes > line->budget_bytes) plan->fits = false;
    }
    weigh_pool(plan);
}

/* What the first piece of advice changes, "ctx 2048 and ubatch 128". */
static void describe_advice(const gm_plan *plan, char *buffer, size_t n)
{
    const gemma_advice *a = &plan->advice[0];
    const gm_settings *s = &plan->settings;
    size_t at = 0;
    buffer[0] = 0;
    if (a->ctx != s->ctx) at += gm_text_format(buffer + at, n - at, "ctx %u", a->ctx);
    if (a->n_sessions != s->n_sessions)
        at += gm_text_format(buffer + at, n - at, "%sn_sessions %u", at ? " and " : "", a->n_sessions);
    if (a->ubatch != s->ubatch && a->ctx >= s->ubatch)
        at += gm_text_format(buffer + at, n - at, "%subatch %u", at ? " and " : "", a->ubatch);
    if (a->split_experts || a->split_layers)
        at += gm_text_format(buffer + at, n - at, "%sfit split", at ? " and " : "");
    if (a->kv_global != s->kv_type[GM_KV_GLOBAL] || a->kv_sliding != s->kv_type[GM_KV_SLIDING])
        gm_text_format(buffer + at, n - at, "%s%s KV", at ? " and " : "", gm_settings_format(a->kv_global)->name);
}

int gm_plan_check(const gm_plan *plan, gemma_error *error)
{
    char needs[24], may[24], change[128], advice[224] = "";
    if (plan->fits) return GEMMA_OK;
    const gm_bill_line *line = plan->lines;
    while (line < plan->lines + plan->n_lines && line->total_bytes <= line->budget_bytes) line++;
    bool pool = line == plan->lines + plan->n_lines;
    if (plan->n_advice) {
        describe_advice(plan, change, sizeof change);
        gm_text_format(advice, sizeof advice, "; it would fit with %s", change);
    } else if (plan->fits_mapped) {
        gm_text_format(advice, sizeof advice, "; it would fit with the file mapped (GEMMA_FILE_MAP)");
    }
    char converted[64] = "";
    if (plan->n_converted) gm_text_format(converted, sizeof converted, " (%u weights held as Q8_0)", plan->n_converted);
    const char *split = plan->settings.fit != GEMMA_FIT_SPLIT ? ""
                        : plan->devices.n > 1                 ? "; no split over two devices fits"
                                                              : "; there is no second device to split it over";
    const char *name = pool ? "the heaps that draw on the host's memory together" : line->name;
    return gm_fail(error, GEMMA_E_NOFIT, "%s: needs %s%s, %s may be used%s%s", name,
                   gm_text_bytes(needs, pool ? plan->pool_bytes : line->total_bytes), converted,
                   gm_text_bytes(may, pool ? plan->pool_budget_bytes : line->budget_bytes), split, advice);
}
