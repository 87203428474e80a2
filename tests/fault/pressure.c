/* Budgets that shrink and recover while a model generates, blocks that are paged out, devices that are lost: each answer
 * of the host is carried out, tokens stay the same to the last bit, and every heap has what the bill says at each stage.
 * Skipped without a software device. */
#include "fault/pressure.h"

#include <vulkan/vulkan_core.h>

static const char live_budget[] = "machines/rtx3050-680m-16-linux.json",
                  constant_budget[] = "machines/rtx3050-680m-16-windows.json";
static watched t; /* large */

/* ---- budgets ---- */

/* Opened, ten tokens on, and the card's budget is then `part` of what the model has there. */
static uint64_t shrink(uint32_t answer, double part)
{
    t.answer = answer;
    assert_ok(watch_open(&t), t.r.error.message);
    watch_check_bill(&t);
    watch_tokens(&t, 10);
    assert_int_equal(t.n_events, 0);
    uint64_t total = watch_heap_total(&t), budget = (uint64_t)((double)total * part);
    vklayer_budget(0, 0, budget);
    watch_second();
    return budget;
}

static void check_shrunk(uint64_t budget, uint64_t total)
{
    const gemma_pressure *e = watch_event(&t, GEMMA_EVENT_SHRUNK);
    assert_int_equal(e->budget_bytes, budget);
    assert_int_equal(e->planned_bytes, total);
    assert_int_equal(e->used_bytes, total);
    assert_int_equal(e->heap, 0);
    assert_int_equal(e->slow_bytes, 0);
}

static void grow(void)
{
    vklayer_budget(0, 0, t.m.devices[0].budgets[0]);
    watch_second();
}

static void kept(void **state)
{
    (void)state;
    watch_begin(&t, live_budget);
    uint64_t budget = shrink(GEMMA_PRESSURE_KEEP, 0.5);
    watch_tokens(&t, 1);
    check_shrunk(budget, watch_heap_total(&t));
    watch_tokens(&t, 20); /* it is told once */
    watch_second();
    watch_tokens(&t, 5);
    assert_int_equal(t.n_events, 0);
    watch_check_bill(&t);
    grow();
    watch_tokens(&t, 1);
    const gemma_pressure *e = watch_event(&t, GEMMA_EVENT_RECOVERED);
    assert_int_equal(e->budget_bytes, t.m.devices[0].budgets[0]);
    watch_tokens(&t, 20);
    watch_close(&t);
    watch_end(&t);
}

static void stopped(void **state)
{
    (void)state;
    watch_begin(&t, live_budget);
    uint64_t budget = shrink(GEMMA_PRESSURE_STOP, 0.9);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(watch_token(&t), GEMMA_E_STALE);
        assert_non_null(strstr(t.r.error.message, "stopped"));
    }
    check_shrunk(budget, watch_heap_total(&t));
    watch_check_bill(&t);
    grow();
    watch_tokens(&t, 10);
    watch_event(&t, GEMMA_EVENT_RECOVERED);
    watch_close(&t);
    watch_end(&t);
}

static void parked(void **state)
{
    (void)state;
    watch_begin(&t, live_budget);
    shrink(GEMMA_PRESSURE_PARK, 0.5);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(watch_token(&t), GEMMA_E_STATE);
        assert_non_null(strstr(t.r.error.message, "parked"));
        assert_true(watch_parked(&t));
        watch_check_bill(&t);
    }
    watch_event(&t, GEMMA_EVENT_SHRUNK);
    assert_int_equal(gemma_model_resume(t.r.model, NULL, &t.r.error), GEMMA_E_STALE);
    assert_non_null(strstr(t.r.error.message, t.where));
    assert_true(watch_parked(&t));
    watch_check_bill(&t);
    vklayer_budget(0, 0, t.m.devices[0].budgets[0]);
    assert_ok(gemma_model_resume(t.r.model, NULL, &t.r.error), t.r.error.message);
    watch_check_bill(&t);
    watch_tokens(&t, 50);
    assert_int_equal(t.n_events, 0);
    watch_close(&t);
    watch_end(&t);
}

/* A smaller plan takes over between two tokens, and a still smaller one after that. */
static void planned_anew(void **state)
{
    (void)state;
    watch_begin(&t, live_budget);
    gemma_plan_info before = { .size = sizeof before }, after = { .size = sizeof after };
    uint64_t budget = shrink(GEMMA_PRESSURE_REPLAN, 0.7), total = watch_heap_total(&t);
    gemma_model *handle = t.r.model;
    for (int round = 0; round < 2; round++) {
        gemma_plan_describe(gemma_model_plan(handle), &before);
        watch_tokens(&t, 1);
        check_shrunk(budget, total);
        gemma_plan_describe(gemma_model_plan(handle), &after);
        assert_true(after.fits && after.ctx < before.ctx && after.ctx > WATCH_TOKENS);
        assert_int_equal(after.kv_global, before.kv_global);
        assert_int_equal(after.kv_sliding, before.kv_sliding);
        total = watch_heap_total(&t);
        assert_in_range(total, budget / 2, budget - 1);
        watch_check_bill(&t);
        watch_tokens(&t, 20);
        vklayer_budget(0, 0, budget = total / 10 * 8);
        watch_second();
    }
    grow();
    watch_tokens(&t, 20);
    assert_int_equal(t.n_events, 0); /* nobody had heard of the last */
    watch_close(&t);
    watch_end(&t);
}

static void nothing_fits(void **state)
{
    (void)state;
    watch_begin(&t, live_budget);
    shrink(GEMMA_PRESSURE_REPLAN, 0.05);
    assert_int_equal(watch_token(&t), GEMMA_E_NOFIT);
    assert_non_null(strstr(t.r.error.message, t.where));
    watch_event(&t, GEMMA_EVENT_SHRUNK);
    assert_true(watch_parked(&t));
    watch_check_bill(&t);
    assert_int_equal(watch_token(&t), GEMMA_E_STATE);
    grow();
    assert_int_equal(watch_token(&t), GEMMA_E_STATE); /* until it is resumed */
    assert_ok(gemma_model_resume(t.r.model, NULL, &t.r.error), t.r.error.message);
    watch_check_bill(&t);
    watch_tokens(&t, 50);
    watch_close(&t);
    watch_end(&t);
}

/* ---- blocks that are slow ---- */

static double gb_s_of(uint64_t n_bytes, double ms) { return (double)n_bytes / (ms * 1e6); }

static void check_paged(uint64_t slow_bytes, double gb_s)
{
    const gemma_pressure *e = watch_event(&t, GEMMA_EVENT_PAGED);
    assert_in_range(e->slow_bytes, 64 << 10, slow_bytes); /* blocks of weights and KV are looked at */
    assert_int_equal(e->heap, 0);
    assert_int_equal(e->used_bytes, 0); /* it is not told there */
    assert_int_equal(e->planned_bytes, watch_heap_total(&t));
    assert_true(e->gb_s > 0 && e->gb_s <= gb_s);
    assert_true(e->expected_gb_s > 2 * e->gb_s);
}

/* No more than a few tokens go by. */
static void await_paged(uint64_t slow_bytes, double gb_s)
{
    for (int i = 0; i < 30 && !t.n_events; i++) watch_tokens(&t, 1);
    check_paged(slow_bytes, gb_s);
}

/* Nothing more is taken either. */
static void undisturbed(void)
{
    uint64_t created = vklayer_created_objects(), allocations = fault_allocations();
    watch_tokens(&t, 200);
    assert_int_equal(t.n_events, 0);
    assert_int_equal(vklayer_created_objects(), created);
    assert_int_equal(fault_allocations(), allocations);
    watch_check_bill(&t);
}

static void paged(void **state)
{
    (void)state;
    watch_begin(&t, constant_budget);
    t.answer = GEMMA_PRESSURE_KEEP;
    assert_ok(watch_open(&t), t.r.error.message);
    undisturbed();
    uint64_t n = vklayer_slow(0, 0, 1, 1000);
    assert_true(n > 0 && n < watch_heap_total(&t));
    vklayer_fast(0, 0);
    double gb_s = gb_s_of(n, 300); /* much more than anything else does */
    assert_int_equal(vklayer_slow(0, 0, 1, gb_s), n);
    await_paged(n, gb_s);
    watch_tokens(&t, 5); /* it is told once */
    assert_int_equal(t.n_events, 0);
    vklayer_fast(0, 0);
    watch_second();
    watch_second();
    watch_tokens(&t, 1);
    const gemma_pressure *e = watch_event(&t, GEMMA_EVENT_RECOVERED);
    assert_true(e->gb_s > 0 && e->slow_bytes == 0);
    watch_tokens(&t, 10);
    watch_check_bill(&t);
    watch_close(&t);
    watch_end(&t);
}

/* The host is late for its steps, and the device as fast as ever. */
static void late(void **state)
{
    (void)state;
    watch_begin(&t, constant_budget);
    assert_ok(watch_open(&t), t.r.error.message);
    watch_tokens(&t, 20);
    gemma_row row = { .size = sizeof row, .token = PROMPT, .want = GEMMA_WANT_CANDIDATES };
    for (int i = 0; i < 40; i++) {
        assert_int_equal(gemma_step_clear(t.r.step), GEMMA_OK);
        assert_int_equal(gemma_step_add(t.r.step, t.r.session, &row, NULL), GEMMA_OK);
        assert_int_equal(gemma_step_submit(t.r.step, NULL), GEMMA_OK);
        vklayer_sleep(25000000);
        assert_int_equal(gemma_step_wait(t.r.step, FOREVER), GEMMA_OK);
    }
    assert_int_equal(t.n_events, 0);
    watch_close(&t);
    watch_end(&t);
}

/* A heap that holds less than its budget says: what lies beyond is slow from the first. */
static void slow_from_the_first(void **state)
{
    (void)state;
    gemma_probe probe = { .size = sizeof probe, .read_gb_s = 0.2 };
    watch_begin(&t, constant_budget);
    t.plan.probe = &probe; /* with so few blocks their median says nothing */
    double gb_s = 0.02;
    vklayer_limit(0, 0, 1 << 19, gb_s);
    assert_ok(watch_open(&t), t.r.error.message);
    watch_check_bill(&t); /* every allocation has succeeded */
    uint64_t slow_bytes = vklayer_slow_bytes(0, 0);
    assert_true(slow_bytes > 0);
    watch_tokens(&t, 1);
    check_paged(slow_bytes, gb_s);
    watch_tokens(&t, 2);
    watch_second();
    watch_second();
    watch_tokens(&t, 1); /* it still is */
    assert_int_equal(t.n_events, 0);
    vklayer_fast(0, 0);
    watch_second();
    watch_second();
    watch_tokens(&t, 1);
    watch_event(&t, GEMMA_EVENT_RECOVERED);
    watch_close(&t);
    watch_end(&t);
}

/* No budget says how much there is, so the new plan keeps to what was not slow. */
static void planned_around(void **state)
{
    (void)state;
    gemma_probe probe = { .size = sizeof probe, .read_gb_s = 0.2 };
    watch_begin(&t, constant_budget);
    t.plan.probe = &probe;
    t.answer = GEMMA_PRESSURE_REPLAN;
    assert_ok(watch_open(&t), t.r.error.message);
    uint64_t total = watch_heap_total(&t);
    watch_tokens(&t, 20);
    uint64_t n = vklayer_slow(0, 0, 1, 0.02);
    vklayer_limit(0, 0, total - n / 2, 0.02);
    for (int i = 0; i < 30 && !t.n_events; i++) watch_tokens(&t, 1);
    watch_event(&t, GEMMA_EVENT_PAGED);
    assert_in_range(watch_heap_total(&t), total / 4, total - n / 2);
    assert_int_equal(vklayer_slow_bytes(0, 0), 0);
    watch_check_bill(&t);
    watch_tokens(&t, 100);
    assert_int_equal(t.n_events, 0);
    watch_close(&t);
    watch_end(&t);
}

/* ---- more than there is ---- */

static void overcommitted(void **state)
{
    (void)state;
    watch_begin_on(&t, live_budget, 1);
    assert_ok(watch_open(&t), t.r.error.message);
    watch_tokens(&t, 5);
    watch_close(&t);
    for (uint32_t heap = 0; heap < t.m.devices[1].memory.memoryHeapCount; heap++) vklayer_limit(1, heap, 64 << 10, 0);
    int rc = watch_open(&t); /* every allocation succeeds */
    if (!rc) rc = watch_token(&t);
    assert_int_equal(rc, GEMMA_E_LOST);
    assert_non_null(strstr(t.r.error.message, t.where));
    watch_close(&t);
    watch_end(&t);
}

int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* one test by its name */
    const struct CMUnitTest tests[] = { cmocka_unit_test(kept),           cmocka_unit_test(stopped),
                                        cmocka_unit_test(parked),         cmocka_unit_test(planned_anew),
                                        cmocka_unit_test(nothing_fits),   cmocka_unit_test(paged),
                                        cmocka_unit_test(late),           cmocka_unit_test(slow_from_the_first),
                                        cmocka_unit_test(planned_around), cmocka_unit_test(overcommitted) };
    int n_failed = cmocka_run_group_tests_name("pressure", tests, NULL, NULL);
    return n_failed ? n_failed : run_skipped ? 77 : 0;
}
