/* Tests of lib/plan: budgets, what does not fit, and what would. */
#include "unit/plan_fixture.h"

static void check_budget(fixture *f, gm_heap_state heap, gemma_plan_options o, uint64_t expected)
{
    gm_backend *be;
    gm_dummy_options options = { .n_heaps = 1, .heaps = { heap } };
    o.size = sizeof o;
    assert_int_equal(gm_dummy_create(&f->mem, &options, &be, &f->error), GEMMA_OK);
    gm_settings s = settings_of(f, &o);
    assert_int_equal(gm_plan_budget(be, 0, &s), expected);
    gm_backend_destroy(be);
}

static void test_budget(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gm_heap_state heap = {
        .name = "VRAM", .total_bytes = 10000 * MIB, .budget_bytes = 8000 * MIB, .budget_reported = true
    };
    check_budget(&f, heap, (gemma_plan_options){ 0 }, 7760 * MIB); /* 3 % */
    heap.budget_bytes = 2000 * MIB;
    check_budget(&f, heap, (gemma_plan_options){ 0 }, 1872 * MIB); /* 128 MiB */
    check_budget(&f, heap, (gemma_plan_options){ .headroom_bytes = MIB }, 1999 * MIB);
    check_budget(&f, heap, (gemma_plan_options){ .budget_bytes = 500 * MIB }, 372 * MIB);
    check_budget(&f, heap, (gemma_plan_options){ .budget_bytes = 100 * MIB }, 0);
    check_budget(&f, heap, (gemma_plan_options){ .headroom_bytes = UINT64_MAX }, 0);
    heap.budget_reported = false;
    check_budget(&f, heap, (gemma_plan_options){ 0 }, 8000 * MIB); /* 20 % of the heap */
    tear_down(&f);
}

static void test_refuse(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    uint64_t total = total_with(&f, with_budget(1));
    gemma_plan_options o = with_budget(total);
    gm_plan *p = plan_of(&f, &o);
    assert_true(p->fits); /* to the byte */
    gm_plan_destroy(p);

    o = with_budget(total - 1);
    o.min_ctx = 64;
    p = plan_of(&f, &o);
    assert_false(p->fits);
    assert_int_equal(p->lines[0].budget_bytes, total - 1);
    assert_int_equal(gm_plan_check(p, &f.error), GEMMA_E_NOFIT);
    assert_non_null(strstr(f.error.message, "dummy device · RAM: needs "));
    assert_non_null(strstr(f.error.message, "may be used; it would fit with ctx 448"));
    assert_true(p->n_advice >= 3);
    for (uint32_t i = 0; i < p->n_advice; i++) { /* each piece of advice is true */
        const gemma_advice *a = &p->advice[i];
        gemma_plan_options advised = with_budget(total - 1);
        advised.ctx = a->ctx;
        advised.n_sessions = a->n_sessions;
        advised.ubatch = a->ubatch;
        advised.kv_global = a->kv_global;
        advised.kv_sliding = a->kv_sliding;
        assert_int_equal(total_with(&f, advised), a->total_bytes);
        assert_true(a->total_bytes <= total - 1);
        assert_int_equal(a->budget_bytes, total - 1);
    }
    assert_int_equal(p->advice[0].ctx, 448); /* the largest */
    gm_plan_destroy(p);

    o.fit = GEMMA_FIT_SPLIT;
    p = plan_of(&f, &o);
    gm_plan_check(p, &f.error);
    assert_non_null(strstr(f.error.message, "no second device"));
    gm_plan_destroy(p);

    o = with_budget(1000);
    p = plan_of(&f, &o);
    assert_int_equal(p->n_advice, 0);
    assert_false(p->fits_mapped);
    assert_int_equal(gm_plan_check(p, &f.error), GEMMA_E_NOFIT);
    assert_null(strstr(f.error.message, "would fit"));
    gm_plan_destroy(p);
    tear_down(&f);
}

static void test_advice(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_plan_options o = with_budget(1);
    o.n_sessions = 8;
    uint64_t total = total_with(&f, o);
    o = with_budget(total - 1000);
    o.n_sessions = 8;
    gm_plan *p = plan_of(&f, &o);
    bool sessions = false, ubatch = false, kv = false;
    for (uint32_t i = 0; i < p->n_advice; i++) {
        sessions |= p->advice[i].n_sessions == 4;
        ubatch |= p->advice[i].ubatch == 256;
        kv |= p->advice[i].kv_global == GEMMA_TYPE_Q8_0 && p->advice[i].kv_sliding == GEMMA_TYPE_Q8_0;
    }
    assert_true(sessions && ubatch && kv);
    assert_non_null(strstr((gm_plan_check(p, &f.error), f.error.message), "it would fit with n_sessions 4"));
    gm_plan_destroy(p);

    /* All but the weights fits: a mapped file is the way. */
    uint64_t weights = 0;
    gm_plan *whole = plan_of(&f, NULL);
    for (int c = GEMMA_CLASS_EMBEDDING; c <= GEMMA_CLASS_NORMS; c++) weights += whole->lines[0].class_bytes[c];
    o = with_budget(whole->lines[0].total_bytes - weights);
    o.ubatch = o.ctx = 512;
    gm_plan_destroy(whole);
    p = plan_of(&f, &o);
    assert_false(p->fits);
    assert_true(p->fits_mapped);
    gm_plan_destroy(p);
    tear_down(&f);
}

static void test_shrink(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_plan_options o = with_budget(1);
    o.ctx = 256;
    o.ubatch = 64;
    uint64_t at_256 = total_with(&f, o);
    o.ctx = 320;
    uint64_t at_320 = total_with(&f, o);
    assert_true(at_320 > at_256);
    for (uint64_t spare = 0; spare <= 1; spare++) {
        o = with_budget(at_320 - spare);
        o.fit = GEMMA_FIT_SHRINK;
        o.min_ctx = 64;
        o.ubatch = 64;
        gm_plan *p = plan_of(&f, &o);
        assert_true(p->fits);
        check_bill(p);
        assert_int_equal(p->settings.ctx, spare ? 256 : 320);
        assert_int_equal(p->settings.kv_type[0], GEMMA_TYPE_F16);
        gm_plan_destroy(p);
    }
    /* Never below min_ctx: then the types shrink. */
    o = with_budget(at_256);
    o.fit = GEMMA_FIT_SHRINK;
    o.min_ctx = 320;
    o.ubatch = 64;
    gm_plan *p = plan_of(&f, &o);
    assert_true(p->fits);
    assert_true(p->settings.ctx >= 320);
    assert_int_equal(p->settings.kv_type[0], GEMMA_TYPE_Q8_0);
    gm_plan_destroy(p);
    o = with_budget(1000);
    o.fit = GEMMA_FIT_SHRINK;
    p = plan_of(&f, &o);
    assert_false(p->fits);
    assert_int_equal(p->settings.ctx, 512); /* what was asked */
    gm_plan_destroy(p);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_refuse),
        cmocka_unit_test(test_advice),
        cmocka_unit_test(test_shrink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
