/* model: a Gemma as its file describes it: hyper-parameters, tensors by role, and the program of a step. One file per
 * family emits the ops (gemma3.c, gemma4.c). */
#ifndef GM_MODEL_H
#define GM_MODEL_H

#include "gguf/gguf.h"
#include "op/op.h"

#define GM_LAYERS_MAX 512

typedef enum gm_family { GM_GEMMA3 = 3, GM_GEMMA4 = 4 } gm_family;

typedef struct gm_layer {
    uint32_t n_head, n_kv, head; /* query heads, KV heads, values of a head */
    uint32_t n_ff;
    bool sliding;
    int32_t kv; /* index into gm_model.kv of the KV it reads: its own or its source's */
    bool owns_kv;
} gm_layer;

/* A tensor the program reads, or whole rows of it (a fused attn_qkv gives three). In load order. */
typedef struct gm_weight {
    const gm_tensor *tensor;
    const void *made;        /* not NULL: the bytes, for a tensor the file lacks; as long as the model */
    uint64_t offset;         /* from the start of the tensor's data */
    uint64_t n_bytes;        /* from there */
    uint32_t n_out;          /* rows */
    uint32_t bytes_class;    /* GEMMA_CLASS_… */
    int32_t layer;           /* -1: not of a layer */
    bool by_row;             /* only single rows are read (an embedding table that is not also the head) */
    uint64_t read_per_token; /* bytes one decoded token reads */
    float *factors;          /* [ne[2] of the tensor]: what products with it are multiplied by; NULL: 1 */
} gm_weight;

typedef struct gm_model { /* immutable, any thread */
    gm_mem *mem;
    gm_family family;
    char architecture[32];
    uint32_t n_layers, n_embd, n_vocab; /* n_vocab: ids that have a token */
    uint32_t ctx_trained, window;       /* window 0: no sliding layer */
    uint32_t n_head, n_ple;             /* of the file's scalars; P or 0 */
    float eps, softcap, attention_scale;
    double rope_base_global, rope_base_sliding;
    float rope_scale_global; /* 1 / linear factor */
    gm_layer *layers;        /* [n_layers] */
    gm_weight *weights;      /* [n_weights] */
    gm_weight_shape *shapes; /* [n_weights], what ops see */
    uint32_t n_weights;
    gm_kv_layer *kv; /* [n_kv]; format is filled in by gm_model_emit's caller through gm_emit_options */
    uint32_t n_kv;
    int32_t *suppressed;
    uint32_t n_suppressed;
    struct gm_roles *roles; /* weight index by role and layer */
} gm_model;

/* Reads hyper-parameters and finds every tensor. `gguf` must outlive the model.
 * FORMAT: a key or tensor missing or contradicting (named, with the shape it has and should have); UNSUPPORTED: another
 * architecture (named, and which are known), a quant type without a decoder (tensor named). */
int gm_model_create(gm_mem *mem, const gm_gguf *gguf, gm_model **out, gemma_error *error);
void gm_model_destroy(gm_model *m);
/* A number that another model will not have: of its shape, its vocabulary, its tensors and the first bytes of each, but
 * not of where the file lies. Reads the file. IO. */
int gm_model_identity(const gm_model *m, const gm_gguf *gguf, uint64_t *identity, gemma_error *error);

typedef struct gm_emit_options {
    uint32_t max_rows;
    bool cut;                      /* rows nothing is wanted of stop after the last layer that writes KV */
    const gm_format *kv_format[2]; /* by gm_kv_kind */
    const gm_weight_shape *shapes; /* [n_weights] what weights are held as, outlives the program; NULL: m->shapes */
} gm_emit_options;
/* The program of a step; checked by gm_program_check. NOMEM, INTERNAL. The program owns copies of nothing: m outlives
 * it; its kv table is the program's own (with formats filled in). */
int gm_model_emit(const gm_model *m, const gm_emit_options *options, gm_program **out, gemma_error *error);

/* The vocabulary for a tokenizer lives in the same file, but is read by lib/api through lib/gguf. */
/* Families and what they are called in files, for messages: "gemma3, gemma4". */
const char *gm_model_known(void);

#endif
