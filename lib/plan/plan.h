/* plan: every byte and its home before anything is allocated. Arithmetic only. */
#ifndef GM_PLAN_H
#define GM_PLAN_H

#include "backend/backend.h"
#include "kv/kv.h"
#include "model/model.h"

#define GM_SHARES_MAX 16                  /* devices that a plan may use */
#define GM_LINES_MAX  (2 * GM_SHARES_MAX) /* a device's weights and its staging may lie on two heaps */

/* One allocation. */
typedef struct gm_block {
    uint32_t share;
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

/* The devices that a plan may use: the one it is for, then others to which the hook or a split may move something. The
 * host's memory is known by the last. */
typedef struct gm_devices {
    gm_backend *backends[GM_SHARES_MAX];
    uint32_t numbers[GM_SHARES_MAX]; /* in the runtime */
    uint32_t n;
    gm_backend *host; /* the CPU, for the budget of the host's memory; among them or not */
} gm_devices;

/* Options with every default filled in. */
typedef struct gm_settings {
    uint32_t device, ctx, n_sessions, ubatch, n_marks, slack, logit_rows, fit, min_ctx;
    uint64_t kv_tokens;
    uint32_t kv_type[2]; /* GEMMA_TYPE_… by gm_kv_kind */
    uint64_t headroom_bytes, budget_bytes;
    bool mapped; /* weights stay in the mapped file where the backend can use them there */
    uint32_t (*place)(void *user, const gemma_placement *want);
    void *place_user;
    gemma_probe probes[GM_SHARES_MAX]; /* of the plan's devices; read_gb_s 0: not measured */
    /* SPLIT, as tried by the planner: what goes to device `second`. */
    uint32_t second, split_layers;  /* the first split_layers layers */
    uint32_t split_experts;         /* the experts of the first split_experts layers */
    const struct gm_plan *replaced; /* whose memory counts as free, while the plan is made */
} gm_settings;

typedef enum gm_which { GM_PROGRAM_FULL = 0, GM_PROGRAM_CUT = 1, GM_PROGRAMS = 2 } gm_which;

typedef struct gm_bill_line { /* one heap */
    uint32_t share, heap, pool;
    uint64_t class_bytes[GEMMA_CLASS_COUNT];
    uint64_t mapped_bytes, file_bytes, total_bytes, budget_bytes; /* budget: less headroom */
    char name[64];
} gm_bill_line;

/* One device's share of a plan: its ops in order, those of all its segments, and what they work on. */
typedef struct gm_share {
    gm_backend *backend;
    uint32_t device;                    /* its number in the runtime */
    gm_program *programs[GM_PROGRAMS];  /* NULL: the plan does not use the device */
    uint64_t *slot_offset[GM_PROGRAMS]; /* [n_slots], in the scratch block */
    uint64_t workspace_offset;
    gm_place *weights; /* [model->n_weights]; GM_BLOCK_NONE: not needed here */
    gm_place scratch, staging;
    gm_place transfer; /* on the way to buffers the CPU does not see; block GM_BLOCK_NONE: it sees them all */
    gm_step_limits limits;
    uint64_t peak_slot_bytes; /* for tests: the largest sum of live slots */
} gm_share;

/* Ops of one device that run without a break. */
typedef struct gm_segment {
    uint32_t share, first_op, n_ops;      /* of the share's program */
    uint32_t first_crossing, n_crossings; /* what must have come before it runs */
} gm_segment;

/* Rows of a slot that go from one device's bridge to another's. */
typedef struct gm_crossing {
    uint32_t from, to; /* shares */
    uint32_t slot, offset;
    uint32_t sent, taken; /* segments between which its place on the bridge is in use */
} gm_crossing;

/* How a program is cut where the device changes. */
typedef struct gm_cuts {
    gm_segment *segments;
    gm_crossing *crossings;
    uint32_t n_segments, n_crossings, cap_segments, cap_crossings;
    uint32_t bridge_width; /* values of a row */
} gm_cuts;

typedef struct gm_plan { /* immutable, any thread */
    gm_mem *mem;
    const gm_model *model;
    gm_devices devices;
    gm_settings settings;
    gm_kv_shape kv_shape;
    gm_weight_shape
        *shapes; /* [n_weights] as they are held: Q8_0 where the device has no kernel for the file's format */
    gm_program *programs[GM_PROGRAMS]; /* whole; shares have their parts of them */
    gm_share *shares;                  /* [devices.n], by device */
    gm_cuts cuts[GM_PROGRAMS];
    uint32_t head_share; /* where results come from */
    gm_block *blocks;    /* what load allocates, in this order */
    uint32_t n_blocks;
    uint8_t *kv_share;     /* [model->n_kv] */
    gm_place *kv_k, *kv_v; /* [model->n_kv] */
    gm_step_limits limits; /* common to all shares; without rows from the file and the bridge */
    gm_bill_line lines[GM_LINES_MAX];
    uint32_t n_lines;
    uint64_t pool_bytes, pool_budget_bytes; /* of all heaps that draw on the host's memory; budget 0: not looked at */
    bool fits;
    bool fits_mapped; /* does not fit, but would with its weights in a mapped file */
    gemma_prediction prediction;
    gemma_advice *advice;
    uint32_t n_advice;
    uint32_t n_converted; /* weights in memory as Q8_0 that are something else in the file */
    uint64_t converted_bytes, converted_file_bytes;
    char warning[256]; /* says so; else empty */
} gm_plan;
static inline bool gm_share_used(const gm_share *s) { return s->programs[0] || s->programs[1]; }

/* Checks and completes options. `options` NULL: defaults. ARG, UNSUPPORTED with the field's name. */
int gm_settings_read(const gm_model *model, const gm_devices *devices, const gemma_plan_options *options,
                     gm_settings *settings, gemma_error *error);
/* The plan, whether it fits or not. gguf, model and the devices' backends outlive it. */
int gm_plan_create(gm_mem *mem, const gm_gguf *gguf, const gm_model *model, const gm_devices *devices,
                   const gm_settings *settings, gm_plan **out, gemma_error *error);
void gm_plan_destroy(gm_plan *plan);
/* Held as Q8_0, from another format in the file (values times their factors). */
static inline bool gm_plan_converts(const gm_plan *plan, uint32_t w)
{
    return plan->shapes[w].format != plan->model->shapes[w].format;
}
uint64_t gm_plan_held_bytes(const gm_plan *plan, uint32_t w);
uint64_t gm_plan_read_bytes(const gm_plan *plan, uint32_t w); /* of it that one decoded token reads */
/* With `depth` tokens in the context before; at most the plan's context. */
gemma_prediction gm_plan_predict(const gm_plan *plan, uint32_t depth);
/* ARG: no such candidate. */
int gm_placement_home(const gemma_placement *want, uint32_t index, gemma_home *home);
/* Bytes that a plan with these settings may use of a heap now: its budget less what is held of it and the headroom. */
uint64_t gm_plan_budget(const gm_backend *backend, uint32_t heap, const gm_settings *settings);
/* The same of the line's heap: a budget given in the options is for the heap of weights of the device asked for. */
uint64_t gm_line_budget(const gm_plan *plan, const gm_bill_line *line);
/* Fills budgets and `fits` in. */
void gm_plan_weigh(gm_plan *plan);
/* Of a class of bytes, "kv global"; "unknown class" for unknown numbers. */
const char *gm_class_name(uint32_t bytes_class);
/* OK, or NOFIT with the sentence: heap, needed, budget, and the first piece of advice. */
int gm_plan_check(const gm_plan *plan, gemma_error *error);

/* Offsets (64-byte aligned) for the program's slots such that slots alive at the same time do not overlap; returns the
 * bytes needed for `max_rows` rows. A slot is alive from the first op that names it to the last. slot_offset [n_slots];
 * work is [4 × n_slots] of the caller's. *peak_bytes (may be NULL): the most that is alive at once. */
uint64_t gm_plan_slots(const gm_program *program, uint32_t max_rows, uint64_t *slot_offset, uint32_t *work,
                       uint64_t *peak_bytes);

#endif
