/* What a token reads, and how fast that can be. */
#include "plan/layout.h"

uint64_t gm_layout_full_read(const gm_plan *p, uint32_t kv)
{
    const gm_kv_layer *l = &p->programs[GM_PROGRAM_FULL]->kv[kv];
    uint32_t tokens = p->settings.ctx;
    if (l->kind == GM_KV_SLIDING) tokens = gm_min_u32(tokens, p->model->window);
    return 2 * (uint64_t)tokens * l->n_kv * gm_row_bytes(l->format, l->head);
}

typedef struct reads { /* of one device */
    uint64_t weight_bytes, kv_bytes;
    uint32_t n_ops, n_segments;
} reads;

static void count_reads(const gm_plan *p, const uint8_t *weight_share, reads *of)
{
    const gm_model *m = p->model;
    const gm_cuts *cuts = &p->cuts[GM_PROGRAM_FULL];
    for (uint32_t i = 0; i < m->n_weights; i++) of[weight_share[i]].weight_bytes += gm_plan_read_bytes(p, i);
    for (uint32_t i = 0; i < m->n_layers; i++)
        of[p->kv_share[m->layers[i].kv]].kv_bytes += gm_layout_full_read(p, m->layers[i].kv);
    for (uint32_t i = 0; i < cuts->n_segments; i++) {
        of[cuts->segments[i].share].n_segments++;
        of[cuts->segments[i].share].n_ops += cuts->segments[i].n_ops;
    }
}

void gm_layout_predict(gm_plan *p, const uint8_t *weight_share)
{
    gemma_prediction *t = &p->prediction;
    reads of[GM_SHARES_MAX] = { 0 };
    double start_s = 0, full_s = 0;
    count_reads(p, weight_share, of);
    *t = (gemma_prediction){ .size = sizeof *t, .measured = 1 };
    for (uint32_t i = 0; i < p->devices.n; i++) {
        const gemma_probe *probe = &p->settings.probes[i];
        t->bytes_per_token += of[i].weight_bytes;
        t->kv_bytes_full += of[i].kv_bytes;
        if (!gm_share_used(&p->shares[i])) continue;
        if (!(probe->read_gb_s > 0)) {
            t->measured = 0;
            continue;
        }
        double fixed_s = 1e-6 * (of[i].n_ops * probe->op_us + of[i].n_segments * probe->submit_us);
        start_s += (double)of[i].weight_bytes / (probe->read_gb_s * 1e9) + fixed_s;
        full_s += (double)(of[i].weight_bytes + of[i].kv_bytes) / (probe->read_gb_s * 1e9) + fixed_s;
    }
    if (!t->measured) return;
    t->decode_tok_s = 1 / start_s;
    t->decode_full_tok_s = 1 / full_s;
}
