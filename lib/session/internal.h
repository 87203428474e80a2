/* internal: what engine, session, step and generation know of each other.
 *
 * The engine's lock guards the KV pools, the engine's own state, and who has rows where: every session knows the one
 * step that holds rows of it, every step the sessions it holds rows of; destroying either cuts the tie. The lock is
 * not held while the backend works: then `busy` is set and others wait for it. Whoever needs the device finishes the
 * step that runs on it, so nobody depends on the step's owner to come back. */
#ifndef GM_SESSION_INTERNAL_H
#define GM_SESSION_INTERNAL_H

#include "session/session.h"

#define FOREVER            UINT64_MAX
#define FIRST_POSITION_MAX (1u << 28)

typedef struct gm_parked gm_parked; /* park.c */

struct gm_engine {
    gm_mem *mem;
    const gm_plan *plan;      /* read under the lock, as another may take over */
    uint32_t n_vocab, n_embd; /* of every plan of the model */
    gm_resident *resident;
    gm_exec **execs[GM_PROGRAMS]; /* [n_segments] of the plan's cuts */
    gm_step_block *blocks;        /* [devices.n] of the plan; those of devices that it uses */
    uint32_t first_share;         /* the first of these */
    gm_kv *kv;
    gm_mutex *lock;
    gm_step *running; /* submitted, not finished; NULL: none */
    /* of the running step, for segments.c */
    gm_which which;
    uint32_t segment;
    const gemma_cancel *cancel;
    bool cancelled;
    uint32_t n_dispatches, n_submits; /* of the segments that have run */
    bool busy;                        /* a thread is in a call of the backend */
    bool moving;          /* memory is given back or taken: with busy, and nobody touches sessions or pages */
    bool lost;            /* for good */
    gm_parked *parked;    /* NULL: it is not */
    gm_session *sessions; /* all there are */
    gm_engine_between between;
    void *between_user;
    uint64_t started_ns;
    uint64_t n_decoded, decode_ns; /* steps of one row; the last one */
    gemma_model_status status;     /* counters */
};

struct gemma_session {
    void *owner;
    gm_engine *engine;
    gm_kv_seq *seq;
    gemma_error error;
    gm_step *feeder;  /* for feed: rows, no results */
    gm_step *step;    /* holds rows of this session that are neither committed nor given up; NULL: none */
    gm_session *next; /* of the engine's */
    uint32_t ctx;
    uint32_t ctx_asked;      /* ids has room for so many */
    uint32_t first_position; /* of the rotary angles */
    uint32_t n_ids;          /* = the committed positions */
    int32_t *ids;            /* [ctx_asked] */
};

typedef enum step_state { STEP_OPEN, STEP_RUNNING, STEP_ENDED } step_state;

/* A session's share of a step. */
typedef struct part {
    gm_session *session; /* NULL: destroyed since */
    uint32_t first;      /* position of its first row */
    uint32_t n_rows, n_filled;
} part;

typedef struct step_row {
    uint32_t part;
    int32_t token, target;
    uint32_t want;
    uint32_t result; /* place among the wanted rows */
    uint32_t line;   /* of logits and hidden; UINT32_MAX: none */
} step_row;

/* How much a step can hold. */
typedef struct step_sizes {
    uint32_t rows, wanted, lines;
    uint32_t parts; /* filled in by gm_step_new */
} step_sizes;

struct gemma_step {
    void *owner;
    gm_engine *engine;
    gemma_error error;
    step_sizes sizes;
    step_state state;
    int result;    /* STEP_ENDED: what wait returns */
    bool readable; /* waited for with success */
    uint32_t n_rows, n_wanted, n_lines, n_parts;
    step_row *rows;           /* [sizes.rows] */
    part *parts;              /* [sizes.parts] */
    gm_candidate *candidates; /* [sizes.wanted][GM_RESULTS_MAX] */
    uint32_t *n_candidates;   /* [sizes.wanted] */
    float *log_sum, *score;   /* [sizes.wanted] */
    float *logits;            /* [sizes.lines][n_vocab] */
    float *hidden;            /* [sizes.lines][n_embd] */
};

/* ---- engine.c: the lock is held around these ---- */
/* Puts the step on the device once it is free. Fails before anything is changed. */
int gm_engine_start(gm_engine *e, gm_step *t, const gemma_cancel *cancel);
/* Waits for a running step to end; false: the time is over. */
bool gm_engine_await(gm_engine *e, const gm_step *t, uint64_t timeout_ns);

/* Waits until no step runs and no thread is in a call of the backend. */
void gm_engine_await_idle(gm_engine *e);
/* Waits while memory is moved. */
void gm_engine_await_still(gm_engine *e);

/* For the backend's buffers between steps: waits until no step runs and keeps others from starting until given back with
 * what became of it. The lock is not held around these two. LOST: not taken. */
int gm_engine_take(gm_engine *e, gemma_error *error);
int gm_engine_give(gm_engine *e, int rc); /* returns rc */

/* ---- segments.c: what is under way belongs to the thread that has set `busy` ---- */
/* Step blocks and compiled segments. After a failure what there is must be destroyed. */
int gm_segments_create(gm_engine *e, gemma_error *error);
void gm_segments_destroy(gm_engine *e);
/* Submits the program's first segment; the step blocks are filled. */
int gm_segments_start(gm_engine *e, gm_which which, const gemma_cancel *cancel, gemma_error *error);
/* Waits for segments and submits the next ones. OK: the last has ended; TIMEOUT, CANCELLED, LOST as a backend's wait. */
int gm_segments_wait(gm_engine *e, uint64_t timeout_ns, gemma_error *error);

/* ---- park.c ---- */
void gm_parked_destroy(gm_parked *p);

/* ---- step.c ---- */
uint64_t gm_step_bytes(const gm_plan *plan, const step_sizes *sizes);
int gm_step_new(gm_engine *e, const step_sizes *sizes, gm_step **out, gemma_error *error);
/* Replaces the step's rows by n rows of one session; the last one wants `want`. */
int gm_step_fill(gm_step *t, gm_session *s, const int32_t *ids, uint32_t n, uint32_t want);
/* Cuts the ties to sessions. Lock held. */
void gm_step_detach(gm_step *t);

/* ---- session.c ---- */
typedef struct feeding {
    uint32_t piece; /* rows of a step; 0: as many as can be */
    uint32_t want;  /* of the last row */
    gemma_progress progress;
    void *progress_user;
    const gemma_cancel *cancel;
} feeding;
/* Takes the lock; STATE while a step has rows of the session: then it is not held. */
int gm_session_enter(gm_session *s, const char *call);
int gm_session_leave(gm_session *s, int rc); /* returns rc */
/* gm_session_feed by way of any step; the sentence of a failure is left on the session. */
int gm_session_run(gm_session *s, gm_step *t, const int32_t *ids, size_t n, const feeding *f);
bool gm_session_token_valid(const gm_engine *e, int32_t id);

/* ---- stop.c ---- */
#define STOPS_MAX      16
#define STOP_BYTES_MAX 256
typedef struct stops {
    uint32_t n;
    uint32_t n_bytes[STOPS_MAX];
    char text[STOPS_MAX][STOP_BYTES_MAX];
} stops;
/* ARG, UTF8, SMALL (there are STOPS_MAX). */
int gm_stops_add(stops *s, const char *text, size_t n_bytes, gemma_error *error);
/* Where the stop string begins that is the first to be complete (the longest of those that end there), or n. */
size_t gm_stops_find(const stops *s, const char *text, size_t n);
/* How many bytes at the end of the text may be the beginning of a stop string. */
size_t gm_stops_held(const stops *s, const char *text, size_t n);

#endif
