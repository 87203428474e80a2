/* Calls of the ops that work on rows. */
#include "backend/vulkan/exec.h"

#define NORM_GROUP      256
#define ROPE_GROUP      64
#define HEADS_GROUP     64
#define ATTENTION_GROUP 128

/* A vector of floats where an op has one. */
void gm_vk_bind_vector(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, int32_t w)
{
    if (w >= 0) gm_vk_bind_weight(c, call, binding, w, 0, 1);
}

static void norm(gm_vk_compiler *c, const gm_op *op)
{
    gm_vk_call *call = gm_vk_add(c, "norm", NULL, gm_vk_domain_of(op), NORM_GROUP);
    call->grid = GM_VK_GRID_ROWS;
    call->spec[1] = op->w[0] >= 0;
    gm_vk_bind_slot(c, call, 1, op->in[0], false);
    gm_vk_bind_vector(c, call, 2, op->w[0]);
    gm_vk_bind_slot(c, call, 3, op->out[0], true);
    call->push[11] = op->width;
    call->push[12] = gm_vk_width(c, op->in[0]);
    call->push[13] = gm_vk_width(c, op->out[0]);
    call->push[14] = gm_f32_bits(op->eps);
    call->push[15] = gm_f32_bits(1);
}

static void norm_add(gm_vk_compiler *c, const gm_op *op)
{
    bool next = op->out[1] != GM_NONE;
    gm_vk_call *call = gm_vk_add(c, "norm_add", NULL, gm_vk_domain_of(op), NORM_GROUP);
    call->grid = GM_VK_GRID_ROWS;
    call->spec[1] =
        (op->w[0] >= 0 ? 1u : 0) | (op->w[1] >= 0 ? 2u : 0) | (next ? 4u : 0) | (next && op->w[2] >= 0 ? 8u : 0);
    gm_vk_bind_slot(c, call, 1, op->in[0], false);
    gm_vk_bind_slot(c, call, 2, op->in[1], false);
    gm_vk_bind_vector(c, call, 3, op->w[0]);
    gm_vk_bind_vector(c, call, 4, op->w[1]);
    gm_vk_bind_vector(c, call, 5, op->w[2]);
    gm_vk_bind_slot(c, call, 6, op->out[0], true);
    if (next) gm_vk_bind_slot(c, call, 7, op->out[1], true);
    call->push[11] = op->width;
    call->push[12] = gm_vk_width(c, op->in[0]);
    call->push[13] = gm_vk_width(c, op->in[1]);
    call->push[14] = gm_vk_width(c, op->out[0]);
    call->push[15] = next ? gm_vk_width(c, op->out[1]) : 0;
    call->push[16] = gm_f32_bits(op->eps);
}

static void ple_mix(gm_vk_compiler *c, const gm_op *op)
{
    gm_vk_call *call = gm_vk_add(c, "ple_mix", NULL, gm_vk_domain_of(op), 64);
    call->items = op->width / op->slice;
    call->spec[1] = op->w[0] >= 0;
    gm_vk_bind_slot(c, call, 1, op->in[0], false);
    gm_vk_bind_slot(c, call, 2, op->in[1], false);
    gm_vk_bind_slot(c, call, 3, op->out[0], true);
    gm_vk_bind_vector(c, call, 4, op->w[0]);
    call->push[11] = op->slice;
    call->push[12] = gm_vk_width(c, op->in[0]);
    call->push[13] = gm_vk_width(c, op->in[1]);
    call->push[14] = gm_vk_width(c, op->out[0]);
    call->push[15] = gm_f32_bits(op->eps);
    call->push[16] = gm_f32_bits(op->scale);
    call->push[17] = gm_f32_bits(op->scale2);
}

static void rope(gm_vk_compiler *c, const gm_op *op)
{
    uint64_t n_bytes = op->width / 2 * 2 * sizeof(uint32_t);
    gm_vk_call *call = gm_vk_add(c, "rope", NULL, gm_vk_domain_of(op), ROPE_GROUP);
    call->items = (uint32_t)gm_div_up(op->width / 2, ROPE_GROUP);
    gm_vk_bind_work(c, call, 1, c->x->work.turns + c->turns_used, n_bytes, false);
    gm_vk_bind_slot(c, call, 3, op->out[0], true);
    c->turns_used += gm_align_up(n_bytes, 64);
    call->push[11] = gm_vk_wanted_at(c, op->rows);
    call->push[12] = c->at.angle;
    call->push[13] = op->width;
    call->push[14] = gm_vk_width(c, op->out[0]);
}

/* ---- KV ---- */

/* Where a layer's range ends: where the next one of its buffer begins. */
static uint64_t range_of(const gm_vk_compiler *c, const gm_vk_buffer *b, uint64_t offset)
{
    uint64_t last = b->base.n_bytes;
    for (uint32_t i = 0; i < c->x->n_kv; i++) {
        const gm_vk_kv *kv = &c->x->kv[i];
        if (kv->k == b && kv->k_offset > offset) last = gm_min_u64(last, kv->k_offset);
        if (kv->v == b && kv->v_offset > offset) last = gm_min_u64(last, kv->v_offset);
    }
    return last - offset;
}

static void bind_pages(gm_vk_compiler *c, gm_vk_call *call, uint32_t k, uint32_t v, const gm_op *op, bool write)
{
    const gm_vk_kv *kv = &c->x->kv[op->kv];
    gm_vk_bind(c, call, k, kv->k, kv->k_offset, range_of(c, kv->k, kv->k_offset), write);
    gm_vk_bind(c, call, v, kv->v, kv->v_offset, range_of(c, kv->v, kv->v_offset), write);
}

static uint32_t kv_type(const gm_vk_compiler *c, const gm_op *op)
{
    return op->kv >= 0 ? (uint32_t)c->d->program->kv[op->kv].format->type : (uint32_t)GM_F16;
}

/* table_at, tables_at, table_stride, table_first, ring, from word `at`. */
static void push_tables(const gm_vk_compiler *c, gm_vk_call *call, uint32_t at, const gm_op *op)
{
    const gm_step_limits *l = &c->x->limits;
    bool sliding = op->kv >= 0 && c->d->program->kv[op->kv].kind == GM_KV_SLIDING;
    call->push[at] = c->at.table;
    call->push[at + 1] = c->at.tables;
    call->push[at + 2] = gm_table_stride(l);
    call->push[at + 3] = sliding ? l->global_pages : 0;
    call->push[at + 4] = sliding ? l->sliding_ring : 0;
}

static void heads(gm_vk_compiler *c, const gm_op *op)
{
    bool q = op->in[0] != GM_NONE, kv = op->kv >= 0 && op->in[1] != GM_NONE;
    gm_vk_call *call = gm_vk_add(c, "heads", NULL, gm_vk_domain_of(op), HEADS_GROUP);
    uint16_t v = op->v_from_k ? op->in[1] : op->in[2];
    call->items = (q ? op->n_head : 0) + (kv ? 2 * op->n_kv : 0);
    call->spec[1] = op->head;
    call->spec[2] = kv_type(c, op);
    call->spec[3] =
        (q ? 1u : 0) | (kv ? 2u : 0) | (op->w[0] >= 0 ? 4u : 0) | (op->w[1] >= 0 ? 8u : 0) | (op->v_norm ? 16u : 0);
    if (q) gm_vk_bind_slot(c, call, 1, op->in[0], false);
    if (kv) gm_vk_bind_slot(c, call, 2, op->in[1], false);
    if (kv) gm_vk_bind_slot(c, call, 3, v, false);
    gm_vk_bind_slot(c, call, 4, op->in[3], false);
    gm_vk_bind_vector(c, call, 5, op->w[0]);
    gm_vk_bind_vector(c, call, 6, op->w[1]);
    if (q) gm_vk_bind_slot(c, call, 7, op->out[0], true);
    if (kv) bind_pages(c, call, 8, 9, op, true);
    call->push[11] = c->at.position;
    push_tables(c, call, 12, op);
    call->push[17] = q ? op->n_head : 0;
    call->push[18] = op->n_kv;
    call->push[19] = q ? gm_vk_width(c, op->in[0]) : 0;
    call->push[20] = kv ? gm_vk_width(c, op->in[1]) : 0;
    call->push[21] = kv ? gm_vk_width(c, v) : 0;
    call->push[22] = gm_vk_width(c, op->in[3]);
    call->push[23] = q ? gm_vk_width(c, op->out[0]) : 0;
    call->push[24] = gm_f32_bits(op->eps);
    call->push[25] = gm_f32_bits(op->scale);
}

static void attention(gm_vk_compiler *c, const gm_op *op)
{
    const gm_vk_work *work = &c->x->work;
    uint64_t partial_bytes = work->gate - work->partial;
    uint32_t per_group = gm_vk_attention_heads(op), groups = op->n_head / per_group;
    gm_vk_call *call = gm_vk_add(c, "attention", NULL, gm_vk_domain_of(op), ATTENTION_GROUP);
    call->grid = GM_VK_GRID_SPLITS;
    call->items = call->groups = groups;
    call->splits_word = 24;
    call->spec[1] = op->head;
    call->spec[2] = kv_type(c, op);
    call->spec[3] = per_group;
    call->spec[4] = 1;
    call->many_rows = gm_vk_attention_rows(&c->x->vk->caps, op);
    gm_vk_bind_slot(c, call, 1, op->in[0], false);
    bind_pages(c, call, 2, 3, op, false);
    gm_vk_bind_slot(c, call, 4, op->out[0], true);
    gm_vk_bind_work(c, call, 5, work->partial, partial_bytes, true);
    call->push[11] = gm_vk_wanted_at(c, op->rows);
    call->push[12] = c->at.position;
    call->push[13] = c->at.last_seen;
    push_tables(c, call, 14, op);
    call->push[19] = op->n_head;
    call->push[20] = op->n_kv;
    call->push[21] = gm_vk_width(c, op->in[0]);
    call->push[22] = gm_vk_width(c, op->out[0]);
    call->push[23] = op->window;
    c->phase++;
    call = gm_vk_add(c, "attention_merge", NULL, gm_vk_domain_of(op), ROPE_GROUP);
    call->grid = GM_VK_GRID_MERGE;
    call->items = op->n_head;
    call->splits_word = 12;
    call->groups = groups;
    call->spec[1] = op->head;
    gm_vk_bind_slot(c, call, 4, op->out[0], true);
    gm_vk_bind_work(c, call, 5, work->partial, partial_bytes, false);
    call->push[11] = op->n_head;
    call->push[13] = gm_vk_width(c, op->out[0]);
}

static void rows(gm_vk_compiler *c, const gm_op *op)
{
    uint32_t width = gm_vk_width(c, op->out[0]);
    gm_vk_call *call = gm_vk_add(c, "rows", NULL, GM_VK_WANTED, 256);
    gm_vk_bind_slot(c, call, 1, op->in[0], false);
    gm_vk_bind_slot(c, call, 3, op->out[0], true);
    call->items = (uint32_t)gm_div_up(width, 1024);
    call->push[11] = c->at.wanted;
    call->push[13] = width;
    call->push[14] = gm_vk_width(c, op->in[0]);
    call->push[15] = width;
}

/* Between a slot and the step block's bridge, which lies in staging. */
static void cross(gm_vk_compiler *c, const gm_op *op)
{
    bool sends = op->kind == GM_OP_SEND;
    uint16_t slot = sends ? op->in[0] : op->out[0];
    uint32_t width = gm_vk_width(c, slot);
    uint64_t n_bytes = (uint64_t)width * c->x->max_rows * sizeof(float);
    const char *at = (const char *)gm_bridge_at(c->x->block, &c->x->limits, op->offset);
    uint64_t offset = c->x->staging_offset + (uint64_t)(at - (const char *)c->x->block->counts);
    gm_vk_call *call = gm_vk_add(c, "rows", NULL, gm_vk_domain_of(op), 256);
    gm_vk_bind_slot(c, call, sends ? 1 : 3, slot, !sends);
    gm_vk_bind(c, call, sends ? 3 : 1, c->x->staging, offset, n_bytes, sends);
    call->items = (uint32_t)gm_div_up(width, 1024);
    call->push[11] = GM_VK_NO_WANTED;
    call->push[13] = call->push[14] = call->push[15] = width;
}

void gm_vk_emit(gm_vk_compiler *c, const gm_op *op)
{
    switch (op->kind) {
    case GM_OP_EMBED:
    case GM_OP_PLE_ROWS: gm_vk_emit_table_rows(c, op); break;
    case GM_OP_ROPE: rope(c, op); break;
    case GM_OP_NORM: norm(c, op); break;
    case GM_OP_MATMUL: gm_vk_emit_matmul(c, op); break;
    case GM_OP_HEADS: heads(c, op); break;
    case GM_OP_ATTENTION: attention(c, op); break;
    case GM_OP_NORM_ADD: norm_add(c, op); break;
    case GM_OP_ROWS: rows(c, op); break;
    case GM_OP_SEND:
    case GM_OP_RECEIVE: cross(c, op); break;
    case GM_OP_HEAD: gm_vk_emit_head(c, op); break;
    case GM_OP_PLE_MIX: ple_mix(c, op); break;
    case GM_OP_ROUTER: gm_vk_emit_router(c, op); break;
    case GM_OP_EXPERTS: gm_vk_emit_experts(c, op); break;
    default:
        if (!c->rc) c->rc = gm_fail(c->error, GEMMA_E_UNSUPPORTED, "%s is not supported", gm_op_name(op->kind));
        break;
    }
}
