#include "status.h"
#include "bill.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double unix_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- events ---- */

static const char *event_name(uint32_t kind)
{
    switch (kind) {
    case GEMMA_EVENT_SHRUNK: return "shrunk";
    case GEMMA_EVENT_PAGED: return "paged";
    case GEMMA_EVENT_RECOVERED: return "recovered";
    default: return "other";
    }
}

static void say_event(const cli *c, const gemma_pressure *e)
{
    gemma_device_info d = { .size = sizeof d };
    gemma_heap_info h = { .size = sizeof h };
    gemma_device_describe(c->runtime, e->device, &d);
    gemma_heap_describe(c->runtime, e->device, e->heap, &h);
    fprintf(stderr, "[%s · %s: ", d.id, h.name);
    if (e->kind == GEMMA_EVENT_SHRUNK)
        fprintf(stderr, "the budget has shrunk to %s, less than the %s that are held there; it may become slow]\n",
                cli_bytes(e->budget_bytes), cli_bytes(e->planned_bytes));
    else if (e->kind == GEMMA_EVENT_PAGED)
        fprintf(stderr, "%s are read at %.1f GB/s instead of %.1f: the driver has moved them out of the memory]\n",
                cli_bytes(e->slow_bytes), e->gb_s, e->expected_gb_s);
    else if (e->kind == GEMMA_EVENT_RECOVERED)
        fputs("as it should be again]\n", stderr);
    else
        fprintf(stderr, "event %u]\n", e->kind);
}

uint32_t status_pressure(void *user, const gemma_pressure *event)
{
    status *s = user;
    s->events[s->n_events++ % STATUS_EVENTS] = (status_event){ *event, unix_seconds() };
    s->written_s = 0; /* at once */
    say_event(s->c, event);
    return GEMMA_PRESSURE_KEEP;
}

static json_t *events_json(const status *s)
{
    json_t *list = json_array();
    uint32_t first = s->n_events > STATUS_EVENTS ? s->n_events - STATUS_EVENTS : 0;
    for (uint32_t i = first; i < s->n_events; i++) {
        const gemma_pressure *e = &s->events[i % STATUS_EVENTS].event;
        gemma_device_info d = { .size = sizeof d };
        gemma_device_describe(s->c->runtime, e->device, &d);
        json_array_append_new(list,
                              json_pack("{s:f,s:s,s:s,s:i,s:I,s:I,s:I,s:I,s:f,s:f}", "time",
                                        s->events[i % STATUS_EVENTS].when, "kind", event_name(e->kind), "device", d.id,
                                        "heap", e->heap, "budget", (json_int_t)e->budget_bytes, "used",
                                        (json_int_t)e->used_bytes, "planned", (json_int_t)e->planned_bytes, "slow",
                                        (json_int_t)e->slow_bytes, "gb_s", e->gb_s, "expected_gb_s", e->expected_gb_s));
    }
    return list;
}

/* ---- writing ---- */

/* The bill's heaps, each with what its device says of it now. */
static json_t *heaps_now(const cli *c)
{
    json_t *heaps = c->plan ? bill_json(c) : json_array();
    for (size_t i = 0; i < json_array_size(heaps); i++) {
        bill_heap h = bill_heap_at(c, (uint32_t)i);
        json_object_set_new(json_array_get(heaps, i), "now",
                            json_pack("{s:I,s:I,s:I}", "total", (json_int_t)h.heap.total_bytes, "budget",
                                      (json_int_t)h.heap.budget_bytes, "used", (json_int_t)h.heap.used_bytes));
    }
    return heaps;
}

static json_t *speed_json(const status *s)
{
    bool one =
        s->c->plan && s->c->probe.size && !bill_is_spread(s->c); /* of several devices no one figure is to be had */
    double measured = one ? s->c->probe.read_gb_s : 0;
    return json_pack("{s:f,s:f,s:f,s:f}", "tok_s", s->tok_s, "gb_s", s->gb_s, "measured_gb_s", measured,
                     "bandwidth_pct", measured > 0 ? 100 * s->gb_s / measured : 0);
}

static bool write_whole(const char *path, const json_t *root)
{
    char *name = NULL;
    if (asprintf(&name, "%s.new", path) < 0) return false;
    bool good = !json_dump_file(root, name, JSON_INDENT(1) | JSON_REAL_PRECISION(14)) && !rename(name, path);
    int why = errno;
    if (!good) remove(name);
    free(name);
    errno = why;
    return good;
}

static void write_status(status *s)
{
    gemma_file_info f = { .size = sizeof f };
    if (!s->path || s->failed) return;
    if (s->c->file) gemma_file_describe(s->c->file, &f);
    json_t *root = json_pack("{s:s,s:i,s:f,s:s,s:I,s:I,s:s,s:s,s:i,s:i,s:o,s:o,s:o}", "program", s->c->program, "pid",
                             (int)getpid(), "time", unix_seconds(), "doing", s->doing, "done", (json_int_t)s->done,
                             "total", (json_int_t)s->total, "model", f.name[0] ? f.name : s->c->model_path, "file",
                             s->c->model_file ? s->c->model_file : s->c->model_path, "position", s->position, "ctx",
                             s->ctx, "heaps", heaps_now(s->c), "speed", speed_json(s), "events", events_json(s));
    if (!root || !write_whole(s->path, root)) {
        s->failed = true;
        cli_fail(s->c, "cannot write %s: %s; no status is written any more", s->path, strerror(errno));
    }
    json_decref(root);
    s->written_s = cli_seconds();
}

int status_open(status *s, const cli *c, const char *path)
{
    s->c = c;
    s->path = path;
    s->doing = "starting";
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    write_status(s);
    return s->failed ? EXIT_FAIL : 0;
}

void status_tick(status *s, const char *doing, uint64_t done, uint64_t total)
{
    s->doing = doing;
    s->done = done;
    s->total = total;
    if (s->path && cli_seconds() - s->written_s >= 1) write_status(s);
}

void status_loading(void *user, const char *doing, uint64_t done, uint64_t total)
{
    status_tick(user, doing, done, total);
}

/* Weights and KV that a token at this position reads, times the rate. */
static void set_rate(status *s, double tok_s)
{
    gemma_prediction p = { .size = sizeof p };
    s->tok_s = tok_s;
    if (!gemma_plan_predict_at(s->c->plan, s->position, &p))
        s->gb_s = (double)(p.bytes_per_token + p.kv_bytes) * tok_s * 1e-9;
}

void status_token(status *s, uint32_t n_gen, uint32_t position)
{
    double now = s->path ? cli_seconds() : 0;
    s->n_gen = n_gen;
    s->position = position;
    if (n_gen <= 1) {
        s->n_from = n_gen;
        s->from_s = now;
    }
    if (s->path && now - s->written_s >= 1 && n_gen > s->n_from) {
        set_rate(s, (n_gen - s->n_from) / (now - s->from_s));
        s->n_from = n_gen;
        s->from_s = now;
    }
    status_tick(s, "answering", n_gen, 0);
}

void status_answered(status *s, uint32_t position, double tok_s)
{
    s->position = position;
    if (s->path && tok_s > 0) set_rate(s, tok_s);
    s->written_s = 0;
    status_tick(s, "waiting", 0, 0);
}

/* ---- while the program waits ---- */

static void *write_while_waiting(void *user)
{
    status *s = user;
    pthread_mutex_lock(&s->lock);
    while (s->waiting) {
        struct timespec until;
        write_status(s);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        pthread_cond_timedwait(&s->wake, &s->lock, &until);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void status_wait(status *s)
{
    sigset_t all, before;
    s->doing = "waiting";
    s->done = s->total = 0;
    if (!s->path || s->failed) return;
    s->waiting = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* Ctrl-C is for the thread that waits */
    if (pthread_create(&s->waiter, NULL, write_while_waiting, s)) s->waiting = false;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void status_resume(status *s)
{
    pthread_mutex_lock(&s->lock);
    bool waiting = s->waiting;
    s->waiting = false;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (waiting) pthread_join(s->waiter, NULL);
}

void status_close(status *s)
{
    if (!s->c) return;
    s->doing = "ended";
    write_status(s);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
}
