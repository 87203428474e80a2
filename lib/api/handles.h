/* api: the public handles and who keeps whom alive. Every child holds one reference to its parent, so handles may be
 * destroyed in any order:
 *
 *     runtime ◄ file ◄ plan ◄ model ◄ session ◄ generation, step
 *     runtime ◄ tokenizer, sampler, cancel ◄ generation */
#ifndef GM_API_HANDLES_H
#define GM_API_HANDLES_H

#include "session/session.h"
#include "weights/weights.h"

#define GM_DEVICES_MAX 20

struct gemma_runtime {
    gm_mem mem;
    gm_ref ref;
    gm_pool *pool;
    gm_backend *devices[GM_DEVICES_MAX];
    uint32_t n_devices;
    gemma_error why_no_gpu; /* empty: there is one, or none was looked for */
};

struct gemma_file {
    gm_ref ref;
    gemma_runtime *runtime;
    gm_gguf *gguf;
    gm_model *model; /* NULL: a vocabulary without tensors */
    bool in_memory;  /* mapped, or given as bytes: weights can be used in place */
};

struct gemma_plan {
    gm_ref ref;
    gemma_file *file;
    gm_plan *plan;
    char note[256]; /* why better devices were passed over */
};

/* What watching a model's memory has found so far. One thread at a time looks, or takes the memory away or back. */
typedef struct gm_watch {
    gm_mutex *lock; /* of `taken`, and of what the model's status copies */
    bool taken;
    uint64_t polled_ns, read_ns; /* budgets; blocks */
    bool shrunk[GM_LINES_MAX];   /* by line of the plan's bill */
    bool paged, suspected;       /* suspected: one reading has shown it */
    atomic_bool stopped;
    uint32_t n_slow; /* decode steps in a row */
    uint64_t n_decoded;
    double best_gb_s; /* of decode steps */
    atomic_uint n_events;
} gm_watch;

struct gemma_model {
    gm_ref ref;
    gemma_plan *plan;
    gm_engine *engine;
    gemma_load_options options;
    bool rehearsed;
    uint64_t driver_bytes; /* measured when it was loaded */
    gm_proof *proof;       /* NULL: parked, or rehearsed */
    gm_proof_result proved;
    gm_watch watch;
};

struct gemma_tokenizer {
    gm_ref ref;
    gemma_runtime *runtime;
    gm_tokenizer *tokenizer;
};

struct gemma_sampler {
    gm_ref ref;
    gemma_runtime *runtime;
    gm_sampler *sampler;
};

/* A session's owner word: who uses it, and what it lives on. */
typedef struct gm_session_link {
    gm_ref ref;
    gemma_model *model;
} gm_session_link;

static inline gm_session_link *gm_link_of(gemma_session *s) { return *gm_session_owner(s); }

/* Give a reference back; the last one destroys. NULL is fine. */
void gm_runtime_drop(gemma_runtime *runtime);
void gm_file_drop(gemma_file *file);
void gm_plan_drop(gemma_plan *plan);
void gm_model_drop(gemma_model *model);

/* ---- model.c: by whoever has taken the watch ---- */
int gm_model_park(gemma_model *model, gemma_error *error);
int gm_model_resume(gemma_model *model, gemma_plan *plan, gemma_error *error);
int gm_model_replan(gemma_model *model, gemma_plan *plan, gemma_error *error);
/* ---- pressure.c ---- */
/* Waits until no other thread has it. */
void gm_watch_take(gm_watch *w);
void gm_watch_give(gm_watch *w);
/* For the engine, before every step; `user` is the model. */
int gm_model_between(void *user, gemma_error *error);
/* Memory is another now: what was found of the old does not count. */
void gm_watch_reset(gm_watch *w);

static inline gm_mem *gm_model_mem(gemma_model *m) { return &m->plan->file->runtime->mem; }

#endif
