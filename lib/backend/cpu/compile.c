/* From a program and its places to ops with pointers. */
#include "backend/cpu/exec.h"

#include <math.h>

static const gm_cpu_fn functions[GM_OP_LIMIT] = {
    [GM_OP_EMBED] = gm_cpu_table_rows,    [GM_OP_ROPE] = gm_cpu_rope,       [GM_OP_NORM] = gm_cpu_norm,
    [GM_OP_MATMUL] = gm_cpu_matmul,       [GM_OP_HEADS] = gm_cpu_heads,     [GM_OP_ATTENTION] = gm_cpu_attention,
    [GM_OP_NORM_ADD] = gm_cpu_norm_add,   [GM_OP_ROWS] = gm_cpu_rows,       [GM_OP_HEAD] = gm_cpu_head,
    [GM_OP_PLE_ROWS] = gm_cpu_table_rows, [GM_OP_PLE_MIX] = gm_cpu_ple_mix, [GM_OP_ROUTER] = gm_cpu_router,
    [GM_OP_EXPERTS] = gm_cpu_experts,     [GM_OP_SEND] = gm_cpu_send,       [GM_OP_RECEIVE] = gm_cpu_receive,
};

static const uint8_t *span_data(const gm_span *s)
{
    return s->buffer ? (const uint8_t *)s->buffer->host + s->offset : s->mapped;
}

static gm_cpu_slot resolve_slot(const gm_exec_desc *d, uint16_t slot)
{
    if (slot == GM_NONE) return (gm_cpu_slot){ 0 };
    const gm_slot *s = &d->program->slots[slot];
    uint8_t *at = (uint8_t *)d->scratch->host + d->slot_offset[slot];
    return (gm_cpu_slot){ .data = (float *)(void *)at, .width = s->width, .rows = s->rows };
}

/* Plain numbers are read in place and must lie as C wants them; blocks may lie anywhere. */
static int resolve_weight(const gm_cpu *cpu, const gm_exec_desc *d, int32_t w, gm_cpu_matrix *out, gemma_error *error)
{
    if (w < 0) return GEMMA_OK;
    *out = gm_cpu_matrix_of(cpu, &d->program->weights[w]);
    out->data = span_data(&d->weights[w]);
    uint32_t align = out->format->block == 1 ? out->format->block_bytes : 1;
    if ((uintptr_t)out->data % align)
        return gm_fail(error, GEMMA_E_FORMAT, "weight %d (%s) does not lie at a multiple of %u bytes", (int)w,
                       out->format->name, align);
    return GEMMA_OK;
}

/* The matrices of an op that take Q8 activations made from in0. */
static bool packs(const gm_cpu_op *o)
{
    switch (o->op.kind) {
    case GM_OP_MATMUL:
    case GM_OP_HEAD: return o->w[0].q8 || o->w[1].q8 || o->w[2].q8;
    case GM_OP_EXPERTS: return o->w[0].q8 || o->w[2].q8;
    default: return false;
    }
}

static int resolve_op(gm_exec *x, const gm_exec_desc *d, uint32_t i, gemma_error *error)
{
    gm_cpu_op *o = &x->ops[i];
    o->op = d->program->ops[i];
    o->run = functions[o->op.kind];
    for (size_t k = 0; k < GM_COUNT(o->in); k++) o->in[k] = resolve_slot(d, o->op.in[k]);
    for (size_t k = 0; k < GM_COUNT(o->out); k++) o->out[k] = resolve_slot(d, o->op.out[k]);
    for (size_t k = 0; k < GM_COUNT(o->w); k++) {
        int rc = resolve_weight(x->cpu, d, o->op.w[k], &o->w[k], error);
        if (rc) return rc;
    }
    if (o->op.kind == GM_OP_ROUTER) { /* its place has room for a row of floats */
        o->w[0].q8 = NULL;
        o->w[0].tile = NULL;
        o->w[0].f32 = x->cpu->kernels.f32[o->w[0].format->type];
    }
    if (o->op.kv >= 0) o->kv = &x->kv[o->op.kv];
    bool by_row = o->op.kind == GM_OP_EMBED || o->op.kind == GM_OP_PLE_ROWS;
    for (size_t k = 0; k < GM_COUNT(o->w); k++)
        if (o->op.w[k] >= 0 && !o->w[k].data && !by_row)
            return gm_fail(error, GEMMA_E_INTERNAL, "weight %d is left in the file, but not only read by row",
                           (int)o->op.w[k]);
    bool results_fit = o->op.n_vocab == d->limits.n_vocab && o->in[0].width == d->limits.n_embd;
    if (o->op.kind == GM_OP_HEAD && d->limits.result_rows && !results_fit)
        return gm_fail(error, GEMMA_E_INTERNAL, "results of %u ids and %u values in a step block for %u and %u",
                       o->op.n_vocab, o->in[0].width, d->limits.n_vocab, d->limits.n_embd);
    o->packs = packs(o);
    o->work = gm_cpu_op_work(x->cpu, d->program, &o->op);
    return GEMMA_OK;
}

static void resolve_kv(gm_exec *x, const gm_exec_desc *d)
{
    for (uint32_t i = 0; i < x->n_kv; i++) {
        const gm_kv_layer *l = &d->program->kv[i];
        if (!d->kv_k[i].buffer) continue; /* on another device */
        x->kv[i] = (gm_cpu_kv){ .k = (uint8_t *)d->kv_k[i].buffer->host + d->kv_k[i].offset,
                                .v = (uint8_t *)d->kv_v[i].buffer->host + d->kv_v[i].offset,
                                .format = l->format,
                                .page_bytes = gm_kv_page_bytes(l),
                                .line_bytes = gm_row_bytes(l->format, l->head),
                                .kind = l->kind,
                                .n_kv = l->n_kv,
                                .head = l->head };
    }
}

static void fill_frequencies(gm_exec *x)
{
    double *at = x->frequencies;
    for (uint32_t i = 0; i < x->n_ops; i++) {
        gm_cpu_op *o = &x->ops[i];
        if (o->op.kind != GM_OP_ROPE) continue;
        o->frequency = at;
        for (uint32_t j = 0; j < o->op.width / 2; j++)
            *at++ = (double)o->op.scale * pow(o->op.base, -2.0 * j / o->op.width);
    }
}

static uint64_t taken_bytes(const gm_exec *x) { return 2 * (uint64_t)x->cpu->n_parts * sizeof *x->taken; }

static int allocate(gm_exec *x, const gm_program *p)
{
    gm_mem *mem = x->cpu->base.mem;
    uint64_t n_frequencies = 0;
    for (uint32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == GM_OP_ROPE) n_frequencies += p->ops[i].width / 2;
    x->ops = gm_new_array(mem, p->n_ops + 1, sizeof *x->ops, GEMMA_TAG_OBJECT);
    x->kv = gm_new_array(mem, p->n_kv + 1, sizeof *x->kv, GEMMA_TAG_OBJECT);
    x->phases = gm_new_array(mem, 3 * (uint64_t)p->n_ops + 1, sizeof *x->phases, GEMMA_TAG_OBJECT);
    x->taken = gm_mem_alloc(mem, taken_bytes(x), alignof(gm_cpu_taken), GEMMA_TAG_OBJECT); /* set before each step */
    x->frequencies = gm_new_array(mem, n_frequencies + 1, sizeof *x->frequencies, GEMMA_TAG_OBJECT);
    return x->ops && x->kv && x->phases && x->taken && x->frequencies ? GEMMA_OK : GEMMA_E_NOMEM;
}

int gm_cpu_compile(gm_backend *be, const gm_exec_desc *d, gm_exec **out, gemma_error *error)
{
    const gm_program *p = d->program;
    gm_exec *x = gm_new(be->mem, sizeof *x, GEMMA_TAG_OBJECT);
    if (!x) return gm_fail_nomem(error, "a compiled program", sizeof *x);
    x->cpu = (gm_cpu *)be;
    x->n_ops = p->n_ops;
    x->n_kv = p->n_kv;
    x->max_rows = p->max_rows;
    x->suppressed = p->suppressed;
    x->n_suppressed = p->n_suppressed;
    x->block = d->block;
    x->limits = d->limits;
    x->workspace = d->scratch ? (uint8_t *)d->scratch->host + d->workspace_offset : NULL;
    int rc = allocate(x, p);
    if (rc) {
        gm_fail_nomem(error, "a compiled program", p->n_ops * sizeof *x->ops);
        goto done;
    }
    resolve_kv(x, d);
    for (uint32_t i = 0; !rc && i < p->n_ops; i++) rc = resolve_op(x, d, i, error);
    fill_frequencies(x);
done:
    if (rc) {
        gm_cpu_exec_destroy(x);
        x = NULL;
    }
    *out = x;
    return rc;
}

void gm_cpu_exec_destroy(gm_exec *x)
{
    if (!x) return;
    gm_mem *mem = x->cpu->base.mem;
    gm_delete(mem, x->ops);
    gm_delete(mem, x->kv);
    gm_delete(mem, x->phases);
    gm_mem_free(mem, x->taken, taken_bytes(x), GEMMA_TAG_OBJECT);
    gm_delete(mem, x->frequencies);
    gm_delete(mem, x);
}
