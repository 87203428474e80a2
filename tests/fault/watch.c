#define _POSIX_C_SOURCE 200809L

#include "fault/pressure.h"

#include <time.h>
#include <vulkan/vulkan_core.h>

static uint32_t on_pressure(void *user, const gemma_pressure *event)
{
    watched *t = user;
    assert_true(t->n_events < WATCH_EVENTS);
    assert_int_equal(event->size, sizeof *event);
    t->events[t->n_events++] = *event;
    return t->answer;
}

static int open_on(watched *t, bool listen)
{
    gemma_load_options lo = { .size = sizeof lo, .pressure = listen ? on_pressure : NULL, .pressure_user = t };
    t->n_tokens = t->n_events = 0;
    run *r = &t->r;
    int rc = run_open_runtime(r, &t->w, &t->vulkan);
    const char *name = t->m.devices[t->plan.device].name;
    gemma_plan_options po = t->plan;
    if (!rc) po.device = run_device(r, name);
    gemma_probe probe = { .size = sizeof probe, .device = po.device };
    if (po.probe) probe.read_gb_s = po.probe->read_gb_s;
    if (po.probe) po.probe = &probe;
    if (!rc) rc = gemma_plan_create(r->file, &po, &r->plan, &r->error);
    if (!rc) rc = gemma_model_load(r->plan, &lo, &r->model, &r->error);
    if (!rc) rc = gemma_session_create(r->model, NULL, &r->session, &r->error);
    if (!rc) rc = gemma_step_create(r->model, &r->step, &r->error);
    return rc;
}

int watch_open(watched *t) { return open_on(t, true); }

static int next(watched *t, token *got)
{
    run *r = &t->r;
    int32_t id = t->n_tokens ? t->want[t->n_tokens - 1].id : PROMPT;
    int rc = run_token(r, id, &got->id);
    if (!rc) assert_int_equal(gemma_step_candidate(r->step, 0, 0, &got->id, &got->logit), GEMMA_OK);
    return rc;
}

int watch_token(watched *t)
{
    token got;
    assert_true(t->n_tokens < WATCH_TOKENS);
    assert_int_equal(gemma_session_position(t->r.session), t->n_tokens);
    int rc = next(t, &got);
    assert_int_equal(gemma_session_position(t->r.session), t->n_tokens + (rc == GEMMA_OK));
    if (rc) return rc;
    const token *want = &t->want[t->n_tokens++];
    if (memcmp(&got, want, sizeof got))
        fail_msg("%s: token %u is %d at %.9g, and was %d at %.9g", t->where, t->n_tokens, got.id, (double)got.logit,
                 want->id, (double)want->logit);
    return rc;
}

void watch_tokens(watched *t, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) assert_ok(watch_token(t), t->r.error.message);
}

void watch_begin_on(watched *t, const char *machine_path, uint32_t number)
{
    tiny_model tiny;
    memset(t, 0, sizeof *t);
    run_begin(&t->vulkan);
    t->m = run_machine(machine_path, 0);
    t->where = t->m.devices[number].name;
    vklayer_pose(&t->m);
    tiny_model_defaults(&tiny, 3);
    tiny.n_layers = 2;
    tiny.ctx = 16384;
    world_init(&t->w, &tiny);
    t->plan = (gemma_plan_options){
        .size = sizeof t->plan, .device = number, .ctx = 8192, .ubatch = 4, .n_sessions = 2, .headroom_bytes = 1
    };
    assert_ok(open_on(t, false), t->r.error.message);
    for (uint32_t i = 0; i < WATCH_TOKENS; i++) {
        assert_ok(next(t, &t->want[i]), t->r.error.message);
        t->n_tokens++;
    }
    assert_int_equal(t->n_events, 0);
    watch_close(t);
}

void watch_begin(watched *t, const char *machine_path) { watch_begin_on(t, machine_path, 0); }

void watch_second(void)
{
    struct timespec second = { .tv_sec = 1, .tv_nsec = 50000000 };
    while (nanosleep(&second, &second)) {}
}

bool watch_parked(const watched *t)
{
    gemma_model_status status = { .size = sizeof status };
    assert_int_equal(gemma_model_query(t->r.model, &status), GEMMA_OK);
    return status.parked;
}

void watch_check_bill(const watched *t)
{
    gemma_plan *plan = gemma_model_plan(t->r.model);
    run_check_bill(&t->r, watch_parked(t) ? NULL : plan, &t->m, t->where);
}

uint64_t watch_heap_total(const watched *t)
{
    gemma_bill bill = { .size = sizeof bill };
    assert_int_equal(gemma_plan_bill(gemma_model_plan(t->r.model), 0, &bill), GEMMA_OK);
    return bill.total_bytes;
}

const gemma_pressure *watch_event(watched *t, uint32_t kind)
{
    gemma_model_status status = { .size = sizeof status };
    assert_int_equal(t->n_events, 1);
    assert_int_equal(t->events[0].kind, kind);
    assert_int_equal(t->events[0].device, run_device(&t->r, t->where));
    assert_int_equal(gemma_model_query(t->r.model, &status), GEMMA_OK);
    assert_true(status.n_events >= 1);
    t->n_events = 0;
    return &t->events[0];
}

void watch_close(watched *t)
{
    run_finish(&t->r);
    t->r = (run){ .error = { .size = sizeof t->r.error } };
}

void watch_end(watched *t) { world_close(&t->w); }
