/* A tiny model on a Vulkan device under tests/vklayer, from the runtime to a few tokens. */
#ifndef RUN_H
#define RUN_H

#include "api/world.h"
#include "vklayer/vklayer.h"

enum { N_TOKENS = 5, PROMPT = TINY_ASCII + 40 };

typedef struct run {
    gemma_runtime *runtime;
    gemma_file *file;
    gemma_plan *plan;
    gemma_model *model;
    gemma_session *session;
    gemma_step *step;
    int32_t ids[N_TOKENS];
    gemma_error error;
    int first_rc; /* of a step that was done again */
    bool all;     /* tokens are there */
} run;

/* Two layers, as few kernels as there can be; the plan that most tests take. */
void run_small_world(world *w);
extern const gemma_plan_options run_small_plan;

/* Each gives what the library gives, with r->error. */
int run_open_runtime(run *r, const world *w, const gemma_vulkan_host *vulkan);
int run_open_model(run *r, gemma_plan_options po); /* on the best Vulkan device */
int run_open_model_on(run *r, gemma_plan_options po);
/* One token in, the likeliest out. */
int run_token(run *r, int32_t id, int32_t *best);
/* n tokens of text, in steps of the plan's ubatch. */
int run_prompt(run *r, size_t n);
/* N_TOKENS of them. A step that failed and did not lose the device is done again: it must have changed nothing. */
int run_generate(run *r);
/* Destroys what is there, parents last, and checks that nothing is left, in the layer and on the host. */
void run_finish(run *r);

/* A described machine; its variant 0 is as the file's own. */
machine run_machine(const char *path, uint32_t variant);
/* The number of the device with that name; fails where there is none. */
uint32_t run_device(const run *r, const char *name);
/* Every heap of every device of the posed machine has what is planned for it and no byte more; parked: none has any. */
void run_check_bill(const run *r, gemma_plan *plan, const machine *m, const char *where);

/* Begins a test, and skips it where there is no software device to test on. */
void run_begin(gemma_vulkan_host *vulkan);
extern bool run_skipped;

#endif
