/* Plans over two devices: whatever homes the hook picks, the logits are those of one device, the bill is what is allocated,
 * and forks, marks, cancelled steps and saved sessions are as ever.
 *
 * usage: split [DEVICE]
 *
 * DEVICE (reference) is the plan's; the other one is the CPU. Weights are F32, so that both compute alike. */
#include "api/world.h"

#include <math.h>
#include <stdio.h>

enum { CTX = 192, N = 130, N_RANDOM = 12 }; /* the window is 64 */

static const char *device = "reference";
static const double close_enough = 2e-4; /* of the largest logit */

/* ---- hooks ---- */

typedef struct picker {
    uint32_t pattern; /* of the list below */
    uint64_t seed;
    uint32_t n_asked, n_moved;
    bool bad; /* a question that should not have been */
} picker;
enum { ALL_THERE, ODD_LAYERS, FFN, EXPERTS, KV, EMBEDDING, RANDOM, N_PATTERNS };

static bool goes(picker *p, const gemma_placement *want)
{
    switch (p->pattern) {
    case ALL_THERE: return true;
    case ODD_LAYERS: return want->layer >= 0 && want->layer % 2;
    case FFN: return want->bytes_class == GEMMA_CLASS_FFN;
    case EXPERTS: return want->bytes_class == GEMMA_CLASS_EXPERTS;
    case KV: return want->bytes_class == GEMMA_CLASS_KV_GLOBAL || want->bytes_class == GEMMA_CLASS_KV_SLIDING;
    case EMBEDDING: return want->bytes_class == GEMMA_CLASS_EMBEDDING || want->bytes_class == GEMMA_CLASS_HEAD;
    default: break;
    }
    p->seed = p->seed * 6364136223846793005ull + 1442695040888963407ull;
    return p->seed >> 40 & 1;
}

/* The last candidate on another device than the proposed one; 0 where there is none. */
static uint32_t pick(void *user, const gemma_placement *want)
{
    picker *p = user;
    gemma_home proposed = { .size = sizeof proposed }, home = { .size = sizeof home };
    uint32_t answer = 0;
    p->n_asked++;
    p->bad |= want->n_candidates == 0 || gemma_placement_home(want, 0, &proposed) != GEMMA_OK;
    p->bad |= gemma_placement_home(want, want->n_candidates, &home) != GEMMA_E_ARG;
    for (uint32_t i = 1; i < want->n_candidates; i++) {
        p->bad |= gemma_placement_home(want, i, &home) != GEMMA_OK;
        p->bad |= home.device == proposed.device && home.kind == proposed.kind;
        p->bad |= home.kind == GEMMA_HOME_MEMORY && home.free_bytes == 0;
        if (home.device != proposed.device) answer = i;
    }
    answer = goes(p, want) ? answer : 0;
    p->n_moved += answer != 0;
    return answer;
}

/* ---- models ---- */

static void describe(tiny_model *t, uint32_t i)
{
    tiny_model_defaults(t, i ? 4 : 3);
    t->type = t->table_type = 0; /* GM_F32 */
    t->n_layers = 6;
    if (i != 2) return;
    t->n_ple = t->n_shared = 0;
    t->n_expert = 8;
    t->n_used = 2;
    t->n_ff_expert = 64;
    t->k_as_v = true;
}
enum { N_MODELS = 3 };
static const char *const model_names[N_MODELS] = { "Gemma 3", "Gemma 4 E", "Gemma 4 with experts" };

static const gemma_plan_options options = { .size = sizeof options,
                                            .ctx = CTX,
                                            .ubatch = 32,
                                            .n_sessions = 2,
                                            .n_marks = 1,
                                            .logit_rows = 32,
                                            .kv_global = GEMMA_TYPE_F32,
                                            .kv_sliding = GEMMA_TYPE_F32 };

static void open_world(world *w, uint32_t model, picker *p)
{
    tiny_model t;
    describe(&t, model);
    world_init(w, &t);
    w->device = device;
    gemma_plan_options po = options;
    if (p) po.place = pick;
    po.place_user = p;
    world_open(w, &po);
    if (p) assert_false(p->bad);
}

static float *rows_of(world *w, gemma_step *t, gemma_session *s, const int32_t *ids, uint32_t piece)
{
    float *rows = calloc((size_t)N * w->n_vocab, sizeof *rows);
    assert_non_null(rows);
    world_rows(w, t, s, ids, N, piece, true, rows);
    return rows;
}

static void check_close(const world *w, const char *what, const float *a, const float *b, size_t n_rows)
{
    double most = 0, off = 0;
    for (size_t i = 0; i < n_rows * w->n_vocab; i++) {
        if (isinf(a[i]) && a[i] == b[i]) continue;
        most = fmax(most, fabs((double)a[i]));
        off = fmax(off, fabs((double)a[i] - (double)b[i]));
    }
    if (!(off <= close_enough * most)) fail_msg("%s: off by %g where logits reach %g", what, off, most);
}

/* ---- the bill ---- */

/* Of heaps of the host's; a GPU's are counted by tests/fault/machines.c. */
static void check_bill(const world *w)
{
    uint64_t billed = 0, held = 0;
    for (uint32_t i = 0; i < gemma_plan_n_heaps(w->plan); i++) {
        gemma_bill bill = { .size = sizeof bill };
        gemma_device_info info = { .size = sizeof info };
        uint64_t classes = 0;
        assert_int_equal(gemma_plan_bill(w->plan, i, &bill), GEMMA_OK);
        assert_int_equal(gemma_device_describe(w->runtime, bill.device, &info), GEMMA_OK);
        for (uint32_t c = 0; c < GEMMA_CLASS_DRIVER; c++) classes += gemma_plan_class_bytes(w->plan, i, c);
        assert_int_equal(classes, bill.total_bytes);
        if (info.kind == GEMMA_DEVICE_CPU) billed += bill.total_bytes;
    }
    for (uint32_t tag = GEMMA_TAG_WEIGHTS; tag <= GEMMA_TAG_STAGING; tag++) held += fault_live_bytes(tag);
    assert_int_equal(held, billed);
}

/* ---- tests ---- */

static void check_model(uint32_t model)
{
    world w;
    int32_t ids[N];
    world_ids(ids, N, 11 + model);
    open_world(&w, model, NULL);
    gemma_step *t = world_step(&w);
    gemma_session *s = world_session(&w);
    float *whole = rows_of(&w, t, s, ids, 32);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    world_close(&w);
    for (uint32_t i = 0; i < RANDOM + N_RANDOM; i++) {
        picker p = { .pattern = i < RANDOM ? i : RANDOM, .seed = i };
        char what[64];
        snprintf(what, sizeof what, "%s, pattern %u", model_names[model], (unsigned)i);
        open_world(&w, model, &p);
        check_bill(&w);
        t = world_step(&w);
        s = world_session(&w);
        uint64_t allocations = fault_allocations();
        float *split = rows_of(&w, t, s, ids, i % 2 ? 32 : 27);
        assert_int_equal(fault_allocations(), allocations);
        check_close(&w, what, whole, split, N);
        bool may_stay = (p.pattern == EXPERTS && model != 2) || p.pattern == RANDOM;
        if (!p.n_moved && !may_stay) fail_msg("%s: nothing was moved", what);
        free(split);
        gemma_session_destroy(s);
        gemma_step_destroy(t);
        world_close(&w);
    }
    free(whole);
}

static void any_homes(void **state)
{
    (void)state;
    for (uint32_t model = 0; model < N_MODELS; model++) check_model(model);
}

/* The cut program and the whole one, forks that write to shared pages, marks, a step that is cancelled before it runs. */
static void as_ever(void **state)
{
    (void)state;
    picker p = { .pattern = ODD_LAYERS };
    world w;
    int32_t ids[N];
    gemma_session *fork;
    gemma_cancel *cancel;
    world_ids(ids, N, 5);
    open_world(&w, 1, &p);
    gemma_step *t = world_step(&w);
    gemma_session *s = world_session(&w);
    float *rows = rows_of(&w, t, s, ids, 32), *again = calloc((size_t)N * w.n_vocab, sizeof *again);
    assert_non_null(again);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
    world_rows(&w, t, s, ids, N, 32, false, again); /* cut */
    check_close(&w, "cut", rows + (size_t)(N - 1) * w.n_vocab, again + (size_t)(N - 1) * w.n_vocab, 1);
    assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
    world_rows(&w, t, s, ids, 100, 32, false, again);
    assert_ok(gemma_session_fork(s, &fork, &w.error), w.error.message);

    assert_ok(gemma_cancel_create(w.runtime, &cancel, &w.error), w.error.message);
    gemma_cancel_raise(cancel);
    gemma_row row = { .size = sizeof row, .token = ids[3], .want = GEMMA_WANT_CANDIDATES };
    assert_int_equal(gemma_step_add(t, fork, &row, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_submit(t, cancel), GEMMA_OK);
    assert_int_equal(gemma_step_wait(t, FOREVER), GEMMA_E_CANCELLED); /* its page copies are done */
    gemma_cancel_destroy(cancel);
    assert_int_equal(gemma_step_clear(t), GEMMA_OK);

    world_row(&w, t, fork, ids[3], again); /* another way than the session takes */
    world_rows(&w, t, s, ids + 100, N - 100, 10, true, again);
    check_close(&w, "after a fork", rows + (size_t)100 * w.n_vocab, again, N - 100);
    gemma_session_destroy(fork);
    free(rows);
    free(again);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    world_close(&w);
}

/* ---- saved sessions ---- */

typedef struct memory {
    uint8_t bytes[1 << 22];
    uint64_t n;
} memory;

static int put(void *user, const void *bytes, uint64_t n)
{
    memory *m = user;
    if (m->n + n > sizeof m->bytes) return 1;
    memcpy(m->bytes + m->n, bytes, n);
    m->n += n;
    return 0;
}

static int64_t get(void *user, uint64_t offset, void *dst, uint64_t n)
{
    const memory *m = user;
    if (offset > m->n) return 0;
    if (n > m->n - offset) n = m->n - offset;
    memcpy(dst, m->bytes + offset, n);
    return (int64_t)n;
}

static void saved_elsewhere(void **state)
{
    (void)state;
    static memory file;
    picker p = { .pattern = RANDOM, .seed = 3 };
    world w;
    int32_t ids[N];
    world_ids(ids, N, 8);
    open_world(&w, 1, &p);
    gemma_step *t = world_step(&w);
    gemma_session *s = world_session(&w);
    float *rows = rows_of(&w, t, s, ids, 32), *next = calloc(w.n_vocab, sizeof *next);
    assert_non_null(next);
    gemma_save_options so = { .size = sizeof so, .write = put, .user = &file };
    assert_ok(gemma_session_save(s, &so), "save");
    world_row(&w, t, s, ids[0], rows);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    world_close(&w);

    open_world(&w, 1, NULL); /* on one device */
    t = world_step(&w);
    s = world_session(&w);
    gemma_restore_options ro = { .size = sizeof ro, .read = get, .user = &file };
    assert_ok(gemma_session_load(s, &ro), "load");
    assert_int_equal(gemma_session_position(s), N);
    world_row(&w, t, s, ids[0], next);
    check_close(&w, "a session from another plan", rows, next, 1);
    free(rows);
    free(next);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    world_close(&w);
}

/* ---- splits ---- */

/* A budget that the plan does not fit, but that SPLIT does: the first layers go to the other device. */
static void split_fits(void **state)
{
    (void)state;
    enum { HEADROOM = 1 };
    world w, small;
    tiny_model t;
    int32_t ids[N];
    gemma_error e = { .size = sizeof e };
    describe(&t, 0);
    t.n_ff = 1024;
    world_ids(ids, N, 2);
    world_init(&w, &t);
    w.device = device;
    gemma_plan_options po = options;
    world_open(&w, &po);
    gemma_bill bill = { .size = sizeof bill };
    gemma_plan_info info = { .size = sizeof info };
    assert_int_equal(gemma_plan_bill(w.plan, 0, &bill), GEMMA_OK);
    assert_int_equal(gemma_plan_describe(w.plan, &info), GEMMA_OK);
    gemma_step *step = world_step(&w);
    gemma_session *s = world_session(&w);
    float *whole = rows_of(&w, step, s, ids, 32);

    po.device = info.device;
    po.headroom_bytes = HEADROOM;
    po.budget_bytes = bill.total_bytes * 7 / 10;
    gemma_plan *plan;
    assert_ok(gemma_plan_create(w.file, &po, &plan, &e), e.message);
    assert_int_equal(gemma_plan_check(plan, &e), GEMMA_E_NOFIT);
    bool advised = false;
    for (uint32_t i = 0; i < gemma_plan_n_advice(plan); i++) {
        gemma_advice a = { .size = sizeof a };
        assert_int_equal(gemma_plan_advice(plan, i, &a), GEMMA_OK);
        if (a.fit != GEMMA_FIT_SPLIT) continue;
        advised = true;
        assert_true(a.split_layers > 0 && a.split_layers <= t.n_layers);
        assert_int_equal(a.second_device, 0);
        assert_int_equal(a.ctx, CTX);
    }
    assert_true(advised);
    gemma_plan_destroy(plan);
    gemma_session_destroy(s);
    gemma_step_destroy(step);
    world_close(&w);

    world_init(&small, &t);
    small.device = device;
    po.fit = GEMMA_FIT_SPLIT;
    world_open(&small, &po);
    check_bill(&small);
    assert_true(gemma_plan_n_heaps(small.plan) >= 2);
    assert_int_equal(gemma_plan_bill(small.plan, 0, &bill), GEMMA_OK);
    assert_true(bill.total_bytes <= po.budget_bytes - HEADROOM);
    assert_int_equal(gemma_plan_describe(small.plan, &info), GEMMA_OK);
    assert_true(info.split_layers > 0 && info.split_layers <= t.n_layers && !info.split_experts);
    assert_int_equal(info.second_device, 0);
    step = world_step(&small);
    s = world_session(&small);
    float *split = rows_of(&small, step, s, ids, 32);
    check_close(&small, "SPLIT", whole, split, N);
    free(whole);
    free(split);
    gemma_session_destroy(s);
    gemma_step_destroy(step);
    world_close(&small);
}

/* ---- out of memory ---- */

static void each_allocation_fails(void **state)
{
    (void)state;
    world w;
    tiny_model t;
    int rc = GEMMA_E_NOMEM;
    uint64_t nth;
    describe(&t, 2);
    world_init(&w, &t);
    gemma_error e = { .size = sizeof e };
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 1, .flags = GEMMA_RUNTIME_NO_VULKAN };
    gemma_file_options fo = { .size = sizeof fo, .bytes = w.bytes, .n_bytes = w.n_bytes };
    assert_ok(gemma_runtime_create(&w.host, &ro, &w.runtime, &e), e.message);
    assert_ok(gemma_file_open(w.runtime, NULL, &fo, &w.file, &e), e.message);
    uint64_t before = fault_live_blocks();
    for (nth = 1; rc && nth < 2000; nth++) {
        picker p = { .pattern = RANDOM, .seed = 1 };
        gemma_plan_options po = options;
        po.device = 1; /* the reference */
        po.place = pick;
        po.place_user = &p;
        gemma_plan *plan = NULL;
        gemma_model *model = NULL;
        fault_fail_nth(nth);
        rc = gemma_plan_create(w.file, &po, &plan, &e);
        if (!rc) rc = gemma_model_load(plan, NULL, &model, &e);
        fault_fail_nth(0);
        gemma_model_close(model);
        gemma_plan_destroy(plan);
        if (rc) assert_int_equal(rc, GEMMA_E_NOMEM);
        if (rc) assert_true(strlen(e.message) > 10);
        assert_int_equal(fault_live_blocks(), before);
    }
    assert_int_equal(rc, GEMMA_OK);
    assert_true(nth > 60);
    world_close(&w);
}

int main(int argc, char **argv)
{
    if (argc > 1) device = argv[1];
    const struct CMUnitTest tests[] = { cmocka_unit_test(any_homes), cmocka_unit_test(as_ever),
                                        cmocka_unit_test(saved_elsewhere), cmocka_unit_test(split_fits),
                                        cmocka_unit_test(each_allocation_fails) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
