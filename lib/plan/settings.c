#include "plan/layout.h"

enum {
    CTX_MAX = 1 << 20,
    SESSIONS_MAX = 1024,
    MARKS_MAX = 1024,
    UBATCH_MAX = 8192,
    CTX_DEFAULT = 4096,
    UBATCH_DEFAULT = 512,
    SLACK_DEFAULT = 32,
    MIN_CTX_DEFAULT = 512,
};

const gm_format *gm_settings_format(uint32_t type)
{
    static const gm_type types[] = {
        [GEMMA_TYPE_F32] = GM_F32, [GEMMA_TYPE_F16] = GM_F16, [GEMMA_TYPE_Q8_0] = GM_Q8_0, [GEMMA_TYPE_Q4_0] = GM_Q4_0
    };
    return type != GEMMA_TYPE_DEFAULT && type < GM_COUNT(types) ? gm_format_of(types[type]) : NULL;
}

/* A field's value, or its default where it is 0. */
static int read_number(const char *field, uint32_t given, uint32_t fallback, uint32_t max, uint32_t *out,
                       gemma_error *error)
{
    *out = given ? given : fallback;
    if (*out <= max) return GEMMA_OK;
    return gm_fail(error, GEMMA_E_ARG, "gemma_plan_options.%s is %u; at most %u is possible", field, *out, max);
}

static int read_type(const char *field, uint32_t given, uint32_t fallback, uint32_t *out, gemma_error *error)
{
    *out = given == GEMMA_TYPE_DEFAULT ? fallback : given;
    if (gm_settings_format(*out)) return GEMMA_OK;
    return gm_fail(error, GEMMA_E_ARG, "gemma_plan_options.%s is %u, which is no KV type", field, given);
}

/* Probes are a chain; each is for one of the plan's devices. */
static int read_probes(const gm_devices *devices, const gemma_plan_options *o, gm_settings *s, gemma_error *error)
{
    enum { CHAIN_MAX = 64 }; /* a chain without end is a mistake */
    const gemma_probe *next = o->probe;
    for (uint32_t n = 0; next && n < CHAIN_MAX; n++) {
        gemma_probe probe;
        int rc = gm_options_read(&probe, sizeof probe, next, "gemma_probe", error);
        if (rc) return rc;
        for (uint32_t i = 0; i < devices->n; i++)
            if (devices->numbers[i] == probe.device) s->probes[i] = probe;
        next = probe.next;
    }
    return next ? gm_fail(error, GEMMA_E_ARG, "gemma_plan_options.probe: a chain of more than %d", CHAIN_MAX)
                : GEMMA_OK;
}

/* Every session's last page counts whole. */
static uint64_t most_kv_tokens(const gm_settings *s) { return gm_align_up(s->ctx, GM_PAGE) * s->n_sessions; }

void gm_settings_limit(gm_settings *s)
{
    s->kv_tokens = gm_min_u64(s->kv_tokens, most_kv_tokens(s));
    s->ubatch = gm_min_u32(s->ubatch, gm_max_u32(s->ctx, s->n_sessions));
    s->slack = gm_min_u32(s->slack, s->ctx);
    s->logit_rows = gm_min_u32(s->logit_rows, s->ubatch);
    s->min_ctx = gm_min_u32(s->min_ctx, s->ctx);
}

int gm_settings_read(const gm_model *model, const gm_devices *devices, const gemma_plan_options *options,
                     gm_settings *s, gemma_error *error)
{
    gemma_plan_options none = { .size = sizeof none };
    const gemma_plan_options *o = options ? options : &none;
    uint32_t ctx_max = gm_min_u32(model->ctx_trained, CTX_MAX), kv = devices->backends[0]->default_kv;
    *s = (gm_settings){ .device = o->device,
                        .n_marks = o->n_marks,
                        .fit = o->fit,
                        .headroom_bytes = o->headroom_bytes,
                        .budget_bytes = o->budget_bytes,
                        .place = o->place,
                        .place_user = o->place_user };
    int rc = read_number("ctx", o->ctx, gm_min_u32(ctx_max, CTX_DEFAULT), ctx_max, &s->ctx, error);
    if (!rc) rc = read_number("n_sessions", o->n_sessions, 1, SESSIONS_MAX, &s->n_sessions, error);
    if (!rc) rc = read_number("n_marks", o->n_marks, 0, MARKS_MAX, &s->n_marks, error);
    if (!rc) rc = read_number("ubatch", o->ubatch, UBATCH_DEFAULT, UBATCH_MAX, &s->ubatch, error);
    if (!rc) rc = read_number("slack", o->slack, gm_min_u32(SLACK_DEFAULT, s->ctx), s->ctx, &s->slack, error);
    if (!rc) rc = read_number("logit_rows", o->logit_rows, 1, UBATCH_MAX, &s->logit_rows, error);
    if (!rc) rc = read_number("min_ctx", o->min_ctx, gm_min_u32(MIN_CTX_DEFAULT, s->ctx), s->ctx, &s->min_ctx, error);
    if (!rc) rc = read_number("fit", o->fit, GEMMA_FIT_REFUSE, GEMMA_FIT_SPLIT, &s->fit, error);
    if (!rc) rc = read_type("kv_global", o->kv_global, kv, &s->kv_type[GM_KV_GLOBAL], error);
    if (!rc) rc = read_type("kv_sliding", o->kv_sliding, kv, &s->kv_type[GM_KV_SLIDING], error);
    if (!rc) rc = read_probes(devices, o, s, error);
    if (rc) return rc;
    s->kv_tokens = o->kv_tokens ? o->kv_tokens : most_kv_tokens(s);
    gm_settings_limit(s);
    return GEMMA_OK;
}
