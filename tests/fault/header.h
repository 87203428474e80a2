/* Models of full size without their weights: the header of a synthetic file in memory, and zeros behind it. */
#ifndef HEADER_H
#define HEADER_H

#include "fault/run.h"
#include "models/synth.h"

typedef struct header {
    synth_model *model;
    gguf_writer *writer;
    const uint8_t *bytes;
    size_t n_bytes;
    uint64_t file_bytes;
} header;

void header_make(header *h, const char *size, const char *mix);
void header_drop(header *h);
/* The fault allocator's hooks, and files that are read from `h`, whose fields may change; one per program. */
gemma_host header_host(header *h);
/* A runtime of the posed machine, with its RAM. */
void header_runtime(run *r, const gemma_vulkan_host *vulkan, header *h, const machine *m);
void header_open(run *r);
/* Plans and, where that fits, rehearses: every heap of the machine has what is billed. Returns what the first call that
 * failed says. The plan stays, the model does not. */
int header_rehearse(run *r, const gemma_plan_options *po, const machine *m, const char *where);

#endif
