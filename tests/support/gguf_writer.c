#include "support/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct bytes {
    uint8_t *data;
    size_t n, capacity;
} bytes;

struct gguf_writer {
    uint32_t version, alignment;
    uint64_t n_keys, n_tensors;
    bool data_follows;       /* after the file */
    bytes keys, infos, data; /* the three regions */
    bytes file;
};

static void put(bytes *b, const void *data, size_t n)
{
    if (n > b->capacity - b->n) {
        b->capacity = (b->capacity + n) * 2;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) abort();
    }
    if (data)
        memcpy(b->data + b->n, data, n);
    else if (n)
        memset(b->data + b->n, 0, n);
    b->n += n;
}
static void put_u32(bytes *b, uint32_t value) { put(b, &value, sizeof value); }
static void put_u64(bytes *b, uint64_t value) { put(b, &value, sizeof value); }
static void put_text(bytes *b, const char *text, size_t n)
{
    put_u64(b, n);
    put(b, text ? text : "", n);
}
static void pad(bytes *b, uint32_t alignment)
{
    while (b->n % alignment) put(b, NULL, 1);
}

gguf_writer *gguf_writer_create(void)
{
    gguf_writer *w = calloc(1, sizeof *w);
    if (!w) abort();
    w->version = 3;
    w->alignment = 32;
    return w;
}

void gguf_writer_destroy(gguf_writer *w)
{
    if (!w) return;
    free(w->keys.data);
    free(w->infos.data);
    free(w->data.data);
    free(w->file.data);
    free(w);
}

void gguf_set_version(gguf_writer *w, uint32_t version) { w->version = version; }

void gguf_set_alignment(gguf_writer *w, uint32_t alignment)
{
    w->alignment = alignment;
    if (alignment != 32) gguf_put_u32(w, "general.alignment", alignment);
}

/* ---- keys ---- */

static void begin_key(gguf_writer *w, const char *key, uint32_t type)
{
    put_text(&w->keys, key, strlen(key));
    put_u32(&w->keys, type);
    w->n_keys++;
}

void gguf_put_value(gguf_writer *w, const char *key, uint32_t type, const void *data, size_t n_bytes)
{
    begin_key(w, key, type);
    put(&w->keys, data, n_bytes);
}

void gguf_put_u16(gguf_writer *w, const char *key, uint16_t v) { gguf_put_value(w, key, GM_GGUF_U16, &v, sizeof v); }
void gguf_put_u32(gguf_writer *w, const char *key, uint32_t v) { gguf_put_value(w, key, GM_GGUF_U32, &v, sizeof v); }
void gguf_put_i32(gguf_writer *w, const char *key, int32_t v) { gguf_put_value(w, key, GM_GGUF_I32, &v, sizeof v); }
void gguf_put_u64(gguf_writer *w, const char *key, uint64_t v) { gguf_put_value(w, key, GM_GGUF_U64, &v, sizeof v); }
void gguf_put_f32(gguf_writer *w, const char *key, float v) { gguf_put_value(w, key, GM_GGUF_F32, &v, sizeof v); }
void gguf_put_bool(gguf_writer *w, const char *key, bool v) { gguf_put_value(w, key, GM_GGUF_BOOL, &v, 1); }

void gguf_put_string(gguf_writer *w, const char *key, const char *text)
{
    gguf_put_string_n(w, key, text, strlen(text));
}

void gguf_put_string_n(gguf_writer *w, const char *key, const char *text, size_t n)
{
    begin_key(w, key, GM_GGUF_STRING);
    put_text(&w->keys, text, n);
}

static void begin_array(gguf_writer *w, const char *key, uint32_t type, uint64_t n)
{
    begin_key(w, key, GM_GGUF_ARRAY);
    put_u32(&w->keys, type);
    put_u64(&w->keys, n);
}

static size_t element_bytes(uint32_t type)
{
    switch (type) {
    case GM_GGUF_U8:
    case GM_GGUF_I8:
    case GM_GGUF_BOOL: return 1;
    case GM_GGUF_U16:
    case GM_GGUF_I16: return 2;
    case GM_GGUF_U32:
    case GM_GGUF_I32:
    case GM_GGUF_F32: return 4;
    default: return 8;
    }
}

void gguf_put_array(gguf_writer *w, const char *key, uint32_t type, const void *data, uint64_t n)
{
    begin_array(w, key, type, n);
    put(&w->keys, data, n * element_bytes(type));
}

void gguf_put_strings(gguf_writer *w, const char *key, const char *const *texts, uint64_t n)
{
    begin_array(w, key, GM_GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) put_text(&w->keys, texts[i], strlen(texts[i]));
}

void gguf_put_strings_n(gguf_writer *w, const char *key, const gm_str *texts, uint64_t n)
{
    begin_array(w, key, GM_GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) put_text(&w->keys, texts[i].data, texts[i].n);
}

void gguf_put_split(gguf_writer *w, uint16_t no, uint16_t count, int32_t n_tensors)
{
    gguf_put_u16(w, "split.no", no);
    gguf_put_u16(w, "split.count", count);
    gguf_put_i32(w, "split.tensors.count", n_tensors);
}

/* ---- tensors ---- */

static void put_info(gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                     uint64_t offset)
{
    put_text(&w->infos, name, strlen(name));
    put_u32(&w->infos, n_dims);
    put(&w->infos, ne, n_dims * sizeof *ne);
    put_u32(&w->infos, type);
    put_u64(&w->infos, offset);
    w->n_tensors++;
}

void gguf_put_tensor(gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                     const void *data, size_t n_bytes)
{
    pad(&w->data, w->alignment);
    put_info(w, name, type, n_dims, ne, w->data.n);
    put(&w->data, data, n_bytes);
}

void gguf_put_tensor_at(gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                        uint64_t offset)
{
    put_info(w, name, type, n_dims, ne, offset);
    w->data_follows = true;
}

void gguf_put_tensor_f32(gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                         const float *values)
{
    const gm_format *format = gm_format_of(type);
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++) n *= ne[i];
    size_t n_bytes = gm_row_bytes(format, n);
    void *blocks = calloc(1, n_bytes);
    if (!blocks || !format->pack) abort();
    format->pack(values, blocks, n / format->block);
    gguf_put_tensor(w, name, type, n_dims, ne, blocks, n_bytes);
    free(blocks);
}

/* ---- the file ---- */

const uint8_t *gguf_writer_finish(gguf_writer *w, size_t *n_bytes)
{
    bytes *file = &w->file;
    file->n = 0;
    put(file, "GGUF", 4);
    put_u32(file, w->version);
    put_u64(file, w->n_tensors);
    put_u64(file, w->n_keys);
    put(file, w->keys.data, w->keys.n);
    put(file, w->infos.data, w->infos.n);
    if (w->data.n || w->data_follows) {
        pad(file, w->alignment);
        put(file, w->data.data, w->data.n);
    }
    *n_bytes = file->n;
    return file->data;
}

bool gguf_writer_save(gguf_writer *w, const char *path)
{
    size_t n;
    const uint8_t *data = gguf_writer_finish(w, &n);
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(data, 1, n, file) == n;
    return file && fclose(file) == 0 && ok;
}
