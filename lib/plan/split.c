/* A plan over two devices: the first layers, or their experts alone, on the second. The last layers stay with the output, and with
 * the KV that Gemma 4's last layers share. */
#include "plan/layout.h"

/* Keeps the better of two plans, by predicted speed where both are known; either may be NULL. */
static void keep_faster(gm_plan **best, gm_plan *other)
{
    if (*best && other && other->prediction.decode_tok_s > (*best)->prediction.decode_tok_s) {
        gm_plan *slower = *best;
        *best = other;
        other = slower;
    } else if (!*best) {
        *best = other;
        return;
    }
    gm_plan_destroy(other);
}

static bool main_fits(const gm_plan *p)
{
    for (uint32_t i = 0; i < p->n_lines; i++)
        if (p->lines[i].share == 0 && p->lines[i].total_bytes > p->lines[i].budget_bytes) return false;
    return true;
}

/* Sets `number`, a field of s, to the fewest layers on the second device with which the first one's heaps hold the rest;
 * n_layers: perhaps not even then. Bills are made without looking at whether the whole fits. */
static int fewest(const gm_maker *k, gm_settings *s, uint32_t *number)
{
    uint32_t low = 1, high = k->model->n_layers;
    while (low < high) {
        gm_plan *p;
        *number = low + (high - low) / 2;
        int rc = gm_layout_create(k->mem, k->gguf, k->model, k->devices, s, &p, k->error);
        if (rc) return rc;
        if (main_fits(p))
            high = *number;
        else
            low = *number + 1;
        gm_plan_destroy(p);
    }
    *number = low;
    return GEMMA_OK;
}

static bool has_experts(const gm_model *m)
{
    for (uint32_t i = 0; i < m->n_weights; i++)
        if (m->weights[i].bytes_class == GEMMA_CLASS_EXPERTS) return true;
    return false;
}

static int split_with(const gm_maker *k, gm_settings s, gm_plan **best)
{
    gm_plan *tried = NULL;
    int rc = GEMMA_OK;
    if (has_experts(k->model)) {
        rc = fewest(k, &s, &s.split_experts);
        if (!rc) rc = gm_plan_try(k, s, &tried);
        if (!rc) keep_faster(best, tried);
        s.split_experts = 0;
        tried = NULL;
    }
    if (!rc) rc = fewest(k, &s, &s.split_layers);
    if (!rc) rc = gm_plan_try(k, s, &tried);
    if (!rc) keep_faster(best, tried);
    return rc;
}

int gm_plan_split(const gm_maker *k, gm_settings s, gm_plan **out)
{
    gemma_error why = { .size = sizeof why };
    gm_maker quiet = *k;
    int rc = GEMMA_OK;
    *out = NULL;
    quiet.error = &why;
    gm_settings_limit(&s);
    for (uint32_t i = 1; i < k->devices->n && !rc; i++) {
        s.second = i;
        rc = split_with(&quiet, s, out);
        if (rc == GEMMA_E_UNSUPPORTED) rc = GEMMA_OK; /* a KV type it lacks, say */
    }
    if (!rc) return GEMMA_OK;
    gm_plan_destroy(*out);
    *out = NULL;
    return gm_fail(k->error, rc, "%s", why.message);
}
