/* Tests of lib/kv, most of them walks of random operations over the reference of kv_fixture.h. */
#include "unit/kv_fixture.h"

static gm_kv_shape some_shape(void)
{
    static const uint32_t windows[] = { 1, 2, 17, 63, 64, 65, 128, 130, 200 };
    static const uint32_t slacks[] = { 0, 1, 32, 33, 63, 64, 100 };
    static const uint32_t ubatches[] = { 1, 3, 8, 63, 64, 65, 128, 200 };
    return shape_of(1 + below(900), windows[below(GM_COUNT(windows))], slacks[below(GM_COUNT(slacks))],
                    ubatches[below(GM_COUNT(ubatches))], 1 + below(SESSIONS), below(5));
}

/* Pools that are too small: the old ones stand. */
static void test_no_room_to_move(void **state)
{
    (void)state;
    world w;
    uint32_t map_global[64], map_sliding[64], *map[2] = { map_global, map_sliding };
    gm_page_copy copies[8];
    uint32_t n_copies = 0;
    world_create(&w, shape_of(512, 64, 32, 128, 2, 0));
    for (uint32_t i = 0; i < 2; i++) {
        gm_kv_seq *seq;
        assert_int_equal(gm_kv_seq_create(w.kv, &seq), GEMMA_OK);
        start(&w.sessions[i], seq);
        assert_int_equal(gm_kv_prepare(seq, 128, copies, &n_copies), GEMMA_OK);
        w.sessions[i].prepared = 128;
        write_rows(&w, &w.sessions[i]);
        gm_kv_commit(seq, 128);
        w.sessions[i].length = 128;
    }
    const struct {
        gm_kv_shape shape;
        int code;
    } small[] = { { shape_of(100, 64, 32, 64, 2, 0), GEMMA_E_FULL },
                  { shape_of(512, 64, 32, 64, 1, 0), GEMMA_E_NOPAGES } };
    for (size_t i = 0; i < GM_COUNT(small); i++) {
        gm_kv *kv;
        assert_int_equal(gm_kv_create(&w.mem, &small[i].shape, &kv), GEMMA_OK);
        assert_int_equal(gm_kv_rehouse(w.kv, kv, map), small[i].code);
        gm_kv_abandon(kv);
        check(&w);
    }
    move_house(&w);
    check(&w);
    world_destroy(&w);
}

/* The promise of the header: n_sessions sessions that were not forked never meet NOPAGES. */
static void test_never_short_of_pages(void **state)
{
    (void)state;
    uint32_t n_marked = 0, n_rewound = 0, n_refused = 0;
    for (uint32_t seed = 0; seed < 250; seed++) {
        random_state = seed * 7919;
        world w;
        world_create(&w, some_shape());
        wander(&w, 300, false);
        assert_int_equal(w.n_no_pages, 0);
        assert_int_equal(w.n_copies, 0); /* nothing is shared, so nothing is split */
        n_marked += w.n_marked, n_rewound += w.n_rewound, n_refused += w.n_refused;
        world_destroy(&w);
    }
    assert_true(n_marked > 500 && n_rewound > 1000 && n_refused > 300);
}

static void test_forks(void **state)
{
    (void)state;
    uint32_t n_copies = 0, n_no_pages = 0;
    for (uint32_t seed = 0; seed < 250; seed++) {
        random_state = seed * 104729 + 1;
        world w;
        gm_kv_shape shape = some_shape();
        if (seed % 2) { /* pools too small for all: NOPAGES must change nothing */
            shape.n_global = 1 + shape.n_global / 3;
            shape.n_sliding = 1 + shape.n_sliding / 2;
        }
        world_create(&w, shape);
        wander(&w, 300, true);
        n_copies += w.n_copies, n_no_pages += w.n_no_pages;
        world_destroy(&w);
    }
    assert_true(n_copies > 1000 && n_no_pages > 500);
}

static void test_one_kind_only(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 20; seed++) {
        random_state = seed;
        gm_kv_shape shape = some_shape();
        if (seed % 2)
            shape.n_global = 0;
        else
            shape.n_sliding = shape.window = 0;
        world w;
        world_create(&w, shape);
        wander(&w, 200, true);
        world_destroy(&w);
    }
}

/* ---- by hand ---- */

static void grow(gm_kv_seq *seq, uint32_t n)
{
    gm_page_copy copies[2];
    uint32_t n_copies = 0;
    assert_int_equal(gm_kv_prepare(seq, n, copies, &n_copies), GEMMA_OK);
    assert_int_equal(n_copies, 0);
    gm_kv_commit(seq, n);
}

static void test_window_and_slack(void **state)
{
    (void)state;
    gm_mem mem;
    gm_mem_init(&mem, NULL);
    gm_kv_shape shape = shape_of(4096, 512, 32, 512, 1, 2);
    gm_kv *kv;
    gm_kv_seq *seq;
    assert_int_equal(gm_kv_create(&mem, &shape, &kv), GEMMA_OK);
    assert_int_equal(gm_kv_seq_create(kv, &seq), GEMMA_OK);
    for (uint32_t i = 0; i < 4; i++) grow(seq, 256);
    uint32_t nearest;
    assert_int_equal(gm_kv_window_first(seq), (1024 - 32 - 511) / 64 * 64);
    assert_int_equal(gm_kv_rewind(seq, 10, &nearest), GEMMA_E_REWIND);
    assert_int_equal(nearest, 0);
    assert_int_equal(gm_kv_mark(seq), GEMMA_OK);
    grow(seq, 512), grow(seq, 512);
    assert_int_equal(gm_kv_rewind(seq, 1500, &nearest), GEMMA_E_REWIND);
    assert_int_equal(nearest, 1024);
    assert_int_equal(gm_kv_rewind(seq, 2049, &nearest), GEMMA_E_REWIND); /* forwards */
    assert_int_equal(nearest, 2048);
    assert_int_equal(gm_kv_rewind(seq, 2016, &nearest), GEMMA_OK);
    assert_int_equal(gm_kv_rewind(seq, 1024, &nearest), GEMMA_OK);
    assert_int_equal(gm_kv_unmark(seq, 1024), GEMMA_OK);
    assert_int_equal(gm_kv_unmark(seq, 1024), GEMMA_E_ARG);
    assert_int_equal(gm_kv_rewind(seq, 0, &nearest), GEMMA_OK);
    assert_int_equal(gm_kv_free_pages(kv, GM_KV_SLIDING), shape.n_sliding);
    gm_kv_seq_destroy(seq);
    gm_kv_destroy(kv);
}

/* Why two pages more than ⌈(window + slack) / 64⌉ each: all sessions at once begin a page while the lowest position
 * they still need is the last of its page. */
static void test_worst_alignment(void **state)
{
    (void)state;
    world w;
    world_create(&w, shape_of(1024, 32, 32, 3 * SESSIONS, SESSIONS, 0));
    gm_page_copy copies[2];
    uint32_t n_copies = 0;
    for (uint32_t i = 0; i < SESSIONS; i++) {
        assert_int_equal(gm_kv_seq_create(w.kv, &w.sessions[i].seq), GEMMA_OK);
        while (gm_kv_seq_length(w.sessions[i].seq) < 64 * 3 + 62) grow(w.sessions[i].seq, 2);
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        assert_int_equal(gm_kv_prepare(w.sessions[i].seq, 3, copies, &n_copies), GEMMA_OK);
    }
    assert_int_equal(w.shape.n_sliding - gm_kv_free_pages(w.kv, GM_KV_SLIDING), 3 * SESSIONS);
    world_destroy(&w);
}

static void test_reserve(void **state)
{
    (void)state;
    gm_mem mem;
    gm_mem_init(&mem, NULL);
    gm_kv_shape shape = shape_of(1024, 128, 32, 128, 2, 0);
    shape.n_global = 10;
    gm_kv *kv;
    gm_kv_seq *a, *b, *c;
    assert_int_equal(gm_kv_create(&mem, &shape, &kv), GEMMA_OK);
    assert_int_equal(gm_kv_seq_create(kv, &a), GEMMA_OK);
    assert_int_equal(gm_kv_seq_create(kv, &b), GEMMA_OK);
    assert_int_equal(gm_kv_seq_create(kv, &c), GEMMA_E_NOPAGES);
    assert_null(c);
    grow(b, 65);
    assert_int_equal(gm_kv_reserve(a, 1025), GEMMA_E_FULL);
    assert_int_equal(gm_kv_reserve(a, 8 * 64 + 1), GEMMA_E_NOPAGES);
    assert_int_equal(gm_kv_free_pages(kv, GM_KV_GLOBAL), 8);
    assert_int_equal(gm_kv_reserve(a, 8 * 64), GEMMA_OK);
    assert_int_equal(gm_kv_free_pages(kv, GM_KV_GLOBAL), 0);
    gm_page_copy copies[2];
    uint32_t n_copies = 0;
    assert_int_equal(gm_kv_prepare(b, 64, copies, &n_copies), GEMMA_E_NOPAGES);
    for (uint32_t i = 0; i < 3; i++) grow(a, 128);
    assert_int_equal(gm_kv_prepare(a, 128, copies, &n_copies), GEMMA_OK);
    gm_kv_drop(a);
    assert_int_equal(gm_kv_free_pages(kv, GM_KV_GLOBAL), 0);
    gm_kv_unreserve(a);
    assert_int_equal(gm_kv_free_pages(kv, GM_KV_GLOBAL), 2);
    assert_int_equal(gm_kv_prepare(b, 129, copies, &n_copies), GEMMA_E_ARG);
    gm_kv_seq_destroy(a);
    gm_kv_seq_destroy(b);
    gm_kv_destroy(kv);
}

/* ---- out of memory ---- */

static void test_out_of_memory(void **state)
{
    (void)state;
    gm_kv_shape shape = shape_of(1024, 128, 32, 128, 2, 2);
    gemma_host host;
    gm_mem mem;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    int rc = GEMMA_E_NOMEM;
    for (uint64_t nth = 1; rc == GEMMA_E_NOMEM; nth++) {
        gm_kv *kv;
        gm_kv_seq *a = NULL, *b = NULL;
        fault_fail_nth(nth);
        rc = gm_kv_create(&mem, &shape, &kv);
        assert_true((rc == GEMMA_OK) == (kv != NULL));
        if (!rc) rc = gm_kv_seq_create(kv, &a);
        if (!rc) {
            uint64_t calls = fault_allocations();
            grow(a, 100);
            assert_int_equal(gm_kv_mark(a), GEMMA_OK);
            assert_int_equal(fault_allocations(), calls);
            rc = gm_kv_fork(a, &b);
        }
        assert_true((rc == GEMMA_OK) == !fault_fired());
        gm_kv_seq_destroy(b);
        gm_kv_seq_destroy(a);
        gm_kv_destroy(kv);
        assert_int_equal(fault_live_blocks(), 0);
    }
    assert_int_equal(rc, GEMMA_OK);
    assert_int_equal(fault_mismatches(), 0);
}

static void test_shapes_refused(void **state)
{
    (void)state;
    gm_mem mem;
    gm_mem_init(&mem, NULL);
    gm_kv *kv;
    gm_kv_shape good = shape_of(1024, 128, 32, 128, 2, 2), bad;
    bad = good, bad.ctx = 0;
    assert_int_equal(gm_kv_create(&mem, &bad, &kv), GEMMA_E_ARG);
    bad = good, bad.window = 0;
    assert_int_equal(gm_kv_create(&mem, &bad, &kv), GEMMA_E_ARG);
    bad = good, bad.n_marks = UINT32_MAX;
    assert_int_equal(gm_kv_create(&mem, &bad, &kv), GEMMA_E_ARG);
    assert_null(kv);
    assert_int_equal(gm_kv_sliding_pages(512, 32, 512, 1), 9 + 2 + 8);
    assert_int_equal(gm_kv_mark_pages(512), 9);
    assert_int_equal(gm_kv_mark_pages(0), 0);
    assert_int_equal(gm_kv_global_pages(4097), 65);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_short_of_pages), cmocka_unit_test(test_forks),
        cmocka_unit_test(test_one_kind_only),        cmocka_unit_test(test_window_and_slack),
        cmocka_unit_test(test_worst_alignment),      cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_out_of_memory),        cmocka_unit_test(test_shapes_refused),
        cmocka_unit_test(test_no_room_to_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
