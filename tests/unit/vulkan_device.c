/* A Vulkan device as the layers above meet it: listing, memory, the probe, a program; out of host memory at every
 * allocation. Skipped where the loader finds no usable device. */
#include "backend/vulkan/vulkan.h"
#include "support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define WIDTH 64u
#define ROWS  4u

typedef struct list {
    gm_backend *devices[GM_VULKAN_DEVICES_MAX];
    uint32_t n;
    gm_backend *usable; /* the first, or NULL */
} list;

static bool something_skipped;

static void skip_all(const gemma_error *why)
{
    print_message("SKIPPED: no Vulkan device: %s\n", why->message);
    something_skipped = true;
    skip();
}

static int open_list(gm_mem *mem, list *l, gemma_error *error)
{
    *l = (list){ 0 };
    int rc = gm_vulkan_enumerate(mem, NULL, l->devices, GM_VULKAN_DEVICES_MAX, &l->n, error);
    for (uint32_t i = 0; i < l->n && !l->usable; i++) {
        gemma_device_info info = { .size = sizeof info };
        l->devices[i]->fns->describe(l->devices[i], &info);
        if (info.usable) l->usable = l->devices[i];
    }
    return rc;
}

static void close_list(list *l)
{
    for (uint32_t i = 0; i < l->n; i++) gm_backend_destroy(l->devices[i]);
}

/* out = RMS(in), on a device: everything a load and a step do. */
static int run_norm(gm_backend *be, float *out, gemma_error *error)
{
    gm_op op = { .kind = GM_OP_NORM, .width = WIDTH, .kv = -1, .layer = -1, .eps = 1e-6f };
    for (size_t i = 0; i < GM_COUNT(op.in); i++) op.in[i] = GM_NONE, op.w[i] = -1;
    for (size_t i = 0; i < GM_COUNT(op.out); i++) op.out[i] = GM_NONE;
    op.in[0] = 0;
    op.out[0] = 1;
    gm_slot slots[2] = { { WIDTH, GM_ROWS_ALL }, { WIDTH, GM_ROWS_ALL } };
    gm_program program = { .ops = &op, .n_ops = 1, .slots = slots, .n_slots = 2, .max_rows = ROWS };
    gm_step_limits limits = { .max_rows = ROWS };
    uint64_t slot_bytes = ROWS * WIDTH * sizeof(float), offsets[2] = { 0, slot_bytes };
    uint64_t work = be->fns->workspace_bytes(be, &program, &limits);
    gm_buffer *scratch = NULL, *staging = NULL;
    gm_exec *exec = NULL;
    gm_step_block block = { 0 };
    float in[ROWS * WIDTH];
    for (uint32_t i = 0; i < ROWS * WIDTH; i++) in[i] = i % 2 ? 3 : -3;
    int rc = gm_buffer_create(be, 0, 2 * slot_bytes + work, GEMMA_TAG_SCRATCH, &scratch, error);
    if (!rc)
        rc = gm_buffer_create(be, 0, gm_step_block_layout(&limits, NULL, NULL), GEMMA_TAG_STAGING, &staging, error);
    if (rc) goto done;
    gm_step_block_layout(&limits, staging->host, &block);
    gm_exec_desc desc = { .program = &program,
                          .scratch = scratch,
                          .slot_offset = offsets,
                          .workspace_offset = 2 * slot_bytes,
                          .block = &block,
                          .limits = limits };
    rc = gm_exec_create(be, &desc, &exec, error);
    if (!rc) rc = gm_buffer_write(scratch, 0, in, sizeof in, error);
    if (rc) goto done;
    block.n_rows = ROWS;
    for (uint32_t r = 0; r < ROWS; r++) block.token[r] = 0, block.position[r] = block.last_seen[r] = r;
    rc = be->fns->submit(exec, NULL, error);
    if (!rc) rc = be->fns->wait(exec, UINT64_MAX, error);
    if (!rc) rc = gm_buffer_read(scratch, slot_bytes, out, slot_bytes, error);
done:
    gm_exec_destroy(be, exec);
    gm_buffer_destroy(staging);
    gm_buffer_destroy(scratch);
    return rc;
}

static void describes_itself(void **state)
{
    (void)state;
    gm_mem mem;
    list l;
    gemma_error error = { .size = sizeof error };
    gm_mem_init(&mem, NULL);
    assert_int_equal(open_list(&mem, &l, &error), GEMMA_OK);
    if (l.n == 0) assert_true(error.message[0]);
    for (uint32_t i = 0; i < l.n; i++) {
        gemma_device_info info = { .size = sizeof info };
        char id[32];
        gm_text_format(id, sizeof id, "vulkan:%u", i);
        l.devices[i]->fns->describe(l.devices[i], &info);
        print_message("%s: %s%s%s\n", info.id, info.name, info.usable ? "" : ": ", info.reason);
        assert_string_equal(info.id, id);
        assert_true(info.name[0] && info.n_heaps);
        assert_int_equal(info.usable, info.reason[0] == 0);
        for (uint32_t h = 0; h < info.n_heaps; h++) {
            gm_heap_state heap = { 0 };
            l.devices[i]->fns->heap(l.devices[i], h, &heap);
            assert_true(heap.total_bytes && heap.name[0]);
            assert_true(heap.budget_bytes <= heap.total_bytes);
        }
    }
    close_list(&l);
    assert_int_equal(gm_mem_live(&mem, GEMMA_TAG_OBJECT), 0);
}

static void buffers_and_programs(void **state)
{
    (void)state;
    gm_mem mem;
    list l;
    gemma_error error = { .size = sizeof error };
    gm_mem_init(&mem, NULL);
    assert_int_equal(open_list(&mem, &l, &error), GEMMA_OK);
    gm_backend *be = l.usable;
    if (!be) {
        close_list(&l);
        skip_all(&error);
    }
    float out[ROWS * WIDTH];
    if (run_norm(be, out, &error)) fail_msg("%s", error.message);
    for (uint32_t i = 0; i < ROWS * WIDTH; i++) assert_float_equal(out[i], (i % 2 ? 1 : -1), 1e-5);
    gm_heap_state heap = { 0 };
    be->fns->heap(be, 0, &heap);
    gm_buffer *b = NULL;
    /* More than there is: an error, and the device goes on. */
    int rc = gm_buffer_create(be, 0, heap.total_bytes * 4, GEMMA_TAG_WEIGHTS, &b, &error);
    assert_int_equal(rc, GEMMA_E_DEVMEM);
    assert_null(b);
    if (run_norm(be, out, &error)) fail_msg("%s", error.message);
    gemma_probe probe = { .size = sizeof probe };
    if (gm_backend_probe(be, NULL, &probe, &error)) fail_msg("%s", error.message);
    const double figures[] = { probe.read_gb_s, probe.q4_gb_s,        probe.q6_gb_s,          probe.q8_gb_s,
                               probe.f16_gb_s,  probe.op_us,          probe.product_us,       probe.row_ns,
                               probe.submit_us, probe.compute_gflops, probe.attention_gflops, probe.attention_us,
                               probe.q5_gb_s };
    for (size_t i = 0; i < GM_COUNT(figures); i++) assert_true(figures[i] > 0 && figures[i] < 1e9);
    gemma_cancel cancel = { 0 };
    atomic_store(&cancel.raised, 1);
    assert_int_equal(gm_backend_probe(be, &cancel, &probe, &error), GEMMA_E_CANCELLED);
    close_list(&l);
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++) assert_int_equal(gm_mem_live(&mem, tag), 0);
}

static void host_handles(void **state)
{
    (void)state;
    gm_mem mem;
    list l = { 0 };
    gemma_error error = { .size = sizeof error };
    gm_mem_init(&mem, NULL);
    gm_vulkan_host host = { .size = sizeof host, .device = &mem };
    assert_int_equal(gm_vulkan_enumerate(&mem, &host, l.devices, GM_VULKAN_DEVICES_MAX, &l.n, &error), GEMMA_E_ARG);
    assert_int_equal(l.n, 0);
    assert_int_equal(gm_mem_live(&mem, GEMMA_TAG_OBJECT), 0);
}

static void out_of_memory(void **state)
{
    (void)state;
    gm_mem mem;
    list l;
    gemma_error error = { .size = sizeof error };
    gemma_host host;
    int rc = GEMMA_E_NOMEM;
    for (uint64_t nth = 1; rc == GEMMA_E_NOMEM; nth++) {
        fault_host_init(&host);
        gm_mem_init(&mem, &host);
        fault_fail_nth(nth);
        float out[ROWS * WIDTH];
        rc = open_list(&mem, &l, &error);
        bool none = !rc && !l.usable;
        if (!rc && l.usable) rc = run_norm(l.usable, out, &error);
        close_list(&l);
        assert_int_equal(fault_live_blocks(), 0);
        assert_int_equal(fault_mismatches(), 0);
        assert_true(rc == GEMMA_E_NOMEM || !fault_fired() || none);
        if (none && !fault_fired()) skip_all(&error);
        if (none) rc = GEMMA_E_NOMEM;
    }
    assert_int_equal(rc, GEMMA_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(describes_itself), cmocka_unit_test(buffers_and_programs),
                                        cmocka_unit_test(host_handles), cmocka_unit_test(out_of_memory) };
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    return n_failed ? n_failed : something_skipped ? 77 : 0;
}
