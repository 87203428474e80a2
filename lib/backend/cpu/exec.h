/* How the CPU carries a program out: ops with their operands resolved, phases, items.
 *
 * A step is one run of the pool: each op is one or more phases, and a phase is a number of items. Each part has a stretch of
 * them that it takes a few at a time in ascending order, so that it reads its weights as one stream; then it helps the
 * others with theirs. What an item computes never depends on which part takes it, on how many parts
 * there are, or on which other rows the step has: that is what makes results the same, bit by bit, for any number of
 * threads and any cut of a prompt. */
#ifndef GM_CPU_EXEC_H
#define GM_CPU_EXEC_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"

#include <stdalign.h>

#define GM_CPU_HEAD_MAX   512         /* values of an attention head */
#define GM_CPU_UNIT       16          /* most matrix rows of an item: 64 bytes of a row of the output */
#define GM_CPU_UNIT_BYTES (24u << 10) /* most bytes of them, where a few columns meet them */
#define GM_CPU_FF_UNIT    32          /* hidden values of an item of EXPERTS: a block of Q8 activations */
#define GM_CPU_VOCAB      1024        /* vocabulary rows of an item of HEAD */
#define GM_CPU_CHUNK      512         /* positions whose scores are held at once: 8 pages */
#define GM_CPU_SEGMENTS   16          /* most stretches of chunks that attention over a row is cut into */
#define GM_CPU_TILED      4           /* columns from which tiles are faster than dots */
#define GM_CPU_OWN_ROWS   2           /* rows that each part packs for itself */
#define GM_CPU_SPLIT      32          /* rows × heads up to which segments are items of their own */

typedef struct gm_cpu {
    gm_backend base;
    gm_pool *pool;
    uint32_t n_parts;
    bool reference;
    uint64_t ram_bytes; /* described; 0: what the machine has */
    gm_kernels kernels;
} gm_cpu;

/* A weight matrix and how it is multiplied: by integer dots over Q8 activations, by float dots, or (neither) by
 * unpacking its rows. */
typedef struct gm_cpu_matrix {
    const uint8_t *data;
    const gm_format *format;
    uint64_t row_bytes;
    uint32_t n_in, n_out;
    gm_dot_q8 q8;
    gm_dot_f32 f32;
    const gm_tile *tile; /* of q8; NULL: none */
    uint32_t n_panels;   /* that are unpacked before columns are taken, so many that they stay in the cache */
    uint64_t line_bytes; /* of the place gm_cpu_product takes: for a row of floats, or the panels */
    const float *factor; /* of all products; NULL: 1 */
} gm_cpu_matrix;

typedef struct gm_cpu_slot {
    float *data;
    uint32_t width; /* and stride */
    uint32_t rows;  /* gm_rows */
} gm_cpu_slot;

typedef struct gm_cpu_kv {
    uint8_t *k, *v;
    const gm_format *format;
    uint64_t page_bytes, line_bytes;
    uint32_t kind, n_kv, head;
} gm_cpu_kv;

/* Where an op keeps what it needs between phases: offsets in the workspace. `shared` and `extra` are one for all,
 * `part` is the first part's, the others follow at part_bytes. */
typedef struct gm_cpu_work {
    uint64_t shared, extra, part, part_bytes, total_bytes;
} gm_cpu_work;

typedef struct gm_cpu_task gm_cpu_task;
typedef void (*gm_cpu_fn)(const gm_cpu_task *t);

typedef struct gm_cpu_op {
    gm_op op;
    gm_cpu_fn run;
    gm_cpu_slot in[4], out[3];
    gm_cpu_matrix w[4];      /* data NULL: absent */
    const gm_cpu_kv *kv;     /* NULL: none */
    const double *frequency; /* ROPE: scale × base^(-2j/width), [width / 2] */
    bool packs;              /* its first phase packs in0 to Q8 columns */
    gm_cpu_work work;
} gm_cpu_op;

typedef struct gm_cpu_phase {
    uint32_t op, phase;
} gm_cpu_phase;

/* How many of a part's items have been taken in a phase. */
typedef struct gm_cpu_taken {
    alignas(64) atomic_uint n;
} gm_cpu_taken;

struct gm_exec {
    gm_cpu *cpu;
    gm_cpu_op *ops;
    gm_cpu_kv *kv;
    gm_cpu_phase *phases;
    gm_cpu_taken *taken; /* [2][n_parts]: of the phase under way and, all 0, of the next */
    double *frequencies;
    uint32_t n_ops, n_kv, n_phases;
    uint32_t max_rows; /* of the program */
    const int32_t *suppressed;
    uint32_t n_suppressed;
    gm_step_block *block;
    gm_step_limits limits;
    uint8_t *workspace;
    const gemma_cancel *cancel;
    atomic_bool cancelled; /* a part has seen the cancel: the step is not whole */
    int result;            /* what wait returns */
};

/* One phase of one op in one part. */
struct gm_cpu_task {
    const gm_cpu_op *o;
    gm_exec *x;
    const gm_kernels *k;
    const gm_step_block *block;
    uint32_t n_rows; /* of the op's domain */
    uint32_t phase;  /* of the op */
    uint32_t part, n_parts;
    gm_cpu_taken *taken; /* [n_parts] */
};

/* ---- exec.c ---- */
bool gm_cpu_stopped(gm_exec *x);
/* The next items [*first, *last) of n_items, at most `grain` of them; false: none is left, or the step was cancelled. */
bool gm_cpu_take(const gm_cpu_task *t, uint32_t n_items, uint32_t grain, uint32_t *first, uint32_t *last);
/* A grain that leaves every part about eight turns. */
static inline uint32_t gm_cpu_grain(const gm_cpu_task *t, uint32_t n_items)
{
    return gm_max_u32(1, n_items / (t->n_parts * 8));
}
static inline void *gm_cpu_shared(const gm_cpu_task *t) { return t->x->workspace + t->o->work.shared; }
static inline void *gm_cpu_extra(const gm_cpu_task *t) { return t->x->workspace + t->o->work.extra; }
static inline void *gm_cpu_own_of(const gm_cpu_task *t, uint32_t part)
{
    return t->x->workspace + t->o->work.part + part * t->o->work.part_bytes;
}
static inline void *gm_cpu_own(const gm_cpu_task *t) { return gm_cpu_own_of(t, t->part); }
static inline float *gm_cpu_row(const gm_cpu_slot *s, uint32_t i) { return s->data + (uint64_t)i * s->width; }
/* The step's row behind row i of a domain. */
static inline uint32_t gm_cpu_step_row(const gm_cpu_task *t, uint32_t rows, uint32_t i)
{
    return rows == GM_ROWS_WANTED ? t->block->wanted[i] : i;
}
static inline const float *gm_cpu_vector(const gm_cpu_matrix *w) { return (const float *)(const void *)w->data; }

/* ---- layout.c: scratch and phases of an op ---- */
gm_cpu_work gm_cpu_op_work(const gm_cpu *cpu, const gm_program *p, const gm_op *op);
/* Phases for n_rows rows; 0 if there is nothing to do. */
uint32_t gm_cpu_op_phases(const gm_exec *x, const gm_cpu_op *o, uint32_t n_rows);
uint32_t gm_cpu_attention_phases(const gm_exec *x, const gm_cpu_op *o, uint32_t n_rows);
/* How a weight of the program is multiplied; data is left NULL. */
gm_cpu_matrix gm_cpu_matrix_of(const gm_cpu *cpu, const gm_weight_shape *shape);
const char *gm_cpu_refuses(const gm_backend *be, const gm_program *p, const gm_op *op);

/* ---- compile.c ---- */
int gm_cpu_compile(gm_backend *be, const gm_exec_desc *desc, gm_exec **out, gemma_error *error);
void gm_cpu_exec_destroy(gm_exec *x);

/* ---- submit, in exec.c ---- */
int gm_cpu_submit(gm_exec *x, const gemma_cancel *cancel, gemma_error *error);
int gm_cpu_wait(gm_exec *x, uint64_t timeout_ns, gemma_error *error);
void gm_cpu_counts(const gm_exec *x, uint32_t *n_dispatches, uint32_t *n_submits);

/* ---- probe.c ---- */
int gm_cpu_read_rate(gm_backend *be, gm_buffer *buffer, const gemma_cancel *cancel, double *gb_s, gemma_error *error);

/* ---- reference.c: plain float kernels ---- */
void gm_cpu_reference_kernels(gm_kernels *k);

/* ---- product.c: matrix rows against columns ---- */
/* Columns as a matrix takes them: Q8 if it has a dot for them, floats otherwise. Column c is the one at index[c], or the
 * c-th where index is NULL. */
typedef struct gm_cpu_columns {
    const void *data;
    uint64_t stride; /* bytes */
    const uint32_t *index;
    uint32_t n;
} gm_cpu_columns;
/* out[c × out_stride + r - first] = row r · column c for first ≤ r < last. `line` has room for m->line_bytes. */
void gm_cpu_product(const gm_kernels *k, const gm_cpu_matrix *m, uint32_t first, uint32_t last,
                    const gm_cpu_columns *columns, float *out, uint64_t out_stride, void *line);
/* A phase: the rows of in0 to Q8 columns in the workspace's shared place. */
void gm_cpu_pack_rows(const gm_cpu_task *t);
/* For up to GM_CPU_OWN_ROWS rows every part packs them for itself: that takes less time than waiting for a phase. */
static inline bool gm_cpu_packs_own(const gm_cpu_op *o, uint32_t n_rows)
{
    return o->packs && n_rows <= GM_CPU_OWN_ROWS;
}
void gm_cpu_pack_own(const gm_cpu_task *t, void *place);
/* The rows of in0 as w0 … take them: packed (to `packed`), or the slot itself. */
gm_cpu_columns gm_cpu_columns_of(const gm_cpu_task *t, const gm_cpu_matrix *m, const void *packed);
/* Row i of in0 where the op runs over the wanted rows but the slot may hold all (HEAD). */
const float *gm_cpu_input(const gm_cpu_task *t, uint32_t i);

/* ---- ops ---- */
void gm_cpu_table_rows(const gm_cpu_task *t); /* EMBED, PLE_ROWS */
void gm_cpu_rope(const gm_cpu_task *t);
void gm_cpu_norm(const gm_cpu_task *t);
void gm_cpu_norm_add(const gm_cpu_task *t);
void gm_cpu_rows(const gm_cpu_task *t);
void gm_cpu_send(const gm_cpu_task *t);
void gm_cpu_receive(const gm_cpu_task *t);
void gm_cpu_matmul(const gm_cpu_task *t);
void gm_cpu_heads(const gm_cpu_task *t);
void gm_cpu_attention(const gm_cpu_task *t);
void gm_cpu_head(const gm_cpu_task *t);
void gm_cpu_ple_mix(const gm_cpu_task *t);
void gm_cpu_router(const gm_cpu_task *t);
void gm_cpu_experts(const gm_cpu_task *t);

/* What MATMUL, ATTENTION, HEAD and EXPERTS keep: bytes in the extra place and of a part; of a column between the two halves of
 * an expert. */
uint64_t gm_cpu_matmul_part_bytes(uint64_t line_bytes, uint64_t column_bytes, uint32_t n_up);
uint64_t gm_cpu_attention_part_bytes(uint32_t head);
uint64_t gm_cpu_head_part_bytes(const gm_cpu_matrix *m, uint32_t max_rows); /* its own columns come behind */
uint64_t gm_cpu_head_sums_bytes(uint32_t n_vocab, uint32_t max_rows);
uint64_t gm_cpu_experts_part_bytes(uint64_t line_bytes);
uint64_t gm_cpu_experts_lists_bytes(const gm_op *op, uint32_t max_rows);
uint64_t gm_cpu_experts_hidden_bytes(const gm_op *op, const gm_cpu_matrix *down);

/* out = x / sqrt(mean(x²) + eps) × w (NULL: 1). out may be x. */
void gm_cpu_rms(const gm_kernels *k, const float *x, const float *w, float *out, uint32_t n, float eps);
/* A position's line of a KV head in the row's pages. */
uint64_t gm_cpu_kv_line(const gm_cpu_task *t, uint32_t step_row, uint32_t kv_head, uint32_t position);

#endif
