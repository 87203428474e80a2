/* Calls of the ops that multiply or look up matrices, cut where a matrix is longer than a binding. */
#include "backend/vulkan/exec.h"

#define TABLE_GROUP 64

static const gm_weight_shape *shape_of(const gm_vk_compiler *c, int32_t w) { return &c->d->program->weights[w]; }

/* Rows [first, first + n) of a table; the table itself is bound by the caller. */
static gm_vk_call *add_table(gm_vk_compiler *c, const gm_op *op, uint64_t first, uint64_t n)
{
    const gm_weight_shape *s = shape_of(c, op->w[0]);
    gm_vk_call *call = gm_vk_add(c, "embed", s->format, gm_vk_domain_of(op), TABLE_GROUP);
    gm_vk_bind_slot(c, call, 3, op->out[0], true);
    call->items = (uint32_t)gm_div_up(s->n_in, 1024);
    call->push[11] = gm_vk_wanted_at(c, op->rows);
    call->push[12] = c->at.token;
    call->push[13] = s->n_in;
    call->push[14] = s->n_out;
    call->push[15] = (uint32_t)first;
    call->push[16] = (uint32_t)n;
    call->push[17] = gm_vk_width(c, op->out[0]);
    call->push[18] = gm_vk_halves(s);
    call->push[19] = gm_f32_bits(op->scale);
    return call;
}

/* Rows that came with the step lie among its inputs, one for each of the step's rows. */
static void file_rows(gm_vk_compiler *c, const gm_op *op)
{
    const gm_exec *x = c->x;
    uint64_t stride = gm_file_row_stride(x->limits.file_row_bytes);
    gm_vk_call *call = add_table(c, op, 0, x->max_rows);
    gm_vk_bind(c, call, 1, x->inputs, x->inputs_offset + x->file_rows_offset, x->max_rows * stride, false);
    call->push[12] = GM_VK_NO_TOKEN;
    call->push[14] = x->max_rows;
    call->push[18] = (uint32_t)(stride / 2);
}

void gm_vk_emit_table_rows(gm_vk_compiler *c, const gm_op *op)
{
    uint64_t step = gm_vk_rows_bound(c, op->w[0]), n_rows = shape_of(c, op->w[0])->n_out;
    if (!c->d->weights[op->w[0]].buffer) {
        file_rows(c, op);
        return;
    }
    for (uint64_t first = 0; first < n_rows; first += step) {
        uint64_t n = gm_min_u64(step, n_rows - first);
        gm_vk_bind_weight(c, add_table(c, op, first, n), 1, op->w[0], first, n);
    }
}

gm_vk_call *gm_vk_add_product(gm_vk_compiler *c, int32_t w, uint64_t first, uint64_t n, gm_vk_domain domain,
                              uint32_t epilogue)
{
    const gm_weight_shape *s = shape_of(c, w);
    const gm_vk_caps *caps = &c->x->vk->caps;
    gm_vk_call *call = gm_vk_add(c, "matvec", s->format, domain, caps->matvec_group);
    call->tiles = gm_vk_kernel("matmat", s->format);
    call->grid = GM_VK_GRID_MATRIX;
    call->items = (uint32_t)n;
    call->spec[3] = epilogue;
    call->push[12] = s->n_in;
    call->push[13] = (uint32_t)n;
    call->push[16] = gm_vk_halves(s);
    call->work = n * s->n_in * (epilogue == GM_EPILOGUE_GEGLU ? 2 : 1);
    gm_vk_bind_weight(c, call, 1, w, first, n);
    return call;
}

static void product_rows(gm_vk_compiler *c, const gm_op *op, int32_t w, uint32_t epilogue, uint64_t y_slot,
                         uint64_t first, uint64_t n)
{
    uint32_t n_out = shape_of(c, w)->n_out;
    gm_vk_call *call = gm_vk_add_product(c, w, first, n, gm_vk_domain_of(op), epilogue);
    gm_vk_bind_slot(c, call, 2, op->in[0], false);
    if (y_slot == GM_NONE)
        gm_vk_bind_work(c, call, 3, c->x->work.gate, (uint64_t)n_out * c->x->max_rows * sizeof(float), true);
    else
        gm_vk_bind_slot(c, call, 3, (uint16_t)y_slot, true);
    call->push[3] += (uint32_t)first;
    call->push[14] = gm_vk_width(c, op->in[0]);
    call->push[15] = n_out;
    if (epilogue == GM_EPILOGUE_GEGLU) gm_vk_bind_weight(c, call, 4, op->w[1], first, n);
    if (epilogue != GM_EPILOGUE_GELU_MUL) return;
    gm_vk_bind_slot(c, call, 5, op->in[1], false);
    call->push[5] += op->offset + (uint32_t)first;
    call->push[17] = gm_vk_width(c, op->in[1]);
}

static void product(gm_vk_compiler *c, const gm_op *op, int32_t w, uint32_t epilogue, uint64_t y_slot)
{
    uint64_t step = gm_vk_rows_bound(c, w), n_out = shape_of(c, w)->n_out;
    for (uint64_t first = 0; first < n_out; first += step)
        product_rows(c, op, w, epilogue, y_slot, first, gm_min_u64(step, n_out - first));
}

/* Gate and up of different formats: gate to the workspace, up to the output, then both together. */
static void gated_apart(gm_vk_compiler *c, const gm_op *op)
{
    uint32_t width = gm_vk_width(c, op->out[0]);
    product(c, op, op->w[0], GM_EPILOGUE_NONE, GM_NONE);
    product(c, op, op->w[1], GM_EPILOGUE_NONE, op->out[0]);
    c->phase++;
    gm_vk_call *call = gm_vk_add(c, "geglu", NULL, gm_vk_domain_of(op), 256);
    gm_vk_bind_work(c, call, 1, c->x->work.gate, (uint64_t)width * c->x->max_rows * sizeof(float), false);
    gm_vk_bind_slot(c, call, 2, op->out[0], false);
    gm_vk_bind_slot(c, call, 3, op->out[0], true);
    call->items = (uint32_t)gm_div_up(width, 1024);
    for (uint32_t i = 11; i <= 14; i++) call->push[i] = width;
}

void gm_vk_emit_matmul(gm_vk_compiler *c, const gm_op *op)
{
    bool gated = op->epilogue == GM_EPILOGUE_GEGLU;
    if (gated && shape_of(c, op->w[0])->format != shape_of(c, op->w[1])->format) {
        gated_apart(c, op);
    } else if (op->epilogue != GM_EPILOGUE_NONE) {
        product(c, op, op->w[0], op->epilogue, op->out[0]);
    } else {
        for (uint32_t i = 0; i < op->n_weights; i++) product(c, op, op->w[i], GM_EPILOGUE_NONE, op->out[i]);
    }
}

/* ---- HEAD: groups of eight wanted rows ---- */

typedef struct results {
    uint64_t small, small_bytes; /* candidates … score: offset in staging, length */
    uint64_t logits, logits_bytes, hidden, hidden_bytes;
    uint32_t candidates, n_candidates, log_sum, score; /* words in the small ones */
} results;

static results results_of(const gm_vk_compiler *c)
{
    const gm_step_block *b = c->d->block;
    const gm_step_limits *l = &c->x->limits;
    const char *base = (const char *)b->counts, *small = (const char *)b->candidates;
    results r = { .small = c->x->staging_offset + (uint64_t)(small - base),
                  .small_bytes = (uint64_t)((const char *)b->logits - small),
                  .logits = c->x->staging_offset + (uint64_t)((const char *)b->logits - base),
                  .logits_bytes = (uint64_t)l->result_rows * l->n_vocab * sizeof(float),
                  .hidden = c->x->staging_offset + (uint64_t)((const char *)b->hidden - base),
                  .hidden_bytes = (uint64_t)l->result_rows * l->n_embd * sizeof(float) };
    r.n_candidates = (uint32_t)((const char *)b->n_candidates - small) / 4;
    r.log_sum = (uint32_t)((const char *)b->log_sum - small) / 4;
    r.score = (uint32_t)((const char *)b->score - small) / 4;
    return r;
}

/* Logits of a group's rows, from the slot or from the wanted ones of its rows. */
static void head_logits(gm_vk_compiler *c, const gm_op *op)
{
    const gm_vk_work *work = &c->x->work;
    const gm_weight_shape *s = shape_of(c, op->w[0]);
    uint64_t group = gm_min_u32(c->x->max_rows, GM_VK_FEW_ROWS), step = gm_vk_rows_bound(c, op->w[0]);
    bool gather = c->d->program->slots[op->in[0]].rows == GM_ROWS_ALL;
    if (gather) {
        gm_vk_call *call = gm_vk_add(c, "rows", NULL, GM_VK_GROUP, 256);
        gm_vk_bind_slot(c, call, 1, op->in[0], false);
        gm_vk_bind_work(c, call, 3, work->x, group * s->n_in * sizeof(float), true);
        call->items = (uint32_t)gm_div_up(s->n_in, 1024);
        call->first_word = 12;
        call->push[11] = c->at.wanted;
        call->push[13] = call->push[14] = call->push[15] = s->n_in;
        c->phase++;
    }
    for (uint64_t first = 0; first < op->n_vocab; first += step) {
        gm_vk_call *call = gm_vk_add_product(c, op->w[0], first, gm_min_u64(step, op->n_vocab - first), GM_VK_GROUP, 0);
        call->first_word = 11;
        if (gather) {
            gm_vk_bind_work(c, call, 2, work->x, group * s->n_in * sizeof(float), false);
        } else {
            gm_vk_bind_slot(c, call, 2, op->in[0], false);
            call->row_words = s->n_in;
        }
        gm_vk_bind_work(c, call, 3, work->z, group * op->n_vocab * sizeof(float), true);
        call->push[3] += (uint32_t)first;
        call->push[14] = s->n_in;
        call->push[15] = op->n_vocab;
    }
    c->phase++;
}

static void head_candidates(gm_vk_compiler *c, const gm_op *op, const results *r)
{
    const gm_vk_work *work = &c->x->work;
    const gm_program *p = c->d->program;
    uint64_t group = gm_min_u32(c->x->max_rows, GM_VK_FEW_ROWS);
    uint32_t n_chunks = (uint32_t)gm_div_up(op->n_vocab, GM_VK_CHUNK);
    uint64_t lists_bytes = group * n_chunks * GM_RESULTS_MAX * sizeof(gm_candidate);
    uint64_t sums_bytes = group * n_chunks * 2 * sizeof(float);
    gm_vk_call *call = gm_vk_add(c, "head_top", NULL, GM_VK_GROUP, 256);
    call->spec[1] = GM_VK_CHUNK;
    call->items = n_chunks;
    call->first_word = 11;
    gm_vk_bind_work(c, call, 1, work->z, group * op->n_vocab * sizeof(float), false);
    gm_vk_bind_work(c, call, 2, work->suppressed, p->n_suppressed * sizeof(uint32_t), false);
    gm_vk_bind_work(c, call, 3, work->lists, lists_bytes, true);
    gm_vk_bind_work(c, call, 4, work->sums, sums_bytes, true);
    if (r->logits_bytes) gm_vk_bind(c, call, 5, c->x->staging, r->logits, r->logits_bytes, true);
    gm_vk_bind(c, call, 6, c->x->staging, r->small, r->small_bytes, true);
    call->push[6] += r->score;
    call->push[12] = c->at.want;
    call->push[13] = c->at.target;
    call->push[14] = c->at.result_row;
    call->push[15] = call->push[16] = op->n_vocab;
    call->push[17] = n_chunks;
    call->push[18] = p->n_suppressed;
    call->push[19] = gm_f32_bits(op->softcap);
    c->phase++;
    call = gm_vk_add(c, "head_merge", NULL, GM_VK_GROUP, 256);
    call->grid = GM_VK_GRID_ROWS;
    call->first_word = 11;
    gm_vk_bind_work(c, call, 3, work->lists, lists_bytes, false);
    gm_vk_bind_work(c, call, 4, work->sums, sums_bytes, false);
    gm_vk_bind(c, call, 5, c->x->staging, r->small, r->small_bytes, true);
    call->push[12] = c->at.want;
    call->push[13] = n_chunks;
    call->push[14] = r->candidates;
    call->push[15] = r->n_candidates;
    call->push[16] = r->log_sum;
}

void gm_vk_emit_head(gm_vk_compiler *c, const gm_op *op)
{
    const gm_step_limits *l = &c->x->limits;
    results r = results_of(c);
    uint32_t width = gm_vk_width(c, op->in[0]);
    bool fits = op->n_vocab == l->n_vocab && width == l->n_embd;
    if (l->result_rows && !fits) {
        if (!c->rc)
            c->rc = gm_fail(c->error, GEMMA_E_INTERNAL, "results of %u ids and %u values in a step block for %u and %u",
                            op->n_vocab, width, l->n_vocab, l->n_embd);
        return;
    }
    if (l->result_rows) {
        bool all = c->d->program->slots[op->in[0]].rows == GM_ROWS_ALL;
        gm_vk_call *call = gm_vk_add(c, "hidden", NULL, GM_VK_WANTED, 256);
        gm_vk_bind_slot(c, call, 1, op->in[0], false);
        gm_vk_bind(c, call, 3, c->x->staging, r.hidden, r.hidden_bytes, true);
        call->items = (uint32_t)gm_div_up(width, 1024);
        call->for_hidden = true;
        call->push[11] = all ? c->at.wanted : GM_VK_NO_WANTED;
        call->push[12] = c->at.want;
        call->push[13] = c->at.result_row;
        call->push[14] = call->push[15] = width;
    }
    head_logits(c, op);
    head_candidates(c, op, &r);
}
