/* ROUTER and EXPERTS. Rows are sorted by expert, so that an expert's weights are read once for all rows that chose it;
 * a row's experts are always added up in ascending order of id. */
#include "backend/cpu/exec.h"

#include <math.h>

/* ---- ROUTER: t = RMS(in0) × scale × w1 in the shared place, logits [row][n_expert] in the extra one ---- */

static void router_input(const gm_cpu_task *t)
{
    const gm_cpu_slot *in = &t->o->in[0];
    const float *w = gm_cpu_vector(&t->o->w[1]);
    uint32_t first, last;
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last)) {
        float *x = (float *)gm_cpu_shared(t) + (uint64_t)first * in->width;
        gm_cpu_rms(t->k, gm_cpu_row(in, first), NULL, x, in->width, t->o->op.eps);
        for (uint32_t i = 0; i < in->width; i++) x[i] *= w ? t->o->op.scale * w[i] : t->o->op.scale;
    }
}

static void router_logits(const gm_cpu_task *t)
{
    const gm_cpu_matrix *m = &t->o->w[0];
    gm_cpu_columns columns = { .data = gm_cpu_shared(t), .stride = m->n_in * sizeof(float), .n = t->n_rows };
    uint32_t first, last;
    while (gm_cpu_take(t, m->n_out, GM_CPU_UNIT, &first, &last))
        gm_cpu_product(t->k, m, first, last, &columns, (float *)gm_cpu_extra(t) + first, m->n_out, gm_cpu_own(t));
}

/* The largest first; the lower id among equals. NaNs are never chosen before numbers. */
static void choose(const gm_op *op, float *logits, const float *factor, float *out)
{
    float sum = 0, max = 0;
    for (uint32_t u = 0; u < op->n_used; u++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < op->n_expert; e++) {
            bool taken = false;
            for (uint32_t v = 0; v < u; v++) taken |= out[v] == (float)e;
            if (!taken && (best == UINT32_MAX || logits[e] > logits[best])) best = e;
        }
        if (u == 0) max = logits[best];
        out[u] = (float)best;
        out[op->n_used + u] = expf(logits[best] - max);
        sum += out[op->n_used + u];
    }
    for (uint32_t u = 0; u < op->n_used; u++) {
        float *weight = &out[op->n_used + u];
        *weight /= sum;
        if (factor) *weight *= factor[(uint32_t)out[u]];
    }
}

void gm_cpu_router(const gm_cpu_task *t)
{
    uint32_t first, last;
    if (t->phase == 0) {
        router_input(t);
    } else if (t->phase == 1) {
        router_logits(t);
    } else {
        while (gm_cpu_take(t, t->n_rows, 1, &first, &last))
            choose(&t->o->op, (float *)gm_cpu_extra(t) + (uint64_t)first * t->o->op.n_expert,
                   gm_cpu_vector(&t->o->w[2]), gm_cpu_row(&t->o->out[0], first));
    }
}

/* ---- EXPERTS ---- */

#define COLUMNS 16 /* rows of an expert held at once */

uint64_t gm_cpu_experts_part_bytes(uint64_t line_bytes)
{
    return line_bytes + 2 * COLUMNS * GM_CPU_FF_UNIT * sizeof(float);
}

/* Behind the place of the products. */
static float *behind_line(const gm_cpu_task *t, uint8_t *line)
{
    uint64_t n_bytes = 0;
    for (int i = 0; i < 3; i++) n_bytes = gm_max_u64(n_bytes, t->o->w[i].line_bytes);
    return (float *)(void *)(line + n_bytes);
}

uint64_t gm_cpu_experts_lists_bytes(const gm_op *op, uint32_t max_rows)
{
    uint64_t n_pairs = (uint64_t)max_rows * op->n_used;
    return gm_align_up((2 * (uint64_t)op->n_expert + 2 + 2 * n_pairs) * sizeof(uint32_t), 64);
}

uint64_t gm_cpu_experts_hidden_bytes(const gm_op *op, const gm_cpu_matrix *down)
{
    return down->q8 ? gm_activations_bytes(op->n_ff) : op->n_ff * sizeof(float);
}

/* Who goes where: pair p is row[p] with weight[p]; those of expert e are start[e] … start[e + 1] - 1. */
typedef struct lists {
    uint32_t *start;  /* [n_expert + 1] */
    uint32_t *active; /* [n_expert]: experts that have pairs, ascending */
    uint32_t *n_active;
    uint32_t *row;
    float *weight;
    uint8_t *hidden; /* [pair], a column as the down matrix takes it */
} lists;

static lists lists_of(const gm_cpu_task *t, uint32_t max_rows)
{
    const gm_op *op = &t->o->op;
    lists l = { .start = gm_cpu_extra(t) };
    l.active = l.start + op->n_expert + 1;
    l.n_active = l.active + op->n_expert;
    l.row = l.n_active + 1;
    l.weight = (float *)(void *)(l.row + (uint64_t)max_rows * op->n_used);
    l.hidden = (uint8_t *)gm_cpu_extra(t) + gm_cpu_experts_lists_bytes(op, max_rows);
    return l;
}

/* The expert in place u of a row, or n_expert if a NaN got that far. */
static uint32_t chosen(const gm_cpu_task *t, uint32_t row, uint32_t u)
{
    float id = gm_cpu_row(&t->o->in[1], row)[u];
    return id >= 0 && id < (float)t->o->op.n_expert ? (uint32_t)id : t->o->op.n_expert;
}

static void sort_rows(const gm_cpu_task *t, const lists *l)
{
    const gm_op *op = &t->o->op;
    memset(l->start, 0, (op->n_expert + 1) * sizeof *l->start);
    for (uint32_t r = 0; r < t->n_rows; r++)
        for (uint32_t u = 0; u < op->n_used; u++) {
            uint32_t e = chosen(t, r, u);
            if (e < op->n_expert) l->start[e + 1]++;
        }
    *l->n_active = 0;
    for (uint32_t e = 0; e < op->n_expert; e++) {
        if (l->start[e + 1]) l->active[(*l->n_active)++] = e;
        l->start[e + 1] += l->start[e];
    }
    /* start[e] runs to where e + 1 starts; the shift back comes after. */
    for (uint32_t r = 0; r < t->n_rows; r++)
        for (uint32_t u = 0; u < op->n_used; u++) {
            uint32_t e = chosen(t, r, u);
            if (e == op->n_expert) continue;
            uint32_t p = l->start[e]++;
            l->row[p] = r;
            l->weight[p] = gm_cpu_row(&t->o->in[1], r)[op->n_used + u];
        }
    for (uint32_t e = op->n_expert; e > 0; e--) l->start[e] = l->start[e - 1];
    l->start[0] = 0;
}

static void prepare(const gm_cpu_task *t, const lists *l)
{
    const gm_cpu_slot *in = &t->o->in[0];
    uint32_t item, last;
    while (gm_cpu_take(t, t->n_rows + 1, 1, &item, &last)) {
        if (item == 0) {
            sort_rows(t, l);
        } else if (t->o->packs) {
            uint8_t *packed = (uint8_t *)gm_cpu_shared(t) + (item - 1) * gm_activations_bytes(in->width);
            t->k->pack(gm_cpu_row(in, item - 1), (gm_activations *)(void *)packed, 0, in->width / 32, in->width / 32);
        }
    }
}

static gm_cpu_matrix expert_of(const gm_cpu_matrix *m, uint32_t e, uint32_t n_out)
{
    gm_cpu_matrix one = *m;
    one.data += (uint64_t)e * n_out * m->row_bytes;
    if (one.factor) one.factor += e;
    return one;
}

/* Values [first, last) of the hidden vectors of an expert's rows. */
static void hidden_unit(const gm_cpu_task *t, const lists *l, uint32_t e, uint32_t first, uint32_t last, uint8_t *line)
{
    const gm_op *op = &t->o->op;
    const gm_cpu_matrix *w = t->o->w, *down = &w[1];
    bool apart = w[2].data != NULL;
    float *gate = behind_line(t, line), *up = gate + COLUMNS * GM_CPU_FF_UNIT;
    gm_cpu_matrix m_gate = expert_of(&w[0], e, apart ? op->n_ff : 2 * op->n_ff);
    gm_cpu_matrix m_up = apart ? expert_of(&w[2], e, op->n_ff) : m_gate;
    uint32_t up_first = apart ? first : op->n_ff + first, n = last - first;
    for (uint32_t p = l->start[e]; p < l->start[e + 1]; p += COLUMNS) {
        gm_cpu_columns columns = gm_cpu_columns_of(t, &m_gate, gm_cpu_shared(t));
        columns.index = l->row + p;
        columns.n = gm_min_u32(COLUMNS, l->start[e + 1] - p);
        gm_cpu_product(t->k, &m_gate, first, last, &columns, gate, GM_CPU_FF_UNIT, line);
        gm_cpu_columns up_columns = gm_cpu_columns_of(t, &m_up, gm_cpu_shared(t));
        up_columns.index = columns.index;
        up_columns.n = columns.n;
        gm_cpu_product(t->k, &m_up, up_first, up_first + n, &up_columns, up, GM_CPU_FF_UNIT, line);
        for (uint32_t c = 0; c < columns.n; c++) {
            float *values = gate + c * GM_CPU_FF_UNIT;
            t->k->geglu(values, up + c * GM_CPU_FF_UNIT, n);
            uint8_t *column = l->hidden + (p + c) * gm_cpu_experts_hidden_bytes(op, down);
            if (down->q8)
                t->k->pack(values, (gm_activations *)(void *)column, first / 32, 1, op->n_ff / 32);
            else
                memcpy((float *)(void *)column + first, values, n * sizeof *values);
        }
    }
}

static void hidden_units(const gm_cpu_task *t, const lists *l, uint8_t *line)
{
    uint32_t n_ff = t->o->op.n_ff, n_units = (uint32_t)gm_div_up(n_ff, GM_CPU_FF_UNIT), first, last;
    uint32_t n_items = *l->n_active * n_units;
    while (gm_cpu_take(t, n_items, 1, &first, &last)) {
        uint32_t row = first % n_units * GM_CPU_FF_UNIT;
        hidden_unit(t, l, l->active[first / n_units], row, gm_min_u32(row + GM_CPU_FF_UNIT, n_ff), line);
    }
}

/* Output values [first, last) of all rows. */
static void down_unit(const gm_cpu_task *t, const lists *l, uint32_t first, uint32_t last, uint8_t *line)
{
    const gm_op *op = &t->o->op;
    const gm_cpu_slot *out = &t->o->out[0];
    uint64_t hidden_bytes = gm_cpu_experts_hidden_bytes(op, &t->o->w[1]);
    float *sums = behind_line(t, line); /* [COLUMNS][GM_CPU_UNIT] */
    for (uint32_t r = 0; r < t->n_rows; r++) memset(gm_cpu_row(out, r) + first, 0, (last - first) * sizeof(float));
    for (uint32_t a = 0; a < *l->n_active && !gm_cpu_stopped(t->x); a++) {
        uint32_t e = l->active[a];
        gm_cpu_matrix m = expert_of(&t->o->w[1], e, out->width);
        for (uint32_t p = l->start[e]; p < l->start[e + 1]; p += COLUMNS) {
            gm_cpu_columns columns = { .data = l->hidden + p * hidden_bytes,
                                       .stride = hidden_bytes,
                                       .n = gm_min_u32(COLUMNS, l->start[e + 1] - p) };
            gm_cpu_product(t->k, &m, first, last, &columns, sums, GM_CPU_UNIT, line);
            for (uint32_t c = 0; c < columns.n; c++) {
                float *to = gm_cpu_row(out, l->row[p + c]) + first;
                for (uint32_t i = 0; i < last - first; i++) to[i] += l->weight[p + c] * sums[c * GM_CPU_UNIT + i];
            }
        }
    }
}

void gm_cpu_experts(const gm_cpu_task *t)
{
    lists l = lists_of(t, t->x->max_rows);
    uint8_t *line = gm_cpu_own(t);
    if (t->phase == 0) {
        prepare(t, &l);
    } else if (t->phase == 1) {
        hidden_units(t, &l, line);
    } else {
        uint32_t n_embd = t->o->out[0].width, n_units = (uint32_t)gm_div_up(n_embd, GM_CPU_UNIT), first, last;
        while (gm_cpu_take(t, n_units, 1, &first, &last))
            down_unit(t, &l, first * GM_CPU_UNIT, gm_min_u32(last * GM_CPU_UNIT, n_embd), line);
    }
}
