/* The open file; private to gguf. */
#ifndef GM_GGUF_INTERNAL_H
#define GM_GGUF_INTERNAL_H

#include "gguf/header.h"

struct gm_gguf {
    gm_mem *mem;
    gm_source **parts;
    uint32_t n_parts;
    gm_header head; /* of the first part */
    gm_tensors tensors;
    gm_names tensor_names;
    uint64_t file_bytes;
};

#endif
