/* Calls and allocations that fail, and devices that are lost, while a model is parked, resumed or planned anew: it is then
 * parked or as it was, as gemma.h says, and the next try succeeds. Two threads whose steps meet budgets that come and go.
 * Skipped without a software device. */
#define _POSIX_C_SOURCE 200809L

#include "fault/pressure.h"

#include <pthread.h>
#include <stdatomic.h>
#include <vulkan/vulkan_core.h>

static const char machine_path[] = "machines/rtx3050-680m-16-linux.json";
static watched t;

static int park(void) { return gemma_model_park(t.r.model, &t.r.error); }
static int resume(void) { return gemma_model_resume(t.r.model, NULL, &t.r.error); }

static gemma_plan *other; /* of the same file */
static int replan(void) { return gemma_model_replan(t.r.model, other, NULL, &t.r.error); }

static void make_other(void)
{
    gemma_plan_options po = t.plan;
    po.device = run_device(&t.r, t.where);
    po.ctx = 1024;
    po.replaces = t.r.model;
    assert_ok(gemma_plan_create(t.r.file, &po, &other, &t.r.error), t.r.error.message);
}

/* ---- what fails ---- */

typedef enum failure { NO_DEVICE_MEMORY, NO_HOST_MEMORY, NO_ALLOCATION, FAILURES } failure;

static void arm(failure f, uint64_t nth)
{
    if (f == NO_ALLOCATION)
        fault_fail_nth(nth);
    else
        vklayer_fail_nth(nth, f == NO_HOST_MEMORY ? VK_ERROR_OUT_OF_HOST_MEMORY : VK_ERROR_OUT_OF_DEVICE_MEMORY);
}

static bool disarm(failure f)
{
    bool fired = f == NO_ALLOCATION ? fault_fired() : vklayer_fired();
    fault_fail_nth(0);
    vklayer_fail_nth(0, 0);
    return fired;
}

static void check_failed(int rc, failure f)
{
    if (f == NO_DEVICE_MEMORY)
        assert_int_equal(rc, GEMMA_E_DEVMEM);
    else
        assert_int_equal(rc, GEMMA_E_NOMEM);
    assert_true(strlen(t.r.error.message) > 10);
    watch_check_bill(&t);
}

/* The nth call or allocation of each kind; later ones not all. Back to where it began after each. Returns how many failed. */
static uint32_t fail_each(int (*call)(void), failure f, bool parked, void (*back)(void))
{
    uint32_t n_failed = 0;
    for (uint64_t nth = 1;; nth += 1 + nth / 12) {
        arm(f, nth);
        int rc = call();
        if (!disarm(f)) {
            assert_ok(rc, t.r.error.message);
            watch_check_bill(&t);
            back();
            return n_failed;
        }
        if (rc) check_failed(rc, f);
        if (rc && call != replan) assert_int_equal(watch_parked(&t), parked);
        n_failed += rc != GEMMA_OK;
        back();
    }
}

static void be_here(void)
{
    if (watch_parked(&t)) assert_ok(resume(), t.r.error.message);
}

static void be_parked(void)
{
    if (!watch_parked(&t)) assert_ok(park(), t.r.error.message);
}

static void be_as_planned(void)
{
    if (gemma_model_plan(t.r.model) == other)
        assert_ok(gemma_model_replan(t.r.model, t.r.plan, NULL, &t.r.error), t.r.error.message);
    be_here();
}

static void everything_fails(void **state)
{
    (void)state;
    watch_begin(&t, machine_path);
    assert_ok(watch_open(&t), t.r.error.message);
    make_other();
    watch_tokens(&t, 150);
    for (failure f = 0; f < FAILURES; f++) {
        uint32_t n_park = fail_each(park, f, false, be_here);
        watch_tokens(&t, 3);
        be_parked();
        uint32_t n_resume = fail_each(resume, f, true, be_parked);
        be_here();
        watch_tokens(&t, 3);
        uint32_t n_replan = fail_each(replan, f, false, be_as_planned);
        watch_tokens(&t, 3);
        print_message("failed: %u of parking, %u of resuming, %u of planning anew\n", n_park, n_resume, n_replan);
        assert_true(n_park >= 2 && n_resume >= 15 && n_replan >= 15);
    }
    assert_ok(replan(), t.r.error.message);
    watch_check_bill(&t);
    watch_tokens(&t, 20);
    gemma_plan_destroy(other);
    watch_close(&t);
    watch_end(&t);
}

/* ---- lost ---- */

static void lose(int (*call)(void), bool from_parked, uint64_t nth)
{
    assert_ok(watch_open(&t), t.r.error.message);
    make_other();
    watch_tokens(&t, 70);
    if (from_parked) assert_ok(park(), t.r.error.message);
    vklayer_lose_at(nth);
    assert_int_equal(call(), GEMMA_E_LOST);
    assert_non_null(strstr(t.r.error.message, "lost"));
    watch_check_bill(&t);
    int32_t id;
    assert_int_equal(run_token(&t.r, PROMPT, &id), watch_parked(&t) ? GEMMA_E_STATE : GEMMA_E_LOST);
    if (watch_parked(&t)) assert_int_equal(resume(), GEMMA_E_LOST);
    assert_int_equal(gemma_session_position(t.r.session), 70);
    gemma_plan_destroy(other);
    watch_close(&t);
}

static uint64_t submits_of(int (*call)(void))
{
    uint64_t before = vklayer_submits();
    assert_ok(call(), t.r.error.message);
    return vklayer_submits() - before;
}

static void lost(void **state)
{
    (void)state;
    watch_begin(&t, machine_path);
    assert_ok(watch_open(&t), t.r.error.message);
    watch_tokens(&t, 70);
    uint64_t n_park = submits_of(park), n_resume = submits_of(resume);
    watch_close(&t);
    print_message("%u submits of parking, %u of resuming\n", (unsigned)n_park, (unsigned)n_resume);
    assert_true(n_park > 3 && n_resume > 6);
    for (uint64_t i = 0; i < 3; i++) {
        lose(park, false, 1 + i * (n_park - 1) / 2);
        lose(resume, true, 1 + i * (n_resume - 1) / 3); /* readings are sometimes fewer */
        lose(replan, false, 1 + i * (n_park + n_resume - 1) / 3);
    }
    watch_end(&t);
}

/* ---- two threads ---- */

static struct {
    atomic_uint answer, inside, together, wrong, tokens;
    atomic_uint events[GEMMA_EVENT_RECOVERED + 1];
    atomic_bool over;
} shared;

static uint32_t on_event(void *user, const gemma_pressure *event)
{
    (void)user;
    if (atomic_fetch_add(&shared.inside, 1)) atomic_fetch_add(&shared.together, 1);
    vklayer_sleep(20000000);
    atomic_fetch_sub(&shared.inside, 1);
    uint32_t answer = event->kind == GEMMA_EVENT_SHRUNK ? atomic_load(&shared.answer) : GEMMA_PRESSURE_KEEP;
    atomic_fetch_add(&shared.events[event->kind], 1);
    return answer;
}

/* The next event of a kind comes; a minute is long enough anywhere. */
static void await_event(uint32_t kind, uint32_t n_before)
{
    for (int i = 0; i < 6000 && atomic_load(&shared.events[kind]) == n_before; i++) vklayer_sleep(10000000);
    assert_true(atomic_load(&shared.events[kind]) > n_before);
}

/* The undisturbed model's tokens, again and again; a step that may not run yet is tried later. */
static void *talk(void *arg)
{
    run r = *(run *)arg; /* its session and step */
    uint32_t at = 0;
    while (!atomic_load(&shared.over)) {
        int32_t id = at ? t.want[at - 1].id : PROMPT;
        token got;
        int rc = run_token(&r, id, &got.id);
        if (rc == GEMMA_E_STALE || rc == GEMMA_E_STATE) {
            vklayer_sleep(10000000);
            continue;
        }
        rc = rc ? rc : gemma_step_candidate(r.step, 0, 0, &got.id, &got.logit);
        if (rc || memcmp(&got, &t.want[at], sizeof got)) atomic_fetch_add(&shared.wrong, 1);
        if (rc) break;
        atomic_fetch_add(&shared.tokens, 1);
        if (++at == WATCH_TOKENS && gemma_session_rewind(r.session, at = 0)) break;
    }
    return NULL;
}

static void two_threads(void **state)
{
    (void)state;
    static const uint32_t answers[] = { GEMMA_PRESSURE_KEEP, GEMMA_PRESSURE_STOP, GEMMA_PRESSURE_PARK,
                                        GEMMA_PRESSURE_REPLAN };
    watch_begin(&t, machine_path);
    assert_ok(watch_open(&t), t.r.error.message);
    gemma_step_destroy(t.r.step);
    gemma_session_destroy(t.r.session);
    gemma_model_close(t.r.model); /* again, with other hooks */
    gemma_load_options lo = { .size = sizeof lo, .pressure = on_event };
    run threads[2];
    pthread_t handles[2];
    assert_ok(gemma_model_load(t.r.plan, &lo, &t.r.model, &t.r.error), t.r.error.message);
    t.r.session = NULL;
    t.r.step = NULL;
    for (int i = 0; i < 2; i++) {
        threads[i] = (run){ .model = t.r.model, .error = { .size = sizeof threads[i].error } };
        assert_ok(gemma_session_create(t.r.model, NULL, &threads[i].session, &t.r.error), t.r.error.message);
        assert_ok(gemma_step_create(t.r.model, &threads[i].step, &t.r.error), t.r.error.message);
    }
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&handles[i], NULL, talk, &threads[i]), 0);
    for (size_t i = 0; i < COUNT(answers); i++) {
        uint32_t shrunk = atomic_load(&shared.events[GEMMA_EVENT_SHRUNK]);
        uint32_t recovered = atomic_load(&shared.events[GEMMA_EVENT_RECOVERED]);
        atomic_store(&shared.answer, answers[i]);
        vklayer_budget(0, 0, watch_heap_total(&t) / 10 * 7);
        await_event(GEMMA_EVENT_SHRUNK, shrunk);
        while (answers[i] == GEMMA_PRESSURE_PARK && !watch_parked(&t)) vklayer_sleep(1000000);
        if (answers[i] == GEMMA_PRESSURE_REPLAN) break;
        vklayer_budget(0, 0, t.m.devices[0].budgets[0]);
        if (answers[i] == GEMMA_PRESSURE_PARK)
            assert_ok(resume(), t.r.error.message);
        else
            await_event(GEMMA_EVENT_RECOVERED, recovered);
    }
    watch_second(); /* with the new plan */
    atomic_store(&shared.over, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(handles[i], NULL);
        gemma_step_destroy(threads[i].step);
        gemma_session_destroy(threads[i].session);
    }
    assert_int_equal(atomic_load(&shared.wrong), 0);
    assert_int_equal(atomic_load(&shared.together), 0);
    assert_true(atomic_load(&shared.tokens) > 100);
    assert_true(gemma_model_plan(t.r.model) != t.r.plan);
    watch_check_bill(&t);
    watch_close(&t);
    watch_end(&t);
}

int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* one test by its name */
    const struct CMUnitTest tests[] = { cmocka_unit_test(everything_fails), cmocka_unit_test(lost),
                                        cmocka_unit_test(two_threads) };
    int n_failed = cmocka_run_group_tests_name("parking", tests, NULL, NULL);
    return n_failed ? n_failed : run_skipped ? 77 : 0;
}
