/* Tests of the probe over the dummy device, whose speed means nothing: that every failure is told and leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/dummy/dummy.h"
#include "support/fault.h"

#define MIB ((uint64_t)1 << 20)

static gm_mem mem;
static gm_backend *be;
static gemma_error error;

static int setup(void **state)
{
    (void)state;
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    error = (gemma_error){ .size = sizeof error };
    return gm_dummy_create(&mem, NULL, &be, &error);
}

static int teardown(void **state)
{
    (void)state;
    bool left = gm_dummy_held(be, 0) != 0;
    gm_backend_destroy(be);
    return left || fault_live_blocks() || fault_mismatches();
}

static void measures_everything(void **state)
{
    (void)state;
    gemma_probe p = { .size = sizeof p };
    assert_int_equal(gm_backend_probe(be, NULL, &p, &error), GEMMA_OK);
    const double figures[] = { p.read_gb_s, p.q4_gb_s,        p.q6_gb_s,          p.q8_gb_s,
                               p.f16_gb_s,  p.op_us,          p.product_us,       p.row_ns,
                               p.submit_us, p.compute_gflops, p.attention_gflops, p.attention_us,
                               p.q5_gb_s };
    for (size_t i = 0; i < GM_COUNT(figures); i++) assert_true(figures[i] > 0 && figures[i] < 1e12);
    assert_true(fault_peak_bytes() <= 256 * MIB);
    assert_int_equal(gm_dummy_count(be, GM_DUMMY_COMPILE), gm_dummy_count(be, GM_DUMMY_EXEC_DESTROY));
}

static void tells_failures(void **state)
{
    (void)state;
    static const struct {
        gm_dummy_call call;
        int code;
    } cases[] = { { GM_DUMMY_PROBE, GEMMA_E_LOST },          { GM_DUMMY_COMPILE, GEMMA_E_NOMEM },
                  { GM_DUMMY_SUBMIT, GEMMA_E_LOST },         { GM_DUMMY_WAIT, GEMMA_E_LOST },
                  { GM_DUMMY_BUFFER_CREATE, GEMMA_E_NOMEM }, { GM_DUMMY_WAIT, GEMMA_E_CANCELLED } };
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        for (uint32_t nth = 1; nth < 12; nth += 3) {
            gemma_probe p = { .size = sizeof p };
            gm_dummy_fail(be, cases[i].call, nth, cases[i].code);
            bool asked = cases[i].call != GM_DUMMY_PROBE || nth == 1; /* reads once */
            assert_int_equal(gm_backend_probe(be, NULL, &p, &error), asked ? cases[i].code : GEMMA_OK);
            gm_dummy_fail(be, GM_DUMMY_CALLS, 0, 0);
            assert_int_equal(gm_dummy_held(be, 0), 0);
        }
    }
}

static void is_cancelled(void **state)
{
    (void)state;
    gemma_probe p = { .size = sizeof p };
    gemma_cancel raised = { .mem = &mem };
    atomic_init(&raised.raised, 1);
    assert_int_equal(gm_backend_probe(be, &raised, &p, &error), GEMMA_E_CANCELLED);
    assert_int_equal(gm_dummy_count(be, GM_DUMMY_SUBMIT), 0);
}

/* A device with less room takes a smaller buffer; with hardly any, it says so. */
static void takes_less(void **state)
{
    (void)state;
    gemma_probe p = { .size = sizeof p };
    gm_dummy_fail(be, GM_DUMMY_BUFFER_CREATE, 1, GEMMA_E_DEVMEM);
    assert_int_equal(gm_backend_probe(be, NULL, &p, &error), GEMMA_OK);
    assert_true(p.q4_gb_s > 0 && fault_peak_bytes() < 128 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(measures_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(is_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_less, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
