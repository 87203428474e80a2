/* What a token reads and multiplies on each device, and how long that takes there. */
#include "plan/layout.h"

uint64_t gm_layout_full_read(const gm_plan *p, uint32_t kv)
{
    const gm_kv_layer *l = &p->programs[GM_PROGRAM_FULL]->kv[kv];
    uint32_t tokens = p->settings.ctx;
    if (l->kind == GM_KV_SLIDING) tokens = gm_min_u32(tokens, p->model->window);
    return 2 * (uint64_t)tokens * l->n_kv * gm_row_bytes(l->format, l->head);
}

/* ---- what is to be done ---- */

enum { BELOW_5_BITS, BELOW_8_BITS, BELOW_8_BITS_OF_32, BELOW_16_BITS, MORE_BITS, N_FAMILIES };

/* Of one device's part of a program, for a row. */
typedef struct work {
    uint64_t weight_bytes[N_FAMILIES];
    uint64_t kv_bytes, crossing_bytes;
    double weight_values;                                /* multiplied */
    double weight_rows;                                  /* of matrices */
    double attention;                                    /* operations */
    uint32_t n_products, n_attention, n_ops, n_segments; /* n_ops: others */
} work;

static uint32_t family_of(const gm_format *f)
{
    uint32_t bits = 8 * f->block_bytes;
    bool short_blocks = f->block == 32;
    return bits < 5 * f->block    ? BELOW_5_BITS
           : bits < 8 * f->block  ? (short_blocks ? BELOW_8_BITS_OF_32 : BELOW_8_BITS)
           : bits < 16 * f->block ? BELOW_16_BITS
                                  : MORE_BITS;
}

/* Of a table one row is read, of experts those that are used, of other weights all. */
static void add_weights(const gm_plan *p, const gm_op *op, work *w)
{
    bool by_row = op->kind == GM_OP_EMBED || op->kind == GM_OP_PLE_ROWS;
    for (size_t i = 0; i < GM_COUNT(op->w); i++) {
        if (op->w[i] < 0) continue;
        const gm_weight_shape *s = &p->shapes[op->w[i]];
        uint64_t n_rows = by_row ? 1 : (uint64_t)s->n_out * (op->kind == GM_OP_EXPERTS ? op->n_used : s->n_matrix);
        w->weight_bytes[family_of(s->format)] += n_rows * gm_row_bytes(s->format, s->n_in);
        w->weight_values += by_row ? 0 : (double)n_rows * s->n_in;
        w->weight_rows += by_row || n_rows == 1 ? 0 : (double)n_rows;
    }
}

static void add_attention(const gm_plan *p, const gm_op *op, uint32_t depth, work *w)
{
    const gm_kv_layer *l = &p->programs[GM_PROGRAM_FULL]->kv[op->kv];
    uint64_t seen = op->window ? gm_min_u32(depth, op->window) : depth;
    w->kv_bytes += 2 * seen * l->n_kv * gm_row_bytes(l->format, l->head);
    w->attention += 4.0 * (double)seen * op->n_head * op->head; /* a multiply-add for each of K and of V */
}

/* `prompt`: a row that nothing is wanted of. */
static work work_of(const gm_plan *p, uint32_t share, bool prompt, uint32_t depth)
{
    gm_which which = prompt ? GM_PROGRAM_CUT : GM_PROGRAM_FULL;
    const gm_program *program = p->shares[share].programs[which];
    const gm_cuts *cuts = &p->cuts[which];
    work w = { 0 };
    for (uint32_t i = 0; program && i < program->n_ops; i++) {
        const gm_op *op = &program->ops[i];
        if (prompt && (op->rows == GM_ROWS_WANTED || op->kind == GM_OP_HEAD)) continue;
        bool product = op->kind == GM_OP_MATMUL || op->kind == GM_OP_EXPERTS || op->kind == GM_OP_HEAD;
        w.n_products += product;
        w.n_attention += op->kind == GM_OP_ATTENTION;
        w.n_ops += !product && op->kind != GM_OP_ATTENTION;
        add_weights(p, op, &w);
        if (op->kind == GM_OP_ATTENTION) add_attention(p, op, depth, &w);
        if (op->kind == GM_OP_RECEIVE) w.crossing_bytes += program->slots[op->out[0]].width * (uint64_t)sizeof(float);
    }
    for (uint32_t i = 0; i < cuts->n_segments; i++) w.n_segments += cuts->segments[i].share == share;
    return w;
}

/* ---- how long that takes ---- */

static double larger(double a, double b) { return a > b ? a : b; }

/* 0: not measured, it counts as nothing. */
static double over(double amount, double rate) { return rate > 0 ? amount / (rate * 1e9) : 0; }

static double fixed_s(const gemma_probe *probe, const work *w)
{
    return 1e-6 * (w->n_products * probe->product_us + w->n_attention * probe->attention_us + w->n_ops * probe->op_us +
                   w->n_segments * probe->submit_us);
}

static double attention_s(const gemma_probe *probe, const work *w)
{
    return larger(over((double)w->kv_bytes, probe->read_gb_s), over(w->attention, probe->attention_gflops));
}

static double token_s(const gemma_probe *probe, const work *w)
{
    const double rates[N_FAMILIES] = { probe->q4_gb_s, probe->q6_gb_s, probe->q5_gb_s, probe->q8_gb_s,
                                       probe->f16_gb_s };
    double s = 1e-9 * w->weight_rows * probe->row_ns + attention_s(probe, w) + fixed_s(probe, w) +
               over((double)w->crossing_bytes, probe->read_gb_s);
    for (int i = 0; i < N_FAMILIES; i++)
        s += over((double)w->weight_bytes[i], rates[i] > 0 ? rates[i] : probe->read_gb_s);
    return s;
}

/* Of n_rows at once. Rows of a table are nothing beside the rest, and experts are read once at the least. */
static double prompt_s(const gemma_probe *probe, const work *w, uint32_t n_rows)
{
    double bytes = 0;
    for (int i = 0; i < N_FAMILIES; i++) bytes += (double)w->weight_bytes[i];
    return larger(over(bytes, probe->read_gb_s), over(2 * w->weight_values * n_rows, probe->compute_gflops)) +
           n_rows * (attention_s(probe, w) + over((double)w->crossing_bytes, probe->read_gb_s)) + fixed_s(probe, w);
}

gemma_prediction gm_plan_predict(const gm_plan *p, uint32_t depth)
{
    uint32_t ctx = p->settings.ctx, n_rows = p->settings.ubatch;
    depth = gm_min_u32(depth, ctx);
    gemma_prediction t = { .size = sizeof t, .measured = 1, .depth = depth };
    double at_depth_s = 0, full_s = 0, rows_s = 0;
    bool computes = true;
    for (uint32_t i = 0; i < p->devices.n; i++) {
        if (!gm_share_used(&p->shares[i])) continue;
        const gemma_probe *probe = &p->settings.probes[i];
        work now = work_of(p, i, false, depth), full = work_of(p, i, false, ctx);
        work rows = work_of(p, i, true, gm_min_u32(ctx, depth + n_rows / 2));
        for (int k = 0; k < N_FAMILIES; k++) t.bytes_per_token += now.weight_bytes[k];
        for (int k = 0; k < N_FAMILIES; k++) t.prompt_bytes += rows.weight_bytes[k];
        t.kv_bytes += now.kv_bytes;
        t.kv_bytes_full += full.kv_bytes;
        if (!(probe->read_gb_s > 0)) t.measured = 0;
        computes = computes && probe->compute_gflops > 0;
        at_depth_s += token_s(probe, &now);
        full_s += token_s(probe, &full);
        rows_s += prompt_s(probe, &rows, n_rows);
    }
    if (!t.measured) return t;
    t.decode_tok_s = 1 / at_depth_s;
    t.decode_full_tok_s = 1 / full_s;
    if (computes) t.prefill_tok_s = n_rows / rows_s;
    return t;
}
