/* A row's logits are the same bits however rows are grouped: pieces, sessions side by side, forks, threads. */
#include "api/world.h"

#include <stdio.h>

enum { WINDOW = 64, LONG = 650, CTX = 704 }; /* LONG: ten windows and two pieces of 512 */

static const gemma_plan_options plan_for_rows = { .size = sizeof plan_for_rows,
                                                  .ctx = CTX,
                                                  .n_sessions = 3,
                                                  .ubatch = CTX,
                                                  .logit_rows = CTX,
                                                  .n_marks = 2,
                                                  .slack = 16,
                                                  .budget_bytes = (uint64_t)4 << 30 };

static void run_for_parts(void *user, uint32_t n_tasks, gemma_task task, void *arg)
{
    (void)user;
    for (uint32_t i = n_tasks; i-- > 0;) task(arg, i); /* any order will do */
}

typedef struct setting {
    const char *device;
    uint32_t kv, n_threads;
    bool host_pool;
} setting;

static void open_with(world *w, const tiny_model *t, const setting *x)
{
    gemma_plan_options o = plan_for_rows;
    world_init(w, t);
    o.kv_global = o.kv_sliding = x->kv;
    w->device = x->device;
    w->n_threads = x->n_threads;
    if (x->host_pool) w->host.parallel_for = run_for_parts;
    world_open(w, &o);
}

static tiny_model model_of(uint32_t family)
{
    tiny_model t;
    tiny_model_defaults(&t, family);
    t.window = WINDOW;
    t.ctx = CTX;
    return t;
}

static tiny_model model_with_experts(void)
{
    tiny_model t = model_of(4);
    t.n_ple = t.n_shared = 0;
    t.n_expert = 4;
    t.k_as_v = true;
    t.n_kv = 2;
    return t;
}

/* ---- pieces ---- */

static float *new_rows(const world *w, uint32_t n)
{
    float *rows = calloc((size_t)n * w->n_vocab, sizeof *rows);
    assert_non_null(rows);
    return rows;
}

/* Rows that wanted nothing hold zeros: they take the oracle's. */
static void fill_unwanted(const world *w, float *rows, const float *oracle, uint32_t n, uint32_t piece)
{
    for (uint32_t r = 0; r + 1 < n; r++) {
        if (r % piece == piece - 1) continue;
        size_t at = (size_t)r * w->n_vocab;
        memcpy(rows + at, oracle + at, w->n_vocab * sizeof *rows);
    }
}

/* Every row in pieces of each size equals the rows of one piece, with all wanted and with the last of each wanted.
 * oracle: NULL, or the rows of another setting that must be the same; *made: this one's. */
static void check_pieces(const tiny_model *t, const setting *x, const uint32_t *pieces, size_t n_pieces, uint32_t n,
                         float **oracle)
{
    world w;
    int32_t ids[LONG];
    char what[128];
    open_with(&w, t, x);
    world_ids(ids, LONG, 1);
    float *whole = new_rows(&w, n), *rows = new_rows(&w, n);
    gemma_session *s = world_session(&w);
    gemma_step *step = world_step(&w);
    world_rows(&w, step, s, ids, n, n, true, whole);
    assert_memory_not_equal(whole, rows, w.n_vocab * sizeof *rows); /* they are not all zero */
    for (size_t i = 0; i < 2 * n_pieces; i++) {
        bool every = i % 2;
        uint32_t piece = pieces[i / 2];
        assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
        memset(rows, 0, (size_t)n * w.n_vocab * sizeof *rows);
        world_rows(&w, step, s, ids, n, piece, every, rows);
        if (!every) fill_unwanted(&w, rows, whole, n, piece);
        snprintf(what, sizeof what, "%s, gemma %u, KV %u, %u threads, pieces of %u, %s wanted",
                 x->device ? x->device : "cpu", t->family, x->kv, x->n_threads, piece,
                 every ? "every row" : "the last");
        assert_same_rows(&w, what, whole, rows, n);
    }
    if (*oracle) assert_same_rows(&w, "another setting", *oracle, whole, n);
    free(*oracle);
    free(rows);
    *oracle = whole;
    gemma_step_destroy(step);
    gemma_session_destroy(s);
    world_close(&w);
}

static const uint32_t all_pieces[] = { 1, 7, 63, 64, 65, 512, LONG }, some_pieces[] = { 1, 64, 65 },
                      few_pieces[] = { 65 };
enum { MEDIUM = 300 }; /* for the reference, which is slow */

static void check_model(const tiny_model *t)
{
    setting cpu = { "cpu", GEMMA_TYPE_F16, 1, false }, reference = { "reference", GEMMA_TYPE_F32, 1, false };
    float *rows = NULL;
    check_pieces(t, &cpu, all_pieces, COUNT(all_pieces), LONG, &rows);
    free(rows);
    rows = NULL;
    check_pieces(t, &reference, some_pieces, COUNT(some_pieces), MEDIUM, &rows);
    free(rows);
}

static void pieces_gemma3(void **state)
{
    (void)state;
    tiny_model t = model_of(3);
    check_model(&t);
}

static void pieces_gemma4(void **state)
{
    (void)state;
    tiny_model t = model_of(4);
    t.type = GM_Q4_0;
    check_model(&t);
}

static void pieces_experts(void **state)
{
    (void)state;
    tiny_model t = model_with_experts();
    check_model(&t);
}

static void check_settings(const char *device, uint32_t kv)
{
    tiny_model t = model_of(4);
    float *rows = NULL;
    for (uint32_t n_threads = 1; n_threads <= 4; n_threads++) {
        setting x = { device, kv, n_threads, n_threads == 4 };
        check_pieces(&t, &x, few_pieces, COUNT(few_pieces), MEDIUM, &rows);
    }
    free(rows);
}

static void threads_and_kv_types(void **state)
{
    (void)state;
    check_settings("cpu", GEMMA_TYPE_F16);
    check_settings("cpu", GEMMA_TYPE_F32);
    check_settings("reference", GEMMA_TYPE_F16);
    check_settings("reference", GEMMA_TYPE_F32);
}

/* ---- sessions side by side ---- */

static void add_row(gemma_step *step, gemma_session *s, int32_t id, uint32_t want)
{
    gemma_row row = { .size = sizeof row, .token = id, .want = want };
    assert_int_equal(gemma_step_add(step, s, &row, NULL), GEMMA_OK);
}

/* Which of two sessions the k-th row of a step is of. */
static int side_of(uint32_t k) { return (k * 5 / 3) % 2; }

static void check_two_sessions(const char *device, uint32_t family)
{
    enum { N = 180 };
    world w;
    tiny_model t = model_of(family);
    setting x = { device, GEMMA_TYPE_DEFAULT, 2, false };
    int32_t ids[2][N];
    float *alone[2], *both[2];
    gemma_session *s[2];
    open_with(&w, &t, &x);
    gemma_step *step = world_step(&w);
    for (int i = 0; i < 2; i++) {
        alone[i] = new_rows(&w, N);
        both[i] = new_rows(&w, N);
        world_ids(ids[i], N, 7 + (uint32_t)i);
        s[i] = world_session(&w);
        world_rows(&w, step, s[i], ids[i], N, 32, true, alone[i]);
        assert_int_equal(gemma_session_rewind(s[i], 0), GEMMA_OK);
    }
    uint32_t fed[2] = { 0, 0 }, size = 1;
    while (fed[0] < N || fed[1] < N) {
        uint32_t first[2] = { fed[0], fed[1] }, n = 0, side[64];
        gemma_step_clear(step);
        for (uint32_t k = 0; n < size && k < 4 * size; k++) {
            int i = side_of(k);
            if (fed[i] == N) continue;
            side[n++] = (uint32_t)i;
            add_row(step, s[i], ids[i][fed[i]++], GEMMA_WANT_LOGITS);
        }
        assert_int_equal(gemma_step_submit(step, NULL), GEMMA_OK);
        assert_int_equal(gemma_step_wait(step, FOREVER), GEMMA_OK);
        for (uint32_t r = 0; r < n; r++) {
            float *to = both[side[r]] + (size_t)first[side[r]]++ * w.n_vocab;
            assert_int_equal(gemma_step_logits(step, r, to, w.n_vocab), GEMMA_OK);
        }
        size = size * 2 % 63;
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gemma_session_position(s[i]), N);
        assert_same_rows(&w, "two sessions", alone[i], both[i], N);
        free(alone[i]);
        free(both[i]);
        gemma_session_destroy(s[i]);
    }
    gemma_step_destroy(step);
    world_close(&w);
}

static void two_sessions(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        check_two_sessions("cpu", family);
        check_two_sessions("reference", family);
    }
}

/* ---- fork, mark, rewind, match ---- */

typedef struct story {
    world w;
    gemma_step *step;
    gemma_session *s;
    int32_t ids[LONG], other[LONG];
    float *rows; /* of ids, from a session that never went back */
} story;

static void begin(story *b, const char *device, uint32_t family)
{
    tiny_model t = model_of(family);
    setting x = { device, GEMMA_TYPE_DEFAULT, 1, false };
    open_with(&b->w, &t, &x);
    b->step = world_step(&b->w);
    b->s = world_session(&b->w);
    world_ids(b->ids, LONG, 3);
    world_ids(b->other, LONG, 4);
    b->rows = new_rows(&b->w, LONG);
    world_rows(&b->w, b->step, b->s, b->ids, LONG, 128, true, b->rows);
    assert_int_equal(gemma_session_rewind(b->s, 0), GEMMA_OK);
}

static void end(story *b)
{
    free(b->rows);
    gemma_step_destroy(b->step);
    gemma_session_destroy(b->s);
    world_close(&b->w);
}

static void feed(gemma_session *s, const int32_t *ids, uint32_t n, uint32_t piece)
{
    gemma_feed_options o = { .size = sizeof o, .piece = piece };
    char message[512];
    int rc = gemma_session_feed(s, ids, n, &o);
    gemma_session_message(s, message, sizeof message);
    assert_ok(rc, message);
}

/* Goes on with ids from where the session stands, up to `to`: the rows are those of a session that never went back. */
static void goes_on(story *b, gemma_session *s, const char *what, uint32_t to)
{
    uint32_t from = gemma_session_position(s), n = to - from;
    int32_t have[LONG];
    assert_int_equal(gemma_session_ids(s, 0, have, LONG), from);
    assert_memory_equal(have, b->ids, from * sizeof *have);
    float *rows = new_rows(&b->w, n);
    world_rows(&b->w, b->step, s, b->ids + from, n, 33, true, rows);
    assert_same_rows(&b->w, what, b->rows + (size_t)from * b->w.n_vocab, rows, n);
    free(rows);
}

static void check_rewind(story *b)
{
    gemma_session *s = b->s;
    feed(s, b->ids, 300, 100);
    feed(s, b->other, 16, 5);
    assert_int_equal(gemma_session_rewind(s, 300), GEMMA_OK);
    goes_on(b, s, "rewound by the slack", 320);
    assert_int_equal(gemma_session_rewind(s, 304), GEMMA_OK);
    goes_on(b, s, "rewound again", 450);
    assert_int_equal(gemma_session_rewind(s, 200), GEMMA_E_REWIND);
    char message[512];
    assert_true(gemma_session_message(s, message, sizeof message) > 0);
    assert_non_null(strstr(message, "200"));
    goes_on(b, s, "a rewind refused", 460);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
    assert_int_equal(gemma_session_room(s), CTX);
    goes_on(b, s, "rewound to 0", 100);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
}

static void check_mark(story *b)
{
    gemma_session *s = b->s;
    feed(s, b->ids, 211, 64);
    assert_int_equal(gemma_session_mark(s), GEMMA_OK);
    goes_on(b, s, "behind a mark", 260);
    assert_int_equal(gemma_session_mark(s), GEMMA_OK);
    feed(s, b->other, 300, 0);
    assert_int_equal(gemma_session_rewind(s, 260), GEMMA_OK);
    goes_on(b, s, "rewound to the second mark", 500);
    assert_int_equal(gemma_session_rewind(s, 211), GEMMA_OK);
    feed(s, b->other, 400, 0);
    assert_int_equal(gemma_session_rewind(s, 211), GEMMA_OK);
    goes_on(b, s, "rewound to the first mark twice", LONG);
    assert_int_equal(gemma_session_unmark(s, 211), GEMMA_OK);
    assert_int_equal(gemma_session_unmark(s, 211), GEMMA_E_ARG);
    assert_int_equal(gemma_session_rewind(s, 211), GEMMA_E_REWIND);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
}

static void check_fork(story *b)
{
    gemma_session *s = b->s, *fork[2];
    feed(s, b->ids, 201, 0);
    for (int i = 0; i < 2; i++) assert_int_equal(gemma_session_fork(s, &fork[i], &b->w.error), GEMMA_OK);
    feed(fork[0], b->other, 20, 3);
    goes_on(b, s, "the parent of a fork", 240);
    goes_on(b, fork[1], "a fork", 330);
    assert_int_equal(gemma_session_rewind(fork[0], 205), GEMMA_OK);
    assert_int_equal(gemma_session_position(fork[0]), 205);
    gemma_session_destroy(fork[0]);
    gemma_session_destroy(s);
    b->s = fork[1];
    goes_on(b, fork[1], "a fork without its parent", 400);
    assert_int_equal(gemma_session_rewind(b->s, 0), GEMMA_OK);
}

static void check_match(story *b)
{
    gemma_session *s = b->s;
    uint32_t kept = 99;
    int32_t ids[LONG];
    feed(s, b->ids, 150, 0);
    memcpy(ids, b->ids, sizeof ids);
    memcpy(ids + 140, b->other, 30 * sizeof *ids);
    assert_int_equal(gemma_session_match(s, ids, 170, &kept), GEMMA_OK);
    assert_int_equal(kept, 140);
    assert_int_equal(gemma_session_position(s), 140);
    goes_on(b, s, "matched within the slack", 150);
    assert_int_equal(gemma_session_match(s, b->ids, 150, &kept), GEMMA_OK);
    assert_int_equal(kept, 149); /* a last token is left to be fed */
    goes_on(b, s, "matched whole", 300);
    ids[20] = b->ids[20] + 1;
    assert_int_equal(gemma_session_match(s, ids, 300, &kept), GEMMA_OK);
    assert_int_equal(kept, 0); /* 20 can no longer be had */
    goes_on(b, s, "matched too far back", 60);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
}

static void going_back(void **state)
{
    static const char *const devices[] = { "cpu", "reference" };
    (void)state;
    for (size_t i = 0; i < 2 * COUNT(devices); i++) {
        story b;
        begin(&b, devices[i / 2], 3 + i % 2);
        check_rewind(&b);
        check_mark(&b);
        check_fork(&b);
        check_match(&b);
        end(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_gemma3),        cmocka_unit_test(pieces_gemma4), cmocka_unit_test(pieces_experts),
        cmocka_unit_test(threads_and_kv_types), cmocka_unit_test(two_sessions),  cmocka_unit_test(going_back),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
