/* tiny_model: random Gemma 3 and Gemma 4 models of a few hundred kilobytes, built in memory. The same options give the
 * same bytes everywhere. Needs gguf_writer.
 *
 *     tiny_model t;
 *     tiny_model_defaults(&t, 3);
 *     t.type = GM_Q4_0;
 *     gguf_writer *w = tiny_model_write(&t);
 *     const uint8_t *bytes = gguf_writer_finish(w, &n_bytes);
 *
 * The vocabulary is small but whole: special tokens, 256 byte tokens, printable ASCII, a few longer pieces, padding. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include "support/gguf_writer.h"

enum { TINY_SKIPS = 4 };

typedef struct tiny_model {
    uint32_t family; /* 3 or 4 */
    uint32_t n_layers, n_embd, n_head, n_kv, n_ff, n_vocab, window, ctx;
    uint32_t head;       /* values of a head; Gemma 4: on sliding layers, twice that on global ones */
    uint32_t pattern;    /* every pattern-th layer is global; 0: none is */
    uint32_t type;       /* GM_… of matrices; random blocks where gm_format_of cannot pack */
    uint32_t table_type; /* of the embedding (and per-layer embedding) table */
    bool fused_qkv, untied;
    bool as_q8_0;       /* random blocks are turned into Q8_0, their factors in the values */
    bool factors;       /* NVFP4 matrices have factors apart, X.scale */
    float eps;          /* of norms; a large one shows factors that a norm would hide */
    float rope_factor;  /* linear, of global layers; 0: no key */
    uint32_t n_padding; /* of n_vocab: rows "[PADn]" at the end, which have no token behind them */
    /* Gemma 4 */
    uint32_t n_ple;                         /* width of per-layer embeddings, or 0 */
    uint32_t n_shared;                      /* last layers that share keys and values */
    bool unread_kv;                         /* these have tensors of their own for them, at the end of the file */
    uint32_t n_expert, n_used, n_ff_expert; /* n_expert 0: no experts */
    bool split_experts;                     /* gate and up apart */
    bool k_as_v;                            /* global layers have no attn_v */
    uint64_t seed;
    /* For broken files: keys and tensors of these names are left out (another can be put in their place). */
    const char *skip[TINY_SKIPS];
} tiny_model;

/* 4 layers, the odd ones global, window 64, context 512, 384 tokens, Q8_0 (about 150 KiB). Gemma 4: with per-layer
 * embeddings and two layers that share. */
void tiny_model_defaults(tiny_model *t, uint32_t family);
/* Not yet finished: keys and tensors can be added. */
gguf_writer *tiny_model_write(const tiny_model *t);

/* Ids of the vocabulary. */
enum { TINY_PAD = 0, TINY_EOS = 1, TINY_BOS = 2, TINY_UNK = 3, TINY_TURN = 4, TINY_END_OF_TURN = 5, TINY_BYTES = 6 };
enum { TINY_ASCII = TINY_BYTES + 256, TINY_VOCAB_MIN = 384 }; /* ' ' … '~' are TINY_ASCII … TINY_ASCII + 94 */

#endif
