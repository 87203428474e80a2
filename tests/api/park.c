/* Parked, resumed and planned anew: sessions go on as if nothing had happened, memory is given back and taken exactly, and
 * what fails leaves what it says.
 *
 * usage: park [DEVICE] */
#include "api/world.h"

#include <math.h>

enum { CTX = 512, N = 200, MORE = 12 }; /* the window is 64 */

static const char *device = "cpu";
static const gemma_plan_options options = {
    .size = sizeof options, .ctx = CTX, .ubatch = 32, .n_sessions = 4, .n_marks = 2, .logit_rows = 32
};

static uint64_t bulk_bytes(void)
{
    uint64_t n = 0;
    for (uint32_t tag = GEMMA_TAG_WEIGHTS; tag <= GEMMA_TAG_STAGING; tag++) n += fault_live_bytes(tag);
    return n;
}

typedef struct talk { /* a session with a past */
    world w;
    gemma_step *step;
    gemma_session *s, *fork;
    int32_t ids[N + MORE];
    float *rows, *again; /* [MORE][n_vocab] what comes next, and what came */
} talk;

static void begin(talk *t, uint32_t family)
{
    world_init_family(&t->w, family);
    t->w.device = device;
    world_open(&t->w, &options);
    world_ids(t->ids, N + MORE, family);
    t->step = world_step(&t->w);
    t->s = world_session(&t->w);
    size_t n = (size_t)(N > MORE ? N : MORE) * t->w.n_vocab;
    t->rows = calloc(n, sizeof *t->rows);
    t->again = calloc(n, sizeof *t->again);
    assert_true(t->rows && t->again);
    world_rows(&t->w, t->step, t->s, t->ids, 50, 32, false, t->rows);
    assert_int_equal(gemma_session_mark(t->s), GEMMA_OK);
    world_rows(&t->w, t->step, t->s, t->ids + 50, N - 50, 32, false, t->rows);
    assert_ok(gemma_session_fork(t->s, &t->fork, &t->w.error), t->w.error.message);
    /* what comes next, by the fork, which then goes back */
    world_rows(&t->w, t->step, t->fork, t->ids + N, MORE, 1, true, t->rows);
    assert_int_equal(gemma_session_rewind(t->fork, N), GEMMA_OK);
}

static void finish(talk *t)
{
    free(t->rows);
    free(t->again);
    gemma_step_destroy(t->step);
    gemma_session_destroy(t->fork);
    gemma_session_destroy(t->s);
    world_close(&t->w);
}

static void check_goes_on(talk *t, const char *what)
{
    world_rows(&t->w, t->step, t->s, t->ids + N, MORE, 1, true, t->again);
    assert_same_rows(&t->w, what, t->rows, t->again, MORE);
    assert_int_equal(gemma_session_rewind(t->s, N), GEMMA_OK);
    world_rows(&t->w, t->step, t->fork, t->ids + N, MORE, 1, true, t->again);
    assert_same_rows(&t->w, what, t->rows, t->again, MORE);
    assert_int_equal(gemma_session_rewind(t->fork, N), GEMMA_OK);
}

static uint64_t held_by_plan(const world *w)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < gemma_plan_n_heaps(w->plan); i++) {
        gemma_bill bill = { .size = sizeof bill };
        gemma_device_info info = { .size = sizeof info };
        assert_int_equal(gemma_plan_bill(w->plan, i, &bill), GEMMA_OK);
        assert_int_equal(gemma_device_describe(w->runtime, bill.device, &info), GEMMA_OK);
        if (info.kind == GEMMA_DEVICE_CPU) n += bill.total_bytes;
    }
    return n;
}

static void check_status(const world *w, uint32_t parked)
{
    gemma_model_status status = { .size = sizeof status };
    assert_int_equal(gemma_model_query(w->model, &status), GEMMA_OK);
    assert_int_equal(status.parked, parked);
    assert_int_equal(status.allocated_bytes == 0, parked);
    assert_int_equal(status.lost, 0);
}

static void parked_and_resumed(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        talk t;
        gemma_model_status before = { .size = sizeof before }, after = { .size = sizeof after };
        begin(&t, family);
        uint64_t held = held_by_plan(&t.w);
        assert_int_equal(bulk_bytes(), held);
        gemma_model_query(t.w.model, &before);
        check_goes_on(&t, "before");
        for (int round = 0; round < 3; round++) {
            assert_ok(gemma_model_park(t.w.model, &t.w.error), t.w.error.message);
            check_status(&t.w, 1);
            assert_int_equal(bulk_bytes(), fault_live_bytes(GEMMA_TAG_KV)); /* the pages in use */
            assert_true(bulk_bytes() > 0);
            assert_int_equal(gemma_model_park(t.w.model, &t.w.error), GEMMA_E_STATE);
            gemma_row row = { .size = sizeof row, .token = t.ids[0], .want = GEMMA_WANT_CANDIDATES };
            assert_int_equal(gemma_step_clear(t.step), GEMMA_OK);
            assert_int_equal(gemma_step_add(t.step, t.s, &row, NULL), GEMMA_OK);
            assert_int_equal(gemma_step_submit(t.step, NULL), GEMMA_E_STATE);
            assert_int_equal(gemma_step_clear(t.step), GEMMA_OK);
            assert_int_equal(gemma_session_feed(t.s, t.ids, 3, NULL), GEMMA_E_STATE);
            assert_int_equal(gemma_session_position(t.s), N);
            assert_ok(gemma_model_resume(t.w.model, NULL, &t.w.error), t.w.error.message);
            check_status(&t.w, 0);
            assert_int_equal(bulk_bytes(), held);
            assert_int_equal(gemma_model_resume(t.w.model, NULL, &t.w.error), GEMMA_E_STATE);
            check_goes_on(&t, "after");
        }
        gemma_model_query(t.w.model, &after); /* pages are shared as before */
        assert_int_equal(after.global_pages_free, before.global_pages_free);
        assert_int_equal(after.sliding_pages_free, before.sliding_pages_free);
        assert_int_equal(gemma_session_rewind(t.s, 50), GEMMA_OK); /* to the mark */
        finish(&t);
    }
}

/* Sessions come, go and are rewound while the model is parked. */
static void sessions_while_parked(void **state)
{
    (void)state;
    talk t;
    gemma_session *new;
    begin(&t, 4);
    assert_ok(gemma_model_park(t.w.model, &t.w.error), t.w.error.message);
    new = world_session(&t.w);
    gemma_session_destroy(t.fork);
    assert_ok(gemma_session_fork(t.s, &t.fork, &t.w.error), t.w.error.message);
    assert_int_equal(gemma_session_rewind(t.s, 50), GEMMA_OK);
    assert_ok(gemma_model_resume(t.w.model, NULL, &t.w.error), t.w.error.message);
    world_rows(&t.w, t.step, new, t.ids, 50, 32, false, t.again);
    world_rows(&t.w, t.step, new, t.ids + 50, N - 50, 32, false, t.again);
    gemma_session_destroy(new);
    world_rows(&t.w, t.step, t.s, t.ids + 50, N - 50, 32, false, t.again);
    check_goes_on(&t, "sessions that came and went");
    finish(&t);
    begin(&t, 3); /* closed while parked */
    assert_ok(gemma_model_park(t.w.model, &t.w.error), t.w.error.message);
    finish(&t);
}

static gemma_plan *plan_of(talk *t, gemma_plan_options po)
{
    gemma_plan *plan;
    po.size = sizeof po;
    assert_ok(gemma_device_find(t->w.runtime, device, &po.device, &t->w.error), t->w.error.message);
    po.replaces = t->w.model;
    assert_ok(gemma_plan_create(t->w.file, &po, &plan, &t->w.error), t->w.error.message);
    return plan;
}

static double off(const talk *t)
{
    double most = 0, off = 0;
    for (size_t i = 0; i < (size_t)MORE * t->w.n_vocab; i++) {
        most = fmax(most, fabs((double)t->rows[i]));
        off = fmax(off, fabs((double)t->rows[i] - (double)t->again[i]));
    }
    return off / most;
}

static void planned_anew(void **state)
{
    (void)state;
    static const struct change {
        gemma_plan_options o;
        double bar; /* of the largest logit; 0: bit for bit */
    } changes[] = {
        { { .ctx = 256, .n_sessions = 2, .ubatch = 32 }, 0 },
        { { .ctx = 512, .n_sessions = 8, .ubatch = 64, .n_marks = 3, .logit_rows = 64, .slack = 100 }, 0 },
        { { .ctx = 300, .n_sessions = 3, .ubatch = 32, .n_marks = 1, .slack = 1 }, 0 },
        { { .ctx = 512, .n_sessions = 4, .ubatch = 32, .kv_global = GEMMA_TYPE_F32, .kv_sliding = GEMMA_TYPE_F32 },
          0.1 },
        { { .ctx = 512, .n_sessions = 4, .ubatch = 32, .kv_global = GEMMA_TYPE_Q8_0, .kv_sliding = GEMMA_TYPE_F16 },
          0.2 },
    };
    for (size_t i = 0; i < COUNT(changes); i++) {
        talk t;
        begin(&t, 3 + (uint32_t)i % 2);
        bool packs = strcmp(device, "cpu") && changes[i].o.kv_global == GEMMA_TYPE_Q8_0; /* heads of 32 */
        if (packs) {
            finish(&t);
            continue;
        }
        gemma_plan *plan = plan_of(&t, changes[i].o);
        if (i % 2) assert_ok(gemma_model_park(t.w.model, &t.w.error), t.w.error.message);
        assert_ok(gemma_model_replan(t.w.model, plan, NULL, &t.w.error), t.w.error.message);
        assert_ptr_equal(gemma_model_plan(t.w.model), plan);
        gemma_plan_destroy(t.w.plan);
        t.w.plan = plan;
        assert_int_equal(bulk_bytes(), held_by_plan(&t.w));
        if (changes[i].bar == 0) check_goes_on(&t, "another plan");
        world_rows(&t.w, t.step, t.s, t.ids + N, MORE, 1, true, t.again);
        if (off(&t) > changes[i].bar) /* later tokens differ too: this bar only shows what is broken */
            fail_msg("change %u: off by %g", (unsigned)i, off(&t));
        finish(&t);
    }
}

static void replan_types(talk *t, uint32_t global, uint32_t sliding)
{
    gemma_plan_options po = options;
    po.kv_global = global;
    po.kv_sliding = sliding;
    gemma_plan *plan = plan_of(t, po);
    assert_ok(gemma_model_replan(t->w.model, plan, NULL, &t->w.error), t->w.error.message);
    gemma_plan_destroy(plan);
}

/* F16 as F32 and back is what it was. */
static void there_and_back(void **state)
{
    (void)state;
    talk t;
    begin(&t, 4);
    replan_types(&t, GEMMA_TYPE_F32, GEMMA_TYPE_F16);
    replan_types(&t, GEMMA_TYPE_F16, GEMMA_TYPE_F32);
    replan_types(&t, GEMMA_TYPE_F16, GEMMA_TYPE_F16);
    check_goes_on(&t, "F32 and back");
    finish(&t);
}

static void refused(void **state)
{
    (void)state;
    talk t;
    begin(&t, 3);
    static const struct {
        gemma_plan_options o;
        int code;
    } bad[] = {
        { { .ctx = 128, .n_sessions = 2 }, GEMMA_E_FULL },
        { { .ctx = 512, .n_sessions = 1 }, GEMMA_E_NOPAGES },
        { { .ctx = 512, .n_sessions = 2, .kv_tokens = 128 }, GEMMA_E_NOPAGES },
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        gemma_plan *plan = plan_of(&t, bad[i].o);
        assert_int_equal(gemma_model_replan(t.w.model, plan, NULL, &t.w.error), bad[i].code);
        assert_true(strlen(t.w.error.message) > 20);
        gemma_plan_destroy(plan);
        check_status(&t.w, 0);
        check_goes_on(&t, "a plan that was refused");
    }
    gemma_file *file; /* the same bytes, but another file */
    gemma_plan *other;
    gemma_file_options fo = { .size = sizeof fo, .bytes = t.w.bytes, .n_bytes = t.w.n_bytes };
    assert_ok(gemma_file_open(t.w.runtime, NULL, &fo, &file, &t.w.error), t.w.error.message);
    assert_ok(gemma_plan_create(file, &options, &other, &t.w.error), t.w.error.message);
    assert_int_equal(gemma_model_replan(t.w.model, other, NULL, &t.w.error), GEMMA_E_ARG);
    gemma_plan_destroy(other);
    gemma_file_close(file);
    assert_int_equal(gemma_model_replan(t.w.model, NULL, NULL, &t.w.error), GEMMA_E_ARG);
    assert_int_equal(gemma_model_park(NULL, NULL), GEMMA_E_ARG);
    gemma_load_options lo = { .size = sizeof lo, .flags = 99 };
    assert_int_equal(gemma_model_replan(t.w.model, t.w.plan, &lo, &t.w.error), GEMMA_E_ARG);
    check_goes_on(&t, "refused");
    finish(&t);
}

static void rehearsed(void **state)
{
    (void)state;
    world w;
    world_init_family(&w, 4);
    w.device = device;
    world_open(&w, &options);
    uint64_t held = bulk_bytes();
    gemma_model_close(w.model);
    gemma_load_options lo = { .size = sizeof lo, .flags = GEMMA_LOAD_REHEARSE };
    assert_ok(gemma_model_load(w.plan, &lo, &w.model, &w.error), w.error.message);
    assert_int_equal(bulk_bytes(), held);
    gemma_session *s = world_session(&w);
    int32_t id = TINY_ASCII;
    assert_int_equal(gemma_session_feed(s, &id, 1, NULL), GEMMA_E_STATE);
    char message[256];
    gemma_session_message(s, message, sizeof message);
    assert_non_null(strstr(message, "rehearsal"));
    assert_int_equal(gemma_model_park(w.model, &w.error), GEMMA_E_STATE);
    gemma_session_destroy(s);
    world_close(&w);
}

/* Whatever allocation fails: parked, or as it was; and the next try succeeds. */
static void each_allocation_fails(void **state)
{
    (void)state;
    talk t;
    begin(&t, 4);
    uint64_t n_park = 0, n_resume = 0;
    int rc = GEMMA_E_NOMEM;
    for (uint64_t nth = 1; rc; nth++, n_park++) {
        fault_fail_nth(nth);
        rc = gemma_model_park(t.w.model, &t.w.error);
        fault_fail_nth(0);
        check_status(&t.w, rc == GEMMA_OK);
        if (rc) assert_int_equal(rc, GEMMA_E_NOMEM);
    }
    rc = GEMMA_E_NOMEM;
    for (uint64_t nth = 1; rc; nth++, n_resume++) {
        fault_fail_nth(nth);
        rc = gemma_model_resume(t.w.model, NULL, &t.w.error);
        fault_fail_nth(0);
        if (rc) assert_int_equal(rc, GEMMA_E_NOMEM);
        if (rc) assert_true(strlen(t.w.error.message) > 10);
        check_status(&t.w, rc != GEMMA_OK);
        if (rc) assert_int_equal(bulk_bytes(), fault_live_bytes(GEMMA_TAG_KV));
    }
    assert_true(n_park > 5 && n_resume > 20);
    check_goes_on(&t, "allocations that failed");
    finish(&t);
}

int main(int argc, char **argv)
{
    if (argc > 1) device = argv[1];
    const struct CMUnitTest tests[] = { cmocka_unit_test(parked_and_resumed),
                                        cmocka_unit_test(sessions_while_parked),
                                        cmocka_unit_test(planned_anew),
                                        cmocka_unit_test(there_and_back),
                                        cmocka_unit_test(refused),
                                        cmocka_unit_test(rehearsed),
                                        cmocka_unit_test(each_allocation_fails) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
