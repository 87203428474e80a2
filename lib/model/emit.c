#include "model/family.h"

#include <math.h>

static const gm_layer *layer_of(const gm_emit *e, uint32_t layer) { return &e->m->layers[layer]; }
static const gm_layer_roles *roles_of(const gm_emit *e, uint32_t layer) { return &e->m->roles->layers[layer]; }
static uint32_t n_out(const gm_emit *e, int32_t weight) { return e->m->shapes[weight].n_out; }

uint16_t gm_emit_slot(gm_emit *e, uint32_t width) { return gm_program_slot(e->p, width, e->rows); }

gm_op *gm_emit_op(gm_emit *e, gm_op_kind kind, int32_t layer)
{
    gm_op *op = gm_program_op(e->p, kind, e->rows, layer);
    op->eps = e->m->eps;
    op->scale = 1.0f;
    return op;
}

uint16_t gm_emit_matmul(gm_emit *e, int32_t layer, int32_t weight, uint16_t in)
{
    uint16_t out = gm_emit_slot(e, n_out(e, weight));
    gm_op *op = gm_emit_op(e, GM_OP_MATMUL, layer);
    op->in[0] = in;
    op->out[0] = out;
    op->w[0] = weight;
    op->n_weights = 1;
    return out;
}

uint16_t gm_emit_norm(gm_emit *e, int32_t layer, int32_t weight, uint16_t in)
{
    uint16_t out = gm_emit_slot(e, e->m->n_embd);
    gm_op *op = gm_emit_op(e, GM_OP_NORM, layer);
    op->in[0] = in;
    op->out[0] = out;
    op->w[0] = weight;
    op->width = e->m->n_embd;
    return out;
}

void gm_emit_add(gm_emit *e, int32_t layer, uint16_t in, int32_t norm, int32_t scale, int32_t next)
{
    uint16_t normed = next >= 0 ? gm_emit_slot(e, e->m->n_embd) : GM_NONE;
    gm_op *op = gm_emit_op(e, GM_OP_NORM_ADD, layer);
    op->in[0] = in;
    op->in[1] = op->out[0] = e->x;
    op->out[1] = normed;
    op->w[0] = norm;
    op->w[1] = scale;
    op->w[2] = next;
    op->width = e->m->n_embd;
    e->normed = normed;
}

void gm_emit_begin(gm_emit *e)
{
    const gm_roles *r = e->m->roles;
    e->x = gm_emit_slot(e, e->m->n_embd);
    gm_op *op = gm_emit_op(e, GM_OP_EMBED, -1);
    op->out[0] = e->x;
    op->w[0] = r->token_embd;
    op->scale = sqrtf((float)e->m->n_embd);
    e->normed = gm_emit_norm(e, 0, r->layers[0].attn_norm, e->x);
}

/* cos and sin for this kind of layer and these rows: made once, when first asked for. */
static uint16_t rope(gm_emit *e, const gm_layer *l)
{
    const gm_model *m = e->m;
    uint16_t *slot = &e->rope[e->rows][l->sliding ? GM_KV_SLIDING : GM_KV_GLOBAL];
    if (*slot != GM_NONE) return *slot;
    *slot = gm_emit_slot(e, l->head);
    gm_op *op = gm_emit_op(e, GM_OP_ROPE, -1);
    op->out[0] = *slot;
    op->width = l->head;
    op->base = l->sliding ? m->rope_base_sliding : m->rope_base_global;
    op->scale = l->sliding ? 1.0f : m->rope_scale_global;
    op->w[0] = l->sliding ? -1 : m->roles->rope_freqs;
    return *slot;
}

typedef struct qkv {
    uint16_t q, k, v; /* GM_NONE: not here */
} qkv;

/* q and/or k and v of the normed stream, in one op. */
static qkv project(gm_emit *e, uint32_t layer, bool with_q, bool with_kv)
{
    const gm_layer_roles *r = roles_of(e, layer);
    int32_t weights[3] = { with_q ? r->q : -1, with_kv ? r->k : -1, with_kv ? r->v : -1 };
    uint16_t slots[3];
    for (int i = 0; i < 3; i++) slots[i] = weights[i] < 0 ? GM_NONE : gm_emit_slot(e, n_out(e, weights[i]));
    gm_op *op = gm_emit_op(e, GM_OP_MATMUL, (int32_t)layer);
    op->in[0] = e->normed;
    for (int i = 0; i < 3; i++) {
        if (weights[i] < 0) continue;
        op->w[op->n_weights] = weights[i];
        op->out[op->n_weights++] = slots[i];
    }
    return (qkv){ slots[0], slots[1], slots[2] };
}

/* Norms, rotation and the KV write; q in place. */
static void heads(gm_emit *e, uint32_t layer, qkv s)
{
    const gm_layer *l = layer_of(e, layer);
    const gm_layer_roles *r = roles_of(e, layer);
    uint16_t angles = rope(e, l);
    gm_op *op = gm_emit_op(e, GM_OP_HEADS, (int32_t)layer);
    op->in[0] = op->out[0] = s.q;
    op->in[1] = s.k;
    op->in[2] = s.v;
    op->in[3] = angles;
    op->w[0] = s.q == GM_NONE ? -1 : r->q_norm;
    op->w[1] = s.k == GM_NONE ? -1 : r->k_norm;
    op->kv = s.k == GM_NONE ? -1 : l->kv;
    op->n_head = l->n_head;
    op->n_kv = l->n_kv;
    op->head = l->head;
    op->scale = e->m->attention_scale;
    op->v_norm = e->m->family == GM_GEMMA4;
    op->v_from_k = s.k != GM_NONE && s.v == GM_NONE;
}

static uint16_t attention(gm_emit *e, uint32_t layer, uint16_t q)
{
    const gm_layer *l = layer_of(e, layer);
    uint16_t out = gm_emit_slot(e, l->n_head * l->head);
    gm_op *op = gm_emit_op(e, GM_OP_ATTENTION, (int32_t)layer);
    op->in[0] = q;
    op->out[0] = out;
    op->kv = l->kv;
    op->n_head = l->n_head;
    op->n_kv = l->n_kv;
    op->head = l->head;
    op->window = l->sliding ? e->m->window : 0;
    return out;
}

static uint16_t take_wanted(gm_emit *e, uint32_t layer, uint16_t all)
{
    if (all == GM_NONE) return GM_NONE;
    uint16_t wanted = gm_emit_slot(e, e->p->ops ? e->p->slots[all].width : 1);
    gm_op *op = gm_emit_op(e, GM_OP_ROWS, (int32_t)layer);
    op->in[0] = all;
    op->out[0] = wanted;
    return wanted;
}

/* From here on only the wanted rows go on: all rows' keys and values are written. */
static void turn_to_wanted(gm_emit *e, uint32_t layer)
{
    e->rows = GM_ROWS_WANTED;
    e->x = take_wanted(e, layer, e->x);
    e->normed = take_wanted(e, layer, e->normed);
    e->ple = take_wanted(e, layer, e->ple);
}

uint16_t gm_emit_attention(gm_emit *e, uint32_t layer)
{
    const gm_model *m = e->m;
    bool owns = layer_of(e, layer)->owns_kv;
    qkv s;
    if (e->cut && layer == m->kv[m->n_kv - 1].layer) {
        heads(e, layer, project(e, layer, false, true));
        turn_to_wanted(e, layer);
        s = project(e, layer, true, false);
    } else {
        s = project(e, layer, true, owns);
    }
    heads(e, layer, s);
    uint16_t mixed = attention(e, layer, s.q);
    return gm_emit_matmul(e, (int32_t)layer, roles_of(e, layer)->attn_output, mixed);
}

uint16_t gm_emit_ffn(gm_emit *e, uint32_t layer, uint16_t in)
{
    const gm_layer_roles *r = roles_of(e, layer);
    uint16_t hidden = gm_emit_slot(e, layer_of(e, layer)->n_ff);
    gm_op *op = gm_emit_op(e, GM_OP_MATMUL, (int32_t)layer);
    op->in[0] = in;
    op->out[0] = hidden;
    op->w[0] = r->gate;
    op->w[1] = r->up;
    op->n_weights = 2;
    op->epilogue = GM_EPILOGUE_GEGLU;
    return gm_emit_matmul(e, (int32_t)layer, r->down, hidden);
}

int32_t gm_emit_next_norm(const gm_emit *e, uint32_t layer)
{
    return layer + 1 < e->m->n_layers ? roles_of(e, layer + 1)->attn_norm : e->m->roles->output_norm;
}

void gm_emit_head(gm_emit *e)
{
    e->rows = GM_ROWS_WANTED;
    gm_op *op = gm_emit_op(e, GM_OP_HEAD, -1);
    op->in[0] = e->normed;
    op->w[0] = e->m->roles->output;
    op->n_vocab = e->m->n_vocab;
    op->softcap = e->m->softcap;
}
