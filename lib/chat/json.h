/* JSON values as read: a checked document whose strings are already unescaped. jsmn finds the pieces, json.c checks that
 * they are JSON (RFC 8259; jsmn's strict mode takes more). */
#ifndef GM_CHAT_JSON_H
#define GM_CHAT_JSON_H

#include "chat/strbuf.h"

enum { GM_JSON_BYTES_MAX = 64 << 20, GM_JSON_DEPTH_MAX = 64 };

typedef enum gm_json_kind {
    GM_JSON_NONE, /* no such value */
    GM_JSON_NULL,
    GM_JSON_FALSE,
    GM_JSON_TRUE,
    GM_JSON_NUMBER, /* text: as written */
    GM_JSON_STRING, /* text: UTF-8, may hold NULs */
    GM_JSON_LIST,
    GM_JSON_OBJECT /* its members are key, value, key, value … */
} gm_json_kind;

typedef struct gm_json_node {
    uint32_t kind;
    uint32_t at, n;   /* bytes in the document's text; lists and objects: as written, brackets included */
    uint32_t n_items; /* of a list; members of an object */
    uint32_t end;     /* index of the first node behind this one's children */
} gm_json_node;

typedef struct gm_json {
    char *text;
    gm_json_node *nodes;
    uint32_t n_nodes;
} gm_json;

/* A value of a document; cheap to copy, valid as long as the document. */
typedef struct gm_value {
    const gm_json *json;
    uint32_t at;
} gm_value;

/* FORMAT with a sentence that names `what` and the byte; ARG beyond GM_JSON_BYTES_MAX. */
int gm_json_parse(gm_mem *mem, const char *text, size_t n_bytes, const char *what, gm_json **out, gemma_error *error);
void gm_json_destroy(gm_mem *mem, gm_json *json);

static inline gm_value gm_json_root(const gm_json *json) { return (gm_value){ json, 0 }; }
static inline const gm_json_node *gm_value_node(gm_value v) { return v.json->nodes + v.at; }
static inline gm_json_kind gm_value_kind(gm_value v)
{
    return v.json ? (gm_json_kind)gm_value_node(v)->kind : GM_JSON_NONE;
}
static inline bool gm_value_is(gm_value v, gm_json_kind kind) { return gm_value_kind(v) == kind; }
static inline bool gm_value_absent(gm_value v) { return gm_value_kind(v) <= GM_JSON_NULL; } /* or null */
/* Of strings and numbers, else "" and 0. Not NUL-terminated. */
const char *gm_value_text(gm_value v, size_t *n);
bool gm_value_equals(gm_value v, const char *text); /* a string */
/* Python's truth: not absent, false, zero, "", [] or {}. */
bool gm_value_true(gm_value v);
uint32_t gm_value_count(gm_value v); /* items or members; 0 for others */

/* for (gm_value i = gm_value_first(list); gm_value_in(i, list); i = gm_value_after(i)): items, or keys and values. */
static inline gm_value gm_value_first(gm_value v) { return (gm_value){ v.json, v.at + 1 }; }
static inline gm_value gm_value_after(gm_value v) { return (gm_value){ v.json, gm_value_node(v)->end }; }
static inline bool gm_value_in(gm_value v, gm_value parent) { return v.at < gm_value_node(parent)->end; }
/* A member; of equal keys the last. NONE if v is no object or has no such key. */
gm_value gm_value_find(gm_value v, const char *key);
bool gm_json_is_number(const char *text, size_t n); /* by JSON's grammar */
/* The value as JSON, numbers as they were written. */
void gm_value_write(gm_value v, gm_strbuf *out);

#endif
