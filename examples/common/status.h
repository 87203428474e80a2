/* The status file of a running program, for gemma-watch and other readers: rewritten whole, once a second. docs/memory.md
 * has the format. */
#ifndef STATUS_H
#define STATUS_H

#include "cli.h"

#include <pthread.h>

enum { STATUS_EVENTS = 16 };

typedef struct status_event {
    gemma_pressure event;
    double when; /* seconds since 1970 */
} status_event;

typedef struct status {
    const cli *c;
    const char *path; /* NULL: no file is written; events are kept all the same */
    const char *doing;
    uint64_t done, total;     /* of what is under way: bytes loaded, tokens read */
    uint32_t position, ctx;   /* of the session */
    uint32_t n_gen;           /* tokens of the answer */
    double tok_s, gb_s;       /* while answering of the last second, then of the whole answer; 0: nothing yet */
    double written_s, from_s; /* when it was written last, when the tokens from n_from on began */
    uint32_t n_from;
    bool failed; /* it could not be written, which was said */
    status_event events[STATUS_EVENTS];
    uint32_t n_events; /* all; the last ones are kept */
    /* the thread that writes while the program waits for its user */
    pthread_t waiter;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool waiting;
} status;

/* Writes it for the first time. 0, or an exit code with the sentence printed. */
int status_open(status *s, const cli *c, const char *path);
/* Something goes on: "loading", "reading the prompt", "answering"; written if the last time is a second ago. */
void status_tick(status *s, const char *doing, uint64_t done, uint64_t total);
void status_loading(void *status, const char *doing, uint64_t done, uint64_t total); /* as cli's tick */
/* A token of an answer came: n_gen so far, at a session's position. */
void status_token(status *s, uint32_t n_gen, uint32_t position);
/* The answer is whole; its speed stays until the next. */
void status_answered(status *s, uint32_t position, double tok_s);
/* The callback of gemma_load_options: keeps the event, says it on stderr, answers KEEP. */
uint32_t status_pressure(void *user, const gemma_pressure *event);
/* Between these two the program waits for its user, and the file is written from a thread of its own. */
void status_wait(status *s);
void status_resume(status *s);
/* Writes it for the last time, as "ended". */
void status_close(status *s);

#endif
