/* The front door of every backend: arguments are checked here, once. */
#include "backend/backend.h"

/* ---- the step block ---- */

/* Takes n elements at a 64-byte boundary; where there is no memory yet, only counts. */
static void *take(char *base, uint64_t *offset, uint64_t n, size_t element_bytes)
{
    void *at = base ? base + *offset : NULL;
    *offset = gm_align_up(*offset + n * element_bytes, 64);
    return at;
}

uint64_t gm_step_block_layout(const gm_step_limits *l, void *base, gm_step_block *block)
{
    gm_step_block b = { 0 };
    uint64_t at = 0;
    b.counts = take(base, &at, 16, sizeof *b.counts);
    b.token = take(base, &at, l->max_rows, sizeof *b.token);
    b.position = take(base, &at, l->max_rows, sizeof *b.position);
    b.angle = take(base, &at, l->max_rows, sizeof *b.angle);
    b.last_seen = take(base, &at, l->max_rows, sizeof *b.last_seen);
    b.table = take(base, &at, l->max_rows, sizeof *b.table);
    b.file_rows = take(base, &at, l->max_rows * gm_file_row_stride(l->file_row_bytes), 1);
    b.wanted = take(base, &at, l->max_rows, sizeof *b.wanted);
    b.want = take(base, &at, l->max_rows, sizeof *b.want);
    b.target = take(base, &at, l->max_rows, sizeof *b.target);
    b.result_row = take(base, &at, l->max_rows, sizeof *b.result_row);
    b.copies = take(base, &at, l->max_copies, sizeof *b.copies);
    b.tables = take(base, &at, (uint64_t)l->n_tables * gm_table_stride(l), sizeof *b.tables);
    b.candidates = take(base, &at, (uint64_t)l->max_rows * GM_RESULTS_MAX, sizeof *b.candidates);
    b.n_candidates = take(base, &at, l->max_rows, sizeof *b.n_candidates);
    b.log_sum = take(base, &at, l->max_rows, sizeof *b.log_sum);
    b.score = take(base, &at, l->max_rows, sizeof *b.score);
    b.logits = take(base, &at, (uint64_t)l->result_rows * l->n_vocab, sizeof *b.logits);
    b.hidden = take(base, &at, (uint64_t)l->result_rows * l->n_embd, sizeof *b.hidden);
    b.bridge = take(base, &at, (uint64_t)l->bridge_width * l->max_rows, sizeof *b.bridge);
    if (base) *block = b;
    return at;
}

static int check_wanted(const gm_step_block *b, const gm_step_limits *l, uint32_t i, gemma_error *error)
{
    if (b->wanted[i] >= b->n_rows || (i && b->wanted[i] <= b->wanted[i - 1]))
        return gm_fail(error, GEMMA_E_INTERNAL, "wanted row %u is row %u of %u: out of range or order", i, b->wanted[i],
                       b->n_rows);
    if ((b->want[i] & (GEMMA_WANT_LOGITS | GEMMA_WANT_HIDDEN)) && b->result_row[i] >= l->result_rows)
        return gm_fail(error, GEMMA_E_INTERNAL, "wanted row %u goes to result line %u of %u", i, b->result_row[i],
                       l->result_rows);
    return GEMMA_OK;
}

int gm_step_block_check(const gm_step_block *b, const gm_step_limits *l, gemma_error *error)
{
    if (b->n_rows > l->max_rows || b->n_wanted > b->n_rows || b->n_copies > l->max_copies)
        return gm_fail(error, GEMMA_E_INTERNAL, "a step of %u rows (%u wanted, %u page copies) where %u (%u) can be",
                       b->n_rows, b->n_wanted, b->n_copies, l->max_rows, l->max_copies);
    for (uint32_t r = 0; r < b->n_rows; r++) {
        if (b->token[r] < 0) return gm_fail(error, GEMMA_E_INTERNAL, "row %u has token %d", r, (int)b->token[r]);
        if (l->n_tables && b->table[r] >= l->n_tables)
            return gm_fail(error, GEMMA_E_INTERNAL, "row %u has page table %u of %u", r, b->table[r], l->n_tables);
        if (l->global_pages && gm_max_u32(b->position[r], b->last_seen[r]) / GM_PAGE >= l->global_pages)
            return gm_fail(error, GEMMA_E_INTERNAL, "row %u is at position %u, beyond %u pages", r, b->position[r],
                           l->global_pages);
    }
    for (uint32_t i = 0; i < b->n_wanted; i++) {
        int rc = check_wanted(b, l, i, error);
        if (rc) return rc;
    }
    return GEMMA_OK;
}

/* ---- what it can do ---- */

/* "blk.3.attn_q.weight (Q4_K), …" of the op's weights into a buffer. */
static void list_weights(const gm_program *p, const gm_op *op, const char *const *names, char *buffer, size_t n)
{
    size_t length = 0;
    buffer[0] = 0;
    for (size_t i = 0; i < GM_COUNT(op->w) && length + 1 < n; i++) {
        int32_t w = op->w[i];
        if (w < 0) continue;
        length += gm_text_format(buffer + length, n - length, "%s%s (%s)", length ? ", " : "",
                                 names ? names[w] : "weight", p->weights[w].format->name);
    }
}

static int refuse(const gm_program *p, const gm_op *op, const char *const *names, const char *why, gemma_error *error)
{
    char weights[320];
    list_weights(p, op, names, weights, sizeof weights);
    const char *with = weights[0] ? " with " : "";
    if (op->layer < 0)
        return gm_fail(error, GEMMA_E_UNSUPPORTED, "%s%s%s: %s", gm_op_name(op->kind), with, weights, why);
    return gm_fail(error, GEMMA_E_UNSUPPORTED, "%s of layer %d%s%s: %s", gm_op_name(op->kind), (int)op->layer, with,
                   weights, why);
}

int gm_backend_accepts(const gm_backend *be, const gm_program *p, const char *const *names, gemma_error *error)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const gm_op *op = &p->ops[i];
        const char *why = be->fns->refuses ? be->fns->refuses(be, p, op) : NULL;
        if (why) return refuse(p, op, names, why, error);
    }
    return GEMMA_OK;
}

/* ---- buffers ---- */

int gm_buffer_create(gm_backend *be, uint32_t heap, uint64_t n_bytes, uint32_t tag, gm_buffer **out, gemma_error *error)
{
    *out = NULL;
    if (n_bytes == 0) return GEMMA_OK;
    uint32_t n_heaps = be->fns->n_heaps(be);
    if (heap >= n_heaps) return gm_fail(error, GEMMA_E_ARG, "heap %u of a device that has %u", heap, n_heaps);
    if (tag >= GEMMA_TAG_COUNT) return gm_fail(error, GEMMA_E_ARG, "memory of unknown tag %u", tag);
    return be->fns->buffer_create(be, heap, n_bytes, tag, out, error);
}

void gm_buffer_destroy(gm_buffer *buffer)
{
    if (buffer) buffer->backend->fns->buffer_destroy(buffer);
}

static int check_range(const gm_buffer *buffer, uint64_t offset, const void *data, uint64_t n, gemma_error *error)
{
    if (!buffer || !data) return gm_fail(error, GEMMA_E_ARG, "no buffer or no data");
    if (offset > buffer->n_bytes || n > buffer->n_bytes - offset)
        return gm_fail(error, GEMMA_E_ARG, "%llu bytes at %llu of a buffer of %llu", (unsigned long long)n,
                       (unsigned long long)offset, (unsigned long long)buffer->n_bytes);
    return GEMMA_OK;
}

int gm_buffer_write(gm_buffer *buffer, uint64_t offset, const void *src, uint64_t n, gemma_error *error)
{
    if (n == 0) return GEMMA_OK;
    int rc = check_range(buffer, offset, src, n, error);
    return rc ? rc : buffer->backend->fns->buffer_write(buffer, offset, src, n, error);
}

int gm_buffer_read(gm_buffer *buffer, uint64_t offset, void *dst, uint64_t n, gemma_error *error)
{
    if (n == 0) return GEMMA_OK;
    int rc = check_range(buffer, offset, dst, n, error);
    return rc ? rc : buffer->backend->fns->buffer_read(buffer, offset, dst, n, error);
}

/* ---- programs ---- */

static int check_span(const char *what, uint32_t index, const gm_span *span, uint64_t n_bytes, gemma_error *error)
{
    if (!span->buffer && !span->mapped) return gm_fail(error, GEMMA_E_INTERNAL, "%s %u has no place", what, index);
    if (span->buffer && (span->offset > span->buffer->n_bytes || n_bytes > span->buffer->n_bytes - span->offset))
        return gm_fail(error, GEMMA_E_INTERNAL, "%s %u (%llu bytes at %llu) is beyond its buffer of %llu", what, index,
                       (unsigned long long)n_bytes, (unsigned long long)span->offset,
                       (unsigned long long)span->buffer->n_bytes);
    return GEMMA_OK;
}

static int check_scratch(const gm_backend *be, const gm_exec_desc *d, gemma_error *error)
{
    const gm_program *p = d->program;
    uint64_t have = d->scratch ? d->scratch->n_bytes : 0, work = be->fns->workspace_bytes(be, p, &d->limits);
    if (d->workspace_offset % 64 || d->workspace_offset > have || work > have - d->workspace_offset)
        return gm_fail(error, GEMMA_E_INTERNAL, "a workspace of %llu bytes at %llu is beyond the scratch of %llu",
                       (unsigned long long)work, (unsigned long long)d->workspace_offset, (unsigned long long)have);
    for (uint32_t i = 0; i < p->n_slots; i++) {
        uint64_t n_bytes = (uint64_t)p->slots[i].width * p->max_rows * sizeof(float);
        if (d->slot_offset[i] % 64 || d->slot_offset[i] > have || n_bytes > have - d->slot_offset[i])
            return gm_fail(error, GEMMA_E_INTERNAL, "slot %u at %llu is beyond the scratch of %llu bytes", i,
                           (unsigned long long)d->slot_offset[i], (unsigned long long)have);
    }
    return GEMMA_OK;
}

/* A table whose rows come with every step. */
static bool in_file(const gm_exec_desc *d, uint32_t w)
{
    const gm_weight_shape *s = &d->program->weights[w];
    bool has_place = d->weights[w].buffer || d->weights[w].mapped;
    return !has_place && d->limits.file_row_bytes && d->limits.file_row_bytes == gm_row_bytes(s->format, s->n_in);
}

static int check_kv(const gm_exec_desc *d, uint32_t kv, gemma_error *error)
{
    const gm_kv_layer *l = &d->program->kv[kv];
    int rc = check_span("K of layer", l->layer, &d->kv_k[kv], gm_kv_page_bytes(l), error);
    return rc ? rc : check_span("V of layer", l->layer, &d->kv_v[kv], gm_kv_page_bytes(l), error);
}

/* What the op works on has a place; other weights and KV of the program may lie on another device. */
static int check_operands(const gm_exec_desc *d, const gm_op *op, gemma_error *error)
{
    const gm_program *p = d->program;
    int rc = GEMMA_OK;
    for (size_t i = 0; i < GM_COUNT(op->w) && !rc; i++) {
        int32_t w = op->w[i];
        if (w < 0 || in_file(d, (uint32_t)w)) continue;
        rc = check_span("weight", (uint32_t)w, &d->weights[w], gm_weight_bytes(&p->weights[w]), error);
    }
    if (!rc && op->kv >= 0) rc = check_kv(d, (uint32_t)op->kv, error);
    bool bridged = op->kind == GM_OP_SEND || op->kind == GM_OP_RECEIVE;
    uint32_t width = bridged ? p->slots[op->kind == GM_OP_SEND ? op->in[0] : op->out[0]].width : 0;
    if (!rc && op->offset * bridged + width > d->limits.bridge_width)
        rc = gm_fail(error, GEMMA_E_INTERNAL, "%u values at %u are beyond the bridge of %u", width, op->offset,
                     d->limits.bridge_width);
    return rc;
}

int gm_exec_create(gm_backend *be, const gm_exec_desc *d, gm_exec **out, gemma_error *error)
{
    *out = NULL;
    const gm_program *p = d->program;
    if (!p || !p->ops || !d->block || (p->n_slots && !d->slot_offset))
        return gm_fail(error, GEMMA_E_ARG, "no program, step block or slots");
    if (p->max_rows > d->limits.max_rows)
        return gm_fail(error, GEMMA_E_INTERNAL, "a program for %u rows with a step block for %u", p->max_rows,
                       d->limits.max_rows);
    int rc = check_scratch(be, d, error);
    for (uint32_t i = 0; !rc && i < p->n_ops; i++) rc = check_operands(d, &p->ops[i], error);
    for (uint32_t i = 0; !rc && i < p->n_kv; i++) /* pages are copied of all that lie here */
        if (d->kv_k[i].buffer || d->kv_v[i].buffer) rc = check_kv(d, i, error);
    return rc ? rc : be->fns->compile(be, d, out, error);
}

/* ---- kernels ---- */

int gm_backend_save_kernels(gm_backend *be, void *buffer, size_t n_cap, size_t *n_bytes, gemma_error *error)
{
    *n_bytes = 0;
    return be->fns->save_kernels ? be->fns->save_kernels(be, buffer, n_cap, n_bytes, error) : GEMMA_OK;
}

int gm_backend_load_kernels(gm_backend *be, const void *bytes, size_t n_bytes, gemma_error *error)
{
    if (!n_bytes) return GEMMA_OK;
    if (!be->fns->load_kernels) return gm_fail(error, GEMMA_E_UNSUPPORTED, "this device has no kernels to be loaded");
    return be->fns->load_kernels(be, bytes, n_bytes, error);
}
