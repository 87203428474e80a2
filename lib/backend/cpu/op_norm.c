/* NORM, NORM_ADD, PLE_MIX: a row is an item. */
#include "backend/cpu/exec.h"

#include <math.h>

void gm_cpu_rms(const gm_kernels *k, const float *x, const float *w, float *out, uint32_t n, float eps)
{
    float scale = (float)(1 / sqrt(k->sum_squares(x, n) / n + (double)eps));
    if (w)
        for (uint32_t i = 0; i < n; i++) out[i] = x[i] * scale * w[i];
    else
        for (uint32_t i = 0; i < n; i++) out[i] = x[i] * scale;
}

void gm_cpu_norm(const gm_cpu_task *t)
{
    const gm_cpu_op *o = t->o;
    uint32_t first, last;
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last))
        gm_cpu_rms(t->k, gm_cpu_row(&o->in[0], first), gm_cpu_vector(&o->w[0]), gm_cpu_row(&o->out[0], first),
                   o->op.width, o->op.eps);
}

void gm_cpu_norm_add(const gm_cpu_task *t)
{
    const gm_cpu_op *o = t->o;
    uint32_t first, last, n = o->op.width;
    const float *w = gm_cpu_vector(&o->w[0]), *factor = gm_cpu_vector(&o->w[1]);
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last)) {
        const float *in = gm_cpu_row(&o->in[0], first), *base = gm_cpu_row(&o->in[1], first);
        float *x = gm_cpu_row(&o->out[0], first);
        float scale = (float)(1 / sqrt(t->k->sum_squares(in, n) / n + (double)o->op.eps));
        float by = factor ? factor[0] : 1;
        if (w)
            for (uint32_t i = 0; i < n; i++) x[i] = (base[i] + in[i] * scale * w[i]) * by;
        else
            for (uint32_t i = 0; i < n; i++) x[i] = (base[i] + in[i] * scale) * by;
        if (o->out[1].data) gm_cpu_rms(t->k, x, gm_cpu_vector(&o->w[2]), gm_cpu_row(&o->out[1], first), n, o->op.eps);
    }
}

void gm_cpu_ple_mix(const gm_cpu_task *t)
{
    const gm_op *op = &t->o->op;
    const float *w = gm_cpu_vector(&t->o->w[0]);
    uint32_t n = op->slice, n_slices = op->width / n, first, last;
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last)) {
        const float *in = gm_cpu_row(&t->o->in[0], first), *token = gm_cpu_row(&t->o->in[1], first);
        float *out = gm_cpu_row(&t->o->out[0], first);
        for (uint32_t l = 0; l < n_slices; l++, in += n, token += n, out += n) {
            for (uint32_t i = 0; i < n; i++) out[i] = in[i] * op->scale;
            gm_cpu_rms(t->k, out, w, out, n, op->eps);
            for (uint32_t i = 0; i < n; i++) out[i] = (out[i] + token[i]) * op->scale2;
        }
    }
}
