/* Saved sessions over the dummy device, whose hidden state tells what the pages hold: what is saved comes back; what is
 * damaged, cut short or of another kind is refused with the session empty as before. */
#include "engine_fixture.h"
#include "session_save.h"

#define MODEL 0x1234u /* an identity */

static void raise_it(gemma_cancel *c) { atomic_store(&c->raised, 1); }

static int save(gm_session *s, blob *b)
{
    gemma_save_options o = blob_save(b);
    return gm_session_save(s, MODEL, &o);
}

static int load(gm_session *s, blob *b)
{
    gemma_restore_options o = blob_load(b);
    return gm_session_load(s, MODEL, &o);
}

static void load_ok(gm_session *s, blob *b)
{
    if (load(s, b)) fail_msg("%s", gm_session_error(s)->message);
}

/* Of n tokens fed in one go. */
static void make_blob(fixture *f, uint32_t seed, uint32_t n, blob *b)
{
    gm_session *s = fixture_session(f);
    if (n) feed(s, some_ids(seed, n), n);
    blob_init(b);
    assert_int_equal(save(s, b), GEMMA_OK);
    gm_session_destroy(s);
}

static void test_hash(void **state)
{
    (void)state;
    char long_text[101];
    for (int i = 0; i < 101; i++) long_text[i] = (char)(i * 7);
    assert_int_equal(gm_hash64("", 0, 0), 0xef46db3751d8e999u);
    assert_int_equal(gm_hash64("abc", 3, 0), 0x44bc2cf5ad770999u);
    assert_int_equal(gm_hash64("Nobody inspects the spammish repetition", 39, 0), 0xfbcea83c8a378bf1u);
    assert_int_equal(gm_hash64(long_text, 101, 7), 0x8e5fc091f7e32655u);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const uint32_t lengths[] = { 0, 1, 63, 64, 65, 96, 100, 200, 511 };
    for (size_t i = 0; i < GM_COUNT(lengths); i++) {
        fixture f;
        fixture_create(&f, 512, 2);
        blob b, again;
        uint32_t n = lengths[i];
        make_blob(&f, 3, n, &b);
        gm_session *s = fixture_session(&f);
        b.most = 1000;
        load_ok(s, &b);
        assert_int_equal(gm_session_position(s), n);
        if (n) check_content(&f, s);
        blob_init(&again);
        assert_int_equal(save(s, &again), GEMMA_OK);
        assert_int_equal(again.n, b.n);
        assert_memory_equal(again.data, b.data, b.n);
        assert_int_equal(load(s, &b), n ? GEMMA_E_STATE : GEMMA_OK);
        /* it goes on, and back by the slack */
        if (n > 32 && n < 511) {
            uint32_t more = gm_min_u32(512 - n - 1, 40);
            feed(s, some_ids(9, more), more);
            check_content(&f, s);
            assert_int_equal(gm_session_rewind(s, n + more - 32), GEMMA_OK);
            check_content(&f, s);
        }
        gm_session_destroy(s);
        free(b.data);
        free(again.data);
        fixture_destroy(&f);
    }
}

/* After a fork and a rewind, too: only what the session sees is in it. */
static void test_shared_pages(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 512, 3);
    gm_session *s = fixture_session(&f), *fork;
    feed(s, some_ids(1, 100), 100);
    assert_int_equal(gm_session_fork(s, &fork, NULL), GEMMA_OK);
    feed(fork, some_ids(2, 20), 20);
    assert_int_equal(gm_session_rewind(fork, 110), GEMMA_OK);
    blob b, plain;
    blob_init(&b);
    assert_int_equal(save(fork, &b), GEMMA_OK);
    gm_session_destroy(s);
    gm_session_destroy(fork);
    s = fixture_session(&f);
    feed(s, some_ids(1, 100), 100);
    feed(s, some_ids(2, 20), 10);
    blob_init(&plain);
    assert_int_equal(save(s, &plain), GEMMA_OK);
    assert_int_equal(plain.n, b.n);
    assert_memory_equal(plain.data, b.data, b.n);
    gm_session_destroy(s);
    free(b.data);
    free(plain.data);
    fixture_destroy(&f);
}

/* The load failed: nothing is held, and the session can be used. */
static void assert_empty(fixture *f, gm_session *s)
{
    assert_int_equal(gm_session_position(s), 0);
    assert_int_equal(pages_in_use(f), 0);
    assert_true(gm_session_error(s)->message[0]);
}

static void test_cut_short(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 128, 1);
    blob b;
    make_blob(&f, 4, 20, &b);
    gm_session *s = fixture_session(&f);
    size_t whole = b.n;
    for (b.n = 0; b.n < whole; b.n++) {
        assert_int_equal(load(s, &b), GEMMA_E_FORMAT);
        assert_empty(&f, s);
    }
    check_message(gm_session_error(s), GEMMA_E_FORMAT, "cut short");
    load_ok(s, &b);
    check_content(&f, s);
    gm_session_destroy(s);
    free(b.data);
    fixture_destroy(&f);
}

static uint32_t random_of(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void test_damaged(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 256, 1);
    blob b;
    make_blob(&f, 5, 150, &b);
    gm_session *s = fixture_session(&f);
    uint8_t *good = malloc(b.n);
    memcpy(good, b.data, b.n);
    for (uint32_t seed = 0; seed < 1500; seed++) {
        uint32_t state_of = seed, n = 1 + seed % 5;
        size_t range = seed % 3 ? b.n : 700; /* a third of them in the header and the ids */
        for (uint32_t i = 0; i < n; i++) {
            size_t at = ((size_t)random_of(&state_of) << 8 ^ random_of(&state_of)) % range;
            b.data[at] ^= (uint8_t)(1u << i);
        }
        int rc = load(s, &b);
        assert_true(rc == GEMMA_E_FORMAT || rc == GEMMA_E_UNSUPPORTED);
        assert_empty(&f, s);
        memcpy(b.data, good, b.n);
    }
    load_ok(s, &b);
    check_content(&f, s);
    gm_session_destroy(s);
    free(b.data);
    free(good);
    fixture_destroy(&f);
}

/* Puts a number into the header and its checksum right. */
static void set_header(blob *b, uint32_t at, uint32_t value)
{
    gm_store_u32(b->data + at, value);
    gm_store_u64(b->data + 72, gm_hash64(b->data, 72, 0));
}

static void test_hostile_header(void **state)
{
    (void)state;
    static const struct {
        uint32_t at, value;
        int code;
        const char *part;
    } cases[] = {
        { 8, 2, GEMMA_E_UNSUPPORTED, "version 2; this library knows 1" },
        { 12, 96, GEMMA_E_FORMAT, "header" },
        { 16, 0x4321, GEMMA_E_ARG, "another model (4321, this is 1234)" },
        { 24, 1, GEMMA_E_FORMAT, "says it has 1 bytes" },
        { 32, 257, GEMMA_E_FULL, "257 tokens; this one has room for 256" },
        { 32, UINT32_MAX, GEMMA_E_FULL, "room for 256" },
        { 32, 1, GEMMA_E_FORMAT, "1 tokens in 3 global pages" },
        { 36, UINT32_MAX, GEMMA_E_FORMAT, "first_position" },
        { 40, 3, GEMMA_E_ARG, "another model" },
        { 44, 1, GEMMA_E_ARG, "global KV of type F16; the plan has F32" },
        { 48, 8, GEMMA_E_ARG, "sliding KV of type Q8_0; the plan has F32" },
        { 48, 99999, GEMMA_E_ARG, "sliding KV of type unknown" },
        { 52, UINT32_MAX, GEMMA_E_FORMAT, "150 tokens in 4294967295 global pages" },
        { 56, UINT32_MAX, GEMMA_E_FORMAT, "sliding" },
        { 60, UINT32_MAX, GEMMA_E_FORMAT, "sliding" },
        { 64, 1, GEMMA_E_FORMAT, "header" },
    };
    fixture f;
    fixture_create(&f, 256, 2);
    for (size_t i = 0; i < GM_COUNT(cases); i++) {
        blob b;
        make_blob(&f, 5, 150, &b);
        gm_session *s = fixture_session(&f);
        set_header(&b, cases[i].at, cases[i].value);
        assert_int_equal(load(s, &b), cases[i].code);
        check_message(gm_session_error(s), cases[i].code, cases[i].part);
        assert_empty(&f, s);
        gm_session_destroy(s);
        free(b.data);
    }
    /* Sliding pages that begin behind the window, and an id that is none. */
    blob b;
    make_blob(&f, 5, 150, &b);
    gm_session *s = fixture_session(&f);
    uint32_t n_sliding = gm_load_u32(b.data + 60);
    gm_store_u32(b.data + 60, 1);
    gm_store_u64(b.data + 24, gm_load_u64(b.data + 24) - (n_sliding - 1) * (2 * gm_kv_page_bytes(&f.kv[1]) + 8));
    set_header(&b, 56, 2);
    assert_int_equal(load(s, &b), GEMMA_E_FORMAT);
    check_message(gm_session_error(s), GEMMA_E_FORMAT, "not the window of 150 tokens");
    assert_empty(&f, s);
    free(b.data);
    make_blob(&f, 5, 150, &b);
    gm_store_u32(b.data + 80 + 4 * 17, FIX_VOCAB);
    gm_store_u64(b.data + 80 + 600, gm_hash64(b.data + 80, 600, 0));
    assert_int_equal(load(s, &b), GEMMA_E_FORMAT);
    check_message(gm_session_error(s), GEMMA_E_FORMAT, "id 383 at 17 is not one of 383");
    assert_empty(&f, s);
    gm_session_destroy(s);
    free(b.data);
    fixture_destroy(&f);
}

/* Every call of the host's fails once, or raises the cancel. */
static void test_callbacks(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 256, 2);
    blob good;
    make_blob(&f, 6, 150, &good);
    gm_session *full = fixture_session(&f), *s = fixture_session(&f);
    feed(full, some_ids(6, 150), 150);
    uint32_t held = pages_in_use(&f);
    gemma_cancel cancel;
    for (int with_cancel = 0; with_cancel < 2; with_cancel++) {
        int want = with_cancel ? GEMMA_E_CANCELLED : GEMMA_E_IO;
        for (size_t n = 0; n < good.n_calls; n++) {
            blob b;
            blob_init(&b);
            cancel_init(&cancel);
            b.fail_at = n;
            if (with_cancel) b.cancel = &cancel, b.raise = raise_it;
            gemma_save_options o = blob_save(&b);
            o.cancel = &cancel;
            bool last = with_cancel && n + 1 == good.n_calls; /* all is written by then */
            assert_int_equal(gm_session_save(full, MODEL, &o), last ? GEMMA_OK : want);
            assert_int_equal(gm_session_position(full), 150);
            free(b.data);
            cancel_init(&cancel);
            b = good;
            b.n_calls = 0;
            b.fail_at = n;
            if (with_cancel) b.cancel = &cancel, b.raise = raise_it;
            gemma_restore_options r = blob_load(&b);
            r.cancel = &cancel;
            assert_int_equal(gm_session_load(s, MODEL, &r), last ? GEMMA_OK : want);
            assert_int_equal(gm_session_position(s), last ? 150 : 0);
            assert_int_equal(pages_in_use(&f), last ? 2 * held : held);
        }
    }
    check_content(&f, full);
    gm_session_destroy(full);
    gm_session_destroy(s);
    free(good.data);
    fixture_destroy(&f);
}

static void test_no_memory(void **state)
{
    (void)state;
    fixture f;
    fixture_create(&f, 256, 2);
    blob b, out;
    make_blob(&f, 6, 150, &b);
    gm_session *s = fixture_session(&f);
    for (uint64_t nth = 1;; nth++) {
        fault_fail_nth(nth);
        int rc = load(s, &b);
        if (!fault_fired()) break;
        assert_int_equal(rc, GEMMA_E_NOMEM);
        assert_empty(&f, s);
    }
    fault_fail_nth(1);
    blob_init(&out);
    assert_int_equal(save(s, &out), GEMMA_E_NOMEM);
    assert_int_equal(out.n_calls, 0);
    fault_fail_nth(0);
    check_content(&f, s);
    gm_session_destroy(s);
    free(b.data);
    fixture_destroy(&f);
}

static void test_no_room(void **state)
{
    (void)state;
    fixture f;
    gm_kv_shape shape = fixture_shape(256, 2);
    shape.n_global = 5;
    fixture_plan(&f, shape);
    assert_int_equal(fixture_engine(&f, NULL), GEMMA_OK);
    blob b;
    make_blob(&f, 6, 150, &b);
    gm_session *other = fixture_session(&f), *s = fixture_session(&f), *short_one;
    feed(other, some_ids(1, 150), 150);
    uint32_t held = pages_in_use(&f);
    assert_int_equal(load(s, &b), GEMMA_E_NOPAGES);
    check_message(gm_session_error(s), GEMMA_E_NOPAGES, "150 tokens: other sessions hold the pages (free: 2 global");
    assert_int_equal(pages_in_use(&f), held);
    gm_session_destroy(other);
    assert_int_equal(gm_session_create(f.engine, 149, &short_one, NULL), GEMMA_OK);
    assert_int_equal(load(short_one, &b), GEMMA_E_FULL);
    check_message(gm_session_error(short_one), GEMMA_E_FULL, "150 tokens; this one has room for 149");
    gm_session_destroy(short_one);
    load_ok(s, &b);
    check_content(&f, s);
    gm_step *t = new_step(&f);
    add_ok(t, s, 7, 0);
    assert_int_equal(save(s, &b), GEMMA_E_STATE);
    gm_step_destroy(t);
    gm_session_destroy(s);
    free(b.data);
    fixture_destroy(&f);
}

/* Saved with a longer or a shorter slack than that of the plan that loads it. */
static void test_other_slack(void **state)
{
    (void)state;
    static const uint32_t slacks[][2] = { { 200, 0 }, { 0, 200 } };
    for (size_t i = 0; i < 2; i++) {
        fixture f;
        blob b;
        for (int loads = 0; loads < 2; loads++) {
            gm_kv_shape shape = fixture_shape(512, 1);
            shape.slack = slacks[i][loads];
            shape.n_sliding = gm_kv_sliding_pages(FIX_WINDOW, shape.slack, shape.ubatch, 1);
            fixture_plan(&f, shape);
            assert_int_equal(fixture_engine(&f, NULL), GEMMA_OK);
            if (!loads) {
                make_blob(&f, 8, 400, &b);
            } else {
                gm_session *s = fixture_session(&f);
                load_ok(s, &b);
                check_content(&f, s);
                feed(s, some_ids(2, 100), 100);
                check_content(&f, s);
                gm_session_destroy(s);
                free(b.data);
            }
            fixture_destroy(&f);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash),        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_shared_pages),
        cmocka_unit_test(test_cut_short),   cmocka_unit_test(test_damaged),    cmocka_unit_test(test_hostile_header),
        cmocka_unit_test(test_callbacks),   cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_other_slack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
