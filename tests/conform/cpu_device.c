/* The CPU as a device: what it says of itself, what it refuses, cancelled steps, page copies, no memory left. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static gm_mem mem;
static gm_pool *pool;
static gemma_error error = { .size = sizeof(gemma_error) };

/* A program of one matrix, applied n_layers times, over KV of one layer that only page copies touch. */
#define WIDTH 1024u
#define ROWS  64u
#define PAGES 3u
typedef struct net {
    gm_backend *be;
    gm_program *p;
    gm_weight_shape shape;
    gm_buffer *weights, *kv[2], *scratch, *staging;
    gm_span weight_span, kv_spans[2];
    uint64_t slot_offset[2];
    gm_step_block block;
    gm_step_limits limits;
    gm_exec *exec;
} net;

static int net_create(net *n, uint32_t n_layers)
{
    *n = (net){
        .shape = { gm_format_of(GM_Q8_0), WIDTH, WIDTH, 1, NULL },
        .limits = { .max_rows = ROWS, .n_tables = 1, .global_pages = PAGES, .n_vocab = 1, .n_embd = 1, .max_copies = 2 }
    };
    gm_kv_layer kv = { .kind = GM_KV_GLOBAL, .n_kv = 1, .head = 32, .format = gm_format_of(GM_F16) };
    int rc = gm_cpu_create(&mem, pool, gm_cpu_features(), false, 0, &n->be, &error);
    if (!rc) rc = gm_program_create(&mem, ROWS, false, &n->p);
    if (rc) return rc;
    gm_program_slot(n->p, WIDTH, GM_ROWS_ALL);
    gm_program_slot(n->p, WIDTH, GM_ROWS_ALL);
    gm_program_kv(n->p, &kv, 1);
    n->p->weights = &n->shape;
    n->p->n_weights = 1;
    for (uint32_t i = 0; i < n_layers; i++) {
        gm_op *op = gm_program_op(n->p, GM_OP_MATMUL, GM_ROWS_ALL, (int32_t)i);
        op->in[0] = (uint16_t)(i % 2);
        op->out[0] = (uint16_t)(1 - i % 2);
        op->w[0] = 0;
        op->n_weights = 1;
    }
    if (!n->p->ops) return GEMMA_E_NOMEM;
    uint64_t slot = (uint64_t)WIDTH * ROWS * sizeof(float), work = n->be->fns->workspace_bytes(n->be, n->p, &n->limits);
    n->slot_offset[1] = slot;
    uint64_t staging = gm_step_block_layout(&n->limits, NULL, NULL);
    rc = gm_buffer_create(n->be, 0, gm_row_bytes(n->shape.format, (uint64_t)WIDTH * WIDTH), GEMMA_TAG_WEIGHTS,
                          &n->weights, &error);
    for (int i = 0; !rc && i < 2; i++)
        rc = gm_buffer_create(n->be, 0, PAGES * gm_kv_page_bytes(&kv), GEMMA_TAG_KV, &n->kv[i], &error);
    if (!rc) rc = gm_buffer_create(n->be, 0, 2 * slot + work, GEMMA_TAG_SCRATCH, &n->scratch, &error);
    if (!rc) rc = gm_buffer_create(n->be, 0, staging, GEMMA_TAG_STAGING, &n->staging, &error);
    if (rc) return rc;
    memset(n->weights->host, 1, n->weights->n_bytes);
    memset(n->scratch->host, 0, n->scratch->n_bytes);
    memset(n->staging->host, 0, staging);
    for (int i = 0; i < 2; i++)
        for (uint64_t b = 0; b < n->kv[i]->n_bytes; b++)
            ((uint8_t *)n->kv[i]->host)[b] = (uint8_t)(b / gm_kv_page_bytes(&kv) + 10 * i);
    gm_step_block_layout(&n->limits, n->staging->host, &n->block);
    n->block.n_rows = ROWS;
    n->weight_span.buffer = n->weights;
    n->kv_spans[0].buffer = n->kv[0];
    n->kv_spans[1].buffer = n->kv[1];
    gm_exec_desc desc = { .program = n->p,
                          .weights = &n->weight_span,
                          .kv_k = &n->kv_spans[0],
                          .kv_v = &n->kv_spans[1],
                          .scratch = n->scratch,
                          .slot_offset = n->slot_offset,
                          .workspace_offset = 2 * slot,
                          .block = &n->block,
                          .limits = n->limits };
    return gm_exec_create(n->be, &desc, &n->exec, &error);
}

static void net_destroy(net *n)
{
    if (n->be) gm_exec_destroy(n->be, n->exec);
    gm_buffer *buffers[] = { n->weights, n->kv[0], n->kv[1], n->scratch, n->staging };
    for (size_t i = 0; i < GM_COUNT(buffers); i++) gm_buffer_destroy(buffers[i]);
    gm_program_destroy(n->p);
    gm_backend_destroy(n->be);
}

static void describes_itself(void **state)
{
    (void)state;
    for (int reference = 0; reference < 2; reference++) {
        gm_backend *be = NULL;
        assert_int_equal(gm_cpu_create(&mem, pool, 0, reference, 0, &be, &error), GEMMA_OK);
        gemma_device_info info = { .size = sizeof info };
        be->fns->describe(be, &info);
        assert_string_equal(info.id, reference ? "reference" : "cpu");
        assert_true(gm_text_contains(info.name, reference ? "reference" : "plain"));
        assert_int_equal(info.kind, GEMMA_DEVICE_CPU);
        assert_int_equal(info.n_heaps, 1);
        assert_int_equal(info.usable, 1);
        assert_int_equal(be->default_kv, reference ? GEMMA_TYPE_F32 : GEMMA_TYPE_F16);
        gm_heap_state before, after;
        gm_buffer *b = NULL;
        be->fns->heap(be, 0, &before);
        assert_int_equal(gm_buffer_create(be, 0, 1 << 20, GEMMA_TAG_KV, &b, &error), GEMMA_OK);
        assert_int_equal((uintptr_t)b->host % 64, 0);
        be->fns->heap(be, 0, &after);
        assert_int_equal(after.used_bytes, before.used_bytes + (1 << 20));
        assert_true(after.budget_bytes >= after.used_bytes && after.total_bytes > 0);
        gm_buffer_destroy(b);
        gm_backend_destroy(be);
    }
}

static void buffers_check_ranges(void **state)
{
    (void)state;
    gm_backend *be = NULL;
    gm_buffer *b = NULL;
    char bytes[16] = "0123456789abcde", got[16] = "";
    assert_int_equal(gm_cpu_create(&mem, pool, 0, true, 0, &be, &error), GEMMA_OK);
    assert_int_equal(gm_buffer_create(be, 1, 64, GEMMA_TAG_KV, &b, &error), GEMMA_E_ARG);
    assert_int_equal(gm_buffer_create(be, 0, 64, GEMMA_TAG_COUNT, &b, &error), GEMMA_E_ARG);
    assert_int_equal(gm_buffer_create(be, 0, 0, GEMMA_TAG_KV, &b, &error), GEMMA_OK);
    assert_null(b);
    assert_int_equal(gm_buffer_create(be, 0, 64, GEMMA_TAG_KV, &b, &error), GEMMA_OK);
    assert_int_equal(gm_buffer_write(b, 48, bytes, 16, &error), GEMMA_OK);
    assert_int_equal(gm_buffer_read(b, 48, got, 16, &error), GEMMA_OK);
    assert_memory_equal(bytes, got, 16);
    assert_int_equal(gm_buffer_write(b, 49, bytes, 16, &error), GEMMA_E_ARG);
    assert_int_equal(gm_buffer_read(b, UINT64_MAX, got, 2, &error), GEMMA_E_ARG);
    gm_buffer_destroy(b);
    gm_backend_destroy(be);
}

static void refusals_name_the_weight(void **state)
{
    (void)state;
    net n;
    assert_int_equal(net_create(&n, 3), GEMMA_OK);
    const char *names[] = { "blk.2.some.weight" };
    assert_int_equal(gm_backend_accepts(n.be, n.p, names, &error), GEMMA_OK);
    n.shape.format = gm_format_of(GM_Q8_1);
    assert_int_equal(gm_backend_accepts(n.be, n.p, names, &error), GEMMA_E_UNSUPPORTED);
    assert_string_equal(error.message, "matmul of layer 0 with blk.2.some.weight (Q8_1): a weight of this type is "
                                       "not supported");
    net_destroy(&n);
}

static void compile_checks_places(void **state)
{
    (void)state;
    net n;
    assert_int_equal(net_create(&n, 1), GEMMA_OK);
    gm_exec_desc good = { .program = n.p,
                          .weights = &n.weight_span,
                          .kv_k = &n.kv_spans[0],
                          .kv_v = &n.kv_spans[1],
                          .scratch = n.scratch,
                          .slot_offset = n.slot_offset,
                          .workspace_offset = 2ull * WIDTH * ROWS * sizeof(float),
                          .block = &n.block,
                          .limits = n.limits };
    gm_exec *x = NULL;
    gm_exec_desc bad = good;
    bad.workspace_offset += 64; /* the workspace is exact */
    assert_int_equal(gm_exec_create(n.be, &bad, &x, &error), GEMMA_E_INTERNAL);
    gm_span beyond = { .buffer = n.weights, .offset = 1 };
    bad = good;
    bad.weights = &beyond;
    assert_int_equal(gm_exec_create(n.be, &bad, &x, &error), GEMMA_E_INTERNAL);
    gm_span nowhere = { 0 };
    bad.weights = &nowhere;
    assert_int_equal(gm_exec_create(n.be, &bad, &x, &error), GEMMA_E_INTERNAL);
    bad = good;
    bad.kv_v = &nowhere;
    assert_int_equal(gm_exec_create(n.be, &bad, &x, &error), GEMMA_E_INTERNAL);
    assert_null(x);
    net_destroy(&n);
}

static void cancel(void **state)
{
    (void)state;
    net n;
    gemma_cancel raised = { .mem = &mem };
    atomic_init(&raised.raised, 1);
    assert_int_equal(net_create(&n, 8), GEMMA_OK);
    n.block.n_copies = 2;
    n.block.copies[0] = (gm_page_copy){ GM_KV_GLOBAL, 0, 2 };
    n.block.copies[1] = (gm_page_copy){ GM_KV_SLIDING, 1, 0 }; /* no layer of this kind */
    ((float *)n.scratch->host)[WIDTH * ROWS] = 7;              /* in the first op's output */
    assert_int_equal(n.be->fns->submit(n.exec, &raised, &error), GEMMA_OK);
    assert_int_equal(n.be->fns->wait(n.exec, 0, &error), GEMMA_E_CANCELLED);
    assert_true(((float *)n.scratch->host)[WIDTH * ROWS] == 7);
    const uint8_t *k = n.kv[0]->host, *v = n.kv[1]->host;
    uint64_t page = gm_kv_page_bytes(&n.p->kv[0]);
    assert_int_equal(k[0], 0);
    assert_int_equal(k[2 * page], 0);
    assert_int_equal(v[3 * page - 1], 10);
    assert_int_equal(k[page], 1);
    atomic_store(&raised.raised, 0);
    assert_int_equal(n.be->fns->submit(n.exec, &raised, &error), GEMMA_OK);
    assert_int_equal(n.be->fns->wait(n.exec, 0, &error), GEMMA_OK);
    assert_true(((float *)n.scratch->host)[WIDTH * ROWS] == 0);
    net_destroy(&n);
}

/* Raised from another thread while the step runs: it ends, cancelled, long before it would be through. */
static void raise_later(void *arg)
{
    gm_sleep_ns(20000000);
    atomic_store(&((gemma_cancel *)arg)->raised, 1);
}

static void cancel_under_way(void **state)
{
    (void)state;
    net n;
    gemma_cancel later = { .mem = &mem };
    gm_thread *thread = NULL;
    assert_int_equal(net_create(&n, 40000), GEMMA_OK); /* minutes of work */
    assert_int_equal(gm_thread_start(&mem, raise_later, &later, &thread), GEMMA_OK);
    assert_int_equal(n.be->fns->submit(n.exec, &later, &error), GEMMA_OK);
    assert_int_equal(n.be->fns->wait(n.exec, UINT64_MAX, &error), GEMMA_E_CANCELLED);
    gm_thread_join(&mem, thread);
    net_destroy(&n);
}

static void bad_blocks(void **state)
{
    (void)state;
    net n;
    assert_int_equal(net_create(&n, 1), GEMMA_OK);
    n.block.n_rows = ROWS + 1;
    assert_int_equal(n.be->fns->submit(n.exec, NULL, &error), GEMMA_E_INTERNAL);
    n.block.n_rows = ROWS;
    n.block.token[3] = -1;
    assert_int_equal(n.be->fns->submit(n.exec, NULL, &error), GEMMA_E_INTERNAL);
    n.block.token[3] = 0;
    n.block.position[3] = PAGES * GM_PAGE;
    assert_int_equal(n.be->fns->submit(n.exec, NULL, &error), GEMMA_E_INTERNAL);
    n.block.position[3] = 0;
    n.block.n_wanted = 2; /* both row 0 */
    assert_int_equal(n.be->fns->submit(n.exec, NULL, &error), GEMMA_E_INTERNAL);
    n.block.n_wanted = 0;
    assert_int_equal(n.be->fns->submit(n.exec, NULL, &error), GEMMA_OK);
    net_destroy(&n);
}

static void steps_allocate_nothing(void **state)
{
    (void)state;
    net n;
    assert_int_equal(net_create(&n, 4), GEMMA_OK);
    uint64_t before = fault_allocations();
    assert_int_equal(n.be->fns->submit(n.exec, NULL, &error), GEMMA_OK);
    assert_int_equal(n.be->fns->wait(n.exec, UINT64_MAX, &error), GEMMA_OK);
    assert_int_equal(fault_allocations(), before);
    net_destroy(&n);
}

static void out_of_memory(void **state)
{
    (void)state;
    uint64_t live = fault_live_blocks();
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        net n;
        fault_fail_nth(nth);
        int rc = net_create(&n, 2);
        fired = fault_fired();
        fault_fail_nth(0);
        assert_int_equal(rc, fired ? GEMMA_E_NOMEM : GEMMA_OK);
        net_destroy(&n);
        assert_int_equal(fault_live_blocks(), live);
        assert_true(nth < 100);
    }
    assert_int_equal(fault_mismatches(), 0);
}

static void probe(void **state)
{
    (void)state;
    gm_backend *be = NULL;
    gemma_probe p = { .size = sizeof p };
    uint64_t live = fault_live_blocks();
    gemma_cancel raised = { .mem = &mem };
    atomic_init(&raised.raised, 1);
    assert_int_equal(gm_cpu_create(&mem, pool, 0, false, 0, &be, &error), GEMMA_OK);
    assert_int_equal(gm_backend_probe(be, &raised, &p, &error), GEMMA_E_CANCELLED);
    assert_int_equal(gm_backend_probe(be, NULL, &p, &error), GEMMA_OK);
    assert_true(fault_peak_bytes() <= (uint64_t)256 << 20);
    const double figures[] = { p.read_gb_s, p.q4_gb_s,        p.q6_gb_s,          p.q8_gb_s,
                               p.f16_gb_s,  p.op_us,          p.product_us,       p.row_ns,
                               p.submit_us, p.compute_gflops, p.attention_gflops, p.attention_us,
                               p.q5_gb_s };
    for (size_t i = 0; i < GM_COUNT(figures); i++) assert_true(figures[i] > 0 && figures[i] < 1e9);
    bool fired = true;
    for (uint64_t nth = 1; fired; nth += 1 + nth / 8) { /* not each: every one measures for a while */
        fault_fail_nth(nth);
        int rc = gm_backend_probe(be, NULL, &p, &error);
        fired = fault_fired();
        fault_fail_nth(0);
        assert_int_equal(rc, fired ? GEMMA_E_NOMEM : GEMMA_OK);
        assert_int_equal(fault_live_blocks(), live + 1); /* the device */
    }
    gm_backend_destroy(be);
    assert_int_equal(fault_live_blocks(), live);
}

static int setup(void **state)
{
    (void)state;
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    return gm_pool_create(&mem, 2, &pool, &error);
}

static int teardown(void **state)
{
    (void)state;
    gm_pool_destroy(pool);
    return fault_live_blocks() || fault_mismatches() ? 1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describes_itself),
        cmocka_unit_test(buffers_check_ranges),
        cmocka_unit_test(refusals_name_the_weight),
        cmocka_unit_test(compile_checks_places),
        cmocka_unit_test(cancel),
        cmocka_unit_test(cancel_under_way),
        cmocka_unit_test(bad_blocks),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(probe),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
