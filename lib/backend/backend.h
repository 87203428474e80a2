/* backend: who carries programs out. One small function table behind one front door (backend.c), which checks
 * arguments once for all. A backend is one device; it sees heaps, buffers and compiled programs, never files. */
#ifndef GM_BACKEND_H
#define GM_BACKEND_H

#include "op/op.h"

typedef struct gm_backend gm_backend;
typedef struct gm_exec gm_exec;     /* a program compiled for one placement */
typedef struct gm_reader gm_reader; /* reads buffers whole and times it */

/* Device or host memory; each backend puts its own fields behind these. */
typedef struct gm_buffer {
    gm_backend *backend;
    uint64_t n_bytes;
    uint32_t heap;
    uint32_t tag;          /* GEMMA_TAG_… */
    void *host;            /* where the CPU sees it, or NULL */
    struct gm_buffer *via; /* host NULL: staging that its bytes come and go through; set by who created it */
} gm_buffer;

/* A place in a buffer, or (buffer NULL) in memory that is not ours: a mapped file. Both NULL: a table whose rows come
 * with every step (file_rows of the step block). */
typedef struct gm_span {
    gm_buffer *buffer;
    uint64_t offset;
    const void *mapped;
} gm_span;

typedef struct gm_candidate {
    int32_t id;
    float logit;
} gm_candidate;

/* What changes from step to step. Lies in staging memory that the CPU sees on every backend; written before submit,
 * results read after wait. Arrays are as long as the plan's limits say. */
typedef struct gm_step_block {
    uint32_t n_rows, n_wanted, n_copies;
    uint32_t *
        counts; /* [16] at the block's start: a backend's own, for n_rows and the like; all up to `candidates` is input */
    /* rows [max_rows] */
    int32_t *token;
    uint32_t *position;
    uint32_t *angle; /* for ROPE: position + the session's first_position */
    uint32_t *last_seen;
    uint32_t *table;    /* index of the row's page tables */
    uint8_t *file_rows; /* [max_rows][gm_file_row_stride] a token's row of the table that stays in the file */
    /* wanted rows [max_rows] */
    uint32_t *wanted; /* row index */
    uint32_t *want;   /* GEMMA_WANT_… */
    int32_t *target;
    uint32_t *result_row; /* line of `logits` and `hidden`, or UINT32_MAX */
    gm_page_copy *copies; /* done before any op */
    /* page tables [n_tables][table_stride]: global pages by position / 64, then the sliding ring */
    uint32_t *tables;
    /* results */
    gm_candidate *candidates; /* [max_rows][GM_RESULTS_MAX], best first, ties by lower id */
    uint32_t *n_candidates;   /* [max_rows] */
    float *log_sum;           /* [max_rows] log Σ exp(logit); for CANDIDATES and SCORE */
    float *score;             /* [max_rows] logit of target */
    float *logits;            /* [result_rows][n_vocab] */
    float *hidden;            /* [result_rows][n_embd] */
    float *bridge;            /* [bridge_width][max_rows] what SEND leaves and RECEIVE finds */
} gm_step_block;

/* Lengths of a step block's arrays. */
typedef struct gm_step_limits {
    uint32_t max_rows, n_tables, global_pages, sliding_ring, result_rows, n_vocab, n_embd, max_copies;
    uint32_t file_row_bytes; /* of a table whose rows are read from the file; 0: there is none */
    uint32_t bridge_width;   /* values of a row that SEND and RECEIVE pass on at once; 0: all is on one device */
} gm_step_limits;
/* Bytes of the block and, with base set, its pointers; base is 64-byte aligned. One function, so that the bill and the
 * block cannot disagree. */
uint64_t gm_step_block_layout(const gm_step_limits *limits, void *base, gm_step_block *block);
static inline uint64_t gm_file_row_stride(uint64_t row_bytes) { return gm_align_up(row_bytes, 64); }
/* Where SEND leaves a slot's rows, one behind the other, and RECEIVE finds them. */
static inline float *gm_bridge_at(const gm_step_block *b, const gm_step_limits *l, uint32_t offset)
{
    return b->bridge + (size_t)offset * l->max_rows;
}
static inline uint32_t gm_table_stride(const gm_step_limits *l) { return l->global_pages + l->sliding_ring; }
/* For submit, before anything runs: counts and indices within the limits, tokens ≥ 0. INTERNAL with a sentence. */
int gm_step_block_check(const gm_step_block *block, const gm_step_limits *limits, gemma_error *error);

/* Everything a program's indices stand for once memory is there. Copied by compile where kept. */
typedef struct gm_exec_desc {
    const gm_program *program;
    const gm_span *weights;     /* [n_weights] */
    const gm_span *kv_k, *kv_v; /* [n_kv] */
    gm_buffer *scratch;
    const uint64_t *slot_offset; /* [n_slots] in scratch */
    uint64_t workspace_offset;   /* in scratch; workspace_bytes() long */
    gm_step_block *block;        /* one for all programs of a model */
    gm_step_limits limits;
} gm_exec_desc;

/* Of one heap as the driver sees it now. */
typedef struct gm_heap_state {
    char name[32];
    uint32_t pool;
    uint64_t total_bytes, budget_bytes, used_bytes;
    bool budget_reported; /* false: total is all that is known */
} gm_heap_state;

#define GM_READER_BYTES 4096

typedef struct gm_backend_fns {
    void (*destroy)(gm_backend *be);
    void (*describe)(const gm_backend *be, gemma_device_info *info); /* size is set by the caller */
    uint32_t (*n_heaps)(const gm_backend *be);
    uint32_t (*heap_of)(const gm_backend *be, uint32_t tag); /* where buffers of this kind lie; NULL: heap 0 */
    void (*heap)(const gm_backend *be, uint32_t heap, gm_heap_state *state);
    /* There is a kernel that takes the op's w[i] held as `s`, factors and all; optional, NULL: for every format. What has
     * none is held as Q8_0 instead. */
    bool (*has_kernel)(const gm_backend *be, const gm_op *op, uint32_t i, const gm_weight_shape *s);
    /* NULL: can do it; else why not, as a phrase that ends "… is not supported": static storage. */
    const char *(*refuses)(const gm_backend *be, const gm_program *p, const gm_op *op);
    /* Scratch a program needs beyond its slots, a multiple of 64. */
    uint64_t (*workspace_bytes)(const gm_backend *be, const gm_program *p, const gm_step_limits *limits);
    /* 64-byte aligned (or the device's own alignment if larger), not cleared. NOMEM or DEVMEM. */
    int (*buffer_create)(gm_backend *be, uint32_t heap, uint64_t n_bytes, uint32_t tag, gm_buffer **out,
                         gemma_error *error);
    void (*buffer_destroy)(gm_buffer *buffer); /* NULL is fine */
    int (*buffer_write)(gm_buffer *buffer, uint64_t offset, const void *src, uint64_t n, gemma_error *error);
    int (*buffer_read)(gm_buffer *buffer, uint64_t offset, void *dst, uint64_t n, gemma_error *error);
    /* Optional, for buffers the CPU does not see: starts the copy of n bytes at `from` of the buffer's staging, as lane 0
     * or 1, while the CPU fills another part. `sent` waits until the lane's last copy is over. */
    int (*send)(gm_buffer *buffer, uint64_t offset, uint64_t from, uint64_t n, uint32_t lane, gemma_error *error);
    int (*sent)(gm_buffer *buffer, uint32_t lane, gemma_error *error);
    int (*compile)(gm_backend *be, const gm_exec_desc *desc, gm_exec **out, gemma_error *error);
    void (*exec_destroy)(gm_exec *exec); /* NULL is fine */
    /* One step at a time per backend (the caller sees to it). Allocates nothing. The CPU works inside submit. The
     * block's page copies are done even if the step is cancelled. OK: `wait` says how it ended, a cancel included. */
    int (*submit)(gm_exec *exec, const gemma_cancel *cancel, gemma_error *error);
    int (*wait)(gm_exec *exec, uint64_t timeout_ns, gemma_error *error); /* OK, TIMEOUT, CANCELLED, LOST */
    /* Fills a buffer of weights with bytes of 1, if it can be written, and reads it as fast as it can for some 30 ms: 10^9
     * bytes per second. Optional: the device cannot be measured. */
    int (*read_rate)(gm_backend *be, gm_buffer *buffer, const gemma_cancel *cancel, double *gb_s, gemma_error *error);
    /* Optional: times the device reading whole buffers of its own. `out` takes the sums, GM_READER_BYTES of it; what it
     * held is lost. Time allocates and creates nothing. */
    int (*reader_create)(gm_backend *be, gm_buffer *const *buffers, uint32_t n, gm_buffer *out, gm_reader **reader,
                         gemma_error *error);
    void (*reader_destroy)(gm_reader *reader);
    int (*reader_time)(gm_reader *reader, uint32_t index, uint64_t *ns, gemma_error *error);
    /* Dispatches and submits of one run of the program, for benches. */
    void (*counts)(const gm_exec *exec, uint32_t *n_dispatches, uint32_t *n_submits);
    /* What was compiled so far, for the host to keep; *n_bytes is 0 at first, SMALL when more than n_cap. Optional:
     * nothing is compiled. */
    int (*save_kernels)(gm_backend *be, void *buffer, size_t n_cap, size_t *n_bytes, gemma_error *error);
    int (*load_kernels)(gm_backend *be, const void *bytes, size_t n_bytes, gemma_error *error);
} gm_backend_fns;

struct gm_backend {
    const gm_backend_fns *fns;
    gm_mem *mem;
    uint32_t default_kv;     /* GEMMA_TYPE_… used when the caller does not choose */
    bool can_map;            /* weights may be used in place from a mapped file */
    uint64_t transfer_bytes; /* of the staging for buffers the CPU does not see; 0: it sees them all */
    uint64_t driver_bytes;   /* a guess at what the driver takes for itself */
};

/* The front door: same names, arguments checked, optional entries filled. */
static inline uint32_t gm_backend_heap_of(const gm_backend *be, uint32_t tag)
{
    return be->fns->heap_of ? be->fns->heap_of(be, tag) : 0;
}
static inline void gm_backend_destroy(gm_backend *be)
{
    if (be) be->fns->destroy(be);
}
static inline bool gm_backend_has_kernel(const gm_backend *be, const gm_op *op, uint32_t i, const gm_weight_shape *s)
{
    return !be->fns->has_kernel || be->fns->has_kernel(be, op, i, s);
}
/* Every op of the program, and its weights' formats: UNSUPPORTED with op, layer and reason. `names[w]` names weights. */
int gm_backend_accepts(const gm_backend *be, const gm_program *p, const char *const *names, gemma_error *error);
int gm_buffer_create(gm_backend *be, uint32_t heap, uint64_t n_bytes, uint32_t tag, gm_buffer **out,
                     gemma_error *error); /* n_bytes 0: *out = NULL, OK */
void gm_buffer_destroy(gm_buffer *buffer);
int gm_buffer_write(gm_buffer *buffer, uint64_t offset, const void *src, uint64_t n, gemma_error *error);
int gm_buffer_read(gm_buffer *buffer, uint64_t offset, void *dst, uint64_t n, gemma_error *error);
int gm_exec_create(gm_backend *be, const gm_exec_desc *desc, gm_exec **out, gemma_error *error);
/* ---- probe.c ---- */
/* Fills in what is measured. UNSUPPORTED, CANCELLED, or what memory and steps may fail with. */
int gm_backend_probe(gm_backend *be, const gemma_cancel *cancel, gemma_probe *probe, gemma_error *error);
/* A backend without kernels saves 0 bytes and takes none but 0. */
int gm_backend_save_kernels(gm_backend *be, void *buffer, size_t n_cap, size_t *n_bytes, gemma_error *error);
int gm_backend_load_kernels(gm_backend *be, const void *bytes, size_t n_bytes, gemma_error *error);
static inline void gm_exec_destroy(gm_backend *be, gm_exec *exec)
{
    if (exec) be->fns->exec_destroy(exec);
}

#endif
