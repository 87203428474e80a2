/* MATMUL: items are units of output rows, numbered through all weights of the op. */
#include "backend/cpu/exec.h"

/* Output rows of an item: long rows by few, so that parts end at about the same time; whole tiles where there are tiles. */
static uint32_t unit_rows(const gm_cpu_task *t, const gm_cpu_matrix *m)
{
    uint32_t n = GM_CPU_UNIT;
    while (t->n_rows < GM_CPU_TILED && n > 1 && n * m->row_bytes > GM_CPU_UNIT_BYTES) n /= 2;
    return n;
}

static uint32_t units_of(const gm_cpu_task *t, const gm_cpu_matrix *m)
{
    return (uint32_t)gm_div_up(m->n_out, unit_rows(t, m));
}

/* gelu(gate) × up on rows [first, last): gate stands in out0 already. up[c] starts at the row `first`. */
static void apply_gate(const gm_cpu_task *t, uint32_t first, uint32_t last, const float *up, uint64_t up_stride)
{
    for (uint32_t c = 0; c < t->n_rows; c++)
        t->k->geglu(gm_cpu_row(&t->o->out[0], c) + first, up + c * up_stride, last - first);
}

/* A part's place: what products take, its own columns, the `up` values of a unit. */
typedef struct place {
    void *line;
    const void *packed; /* or the shared ones */
    float *up;          /* [n_rows][GM_CPU_UNIT] */
} place;

uint64_t gm_cpu_matmul_part_bytes(uint64_t line_bytes, uint64_t column_bytes, uint32_t n_up)
{
    return line_bytes + GM_CPU_OWN_ROWS * column_bytes + (uint64_t)n_up * GM_CPU_UNIT * sizeof(float);
}

static place place_of(const gm_cpu_task *t)
{
    uint64_t line_bytes = 0;
    for (uint32_t i = 0; i < t->o->op.n_weights; i++) line_bytes = gm_max_u64(line_bytes, t->o->w[i].line_bytes);
    uint8_t *own = gm_cpu_own(t), *packed = own + line_bytes;
    uint64_t packed_bytes = t->o->packs ? GM_CPU_OWN_ROWS * gm_activations_bytes(t->o->in[0].width) : 0;
    place p = { .line = own, .packed = gm_cpu_shared(t), .up = (float *)(void *)(packed + packed_bytes) };
    if (!gm_cpu_packs_own(t->o, t->n_rows)) return p;
    gm_cpu_pack_own(t, packed);
    p.packed = packed;
    return p;
}

static void one_unit(const gm_cpu_task *t, uint32_t i, uint32_t unit, const place *p)
{
    const gm_op *op = &t->o->op;
    const gm_cpu_matrix *m = &t->o->w[i];
    const gm_cpu_slot *out = &t->o->out[i];
    uint32_t n = unit_rows(t, m), first = unit * n, last = gm_min_u32(first + n, m->n_out);
    gm_cpu_columns columns = gm_cpu_columns_of(t, m, p->packed);
    gm_cpu_product(t->k, m, first, last, &columns, out->data + first, out->width, p->line);
    if (op->epilogue == GM_EPILOGUE_GEGLU) {
        columns = gm_cpu_columns_of(t, &t->o->w[1], p->packed);
        gm_cpu_product(t->k, &t->o->w[1], first, last, &columns, p->up, GM_CPU_UNIT, p->line);
        apply_gate(t, first, last, p->up, GM_CPU_UNIT);
    } else if (op->epilogue == GM_EPILOGUE_GELU_MUL) {
        apply_gate(t, first, last, t->o->in[1].data + op->offset + first, t->o->in[1].width);
    }
}

void gm_cpu_matmul(const gm_cpu_task *t)
{
    if (t->o->packs && !gm_cpu_packs_own(t->o, t->n_rows) && t->phase == 0) {
        gm_cpu_pack_rows(t);
        return;
    }
    uint32_t n_weights = t->o->op.epilogue == GM_EPILOGUE_NONE ? t->o->op.n_weights : 1;
    uint32_t n_units = 0, first, last;
    for (uint32_t i = 0; i < n_weights; i++) n_units += units_of(t, &t->o->w[i]);
    place p = place_of(t);
    while (gm_cpu_take(t, n_units, 1, &first, &last)) {
        uint32_t i = 0, unit = first;
        while (unit >= units_of(t, &t->o->w[i])) unit -= units_of(t, &t->o->w[i++]);
        one_unit(t, i, unit, &p);
    }
}
