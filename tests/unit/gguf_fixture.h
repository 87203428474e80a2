/* A heap that counts its blocks and fails on demand, and files opened on it. */
#ifndef GGUF_FIXTURE_H
#define GGUF_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/fault.h"
#include "support/gguf_writer.h"

static gemma_host host; /* counts blocks, fails on demand */
static gm_mem mem;
static gemma_error error;

static inline int set_up(void **state)
{
    (void)state;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    error = (gemma_error){ .size = sizeof error };
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
    return 0;
}

static inline int open_bytes(const void *bytes, size_t n, gm_gguf **out)
{
    return gm_gguf_open(&mem, &(gm_gguf_input){ .bytes = bytes, .n_bytes = n }, out, &error);
}

static inline int open_path(const char *path, bool map, gm_gguf **out)
{
    return gm_gguf_open(&mem, &(gm_gguf_input){ .path = path, .map = map }, out, &error);
}

#endif
