#include "gguf/internal.h"

#include <float.h>

/* Element i of an integer or bool value or array; false: another type, or more than an int64 holds. */
static bool load_int(const uint8_t *data, uint32_t type, uint64_t i, int64_t *out)
{
    const uint8_t *p = data + i * gm_value_bytes(type);
    uint64_t u;
    switch (type) {
    case GM_GGUF_BOOL:
    case GM_GGUF_U8: *out = p[0]; return true;
    case GM_GGUF_I8: *out = (int8_t)p[0]; return true;
    case GM_GGUF_U16: *out = gm_load_u16(p); return true;
    case GM_GGUF_I16: *out = (int16_t)gm_load_u16(p); return true;
    case GM_GGUF_U32: *out = gm_load_u32(p); return true;
    case GM_GGUF_I32: *out = (int32_t)gm_load_u32(p); return true;
    case GM_GGUF_I64: *out = (int64_t)gm_load_u64(p); return true;
    case GM_GGUF_U64:
        u = gm_load_u64(p);
        if (u > INT64_MAX) return false;
        *out = (int64_t)u;
        return true;
    default: return false;
    }
}

static double load_f64(const uint8_t *p)
{
    uint64_t bits = gm_load_u64(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const uint8_t *value_of(const gm_header *head, const gm_key *key) { return head->bytes + key->at; }

bool gm_header_u32(const gm_header *head, const char *name, uint32_t *out)
{
    const gm_key *key = gm_header_find(head, name);
    int64_t value;
    if (!key || key->type == GM_GGUF_BOOL || !load_int(value_of(head, key), key->type, 0, &value)) return false;
    if (value < 0 || value > UINT32_MAX) return false;
    *out = (uint32_t)value;
    return true;
}

uint32_t gm_gguf_n_keys(const gm_gguf *g) { return g->head.n_keys; }

bool gm_gguf_has(const gm_gguf *g, const char *key) { return gm_header_find(&g->head, key) != NULL; }

bool gm_gguf_u32(const gm_gguf *g, const char *key, uint32_t *out) { return gm_header_u32(&g->head, key, out); }

bool gm_gguf_f32(const gm_gguf *g, const char *name, float *out)
{
    const gm_key *key = gm_header_find(&g->head, name);
    if (key && key->type == GM_GGUF_F32) {
        *out = gm_load_f32(value_of(&g->head, key));
        return true;
    }
    if (key && key->type == GM_GGUF_F64) {
        double value = load_f64(value_of(&g->head, key));
        if (value > FLT_MAX || value < -FLT_MAX) return false;
        *out = (float)value;
        return true;
    }
    return false;
}

bool gm_gguf_bool(const gm_gguf *g, const char *name, bool *out)
{
    const gm_key *key = gm_header_find(&g->head, name);
    if (!key || key->type != GM_GGUF_BOOL) return false;
    *out = *value_of(&g->head, key) != 0;
    return true;
}

bool gm_gguf_string(const gm_gguf *g, const char *name, gm_str *out)
{
    const gm_key *key = gm_header_find(&g->head, name);
    if (!key || key->type != GM_GGUF_STRING) return false;
    *out = (gm_str){ (const char *)value_of(&g->head, key), key->n_bytes };
    return true;
}

/* ---- arrays ---- */

static const gm_key *find_array(const gm_gguf *g, const char *name)
{
    const gm_key *key = gm_header_find(&g->head, name);
    return key && key->type == GM_GGUF_ARRAY ? key : NULL;
}

bool gm_gguf_array(const gm_gguf *g, const char *name, uint32_t *type, uint64_t *n)
{
    const gm_key *key = find_array(g, name);
    if (!key) return false;
    *type = key->element;
    *n = key->n;
    return true;
}

bool gm_gguf_array_int(const gm_gguf *g, const char *name, uint64_t i, int64_t *out)
{
    const gm_key *key = find_array(g, name);
    return key && i < key->n && load_int(value_of(&g->head, key), key->element, i, out);
}

const void *gm_gguf_array_data(const gm_gguf *g, const char *name)
{
    const gm_key *key = find_array(g, name);
    return key && gm_value_bytes(key->element) ? value_of(&g->head, key) : NULL;
}

bool gm_gguf_strings(const gm_gguf *g, const char *name, gm_strings *out)
{
    const gm_key *key = find_array(g, name);
    if (!key || key->element != GM_GGUF_STRING) return false;
    const uint8_t *first = value_of(&g->head, key);
    *out = (gm_strings){ first, first + key->n_bytes };
    return true;
}

/* ---- any value as text ---- */

static int64_t copy_text(const char *text, size_t length, char *buffer, size_t n)
{
    if (n == 0) return (int64_t)length;
    size_t shown = length < n ? length : gm_utf8_whole(text, n - 1);
    for (size_t i = 0, step; i < shown; i += step) { /* a file's string may hold anything */
        step = gm_utf8_next(text + i, shown - i, NULL);
        if (step)
            memcpy(buffer + i, text + i, step);
        else
            buffer[i] = '?', step = 1;
    }
    buffer[shown] = 0;
    return (int64_t)length;
}

static size_t format_number(double value, char *text, size_t n)
{
    size_t length = gm_text_format(text, n, "%.9f", value);
    if (gm_text_contains(text, "."))
        while (text[length - 1] == '0') length--;
    if (text[length - 1] == '.') length--;
    return length;
}

int64_t gm_gguf_text(const gm_gguf *g, const char *name, char *buffer, size_t n)
{
    const gm_key *key = gm_header_find(&g->head, name);
    if (!key) return -1;
    const uint8_t *value = value_of(&g->head, key);
    char text[400]; /* an f64 has up to 309 digits before the point */
    size_t length;
    int64_t integer;
    switch (key->type) {
    case GM_GGUF_STRING: return copy_text((const char *)value, key->n_bytes, buffer, n);
    case GM_GGUF_ARRAY: length = gm_text_format(text, sizeof text, "[%llu]", (unsigned long long)key->n); break;
    case GM_GGUF_BOOL: length = gm_text_format(text, sizeof text, "%s", *value ? "true" : "false"); break;
    case GM_GGUF_F32: length = format_number((double)gm_load_f32(value), text, sizeof text); break;
    case GM_GGUF_F64: length = format_number(load_f64(value), text, sizeof text); break;
    case GM_GGUF_U64: length = gm_text_format(text, sizeof text, "%llu", (unsigned long long)gm_load_u64(value)); break;
    default:
        load_int(value, key->type, 0, &integer);
        length = gm_text_format(text, sizeof text, "%lld", (long long)integer);
    }
    return copy_text(text, length, buffer, n);
}
