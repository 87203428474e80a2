/* The runtime's threads: phases in order, every part once, callers in turn, the host's threads, out of memory. */
#include "base/base.h"
#include "support/fault.h"

#include <fenv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { MAX_PARTS = 8, MAX_PHASES = 64 };

/* What a run of phases does: each part notes itself; all parts of the phase before must have been there. */
typedef struct job {
    uint32_t n_parts;
    atomic_uint done[MAX_PHASES];
    uint32_t times[MAX_PHASES][MAX_PARTS]; /* plain: each part has its own, read by the caller afterwards */
    uint32_t carried[2][MAX_PARTS];        /* phase i reads all that phase i - 1 wrote: a missing barrier is a race */
    atomic_uint n_wrong;
    uint32_t stop_after; /* phases; 0 = never */
    uint32_t n_asked;
} job;

static void run_job(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    job *j = arg;
    bool right = n_parts == j->n_parts && part < n_parts && phase < MAX_PHASES;
    if (right && phase) right = atomic_load(&j->done[phase - 1]) == n_parts;
    uint32_t sum = 1;
    for (uint32_t i = 0; right && i < n_parts; i++) sum += phase ? j->carried[(phase + 1) % 2][i] : 0;
    if (!right) {
        atomic_fetch_add(&j->n_wrong, 1);
        return;
    }
    j->carried[phase % 2][part] = sum % 1000;
    j->times[phase][part]++;
    atomic_fetch_add(&j->done[phase], 1);
}

static bool stop_job(void *arg)
{
    job *j = arg;
    return ++j->n_asked == j->stop_after;
}

static void check_job(const job *j, uint32_t n_phases)
{
    assert_int_equal(j->n_wrong, 0);
    for (uint32_t phase = 0; phase < MAX_PHASES; phase++) {
        for (uint32_t part = 0; part < MAX_PARTS; part++)
            assert_int_equal(j->times[phase][part], phase < n_phases && part < j->n_parts);
    }
}

static void run_many(gm_mem *mem, uint32_t n_threads, uint32_t n_runs)
{
    gm_pool *pool;
    assert_int_equal(gm_pool_create(mem, n_threads, &pool, NULL), GEMMA_OK);
    assert_int_equal(gm_pool_n_threads(pool), n_threads);
    for (uint32_t i = 0; i < n_runs; i++) {
        job j = { .n_parts = n_threads };
        uint32_t n_phases = i % (MAX_PHASES + 1);
        assert_true(gm_pool_run(pool, run_job, &j, n_phases, i % 2 ? stop_job : NULL));
        check_job(&j, n_phases);
        assert_int_equal(j.n_asked, i % 2 && n_phases ? n_phases - 1 : 0);
        if (i % 50 == 0) gm_sleep_ns(2000000); /* long enough for the workers to fall asleep */
    }
    gm_pool_destroy(pool);
}

static void test_phases(void **state)
{
    (void)state;
    gm_mem mem;
    gm_mem_init(&mem, NULL);
    static const uint32_t n_threads[] = { 1, 2, 3, 8 };
    for (size_t i = 0; i < GM_COUNT(n_threads); i++) run_many(&mem, n_threads[i], 200);
    assert_true(gm_mem_live(&mem, GEMMA_TAG_OBJECT) == 0);
}

static void test_stop(void **state)
{
    (void)state;
    gm_mem mem;
    gm_pool *pool;
    gm_mem_init(&mem, NULL);
    for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
        assert_int_equal(gm_pool_create(&mem, n_threads, &pool, NULL), GEMMA_OK);
        for (uint32_t after = 1; after <= 11; after++) {
            job j = { .n_parts = n_threads, .stop_after = after };
            bool whole = after > 9; /* not asked after the last of ten */
            assert_int_equal(gm_pool_run(pool, run_job, &j, 10, stop_job), whole);
            check_job(&j, whole ? 10 : after);
        }
        gm_pool_destroy(pool);
    }
}

/* Some phases are slow in one part: the others sleep meanwhile and must be woken. */
static void run_lame(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    if (phase % 8 == part) gm_sleep_ns(3000000);
    run_job(arg, phase, part, n_parts);
}

static void test_slow_parts(void **state)
{
    (void)state;
    gm_mem mem;
    gm_pool *pool;
    gm_mem_init(&mem, NULL);
    assert_int_equal(gm_pool_create(&mem, 3, &pool, NULL), GEMMA_OK);
    job j = { .n_parts = 3 };
    assert_true(gm_pool_run(pool, run_lame, &j, MAX_PHASES, NULL));
    check_job(&j, MAX_PHASES);
    gm_pool_destroy(pool);
}

typedef struct caller {
    gm_pool *pool;
    atomic_uint *n_inside;
    atomic_uint n_wrong, n_good;
} caller;

typedef struct inside {
    job j;
    caller *c;
} inside;

static void run_inside(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    inside *in = arg;
    if (part == 0 && atomic_fetch_add(in->c->n_inside, 1)) atomic_fetch_add(&in->c->n_wrong, 1);
    run_job(&in->j, phase, part, n_parts);
    if (part == 0) atomic_fetch_sub(in->c->n_inside, 1);
}

static void call_often(void *arg)
{
    caller *c = arg;
    for (uint32_t i = 0; i < 100; i++) {
        inside in = { .j = { .n_parts = gm_pool_n_threads(c->pool) }, .c = c };
        bool good = gm_pool_run(c->pool, run_inside, &in, 5, NULL) && atomic_load(&in.j.done[4]) == in.j.n_parts;
        atomic_fetch_add(good && !in.j.n_wrong ? &c->n_good : &c->n_wrong, 1);
    }
}

static void check_callers(gm_mem *mem, uint32_t n_threads)
{
    gm_pool *pool;
    gm_thread *threads[4];
    atomic_uint n_inside = 0;
    assert_int_equal(gm_pool_create(mem, n_threads, &pool, NULL), GEMMA_OK);
    caller c = { .pool = pool, .n_inside = &n_inside };
    for (size_t i = 0; i < GM_COUNT(threads); i++)
        assert_int_equal(gm_thread_start(mem, call_often, &c, &threads[i]), GEMMA_OK);
    for (size_t i = 0; i < GM_COUNT(threads); i++) gm_thread_join(mem, threads[i]);
    assert_int_equal(c.n_wrong, 0);
    assert_int_equal(c.n_good, 400);
    gm_pool_destroy(pool);
}

static void test_callers(void **state)
{
    (void)state;
    gm_mem mem;
    gm_mem_init(&mem, NULL);
    for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) check_callers(&mem, n_threads);
}

/* ---- the host's threads ---- */

static atomic_uint n_host_calls;

/* The order a job system may choose: backwards, one after another. */
static void host_backwards(void *user, uint32_t n_tasks, gemma_task task, void *arg)
{
    (void)user;
    atomic_fetch_add(&n_host_calls, 1);
    for (uint32_t i = n_tasks; i-- > 0;) task(arg, i);
}

static void test_host_threads(void **state)
{
    (void)state;
    gemma_host host;
    gm_mem mem;
    fault_host_init(&host);
    host.parallel_for = host_backwards;
    gm_mem_init(&mem, &host);
    for (uint32_t n_threads = 1; n_threads <= 8; n_threads++) {
        gm_pool *pool;
        n_host_calls = 0;
        assert_int_equal(gm_pool_create(&mem, n_threads, &pool, NULL), GEMMA_OK);
        job j = { .n_parts = n_threads, .stop_after = 7 };
        assert_false(gm_pool_run(pool, run_job, &j, 20, stop_job));
        check_job(&j, 7);
        assert_int_equal(n_host_calls, 7);
        gm_pool_destroy(pool);
    }
    check_callers(&mem, 2);
    assert_true(fault_live_blocks() == 0 && fault_mismatches() == 0);
}

/* ---- limits and faults ---- */

static void test_refused(void **state)
{
    (void)state;
    gm_mem mem;
    gm_pool *pool = (gm_pool *)&mem;
    gemma_error error;
    gm_error_init(&error);
    gm_mem_init(&mem, NULL);
    assert_int_equal(gm_pool_create(&mem, 0, &pool, &error), GEMMA_E_ARG);
    assert_null(pool);
    assert_int_equal(gm_pool_create(&mem, 100000, &pool, &error), GEMMA_E_ARG);
    assert_non_null(strstr(error.message, "100000"));
    gm_pool_destroy(NULL);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    gemma_host host;
    gm_mem mem;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    uint64_t nth = 0;
    int rc;
    do {
        gm_pool *pool;
        fault_fail_nth(++nth);
        rc = gm_pool_create(&mem, 3, &pool, NULL);
        assert_int_equal(rc, fault_fired() ? GEMMA_E_NOMEM : GEMMA_OK);
        assert_true((pool != NULL) == (rc == GEMMA_OK));
        uint64_t before = fault_allocations();
        job j = { .n_parts = 3 };
        if (pool) assert_true(gm_pool_run(pool, run_job, &j, 10, NULL));
        assert_true(fault_allocations() == before); /* a run allocates nothing */
        gm_pool_destroy(pool);
        assert_true(fault_live_blocks() == 0);
        assert_true(fault_mismatches() == 0);
    } while (rc);
    assert_true(nth > 5);
}

static void run_thirds(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    (void)phase, (void)n_parts;
    volatile float one = 1, three = 3;
    ((float *)arg)[part] = one / three;
}

/* The caller's rounding mode changes no result, and is still there afterwards. */
static void test_float_env(void **state)
{
    (void)state;
#if defined(FE_UPWARD) && (defined(__x86_64__) || defined(__aarch64__))
    gm_mem mem;
    gm_pool *pool;
    float thirds[3];
    gm_mem_init(&mem, NULL);
    assert_int_equal(fesetround(FE_UPWARD), 0);
    assert_int_equal(gm_pool_create(&mem, 3, &pool, NULL), GEMMA_OK); /* threads inherit the mode on some systems */
    assert_true(gm_pool_run(pool, run_thirds, thirds, 1, NULL));
    gm_pool_destroy(pool);
    assert_int_equal(fegetround(), FE_UPWARD);
    fesetround(FE_DOWNWARD);
    uint64_t saved = gm_float_env_set_default();
    assert_int_equal(gm_float_env_set_default(), gm_float_env_set_default());
    gm_float_env_restore(saved);
    assert_int_equal(fegetround(), FE_DOWNWARD);
    fesetround(FE_TONEAREST);
    for (size_t i = 0; i < GM_COUNT(thirds); i++) assert_int_equal(gm_f32_bits(thirds[i]), 0x3eaaaaab);
#else
    skip();
#endif
}

static void test_mutex_timeout(void **state)
{
    (void)state;
    gm_mem mem;
    gm_mutex *mutex;
    gm_mem_init(&mem, NULL);
    assert_int_equal(gm_mutex_create(&mem, &mutex), GEMMA_OK);
    gm_mutex_lock(mutex);
    uint64_t start = gm_now_ns();
    bool woken = true;
    while (woken && gm_now_ns() - start < 5000000000u) woken = gm_mutex_wait(mutex, 20000000);
    assert_false(woken);
    assert_true(gm_now_ns() - start >= 19000000);
    gm_mutex_unlock(mutex);
    gm_mutex_destroy(&mem, mutex);
    gm_mutex_destroy(&mem, NULL);
    gm_thread_join(&mem, NULL);
}

static void test_machine(void **state)
{
    (void)state;
    char name[64], four[4];
    gm_cpu_name(name, sizeof name);
    assert_true(strlen(name) > 0);
    gm_cpu_name(four, sizeof four);
    assert_memory_equal(four, name, 3);
    assert_true(gm_n_cores() >= 1);
    assert_true(gm_ram_total_bytes() > (uint64_t)16 << 20);
    assert_true(gm_ram_available_bytes() <= gm_ram_total_bytes());
    uint32_t found = gm_cpu_features();
#if defined(__x86_64__)
    assert_int_equal((found & GM_CPU_AVX2) != 0, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
    if (found & GM_CPU_AVX512) assert_true(__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"));
    if (found & GM_CPU_AVX512_VNNI) assert_true(__builtin_cpu_supports("avx512vnni"));
    assert_int_equal(found & GM_CPU_NEON, 0);
#elif defined(__aarch64__)
    assert_true(found & GM_CPU_NEON);
    assert_int_equal(found & GM_CPU_AVX2, 0);
#endif
    assert_int_equal(found, gm_cpu_features());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phases),        cmocka_unit_test(test_stop),         cmocka_unit_test(test_slow_parts),
        cmocka_unit_test(test_callers),       cmocka_unit_test(test_host_threads), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_float_env),    cmocka_unit_test(test_mutex_timeout),
        cmocka_unit_test(test_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
