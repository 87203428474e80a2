#include "api/handles.h"

int gemma_step_create(gemma_model *model, gemma_step **out, gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_step_create: out is NULL");
    *out = NULL;
    if (!model) return gm_fail(error, GEMMA_E_ARG, "gemma_step_create: model is NULL");
    int rc = gm_step_create(model->engine, out, error);
    if (rc) return rc;
    *gm_step_owner(*out) = model;
    gm_ref_take(&model->ref);
    return GEMMA_OK;
}

void gemma_step_destroy(gemma_step *t)
{
    if (!t) return;
    gemma_model *model = *gm_step_owner(t);
    gm_step_destroy(t);
    gm_model_drop(model);
}

size_t gemma_step_message(const gemma_step *t, char *buffer, size_t n_bytes)
{
    return gm_message_copy(t ? gm_step_error(t) : NULL, buffer, n_bytes);
}

int gemma_step_clear(gemma_step *t) { return t ? gm_step_clear(t) : GEMMA_E_ARG; }

int gemma_step_add(gemma_step *t, gemma_session *s, const gemma_row *row, uint32_t *index)
{
    return t && s && row ? gm_step_add(t, s, row, index) : GEMMA_E_ARG;
}

int gemma_step_submit(gemma_step *t, gemma_cancel *cancel) { return t ? gm_step_submit(t, cancel) : GEMMA_E_ARG; }
int gemma_step_wait(gemma_step *t, uint64_t timeout_ns) { return t ? gm_step_wait(t, timeout_ns) : GEMMA_E_ARG; }

uint32_t gemma_step_n_candidates(const gemma_step *t, uint32_t row)
{
    uint32_t n = 0;
    return t && gm_step_candidates(t, row, &n) ? n : 0;
}

int gemma_step_candidate(const gemma_step *t, uint32_t row, uint32_t index, int32_t *id, float *logit)
{
    uint32_t n = 0;
    const gm_candidate *c = t ? gm_step_candidates(t, row, &n) : NULL;
    if (!c || index >= n) return GEMMA_E_ARG;
    if (id) *id = c[index].id;
    if (logit) *logit = c[index].logit;
    return GEMMA_OK;
}

static int one_float(const float *value, float *out)
{
    if (!value || !out) return GEMMA_E_ARG;
    *out = *value;
    return GEMMA_OK;
}

int gemma_step_log_sum(const gemma_step *t, uint32_t row, float *log_sum)
{
    return one_float(t ? gm_step_log_sum(t, row) : NULL, log_sum);
}

int gemma_step_score(const gemma_step *t, uint32_t row, float *logit)
{
    return one_float(t ? gm_step_score(t, row) : NULL, logit);
}

static int copy_floats(const float *values, uint32_t n, float *out, size_t n_cap)
{
    if (!values || !out) return GEMMA_E_ARG;
    if (n_cap < n) return GEMMA_E_SMALL;
    memcpy(out, values, n * sizeof *out);
    return GEMMA_OK;
}

int gemma_step_logits(const gemma_step *t, uint32_t row, float *logits, size_t n_cap)
{
    uint32_t n = 0;
    const float *values = t ? gm_step_logits(t, row, &n) : NULL;
    return copy_floats(values, n, logits, n_cap);
}

int gemma_step_hidden(const gemma_step *t, uint32_t row, float *hidden, size_t n_cap)
{
    uint32_t n = 0;
    const float *values = t ? gm_step_hidden(t, row, &n) : NULL;
    return copy_floats(values, n, hidden, n_cap);
}
