/* A tiny model on a posed machine whose memory is watched: events are kept and answered, tokens held against those of an
 * undisturbed run, bytes against the bill. */
#ifndef PRESSURE_H
#define PRESSURE_H

#include "fault/run.h"

enum { WATCH_EVENTS = 16, WATCH_TOKENS = 260 };

typedef struct token {
    int32_t id;
    float logit;
} token;

typedef struct watched {
    world w;
    gemma_vulkan_host vulkan;
    machine m;
    run r;
    const char *where;
    gemma_plan_options plan;
    uint32_t answer; /* to every event */
    gemma_pressure events[WATCH_EVENTS];
    uint32_t n_events;
    token want[WATCH_TOKENS];
    uint32_t n_tokens; /* so many have come since the model was opened */
} watched;

/* Begins a test on a machine's first device: the tokens of the undisturbed model are there, and nothing is open. */
void watch_begin(watched *t, const char *machine_path);
/* The machine's device `number` instead. */
void watch_begin_on(watched *t, const char *machine_path, uint32_t number);
/* Loads the model; returns what gemma_model_load does. */
int watch_open(watched *t);
/* The next token; it must be the undisturbed one's, to the last bit of its logit. */
int watch_token(watched *t);
/* n of them. */
void watch_tokens(watched *t, uint32_t n);
/* Budgets are looked at again. */
void watch_second(void);
bool watch_parked(const watched *t);
/* The bill of the plan that the model goes by now, or nothing where it is parked. */
void watch_check_bill(const watched *t);
uint64_t watch_heap_total(const watched *t); /* what that plan has in its first heap */
/* Exactly one event has come since the last check: this one. Returns it. */
const gemma_pressure *watch_event(watched *t, uint32_t kind);
/* Closes what is open: nothing is left. */
void watch_close(watched *t);
void watch_end(watched *t);

#endif
