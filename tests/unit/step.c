/* Steps of several sessions over the dummy device, and many threads with a session each. */
#include "engine_fixture.h"
#include "session/internal.h"

static void test_step_results(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 2);
    gm_session *a = fixture_session(&f), *b = fixture_session(&f);
    feed(a, some_ids(1, 10), 10);
    gm_step *t = new_step(&f);
    add_ok(t, a, 11, 0);
    add_ok(t, b, 12, GEMMA_WANT_CANDIDATES);
    add_ok(t, a, 13, GEMMA_WANT_LOGITS | GEMMA_WANT_SCORE);
    add_ok(t, b, 14, GEMMA_WANT_HIDDEN | GEMMA_WANT_CANDIDATES);
    uint32_t n;
    assert_null(gm_step_candidates(t, 1, &n));
    run_step(t);
    assert_int_equal(gm_session_position(a), 12);
    assert_int_equal(gm_session_position(b), 2);
    int32_t ids[2];
    assert_int_equal(gm_session_ids(a, 10, ids, 2), 2);
    assert_true(ids[0] == 11 && ids[1] == 13);

    const gm_candidate *c = gm_step_candidates(t, 1, &n);
    assert_int_equal(n, 64);
    assert_int_equal(c[0].id, gm_dummy_best(12, FIX_VOCAB));
    assert_int_equal(gm_step_candidates(t, 3, &n)[0].id, gm_dummy_best(14, FIX_VOCAB));
    const float *logits = gm_step_logits(t, 2, &n);
    assert_int_equal(n, FIX_VOCAB);
    for (int32_t i = 0; i < FIX_VOCAB; i++) assert_true(logits[i] == gm_dummy_logit(13, i, FIX_VOCAB));
    assert_true(*gm_step_score(t, 2) == gm_dummy_logit(13, 13, FIX_VOCAB));
    const float *hidden = gm_step_hidden(t, 3, &n);
    assert_true(hidden[0] == 14 && hidden[1] == (float)gm_dummy_history((int32_t[]){ 12, 14 }, 2));
    assert_non_null(gm_step_log_sum(t, 1));
    assert_non_null(gm_step_log_sum(t, 2));
    /* not wanted, no such row */
    assert_null(gm_step_log_sum(t, 0));
    assert_null(gm_step_candidates(t, 2, &n));
    assert_null(gm_step_logits(t, 3, &n));
    assert_null(gm_step_hidden(t, 2, &n));
    assert_null(gm_step_score(t, 1));
    assert_null(gm_step_hidden(t, 4, &n));
    assert_int_equal(gm_step_wait(t, 0), GEMMA_OK); /* again: the same answer */
    assert_int_equal(gm_step_clear(t), GEMMA_OK);
    assert_null(gm_step_candidates(t, 1, &n));
    gm_step_destroy(t);
    gm_session_destroy(a);
    gm_session_destroy(b);
    fixture_destroy(&f);
}

static void test_step_refusals(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 40, 2);
    gm_session *a = fixture_session(&f), *b = fixture_session(&f);
    gm_step *t = new_step(&f), *u = new_step(&f);
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_E_ARG);
    assert_int_equal(gm_step_wait(t, 0), GEMMA_E_STATE);
    assert_int_equal(add(t, a, FIX_VOCAB, 0), GEMMA_E_TOKEN);
    check_message(gm_step_error(t), GEMMA_E_TOKEN, "row 0: token 383 is not one of 383");
    assert_int_equal(add(t, a, -1, 0), GEMMA_E_TOKEN);
    assert_int_equal(add(t, a, 1, 1u << 9), GEMMA_E_ARG);
    gemma_row row = { .size = sizeof row, .token = 1, .target = FIX_VOCAB, .want = GEMMA_WANT_SCORE };
    assert_int_equal(gm_step_add(t, a, &row, NULL), GEMMA_E_TOKEN);
    row.size = 3;
    assert_int_equal(gm_step_add(t, a, &row, NULL), GEMMA_E_ARG);
    add_ok(t, a, 1, GEMMA_WANT_LOGITS);
    add_ok(t, a, 1, GEMMA_WANT_HIDDEN);
    assert_int_equal(add(t, a, 1, GEMMA_WANT_LOGITS), GEMMA_E_SMALL);
    check_message(gm_step_error(t), GEMMA_E_SMALL, "2 rows want logits");
    assert_int_equal(add(u, a, 1, 0), GEMMA_E_STATE);
    /* while a step has rows of it, a session stays where it is */
    uint32_t kept;
    int32_t id = 1;
    gm_session *fork;
    assert_int_equal(gm_session_feed(a, &id, 1, NULL), GEMMA_E_STATE);
    assert_int_equal(gm_session_rewind(a, 0), GEMMA_E_STATE);
    assert_int_equal(gm_session_mark(a), GEMMA_E_STATE);
    assert_int_equal(gm_session_unmark(a, 0), GEMMA_E_STATE);
    assert_int_equal(gm_session_match(a, &id, 1, &kept), GEMMA_E_STATE);
    assert_int_equal(gm_session_fork(a, &fork, NULL), GEMMA_E_STATE);
    for (int i = 2; i < 32; i++) add_ok(t, a, 1, 0);
    assert_int_equal(add(t, b, 1, 0), GEMMA_E_SMALL);
    check_message(gm_step_error(t), GEMMA_E_SMALL, "32 rows");
    run_step(t);
    assert_int_equal(gm_session_position(a), 32);
    assert_int_equal(add(t, a, 1, 0), GEMMA_E_STATE);
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_E_STATE);
    gm_step_clear(t);
    for (int i = 0; i < 8; i++) add_ok(t, a, 1, 0);
    assert_int_equal(add(t, a, 1, 0), GEMMA_E_FULL);
    run_step(t);
    gm_step_destroy(t);
    gm_step_destroy(u);
    gm_session_destroy(a);
    gm_session_destroy(b);
    fixture_destroy(&f);
}

static void test_step_of_two_models(void **state)
{
    (void)state;
    static fixture f;
    fixture_create(&f, 40, 1);
    fixture second = f; /* the same device, another engine */
    assert_int_equal(fixture_engine(&second, NULL), GEMMA_OK);
    gm_session *s = fixture_session(&second);
    gm_step *t = new_step(&f);
    assert_int_equal(add(t, s, 1, 0), GEMMA_E_ARG);
    gm_step_destroy(t);
    gm_session_destroy(s);
    gm_engine_destroy(second.engine);
    fixture_destroy(&f);
}

static void test_step_cancelled_and_delayed(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 2);
    gm_session *a = fixture_session(&f), *b;
    feed(a, some_ids(1, 70), 70);
    assert_int_equal(gm_session_fork(a, &b, NULL), GEMMA_OK);
    gemma_cancel cancel;
    cancel_init(&cancel);
    atomic_store(&cancel.raised, 1);
    gm_step *t = new_step(&f);
    add_ok(t, a, 1, 0);
    add_ok(t, b, 2, GEMMA_WANT_CANDIDATES);
    uint32_t in_use = pages_in_use(&f);
    assert_int_equal(gm_step_submit(t, &cancel), GEMMA_OK);
    assert_int_equal(gm_step_wait(t, FOREVER), GEMMA_E_CANCELLED);
    assert_int_equal(pages_in_use(&f), in_use);
    assert_int_equal(gm_session_position(a), 70);
    uint32_t n;
    assert_null(gm_step_candidates(t, 1, &n));
    check_content(&f, a); /* the split of the shared page is undone */
    check_content(&f, b);

    gm_step_clear(t);
    add_ok(t, a, 1, 0);
    add_ok(t, b, 2, GEMMA_WANT_CANDIDATES);
    gm_dummy_delay(f.dummy, 2);
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_OK);
    assert_int_equal(gm_step_clear(t), GEMMA_E_STATE);
    assert_int_equal(gm_step_wait(t, 0), GEMMA_E_TIMEOUT);
    assert_int_equal(gm_step_wait(t, 1000), GEMMA_E_TIMEOUT);
    assert_null(gm_step_candidates(t, 1, &n));
    assert_int_equal(gm_step_wait(t, 0), GEMMA_OK);
    assert_non_null(gm_step_candidates(t, 1, &n));
    gm_step_destroy(t);
    check_content(&f, a);
    check_content(&f, b);
    gm_session_destroy(a);
    gm_session_destroy(b);
    fixture_destroy(&f);
}

static void test_which_program(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 1);
    gm_session *s = fixture_session(&f);
    gm_step *t = new_step(&f);
    for (uint32_t pattern = 0; pattern < 4; pattern++) {
        gm_step_clear(t);
        add_ok(t, s, 1, pattern & 1 ? GEMMA_WANT_CANDIDATES : 0);
        add_ok(t, s, 1, pattern & 2 ? GEMMA_WANT_CANDIDATES : 0);
        run_step(t);
        assert_int_equal(f.engine->which, pattern == 3 ? GM_PROGRAM_FULL : GM_PROGRAM_CUT);
    }
    gm_step_destroy(t);
    gm_session_destroy(s);
    fixture_destroy(&f);
}

static void test_two_steps_at_once(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 2);
    gm_session *a = fixture_session(&f), *b = fixture_session(&f);
    gm_step *t = new_step(&f), *u = new_step(&f);
    add_ok(t, a, 21, GEMMA_WANT_CANDIDATES);
    add_ok(u, b, 22, GEMMA_WANT_CANDIDATES);
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_OK);
    assert_int_equal(gm_step_submit(u, NULL), GEMMA_OK);
    assert_int_equal(gm_step_wait(t, 0), GEMMA_OK); /* it was finished by the second submit */
    assert_int_equal(gm_step_wait(u, FOREVER), GEMMA_OK);
    uint32_t n;
    assert_int_equal(gm_step_candidates(t, 0, &n)->id, gm_dummy_best(21, FIX_VOCAB));
    assert_int_equal(gm_step_candidates(u, 0, &n)->id, gm_dummy_best(22, FIX_VOCAB));
    gm_step_destroy(t);
    gm_step_destroy(u);
    gm_session_destroy(a);
    gm_session_destroy(b);
    fixture_destroy(&f);
}

/* Sessions and steps are destroyed in any order, submitted or not. */
static void test_destroy_orders(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 2);
    gm_session *a = fixture_session(&f), *b = fixture_session(&f);
    gm_step *t = new_step(&f);
    add_ok(t, a, 1, 0);
    add_ok(t, b, 1, 0);
    gm_session_destroy(a);
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_E_STATE);
    check_message(gm_step_error(t), GEMMA_E_STATE, "a session with 1 rows in the step was destroyed");
    a = fixture_session(&f);                          /* perhaps at the same address */
    assert_int_equal(add(t, a, 1, 0), GEMMA_E_STATE); /* no more than two sessions */
    gm_step_clear(t);
    add_ok(t, a, 1, 0);
    add_ok(t, b, 1, 0);
    run_step(t);

    gm_step_clear(t);
    add_ok(t, a, 1, 0);
    gm_step_destroy(t); /* not submitted: the session is free again */
    check_content(&f, a);
    t = new_step(&f);
    add_ok(t, a, 1, 0);
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_OK);
    gm_step_destroy(t); /* submitted: its rows count */
    assert_int_equal(gm_session_position(a), 2);
    t = new_step(&f);
    add_ok(t, a, 1, 0);
    add_ok(t, b, 1, 0);
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_OK);
    gm_session_destroy(a);
    assert_int_equal(gm_step_wait(t, FOREVER), GEMMA_OK);
    gm_session_destroy(b);
    gm_step_destroy(t);
    gm_step_destroy(NULL);
    gm_session_destroy(NULL);
    fixture_destroy(&f);
}

/* ---- threads ---- */

typedef struct worker {
    fixture *f;
    uint32_t seed;
    uint32_t n_wrong;
} worker;

static void work(void *arg)
{
    worker *w = arg;
    gm_session *s;
    gm_step *t;
    w->n_wrong += gm_session_create(w->f->engine, 0, &s, NULL) != GEMMA_OK;
    w->n_wrong += gm_step_create(w->f->engine, &t, NULL) != GEMMA_OK;
    if (w->n_wrong) return;
    for (uint32_t round = 0; round < 20; round++) {
        int32_t ids[41];
        memcpy(ids, some_ids(w->seed + round, 40), 40 * sizeof *ids);
        ids[40] = (int32_t)w->seed;
        w->n_wrong += gm_session_feed(s, ids, 40, NULL) != GEMMA_OK;
        gm_step_clear(t);
        w->n_wrong += add(t, s, ids[40], GEMMA_WANT_HIDDEN) != GEMMA_OK;
        w->n_wrong += gm_step_submit(t, NULL) != GEMMA_OK;
        w->n_wrong += gm_step_wait(t, FOREVER) != GEMMA_OK;
        uint32_t n;
        const float *hidden = gm_step_hidden(t, 0, &n);
        w->n_wrong += !hidden || (uint32_t)hidden[1] != gm_dummy_history(ids, 41) % 65536;
        gemma_model_status status;
        gm_engine_query(w->f->engine, &status);
        w->n_wrong += gm_session_rewind(s, 0) != GEMMA_OK;
    }
    gm_step_destroy(t);
    gm_session_destroy(s);
}

static void test_threads(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 128, 4);
    worker workers[4];
    gm_thread *threads[4];
    for (uint32_t i = 0; i < 4; i++) {
        workers[i] = (worker){ .f = &f, .seed = i + 1 };
        assert_int_equal(gm_thread_start(&f.mem, work, &workers[i], &threads[i]), GEMMA_OK);
    }
    for (uint32_t i = 0; i < 4; i++) {
        gm_thread_join(&f.mem, threads[i]);
        assert_int_equal(workers[i].n_wrong, 0);
    }
    gemma_model_status status;
    gm_engine_query(f.engine, &status);
    assert_int_equal(status.rows, 4 * 20 * 41);
    fixture_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_results),       cmocka_unit_test(test_step_refusals),
        cmocka_unit_test(test_step_of_two_models), cmocka_unit_test(test_step_cancelled_and_delayed),
        cmocka_unit_test(test_which_program),      cmocka_unit_test(test_two_steps_at_once),
        cmocka_unit_test(test_destroy_orders),     cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
