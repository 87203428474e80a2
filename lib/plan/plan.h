/* plan: every byte and its home before anything is allocated. Arithmetic only. */
#ifndef GM_PLAN_H
#define GM_PLAN_H

#include "backend/backend.h"
#include "kv/kv.h"
#include "model/model.h"

#define GM_HOMES_MAX 8

/* One allocation. */
typedef struct gm_block {
    uint32_t heap;
    uint32_t tag; /* GEMMA_TAG_… */
    uint64_t n_bytes;
} gm_block;

#define GM_BLOCK_FILE UINT32_MAX       /* used in place from the mapped file */
#define GM_BLOCK_ROWS (UINT32_MAX - 1) /* stays in the file, its rows are read for each step */
#define GM_BLOCK_NONE (UINT32_MAX - 2)
typedef struct gm_place {
    uint32_t block;
    uint64_t offset;
} gm_place;

/* Options with every default filled in. */
typedef struct gm_settings {
    uint32_t device, ctx, n_sessions, ubatch, n_marks, slack, logit_rows, fit, min_ctx;
    uint64_t kv_tokens;
    uint32_t kv_type[2]; /* GEMMA_TYPE_… by gm_kv_kind */
    uint64_t headroom_bytes, budget_bytes;
    bool mapped; /* weights stay in the mapped file where the backend can use them there */
    uint32_t (*place)(void *user, const gemma_placement *want);
    void *place_user;
    bool has_probe;
    gemma_probe probe;
} gm_settings;

typedef enum gm_which { GM_PROGRAM_FULL = 0, GM_PROGRAM_CUT = 1, GM_PROGRAMS = 2 } gm_which;

typedef struct gm_bill_line { /* one heap */
    uint32_t heap, pool;
    uint64_t class_bytes[GEMMA_CLASS_COUNT];
    uint64_t mapped_bytes, file_bytes, total_bytes, budget_bytes; /* budget: less headroom */
    char name[64];
} gm_bill_line;

typedef struct gm_plan { /* immutable, any thread */
    gm_mem *mem;
    const gm_model *model;
    gm_backend *backend;
    gm_settings settings;
    gm_kv_shape kv_shape;
    gm_weight_shape
        *shapes; /* [n_weights] as they are held: Q8_0 where the device has no kernel for the file's format */
    gm_program *programs[GM_PROGRAMS];
    uint64_t *slot_offset[GM_PROGRAMS]; /* [n_slots], in the scratch block */
    uint64_t workspace_offset;
    gm_block *blocks; /* what load allocates, in this order */
    uint32_t n_blocks;
    gm_place *weights;     /* [model->n_weights] */
    gm_place *kv_k, *kv_v; /* [model->n_kv] */
    gm_place scratch, staging;
    gm_place transfer; /* on the way to buffers the CPU does not see; block GM_BLOCK_NONE: it sees them all */
    gm_step_limits limits;
    gm_bill_line lines[GM_HOMES_MAX];
    uint32_t n_lines;
    bool fits;
    bool fits_mapped; /* does not fit, but would with its weights in a mapped file */
    gemma_prediction prediction;
    gemma_advice *advice;
    uint32_t n_advice;
    uint32_t n_converted; /* weights in memory as Q8_0 that are something else in the file */
    uint64_t converted_bytes, converted_file_bytes;
    char warning[256];        /* says so; else empty */
    uint64_t peak_slot_bytes; /* for tests: the largest sum of live slots */
} gm_plan;

/* Checks and completes options. `options` NULL: defaults. ARG, UNSUPPORTED with the field's name. */
int gm_settings_read(const gm_model *model, const gm_backend *backend, const gemma_plan_options *options,
                     gm_settings *settings, gemma_error *error);
/* The plan, whether it fits or not. gguf, model and backend outlive it. */
int gm_plan_create(gm_mem *mem, const gm_gguf *gguf, const gm_model *model, gm_backend *backend,
                   const gm_settings *settings, gm_plan **out, gemma_error *error);
void gm_plan_destroy(gm_plan *plan);
/* Held as Q8_0, from another format in the file (values times their factors). */
static inline bool gm_plan_converts(const gm_plan *plan, uint32_t w)
{
    return plan->shapes[w].format != plan->model->shapes[w].format;
}
uint64_t gm_plan_held_bytes(const gm_plan *plan, uint32_t w);
uint64_t gm_plan_read_bytes(const gm_plan *plan, uint32_t w); /* of it that one decoded token reads */
/* Bytes that a plan with these settings may use of a heap now: its budget less what is held of it and the headroom. */
uint64_t gm_plan_budget(const gm_backend *backend, uint32_t heap, const gm_settings *settings);
/* OK, or NOFIT with the sentence: heap, needed, budget, and the first piece of advice. */
int gm_plan_check(const gm_plan *plan, gemma_error *error);

/* Offsets (64-byte aligned) for the program's slots such that slots alive at the same time do not overlap; returns the
 * bytes needed for `max_rows` rows. A slot is alive from the first op that names it to the last. slot_offset [n_slots];
 * work is [4 × n_slots] of the caller's. *peak_bytes (may be NULL): the most that is alive at once. */
uint64_t gm_plan_slots(const gm_program *program, uint32_t max_rows, uint64_t *slot_offset, uint32_t *work,
                       uint64_t *peak_bytes);

#endif
