/* A model made from a file in memory. */
#ifndef MODEL_FIXTURE_H
#define MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/model.h"
#include "support/fault.h"
#include "support/tiny_model.h"

typedef struct fixture {
    gm_mem mem;
    gguf_writer *w;
    gm_gguf *gguf;
    gm_model *m;
    gemma_error error;
} fixture;

static inline void open_written(fixture *f, gguf_writer *w)
{
    *f = (fixture){ .w = w, .error = { .size = sizeof f->error } };
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&f->mem, &host);
    size_t n_bytes;
    const uint8_t *bytes = gguf_writer_finish(w, &n_bytes);
    gm_gguf_input input = { .bytes = bytes, .n_bytes = n_bytes };
    if (gm_gguf_open(&f->mem, &input, &f->gguf, &f->error)) fail_msg("%s", f->error.message);
}

static inline int create(fixture *f, gguf_writer *w)
{
    open_written(f, w);
    return gm_model_create(&f->mem, f->gguf, &f->m, &f->error);
}

static inline void create_well(fixture *f, const tiny_model *t)
{
    if (create(f, tiny_model_write(t))) fail_msg("%s", f->error.message);
}

/* For one of two that are alive: blocks are not counted. */
static inline void finish_quietly(fixture *f)
{
    gm_model_destroy(f->m);
    gm_gguf_close(f->gguf);
    gguf_writer_destroy(f->w);
}

static inline void finish(fixture *f)
{
    finish_quietly(f);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

#endif
