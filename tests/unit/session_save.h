/* A saved session in memory, and callbacks that fail on demand. */
#ifndef GM_TEST_SESSION_SAVE_H
#define GM_TEST_SESSION_SAVE_H

#include "gemma.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct blob {
    uint8_t *data;
    size_t n, cap;
    size_t fail_at; /* calls of write and read that succeed; SIZE_MAX: all */
    size_t n_calls;
    size_t most;          /* bytes of one read; 0: as many as asked for */
    gemma_cancel *cancel; /* raised by the call that would fail, which succeeds then */
    void (*raise)(gemma_cancel *cancel);
} blob;

static inline bool blob_fails(blob *b)
{
    if (b->n_calls++ != b->fail_at) return false;
    if (!b->cancel) return true;
    b->raise(b->cancel);
    return false;
}

static inline int blob_write(void *user, const void *bytes, uint64_t n_bytes)
{
    blob *b = user;
    if (blob_fails(b)) return 1;
    if (b->n + n_bytes > b->cap) {
        b->cap = (b->n + n_bytes) * 2;
        b->data = realloc(b->data, b->cap);
        if (!b->data) abort();
    }
    memcpy(b->data + b->n, bytes, n_bytes);
    b->n += n_bytes;
    return 0;
}

static inline int64_t blob_read(void *user, uint64_t offset, void *dst, uint64_t n_bytes)
{
    blob *b = user;
    if (blob_fails(b)) return -1;
    if (offset >= b->n) return 0;
    uint64_t n = n_bytes < b->n - offset ? n_bytes : b->n - offset;
    if (b->most && n > b->most) n = b->most;
    memcpy(dst, b->data + offset, n);
    return (int64_t)n;
}

static inline void blob_init(blob *b) { *b = (blob){ .fail_at = SIZE_MAX }; }
static inline gemma_save_options blob_save(blob *b)
{
    return (gemma_save_options){ .size = sizeof(gemma_save_options), .write = blob_write, .user = b };
}
static inline gemma_restore_options blob_load(blob *b)
{
    return (gemma_restore_options){ .size = sizeof(gemma_restore_options), .read = blob_read, .user = b };
}

#endif
