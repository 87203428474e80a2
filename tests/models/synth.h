/* synth: GGUF files of the sizes and types of released Gemma models, with random weights. What the files hold is decided
 * in synth_plan.c, how it is written in synth_header.c and synth_blocks.c; synth.c is the program. */
#ifndef SYNTH_H
#define SYNTH_H

#include "support/gguf_writer.h"

#include <stdio.h>

typedef enum synth_fill {
    SYNTH_RANDOM, /* mean 0, standard deviation `size` */
    SYNTH_NORM,   /* uniform within a tenth of `size` */
    SYNTH_FREQS,  /* rope_freqs: 1, from a quarter on 1e30 */
} synth_fill;

typedef struct synth_tensor {
    char name[65];
    uint32_t type, n_dims;
    uint64_t ne[3], n_bytes;
    synth_fill fill;
    float size;
} synth_tensor;

typedef struct synth_model synth_model;

/* Names by index, NULL beyond the last: "gemma4-e2b" …, "Q4_K_M" … */
const char *synth_size_name(size_t i);
const char *synth_mix_name(size_t i);

/* n_layers 0: all. NULL: no such size or mix, or more layers than the model has. Out of memory: abort(). */
synth_model *synth_create(const char *size, const char *mix, uint32_t n_layers, uint64_t n_vocab);
void synth_destroy(synth_model *m);
size_t synth_n_tensors(const synth_model *m);
const synth_tensor *synth_tensor_at(const synth_model *m, size_t i);
uint64_t synth_tensor_bytes(const synth_model *m); /* the sum, without padding */

/* A file is a header, then the tensors in order, each padded to the alignment. The header has the keys that were put
 * into w, to which it adds its own; it lives as long as w. */
enum { SYNTH_ALIGNMENT = 32 };
const uint8_t *synth_header(const synth_model *m, gguf_writer *w, size_t *n_bytes);
uint64_t synth_data_bytes(const synth_model *m); /* after the header */
/* n zeros that take no place on the disk, where the file system can do that. false: the file cannot grow. */
bool synth_write_hole(FILE *f, uint64_t n);

/* A tensor's bytes come in pieces: equal seeds and names give equal bytes, however they are cut. */
typedef struct synth_stream {
    const synth_tensor *tensor;
    uint64_t random[4], n_done; /* elements */
} synth_stream;
void synth_begin(synth_stream *s, const synth_tensor *t, uint64_t seed);
/* The next whole blocks, as many as fit in n bytes; returns their bytes, 0 at the end. */
size_t synth_next(synth_stream *s, uint8_t *buffer, size_t n);

#endif
