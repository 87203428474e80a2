/* EMBED, PLE_ROWS, ROPE, ROWS, SEND, RECEIVE: a row is an item. */
#include "backend/cpu/exec.h"

#include <math.h>

/* The row of a table that stays in the file: it came with the step. */
static const uint8_t *file_row(const gm_cpu_task *t, const gm_cpu_matrix *w, uint32_t row)
{
    return t->block->file_rows + gm_cpu_step_row(t, t->o->op.rows, row) * gm_file_row_stride(w->row_bytes);
}

void gm_cpu_table_rows(const gm_cpu_task *t)
{
    const gm_cpu_matrix *w = &t->o->w[0];
    uint32_t first, last;
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last)) {
        uint32_t id = (uint32_t)t->block->token[gm_cpu_step_row(t, t->o->op.rows, first)];
        float *out = gm_cpu_row(&t->o->out[0], first);
        if (id >= w->n_out) { /* an id without a row: callers see to it that there is none */
            memset(out, 0, w->n_in * sizeof *out);
            continue;
        }
        const uint8_t *row = w->data ? w->data + id * w->row_bytes : file_row(t, w, first);
        w->format->unpack(row, out, w->n_in / w->format->block);
        for (uint32_t i = 0; i < w->n_in; i++) out[i] *= t->o->op.scale;
    }
}

void gm_cpu_rope(const gm_cpu_task *t)
{
    uint32_t half = t->o->op.width / 2, first, last;
    const float *factor = gm_cpu_vector(&t->o->w[0]);
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last)) {
        double position = t->block->angle[gm_cpu_step_row(t, t->o->op.rows, first)];
        float *out = gm_cpu_row(&t->o->out[0], first);
        for (uint32_t j = 0; j < half; j++) {
            double angle = position * t->o->frequency[j] / (factor ? (double)factor[j] : 1);
            out[j] = (float)cos(angle);
            out[half + j] = (float)sin(angle);
        }
    }
}

void gm_cpu_rows(const gm_cpu_task *t)
{
    uint32_t first, last;
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last))
        memcpy(gm_cpu_row(&t->o->out[0], first), gm_cpu_row(&t->o->in[0], t->block->wanted[first]),
               t->o->in[0].width * sizeof(float));
}

static float *bridge_row(const gm_cpu_task *t, const gm_cpu_slot *slot, uint32_t row)
{
    return gm_bridge_at(t->block, &t->x->limits, t->o->op.offset) + (size_t)row * slot->width;
}

void gm_cpu_send(const gm_cpu_task *t)
{
    const gm_cpu_slot *in = &t->o->in[0];
    uint32_t first, last;
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last))
        memcpy(bridge_row(t, in, first), gm_cpu_row(in, first), in->width * sizeof(float));
}

void gm_cpu_receive(const gm_cpu_task *t)
{
    const gm_cpu_slot *out = &t->o->out[0];
    uint32_t first, last;
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last))
        memcpy(gm_cpu_row(out, first), bridge_row(t, out, first), out->width * sizeof(float));
}
