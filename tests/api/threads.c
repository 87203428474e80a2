/* Several threads: sessions of one model, cancelling, two runtimes, the threads of a host. A failed assertion in a thread that is not the
 * first ends the program: that too is a failure. */
#include "api/world.h"

#include <pthread.h>
#include <stdatomic.h>

enum { N_THREADS = 4, N = 150, CTX = 512 };

static void begin(pthread_t *thread, void *(*run)(void *), void *arg)
{
    assert_int_equal(pthread_create(thread, NULL, run, arg), 0);
}

static float *new_rows(const world *w, uint32_t n)
{
    float *rows = calloc((size_t)n * w->n_vocab, sizeof *rows);
    assert_non_null(rows);
    return rows;
}

/* ---- sessions of one model ---- */

typedef struct person {
    world *w;
    uint32_t number;
    int32_t ids[N];
    float *alone, *together;
} person;

static void *use(void *arg)
{
    person *u = arg;
    gemma_session *s = world_session(u->w);
    gemma_step *t = world_step(u->w);
    gemma_model_status status = { .size = sizeof status };
    world_rows(u->w, t, s, u->ids, N, 5 + 8 * u->number, true, u->together);
    gemma_model_query(u->w->model, &status);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    return NULL;
}

static void check_sessions(const char *device, uint32_t family)
{
    world w;
    person people[N_THREADS];
    pthread_t threads[N_THREADS];
    gemma_plan_options o = { .size = sizeof o, .n_sessions = N_THREADS, .ctx = 192, .ubatch = 64, .logit_rows = 64 };
    world_init_family(&w, family);
    w.device = device;
    w.n_threads = 2;
    world_open(&w, &o);
    gemma_step *t = world_step(&w);
    gemma_session *s = world_session(&w);
    for (uint32_t i = 0; i < N_THREADS; i++) {
        people[i] = (person){ .w = &w, .number = i, .alone = new_rows(&w, N), .together = new_rows(&w, N) };
        world_ids(people[i].ids, N, i);
        world_rows(&w, t, s, people[i].ids, N, 64, true, people[i].alone);
        assert_int_equal(gemma_session_rewind(s, 0), GEMMA_OK);
    }
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    for (uint32_t i = 0; i < N_THREADS; i++) begin(&threads[i], use, &people[i]);
    for (uint32_t i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < N_THREADS; i++) {
        assert_same_rows(&w, "a session beside others", people[i].alone, people[i].together, N);
        free(people[i].alone);
        free(people[i].together);
    }
    gemma_model_status status = { .size = sizeof status };
    assert_int_equal(gemma_model_query(w.model, &status), GEMMA_OK);
    assert_int_equal(status.rows, 2 * N_THREADS * N);
    assert_int_equal(status.global_pages_free, status.global_pages);
    assert_int_equal(status.sliding_pages_free, status.sliding_pages);
    world_close(&w);
}

static void sessions_side_by_side(void **state)
{
    (void)state;
    check_sessions("cpu", 3);
    check_sessions("cpu", 4);
    check_sessions("reference", 4);
}

/* ---- cancel ---- */

typedef struct stop {
    gemma_cancel *cancel;
    atomic_uint rows; /* fed so far */
    atomic_bool raised;
    uint32_t at; /* rows after which the other thread raises */
    bool wait;   /* the feeding thread waits for it there */
} stop;

static void *raise_it(void *arg)
{
    stop *x = arg;
    while (atomic_load(&x->rows) < x->at) continue;
    gemma_cancel_raise(x->cancel);
    atomic_store(&x->raised, true);
    return NULL;
}

static int on_rows(void *user, uint64_t done, uint64_t total)
{
    stop *x = user;
    (void)total;
    atomic_store(&x->rows, (uint32_t)done);
    while (x->wait && done == x->at && !atomic_load(&x->raised)) continue;
    return 0;
}

/* Feeds with a thread that cancels once `at` rows are fed; then goes on, and the last row must be the oracle's. */
static void check_cancel(world *w, const int32_t *ids, const float *oracle, uint32_t at, bool wait, uint32_t piece)
{
    enum { LAST = 400 };
    pthread_t thread;
    stop x = { .at = at, .wait = wait };
    float row[TINY_VOCAB_MIN];
    int32_t have[LAST];
    char message[512];
    assert_int_equal(gemma_cancel_create(w->runtime, &x.cancel, NULL), GEMMA_OK);
    gemma_session *s = world_session(w);
    gemma_step *t = world_step(w);
    gemma_feed_options o = {
        .size = sizeof o, .piece = piece, .cancel = x.cancel, .progress = on_rows, .progress_user = &x
    };
    begin(&thread, raise_it, &x);
    int rc = gemma_session_feed(s, ids, LAST, &o);
    if (rc == GEMMA_OK) atomic_store(&x.rows, LAST); /* it came too late */
    pthread_join(thread, NULL);
    assert_int_equal(gemma_cancel_raised(x.cancel), 1);
    uint32_t position = gemma_session_position(s);
    if (rc || wait) {
        assert_int_equal(rc, GEMMA_E_CANCELLED);
        assert_int_equal(position % piece, 0);
        assert_true(position < LAST);
        if (wait) assert_int_equal(position, at);
        gemma_session_message(s, message, sizeof message);
        assert_non_null(strstr(message, "cancelled"));
        assert_int_equal(gemma_session_feed(s, ids + position, 1, &o), GEMMA_E_CANCELLED); /* raised until cleared */
        assert_int_equal(gemma_session_position(s), position);
        assert_int_equal(gemma_session_ids(s, 0, have, LAST), position);
        assert_memory_equal(have, ids, position * sizeof *ids);
    }
    gemma_cancel_clear(x.cancel);
    x.wait = false;
    if (position < LAST) assert_int_equal(gemma_session_feed(s, ids + position, LAST - position, &o), GEMMA_OK);
    world_row(w, t, s, ids[LAST], row);
    assert_same_rows(w, "after a cancel", oracle + (size_t)LAST * w->n_vocab, row, 1);
    gemma_step_destroy(t);
    gemma_session_destroy(s);
    gemma_cancel_destroy(x.cancel);
}

static void cancelling(void **state)
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .ctx = CTX, .ubatch = CTX, .logit_rows = CTX };
    int32_t ids[401];
    (void)state;
    world_init_family(&w, 4);
    w.n_threads = 2;
    world_open(&w, &o);
    world_ids(ids, 401, 5);
    float *oracle = new_rows(&w, 401);
    gemma_session *s = world_session(&w);
    gemma_step *t = world_step(&w);
    world_rows(&w, t, s, ids, 401, 401, true, oracle);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    check_cancel(&w, ids, oracle, 48, true, 16);
    check_cancel(&w, ids, oracle, 100, true, 100);
    for (int i = 0; i < 10; i++) { /* wherever it hits */
        check_cancel(&w, ids, oracle, 20, false, 20);
        check_cancel(&w, ids, oracle, 0, false, 200);
    }
    free(oracle);
    world_close(&w);
}

/* A step that is cancelled leaves its sessions as they were. */
static void cancelled_step(void **state)
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .n_sessions = 2 };
    gemma_cancel *cancel;
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, &o);
    assert_int_equal(gemma_cancel_create(w.runtime, &cancel, NULL), GEMMA_OK);
    gemma_session *s[2] = { world_session(&w), world_session(&w) };
    gemma_step *t = world_step(&w);
    int32_t ids[2] = { TINY_ASCII + 1, TINY_ASCII + 2 };
    assert_int_equal(gemma_session_feed(s[1], ids, 2, NULL), GEMMA_OK);
    gemma_cancel_raise(cancel);
    for (int i = 0; i < 2; i++) {
        gemma_row row = { .size = sizeof row, .token = ids[i], .want = GEMMA_WANT_CANDIDATES };
        assert_int_equal(gemma_step_add(t, s[i], &row, NULL), GEMMA_OK);
    }
    int rc = gemma_step_submit(t, cancel);
    if (!rc) rc = gemma_step_wait(t, FOREVER);
    assert_int_equal(rc, GEMMA_E_CANCELLED);
    assert_int_equal(gemma_step_n_candidates(t, 0), 0);
    assert_int_equal(gemma_session_position(s[0]), 0);
    assert_int_equal(gemma_session_position(s[1]), 2);
    gemma_step_clear(t);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gemma_session_feed(s[i], ids, 2, NULL), GEMMA_OK);
        gemma_session_destroy(s[i]);
    }
    gemma_step_destroy(t);
    gemma_cancel_destroy(cancel);
    world_close(&w);
}

/* ---- two runtimes ---- */

typedef struct process_part {
    world w;
    int32_t ids[N];
    float *rows;
} process_part;

static void *live(void *arg)
{
    process_part *p = arg;
    gemma_plan_options o = { .size = sizeof o, .ubatch = 40, .logit_rows = 40 };
    world_open(&p->w, &o);
    gemma_session *s = world_session(&p->w);
    gemma_step *t = world_step(&p->w);
    world_rows(&p->w, t, s, p->ids, N, 40, true, p->rows);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    gemma_model_close(p->w.model);
    p->w.model = NULL;
    return NULL;
}

static void two_runtimes(void **state)
{
    process_part parts[2] = { 0 };
    pthread_t thread;
    (void)state;
    for (int i = 0; i < 2; i++) {
        world_init_family(&parts[i].w, 4);
        parts[i].w.n_threads = 2;
        parts[i].rows = new_rows(&parts[i].w, N);
        world_ids(parts[i].ids, N, 6);
    }
    begin(&thread, live, &parts[0]);
    live(&parts[1]);
    pthread_join(thread, NULL);
    assert_same_rows(&parts[0].w, "two runtimes", parts[0].rows, parts[1].rows, N);
    for (int i = 0; i < 2; i++) {
        free(parts[i].rows);
        if (i == 1) break;
        gemma_tokenizer_destroy(parts[i].w.tokenizer);
        gemma_plan_destroy(parts[i].w.plan);
        gemma_file_close(parts[i].w.file);
        gemma_runtime_destroy(parts[i].w.runtime);
        free(parts[i].w.bytes);
    }
    world_close(&parts[1].w); /* looks for leaks of both */
}

/* ---- the host's threads ---- */

enum { N_PARTS = 3 };

typedef struct tally {
    uint32_t n_calls, n_odd; /* n_odd: with another number of tasks than threads were asked for */
} tally;

static void run_and_count(void *user, uint32_t n_tasks, gemma_task task, void *arg)
{
    tally *t = user;
    t->n_calls++;
    t->n_odd += n_tasks != N_PARTS;
    for (uint32_t i = n_tasks; i-- > 0;) task(arg, i);
}

static gemma_model_status status_of(const world *w)
{
    gemma_model_status status = { .size = sizeof status };
    assert_int_equal(gemma_model_query(w->model, &status), GEMMA_OK);
    return status;
}

/* One row; returns the calls it took. */
static uint32_t calls_of_row(world *w, gemma_step *t, gemma_session *s, const tally *host)
{
    float row[TINY_VOCAB_MIN];
    uint32_t before = host->n_calls;
    world_row(w, t, s, TINY_ASCII, row);
    return host->n_calls - before;
}

static void check_calls(const char *device, uint32_t family)
{
    enum { PROMPT = 70 }; /* more than a page: the fork shares one that the next row writes */
    world w;
    tally host = { 0 };
    int32_t ids[PROMPT];
    gemma_plan_options o = { .size = sizeof o, .n_sessions = 2, .ctx = 192, .ubatch = 64 };
    gemma_plan_info info = { .size = sizeof info };
    gemma_probe probe = { .size = sizeof probe };
    gemma_session *fork;
    world_init_family(&w, family);
    w.device = device;
    w.n_threads = N_PARTS;
    w.host.user = &host;
    w.host.parallel_for = run_and_count;
    world_open(&w, &o);
    world_ids(ids, PROMPT, 3);
    gemma_plan_describe(w.plan, &info);
    assert_int_equal(status_of(&w).last_dispatches, 0);
    gemma_session *s = world_session(&w);
    gemma_step *t = world_step(&w);
    host.n_calls = 0;
    assert_int_equal(gemma_session_feed(s, ids, PROMPT, NULL), GEMMA_OK); /* two steps, the second of six rows */
    assert_in_range(status_of(&w).last_dispatches, 1, host.n_calls - 1);
    uint32_t n_dispatches = calls_of_row(&w, t, s, &host);
    assert_int_equal(status_of(&w).last_dispatches, n_dispatches);
    assert_int_equal(status_of(&w).last_submits, 1);
    assert_in_range(n_dispatches, info.n_ops / 2, info.n_ops * 3 / 2); /* about one an op */
    assert_int_equal(gemma_session_fork(s, &fork, NULL), GEMMA_OK);
    assert_int_equal(calls_of_row(&w, t, fork, &host), n_dispatches + 1); /* and the copy of the shared page */
    assert_int_equal(status_of(&w).last_dispatches, n_dispatches);
    assert_int_equal(calls_of_row(&w, t, fork, &host), n_dispatches);
    host.n_calls = 0;
    probe.device = w.device[0] == 'c' ? 0 : 1;
    assert_int_equal(gemma_device_probe(w.runtime, probe.device, NULL, &probe, NULL), GEMMA_OK);
    assert_true(host.n_calls > 0 && probe.dispatch_us > 0);
    assert_int_equal(host.n_odd, 0);
    gemma_step_destroy(t);
    gemma_session_destroy(fork);
    gemma_session_destroy(s);
    world_close(&w);
}

static void host_threads(void **state)
{
    (void)state;
    check_calls("cpu", 3);
    check_calls("cpu", 4);
    check_calls("reference", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_side_by_side), cmocka_unit_test(cancelling),   cmocka_unit_test(cancelled_step),
        cmocka_unit_test(two_runtimes),          cmocka_unit_test(host_threads),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
