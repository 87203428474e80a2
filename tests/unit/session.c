/* Sessions over the dummy device. Content is checked through the device: the hidden state of a row sums up the tokens
 * that its page table leads to. */
#include "engine_fixture.h"
#include "session/internal.h"

static void test_feed(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 2);
    gm_session *s = fixture_session(&f);
    const int32_t *ids = some_ids(1, 100);
    feed(s, ids, 100);
    assert_int_equal(gm_dummy_count(f.dummy, GM_DUMMY_SUBMIT), 4); /* 32 32 32 4 */
    const gm_dummy_entry *last = gm_dummy_entry_at(f.dummy, gm_dummy_n_entries(f.dummy) - 2);
    assert_int_equal(last->n_rows, 4);
    assert_int_equal(last->n_wanted, 0);
    assert_int_equal(gm_session_position(s), 100);
    assert_int_equal(gm_session_room(s), 412);
    int32_t copy[100];
    assert_int_equal(gm_session_ids(s, 0, copy, 100), 100);
    assert_memory_equal(copy, ids, sizeof copy);
    assert_int_equal(gm_session_ids(s, 98, copy, 100), 2);
    assert_int_equal(gm_session_ids(s, 100, copy, 100), 0);
    check_content(&f, s);

    gemma_model_status status;
    gm_engine_query(f.engine, &status);
    assert_int_equal(status.steps, 5);
    assert_int_equal(status.rows, 101);
    assert_int_equal(status.global_pages - status.global_pages_free, 2);
    gm_session_destroy(s);
    fixture_destroy(&f);
}

static void test_feed_refused(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 100, 2);
    gm_session *s;
    gemma_error error;
    gm_error_init(&error);
    assert_int_equal(gm_session_create(f.engine, 101, &s, &error), GEMMA_E_ARG);
    assert_null(s);
    check_message(&error, GEMMA_E_ARG, "101 tokens: the plan has room for 100");
    assert_int_equal(gm_session_create(f.engine, 50, &s, &error), GEMMA_OK);
    feed(s, some_ids(1, 20), 20);
    int32_t ids[40] = { 1, 2, FIX_VOCAB };
    assert_int_equal(gm_session_feed(s, ids, 0, NULL), GEMMA_E_ARG);
    assert_int_equal(gm_session_feed(s, ids, 3, NULL), GEMMA_E_TOKEN);
    check_message(gm_session_error(s), GEMMA_E_TOKEN, "id 383 at 2 is not one of 383");
    ids[2] = -1;
    assert_int_equal(gm_session_feed(s, ids, 3, NULL), GEMMA_E_TOKEN);
    ids[2] = 0;
    assert_int_equal(gm_session_feed(s, ids, 31, NULL), GEMMA_E_FULL);
    check_message(gm_session_error(s), GEMMA_E_FULL, "31 tokens, but the session has 30 of 50 left");
    gemma_feed_options bad = { .size = 4 };
    assert_int_equal(gm_session_feed(s, ids, 3, &bad), GEMMA_E_ARG);
    assert_int_equal(gm_session_position(s), 20);
    feed(s, ids, 30);
    assert_int_equal(gm_session_room(s), 0);
    assert_int_equal(gm_session_feed(s, ids, 1, NULL), GEMMA_E_FULL);

    gm_session *second = fixture_session(&f), *third;
    assert_int_equal(gm_session_create(f.engine, 0, &third, &error), GEMMA_E_NOPAGES);
    check_message(&error, GEMMA_E_NOPAGES, "all 2 sessions");
    assert_int_equal(gm_session_fork(s, &third, &error), GEMMA_E_NOPAGES);
    assert_null(third);
    gm_session_destroy(second);
    gm_session_destroy(s);
    fixture_destroy(&f);
}

/* Too few pages for two: what one holds the other cannot have, and nothing changes. */
static void test_no_pages(void **state)
{
    (void)state;
    fixture f;
    gm_kv_shape shape = fixture_shape(512, 2);
    shape.n_global = 8;
    fixture_plan(&f, shape);
    assert_int_equal(fixture_engine(&f, NULL), GEMMA_OK);
    gm_session *a = fixture_session(&f), *b = fixture_session(&f);
    feed(a, some_ids(1, 300), 300);
    feed(b, some_ids(2, 100), 100);
    uint32_t submits = gm_dummy_count(f.dummy, GM_DUMMY_SUBMIT);
    assert_int_equal(gm_session_feed(b, some_ids(2, 100), 100, NULL), GEMMA_E_NOPAGES);
    check_message(gm_session_error(b), GEMMA_E_NOPAGES, "100 tokens from position 100");
    assert_int_equal(gm_session_position(b), 100);
    assert_int_equal(gm_dummy_count(f.dummy, GM_DUMMY_SUBMIT), submits);

    feed(b, some_ids(3, 28), 28);
    feed(a, some_ids(4, 20), 20); /* 5 pages hold a's 320, 2 hold b's 128 */
    gm_step *t = new_step(&f);
    add_ok(t, b, 1, 0);
    add_ok(t, a, 1, 0);
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_E_NOPAGES); /* one page is free, each needs one */
    check_message(gm_step_error(t), GEMMA_E_NOPAGES, "1 rows from position 320");
    assert_int_equal(gm_step_wait(t, 0), GEMMA_E_STATE);
    assert_int_equal(gm_session_position(a), 320);
    assert_int_equal(gm_session_position(b), 128);
    gemma_model_status status;
    gm_engine_query(f.engine, &status);
    assert_int_equal(status.global_pages_free, 1);
    gm_step_clear(t);
    check_content(&f, b);
    gm_session_destroy(b);
    add_ok(t, a, 1, 0);
    run_step(t);
    gm_step_destroy(t);
    check_content(&f, a);
    gm_session_destroy(a);
    fixture_destroy(&f);
}

typedef struct watcher {
    uint64_t stop_at, last, total;
    gemma_cancel *cancel; /* raised instead of a non-zero answer */
} watcher;
static int watch(void *user, uint64_t done, uint64_t total)
{
    watcher *w = user;
    assert_true(done > w->last);
    w->last = done;
    w->total = total;
    if (done < w->stop_at) return 0;
    if (!w->cancel) return 1;
    atomic_store(&w->cancel->raised, 1);
    return 0;
}

static void test_feed_cancelled(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 1);
    gm_session *s = fixture_session(&f);
    gemma_cancel cancel;
    for (uint64_t at = 10; at <= 60; at += 10) {
        for (int raise = 0; raise < 2; raise++) {
            cancel_init(&cancel);
            watcher w = { .stop_at = at, .cancel = raise ? &cancel : NULL };
            gemma_feed_options o = { .size = sizeof o, .piece = 10, .progress = watch, .progress_user = &w };
            o.cancel = &cancel;
            int rc = gm_session_feed(s, some_ids(1, 60), 60, &o);
            assert_int_equal(rc, at < 60 ? GEMMA_E_CANCELLED : GEMMA_OK);
            if (rc) check_message(gm_session_error(s), GEMMA_E_CANCELLED, "of 60 tokens fed");
            assert_int_equal(w.last, at);
            assert_int_equal(w.total, 60);
            assert_int_equal(gm_session_position(s), at);
            check_content(&f, s);
            assert_int_equal(pages_in_use(&f), 2);
            assert_int_equal(gm_session_rewind(s, 0), GEMMA_OK);
        }
    }
    /* raised beforehand; raised while the device works */
    gemma_feed_options o = { .size = sizeof o, .piece = 10, .cancel = &cancel };
    assert_int_equal(gm_session_feed(s, some_ids(1, 60), 60, &o), GEMMA_E_CANCELLED);
    assert_int_equal(gm_session_position(s), 0);
    atomic_store(&cancel.raised, 0);
    gm_dummy_fail(f.dummy, GM_DUMMY_SUBMIT, 3, GEMMA_E_CANCELLED);
    assert_int_equal(gm_session_feed(s, some_ids(1, 400), 400, &o), GEMMA_E_CANCELLED);
    check_message(gm_session_error(s), GEMMA_E_CANCELLED, "20 of 400");
    assert_int_equal(pages_in_use(&f), 2); /* what was reserved is given back */
    check_content(&f, s);
    gm_session_destroy(s);
    fixture_destroy(&f);
}

static void test_lost(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 1);
    gm_session *s = fixture_session(&f);
    gm_dummy_fail(f.dummy, GM_DUMMY_WAIT, 3, GEMMA_E_LOST);
    assert_int_equal(gm_session_feed(s, some_ids(1, 200), 200, NULL), GEMMA_E_LOST);
    check_message(gm_session_error(s), GEMMA_E_LOST, "told to fail");
    assert_int_equal(gm_session_position(s), 64);
    uint32_t submits = gm_dummy_count(f.dummy, GM_DUMMY_SUBMIT);
    assert_int_equal(gm_session_feed(s, some_ids(1, 5), 5, NULL), GEMMA_E_LOST);
    check_message(gm_session_error(s), GEMMA_E_LOST, "load the model again");
    assert_int_equal(gm_dummy_count(f.dummy, GM_DUMMY_SUBMIT), submits);
    gemma_model_status status;
    gm_engine_query(f.engine, &status);
    assert_int_equal(status.lost, 1);
    assert_int_equal(gm_session_rewind(s, 0), GEMMA_OK);
    gm_session_destroy(s);
    fixture_destroy(&f);
}

static void test_rewind_and_marks(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 2);
    gm_session *s = fixture_session(&f), *other = fixture_session(&f);
    feed(s, some_ids(1, 150), 150);
    assert_int_equal(gm_session_mark(s), GEMMA_OK);
    feed(s, some_ids(2, 250), 250);
    assert_int_equal(gm_session_rewind(s, 500), GEMMA_E_REWIND);
    check_message(gm_session_error(s), GEMMA_E_REWIND, "rewind to 500: the session stands at 400");
    assert_int_equal(gm_session_rewind(s, 200), GEMMA_E_REWIND);
    check_message(gm_session_error(s), GEMMA_E_REWIND,
                  "rewind to 200: positions below 256 have left the window; the nearest that can be had is 150");
    assert_int_equal(gm_session_position(s), 400);
    check_content(&f, s);
    assert_int_equal(gm_session_rewind(s, 370), GEMMA_OK);
    check_content(&f, s);
    assert_int_equal(gm_session_rewind(s, 150), GEMMA_OK);
    check_content(&f, s);

    assert_int_equal(gm_session_mark(other), GEMMA_OK);
    feed(s, some_ids(3, 1), 1);
    assert_int_equal(gm_session_mark(s), GEMMA_E_NOPAGES);
    check_message(gm_session_error(s), GEMMA_E_NOPAGES, "mark at 151: other sessions hold some of the plan's 2");
    assert_int_equal(gm_session_unmark(s, 7), GEMMA_E_ARG);
    assert_int_equal(gm_session_unmark(s, 150), GEMMA_OK);
    gm_session_destroy(other);
    gm_session_destroy(s);
    fixture_destroy(&f);
}

static void test_fork(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 3);
    gm_session *a = fixture_session(&f), *b, *c;
    feed(a, some_ids(1, 100), 100);
    assert_int_equal(gm_session_fork(a, &b, NULL), GEMMA_OK);
    assert_int_equal(gm_session_fork(b, &c, NULL), GEMMA_OK);
    assert_int_equal(gm_session_position(c), 100);
    feed(b, some_ids(2, 40), 40);
    gm_step *t = new_step(&f); /* both write to the page they share, in one step */
    add_ok(t, c, 3, 0);
    add_ok(t, a, 4, 0);
    add_ok(t, c, 5, 0);
    run_step(t);
    gm_step_destroy(t);
    check_content(&f, a);
    check_content(&f, b);
    check_content(&f, c);
    gm_session_destroy(a);
    check_content(&f, c);
    assert_int_equal(gm_session_rewind(b, 110), GEMMA_OK);
    check_content(&f, b);
    gm_session_destroy(b);
    gm_session_destroy(c);
    fixture_destroy(&f);
}

static void test_match(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 1);
    gm_session *s = fixture_session(&f);
    int32_t ids[300];
    memcpy(ids, some_ids(1, 300), sizeof ids);
    uint32_t kept;
    assert_int_equal(gm_session_match(s, ids, 0, &kept), GEMMA_E_ARG);
    assert_int_equal(gm_session_match(s, ids, 5, &kept), GEMMA_OK);
    assert_int_equal(kept, 0);
    feed(s, ids, 300);
    assert_int_equal(gm_session_match(s, ids, 300, &kept), GEMMA_OK); /* one must be left to feed */
    assert_int_equal(kept, 299);
    assert_int_equal(gm_session_position(s), 299);
    ids[280]++;
    assert_int_equal(gm_session_match(s, ids, 300, &kept), GEMMA_OK);
    assert_int_equal(kept, 280);
    check_content(&f, s);
    ids[10]++; /* far behind the window: from the beginning */
    assert_int_equal(gm_session_match(s, ids, 300, &kept), GEMMA_OK);
    assert_int_equal(kept, 0);
    feed(s, ids, 50);
    assert_int_equal(gm_session_mark(s), GEMMA_OK);
    feed(s, ids + 50, 200);
    ids[120]++;
    assert_int_equal(gm_session_match(s, ids, 300, &kept), GEMMA_OK);
    assert_int_equal(kept, 50);
    feed(s, ids + 50, 250);
    check_content(&f, s);
    gm_session_destroy(s);
    fixture_destroy(&f);
}

/* Positions count from 0 in the pages, from first_position in the rotary angles. */
static void test_first_position(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 2);
    gm_session *s, *fork;
    gemma_error error;
    gm_error_init(&error);
    assert_int_equal(gm_session_create_at(f.engine, 0, (1u << 28) + 1, &s, &error), GEMMA_E_ARG);
    check_message(&error, GEMMA_E_ARG, "first_position");
    assert_int_equal(gm_session_create_at(f.engine, 0, 1000, &s, &error), GEMMA_OK);
    feed(s, some_ids(1, 10), 10);
    assert_int_equal(gm_session_fork(s, &fork, &error), GEMMA_OK);
    gm_step *t = new_step(&f);
    add_ok(t, s, 1, 0);
    add_ok(t, fork, 1, 0);
    run_step(t);
    for (uint32_t r = 0; r < 2; r++) {
        assert_int_equal(f.engine->blocks[0].position[r], 10);
        assert_int_equal(f.engine->blocks[0].angle[r], 1010);
    }
    gm_step_destroy(t);
    check_content(&f, s);
    gm_session_destroy(s);
    gm_session_destroy(fork);
    fixture_destroy(&f);
}

/* ---- memory ---- */

static int build_all(fixture *f, gm_session **a, gm_session **b, gm_step **t, gemma_error *error)
{
    int rc = fixture_engine(f, error);
    if (!rc) rc = gm_session_create(f->engine, 0, a, error);
    if (!rc) {
        uint64_t n = fault_allocations();
        feed(*a, some_ids(1, 90), 90);
        assert_int_equal(gm_session_mark(*a), GEMMA_OK);
        assert_int_equal(gm_session_rewind(*a, 70), GEMMA_OK);
        assert_int_equal(fault_allocations(), n);
        rc = gm_session_fork(*a, b, error);
    }
    if (!rc) rc = gm_step_create(f->engine, t, error);
    if (!rc) {
        uint64_t n = fault_allocations();
        add_ok(*t, *a, 1, GEMMA_WANT_LOGITS);
        add_ok(*t, *b, 1, GEMMA_WANT_CANDIDATES);
        run_step(*t);
        assert_int_equal(fault_allocations(), n);
    }
    return rc;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    int rc = GEMMA_E_NOMEM;
    uint64_t nth = 0;
    while (rc == GEMMA_E_NOMEM) {
        fixture f;
        fixture_plan(&f, fixture_shape(512, 2));
        gm_session *a = NULL, *b = NULL;
        gm_step *t = NULL;
        gemma_error error;
        gm_error_init(&error);
        fault_fail_nth(++nth);
        rc = build_all(&f, &a, &b, &t, &error);
        assert_true((rc == GEMMA_OK) == !fault_fired());
        fault_fail_nth(0);
        gm_step_destroy(t);
        gm_session_destroy(b);
        gm_session_destroy(a);
        fixture_destroy(&f);
    }
    assert_int_equal(rc, GEMMA_OK);
    assert_true(nth > 15);
}

/* What a plan says a session and a step take is what they take (but for the allocator's own 16 bytes a block). */
static void test_stated_bytes(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 2);
    uint64_t before = fault_live_bytes(GEMMA_TAG_OBJECT);
    gm_session *s = fixture_session(&f);
    uint64_t after = fault_live_bytes(GEMMA_TAG_OBJECT);
    assert_int_equal(after - before, gm_engine_session_bytes(&f.plan));
    gm_step *t = new_step(&f);
    assert_int_equal(fault_live_bytes(GEMMA_TAG_OBJECT) - after, gm_engine_step_bytes(&f.plan));
    gm_step_destroy(t);
    gm_session_destroy(s);
    fixture_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_feed),           cmocka_unit_test(test_feed_refused),
        cmocka_unit_test(test_no_pages),       cmocka_unit_test(test_feed_cancelled),
        cmocka_unit_test(test_lost),           cmocka_unit_test(test_rewind_and_marks),
        cmocka_unit_test(test_fork),           cmocka_unit_test(test_match),
        cmocka_unit_test(test_first_position), cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_stated_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
