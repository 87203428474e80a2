/* A Gemma in double precision, one row and one value at a time: what the library's models are held against. It knows the
 * model from its tiny_model and reads nothing but tensors from the file. */
#ifndef GEMMA_NAIVE_H
#define GEMMA_NAIVE_H

#include "support/tiny_model.h"

/* One thing done wrong, to show that a comparison would see it. */
typedef enum naive_mistake {
    NO_MISTAKE,
    NO_EMBEDDING_SCALE,
    PLE_TOKEN_UNSCALED,   /* × sqrt(P) */
    PLE_CONTEXT_UNSCALED, /* × D^-0.5 */
    PLE_SUM_UNSCALED,     /* × 2^-0.5 */
    PLE_OF_UNSCALED,      /* from the embedding before its scale */
    PLE_OTHER_LAYER,      /* every layer takes the first slice */
    SCALE_ONLY_UPDATE,    /* layer_output_scale before the residual */
    NO_OUTPUT_SCALE,
    NO_V_NORM,
    V_IS_NORMED_K,         /* K = V: after k-norm */
    KV_HEADS_IN_TURN,      /* query head h reads h % n_kv */
    OTHER_ATTENTION_SCALE, /* 27B: of the head size; Gemma 4: not 1 */
    NO_ROPE_FACTOR,
    ROPE_FACTOR_EVERYWHERE, /* on sliding layers too */
    BASES_SWAPPED,
    WHOLE_HEADS_TURN, /* Gemma 4's global layers */
    WINDOW_ONE_MORE,
    OWN_KV_ON_SHARED,  /* the tensors that nobody reads */
    SHARED_FROM_FIRST, /* of the owners of their kind, not the last */
    TIED_OUTPUT,       /* output.weight ignored */
    NO_FACTORS,        /* X.scale of NVFP4 matrices */
    NO_SOFTCAP,
    UP_BEFORE_GATE, /* in the fused experts */
    NO_RENORM,
    NO_EXPERT_SCALE,
    EXPERT_SCALE_FIRST,  /* before the renormalisation */
    ROUTER_UNSCALED,     /* × D^-0.5 */
    ROUTER_READS_NORMED, /* the experts' input */
} naive_mistake;

/* logits[n][n_vocab] of ids at positions 0 …; `file` is a whole GGUF file made of t. */
void naive_gemma(const tiny_model *t, const void *file, size_t n_bytes, naive_mistake mistake, const int32_t *ids,
                 uint32_t n, float *logits);

#endif
