/* Calls of ROUTER and EXPERTS: which experts a row takes is found and read on the device. */
#include "backend/vulkan/exec.h"

static const gm_weight_shape *shape_of(const gm_vk_compiler *c, int32_t w) { return &c->d->program->weights[w]; }

static uint64_t line_bytes(const gm_vk_compiler *c, uint64_t n) { return c->x->max_rows * n * sizeof(float); }

/* The norm's rows to the workspace's x, logits to its gate. */
static void router_logits(gm_vk_compiler *c, const gm_op *op)
{
    const gm_vk_work *work = &c->x->work;
    uint32_t width = gm_vk_width(c, op->in[0]);
    gm_vk_call *call = gm_vk_add(c, "norm", NULL, gm_vk_domain_of(op), 256);
    call->grid = GM_VK_GRID_ROWS;
    call->spec[1] = op->w[1] >= 0;
    gm_vk_bind_slot(c, call, 1, op->in[0], false);
    gm_vk_bind_vector(c, call, 2, op->w[1]);
    gm_vk_bind_work(c, call, 3, work->x, line_bytes(c, width), true);
    call->push[11] = call->push[12] = call->push[13] = width;
    call->push[14] = gm_f32_bits(op->eps);
    call->push[15] = gm_f32_bits(op->scale);
    c->phase++;
    uint64_t step = gm_vk_rows_bound(c, op->w[0]);
    for (uint64_t first = 0; first < op->n_expert; first += step) {
        call = gm_vk_add_product(c, op->w[0], first, gm_min_u64(step, op->n_expert - first), gm_vk_domain_of(op), 0);
        gm_vk_bind_work(c, call, 2, work->x, line_bytes(c, width), false);
        gm_vk_bind_work(c, call, 3, work->gate, line_bytes(c, op->n_expert), true);
        call->push[3] += (uint32_t)first;
        call->push[14] = width;
        call->push[15] = op->n_expert;
    }
    c->phase++;
}

void gm_vk_emit_router(gm_vk_compiler *c, const gm_op *op)
{
    router_logits(c, op);
    gm_vk_call *call = gm_vk_add(c, "route", NULL, gm_vk_domain_of(op), 64);
    call->grid = GM_VK_GRID_ROWS;
    call->spec[1] = op->w[2] >= 0;
    gm_vk_bind_work(c, call, 1, c->x->work.gate, line_bytes(c, op->n_expert), false);
    gm_vk_bind_vector(c, call, 2, op->w[2]);
    gm_vk_bind_slot(c, call, 3, op->out[0], true);
    call->push[11] = op->n_expert;
    call->push[12] = op->n_used;
    call->push[13] = op->n_expert;
    call->push[14] = gm_vk_width(c, op->out[0]);
}

/* ---- EXPERTS ---- */

/* Experts that one binding can hold: an even number, so that spans start at whole words. */
static uint64_t experts_bound(const gm_vk_compiler *c, int32_t w)
{
    return gm_max_u64(2, gm_vk_rows_bound(c, w) / shape_of(c, w)->n_out / 2 * 2);
}

/* Experts [first, first + n): n_out matrix rows of each from row 0; X, Y are bound by the caller. */
static gm_vk_call *add_experts(gm_vk_compiler *c, const gm_op *op, int32_t w, uint64_t first, uint64_t n,
                               uint32_t n_out, uint32_t epilogue)
{
    const gm_weight_shape *s = shape_of(c, w);
    const gm_vk_caps *caps = &c->x->vk->caps;
    gm_vk_call *call = gm_vk_add(c, "expert", s->format, gm_vk_domain_of(op), caps->matvec_group);
    call->grid = GM_VK_GRID_EXPERTS;
    call->items = n_out;
    call->groups = op->n_used;
    call->first_word = 11;
    call->spec[1] = gm_vk_matvec_rows(caps, 1, epilogue);
    call->spec[3] = epilogue;
    gm_vk_bind_weight(c, call, 1, w, first * s->n_out, n * s->n_out);
    gm_vk_bind_slot(c, call, 5, op->in[1], false);
    call->push[12] = s->n_in;
    call->push[13] = n_out;
    call->push[16] = gm_vk_halves(s);
    call->push[17] = gm_vk_width(c, op->in[1]);
    call->push[18] = op->n_used;
    call->push[19] = (uint32_t)first;
    call->push[20] = (uint32_t)n;
    call->push[21] = s->n_out;
    call->work = (uint64_t)op->n_used * n_out * s->n_in * (epilogue == GM_EPILOGUE_GEGLU ? 2 : 1);
    return call;
}

/* One matrix of gate and up to `to`, or (GEGLU) both: up is w2 or the second half of a fused matrix's rows. */
static void hidden(gm_vk_compiler *c, const gm_op *op, int32_t w, uint64_t to, uint32_t epilogue)
{
    bool fused = op->w[2] < 0;
    int32_t second = fused ? w : op->w[2];
    uint64_t step = experts_bound(c, w);
    for (uint64_t first = 0; first < op->n_expert; first += step) {
        uint64_t n = gm_min_u64(step, op->n_expert - first), n_out = shape_of(c, second)->n_out;
        gm_vk_call *call = add_experts(c, op, w, first, n, op->n_ff, epilogue);
        gm_vk_bind_slot(c, call, 2, op->in[0], false);
        gm_vk_bind_work(c, call, 3, to, line_bytes(c, (uint64_t)op->n_used * op->n_ff), true);
        if (epilogue == GM_EPILOGUE_GEGLU) gm_vk_bind_weight(c, call, 4, second, first * n_out, n * n_out);
        call->push[14] = gm_vk_width(c, op->in[0]);
        call->push[15] = op->n_ff;
        call->push[22] = fused ? op->n_ff : 0;
    }
}

static void gate_together(gm_vk_compiler *c, const gm_op *op)
{
    const gm_vk_work *work = &c->x->work;
    uint32_t width = op->n_used * op->n_ff;
    c->phase++;
    gm_vk_call *call = gm_vk_add(c, "geglu", NULL, gm_vk_domain_of(op), 256);
    gm_vk_bind_work(c, call, 1, work->gate, line_bytes(c, width), false);
    gm_vk_bind_work(c, call, 2, work->up, line_bytes(c, width), false);
    gm_vk_bind_work(c, call, 3, work->gate, line_bytes(c, width), true);
    call->items = (uint32_t)gm_div_up(width, 1024);
    for (uint32_t i = 11; i <= 14; i++) call->push[i] = width;
}

void gm_vk_emit_experts(gm_vk_compiler *c, const gm_op *op)
{
    const gm_vk_work *work = &c->x->work;
    if (gm_vk_gated_apart(c->d->program, op)) {
        hidden(c, op, op->w[0], work->gate, GM_EPILOGUE_NONE);
        hidden(c, op, op->w[2], work->up, GM_EPILOGUE_NONE);
        gate_together(c, op);
    } else {
        hidden(c, op, op->w[0], work->gate, GM_EPILOGUE_GEGLU);
    }
    uint32_t n_embd = gm_vk_width(c, op->out[0]);
    uint64_t step = experts_bound(c, op->w[1]);
    for (uint64_t first = 0; first < op->n_expert; first += step) {
        c->phase++; /* each span adds to what the one before it left */
        gm_vk_call *call = add_experts(c, op, op->w[1], first, gm_min_u64(step, op->n_expert - first), n_embd, 0);
        call->groups = 1;
        call->spec[2] = 1;
        gm_vk_bind_work(c, call, 2, work->gate, line_bytes(c, (uint64_t)op->n_used * op->n_ff), false);
        gm_vk_bind_slot(c, call, 3, op->out[0], true);
        call->push[14] = op->n_ff;
        call->push[15] = n_embd;
    }
}
