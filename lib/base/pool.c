#include "base/os.h"

#include <stdalign.h>

enum {
    MAX_THREADS = 1024,
    CACHE_LINE = 64,
    /* Looks at a counter before sleeping: some µs to some hundred µs. The number follows what happens: where a core is
     * kept busy by others, spinning only keeps the thread that is waited for from running. */
    MIN_SPINS = 100,
    MAX_SPINS = 4000,
};

/* A number that only grows, and threads that wait for it to do so. */
typedef struct counter {
    alignas(CACHE_LINE) atomic_uint_least64_t value;
    alignas(CACHE_LINE) atomic_uint n_asleep;
    gm_mutex *mutex;
} counter;

typedef struct worker {
    gm_pool *pool;
    gm_thread *thread;
    uint32_t part;
} worker;

struct gm_pool {
    gm_mem *mem;
    gm_mutex *turn;                /* held by the caller whose sequence runs */
    worker *workers;               /* [n_workers], parts 1 and up */
    uint32_t n_threads, n_workers; /* workers that were started: n_threads - 1, or 0 with the host's threads */
    uint32_t least_spins, n_spins; /* n_spins: the caller's */
    bool quit;
    /* The sequence under way: written before `opened` grows, read after. */
    gm_phase_fn run;
    bool (*stop)(void *arg);
    void *arg;
    uint32_t n_phases;
    uint32_t host_phase; /* of the host's threads */
    uint64_t n_opened;   /* the caller's own count of what `opened` has come to */
    uint64_t stopped_at; /* `opened` behind the last phase of the last sequence that was stopped */
    counter opened;      /* sequences begun and phases done so far */
    alignas(CACHE_LINE) atomic_uint_least64_t arrived; /* parts done so far */
};

/* Spins, then sleeps, until the value is at least `wanted`. *n_spins is the waiting thread's own: doubled where it was
 * enough, halved where it was not. */
static void counter_wait(counter *c, uint64_t wanted, uint32_t *n_spins, uint32_t least_spins)
{
    for (uint32_t i = 0; i <= *n_spins; i++) {
        if (atomic_load_explicit(&c->value, memory_order_acquire) >= wanted) {
            *n_spins = gm_min_u32(*n_spins * 2, MAX_SPINS);
            return;
        }
        gm_cpu_relax();
    }
    *n_spins = gm_max_u32(*n_spins / 2, least_spins);
    gm_mutex_lock(c->mutex);
    /* Either we see the new value here or counter_wake sees us in n_asleep: both orders are sequentially consistent. */
    atomic_fetch_add(&c->n_asleep, 1);
    while (atomic_load(&c->value) < wanted) gm_mutex_wait(c->mutex, UINT64_MAX);
    atomic_fetch_sub(&c->n_asleep, 1);
    gm_mutex_unlock(c->mutex);
}

static void counter_grow(counter *c)
{
    atomic_fetch_add(&c->value, 1);
    if (atomic_load(&c->n_asleep) == 0) return;
    gm_mutex_lock(c->mutex); /* whoever did not see the new value sleeps now */
    gm_mutex_unlock(c->mutex);
    gm_mutex_wake_all(c->mutex);
}

/* A part's way through a sequence. The last part to end a phase opens the next for all; what it writes before, all may
 * read until they end that one. false: the sequence was stopped. */
static bool run_phases(gm_pool *pool, uint32_t part, uint64_t *n_opened, uint32_t *n_spins)
{
    gm_phase_fn run = pool->run;
    void *arg = pool->arg;
    for (uint32_t phase = 0, n_phases = pool->n_phases; phase < n_phases; phase++) {
        bool ends = phase + 1 == n_phases;
        run(arg, phase, part, pool->n_threads);
        ++*n_opened;
        if ((atomic_fetch_add(&pool->arrived, 1) + 1) % pool->n_threads == 0) {
            if (!ends && pool->stop && pool->stop(arg)) pool->stopped_at = *n_opened;
            counter_grow(&pool->opened);
        } else {
            counter_wait(&pool->opened, *n_opened, n_spins, pool->least_spins);
        }
        if (!ends && pool->stopped_at == *n_opened) return false;
    }
    return true;
}

static void worker_main(void *arg)
{
    worker *w = arg;
    gm_pool *pool = w->pool;
    uint32_t n_spins = pool->least_spins;
    gm_float_env_set_default();
    for (uint64_t n_opened = 1;; n_opened++) {
        counter_wait(&pool->opened, n_opened, &n_spins, pool->least_spins);
        if (pool->quit) return;
        run_phases(pool, w->part, &n_opened, &n_spins);
    }
}

static int start_workers(gm_pool *pool, uint32_t n)
{
    int rc = GEMMA_OK;
    pool->workers = gm_new_array(pool->mem, n, sizeof *pool->workers, GEMMA_TAG_OBJECT);
    if (!pool->workers) return GEMMA_E_NOMEM;
    for (uint32_t i = 0; i < n && !rc; i++) {
        worker *w = &pool->workers[i];
        *w = (worker){ .pool = pool, .part = i + 1 };
        rc = gm_thread_start(pool->mem, worker_main, w, &w->thread);
        if (!rc) pool->n_workers++;
    }
    return rc;
}

int gm_pool_create(gm_mem *mem, uint32_t n_threads, gm_pool **out, gemma_error *error)
{
    *out = NULL;
    if (n_threads == 0 || n_threads > MAX_THREADS)
        return gm_fail(error, GEMMA_E_ARG, "%u threads are asked for; 1 to %d can be had", n_threads, MAX_THREADS);
    gm_pool *pool = gm_mem_alloc(mem, sizeof *pool, CACHE_LINE, GEMMA_TAG_OBJECT);
    if (!pool) return gm_fail_nomem(error, "the thread pool", sizeof *pool);
    memset(pool, 0, sizeof *pool);
    pool->mem = mem;
    pool->n_threads = n_threads;
    pool->least_spins = pool->n_spins = n_threads <= gm_n_cores() ? MIN_SPINS : 0; /* 0 stays 0 */
    bool own_threads = n_threads > 1 && !mem->host.parallel_for;
    int rc = gm_mutex_create(mem, &pool->turn);
    if (!rc) rc = gm_mutex_create(mem, &pool->opened.mutex);
    if (!rc && own_threads) rc = start_workers(pool, n_threads - 1);
    if (rc) {
        gm_pool_destroy(pool);
        if (rc == GEMMA_E_NOMEM) return gm_fail_nomem(error, "the thread pool", sizeof *pool);
        return gm_fail(error, rc, "the system cannot start %u threads", n_threads - 1);
    }
    *out = pool;
    return GEMMA_OK;
}

void gm_pool_destroy(gm_pool *pool)
{
    if (!pool) return;
    pool->quit = true;
    if (pool->n_workers) counter_grow(&pool->opened);
    for (uint32_t i = 0; i < pool->n_workers; i++) gm_thread_join(pool->mem, pool->workers[i].thread);
    gm_delete(pool->mem, pool->workers);
    gm_mutex_destroy(pool->mem, pool->opened.mutex);
    gm_mutex_destroy(pool->mem, pool->turn);
    gm_mem_free(pool->mem, pool, sizeof *pool, GEMMA_TAG_OBJECT);
}

uint32_t gm_pool_n_threads(const gm_pool *pool) { return pool->n_threads; }

/* ---- one sequence ---- */

static void host_task(void *arg, uint32_t part)
{
    gm_pool *pool = arg;
    uint64_t saved = gm_float_env_set_default();
    pool->run(pool->arg, pool->host_phase, part, pool->n_threads);
    gm_float_env_restore(saved);
}

static bool run_on_host(gm_pool *pool)
{
    const gemma_host *host = &pool->mem->host;
    for (pool->host_phase = 0; pool->host_phase < pool->n_phases; pool->host_phase++) {
        if (pool->host_phase && pool->stop && pool->stop(pool->arg)) return false;
        host->parallel_for(host->user, pool->n_threads, host_task, pool);
    }
    return true;
}

bool gm_pool_run(gm_pool *pool, gm_phase_fn run, void *arg, uint32_t n_phases, bool (*stop)(void *arg))
{
    bool whole = true;
    gm_mutex_lock(pool->turn);
    uint64_t saved = gm_float_env_set_default();
    pool->run = run;
    pool->stop = stop;
    pool->arg = arg;
    pool->n_phases = n_phases;
    if (pool->mem->host.parallel_for) {
        whole = run_on_host(pool);
    } else if (n_phases) { /* without one, nothing would tell when the workers have read the above */
        counter_grow(&pool->opened);
        pool->n_opened++;
        whole = run_phases(pool, 0, &pool->n_opened, &pool->n_spins);
    }
    gm_float_env_restore(saved);
    gm_mutex_unlock(pool->turn);
    return whole;
}
