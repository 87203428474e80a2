/* HEADS: norms, rotation and the KV write; a head of a row is an item. */
#include "backend/cpu/exec.h"

uint64_t gm_cpu_kv_line(const gm_cpu_task *t, uint32_t step_row, uint32_t kv_head, uint32_t position)
{
    const gm_cpu_kv *kv = t->o->kv;
    const gm_step_limits *l = &t->x->limits;
    const uint32_t *table = t->block->tables + (uint64_t)t->block->table[step_row] * gm_table_stride(l);
    uint32_t page = position / GM_PAGE;
    uint32_t number = kv->kind == GM_KV_GLOBAL ? table[page] : table[l->global_pages + page % l->sliding_ring];
    return number * kv->page_bytes + ((uint64_t)kv_head * GM_PAGE + position % GM_PAGE) * kv->line_bytes;
}

static void rotate(float *x, const float *angles, uint32_t head)
{
    uint32_t half = head / 2;
    for (uint32_t j = 0; j < half; j++) {
        float c = angles[j], s = angles[half + j], a = x[j], b = x[half + j];
        x[j] = a * c - b * s;
        x[half + j] = b * c + a * s;
    }
}

static void write_line(const gm_kernels *k, const gm_cpu_kv *kv, uint8_t *line, const float *x)
{
    if (kv->format->type == GM_F32)
        memcpy(line, x, kv->head * sizeof *x);
    else if (kv->format->type == GM_F16)
        k->f32_to_f16(x, (uint16_t *)(void *)line, kv->head);
    else
        kv->format->pack(x, line, kv->head / kv->format->block);
}

static void query(const gm_cpu_task *t, uint32_t row, uint32_t h)
{
    const gm_op *op = &t->o->op;
    float *out = gm_cpu_row(&t->o->out[0], row) + h * op->head;
    gm_cpu_rms(t->k, gm_cpu_row(&t->o->in[0], row) + h * op->head, gm_cpu_vector(&t->o->w[0]), out, op->head, op->eps);
    rotate(out, gm_cpu_row(&t->o->in[3], row), op->head);
    for (uint32_t i = 0; i < op->head; i++) out[i] *= op->scale;
}

static void key(const gm_cpu_task *t, uint32_t row, uint32_t h, float *x)
{
    const gm_op *op = &t->o->op;
    gm_cpu_rms(t->k, gm_cpu_row(&t->o->in[1], row) + h * op->head, gm_cpu_vector(&t->o->w[1]), x, op->head, op->eps);
    rotate(x, gm_cpu_row(&t->o->in[3], row), op->head);
    write_line(t->k, t->o->kv, t->o->kv->k + gm_cpu_kv_line(t, row, h, t->block->position[row]), x);
}

static void value(const gm_cpu_task *t, uint32_t row, uint32_t h, float *x)
{
    const gm_op *op = &t->o->op;
    const float *v = gm_cpu_row(&t->o->in[op->v_from_k ? 1 : 2], row) + h * op->head;
    if (op->v_norm) {
        gm_cpu_rms(t->k, v, NULL, x, op->head, op->eps);
        v = x;
    }
    write_line(t->k, t->o->kv, t->o->kv->v + gm_cpu_kv_line(t, row, h, t->block->position[row]), v);
}

void gm_cpu_heads(const gm_cpu_task *t)
{
    const gm_op *op = &t->o->op;
    uint32_t n_q = t->o->in[0].data ? op->n_head : 0, n_kv = t->o->kv ? op->n_kv : 0;
    uint32_t per_row = n_q + 2 * n_kv, n_items = t->n_rows * per_row, first, last;
    float *x = gm_cpu_own(t);
    while (gm_cpu_take(t, n_items, gm_cpu_grain(t, n_items), &first, &last)) {
        for (uint32_t i = first; i < last; i++) {
            uint32_t row = i / per_row, h = i % per_row;
            if (h < n_q)
                query(t, row, h);
            else if (h < n_q + n_kv)
                key(t, row, h - n_q, x);
            else
                value(t, row, h - n_q - n_kv, x);
        }
    }
}
