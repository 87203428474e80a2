/* Programs: the builder, and what the check lets through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "op/op.h"
#include "support/fault.h"

static gm_mem mem;

/* A small model of everything: one layer, experts included. */
enum { TABLE, NORM, WQ, WK, WV, WO, Q_NORM, GATE, UP, DOWN, FACTOR, ROUTER, EXPERTS_IN, EXPERTS_OUT, N_WEIGHTS };
static gm_weight_shape shapes[N_WEIGHTS];
static const gm_kv_layer layers[1] = { { .kind = GM_KV_GLOBAL, .n_kv = 1, .head = 64 } };
static const int32_t suppressed[] = { 3, 9 };

static gm_weight_shape shape(gm_type type, uint32_t n_in, uint32_t n_out, uint32_t n_matrix)
{
    return (gm_weight_shape){ gm_format_of(type), n_in, n_out, n_matrix, NULL };
}

static void make_shapes(void)
{
    shapes[TABLE] = shape(GM_Q8_0, 128, 100, 1);
    shapes[NORM] = shape(GM_F32, 128, 1, 1);
    shapes[WQ] = shape(GM_Q4_0, 128, 256, 1);
    shapes[WK] = shapes[WV] = shape(GM_Q4_0, 128, 64, 1);
    shapes[WO] = shape(GM_Q4_0, 256, 128, 1);
    shapes[Q_NORM] = shape(GM_F32, 64, 1, 1);
    shapes[GATE] = shapes[UP] = shape(GM_Q4_0, 128, 96, 1);
    shapes[DOWN] = shape(GM_Q4_0, 96, 128, 1);
    shapes[FACTOR] = shape(GM_F32, 1, 1, 1);
    shapes[ROUTER] = shape(GM_F32, 128, 8, 1);
    shapes[EXPERTS_IN] = shape(GM_Q4_0, 128, 64, 8);
    shapes[EXPERTS_OUT] = shape(GM_Q4_0, 32, 128, 8);
}

enum {
    EMBED,
    ROPE,
    NORM_1,
    QKV,
    HEADS,
    ATTENTION,
    OUT,
    ADD,
    GATE_UP,
    DOWN_OP,
    ROUTE,
    MOE,
    CUT,
    LAST_NORM,
    HEAD,
    N_OPS
};
enum { X, ANGLES, A, Q, K, V, O, Y, F, CHOICE, M, X_WANTED, H, N_SLOTS };

static gm_op *op(gm_program *p, gm_op_kind kind, gm_rows rows, uint16_t in, uint16_t out, int32_t w)
{
    gm_op *o = gm_program_op(p, kind, rows, 0);
    o->in[0] = in;
    o->out[0] = out;
    o->w[0] = w;
    o->width = 128;
    o->eps = 1e-6f;
    o->scale = 1;
    return o;
}

static void add_attention(gm_program *p)
{
    gm_op *o = op(p, GM_OP_MATMUL, GM_ROWS_ALL, A, Q, WQ);
    o->n_weights = 3;
    o->out[1] = K, o->out[2] = V;
    o->w[1] = WK, o->w[2] = WV;
    o = op(p, GM_OP_HEADS, GM_ROWS_ALL, Q, Q, Q_NORM);
    o->in[1] = K, o->in[2] = V, o->in[3] = ANGLES;
    o->w[1] = Q_NORM;
    o->n_head = 4, o->n_kv = 1, o->head = 64, o->kv = 0;
    o = op(p, GM_OP_ATTENTION, GM_ROWS_ALL, Q, O, -1);
    o->n_head = 4, o->n_kv = 1, o->head = 64, o->kv = 0;
    op(p, GM_OP_MATMUL, GM_ROWS_ALL, O, Y, WO)->n_weights = 1;
    o = op(p, GM_OP_NORM_ADD, GM_ROWS_ALL, Y, X, NORM);
    o->in[1] = X, o->out[1] = A;
    o->w[1] = FACTOR, o->w[2] = NORM;
}

static gm_program *build(void)
{
    gm_program *p = NULL;
    if (gm_program_create(&mem, 16, true, &p)) return NULL;
    static const uint32_t widths[N_SLOTS] = { 128, 64, 128, 256, 64, 64, 256, 128, 96, 4, 128, 128, 128 };
    for (uint32_t i = 0; i < N_SLOTS; i++) gm_program_slot(p, widths[i], i >= X_WANTED ? GM_ROWS_WANTED : GM_ROWS_ALL);
    gm_kv_layer kv = layers[0];
    kv.format = gm_format_of(GM_F16);
    gm_program_kv(p, &kv, 1);
    p->weights = shapes;
    p->n_weights = N_WEIGHTS;
    p->suppressed = suppressed;
    p->n_suppressed = 2;
    op(p, GM_OP_EMBED, GM_ROWS_ALL, GM_NONE, X, TABLE);
    gm_op *o = op(p, GM_OP_ROPE, GM_ROWS_ALL, GM_NONE, ANGLES, -1);
    o->width = 64;
    o->base = 10000;
    op(p, GM_OP_NORM, GM_ROWS_ALL, X, A, NORM);
    add_attention(p);
    o = op(p, GM_OP_MATMUL, GM_ROWS_ALL, A, F, GATE);
    o->n_weights = 2, o->w[1] = UP, o->epilogue = GM_EPILOGUE_GEGLU;
    op(p, GM_OP_MATMUL, GM_ROWS_ALL, F, Y, DOWN)->n_weights = 1;
    o = op(p, GM_OP_ROUTER, GM_ROWS_ALL, X, CHOICE, ROUTER);
    o->n_expert = 8, o->n_used = 2;
    o = op(p, GM_OP_EXPERTS, GM_ROWS_ALL, A, M, EXPERTS_IN);
    o->in[1] = CHOICE, o->w[1] = EXPERTS_OUT;
    o->n_expert = 8, o->n_used = 2, o->n_ff = 32;
    op(p, GM_OP_ROWS, GM_ROWS_WANTED, M, X_WANTED, -1);
    op(p, GM_OP_NORM, GM_ROWS_WANTED, X_WANTED, H, NORM);
    op(p, GM_OP_HEAD, GM_ROWS_WANTED, H, GM_NONE, TABLE)->n_vocab = 100;
    return p;
}

static void whole_program(void **state)
{
    (void)state;
    gemma_error error = { .size = sizeof error };
    gm_program *p = build();
    assert_non_null(p);
    int rc = gm_program_check(p, &error);
    if (rc) fail_msg("%s", error.message);
    assert_int_equal(p->n_ops, N_OPS);
    assert_ptr_equal(p->kv, p->own_kv);
    gm_program_destroy(p);
}

/* One thing is wrong at a time; the sentence names the op. */
static void faults(void **state)
{
    (void)state;
#define BREAK(i, change)                                                                                               \
    {                                                                                                                  \
        gm_program *p = build();                                                                                       \
        gm_op *o = &p->ops[i];                                                                                         \
        change;                                                                                                        \
        gemma_error error = { .size = sizeof error };                                                                  \
        if (gm_program_check(p, &error) != GEMMA_E_INTERNAL) fail_msg("let through: %s", #change);                     \
        char start[16];                                                                                                \
        gm_text_format(start, sizeof start, "op %u (", (unsigned)(i));                                                 \
        assert_memory_equal(error.message, start, strlen(start));                                                      \
        (void)o;                                                                                                       \
        gm_program_destroy(p);                                                                                         \
    }
    BREAK(EMBED, o->kind = 0)
    BREAK(EMBED, o->kind = GM_OP_LIMIT)
    BREAK(EMBED, o->rows = 2)
    BREAK(EMBED, o->w[0] = -1)
    BREAK(EMBED, o->w[0] = N_WEIGHTS)
    BREAK(EMBED, o->w[0] = -2)
    BREAK(EMBED, o->w[0] = WO)
    BREAK(EMBED, o->out[0] = GM_NONE)
    BREAK(EMBED, o->out[0] = N_SLOTS)
    BREAK(EMBED, o->out[0] = H)
    BREAK(ROPE, o->width = 63)
    BREAK(ROPE, o->base = 0)
    BREAK(ROPE, o->width = 128)
    BREAK(NORM_1, o->in[0] = Y)
    BREAK(NORM_1, o->in[0] = ANGLES)
    BREAK(NORM_1, o->out[0] = X)
    BREAK(NORM_1, o->w[0] = Q_NORM)
    BREAK(NORM_1, o->eps = -1)
    BREAK(QKV, o->n_weights = 0)
    BREAK(QKV, o->n_weights = 4)
    BREAK(QKV, o->out[2] = K)
    BREAK(QKV, o->out[1] = Q)
    BREAK(QKV, o->epilogue = 3)
    BREAK(QKV, o->epilogue = GM_EPILOGUE_GEGLU)
    BREAK(HEADS, o->in[3] = GM_NONE)
    BREAK(HEADS, o->kv = 1)
    BREAK(HEADS, o->kv = -1)
    BREAK(HEADS, o->head = 63)
    BREAK(HEADS, o->head = 0)
    BREAK(HEADS, o->n_head = UINT32_MAX)
    BREAK(HEADS, o->v_from_k = 1)
    BREAK(HEADS, o->in[2] = GM_NONE)
    BREAK(HEADS, o->rows = GM_ROWS_WANTED)
    BREAK(ATTENTION, o->kv = -1)
    BREAK(ATTENTION, o->n_kv = 3)
    BREAK(ATTENTION, o->out[0] = Q)
    BREAK(OUT, o->w[0] = WQ)
    BREAK(ADD, o->out[0] = Y)
    BREAK(ADD, o->out[1] = X)
    BREAK(ADD, o->w[1] = NORM)
    BREAK(GATE_UP, o->w[1] = WQ)
    BREAK(GATE_UP, o->n_weights = 1)
    BREAK(GATE_UP, (o->epilogue = GM_EPILOGUE_GELU_MUL, o->n_weights = 1, o->in[1] = CHOICE))
    BREAK(ROUTE, o->n_used = 9)
    BREAK(ROUTE, o->n_expert = 7)
    BREAK(MOE, o->in[1] = A)
    BREAK(MOE, o->n_ff = 31)
    BREAK(MOE, o->w[2] = EXPERTS_IN)
    BREAK(CUT, o->rows = GM_ROWS_ALL)
    BREAK(CUT, p->cut = false)
    BREAK(HEAD, o->n_vocab = 101)
    BREAK(HEAD, o->n_vocab = 0)
    /* Attention over KV that nobody has written in this step. */
    BREAK(ATTENTION, p->ops[HEADS] = p->ops[NORM_1])
#undef BREAK
}

static void limits(void **state)
{
    (void)state;
    gm_program *p = build();
    p->max_rows = 0;
    assert_int_equal(gm_program_check(p, NULL), GEMMA_E_INTERNAL);
    p->max_rows = 65537;
    assert_int_equal(gm_program_check(p, NULL), GEMMA_E_INTERNAL);
    p->max_rows = 16;
    p->slots[H].width = 0;
    assert_int_equal(gm_program_check(p, NULL), GEMMA_E_INTERNAL);
    gm_program_destroy(p);
}

static void many_ops_and_slots(void **state)
{
    (void)state;
    gm_program *p = NULL;
    assert_int_equal(gm_program_create(&mem, 1, false, &p), GEMMA_OK);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(gm_program_slot(p, i + 1, GM_ROWS_ALL), i);
        gm_op *o = gm_program_op(p, GM_OP_NORM, GM_ROWS_ALL, (int32_t)i);
        assert_int_equal(o->w[3], -1);
        assert_int_equal(o->in[0], GM_NONE);
    }
    assert_int_equal(p->n_ops, 1000);
    assert_int_equal(p->ops[999].layer, 999);
    assert_int_equal(p->slots[999].width, 1000);
    gm_program_destroy(p);
}

static bool grow(gm_program *p)
{
    for (uint32_t i = 0; i < 200; i++) {
        gm_program_slot(p, 8, GM_ROWS_ALL);
        gm_program_op(p, GM_OP_NORM, GM_ROWS_ALL, 0)->width = 8;
    }
    return p->ops != NULL;
}

/* Whatever allocation fails: the builder goes on without harm, the check says NOMEM, nothing leaks. */
static void out_of_memory(void **state)
{
    (void)state;
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        fault_fail_nth(nth);
        gm_program *p = build();
        if (p) {
            bool whole = grow(p);
            int rc = gm_program_check(p, NULL);
            assert_true(whole || rc == GEMMA_E_NOMEM);
            assert_true(rc == GEMMA_E_NOMEM || rc == GEMMA_E_INTERNAL); /* `grow` adds ops without operands */
        }
        fired = fault_fired();
        fault_fail_nth(0);
        gm_program_destroy(p);
        assert_int_equal(fault_live_blocks(), 0);
        assert_true(nth < 100);
    }
    assert_int_equal(fault_mismatches(), 0);
}

static void names(void **state)
{
    (void)state;
    for (uint32_t k = 1; k < GM_OP_LIMIT; k++) assert_string_not_equal(gm_op_name(k), "unknown op");
    assert_string_equal(gm_op_name(GM_OP_MATMUL), "matmul");
    assert_string_equal(gm_op_name(0), "unknown op");
    assert_string_equal(gm_op_name(99), "unknown op");
}

static int setup(void **state)
{
    (void)state;
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    make_shapes();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_program),      cmocka_unit_test(faults),        cmocka_unit_test(limits),
        cmocka_unit_test(many_ops_and_slots), cmocka_unit_test(out_of_memory), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
