#include "threads.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct threads {
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    gemma_task task;
    void *arg;
    uint32_t n_tasks, next, n_done; /* of the call under way */
    uint64_t n_calls;
    bool quit;
    uint32_t n_workers;
    pthread_t workers[];
};

/* With the lock: takes tasks until none is left. */
static void work(threads *t)
{
    while (t->next < t->n_tasks) {
        gemma_task task = t->task;
        void *arg = t->arg;
        uint32_t index = t->next++;
        pthread_mutex_unlock(&t->lock);
        task(arg, index);
        pthread_mutex_lock(&t->lock);
        if (++t->n_done == t->n_tasks) pthread_cond_signal(&t->end);
    }
}

static void *worker(void *arg)
{
    threads *t = arg;
    pthread_mutex_lock(&t->lock);
    while (!t->quit) {
        work(t);
        if (!t->quit) pthread_cond_wait(&t->begin, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

threads *threads_create(uint32_t n)
{
    threads *t = calloc(1, sizeof *t + n * sizeof *t->workers);
    if (!t) return NULL;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->begin, NULL);
    pthread_cond_init(&t->end, NULL);
    while (t->n_workers + 1 < n && !pthread_create(&t->workers[t->n_workers], NULL, worker, t)) t->n_workers++;
    if (t->n_workers + 1 >= n) return t;
    threads_destroy(t);
    return NULL;
}

void threads_destroy(threads *t)
{
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    t->quit = true;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    for (uint32_t i = 0; i < t->n_workers; i++) pthread_join(t->workers[i], NULL);
    pthread_cond_destroy(&t->end);
    pthread_cond_destroy(&t->begin);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void threads_run(void *user, uint32_t n_tasks, gemma_task task, void *arg)
{
    threads *t = user;
    pthread_mutex_lock(&t->lock);
    t->task = task;
    t->arg = arg;
    t->n_tasks = n_tasks;
    t->next = t->n_done = 0;
    t->n_calls++;
    pthread_cond_broadcast(&t->begin);
    work(t);
    while (t->n_done < t->n_tasks) pthread_cond_wait(&t->end, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

uint64_t threads_n_calls(const threads *t) { return t->n_calls; }
