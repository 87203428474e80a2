/* A program's own threads behind gemma_host.parallel_for, as a game engine's job system would be. */
#ifndef THREADS_H
#define THREADS_H

#include <gemma.h>

typedef struct threads threads;

threads *threads_create(uint32_t n); /* the caller is one of the n; NULL: they could not be started */
void threads_destroy(threads *t);    /* NULL is fine */
void threads_run(void *t, uint32_t n_tasks, gemma_task task, void *arg); /* parallel_for; one call at a time */
uint64_t threads_n_calls(const threads *t);

#endif
