#include "api/handles.h"

int gemma_sampler_create(gemma_runtime *rt, const gemma_sampler_options *options, gemma_sampler **out,
                         gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_sampler_create: out is NULL");
    *out = NULL;
    gemma_sampler_options o;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_sampler_options", error);
    if (rc) return rc;
    if (!rt) return gm_fail(error, GEMMA_E_ARG, "gemma_sampler_create: runtime is NULL");
    gemma_sampler *s = gm_new(&rt->mem, sizeof *s, GEMMA_TAG_OBJECT);
    if (!s) return gm_fail_nomem(error, "a sampler handle", sizeof *s);
    rc = gm_sampler_create(&rt->mem, &o, &s->sampler, error);
    if (rc) {
        gm_delete(&rt->mem, s);
        return rc;
    }
    gm_ref_init(&s->ref);
    s->runtime = rt;
    gm_ref_take(&rt->ref);
    *out = s;
    return GEMMA_OK;
}

void gemma_sampler_destroy(gemma_sampler *s)
{
    if (!s || !gm_ref_drop(&s->ref)) return;
    gemma_runtime *rt = s->runtime;
    gm_sampler_destroy(s->sampler);
    gm_delete(&rt->mem, s);
    gm_runtime_drop(rt);
}

int gemma_sampler_bias(gemma_sampler *s, int32_t id, float bias)
{
    return s ? gm_sampler_bias(s->sampler, id, bias) : GEMMA_E_ARG;
}

uint32_t gemma_sampler_wants(const gemma_sampler *s)
{
    return s && gm_sampler_needs_row(s->sampler) ? GEMMA_WANT_LOGITS : GEMMA_WANT_CANDIDATES;
}

int gemma_sampler_draw(gemma_sampler *s, const gemma_step *step, uint32_t row, int32_t *id, float *log_prob)
{
    if (!s || !step || !id) return GEMMA_E_ARG;
    uint64_t modes = gm_float_env_set_default();
    int rc = gm_step_draw(step, row, s->sampler, id, log_prob);
    gm_float_env_restore(modes);
    return rc;
}

int gemma_sampler_accept(gemma_sampler *s, int32_t id)
{
    if (!s) return GEMMA_E_ARG;
    gm_sampler_accept(s->sampler, id);
    return GEMMA_OK;
}

int gemma_sampler_reset(gemma_sampler *s)
{
    if (!s) return GEMMA_E_ARG;
    gm_sampler_reset(s->sampler);
    return GEMMA_OK;
}
