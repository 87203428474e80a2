#include "gguf/header.h"

#include <stdarg.h>

enum {
    MIN_HEADER_BYTES = 24, /* magic, version, two counts */
    MAX_HEADER_BYTES = 1 << 30,
    PIECE_BYTES = 1 << 20, /* read at once, and between two calls of progress */
    MAX_KEYS = 65536,
    MAX_TENSORS = 65536, /* of all parts */
    MAX_KEY_NAME = 65535,
    MAX_TENSOR_NAME = sizeof(((gm_tensor *)0)->name) - 1,
    MIN_KEY_BYTES = 8 + 1 + 4 + 1,            /* name, type, value */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* name, n_dims, one dim, type, offset */
    DEFAULT_ALIGNMENT = 32,
    MIN_ALIGNMENT = 8,
    MAX_ALIGNMENT = 65536
};

typedef struct reader {
    gm_reading *reading;
    gm_source *source;
    gm_header *head;
    uint64_t file_bytes;
    uint64_t at;     /* ≤ head->n_bytes ≤ file_bytes */
    char where[112]; /* for sentences: "key 3 of 20", "tensor 'x'" */
} reader;

GM_PRINTF(3, 4) static int refuse(const reader *r, int code, const char *format, ...)
{
    char text[384];
    va_list args;
    va_start(args, format);
    gm_text_format_v(text, sizeof text, format, args);
    va_end(args);
    return gm_fail(r->reading->error, code, "%s: %s", gm_source_name(r->source), text);
}

static int refuse_truncated(const reader *r, uint64_t n_bytes)
{
    return refuse(r, GEMMA_E_FORMAT, "the file ends at byte %llu, inside %s: %llu bytes were expected at byte %llu",
                  (unsigned long long)r->file_bytes, r->where, (unsigned long long)n_bytes, (unsigned long long)r->at);
}

static int refuse_nomem(const reader *r, uint64_t n_bytes)
{
    return gm_fail_nomem(r->reading->error, gm_source_name(r->source), n_bytes);
}

/* ---- the block: bytes from the start of the file, growing ---- */

static int report_progress(const reader *r)
{
    const gm_reading *reading = r->reading;
    if (!reading->progress) return GEMMA_OK;
    uint64_t done = reading->done_bytes + r->head->n_bytes;
    if (!reading->progress(reading->progress_user, done, reading->total_bytes)) return GEMMA_OK;
    return refuse(r, GEMMA_E_CANCELLED, "opening was cancelled at byte %llu", (unsigned long long)r->head->n_bytes);
}

static int resize_block(const reader *r, uint64_t capacity)
{
    gm_header *head = r->head;
    gm_mem *mem = r->reading->mem;
    uint8_t *block = gm_mem_alloc(mem, capacity, 16, GEMMA_TAG_FILE);
    if (!block) return GEMMA_E_NOMEM;
    if (head->n_bytes) memcpy(block, head->bytes, head->n_bytes);
    gm_mem_free(mem, (void *)(uintptr_t)head->bytes, head->capacity, GEMMA_TAG_FILE);
    head->bytes = block;
    head->capacity = capacity;
    return GEMMA_OK;
}

static int read_piece(reader *r)
{
    gm_header *head = r->head;
    uint64_t end = gm_min_u64(head->n_bytes + PIECE_BYTES, gm_min_u64(r->file_bytes, MAX_HEADER_BYTES));
    int rc = report_progress(r);
    if (rc) return rc;
    if (!r->reading->in_place) {
        if (end > head->capacity) {
            uint64_t capacity = gm_min_u64(gm_max_u64(end, 4 * head->capacity), r->file_bytes);
            if (resize_block(r, capacity)) return refuse_nomem(r, capacity);
        }
        uint8_t *dst = (uint8_t *)(uintptr_t)head->bytes + head->n_bytes;
        rc = gm_source_read(r->source, head->n_bytes, dst, end - head->n_bytes, r->reading->error);
        if (rc) return rc;
    }
    head->n_bytes = end;
    return GEMMA_OK;
}

static int read_pieces(reader *r, uint64_t n_bytes)
{
    if (n_bytes > r->file_bytes - r->at) return refuse_truncated(r, n_bytes);
    if (n_bytes > MAX_HEADER_BYTES - r->at)
        return refuse(r, GEMMA_E_FORMAT, "the header is larger than %u bytes, at %s", MAX_HEADER_BYTES, r->where);
    int rc = GEMMA_OK;
    while (!rc && n_bytes > r->head->n_bytes - r->at) rc = read_piece(r);
    return rc;
}

/* ---- taking: the cursor moves past n bytes that are then in head->bytes ---- */

static int take(reader *r, uint64_t n_bytes)
{
    int rc = n_bytes > r->head->n_bytes - r->at ? read_pieces(r, n_bytes) : GEMMA_OK;
    if (!rc) r->at += n_bytes;
    return rc;
}

static int take_u32(reader *r, uint32_t *out)
{
    int rc = take(r, 4);
    if (!rc) *out = gm_load_u32(r->head->bytes + r->at - 4);
    return rc;
}

static int take_u64(reader *r, uint64_t *out)
{
    int rc = take(r, 8);
    if (!rc) *out = gm_load_u64(r->head->bytes + r->at - 8);
    return rc;
}

static int take_string(reader *r, uint32_t *at, uint32_t *n_bytes)
{
    uint64_t n = 0;
    int rc = take_u64(r, &n);
    if (!rc) rc = take(r, n);
    if (rc) return rc;
    *at = (uint32_t)(r->at - n);
    *n_bytes = (uint32_t)n;
    return GEMMA_OK;
}

enum { NAME_SHOWN = 80 }; /* as much of a name as a sentence should carry */

/* Names go into sentences and are found as C strings: UTF-8 without control characters. r->where gets the name. */
static int take_name(reader *r, const char *kind, uint64_t max, uint32_t *at, uint32_t *n_bytes)
{
    uint64_t n = 0;
    int rc = take_u64(r, &n);
    if (rc) return rc;
    if (n == 0 || n > max)
        return refuse(r, GEMMA_E_FORMAT, "%s has a name of %llu bytes; 1 to %llu are allowed", r->where,
                      (unsigned long long)n, (unsigned long long)max);
    rc = take(r, n);
    if (rc) return rc;
    const char *name = (const char *)r->head->bytes + r->at - n;
    bool clean = gm_utf8_check(name, n) == n;
    for (uint64_t i = 0; i < n && clean; i++) clean = (uint8_t)name[i] >= 0x20 && name[i] != 0x7f;
    if (!clean) return refuse(r, GEMMA_E_FORMAT, "the name of %s is not plain UTF-8 text", r->where);

    gm_text_format(r->where, sizeof r->where, "%s '%.*s'", kind, (int)gm_min_u64(n, NAME_SHOWN), name);
    *at = (uint32_t)(r->at - n);
    *n_bytes = (uint32_t)n;
    return GEMMA_OK;
}

/* ---- keys ---- */

uint32_t gm_value_bytes(uint32_t type)
{
    static const uint8_t n_bytes[] = {
        [GM_GGUF_U8] = 1,  [GM_GGUF_I8] = 1,  [GM_GGUF_U16] = 2, [GM_GGUF_I16] = 2,
        [GM_GGUF_U32] = 4, [GM_GGUF_I32] = 4, [GM_GGUF_F32] = 4, [GM_GGUF_BOOL] = 1,
        [GM_GGUF_U64] = 8, [GM_GGUF_I64] = 8, [GM_GGUF_F64] = 8,
    };
    return type < GM_COUNT(n_bytes) ? n_bytes[type] : 0;
}

/* n numbers or bools of one type. */
static int take_numbers(reader *r, uint32_t type, uint64_t n, gm_key *key)
{
    uint64_t n_bytes = 0;
    if (!gm_mul_u64(n, gm_value_bytes(type), &n_bytes)) return refuse_truncated(r, UINT64_MAX);
    int rc = take(r, n_bytes);
    if (rc) return rc;
    key->at = (uint32_t)(r->at - n_bytes);
    key->n_bytes = (uint32_t)n_bytes;
    for (uint64_t i = 0; type == GM_GGUF_BOOL && i < n; i++)
        if (r->head->bytes[key->at + i] > 1)
            return refuse(r, GEMMA_E_FORMAT, "%s holds the bool %u; 0 or 1 is allowed", r->where,
                          r->head->bytes[key->at + i]);
    return GEMMA_OK;
}

static int take_strings(reader *r, uint64_t n, gm_key *key)
{
    uint64_t begin = r->at, n_bytes = 0;
    if (!gm_mul_u64(n, 8, &n_bytes) || n_bytes > r->file_bytes - r->at) return refuse_truncated(r, n_bytes);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t at, length;
        uint64_t left = r->head->n_bytes - r->at;
        if (left >= 8 && gm_load_u64(r->head->bytes + r->at) <= left - 8) { /* has been read whole */
            r->at += 8 + gm_load_u64(r->head->bytes + r->at);
            continue;
        }
        int rc = take_string(r, &at, &length);
        if (rc) return rc;
    }
    key->at = (uint32_t)begin;
    key->n_bytes = (uint32_t)(r->at - begin);
    return GEMMA_OK;
}

static int take_array(reader *r, gm_key *key)
{
    int rc = take_u32(r, &key->element);
    if (!rc) rc = take_u64(r, &key->n);
    if (rc) return rc;
    if (key->element == GM_GGUF_ARRAY)
        return refuse(r, GEMMA_E_UNSUPPORTED, "%s is an array of arrays, which this library does not read", r->where);
    if (key->element == GM_GGUF_STRING) return take_strings(r, key->n, key);
    if (gm_value_bytes(key->element)) return take_numbers(r, key->element, key->n, key);
    return refuse(r, GEMMA_E_FORMAT, "%s is an array of type %u, which GGUF does not have", r->where, key->element);
}

static int take_key(reader *r, gm_key *key)
{
    int rc = take_name(r, "key", MAX_KEY_NAME, &key->name_at, &key->name_n);
    if (!rc) rc = take_u32(r, &key->type);
    if (rc) return rc;
    if (key->type == GM_GGUF_ARRAY) return take_array(r, key);
    if (key->type == GM_GGUF_STRING) return take_string(r, &key->at, &key->n_bytes);
    if (gm_value_bytes(key->type)) return take_numbers(r, key->type, 1, key);
    return refuse(r, GEMMA_E_FORMAT, "%s has the type %u, which GGUF does not have", r->where, key->type);
}

static gm_str name_of_key(const void *table, uint32_t number)
{
    const gm_header *head = table;
    const gm_key *key = &head->keys[number];
    return (gm_str){ (const char *)head->bytes + key->name_at, key->name_n };
}

const gm_key *gm_header_find(const gm_header *head, const char *name)
{
    uint32_t number = gm_names_find(&head->key_names, head, name_of_key, (gm_str){ name, strlen(name) });
    return number == GM_NAMES_NONE ? NULL : &head->keys[number];
}

static int read_keys(reader *r, uint32_t n)
{
    gm_header *head = r->head;
    gm_mem *mem = r->reading->mem;
    if (n) {
        head->keys = gm_new_array(mem, n, sizeof *head->keys, GEMMA_TAG_FILE);
        if (!head->keys) return refuse_nomem(r, (uint64_t)n * sizeof *head->keys);
    }
    for (uint32_t i = 0; i < n; i++) {
        gm_text_format(r->where, sizeof r->where, "key %u of %u", i + 1, n);
        int rc = take_key(r, &head->keys[i]);
        if (rc) return rc;
        head->n_keys++;
    }
    uint32_t twin;
    int rc = gm_names_build(mem, &head->key_names, head, n, name_of_key, &twin);
    if (rc) return refuse_nomem(r, (uint64_t)n * 16);
    if (twin == GM_NAMES_NONE) return GEMMA_OK;
    gm_str name = name_of_key(head, twin);
    return refuse(r, GEMMA_E_FORMAT, "key '%.*s' is there twice", (int)gm_min_u64(name.n, NAME_SHOWN), name.data);
}

/* ---- tensors ---- */

static int check_shape(const reader *r, gm_tensor *t, uint32_t type)
{
    t->format = gm_format_of(type);
    if (!t->format)
        return refuse(r, GEMMA_E_UNSUPPORTED, "%s has the type %u, which this library does not know", r->where, type);
    uint64_t n = 1;
    for (uint32_t i = 0; i < 4; i++) {
        if (t->ne[i] == 0) return refuse(r, GEMMA_E_FORMAT, "%s has the size 0 in dimension %u", r->where, i);
        if (!gm_mul_u64(n, t->ne[i], &n))
            return refuse(r, GEMMA_E_FORMAT, "%s has more elements than 64 bits can count", r->where);
    }
    if (t->ne[0] % t->format->block)
        return refuse(r, GEMMA_E_FORMAT,
                      "%s has rows of %llu elements, which is not a multiple of the %u of a %s block", r->where,
                      (unsigned long long)t->ne[0], t->format->block, t->format->name);
    if (!gm_mul_u64(n / t->format->block, t->format->block_bytes, &t->n_bytes))
        return refuse(r, GEMMA_E_FORMAT, "%s has more bytes than 64 bits can count", r->where);
    return GEMMA_OK;
}

static int take_tensor(reader *r, gm_tensor *t)
{
    uint32_t name_at, name_n, type = 0;
    int rc = take_name(r, "tensor", MAX_TENSOR_NAME, &name_at, &name_n);
    if (!rc) rc = take_u32(r, &t->n_dims);
    if (rc) return rc;
    memcpy(t->name, r->head->bytes + name_at, name_n); /* the table was cleared: the NUL is there */
    if (t->n_dims < 1 || t->n_dims > 4)
        return refuse(r, GEMMA_E_FORMAT, "%s has %u dimensions; 1 to 4 are allowed", r->where, t->n_dims);
    for (uint32_t i = 0; i < 4; i++) t->ne[i] = 1;
    for (uint32_t i = 0; !rc && i < t->n_dims; i++) rc = take_u64(r, &t->ne[i]);
    if (!rc) rc = take_u32(r, &type);
    if (!rc) rc = take_u64(r, &t->offset);
    return rc ? rc : check_shape(r, t, type);
}

static int read_alignment(const reader *r, uint32_t *alignment)
{
    *alignment = DEFAULT_ALIGNMENT;
    if (!gm_header_find(r->head, "general.alignment")) return GEMMA_OK;
    uint32_t a = 0;
    bool number = gm_header_u32(r->head, "general.alignment", &a);
    if (!number || a < MIN_ALIGNMENT || a > MAX_ALIGNMENT || (a & (a - 1)))
        return refuse(r, GEMMA_E_FORMAT, "general.alignment is not a power of two from %u to %u", MIN_ALIGNMENT,
                      MAX_ALIGNMENT);
    *alignment = a;
    return GEMMA_OK;
}

/* From an offset relative to the data to one relative to the file. */
static int place_tensor(const reader *r, gm_tensor *t, uint64_t data_at, uint32_t alignment)
{
    if (t->offset % alignment)
        return refuse(r, GEMMA_E_FORMAT, "tensor '%s' has the offset %llu, which is not a multiple of %u", t->name,
                      (unsigned long long)t->offset, alignment);
    uint64_t end = 0;
    bool fits = gm_add_u64(t->offset, data_at, &t->offset) && gm_add_u64(t->offset, t->n_bytes, &end);
    if (fits && end <= r->file_bytes) return GEMMA_OK;
    return refuse(r, GEMMA_E_FORMAT, "the file ends at byte %llu, but tensor '%s' has %llu bytes at byte %llu",
                  (unsigned long long)r->file_bytes, t->name, (unsigned long long)t->n_bytes,
                  (unsigned long long)t->offset);
}

static int read_tensors(reader *r, uint32_t part, uint32_t n, gm_tensors *tensors)
{
    uint32_t alignment;
    int rc = read_alignment(r, &alignment);
    if (rc || n == 0) return rc;
    uint64_t table_bytes = ((uint64_t)tensors->n + n) * sizeof *tensors->items;
    gm_tensor *items = gm_grow(r->reading->mem, tensors->items, table_bytes, GEMMA_TAG_FILE);
    if (!items) return refuse_nomem(r, table_bytes);
    tensors->items = items;
    items += tensors->n;
    for (uint32_t i = 0; i < n; i++) {
        gm_text_format(r->where, sizeof r->where, "tensor %u of %u", i + 1, n);
        items[i].part = part;
        rc = take_tensor(r, &items[i]);
        if (rc) return rc;
    }
    uint64_t data_at = gm_align_up(r->at, alignment);
    for (uint32_t i = 0; !rc && i < n; i++) rc = place_tensor(r, &items[i], data_at, alignment);
    if (!rc) tensors->n += n;
    return rc;
}

/* ---- the whole ---- */

static int refuse_magic(const reader *r, const uint8_t *b)
{
    char shown[5] = { 0 };
    for (int i = 0; i < 4; i++) shown[i] = b[i] >= 0x20 && b[i] < 0x7f ? (char)b[i] : '.';
    return refuse(r, GEMMA_E_FORMAT, "not a GGUF file: it begins with %x%x %x%x %x%x %x%x (\"%s\")", b[0] >> 4,
                  b[0] & 15, b[1] >> 4, b[1] & 15, b[2] >> 4, b[2] & 15, b[3] >> 4, b[3] & 15, shown);
}

static int take_magic(reader *r)
{
    if (r->file_bytes == 0) return refuse(r, GEMMA_E_FORMAT, "the file is empty");
    gm_text_format(r->where, sizeof r->where, "the first %u bytes of a GGUF file", MIN_HEADER_BYTES);
    int rc = take(r, 4);
    if (rc) return rc;
    if (memcmp(r->head->bytes, "GGUF", 4) != 0) return refuse_magic(r, r->head->bytes);
    uint32_t version = 0;
    rc = take_u32(r, &version);
    if (rc) return rc;
    if (version && (version & 0xffff) == 0)
        return refuse(r, GEMMA_E_UNSUPPORTED, "a big-endian GGUF file (version %u); only little-endian ones are read",
                      version >> 24);
    if (version != 2 && version != 3)
        return refuse(r, GEMMA_E_UNSUPPORTED, "GGUF version %u; versions 2 and 3 are read", version);
    return GEMMA_OK;
}

static int take_count(reader *r, const char *what, uint64_t max, uint64_t min_bytes, uint32_t *out)
{
    uint64_t n = 0;
    int rc = take_u64(r, &n);
    if (rc) return rc;
    if (n > max)
        return refuse(r, GEMMA_E_FORMAT, "%llu %s are announced; at most %llu are allowed", (unsigned long long)n, what,
                      (unsigned long long)max);
    if (n * min_bytes > r->file_bytes - r->at)
        return refuse(r, GEMMA_E_FORMAT, "%llu %s are announced, but the file ends at byte %llu", (unsigned long long)n,
                      what, (unsigned long long)r->file_bytes);
    *out = (uint32_t)n;
    return GEMMA_OK;
}

/* Cuts the block to the header. Without memory for the smaller block, the larger one stays. */
static void trim_block(reader *r)
{
    gm_header *head = r->head;
    head->n_bytes = r->at;
    if (head->capacity > r->at) (void)resize_block(r, r->at);
}

int gm_header_read(gm_reading *reading, gm_source *source, uint32_t part, gm_header *head, gm_tensors *tensors)
{
    reader r = { .reading = reading, .source = source, .head = head, .file_bytes = gm_source_bytes(source) };
    if (reading->in_place) head->bytes = gm_source_mapped(source);
    uint32_t n_tensors = 0, n_keys = 0;
    int rc = take_magic(&r);
    if (!rc) rc = take_count(&r, "tensors", MAX_TENSORS - tensors->n, MIN_TENSOR_BYTES, &n_tensors);
    if (!rc) rc = take_count(&r, "keys", MAX_KEYS, MIN_KEY_BYTES, &n_keys);
    if (!rc) rc = read_keys(&r, n_keys);
    if (!rc) rc = read_tensors(&r, part, n_tensors, tensors);
    if (rc) return rc;
    trim_block(&r);
    rc = report_progress(&r);
    reading->done_bytes += head->n_bytes;
    return rc;
}

void gm_header_finish(gm_mem *mem, gm_header *head)
{
    if (head->capacity) gm_mem_free(mem, (void *)(uintptr_t)head->bytes, head->capacity, GEMMA_TAG_FILE);
    gm_delete(mem, head->keys);
    gm_names_finish(mem, &head->key_names);
    *head = (gm_header){ 0 };
}
