/* op: the vocabulary that model families speak and backends carry out. A step is a program: a short list of ops over
 * symbolic operands. Every activation is a float row; a slot holds one row per row of its domain.
 *
 * Rows come in two domains. ALL: every row of the step, in the order it was given. WANTED: the rows something is wanted
 * of, in the same order. GM_OP_ROWS goes from ALL to WANTED; rows nothing is wanted of stop there. */
#ifndef GM_OP_H
#define GM_OP_H

#include "base/base.h"
#include "quant/quant.h"

#define GM_PAGE        64         /* tokens of a KV page */
#define GM_NONE        UINT16_MAX /* no slot */
#define GM_RESULTS_MAX 64         /* candidates of a row */

typedef enum gm_rows { GM_ROWS_ALL = 0, GM_ROWS_WANTED = 1 } gm_rows;

/* Field use per kind; "in0" is in[0], "w0" is w[0]; [n] are floats per row. Weight matrices are [in, out] in GGUF order:
 * y[o] = Σ_i W[o][i] x[i]. RMS(x; w)[i] = x[i] / sqrt(mean(x²) + eps) × w[i], w absent: without it. */
typedef enum gm_op_kind {
    /* out0[n_embd] = w0[token] × scale. */
    GM_OP_EMBED = 1,
    /* out0[width]: cos in the first half, sin in the second, of position × scale × base^(-2j/width) / w0[j], j <
     * width/2. w0 absent: 1. Angles are exact (double) to position 2^18. */
    GM_OP_ROPE = 2,
    /* out0 = RMS(in0; w0), over rows of `width`. */
    GM_OP_NORM = 3,
    /* out_k = w_k in0 for k < n_weights (≤ 3): outputs of different widths and types from one input.
     * GEGLU: out0 = gelu(w0 in0) × (w1 in0). GELU_MUL: out0 = gelu(w0 in0) × in1[offset …]. */
    GM_OP_MATMUL = 4,
    /* Heads before attention: in0 = q[n_head × head], in1 = k[n_kv × head], in2 = v[n_kv × head], each optional (in2
     * NONE with v_from_k: v = k before its norm), in3 = the ROPE slot. q: RMS per head with w0, rotated, × scale, to
     * out0 (may be in0). k: RMS with w1, rotated, to the K pages of kv. v: RMS without weight if v_norm, to the V pages.
     * Rotation pairs j with j + head/2. */
    GM_OP_HEADS = 5,
    /* out0[n_head × head] = softmax(q · K) V over the pages of kv that the row sees: positions p with p ≤ last_seen and,
     * if window > 0, position - p < window. Query head h reads KV head h / (n_head / n_kv). in0 = q. */
    GM_OP_ATTENTION = 6,
    /* x = in1 + RMS(in0; w0); if w1: x ×= w1[0]; out0 = x (may be in1); if out1: out1 = RMS(x; w2). */
    GM_OP_NORM_ADD = 7,
    /* out0 (WANTED) = in0 (ALL) of the wanted rows. */
    GM_OP_ROWS = 8,
    /* Results of the WANTED rows from in0 = the normed hidden state, w0 = the output matrix: logit = softcap ×
     * tanh(z / softcap) if softcap > 0. Ids ≥ n_vocab and suppressed ids are left out (logit -infinity). */
    GM_OP_HEAD = 9,
    /* out0[width] = w0[token] × scale for the per-layer embeddings (Gemma 4 E2B, E4B); width = layers × P. */
    GM_OP_PLE_ROWS = 10,
    /* out0[l][c] = (RMS(in0[l] × scale; w0)[c] + in1[l][c]) × scale2, norms over slices of `slice` values. */
    GM_OP_PLE_MIX = 11,
    /* Router: t = RMS(in0) × scale × w1; logits = w0 t; out0[2 × n_used] = ids of the n_used largest (as floats, ties:
     * lower id) then their softmax weights renormalised over them, × w2[id] if present. */
    GM_OP_ROUTER = 12,
    /* out0 = Σ_e weight_e × w1_e (gelu(gate_e in0) × (up_e in0)); in1 = the router's slot. w0 = fused gate|up
     * [n_embd, 2 n_ff, n_expert], or w0 = gate and w2 = up apart; w1 = down [n_ff, n_embd, n_expert]. */
    GM_OP_EXPERTS = 13,
    /* The step block's bridge, at `offset` values of a row, = in0: a slot's way to the program's part on another device. */
    GM_OP_SEND = 14,
    /* out0 = the bridge at `offset`: what another device sent. */
    GM_OP_RECEIVE = 15,
    GM_OP_LIMIT
} gm_op_kind;

enum { GM_EPILOGUE_NONE = 0, GM_EPILOGUE_GEGLU = 1, GM_EPILOGUE_GELU_MUL = 2 };

typedef struct gm_op {
    uint16_t kind;  /* gm_op_kind */
    uint16_t rows;  /* gm_rows: the domain it runs over (ROWS: of its output) */
    uint16_t in[4]; /* slots */
    uint16_t out[3];
    uint16_t epilogue;  /* MATMUL */
    int32_t w[4];       /* weights; -1 = absent */
    int32_t layer;      /* for messages and profiles; -1 = none */
    int32_t kv;         /* HEADS, ATTENTION: index of the owning layer's KV; -1 = writes none */
    uint32_t n_weights; /* MATMUL */
    uint32_t width;     /* values of a row: NORM, ROPE, NORM_ADD, PLE_… */
    uint32_t slice;     /* PLE_MIX */
    uint32_t offset; /* GELU_MUL: first value of in1; SEND, RECEIVE: values of a row that lie in front, × max_rows */
    uint32_t n_head, n_kv, head;
    uint32_t window; /* 0: all earlier positions */
    uint32_t v_norm, v_from_k;
    uint32_t n_vocab;
    uint32_t n_expert, n_used, n_ff;
    float eps, scale, scale2, softcap;
    double base; /* ROPE */
} gm_op;

typedef struct gm_slot {
    uint32_t width; /* floats per row */
    uint32_t rows;  /* gm_rows */
} gm_slot;

/* A weight as ops see it. */
typedef struct gm_weight_shape {
    const gm_format *format;
    uint32_t n_in;        /* ne[0] */
    uint32_t n_out;       /* ne[1], 1 for vectors */
    uint32_t n_matrix;    /* ne[2]: experts; 1 */
    const float *factors; /* [n_matrix]: products with a matrix are multiplied by its own; NULL: 1 */
} gm_weight_shape;
static inline uint64_t gm_weight_bytes(const gm_weight_shape *s)
{
    return gm_row_bytes(s->format, s->n_in) * s->n_out * s->n_matrix;
}

typedef enum gm_kv_kind { GM_KV_GLOBAL = 0, GM_KV_SLIDING = 1 } gm_kv_kind;

/* KV of one owning layer. K and V apart, [page][n_kv][GM_PAGE][head] in `type`. */
typedef struct gm_kv_layer {
    uint32_t kind; /* gm_kv_kind: which page table */
    uint32_t layer;
    uint32_t n_kv, head;
    const gm_format *format; /* F16, F32, Q8_0, Q4_0 */
} gm_kv_layer;
static inline uint64_t gm_kv_page_bytes(const gm_kv_layer *l) /* of K, and again of V */
{
    return (uint64_t)l->n_kv * GM_PAGE * gm_row_bytes(l->format, l->head);
}

/* A page whose content is copied before a step's ops run: all layers of the kind, K and V. */
typedef struct gm_page_copy {
    uint32_t kind, from, to;
} gm_page_copy;

typedef struct gm_program {
    gm_mem *mem;
    gm_op *ops;
    gm_slot *slots;
    uint32_t n_ops, cap_ops, n_slots, cap_slots;
    uint32_t max_rows; /* of one step */
    bool cut;          /* has a ROWS op: for steps with fewer wanted rows than rows */
    /* What indices mean; owned by the model, the weights' table by whoever had the program emitted. */
    const gm_weight_shape *weights;
    uint32_t n_weights;
    const gm_kv_layer *kv;
    uint32_t n_kv;
    const int32_t *suppressed; /* ids never to come out of HEAD, ascending */
    uint32_t n_suppressed;
    gm_kv_layer *own_kv; /* the copy that `kv` points to after gm_program_kv */
    gm_op spare;         /* what gm_program_op hands out when memory has run out */
} gm_program;

/* Builder: errors stick (the program's `ops` become NULL on NOMEM), so a family checks once at the end. */
int gm_program_create(gm_mem *mem, uint32_t max_rows, bool cut, gm_program **out);
void gm_program_destroy(gm_program *p);
uint16_t gm_program_slot(gm_program *p, uint32_t width, gm_rows rows);
gm_op *gm_program_op(gm_program *p, gm_op_kind kind, gm_rows rows,
                     int32_t layer); /* fields absent; valid until the next call */
/* Gives the program its own copy of a KV table (a model's, with the formats filled in). */
void gm_program_kv(gm_program *p, const gm_kv_layer *kv, uint32_t n_kv);
/* Shapes agree, slots are written before they are read, indices exist, in and out do not overlap where they must not.
 * INTERNAL with a sentence (op index, kind, layer): a fault of ours or numbers no family should have let through.
 * NOMEM: the builder ran out of memory.
 * Domains: an op's slots are of its own domain, but for ROWS (in0 ALL) and HEAD, whose in0 may be ALL (it then takes
 * the wanted rows itself). HEADS that writes KV runs over ALL. GEGLU has n_weights 2, GELU_MUL 1. A slot may be both in
 * and out only where the kind's text says so. */
int gm_program_check(const gm_program *p, gemma_error *error);
const char *gm_op_name(uint32_t kind); /* "matmul" */

#endif
