/* Gemma 4's shapes (per-layer embeddings with shared KV, dense, experts; data/tiny, data/nano): a row's logits do not
 * depend on how rows are grouped, on forks, marks and rewinds, past the window, with and without the cut.
 *
 * usage: rows_gemma4 [DEVICE]
 *
 * On the CPU they are the same bits. On other devices they are so for steps of the same shape; for others they are close:
 * sums have another order. */
#include "api/world.h"

#include <math.h>
#include <stdio.h>

enum { CTX = 192, N = 160, N_MODELS = 4 }; /* windows are 16 and 64 */

static const double close_enough = 1e-3; /* of the largest logit */

static const struct model {
    const char *path;
    uint32_t n_vocab;
} models[N_MODELS] = {
    { "data/tiny/tiny-gemma4-e2b.Q4_K_M.gguf", 1024 },
    { "data/tiny/tiny-gemma4-dense.Q4_K_M.gguf", 1024 },
    { "data/tiny/tiny-gemma4-moe.Q4_K_M.gguf", 1024 },
    { "data/nano/nano-gemma4-e2b.Q8_0.gguf", 1280 },
};
enum { E2B, DENSE, MOE, NANO };

static const char *device = "cpu";
static bool bitwise = true;

typedef struct bench {
    world w;
    const struct model *m;
    gemma_step *step;
    gemma_session *s;
    int32_t ids[N], other[N];
    float *rows; /* of ids, in steps of 32, all wanted */
} bench;

static void make_ids(const bench *b, int32_t *ids, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 1;
    for (uint32_t i = 0; i < N; i++) {
        state = state * 1664525u + 1013904223u;
        ids[i] = 6 + (int32_t)((state >> 8) % (b->m->n_vocab - 6));
    }
}

static float *new_rows(const bench *b, uint32_t n)
{
    float *rows = calloc((size_t)n * b->w.n_vocab, sizeof *rows);
    assert_non_null(rows);
    return rows;
}

static void read_file(world *w, const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    w->n_bytes = (size_t)ftell(f);
    rewind(f);
    w->bytes = aligned_alloc(64, (w->n_bytes + 63) / 64 * 64);
    assert_non_null(w->bytes);
    assert_int_equal(fread(w->bytes, 1, w->n_bytes, f), w->n_bytes);
    fclose(f);
}

/* False: the device does not run this model, and says so. */
static bool runs(const bench *b, const gemma_plan_options *options)
{
    world w = { .host = b->w.host };
    gemma_error e = { .size = sizeof e };
    gemma_plan_options po = *options;
    gemma_file_options fo = { .size = sizeof fo, .bytes = b->w.bytes, .n_bytes = b->w.n_bytes };
    assert_ok(gemma_runtime_create(&w.host, NULL, &w.runtime, &e), e.message);
    assert_ok(gemma_device_find(w.runtime, device, &po.device, &e), e.message);
    assert_ok(gemma_file_open(w.runtime, NULL, &fo, &w.file, &e), e.message);
    int rc = gemma_plan_create(w.file, &po, &w.plan, &e);
    if (!rc) rc = gemma_model_load(w.plan, NULL, &w.model, &e);
    if (rc == GEMMA_E_UNSUPPORTED)
        print_message("%s on %s: %s\n", b->m->path, device, e.message);
    else
        assert_ok(rc, e.message);
    gemma_model_close(w.model);
    gemma_plan_destroy(w.plan);
    gemma_file_close(w.file);
    gemma_runtime_destroy(w.runtime);
    return rc == GEMMA_OK;
}

static bool begin(bench *b, int model)
{
    gemma_plan_options o = { .size = sizeof o, .ctx = CTX, .n_sessions = 3, .ubatch = CTX, .logit_rows = CTX };
    o.n_marks = 2;
    o.slack = 8;
    o.budget_bytes = (uint64_t)1 << 30;
    *b = (bench){ .m = &models[model] };
    b->w = (world){ .n_threads = 2, .device = device, .error = { .size = sizeof b->w.error } };
    b->w.n_vocab = b->m->n_vocab;
    fault_host_init(&b->w.host);
    read_file(&b->w, b->m->path);
    if (!bitwise && !runs(b, &o)) {
        free(b->w.bytes);
        return false;
    }
    world_open(&b->w, &o);
    b->step = world_step(&b->w);
    b->s = world_session(&b->w);
    make_ids(b, b->ids, 1);
    make_ids(b, b->other, 2);
    b->rows = new_rows(b, N);
    world_rows(&b->w, b->step, b->s, b->ids, N, 32, true, b->rows);
    assert_int_equal(gemma_session_rewind(b->s, 0), GEMMA_OK);
    return true;
}

static void end(bench *b)
{
    free(b->rows);
    gemma_step_destroy(b->step);
    gemma_session_destroy(b->s);
    world_close(&b->w);
}

/* `exact`: the same bits on any device. */
static void same(const bench *b, const char *what, bool exact, const float *want, const float *got, uint32_t n_rows)
{
    if (bitwise || exact) {
        assert_same_rows(&b->w, what, want, got, n_rows);
        return;
    }
    for (uint32_t r = 0; r < n_rows; r++) {
        double most = 0, off = 0;
        for (size_t i = (size_t)r * b->w.n_vocab; i < (size_t)(r + 1) * b->w.n_vocab; i++) {
            if (!(fabsf(want[i]) < INFINITY) && want[i] == got[i]) continue; /* a suppressed id */
            most = fmax(most, fabs((double)want[i]));
            off = fmax(off, fabs((double)want[i] - (double)got[i]));
            if (isnan(got[i])) off = INFINITY;
        }
        if (!(off <= close_enough * most)) fail_msg("%s: row %u of %u is off by %g of %g", what, r, n_rows, off, most);
    }
}

/* ---- pieces ---- */

/* Rows that wanted nothing hold zeros: they take the oracle's. */
static void fill_unwanted(const bench *b, float *rows, uint32_t piece)
{
    for (uint32_t r = 0; r + 1 < N; r++) {
        size_t at = (size_t)r * b->w.n_vocab;
        if (r % piece != piece - 1) memcpy(rows + at, b->rows + at, b->w.n_vocab * sizeof *rows);
    }
}

static void pieces_of(int model)
{
    static const uint32_t all[] = { 1, 7, 15, 16, 17, 32, 33, 64, N }, few[] = { 1, 17, N }; /* drivers are slow */
    const uint32_t *pieces = bitwise ? all : few;
    size_t n_pieces = bitwise ? COUNT(all) : COUNT(few);
    bench b;
    char what[96];
    if (!begin(&b, model)) skip();
    float *rows = new_rows(&b, N), *again = new_rows(&b, N);
    for (size_t i = 0; i < 2 * n_pieces; i++) {
        bool every = i % 2;
        uint32_t piece = pieces[i / 2];
        snprintf(what, sizeof what, "%.60s: pieces of %u, %s wanted", b.m->path, piece, every ? "all" : "the last");
        memset(rows, 0, (size_t)N * b.w.n_vocab * sizeof *rows);
        memset(again, 0, (size_t)N * b.w.n_vocab * sizeof *rows);
        world_rows(&b.w, b.step, b.s, b.ids, N, piece, every, rows);
        assert_int_equal(gemma_session_rewind(b.s, 0), GEMMA_OK);
        if (!bitwise) { /* the same shapes again */
            world_rows(&b.w, b.step, b.s, b.ids, N, piece, every, again);
            assert_int_equal(gemma_session_rewind(b.s, 0), GEMMA_OK);
            same(&b, what, true, rows, again, N);
        }
        if (!every) fill_unwanted(&b, rows, piece);
        same(&b, what, false, b.rows, rows, N);
    }
    free(rows);
    free(again);
    end(&b);
}

/* ---- forks, marks, rewinds ---- */

static void feed(gemma_session *s, const int32_t *ids, uint32_t n, uint32_t piece)
{
    gemma_feed_options o = { .size = sizeof o, .piece = piece };

    assert_int_equal(gemma_session_feed(s, ids, n, &o), GEMMA_OK);
}

/* Goes on with ids from where the session stands up to `to`, as one that never went back. */
static void goes_on(bench *b, gemma_session *s, const char *what, uint32_t to)
{
    uint32_t from = gemma_session_position(s), n = to - from;
    float *rows = new_rows(b, n);
    world_rows(&b->w, b->step, s, b->ids + from, n, 9, true, rows);
    same(b, what, false, b->rows + (size_t)from * b->w.n_vocab, rows, n);
    free(rows);
}

static void check_rewinds(bench *b)
{
    gemma_session *s = b->s;
    feed(s, b->ids, 70, 21);
    feed(s, b->other, 8, 3);
    assert_int_equal(gemma_session_rewind(s, 70), GEMMA_OK);
    goes_on(b, s, "rewound by the slack", 150);
    assert_int_equal(gemma_session_rewind(s, 20), GEMMA_E_REWIND);
    goes_on(b, s, "a rewind refused", 155);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
    goes_on(b, s, "rewound to 0", 40);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
}

static void check_marks(bench *b)
{
    gemma_session *s = b->s;
    feed(s, b->ids, 41, 0);
    assert_int_equal(gemma_session_mark(s), GEMMA_OK);
    goes_on(b, s, "behind a mark", 60);
    assert_int_equal(gemma_session_mark(s), GEMMA_OK);
    feed(s, b->other, 100, 64);
    assert_int_equal(gemma_session_rewind(s, 60), GEMMA_OK);
    goes_on(b, s, "rewound to the second mark", 130);
    assert_int_equal(gemma_session_rewind(s, 41), GEMMA_OK);
    goes_on(b, s, "rewound to the first mark", N);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
}

static void check_forks(bench *b)
{
    gemma_session *s = b->s, *fork[2];
    feed(s, b->ids, 77, 0);
    for (int i = 0; i < 2; i++) assert_int_equal(gemma_session_fork(s, &fork[i], &b->w.error), GEMMA_OK);
    feed(fork[0], b->other, 20, 3);
    goes_on(b, s, "the parent of a fork", 100);
    goes_on(b, fork[1], "a fork", 120);
    gemma_session_destroy(fork[0]);
    gemma_session_destroy(s);
    b->s = fork[1];
    goes_on(b, b->s, "a fork without its parent", N);
    assert_int_equal(gemma_session_rewind(b->s, 0), GEMMA_OK);
}

static void going_back(int model)
{
    bench b;
    if (!begin(&b, model)) skip();
    check_rewinds(&b);
    check_marks(&b);
    check_forks(&b);
    end(&b);
}

static void pieces_e2b(void **state) { (void)state, pieces_of(E2B); }
static void pieces_dense(void **state) { (void)state, pieces_of(DENSE); }
static void pieces_moe(void **state) { (void)state, pieces_of(MOE); }
static void pieces_nano(void **state) { (void)state, pieces_of(NANO); }
static void back_e2b(void **state) { (void)state, going_back(E2B); }
static void back_dense(void **state) { (void)state, going_back(DENSE); }
static void back_moe(void **state) { (void)state, going_back(MOE); }
static void back_nano(void **state) { (void)state, going_back(NANO); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_e2b),  cmocka_unit_test(pieces_dense), cmocka_unit_test(pieces_moe),
        cmocka_unit_test(pieces_nano), cmocka_unit_test(back_e2b),     cmocka_unit_test(back_dense),
        cmocka_unit_test(back_moe),    cmocka_unit_test(back_nano),
    };
    if (argc > 1) device = argv[1];
    bitwise = strncmp(device, "vulkan", 6) != 0;
    return cmocka_run_group_tests_name("rows_gemma4", tests, NULL, NULL);
}
