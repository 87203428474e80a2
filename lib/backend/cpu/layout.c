/* What the CPU can do, and how much room between phases it takes: known before any memory is there. */
#include "backend/cpu/exec.h"

enum { MAX_PANELS = 4, PANELS_BYTES = 256 << 10 };

gm_cpu_matrix gm_cpu_matrix_of(const gm_cpu *cpu, const gm_weight_shape *s)
{
    gm_cpu_matrix m = {
        .format = s->format, .row_bytes = gm_row_bytes(s->format, s->n_in), .n_in = s->n_in, .n_out = s->n_out
    };
    if (s->n_in % 32 == 0) m.q8 = cpu->kernels.q8[s->format->type];
    if (!m.q8) m.f32 = cpu->kernels.f32[s->format->type];
    m.factor = s->factors;
    m.line_bytes = gm_align_up(m.n_in * sizeof(float), 64);
    const gm_tile *tile = &cpu->kernels.tile[s->format->type];
    if (m.q8 && tile->unpack) {
        uint64_t panel_bytes = gm_panel_bytes(&cpu->kernels, m.n_in);
        m.tile = tile;
        m.n_panels = (uint32_t)gm_max_u64(1, gm_min_u64(MAX_PANELS, PANELS_BYTES / panel_bytes));
        m.line_bytes = gm_max_u64(m.line_bytes, m.n_panels * panel_bytes);
    }
    return m;
}

/* ---- workspace ---- */

typedef struct wants {
    uint64_t shared, extra, part;
} wants;

static uint64_t columns_bytes(const gm_cpu *cpu, const gm_program *p, const gm_op *op, uint32_t n_weights)
{
    for (uint32_t i = 0; i < n_weights; i++) {
        gm_cpu_matrix m = op->w[i] < 0 ? (gm_cpu_matrix){ 0 } : gm_cpu_matrix_of(cpu, &p->weights[op->w[i]]);
        if (m.q8) return p->max_rows * gm_activations_bytes(m.n_in);
    }
    return 0;
}

/* The place gm_cpu_product takes, for any of an op's matrices. */
static uint64_t line_bytes(const gm_cpu *cpu, const gm_program *p, const gm_op *op, uint32_t n_weights)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < n_weights; i++)
        if (op->w[i] >= 0) most = gm_max_u64(most, gm_cpu_matrix_of(cpu, &p->weights[op->w[i]]).line_bytes);
    return most;
}

static wants matmul_wants(const gm_cpu *cpu, const gm_program *p, const gm_op *op)
{
    uint64_t shared = columns_bytes(cpu, p, op, op->n_weights);
    uint32_t n_up = op->epilogue == GM_EPILOGUE_GEGLU ? p->max_rows : 0;
    return (wants){ .shared = shared,
                    .part =
                        gm_cpu_matmul_part_bytes(line_bytes(cpu, p, op, op->n_weights), shared / p->max_rows, n_up) };
}

static wants attention_wants(const gm_program *p, const gm_op *op)
{
    uint64_t head = gm_align_up(op->head, 16), n = gm_min_u64((uint64_t)p->max_rows * op->n_head, GM_CPU_SPLIT);
    return (wants){ .shared = n * GM_CPU_SEGMENTS * (head + 16) * sizeof(float),
                    .part = gm_cpu_attention_part_bytes(op->head) };
}

static wants head_wants(const gm_cpu *cpu, const gm_program *p, const gm_op *op)
{
    gm_cpu_matrix m = gm_cpu_matrix_of(cpu, &p->weights[op->w[0]]);
    uint64_t shared = columns_bytes(cpu, p, op, 1);
    return (wants){ .shared = shared,
                    .extra = gm_cpu_head_sums_bytes(op->n_vocab, p->max_rows),
                    .part = gm_cpu_head_part_bytes(&m, p->max_rows) + GM_CPU_OWN_ROWS * (shared / p->max_rows) };
}

static wants experts_wants(const gm_cpu *cpu, const gm_program *p, const gm_op *op)
{
    gm_cpu_matrix down = gm_cpu_matrix_of(cpu, &p->weights[op->w[1]]);
    uint64_t n_pairs = (uint64_t)p->max_rows * op->n_used, shared = columns_bytes(cpu, p, op, 1);
    if (!shared && op->w[2] >= 0 && gm_cpu_matrix_of(cpu, &p->weights[op->w[2]]).q8)
        shared = p->max_rows * gm_activations_bytes(p->weights[op->w[2]].n_in);
    return (wants){ .shared = shared,
                    .extra =
                        gm_cpu_experts_lists_bytes(op, p->max_rows) + n_pairs * gm_cpu_experts_hidden_bytes(op, &down),
                    .part = gm_cpu_experts_part_bytes(line_bytes(cpu, p, op, 3)) };
}

static wants router_wants(const gm_program *p, const gm_op *op)
{
    uint64_t n_in = p->weights[op->w[0]].n_in;
    return (wants){ .shared = p->max_rows * n_in * sizeof(float),
                    .extra = (uint64_t)p->max_rows * op->n_expert * sizeof(float),
                    .part = n_in * sizeof(float) };
}

gm_cpu_work gm_cpu_op_work(const gm_cpu *cpu, const gm_program *p, const gm_op *op)
{
    wants w = { 0 };
    switch (op->kind) {
    case GM_OP_MATMUL: w = matmul_wants(cpu, p, op); break;
    case GM_OP_HEADS: w.part = op->head * sizeof(float); break;
    case GM_OP_ATTENTION: w = attention_wants(p, op); break;
    case GM_OP_HEAD: w = head_wants(cpu, p, op); break;
    case GM_OP_ROUTER: w = router_wants(p, op); break;
    case GM_OP_EXPERTS: w = experts_wants(cpu, p, op); break;
    default: break;
    }
    gm_cpu_work work = { .extra = gm_align_up(w.shared, 64), .part_bytes = gm_align_up(w.part, 64) };
    work.part = work.extra + gm_align_up(w.extra, 64);
    work.total_bytes = work.part + cpu->n_parts * work.part_bytes;
    return work;
}

/* ---- phases ---- */

uint32_t gm_cpu_op_phases(const gm_exec *x, const gm_cpu_op *o, uint32_t n_rows)
{
    if (n_rows == 0) return 0;
    switch (o->op.kind) {
    case GM_OP_MATMUL: return o->packs && !gm_cpu_packs_own(o, n_rows) ? 2 : 1;
    case GM_OP_ATTENTION: return gm_cpu_attention_phases(x, o, n_rows);
    case GM_OP_HEAD: return o->packs && !gm_cpu_packs_own(o, n_rows) ? 3 : 2;
    case GM_OP_ROUTER:
    case GM_OP_EXPERTS: return 3;
    default: return 1;
    }
}

/* ---- what is refused ---- */

static const gm_format *weight_format(const gm_program *p, const gm_op *op, unsigned i)
{
    return op->w[i] < 0 ? NULL : p->weights[op->w[i]].format;
}

static const char *refuse_matrices(const gm_program *p, const gm_op *op, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        const gm_format *f = weight_format(p, op, i);
        if (f && !f->unpack) return "a weight of this type is not supported";
    }
    return NULL;
}

static const char *refuse_vectors(const gm_program *p, const gm_op *op, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        const gm_format *f = weight_format(p, op, i);
        if (f && f->type != GM_F32) return "a norm or scale that is not F32 is not supported";
    }
    return NULL;
}

static const char *refuse_kv(const gm_program *p, const gm_op *op)
{
    if (op->head > GM_CPU_HEAD_MAX) return "a head of more than 512 values is not supported";
    if (op->kv < 0) return NULL;
    const gm_format *f = p->kv[op->kv].format;
    bool known = f->type == GM_F32 || f->type == GM_F16 || f->type == GM_Q8_0 || f->type == GM_Q4_0;
    return known && op->head % f->block == 0 ? NULL : "a KV cache of this type is not supported";
}

const char *gm_cpu_refuses(const gm_backend *be, const gm_program *p, const gm_op *op)
{
    (void)be;
    const char *why = NULL;
    switch (op->kind) {
    case GM_OP_EMBED:
    case GM_OP_PLE_ROWS:
    case GM_OP_HEAD: return refuse_matrices(p, op, 0, 1);
    case GM_OP_MATMUL: return refuse_matrices(p, op, 0, op->n_weights);
    case GM_OP_EXPERTS: return refuse_matrices(p, op, 0, 3);
    case GM_OP_ROUTER: why = refuse_matrices(p, op, 0, 1); return why ? why : refuse_vectors(p, op, 1, 2);
    case GM_OP_ROPE:
    case GM_OP_NORM:
    case GM_OP_NORM_ADD:
    case GM_OP_PLE_MIX: return refuse_vectors(p, op, 0, 3);
    case GM_OP_HEADS: why = refuse_kv(p, op); return why ? why : refuse_vectors(p, op, 0, 2);
    case GM_OP_ATTENTION: return refuse_kv(p, op);
    case GM_OP_ROWS:
    case GM_OP_SEND:
    case GM_OP_RECEIVE: return NULL;
    default: return "this op is not supported";
    }
}
