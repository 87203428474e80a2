/* What tests of the public API begin with: a tiny model in memory, opened, planned, loaded. Everything goes through the
 * counting allocator of support/fault.h; world_close checks that nothing is left. */
#ifndef WORLD_H
#define WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "gemma.h"
#include "support/fault.h"
#include "support/tiny_model.h"

#define FOREVER  UINT64_MAX
#define COUNT(a) (sizeof(a) / sizeof *(a))

typedef struct world {
    gemma_host host;
    uint32_t n_threads;
    const char *device; /* of the plan; NULL: cpu */
    void *bytes;        /* of the file; 64-byte aligned */
    size_t n_bytes;
    gemma_runtime *runtime;
    gemma_file *file;
    gemma_plan *plan;
    gemma_model *model;
    gemma_tokenizer *tokenizer;
    uint32_t n_vocab;
    gemma_error error;
} world;

/* The host's hooks and the file's bytes; nothing is opened yet. Fields may be changed before world_open. */
void world_init(world *w, const tiny_model *t);
void world_init_family(world *w, uint32_t family);
/* Runtime (one that is there is kept), file, tokenizer, plan and model; the options' device is filled in. Fails the test
 * where a call fails. */
void world_open(world *w, const gemma_plan_options *options);
/* Destroys what is there, parents first, and checks for leaks. */
void world_close(world *w);

gemma_session *world_session(world *w);
gemma_step *world_step(world *w);
gemma_sampler *world_sampler(world *w, const gemma_sampler_options *options);

/* n ids from `seed` that are neither control nor byte tokens. */
void world_ids(int32_t *ids, size_t n, uint32_t seed);

/* Feeds n ids in steps of `piece` rows. `every` row wants all logits, or only the last one of each step. logits:
 * [n][n_vocab]; rows that wanted nothing are left as they are. */
void world_rows(world *w, gemma_step *step, gemma_session *s, const int32_t *ids, uint32_t n, uint32_t piece,
                bool every, float *logits);
/* The logits of one more row. */
void world_row(world *w, gemma_step *step, gemma_session *s, int32_t id, float *logits);
/* Bitwise equal, or the test fails naming `what` and the first row that differs. */
void assert_same_rows(const world *w, const char *what, const float *a, const float *b, uint32_t n_rows);

/* rc is GEMMA_OK, or the test fails with the message. */
void assert_ok(int rc, const char *message);

/* The bytes as a file with a name of its own, which world_forget_file removes. */
const char *world_save(const world *w);
void world_forget_file(const char *path);

#endif
