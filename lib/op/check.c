/* Checking a program before anyone runs it. */
#include "op/op.h"

#define WIDTH_MAX  (1u << 24) /* floats of a row */
#define ROWS_MAX   (1u << 16)
#define HEAD_MAX   4096u
#define EXPERT_MAX 65536u

typedef struct check {
    const gm_program *p;
    const gm_op *op;
    uint32_t index;
    bool *slot_written; /* [n_slots] */
    bool *kv_written;   /* [n_kv] */
    gemma_error *error;
} check;

static int fault(const check *c, const char *what)
{
    return gm_fail(c->error, GEMMA_E_INTERNAL, "op %u (%s, layer %d): %s", c->index, gm_op_name(c->op->kind),
                   (int)c->op->layer, what);
}

static int fault_slot(const check *c, const char *which, unsigned i, const char *what)
{
    return gm_fail(c->error, GEMMA_E_INTERNAL, "op %u (%s, layer %d): %s%u %s", c->index, gm_op_name(c->op->kind),
                   (int)c->op->layer, which, i, what);
}

static int fault_width(const check *c, const char *which, unsigned i, uint64_t is, uint64_t want)
{
    return gm_fail(c->error, GEMMA_E_INTERNAL, "op %u (%s, layer %d): %s%u has width %llu, not %llu", c->index,
                   gm_op_name(c->op->kind), (int)c->op->layer, which, i, (unsigned long long)is,
                   (unsigned long long)want);
}

enum { OPTIONAL = 0, REQUIRED = 1 };

/* Input i is there, written, of domain `rows` and `width` wide. */
static int need_in(const check *c, unsigned i, int required, uint32_t rows, uint64_t width)
{
    uint16_t s = c->op->in[i];
    if (s == GM_NONE) return required ? fault_slot(c, "in", i, "is missing") : GEMMA_OK;
    if (s >= c->p->n_slots) return fault_slot(c, "in", i, "is no slot");
    if (!c->slot_written[s]) return fault_slot(c, "in", i, "is read before it is written");
    if (c->p->slots[s].rows != rows) return fault_slot(c, "in", i, "is of the other row domain");
    if (c->p->slots[s].width != width) return fault_width(c, "in", i, c->p->slots[s].width, width);
    return GEMMA_OK;
}

/* Output i likewise; it is no input but, where the kind allows it, in[may_be]. */
static int need_out(const check *c, unsigned i, int required, uint64_t width, int may_be)
{
    uint16_t s = c->op->out[i];
    if (s == GM_NONE) return required ? fault_slot(c, "out", i, "is missing") : GEMMA_OK;
    if (s >= c->p->n_slots) return fault_slot(c, "out", i, "is no slot");
    if (c->p->slots[s].rows != c->op->rows) return fault_slot(c, "out", i, "is of the other row domain");
    if (c->p->slots[s].width != width) return fault_width(c, "out", i, c->p->slots[s].width, width);
    for (unsigned k = 0; k < GM_COUNT(c->op->in); k++)
        if (c->op->in[k] == s && (int)k != may_be) return fault_slot(c, "out", i, "is an input too");
    for (unsigned k = 0; k < i; k++)
        if (c->op->out[k] == s) return fault_slot(c, "out", i, "is another output too");
    c->slot_written[s] = true;
    return GEMMA_OK;
}

static int need_weight(const check *c, unsigned i, int required, uint64_t n_in, uint64_t n_out, uint64_t n_matrix)
{
    int32_t w = c->op->w[i];
    if (w == -1) return required ? fault_slot(c, "weight ", i, "is missing") : GEMMA_OK;
    if (w < 0 || (uint32_t)w >= c->p->n_weights) return fault_slot(c, "weight ", i, "does not exist");
    const gm_weight_shape *s = &c->p->weights[w];
    if (!s->format) return fault_slot(c, "weight ", i, "has no format");
    if (s->n_in != n_in) return fault_width(c, "weight ", i, s->n_in, n_in);
    if (s->n_in % s->format->block) return fault_slot(c, "weight ", i, "has a row that is no whole number of blocks");
    if (s->n_out != n_out || s->n_matrix != n_matrix)
        return gm_fail(c->error, GEMMA_E_INTERNAL, "op %u (%s, layer %d): weight %u has %u × %u rows, not %llu × %llu",
                       c->index, gm_op_name(c->op->kind), (int)c->op->layer, i, s->n_out, s->n_matrix,
                       (unsigned long long)n_out, (unsigned long long)n_matrix);
    return GEMMA_OK;
}

/* A weight that must be there, NULL otherwise: its numbers say what the slots must be. */
static const gm_weight_shape *shape(const check *c, unsigned i)
{
    int32_t w = c->op->w[i];
    return w >= 0 && (uint32_t)w < c->p->n_weights ? &c->p->weights[w] : NULL;
}

static uint32_t slot_width(const check *c, uint16_t s) { return s < c->p->n_slots ? c->p->slots[s].width : 0; }

static int check_table_rows(const check *c) /* EMBED, PLE_ROWS */
{
    const gm_weight_shape *w = shape(c, 0);
    int rc = w ? GEMMA_OK : fault_slot(c, "weight ", 0, "is missing");
    if (!rc && w->factors) rc = fault(c, "a table of rows has no factors");
    if (!rc) rc = need_weight(c, 0, REQUIRED, slot_width(c, c->op->out[0]), w->n_out, 1);
    if (!rc) rc = need_out(c, 0, REQUIRED, w->n_in, -1);
    return rc;
}

static int check_rope(const check *c)
{
    uint32_t width = c->op->width;
    if (width == 0 || width % 2) return fault(c, "the width is odd or 0");
    if (!(c->op->base > 0)) return fault(c, "the base is not positive");
    int rc = need_weight(c, 0, OPTIONAL, width / 2, 1, 1);
    if (!rc) rc = need_out(c, 0, REQUIRED, width, -1);
    return rc;
}

static int check_norm(const check *c)
{
    int rc = need_in(c, 0, REQUIRED, c->op->rows, c->op->width);
    if (!rc) rc = need_weight(c, 0, OPTIONAL, c->op->width, 1, 1);
    if (!rc) rc = need_out(c, 0, REQUIRED, c->op->width, -1);
    return rc;
}

static int check_norm_add(const check *c)
{
    uint32_t width = c->op->width;
    int rc = need_in(c, 0, REQUIRED, c->op->rows, width);
    if (!rc) rc = need_in(c, 1, REQUIRED, c->op->rows, width);
    if (!rc) rc = need_weight(c, 0, OPTIONAL, width, 1, 1);
    if (!rc) rc = need_weight(c, 1, OPTIONAL, 1, 1, 1);
    if (!rc) rc = need_weight(c, 2, OPTIONAL, width, 1, 1);
    if (!rc) rc = need_out(c, 0, REQUIRED, width, 1);
    if (!rc) rc = need_out(c, 1, OPTIONAL, width, -1);
    return rc;
}

static int check_matmul(const check *c)
{
    const gm_op *op = c->op;
    if (op->n_weights < 1 || op->n_weights > 3) return fault(c, "it must have 1 to 3 weights");
    if (op->epilogue > GM_EPILOGUE_GELU_MUL) return fault(c, "unknown epilogue");
    if (op->epilogue == GM_EPILOGUE_GEGLU && op->n_weights != 2) return fault(c, "GEGLU takes 2 weights");
    if (op->epilogue == GM_EPILOGUE_GELU_MUL && op->n_weights != 1) return fault(c, "GELU_MUL takes 1 weight");
    uint32_t n_in = slot_width(c, op->in[0]);
    int rc = need_in(c, 0, REQUIRED, op->rows, n_in);
    for (unsigned i = 0; !rc && i < op->n_weights; i++) {
        const gm_weight_shape *w = shape(c, i);
        rc = w ? need_weight(c, i, REQUIRED, n_in, w->n_out, 1) : fault_slot(c, "weight ", i, "is missing");
    }
    if (rc) return rc;
    uint32_t n_out = shape(c, 0)->n_out;
    if (op->epilogue == GM_EPILOGUE_NONE) {
        for (unsigned i = 0; !rc && i < op->n_weights; i++) rc = need_out(c, i, REQUIRED, shape(c, i)->n_out, -1);
        return rc;
    }
    if (op->epilogue == GM_EPILOGUE_GEGLU) {
        rc = need_weight(c, 1, REQUIRED, n_in, n_out, 1);
    } else {
        uint32_t width = slot_width(c, op->in[1]);
        rc = need_in(c, 1, REQUIRED, op->rows, width);
        if (!rc && (op->offset > width || n_out > width - op->offset)) rc = fault(c, "in1 is too narrow");
    }
    if (!rc) rc = need_out(c, 0, REQUIRED, n_out, -1);
    return rc;
}

/* Head counts, and the KV that goes with them where there is one. */
static int check_kv(const check *c)
{
    const gm_op *op = c->op;
    if (op->head == 0 || op->head % 2 || op->head > HEAD_MAX)
        return fault(c, "the head's width is odd, 0 or too large");
    if (op->n_head > WIDTH_MAX / op->head || op->n_kv > WIDTH_MAX / op->head) return fault(c, "too many heads");
    if (op->kv == -1) return GEMMA_OK;
    if (op->kv < 0 || (uint32_t)op->kv >= c->p->n_kv) return fault(c, "its KV does not exist");
    const gm_kv_layer *kv = &c->p->kv[op->kv];
    if (kv->kind > GM_KV_SLIDING || !kv->format) return fault(c, "its KV has no kind or format");
    if (kv->head != op->head || kv->n_kv != op->n_kv) return fault(c, "its KV has other heads");
    if (kv->head % kv->format->block) return fault(c, "a KV head is no whole number of blocks");
    return GEMMA_OK;
}

static int check_heads(const check *c)
{
    const gm_op *op = c->op;
    uint64_t kv_width = (uint64_t)op->n_kv * op->head;
    bool writes = op->kv >= 0;
    int rc = check_kv(c);
    if (rc) return rc;
    if (writes && op->rows != GM_ROWS_ALL) return fault(c, "KV is written for all rows or none");
    if (!writes && (op->in[1] != GM_NONE || op->in[2] != GM_NONE)) return fault(c, "K or V without a KV to go to");
    if (op->v_from_k && op->in[2] != GM_NONE) return fault(c, "V comes from K and from in2");
    if (writes && op->in[2] == GM_NONE && !op->v_from_k) return fault(c, "V comes from nowhere");
    if (op->in[0] == GM_NONE && !writes) return fault(c, "nothing to do");
    rc = need_in(c, 0, OPTIONAL, op->rows, (uint64_t)op->n_head * op->head);
    if (!rc) rc = need_in(c, 1, writes, op->rows, kv_width);
    if (!rc) rc = need_in(c, 2, OPTIONAL, op->rows, kv_width);
    if (!rc) rc = need_in(c, 3, REQUIRED, op->rows, op->head);
    if (!rc) rc = need_weight(c, 0, OPTIONAL, op->head, 1, 1);
    if (!rc) rc = need_weight(c, 1, OPTIONAL, op->head, 1, 1);
    if (!rc && op->in[0] != GM_NONE) rc = need_out(c, 0, REQUIRED, (uint64_t)op->n_head * op->head, 0);
    if (!rc && writes) c->kv_written[op->kv] = true;
    return rc;
}

static int check_attention(const check *c)
{
    const gm_op *op = c->op;
    uint64_t width = (uint64_t)op->n_head * op->head;
    int rc = check_kv(c);
    if (rc) return rc;
    if (op->kv < 0) return fault(c, "it has no KV");
    if (!c->kv_written[op->kv]) return fault(c, "its KV is read before the step's rows are written");
    if (op->n_kv == 0 || op->n_head == 0 || op->n_head % op->n_kv) return fault(c, "n_head is no multiple of n_kv");
    rc = need_in(c, 0, REQUIRED, op->rows, width);
    if (!rc) rc = need_out(c, 0, REQUIRED, width, -1);
    return rc;
}

static int check_rows(const check *c)
{
    uint32_t width = slot_width(c, c->op->in[0]);
    if (!c->p->cut) return fault(c, "the program is not a cut one");
    if (c->op->rows != GM_ROWS_WANTED) return fault(c, "its output must be of the wanted rows");
    int rc = need_in(c, 0, REQUIRED, GM_ROWS_ALL, width);
    if (!rc) rc = need_out(c, 0, REQUIRED, width, -1);
    return rc;
}

static int check_head(const check *c)
{
    const gm_weight_shape *w = shape(c, 0);
    uint16_t s = c->op->in[0];
    if (!w) return fault_slot(c, "weight ", 0, "is missing");
    if (c->op->n_vocab == 0 || c->op->n_vocab > w->n_out) return fault(c, "the vocabulary is empty or larger than w0");
    int rc = need_weight(c, 0, REQUIRED, w->n_in, w->n_out, 1);
    if (!rc) rc = need_in(c, 0, REQUIRED, s < c->p->n_slots ? c->p->slots[s].rows : 0, w->n_in);
    for (uint32_t i = 0; !rc && i < c->p->n_suppressed; i++)
        if (c->p->suppressed[i] < 0 || (i && c->p->suppressed[i] <= c->p->suppressed[i - 1]))
            rc = fault(c, "suppressed ids are not ascending");
    return rc;
}

static int check_ple_mix(const check *c)
{
    uint32_t width = c->op->width;
    if (c->op->slice == 0 || width % c->op->slice) return fault(c, "the width is no multiple of the slice");
    int rc = need_in(c, 0, REQUIRED, c->op->rows, width);
    if (!rc) rc = need_in(c, 1, REQUIRED, c->op->rows, width);
    if (!rc) rc = need_weight(c, 0, OPTIONAL, c->op->slice, 1, 1);
    if (!rc) rc = need_out(c, 0, REQUIRED, width, -1);
    return rc;
}

static int check_router(const check *c)
{
    const gm_op *op = c->op;
    uint32_t width = slot_width(c, op->in[0]);
    if (op->n_expert == 0 || op->n_expert > EXPERT_MAX || op->n_used == 0 || op->n_used > op->n_expert)
        return fault(c, "impossible numbers of experts");
    int rc = need_in(c, 0, REQUIRED, op->rows, width);
    if (!rc) rc = need_weight(c, 0, REQUIRED, width, op->n_expert, 1);
    if (!rc) rc = need_weight(c, 1, OPTIONAL, width, 1, 1);
    if (!rc) rc = need_weight(c, 2, OPTIONAL, op->n_expert, 1, 1);
    if (!rc) rc = need_out(c, 0, REQUIRED, 2 * (uint64_t)op->n_used, -1);
    return rc;
}

static int check_experts(const check *c)
{
    const gm_op *op = c->op;
    uint32_t width = slot_width(c, op->in[0]);
    bool apart = op->w[2] != -1;
    if (op->n_expert == 0 || op->n_expert > EXPERT_MAX || op->n_used == 0 || op->n_used > op->n_expert)
        return fault(c, "impossible numbers of experts");
    int rc = need_in(c, 0, REQUIRED, op->rows, width);
    if (!rc) rc = need_in(c, 1, REQUIRED, op->rows, 2 * (uint64_t)op->n_used);
    if (!rc) rc = need_weight(c, 0, REQUIRED, width, (uint64_t)op->n_ff * (apart ? 1 : 2), op->n_expert);
    if (!rc) rc = need_weight(c, 1, REQUIRED, op->n_ff, width, op->n_expert);
    if (!rc) rc = need_weight(c, 2, OPTIONAL, width, op->n_ff, op->n_expert);
    if (!rc) rc = need_out(c, 0, REQUIRED, width, -1);
    return rc;
}

static int check_send(const check *c) { return need_in(c, 0, REQUIRED, c->op->rows, slot_width(c, c->op->in[0])); }

static int check_receive(const check *c) { return need_out(c, 0, REQUIRED, slot_width(c, c->op->out[0]), -1); }

static int (*const checks[GM_OP_LIMIT])(const check *) = {
    [GM_OP_EMBED] = check_table_rows,    [GM_OP_ROPE] = check_rope,       [GM_OP_NORM] = check_norm,
    [GM_OP_MATMUL] = check_matmul,       [GM_OP_HEADS] = check_heads,     [GM_OP_ATTENTION] = check_attention,
    [GM_OP_NORM_ADD] = check_norm_add,   [GM_OP_ROWS] = check_rows,       [GM_OP_HEAD] = check_head,
    [GM_OP_PLE_ROWS] = check_table_rows, [GM_OP_PLE_MIX] = check_ple_mix, [GM_OP_ROUTER] = check_router,
    [GM_OP_EXPERTS] = check_experts,     [GM_OP_SEND] = check_send,       [GM_OP_RECEIVE] = check_receive,
};

static int check_op(const check *c)
{
    if (c->op->kind >= GM_OP_LIMIT || !checks[c->op->kind]) return fault(c, "unknown kind");
    if (c->op->rows > GM_ROWS_WANTED) return fault(c, "unknown row domain");
    if (c->op->eps < 0) return fault(c, "eps is negative");
    return checks[c->op->kind](c);
}

int gm_program_check(const gm_program *p, gemma_error *error)
{
    if (!p->ops) return gm_fail(error, GEMMA_E_NOMEM, "out of host memory while a program was built");
    if (p->max_rows == 0 || p->max_rows > ROWS_MAX)
        return gm_fail(error, GEMMA_E_INTERNAL, "a program for %u rows (1 to %u can be)", p->max_rows, ROWS_MAX);
    for (uint32_t i = 0; i < p->n_slots; i++)
        if (p->slots[i].width == 0 || p->slots[i].width > WIDTH_MAX || p->slots[i].rows > GM_ROWS_WANTED)
            return gm_fail(error, GEMMA_E_INTERNAL, "slot %u has width %u (1 to %u can be) or an unknown row domain", i,
                           p->slots[i].width, WIDTH_MAX);
    bool *written = gm_new(p->mem, (uint64_t)p->n_slots + p->n_kv + 1, GEMMA_TAG_OBJECT);
    if (!written) return gm_fail_nomem(error, "the check of a program", (uint64_t)p->n_slots + p->n_kv + 1);
    check c = { .p = p, .slot_written = written, .kv_written = written + p->n_slots, .error = error };
    int rc = GEMMA_OK;
    for (uint32_t i = 0; !rc && i < p->n_ops; i++) {
        c.op = &p->ops[i];
        c.index = i;
        rc = check_op(&c);
    }
    gm_delete(p->mem, written);
    return rc;
}
