/* Programs: what compile makes of them, and how a run of one is recorded and submitted.
 *
 * A program becomes a list of calls: kernels with their bindings and push constants, in order. How many rows a step has
 * decides grids and variants only when a command buffer is recorded, which is done once for a row count and kept. */
#ifndef GM_VK_EXEC_H
#define GM_VK_EXEC_H

#include "backend/vulkan/device.h"

#define GM_VK_FEW_ROWS   8    /* up to so many rows a product is a matvec */
#define GM_VK_VARIANTS   5    /* matvec for 1, 2, 4, 8 columns, matmat */
#define GM_VK_SHAPES     4    /* recordings a program keeps */
#define GM_VK_PIECES     32   /* submits that a long step is cut into at most */
#define GM_VK_CHUNK      4096 /* vocabulary rows of a workgroup of head_top */
#define GM_VK_SPLITS_MAX 32
#define GM_VK_NO_WANTED  UINT32_MAX
#define GM_VK_NO_TOKEN   UINT32_MAX

typedef enum gm_vk_grid {
    GM_VK_GRID_ITEMS,   /* x: items, y: rows */
    GM_VK_GRID_ROWS,    /* x: rows */
    GM_VK_GRID_MATRIX,  /* x folded: items = matrix rows, z: columns */
    GM_VK_GRID_SPLITS,  /* x: items, y: splits, z: rows */
    GM_VK_GRID_MERGE,   /* as ITEMS, where there is more than one split */
    GM_VK_GRID_EXPERTS, /* x folded: items = matrix rows, z: rows × groups; many rows in several dispatches */
} gm_vk_grid;

/* Of which rows a call has its number: all, the wanted ones, or those of one group of eight wanted ones. */
typedef enum gm_vk_domain { GM_VK_ALL, GM_VK_WANTED, GM_VK_GROUP } gm_vk_domain;

/* An operand: [first, last) of a buffer. */
typedef struct gm_vk_operand {
    VkBuffer buffer;             /* NULL: none */
    uint64_t first, last, bound; /* bound: where the binding starts */
    bool write;
} gm_vk_operand;

typedef struct gm_vk_call {
    const gm_spirv *module, *tiles;       /* tiles: the module for many rows (MATRIX) */
    VkPipeline pipelines[GM_VK_VARIANTS]; /* MATRIX: by columns; SPLITS: a row, many_rows rows; else one */
    VkDescriptorSet set;
    gm_vk_operand operands[GM_VK_BINDINGS];
    uint32_t spec[GM_VK_SPECS];
    uint32_t push[GM_VK_PUSH_WORDS];
    uint32_t grid, domain, items;
    uint32_t phase;       /* calls of one phase need no barrier between them */
    uint32_t first_word;  /* GROUP, EXPERTS: the push constant for the dispatch's first row; 0: none */
    uint32_t row_words;   /* GROUP: binding 2 starts so many words later per row */
    uint32_t splits_word; /* SPLITS, MERGE: the push constant for the number of splits */
    uint32_t groups;      /* SPLITS, MERGE: workgroups per row and split; EXPERTS: places of a row */
    uint32_t many_rows;   /* SPLITS: rows of a workgroup where nothing is split */
    bool for_hidden;      /* only where a row wants its hidden state */
    uint64_t work;        /* multiplications per row */
} gm_vk_call;

/* Byte offsets behind workspace_offset. */
typedef struct gm_vk_work {
    uint64_t step, turns, suppressed, x, z, lists, sums, partial, gate, up, total_bytes;
    uint64_t constants_bytes; /* of turns and suppressed together */
} gm_vk_work;

/* Where the step copy's arrays are, in words from the start of its binding. */
typedef struct gm_vk_step_words {
    uint32_t counts, token, position, angle, last_seen, table, wanted, want, target, result_row, tables;
} gm_vk_step_words;

/* A recording for a row count. */
typedef struct gm_vk_recording {
    VkCommandBuffer pieces[GM_VK_PIECES];
    uint64_t piece_work[GM_VK_PIECES];
    uint32_t n_pieces, n_dispatches;
    uint32_t n_all, n_wanted; /* rows it is for */
    bool hidden;
    bool has_run;  /* its first run may have compiled kernels */
    uint64_t used; /* when, in runs; 0: empty */
} gm_vk_recording;

typedef struct gm_vk_kv {
    gm_vk_buffer *k, *v;
    uint64_t k_offset, v_offset, page_bytes;
    uint32_t kind;
} gm_vk_kv;

struct gm_exec {
    gm_vk *vk;
    gm_vk_call *calls;
    uint32_t n_calls, cap_calls;
    VkDescriptorPool sets;
    gm_vk_kv *kv;
    uint32_t n_kv, max_rows;
    uint8_t *constants; /* [work.constants_bytes] */
    gm_step_block *block;
    gm_step_limits limits;
    gm_vk_buffer *staging, *scratch;
    gm_vk_buffer *inputs; /* where kernels read the step's inputs: the step copy, or the block in staging itself */
    uint64_t inputs_offset;
    uint64_t staging_offset, workspace_offset, input_bytes;
    uint64_t file_rows_offset; /* in the step block */
    gm_vk_work work;
    gm_vk_recording recordings[GM_VK_SHAPES];
    VkCommandBuffer copies;
    uint64_t n_runs;
    /* the run under way */
    gm_vk_recording *running;
    const gemma_cancel *cancel;
    uint32_t n_submitted, n_done; /* pieces */
    uint64_t values[GM_VK_PIECES + 1];
    uint64_t begun_ns;
    bool cancelled;
    uint32_t n_dispatches, n_submits; /* of the last run */
};

/* ---- limits.c ---- */
bool gm_vk_has_kernel(const gm_backend *be, const gm_op *op, uint32_t i, const gm_weight_shape *s);
const char *gm_vk_refuses(const gm_backend *be, const gm_program *p, const gm_op *op);
uint64_t gm_vk_workspace_bytes(const gm_backend *be, const gm_program *p, const gm_step_limits *limits);
gm_vk_work gm_vk_work_of(const gm_vk *vk, const gm_program *p, const gm_step_limits *limits);
/* Whether a step's inputs are copied to memory of the device's own; where its memory is the host's, kernels read the
 * step block itself. */
static inline bool gm_vk_copies_inputs(const gm_vk *vk) { return !vk->caps.shares_ram; }
/* The module for a kernel and a format (NULL: none), or NULL. */
const gm_spirv *gm_vk_kernel(const char *kernel, const gm_format *format);
/* EXPERTS: gate and up are of different formats. */
bool gm_vk_gated_apart(const gm_program *p, const gm_op *op);
/* Query heads that a workgroup of attention serves; how many rows of many; the splits of a row's positions. */
uint32_t gm_vk_attention_heads(const gm_op *op);
uint32_t gm_vk_attention_rows(const gm_vk_caps *caps, const gm_op *op);
uint32_t gm_vk_attention_splits(const gm_vk *vk, uint32_t n_rows, uint32_t n_groups);

/* Matrix rows of a workgroup of matvec. */
uint32_t gm_vk_matvec_rows(const gm_vk_caps *caps, uint32_t n_columns, uint32_t epilogue);

/* ---- compile.c ---- */
int gm_vk_compile(gm_backend *be, const gm_exec_desc *desc, gm_exec **out, gemma_error *error);
void gm_vk_exec_destroy(gm_exec *x);

/* A compilation; the first error stays. */
typedef struct gm_vk_compiler {
    gm_exec *x;
    const gm_exec_desc *d;
    gm_vk_step_words at;
    uint64_t turns_used; /* bytes */
    uint32_t phase;
    int rc;
    gemma_error *error;
    gm_vk_call spare; /* what add hands out when memory has run out */
} gm_vk_compiler;

/* A new call of the compiler's phase; valid until the next one. */
gm_vk_call *gm_vk_add(gm_vk_compiler *c, const char *kernel, const gm_format *format, gm_vk_domain domain,
                      uint32_t group);
/* Binds n bytes of a buffer. */
void gm_vk_bind(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, const gm_vk_buffer *buffer, uint64_t offset,
                uint64_t n_bytes, bool write);
void gm_vk_bind_slot(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, uint16_t slot, bool write);
void gm_vk_bind_work(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, uint64_t offset, uint64_t n_bytes,
                     bool write);
void gm_vk_bind_weight(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, int32_t w, uint64_t first_row,
                       uint64_t n_rows);
/* Rows of a weight that one binding can hold. */
uint64_t gm_vk_rows_bound(const gm_vk_compiler *c, int32_t w);
static inline uint32_t gm_vk_wanted_at(const gm_vk_compiler *c, uint32_t rows)
{
    return rows == GM_ROWS_WANTED ? c->at.wanted : GM_VK_NO_WANTED;
}
static inline uint32_t gm_vk_width(const gm_vk_compiler *c, uint16_t slot) { return c->d->program->slots[slot].width; }
static inline gm_vk_domain gm_vk_domain_of(const gm_op *op)
{
    return op->rows == GM_ROWS_WANTED ? GM_VK_WANTED : GM_VK_ALL;
}

/* ---- ops.c, products.c, experts.c: calls of an op ---- */
void gm_vk_emit(gm_vk_compiler *c, const gm_op *op);
void gm_vk_emit_table_rows(gm_vk_compiler *c, const gm_op *op);
/* Rows [first, first + n) of a matrix; X (2), Y (3) and what else is bound by the caller. */
gm_vk_call *gm_vk_add_product(gm_vk_compiler *c, int32_t w, uint64_t first, uint64_t n, gm_vk_domain domain,
                              uint32_t epilogue);
void gm_vk_bind_vector(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, int32_t w); /* where w is one */
static inline uint32_t gm_vk_halves(const gm_weight_shape *s)                             /* half-words of a row */
{
    return (uint32_t)(gm_row_bytes(s->format, s->n_in) / 2);
}
void gm_vk_emit_matmul(gm_vk_compiler *c, const gm_op *op);
void gm_vk_emit_head(gm_vk_compiler *c, const gm_op *op);
void gm_vk_emit_router(gm_vk_compiler *c, const gm_op *op);
void gm_vk_emit_experts(gm_vk_compiler *c, const gm_op *op);

/* ---- record.c ---- */
/* The recording for a step of so many rows, made if there is none. */
int gm_vk_recording_get(gm_exec *x, uint32_t n_rows, uint32_t n_wanted, bool hidden, gm_vk_recording **out,
                        gemma_error *error);
int gm_vk_record_copies(gm_exec *x, gemma_error *error);

/* ---- exec.c ---- */
int gm_vk_exec_submit(gm_exec *x, const gemma_cancel *cancel, gemma_error *error);
int gm_vk_exec_wait(gm_exec *x, uint64_t timeout_ns, gemma_error *error);
void gm_vk_exec_counts(const gm_exec *x, uint32_t *n_dispatches, uint32_t *n_submits);

#endif
