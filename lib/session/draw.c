#include "session/internal.h"

#include <math.h>

/* log Σ exp(logit) of a row. */
static double log_sum_of(const float *logits, uint32_t n)
{
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (logits[i] > most) most = logits[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        if (logits[i] > -INFINITY) sum += gm_exp(logits[i] - most);
    }
    return most + log(sum);
}

static int draw_from_row(const gm_step *t, uint32_t row, gm_sampler *sampler, int32_t *id, float *log_prob)
{
    uint32_t n;
    const float *logits = gm_step_logits(t, row, &n);
    if (!logits) return GEMMA_E_STATE;
    int rc = gm_sampler_reserve(sampler, n); /* takes memory before the first draw only */
    if (rc) return rc;
    *id = gm_sampler_draw(sampler, NULL, logits, n);
    if (*id < 0) return GEMMA_E_STATE;
    if (!log_prob) return GEMMA_OK;
    const float *log_sum = gm_step_log_sum(t, row);
    *log_prob = (float)(logits[*id] - (log_sum ? *log_sum : log_sum_of(logits, n)));
    return GEMMA_OK;
}

int gm_step_draw(const gm_step *t, uint32_t row, gm_sampler *sampler, int32_t *id, float *log_prob)
{
    if (gm_sampler_needs_row(sampler)) return draw_from_row(t, row, sampler, id, log_prob);
    uint32_t n;
    const gm_candidate *candidates = gm_step_candidates(t, row, &n);
    if (!candidates) return GEMMA_E_STATE;
    int32_t ids[GM_RESULTS_MAX];
    float logits[GM_RESULTS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = candidates[i].id;
        logits[i] = candidates[i].logit;
    }
    *id = gm_sampler_draw(sampler, ids, logits, n);
    if (*id < 0) return GEMMA_E_STATE;
    for (uint32_t i = 0; log_prob && i < n; i++) {
        if (ids[i] == *id) *log_prob = logits[i] - *gm_step_log_sum(t, row);
    }
    return GEMMA_OK;
}
