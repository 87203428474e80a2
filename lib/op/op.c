/* Building a program and naming its ops. */
#include "op/op.h"

static const char *const op_names[GM_OP_LIMIT] = {
    [GM_OP_EMBED] = "embed",       [GM_OP_ROPE] = "rope",       [GM_OP_NORM] = "norm",
    [GM_OP_MATMUL] = "matmul",     [GM_OP_HEADS] = "heads",     [GM_OP_ATTENTION] = "attention",
    [GM_OP_NORM_ADD] = "norm_add", [GM_OP_ROWS] = "rows",       [GM_OP_HEAD] = "head",
    [GM_OP_PLE_ROWS] = "ple_rows", [GM_OP_PLE_MIX] = "ple_mix", [GM_OP_ROUTER] = "router",
    [GM_OP_EXPERTS] = "experts",   [GM_OP_SEND] = "send",       [GM_OP_RECEIVE] = "receive",
};

const char *gm_op_name(uint32_t kind) { return kind < GM_OP_LIMIT && op_names[kind] ? op_names[kind] : "unknown op"; }

int gm_program_create(gm_mem *mem, uint32_t max_rows, bool cut, gm_program **out)
{
    *out = NULL;
    gm_program *p = gm_new(mem, sizeof *p, GEMMA_TAG_OBJECT);
    if (!p) return GEMMA_E_NOMEM;
    p->mem = mem;
    p->max_rows = max_rows;
    p->cut = cut;
    p->cap_ops = 64;
    p->cap_slots = 32;
    p->ops = gm_new_array(mem, p->cap_ops, sizeof *p->ops, GEMMA_TAG_OBJECT);
    p->slots = gm_new_array(mem, p->cap_slots, sizeof *p->slots, GEMMA_TAG_OBJECT);
    if (!p->ops || !p->slots) {
        gm_program_destroy(p);
        return GEMMA_E_NOMEM;
    }
    *out = p;
    return GEMMA_OK;
}

void gm_program_destroy(gm_program *p)
{
    if (!p) return;
    gm_delete(p->mem, p->ops);
    gm_delete(p->mem, p->slots);
    gm_delete(p->mem, p->own_kv);
    gm_delete(p->mem, p);
}

static void give_up(gm_program *p)
{
    gm_delete(p->mem, p->ops);
    p->ops = NULL;
    p->n_ops = p->cap_ops = 0;
}

uint16_t gm_program_slot(gm_program *p, uint32_t width, gm_rows rows)
{
    if (!p->ops) return 0;
    if (p->n_slots == p->cap_slots) {
        gm_slot *slots = gm_grow(p->mem, p->slots, 2 * (uint64_t)p->cap_slots * sizeof *slots, GEMMA_TAG_OBJECT);
        if (!slots || p->n_slots >= GM_NONE) {
            if (slots) p->slots = slots;
            give_up(p);
            return 0;
        }
        p->slots = slots;
        p->cap_slots *= 2;
    }
    p->slots[p->n_slots] = (gm_slot){ .width = width, .rows = rows };
    return (uint16_t)p->n_slots++;
}

gm_op *gm_program_op(gm_program *p, gm_op_kind kind, gm_rows rows, int32_t layer)
{
    if (p->ops && p->n_ops == p->cap_ops) {
        gm_op *ops = gm_grow(p->mem, p->ops, 2 * (uint64_t)p->cap_ops * sizeof *ops, GEMMA_TAG_OBJECT);
        if (ops) {
            p->ops = ops;
            p->cap_ops *= 2;
        } else {
            give_up(p);
        }
    }
    gm_op *op = p->ops ? &p->ops[p->n_ops++] : &p->spare;
    *op = (gm_op){ .kind = (uint16_t)kind, .rows = (uint16_t)rows, .layer = layer, .kv = -1 };
    for (size_t i = 0; i < GM_COUNT(op->in); i++) op->in[i] = GM_NONE;
    for (size_t i = 0; i < GM_COUNT(op->out); i++) op->out[i] = GM_NONE;
    for (size_t i = 0; i < GM_COUNT(op->w); i++) op->w[i] = -1;
    return op;
}

void gm_program_kv(gm_program *p, const gm_kv_layer *kv, uint32_t n_kv)
{
    gm_delete(p->mem, p->own_kv);
    p->own_kv = n_kv ? gm_new_array(p->mem, n_kv, sizeof *kv, GEMMA_TAG_OBJECT) : NULL;
    if (n_kv && !p->own_kv) {
        give_up(p);
        n_kv = 0;
    }
    if (n_kv) memcpy(p->own_kv, kv, n_kv * sizeof *kv);
    p->kv = p->own_kv;
    p->n_kv = n_kv;
}
