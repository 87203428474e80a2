/* Everything from a runtime to five tokens, with each allocation failing once, then each read of the host's file: an
 * error with a sentence each time, nothing half made, nothing left; and then a good run. */
#include "api/world.h"

enum { N_TOKENS = 5 };

typedef struct reads {
    world *w;
    uint64_t n;       /* asked for so far */
    uint64_t bad_nth; /* 0: none; sizes (dst NULL) count too */
    enum { ERROR, SHORT, NOTHING, TOO_MUCH, BADS } bad;
} reads;

static int64_t read_file(void *user, const char *path, uint64_t offset, void *dst, uint64_t n)
{
    reads *r = user;
    uint64_t size = r->w->n_bytes;
    bool bad = ++r->n == r->bad_nth;
    (void)path;
    if (!dst) return bad ? r->bad == ERROR ? -1 : 0 : (int64_t)size;
    if (bad && r->bad == ERROR) return -5;
    if (bad && r->bad == NOTHING) return 0;
    uint64_t left = offset < size ? size - offset : 0;
    if (n > left) n = left;
    if (bad && r->bad == SHORT && n > 1) n /= 2;
    memcpy(dst, (const char *)r->w->bytes + offset, n);
    return bad && r->bad == TOO_MUCH ? (int64_t)n + 1 : (int64_t)n;
}

typedef struct run {
    gemma_runtime *runtime;
    gemma_file *file;
    gemma_tokenizer *tokenizer;
    gemma_plan *plan;
    gemma_model *model;
    gemma_session *session, *fork;
    gemma_step *step;
    gemma_sampler *sampler;
    gemma_generation *generation;
    gemma_cancel *cancel;
    int32_t ids[N_TOKENS];
    uint32_t n_ids;
    gemma_error error;
} run;

#define POISON ((void *)(uintptr_t)0x5a5a)

/* Each creating call's out points to POISON before; on failure it must be NULL. */
#define CREATE(x, call)                                                                                                \
    do {                                                                                                               \
        (x) = POISON;                                                                                                  \
        int create_rc = (call);                                                                                        \
        if (create_rc) assert_null(x);                                                                                 \
        if (create_rc) return create_rc;                                                                               \
        assert_true((x) && (void *)(x) != POISON);                                                                     \
    } while (0)

static int open_model(run *r, const gemma_host *host, const char *device)
{
    gemma_error *e = &r->error;
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 2 };
    CREATE(r->runtime, gemma_runtime_create(host, &ro, &r->runtime, e));
    CREATE(r->cancel, gemma_cancel_create(r->runtime, &r->cancel, e));
    CREATE(r->file, gemma_file_open(r->runtime, "model", NULL, &r->file, e));
    CREATE(r->tokenizer, gemma_tokenizer_create(r->file, &r->tokenizer, e));
    gemma_plan_options po = { .size = sizeof po, .ctx = 64, .ubatch = 8, .n_sessions = 2 };
    int rc = gemma_device_find(r->runtime, device, &po.device, e);
    if (rc) return rc;
    CREATE(r->plan, gemma_plan_create(r->file, &po, &r->plan, e));
    CREATE(r->model, gemma_model_load(r->plan, NULL, &r->model, e));
    return GEMMA_OK;
}

static int generate(run *r)
{
    gemma_error *e = &r->error;
    gemma_sampler_options so = { .size = sizeof so, .temperature = 1, .repetition = 1.1f, .n_vocab = 384, .seed = 4 };
    int32_t prompt[16];
    size_t n = 0;
    CREATE(r->session, gemma_session_create(r->model, NULL, &r->session, e));
    CREATE(r->fork, gemma_session_fork(r->session, &r->fork, e));
    CREATE(r->step, gemma_step_create(r->model, &r->step, e));
    CREATE(r->sampler, gemma_sampler_create(r->runtime, &so, &r->sampler, e));
    int rc = gemma_sampler_bias(r->sampler, 300, 1.0f);
    if (!rc) rc = gemma_tokenize(r->tokenizer, "hello world", 11, GEMMA_TOKENIZE_BOS, prompt, 16, &n);
    if (rc == GEMMA_E_NOMEM) strcpy(e->message, "calls without a sentence");
    if (rc) return rc;
    CREATE(r->generation,
           gemma_generation_create(r->session, r->sampler, r->tokenizer, prompt, n, NULL, &r->generation, e));
    while (r->n_ids < N_TOKENS) {
        gemma_piece piece = { .size = sizeof piece };
        rc = gemma_generation_next(r->generation, &piece);
        if (rc) gemma_generation_message(r->generation, e->message, sizeof e->message);
        if (rc || piece.id < 0) return rc;
        r->ids[r->n_ids++] = piece.id;
        if (piece.stop) break;
    }
    return GEMMA_OK;
}

static void finish(run *r)
{
    gemma_generation_destroy(r->generation);
    gemma_sampler_destroy(r->sampler);
    gemma_step_destroy(r->step);
    gemma_session_destroy(r->fork);
    gemma_session_destroy(r->session);
    gemma_model_close(r->model);
    gemma_plan_destroy(r->plan);
    gemma_tokenizer_destroy(r->tokenizer);
    gemma_file_close(r->file);
    gemma_cancel_destroy(r->cancel);
    gemma_runtime_destroy(r->runtime);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

/* The whole story once; the ids it made are kept in *r. */
static int run_whole(run *r, const gemma_host *host, const char *device)
{
    *r = (run){ .error = { .size = sizeof r->error } };
    int rc = open_model(r, host, device);
    if (!rc) rc = generate(r);
    if (rc) assert_true(strlen(r->error.message) > 10);
    finish(r);
    return rc;
}

static void check_good(run *r, const gemma_host *host, const char *device, const run *first)
{
    assert_ok(run_whole(r, host, device), r->error.message);
    assert_true(r->n_ids > 0);
    if (first) assert_memory_equal(r->ids, first->ids, sizeof r->ids);
}

static void each_allocation(uint32_t family, const char *device)
{
    world w;
    run r, first;
    world_init_family(&w, family);
    reads input = { .w = &w };
    w.host.read = read_file;
    w.host.user = &input;
    check_good(&first, &w.host, device, NULL);
    uint64_t n_good = fault_allocations(), n_failed = 0, n_survived = 0;
    for (uint64_t nth = 1;; nth++) {
        fault_fail_nth(nth);
        int rc = run_whole(&r, &w.host, device);
        bool fired = fault_fired();
        fault_fail_nth(0);
        if (!fired) {
            assert_ok(rc, r.error.message);
            break;
        }
        n_failed++;
        if (rc) {
            assert_int_equal(rc, GEMMA_E_NOMEM);
        } else { /* the block of the header could not be made smaller: it stays as it is */
            n_survived++;
            assert_memory_equal(r.ids, first.ids, sizeof r.ids);
        }
    }
    assert_int_equal(n_failed, n_good); /* none was overlooked */
    assert_true(n_survived <= 1);
    check_good(&r, &w.host, device, &first);
    world_close(&w);
}

static void allocations_gemma3(void **state)
{
    (void)state;
    each_allocation(3, "cpu");
    each_allocation(3, "reference");
}

static void allocations_gemma4(void **state)
{
    (void)state;
    each_allocation(4, "cpu");
}

static void each_read(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        world w;
        run r, first;
        world_init_family(&w, family);
        reads input = { .w = &w };
        w.host.read = read_file;
        w.host.user = &input;
        check_good(&first, &w.host, "cpu", NULL);
        uint64_t n_reads = input.n;
        assert_true(n_reads > 10);
        for (int bad = 0; bad < BADS; bad++) {
            for (uint64_t nth = 1; nth <= n_reads; nth++) {
                input = (reads){ .w = &w, .bad_nth = nth, .bad = bad };
                int rc = run_whole(&r, &w.host, "cpu");
                if (bad == SHORT && nth > 1) { /* a short read is read on */
                    assert_ok(rc, r.error.message);
                    assert_memory_equal(r.ids, first.ids, sizeof r.ids);
                } else if (nth > 1 || bad == ERROR) { /* the first asks for the size, and 0 is one */
                    assert_int_equal(rc, GEMMA_E_IO);
                    assert_non_null(strstr(r.error.message, "model"));
                } else {
                    assert_true(rc == GEMMA_E_IO || rc == GEMMA_E_FORMAT);
                }
            }
        }
        input = (reads){ .w = &w };
        check_good(&r, &w.host, "cpu", &first);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_gemma3),
        cmocka_unit_test(allocations_gemma4),
        cmocka_unit_test(each_read),
    };
    return cmocka_run_group_tests_name("whole", tests, NULL, NULL);
}
