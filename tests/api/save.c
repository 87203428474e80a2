/* A saved session goes on in another process with the same bits; other models and KV types are refused; every allocation
 * fails once; sixteen forks of a prompt hold its pages once. `save DEVICE`: on that device. */
#include "api/world.h"
#include "unit/session_save.h"

#include <pthread.h>
#include <stdio.h>

enum { CTX = 4096, LONG = 3000, MORE = 24, FIRST = 1000 };

static const char *program, *device = "cpu";
static bool f16_only; /* the device has no other KV */

typedef struct setting {
    uint32_t family, kv_global, kv_sliding;
} setting;

static const setting settings[] = {
    { 3, GEMMA_TYPE_F16, GEMMA_TYPE_F16 },
    { 4, GEMMA_TYPE_F16, GEMMA_TYPE_Q8_0 },
    { 4, GEMMA_TYPE_Q4_0, GEMMA_TYPE_F32 },
};

static void open_with(world *w, const setting *x, uint32_t ctx)
{
    gemma_plan_options o = { .size = sizeof o, .ctx = ctx, .n_sessions = 2, .ubatch = 256 };
    tiny_model t;
    tiny_model_defaults(&t, x->family);
    t.ctx = CTX;
    o.budget_bytes = (uint64_t)4 << 30;
    o.kv_global = f16_only ? GEMMA_TYPE_F16 : x->kv_global;
    o.kv_sliding = f16_only ? GEMMA_TYPE_F16 : x->kv_sliding;
    world_init(w, &t);
    w->device = device;
    world_open(w, &o);
}

static void assert_session_ok(int rc, const gemma_session *s)
{
    char message[512];
    gemma_session_message(s, message, sizeof message);
    assert_ok(rc, message);
}

static void save_ok(gemma_session *s, blob *b)
{
    gemma_save_options o = blob_save(b);
    blob_init(b);
    assert_session_ok(gemma_session_save(s, &o), s);
}

static int load(gemma_session *s, blob *b)
{
    gemma_restore_options o = blob_load(b);
    return gemma_session_load(s, &o);
}

static void check_message(const gemma_session *s, const char *part)
{
    char message[512];
    gemma_session_message(s, message, sizeof message);
    if (!strstr(message, part)) fail_msg("\"%s\" has no \"%s\"", message, part);
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void read_file(const char *path, blob *b)
{
    static uint8_t piece[65536];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    blob_init(b);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f));) blob_write(b, piece, n);
    fclose(f);
}

/* The logits of MORE rows. */
static void go_on(world *w, gemma_session *s, float *logits)
{
    int32_t ids[MORE];
    gemma_step *step = world_step(w);
    world_ids(ids, MORE, 77);
    for (uint32_t i = 0; i < MORE; i++) world_row(w, step, s, ids[i], logits + (size_t)i * w->n_vocab);
    gemma_step_destroy(step);
}

/* The other process: loads the session and writes what comes after it. */
static void continue_saved(const setting *x, const char *from, const char *to)
{
    world w;
    blob b;
    open_with(&w, x, CTX);
    read_file(from, &b);
    gemma_session *s = world_session(&w);
    assert_session_ok(load(s, &b), s);
    size_t n = (size_t)MORE * w.n_vocab * sizeof(float);
    float *logits = malloc(n);
    go_on(&w, s, logits);
    write_file(to, logits, n);
    free(logits);
    free(b.data);
    gemma_session_destroy(s);
    world_close(&w);
}

static void test_another_process(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < COUNT(settings); i++) {
        world w;
        blob b, theirs;
        gemma_session *s;
        int32_t ids[LONG];
        gemma_session_options so = { .size = sizeof so, .first_position = FIRST };
        open_with(&w, &settings[i], CTX);
        assert_ok(gemma_session_create(w.model, &so, &s, &w.error), w.error.message);
        world_ids(ids, LONG, i);
        assert_session_ok(gemma_session_feed(s, ids, LONG, NULL), s);
        save_ok(s, &b);
        float *logits = malloc((size_t)MORE * w.n_vocab * sizeof *logits);
        go_on(&w, s, logits);
        char saved[64], result[80], command[512];
        strcpy(saved, world_save(&w)); /* a name of its own */
        write_file(saved, b.data, b.n);
        snprintf(result, sizeof result, "%s.logits", saved);
        snprintf(command, sizeof command, "\"%s\" %s continue %u %s %s", program, device, i, saved, result);
        assert_int_equal(system(command), 0);
        read_file(result, &theirs);
        assert_int_equal(theirs.n, (size_t)MORE * w.n_vocab * sizeof *logits);
        assert_same_rows(&w, "in another process", logits, (const float *)theirs.data, MORE);
        world_forget_file(saved);
        world_forget_file(result);
        free(logits);
        free(b.data);
        free(theirs.data);
        gemma_session_destroy(s);
        world_close(&w);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        setting x;
        uint32_t ctx;
        int code;
        const char *part;
    } cases[] = {
        { { 4, GEMMA_TYPE_F16, GEMMA_TYPE_F16 }, 512, GEMMA_E_ARG, "another model" },
        { { 3, GEMMA_TYPE_Q8_0, GEMMA_TYPE_F16 }, 512, GEMMA_E_ARG, "global KV of type F16; the plan has Q8_0" },
        { { 3, GEMMA_TYPE_F16, GEMMA_TYPE_F32 }, 512, GEMMA_E_ARG, "sliding KV of type F16; the plan has F32" },
        { { 3, GEMMA_TYPE_F16, GEMMA_TYPE_F16 }, 256, GEMMA_E_FULL, "300 tokens; this one has room for 256" },
    };
    world w;
    blob b;
    int32_t ids[300];
    open_with(&w, &settings[0], 512);
    gemma_session *s = world_session(&w);
    world_ids(ids, 300, 1);
    assert_session_ok(gemma_session_feed(s, ids, 300, NULL), s);
    save_ok(s, &b);
    assert_int_equal(load(s, &b), GEMMA_E_STATE);
    check_message(s, "holds 300 tokens");
    assert_int_equal(gemma_session_position(s), 300);
    assert_int_equal(gemma_session_save(s, NULL), GEMMA_E_ARG);
    assert_int_equal(gemma_session_load(s, NULL), GEMMA_E_ARG);
    assert_int_equal(gemma_session_save(NULL, NULL), GEMMA_E_ARG);
    assert_int_equal(gemma_session_load(NULL, NULL), GEMMA_E_ARG);
    gemma_session_destroy(s);
    world_close(&w);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const setting *x = &cases[i].x;
        if (f16_only && (x->kv_global != GEMMA_TYPE_F16 || x->kv_sliding != GEMMA_TYPE_F16)) continue;
        open_with(&w, x, cases[i].ctx);
        s = world_session(&w);
        assert_int_equal(load(s, &b), cases[i].code);
        check_message(s, cases[i].part);
        assert_int_equal(gemma_session_position(s), 0);
        assert_session_ok(gemma_session_feed(s, ids, 200, NULL), s);
        gemma_session_destroy(s);
        world_close(&w);
    }
    /* The same shape with other weights. */
    tiny_model t;
    tiny_model_defaults(&t, 3);
    t.ctx = CTX;
    t.seed += 1;
    gemma_plan_options o = { .size = sizeof o, .ctx = 512, .budget_bytes = (uint64_t)4 << 30 };
    o.kv_global = o.kv_sliding = GEMMA_TYPE_F16;
    world_init(&w, &t);
    w.device = device;
    world_open(&w, &o);
    s = world_session(&w);
    assert_int_equal(load(s, &b), GEMMA_E_ARG);
    check_message(s, "another model");
    gemma_session_destroy(s);
    world_close(&w);
    free(b.data);
}

static void test_no_memory(void **state)
{
    (void)state;
    world w;
    blob b, again;
    int32_t ids[100];
    open_with(&w, &settings[1], 512);
    gemma_session *s = world_session(&w), *other = world_session(&w);
    world_ids(ids, 100, 5);
    assert_session_ok(gemma_session_feed(s, ids, 100, NULL), s);
    save_ok(s, &b);
    for (int saving = 0; saving < 2; saving++) {
        for (uint64_t nth = 1;; nth++) {
            blob_init(&again);
            gemma_save_options o = blob_save(&again);
            fault_fail_nth(nth);
            int rc = saving ? gemma_session_save(s, &o) : load(other, &b);
            bool fired = fault_fired();
            fault_fail_nth(0);
            if (!fired) {
                assert_ok(rc, "nothing failed");
                if (saving) assert_memory_equal(again.data, b.data, b.n);
                free(again.data);
                break;
            }
            assert_int_equal(rc, GEMMA_E_NOMEM);
            assert_int_equal(gemma_session_position(other), saving ? 100 : 0);
            assert_int_equal(gemma_session_position(s), 100);
            free(again.data);
        }
    }
    free(b.data);
    gemma_session_destroy(s);
    gemma_session_destroy(other);
    world_close(&w);
}

typedef struct stepper {
    world *w;
    float *logits; /* of every row */
} stepper;

static void *step_on(void *arg)
{
    stepper *t = arg;
    enum { ROWS = 200 };
    int32_t ids[ROWS];
    gemma_session *s = world_session(t->w);
    gemma_step *step = world_step(t->w);
    world_ids(ids, ROWS, 8);
    world_rows(t->w, step, s, ids, ROWS, 3, true, t->logits);
    gemma_step_destroy(step);
    gemma_session_destroy(s);
    return NULL;
}

/* Another session's steps run between the pieces of a save and a load; neither sees anything of the other. */
static void test_beside_steps(void **state)
{
    (void)state;
    world w;
    blob b, again;
    int32_t ids[300];
    gemma_plan_options o = { .size = sizeof o, .ctx = 512, .n_sessions = 2, .ubatch = 256, .logit_rows = 3 };
    o.budget_bytes = (uint64_t)4 << 30;
    o.kv_global = o.kv_sliding = GEMMA_TYPE_F16;
    world_init_family(&w, 4);
    w.device = device;
    world_open(&w, &o);
    size_t n = (size_t)200 * w.n_vocab * sizeof(float);
    stepper alone = { .w = &w, .logits = malloc(n) }, beside = { .w = &w, .logits = malloc(n) };
    step_on(&alone);
    gemma_session *s = world_session(&w);
    world_ids(ids, 300, 9);
    assert_session_ok(gemma_session_feed(s, ids, 300, NULL), s);
    save_ok(s, &b);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, step_on, &beside), 0);
    for (int i = 0; i < 20; i++) {
        assert_session_ok(gemma_session_rewind(s, 0), s);
        assert_session_ok(load(s, &b), s);
        save_ok(s, &again);
        assert_int_equal(again.n, b.n);
        assert_memory_equal(again.data, b.data, b.n);
        free(again.data);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_same_rows(&w, "beside saving", alone.logits, beside.logits, 200);
    free(alone.logits);
    free(beside.logits);
    free(b.data);
    gemma_session_destroy(s);
    world_close(&w);
}

static void assert_pages(const world *w, uint32_t n_global, uint32_t n_sliding)
{
    gemma_model_status status = { .size = sizeof status };
    assert_int_equal(gemma_model_query(w->model, &status), GEMMA_OK);
    assert_int_equal(status.global_pages - status.global_pages_free, n_global);
    assert_int_equal(status.sliding_pages - status.sliding_pages_free, n_sliding);
}

/* 2,000 tokens: 32 global pages, the last one begun; the window of 64 and the slack of 32 reach back to 1,905: sliding pages
 * 29 … 31. A fork of it costs nothing until it writes: then the begun page of each kind is its own. */
static void test_sixteen_forks(void **state)
{
    (void)state;
    enum { FORKS = 16, PROMPT = 2000, GLOBAL = 32, SLIDING = 3 };
    world w;
    tiny_model t;
    tiny_model_defaults(&t, 3);
    t.ctx = CTX;
    gemma_plan_options o = { .size = sizeof o, .ctx = 2560, .n_sessions = FORKS + 1, .ubatch = 256 };
    o.kv_tokens = (GLOBAL + 2 * FORKS) * 64;
    o.budget_bytes = (uint64_t)4 << 30;
    world_init(&w, &t);
    w.device = device;
    world_open(&w, &o);
    gemma_session *parent = world_session(&w), *forks[FORKS];
    int32_t ids[PROMPT], more[48];
    world_ids(ids, PROMPT, 4);
    assert_session_ok(gemma_session_feed(parent, ids, PROMPT, NULL), parent);
    assert_pages(&w, GLOBAL, SLIDING);
    for (uint32_t i = 0; i < FORKS; i++) assert_ok(gemma_session_fork(parent, &forks[i], &w.error), w.error.message);
    assert_pages(&w, GLOBAL, SLIDING);
    for (uint32_t i = 0; i < FORKS; i++) {
        world_ids(more, 48, 100 + i);
        assert_session_ok(gemma_session_feed(forks[i], more, 10, NULL), forks[i]);
        assert_pages(&w, GLOBAL + i + 1, SLIDING + i + 1);
    }
    /* The page at 2,048: one more of each kind; 2,047 - 32 - 63 is in page 30, so one sliding page is let go, which the
     * parent holds on to. */
    for (uint32_t i = 0; i < FORKS; i++) {
        world_ids(more, 48, 200 + i);
        assert_session_ok(gemma_session_feed(forks[i], more, 39, NULL), forks[i]);
        assert_pages(&w, GLOBAL + FORKS + i + 1, SLIDING + FORKS + i + 1);
    }
    int32_t too_many[64]; /* the parent is now the only holder of its begun page, but there is none left behind it */
    world_ids(too_many, 64, 1);
    assert_int_equal(gemma_session_feed(parent, too_many, 64, NULL), GEMMA_E_NOPAGES);
    assert_pages(&w, GLOBAL + 2 * FORKS, SLIDING + 2 * FORKS);
    for (uint32_t i = 0; i < FORKS; i++) gemma_session_destroy(forks[i]);
    assert_pages(&w, GLOBAL, SLIDING);
    gemma_session_destroy(parent);
    assert_pages(&w, 0, 0);
    world_close(&w);
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc > 1) device = argv[1];
    f16_only = !strcmp(device, "vulkan");
    if (argc == 6) { /* DEVICE continue SETTING FROM TO */
        continue_saved(&settings[atoi(argv[3])], argv[4], argv[5]);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_process), cmocka_unit_test(test_refused),       cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_beside_steps),    cmocka_unit_test(test_sixteen_forks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
