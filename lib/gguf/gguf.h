/* gguf: untrusted bytes to checked tables. Versions 2 and 3, little-endian, split files. Every length, count, offset,
 * type and alignment is checked before use; after gm_gguf_open nothing needs checking again.
 *
 * Limits: a header of 1 GiB, 65,536 keys with names of 65,535 bytes, 65,536 tensors (all parts) with names of 64 bytes
 * and 1 … 4 dimensions, 512 parts, an alignment from 8 to 65,536. Names are UTF-8 without control characters and there
 * once. Arrays of arrays are refused. A file without tensors (a vocabulary) is fine. */
#ifndef GM_GGUF_H
#define GM_GGUF_H

#include "base/base.h"
#include "quant/quant.h"

typedef struct gm_gguf gm_gguf; /* immutable after opening, any thread */

typedef struct gm_str {
    const char *data;
    size_t n;
} gm_str; /* not NUL-terminated */

typedef struct gm_tensor {
    char name[65];   /* NUL-terminated; GGUF allows 64 bytes */
    uint32_t n_dims; /* 1 … 4 */
    uint64_t ne[4];  /* ne[0] is contiguous; unused ones are 1 */
    const gm_format *format;
    uint64_t n_bytes;
    uint32_t part;   /* of a split file */
    uint64_t offset; /* from the start of that part's file; in bounds, aligned to general.alignment */
} gm_tensor;

enum {
    GM_GGUF_U8,
    GM_GGUF_I8,
    GM_GGUF_U16,
    GM_GGUF_I16,
    GM_GGUF_U32,
    GM_GGUF_I32,
    GM_GGUF_F32,
    GM_GGUF_BOOL,
    GM_GGUF_STRING,
    GM_GGUF_ARRAY,
    GM_GGUF_U64,
    GM_GGUF_I64,
    GM_GGUF_F64
};

/* `path` NULL: `bytes`, which must outlive the file. A path that ends in -00001-of-NNNNN.gguf brings its other parts.
 * progress (may be NULL) is called before each MiB of a header is read, and at its end: done = bytes of headers so far,
 * total = bytes of the parts opened so far, which grows once, when the first part of a split file has been read.
 * Errors: ARG (neither given; a part that is not the first), NOMEM, IO, FORMAT, UNSUPPORTED (another version, byte order
 * or type of tensor; part of a split file as bytes), CANCELLED. */
typedef struct gm_gguf_input {
    const char *path;
    const void *bytes;
    uint64_t n_bytes;
    bool map;
    gemma_progress progress;
    void *progress_user;
} gm_gguf_input;
int gm_gguf_open(gm_mem *mem, const gm_gguf_input *input, gm_gguf **out, gemma_error *error);
void gm_gguf_close(gm_gguf *g);

uint32_t gm_gguf_n_tensors(const gm_gguf *g);
const gm_tensor *gm_gguf_tensor(const gm_gguf *g, uint32_t index); /* in the file's order; NULL: out of range */
const gm_tensor *gm_gguf_find(const gm_gguf *g, const char *name); /* NULL: not there; hashed */
uint32_t gm_gguf_n_parts(const gm_gguf *g);
uint64_t gm_gguf_file_bytes(const gm_gguf *g); /* all parts */
const char *gm_gguf_name(const gm_gguf *g);    /* for messages: the path or "bytes in memory" */

/* n bytes of a tensor's data from `offset` (relative to the tensor). IO on failure; bounds are the caller's. */
int gm_gguf_read(const gm_gguf *g, const gm_tensor *t, uint64_t offset, void *dst, uint64_t n, gemma_error *error);
/* The tensor's data in place, or NULL: not mapped, or the bytes it was opened from are not at a multiple of 8, so that
 * blocks would not be aligned. */
const void *gm_gguf_mapped(const gm_gguf *g, const gm_tensor *t);

/* Metadata. Getters return false when the key is absent or its type does not fit (any integer type fits an integer
 * getter if the value does); *out is untouched then. */
uint32_t gm_gguf_n_keys(const gm_gguf *g);
bool gm_gguf_has(const gm_gguf *g, const char *key);
bool gm_gguf_u32(const gm_gguf *g, const char *key, uint32_t *out);
bool gm_gguf_f32(const gm_gguf *g, const char *key, float *out); /* f32, f64 in its range */
bool gm_gguf_bool(const gm_gguf *g, const char *key, bool *out);
bool gm_gguf_string(const gm_gguf *g, const char *key, gm_str *out); /* lives as long as g */
/* Arrays: n elements of a GM_GGUF_ type. false unless the key is an array. */
bool gm_gguf_array(const gm_gguf *g, const char *key, uint32_t *type, uint64_t *n);
/* Element i of an integer or bool array (in bounds), as int64; false if the elements are not integers,
 * or this one is a u64 above INT64_MAX. */
bool gm_gguf_array_int(const gm_gguf *g, const char *key, uint64_t i, int64_t *out);
/* Contiguous little-endian data of a number array, or NULL. */
const void *gm_gguf_array_data(const gm_gguf *g, const char *key);
/* The strings of an array that are still to come: all of them at first. false unless the key is an array of strings. */
typedef struct gm_strings {
    const uint8_t *at, *end;
} gm_strings; /* lives as long as g */
bool gm_gguf_strings(const gm_gguf *g, const char *key, gm_strings *out);
/* false at the end. */
static inline bool gm_strings_next(gm_strings *s, gm_str *out)
{
    if (s->at == s->end) return false;
    *out = (gm_str){ (const char *)s->at + 8, (size_t)gm_load_u64(s->at) };
    s->at += 8 + out->n;
    return true;
}
/* Any value as text, arrays as "[n]"; returns the whole length, or -1 when the key is absent. */
int64_t gm_gguf_text(const gm_gguf *g, const char *key, char *buffer, size_t n);

#endif
