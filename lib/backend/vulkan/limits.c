/* What the backend can do, and how much room it needs beside the slots: known before any memory is there. */
#include "backend/vulkan/exec.h"

#define HEAD_MAX 512 /* values of an attention head */

const gm_spirv *gm_vk_kernel(const char *kernel, const gm_format *format)
{
    char name[48];
    if (!format) return gm_vk_module(kernel);
    size_t n = gm_text_format(name, sizeof name, "%s_%s", kernel, format->name);
    for (size_t i = 0; i < n; i++)
        if (name[i] >= 'A' && name[i] <= 'Z') name[i] = (char)(name[i] - 'A' + 'a');
    return gm_vk_module(name);
}

/* ---- attention ---- */

uint32_t gm_vk_attention_heads(const gm_op *op)
{
    uint32_t group = op->n_head / op->n_kv, heads = group;
    while (heads > 1 && (group % heads || heads > 16 || heads * op->head > 2048)) heads--;
    return heads;
}

uint32_t gm_vk_attention_rows(const gm_vk_caps *caps, const gm_op *op)
{
    uint32_t heads = gm_vk_attention_heads(op), rows = gm_min_u32(caps->attention_rows, 16 / heads);
    while (rows > 1 && rows * heads * op->head > 4096) rows--;
    return rows;
}

/* Accumulators are registers: fewer rows for more columns, and for two matrices. */
uint32_t gm_vk_matvec_rows(const gm_vk_caps *caps, uint32_t n_columns, uint32_t epilogue)
{
    uint32_t rows = caps->matvec_rows >> (n_columns > 4) >> (epilogue == GM_EPILOGUE_GEGLU);
    return gm_max_u32(1, rows);
}

uint32_t gm_vk_attention_splits(const gm_vk *vk, uint32_t n_rows, uint32_t n_groups)
{
    uint64_t there = (uint64_t)n_rows * n_groups;
    uint64_t splits = there ? vk->caps.attention_groups / there : 1;
    return (uint32_t)gm_max_u64(1, gm_min_u64(splits, GM_VK_SPLITS_MAX));
}

static uint64_t partial_bytes(const gm_vk *vk, const gm_op *op, uint32_t max_rows)
{
    uint32_t groups = op->n_head / gm_vk_attention_heads(op);
    uint64_t most = 0;
    for (uint32_t n = 1;; n = gm_min_u32(2 * n, max_rows)) {
        uint64_t splits = gm_vk_attention_splits(vk, n, groups);
        if (splits > 1) most = gm_max_u64(most, splits * n * op->n_head * (op->head + 4) * sizeof(float));
        if (n == max_rows) return most;
    }
}

/* ---- workspace ---- */

bool gm_vk_gated_apart(const gm_program *p, const gm_op *op)
{
    return op->w[2] >= 0 && p->weights[op->w[0]].format != p->weights[op->w[2]].format;
}

typedef struct wants {
    uint64_t turns, x, z, lists, sums, partial, gate, up;
} wants;

static void add_wants(const gm_vk *vk, const gm_program *p, const gm_op *op, wants *w)
{
    uint64_t group = gm_min_u32(p->max_rows, GM_VK_FEW_ROWS);
    if (op->kind == GM_OP_ROPE) w->turns += gm_align_up(op->width / 2 * 2 * sizeof(uint32_t), 64);
    if (op->kind == GM_OP_ATTENTION) w->partial = gm_max_u64(w->partial, partial_bytes(vk, op, p->max_rows));
    if (op->kind == GM_OP_MATMUL && op->epilogue == GM_EPILOGUE_GEGLU) {
        const gm_weight_shape *gate = &p->weights[op->w[0]], *up = &p->weights[op->w[1]];
        if (gate->format != up->format)
            w->gate = gm_max_u64(w->gate, (uint64_t)p->max_rows * gate->n_out * sizeof(float));
    }
    if (op->kind == GM_OP_ROUTER) {
        uint32_t width = p->weights[op->w[0]].n_in;
        w->x = gm_max_u64(w->x, (uint64_t)p->max_rows * width * sizeof(float));
        w->gate = gm_max_u64(w->gate, (uint64_t)p->max_rows * op->n_expert * sizeof(float));
    }
    if (op->kind == GM_OP_EXPERTS) {
        uint64_t n_bytes = (uint64_t)p->max_rows * op->n_used * op->n_ff * sizeof(float);
        w->gate = gm_max_u64(w->gate, n_bytes);
        if (gm_vk_gated_apart(p, op)) w->up = gm_max_u64(w->up, n_bytes);
    }
    if (op->kind != GM_OP_HEAD) return;
    uint64_t n_chunks = gm_div_up(op->n_vocab, GM_VK_CHUNK);
    w->x = gm_max_u64(w->x, group * p->weights[op->w[0]].n_in * sizeof(float));
    w->z = gm_max_u64(w->z, group * op->n_vocab * sizeof(float));
    w->lists = gm_max_u64(w->lists, group * n_chunks * GM_RESULTS_MAX * sizeof(gm_candidate));
    w->sums = gm_max_u64(w->sums, group * n_chunks * 2 * sizeof(float));
}

static uint64_t take(uint64_t *at, uint64_t n_bytes)
{
    uint64_t here = *at;
    *at = gm_align_up(here + n_bytes, 64);
    return here;
}

/* Bytes of a step block up to its results. */
static uint64_t input_bytes(const gm_step_limits *limits)
{
    gm_step_limits inputs = *limits;
    gm_step_block block;
    char *base = (char *)64; /* only distances are used */
    gm_step_block_layout(&inputs, base, &block);
    return (uint64_t)((char *)block.candidates - base);
}

gm_vk_work gm_vk_work_of(const gm_vk *vk, const gm_program *p, const gm_step_limits *limits)
{
    wants w = { 0 };
    for (uint32_t i = 0; i < p->n_ops; i++) add_wants(vk, p, &p->ops[i], &w);
    gm_vk_work work = { 0 };
    uint64_t at = 0;
    work.step = take(&at, gm_vk_copies_inputs(vk) ? input_bytes(limits) : 0);
    work.turns = take(&at, w.turns);
    work.suppressed = take(&at, (uint64_t)p->n_suppressed * sizeof(uint32_t));
    work.constants_bytes = work.suppressed - work.turns + p->n_suppressed * sizeof(uint32_t);
    work.x = take(&at, w.x);
    work.z = take(&at, w.z);
    work.lists = take(&at, w.lists);
    work.sums = take(&at, w.sums);
    work.partial = take(&at, w.partial);
    work.gate = take(&at, w.gate);
    work.up = take(&at, w.up);
    work.total_bytes = at;
    return work;
}

uint64_t gm_vk_workspace_bytes(const gm_backend *be, const gm_program *p, const gm_step_limits *limits)
{
    return gm_vk_work_of(gm_vk_of_const(be), p, limits).total_bytes;
}

/* ---- what is refused ---- */

#define NOT_F32 "a norm or scale that is not F32 is not supported"

static const char *refuse_kernel(const char *kernel)
{
    return gm_vk_module(kernel)
               ? NULL
               : "its kernel is missing from this build; running it on a Vulkan device is not supported";
}

static bool has(const gm_program *p, const gm_op *op, unsigned i)
{
    return op->w[i] >= 0 && p->weights[op->w[i]].format;
}

/* Of a matrix: a vector's are f32 alone. */
static const char *refuse_matrix(const gm_op *op, const gm_weight_shape *s)
{
    bool table = op->kind == GM_OP_EMBED || op->kind == GM_OP_PLE_ROWS, product = op->kind != GM_OP_EXPERTS && !table;
    if (s->factors) return "a weight with factors apart on a Vulkan device is not supported";
    if (!gm_vk_kernel(table     ? "embed"
                      : product ? "matvec"
                                : "expert",
                      s->format) ||
        (product && !gm_vk_kernel("matmat", s->format)))
        return "a weight of this type on a Vulkan device is not supported";
    if (gm_row_bytes(s->format, s->n_in) % 2)
        return "a weight whose rows have an odd number of bytes on a Vulkan device is not supported";
    return NULL;
}

/* How many of an op's weights are matrices, from the first. */
static uint32_t n_matrices(const gm_op *op)
{
    switch (op->kind) {
    case GM_OP_EMBED:
    case GM_OP_PLE_ROWS:
    case GM_OP_HEAD:
    case GM_OP_ROUTER: return 1;
    case GM_OP_MATMUL: return op->n_weights;
    case GM_OP_EXPERTS: return 3;
    default: return 0;
    }
}

static const char *refuse_matrices(const gm_program *p, const gm_op *op)
{
    const char *why = NULL;
    for (unsigned i = 0; i < n_matrices(op) && !why; i++)
        if (has(p, op, i)) why = refuse_matrix(op, &p->weights[op->w[i]]);
    return why;
}

bool gm_vk_has_kernel(const gm_backend *be, const gm_op *op, uint32_t i, const gm_weight_shape *s)
{
    (void)be;
    return i < n_matrices(op) ? !refuse_matrix(op, s) : s->format->type == GM_F32;
}

static const char *refuse_vectors(const gm_program *p, const gm_op *op, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (has(p, op, i) && p->weights[op->w[i]].format->type != GM_F32) return NOT_F32;
    return NULL;
}

static const char *refuse_kv(const gm_program *p, const gm_op *op)
{
    if (op->head > HEAD_MAX || op->head % 2) return "a head of more than 512 values or an odd number is not supported";
    if (op->kv < 0) return NULL;
    gm_type type = p->kv[op->kv].format->type;
    if (type == GM_F16 || type == GM_F32) return NULL;
    if (type != GM_Q8_0 && type != GM_Q4_0) return "a KV cache of this type on a Vulkan device is not supported";
    return op->head % 64 ? "a quantised KV cache with heads of no multiple of 64 values is not supported" : NULL;
}

static const char *refuse_router(const gm_program *p, const gm_op *op)
{
    const char *why = refuse_kernel("route");
    if (!why) why = refuse_kernel("norm");
    if (!why) why = refuse_matrices(p, op);
    for (unsigned i = 1; i <= 2 && !why; i++)
        if (has(p, op, i) && p->weights[op->w[i]].format->type != GM_F32) why = NOT_F32;
    return why;
}

static const char *refuse_head(const gm_program *p, const gm_op *op)
{
    static const char *const kernels[] = { "rows", "head_top", "head_merge", "hidden" };
    const char *why = refuse_matrices(p, op);
    for (size_t i = 0; i < GM_COUNT(kernels) && !why; i++) why = refuse_kernel(kernels[i]);
    return why;
}

const char *gm_vk_refuses(const gm_backend *be, const gm_program *p, const gm_op *op)
{
    (void)be;
    const char *why = NULL;
    switch (op->kind) {
    case GM_OP_EMBED:
    case GM_OP_PLE_ROWS:
    case GM_OP_MATMUL:
    case GM_OP_EXPERTS: return refuse_matrices(p, op);
    case GM_OP_HEAD: return refuse_head(p, op);
    case GM_OP_ROUTER: return refuse_router(p, op);
    case GM_OP_ROPE: why = refuse_kernel("rope"); break;
    case GM_OP_NORM: why = refuse_kernel("norm"); break;
    case GM_OP_NORM_ADD: why = refuse_kernel("norm_add"); break;
    case GM_OP_PLE_MIX: why = refuse_kernel("ple_mix"); break;
    case GM_OP_SEND:
    case GM_OP_RECEIVE:
    case GM_OP_ROWS: return refuse_kernel("rows");
    case GM_OP_HEADS:
        why = refuse_kernel("heads");
        if (!why) why = refuse_kv(p, op);
        break;
    case GM_OP_ATTENTION:
        why = refuse_kernel("attention");
        if (!why) why = refuse_kernel("attention_merge");
        return why ? why : refuse_kv(p, op);
    default: return "this op on a Vulkan device is not supported";
    }
    return why ? why : refuse_vectors(p, op, 3);
}
