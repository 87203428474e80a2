/* family: what the files of lib/model share: reading keys, finding tensors by role, emitting ops. Private to model. */
#ifndef GM_FAMILY_H
#define GM_FAMILY_H

#include "model/model.h"

enum {
    GM_HEAD_MAX = 1024,     /* values of a head */
    GM_HEADS_MAX = 1024,    /* query heads */
    GM_WIDTH_MAX = 1 << 20, /* values of any activation row, tokens of a window */
    GM_VOCAB_MAX = 1 << 24,
    GM_EXPERTS_MAX = 1024,
    GM_USED_MAX = 64, /* experts of a token */
    GM_RUN = 32,      /* kernels take their input in runs of so many values */
};

/* Weight indices; -1: the model has none. */
typedef struct gm_layer_roles {
    int32_t attn_norm, q, k, v, q_norm, k_norm, attn_output, post_attention_norm;
    int32_t ffn_norm, gate, up, down, post_ffw_norm;
    /* Gemma 4 */
    int32_t output_scale, inp_gate, proj, post_norm;
    int32_t router, router_scale, gate_up_exps, gate_exps, up_exps, down_exps, down_exps_scale;
    int32_t pre_ffw_norm_2, post_ffw_norm_1, post_ffw_norm_2;
} gm_layer_roles;

typedef struct gm_roles {
    int32_t token_embd, output, output_norm;                           /* output = token_embd when tied */
    int32_t rope_freqs, ple_token_embd, ple_model_proj, ple_proj_norm; /* Gemma 4 */
    gm_layer_roles *layers;                                            /* [n_layers] */
    uint32_t n_expert, n_used, n_ff_expert;                            /* 0: no experts */
    uint32_t cap_weights;
    gm_tensor made_tensor; /* rope_freqs, when the file lacks it */
    float *made_data;
} gm_roles;

/* ---- keys.c: hyper-parameters as the file states them. Keys are named without the architecture's prefix ---- */

enum { GM_KEY_BYTES = 96 };

typedef struct gm_keys {
    gm_model *m;
    const gm_gguf *gguf;
    gemma_error *error;
} gm_keys;

const char *gm_key_name(const gm_keys *k, const char *name, char buffer[GM_KEY_BYTES]); /* with the prefix */
bool gm_key_has(const gm_keys *k, const char *name);
/* Absent: *out untouched, or FORMAT if `required`. FORMAT too outside low … high. */
int gm_key_u32(const gm_keys *k, const char *name, bool required, uint32_t low, uint32_t high, uint32_t *out);
int gm_key_float(const gm_keys *k, const char *name, bool required, double low, double high, float *out);
/* A number for all layers or an array with one per layer: values[n_layers]. */
int gm_key_layers(const gm_keys *k, const char *name, bool required, uint32_t low, uint32_t high, uint32_t *values);
/* The same, required, and one value for all. UNSUPPORTED where they differ. */
int gm_key_uniform(const gm_keys *k, const char *name, uint32_t low, uint32_t high, uint32_t *out);
/* An array of bool or integer, one per layer, into gm_layer.sliding. *found is false when the key is no array. */
int gm_key_pattern(const gm_keys *k, const char *name, bool *found);

/* ---- hparams.c: what families have in common, called in this order with the family's own in between ---- */

/* UNSUPPORTED unless `value` is a multiple of GM_RUN. */
int gm_hparams_run(const gm_keys *k, const char *name, uint32_t value);
/* Counts and widths; allocates the layers. */
int gm_hparams_read(const gm_keys *k);
/* Head sizes and RoPE, when `sliding` and `window` are known. swa_required: the sliding head size has no default. */
int gm_hparams_heads(const gm_keys *k, bool swa_required);
/* Which KV each layer reads; the last n_shared (< n_layers) layers own none. */
int gm_hparams_kv(const gm_keys *k, uint32_t n_shared);

/* ---- tensors.c ---- */

typedef struct gm_finder {
    gm_model *m;
    const gm_gguf *gguf;
    gemma_error *error;
    int rc;        /* errors stick: a family asks for everything and checks once */
    int32_t layer; /* names get "blk.<layer>." in front; -1: none */
} gm_finder;

typedef struct gm_shape {
    uint64_t ne[3];
} gm_shape;

/* The weight of that name and shape; -1 when it is absent (FORMAT unless `optional`) or an error is stuck. */
int32_t gm_find_vector(gm_finder *f, const char *name, uint64_t n, bool optional); /* F32, class NORMS */
int32_t gm_find_matrix(gm_finder *f, const char *name, gm_shape shape, uint32_t bytes_class, bool optional);
/* One row per token, as many as there are: [width, n]. */
int32_t gm_find_table(gm_finder *f, const char *name, uint64_t width, uint32_t bytes_class);
bool gm_find_has(const gm_finder *f, const char *name);
/* Embedding, head and final norm. */
void gm_find_common(gm_finder *f);
/* The norms, attention and dense FFN of f->layer. On a layer without own KV, K and V are left out. `k_as_v`: attn_v may
 * be absent. */
void gm_find_layer(gm_finder *f, bool k_as_v);
/* Adds a weight by hand and takes its factors; -1 on NOMEM. */
int32_t gm_add_weight(gm_finder *f, const gm_weight *w);

/* ---- vocab.c ---- */
/* n_vocab and suppressed ids, after the tensors. */
int gm_vocab_read(const gm_keys *k);

/* ---- emit.c ---- */

/* A program in the making. x, normed and ple are of `rows`, which turns from ALL to WANTED at the cut. */
typedef struct gm_emit {
    const gm_model *m;
    gm_program *p;
    bool cut;
    gm_rows rows;
    uint16_t x, normed;  /* the stream, and its norm for what comes next */
    uint16_t ple;        /* Gemma 4's per-layer inputs; GM_NONE */
    uint16_t rope[2][2]; /* by gm_rows and gm_kv_kind; GM_NONE until asked for */
} gm_emit;

uint16_t gm_emit_slot(gm_emit *e, uint32_t width);
gm_op *gm_emit_op(gm_emit *e, gm_op_kind kind, int32_t layer);
/* out = w in; returns the slot. */
uint16_t gm_emit_matmul(gm_emit *e, int32_t layer, int32_t weight, uint16_t in);
uint16_t gm_emit_norm(gm_emit *e, int32_t layer, int32_t weight, uint16_t in);
/* x = x + RMS(in; norm), × scale if ≥ 0; then normed = RMS(x; next) if ≥ 0. */
void gm_emit_add(gm_emit *e, int32_t layer, uint16_t in, int32_t norm, int32_t scale, int32_t next);
/* Embedding and the first norm. */
void gm_emit_begin(gm_emit *e);
/* From normed to the attention's output before its post-norm; turns to WANTED where the program is cut. */
uint16_t gm_emit_attention(gm_emit *e, uint32_t layer);
/* ffn_down (gelu(gate in) × (up in)). */
uint16_t gm_emit_ffn(gm_emit *e, uint32_t layer, uint16_t in);
/* The norm behind the layer: the next layer's attn_norm or output_norm. */
int32_t gm_emit_next_norm(const gm_emit *e, uint32_t layer);
void gm_emit_head(gm_emit *e);

/* ---- the families ---- */

typedef struct gm_family_fns {
    const char *name;
    gm_family family;
    int (*read)(const gm_keys *k); /* hyper-parameters */
    void (*find)(gm_finder *f);    /* tensors */
    void (*emit)(gm_emit *e);      /* between begin and head */
} gm_family_fns;

extern const gm_family_fns gm_gemma3, gm_gemma4;

#endif
