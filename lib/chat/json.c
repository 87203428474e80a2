#include "chat/json.h"

#define JSMN_STRICT
#define JSMN_STATIC
#define JSMN_PARENT_LINKS
#include <jsmn.h>

/* Goes through the text and jsmn's pieces together, checks every byte and writes the nodes. */
typedef struct reader {
    char *text;
    size_t n, at;
    const jsmntok_t *pieces;
    uint32_t n_pieces, i; /* the next piece; also the number of nodes written */
    gm_json_node *nodes;
    const char *what;
    gemma_error *error;
} reader;

static int bad(reader *r, const char *why)
{
    return gm_fail(r->error, GEMMA_E_FORMAT, "%s: not JSON: %s at byte %zu", r->what, why, r->at);
}

static void skip_space(reader *r)
{
    while (r->at < r->n && strchr(" \t\r\n", r->text[r->at]) && r->text[r->at]) r->at++;
}

static bool take(reader *r, char c)
{
    skip_space(r);
    if (r->at >= r->n || r->text[r->at] != c) return false;
    r->at++;
    return true;
}

/* ---- strings ---- */

static bool read_hex(const char *text, size_t n, uint32_t *code)
{
    *code = 0;
    if (n < 4) return false;
    for (int i = 0; i < 4; i++) {
        char c = text[i];
        uint32_t digit = (uint32_t)(c - '0');
        if (c >= 'a' && c <= 'f') digit = (uint32_t)(c - 'a' + 10);
        if (c >= 'A' && c <= 'F') digit = (uint32_t)(c - 'A' + 10);
        if (digit > 15) return false;
        *code = *code << 4 | digit;
    }
    return true;
}

static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

/* What follows a backslash; the length read, 0 if it is no escape. */
static size_t read_escape(const char *text, size_t n, char *to, size_t *n_to)
{
    static const char letters[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";
    uint32_t code, low;
    *n_to = 1;
    if (!n || !text[0]) return 0;
    const char *found = strchr(letters, text[0]);
    if (found) {
        *to = plain[found - letters];
        return 1;
    }
    if (text[0] != 'u' || !read_hex(text + 1, n - 1, &code)) return 0;
    size_t length = 5;
    if (code >= 0xd800 && code < 0xdc00) { /* the first half of a pair */
        if (n < 11 || text[5] != '\\' || text[6] != 'u' || !read_hex(text + 7, n - 7, &low)) return 0;
        if (low < 0xdc00 || low > 0xdfff) return 0;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        length = 11;
    } else if (code >= 0xdc00 && code < 0xe000) {
        return 0;
    }
    *n_to = put_utf8(to, code);
    return length;
}

/* Checks a string and unescapes it in place (it never grows). */
static int read_string(reader *r, const jsmntok_t *piece, gm_json_node *node)
{
    size_t to = (size_t)piece->start, end = (size_t)piece->end, n;
    node->at = (uint32_t)to;
    for (r->at = to; r->at < end;) {
        if ((uint8_t)r->text[r->at] < 0x20) return bad(r, "a control character in a string");
        if (r->text[r->at] == '\\') {
            size_t length = read_escape(r->text + r->at + 1, end - r->at - 1, r->text + to, &n);
            if (!length) return bad(r, "an escape that is none");
            r->at += 1 + length;
        } else {
            n = gm_utf8_next(r->text + r->at, end - r->at, NULL);
            if (!n) return bad(r, "a byte that is not UTF-8");
            memmove(r->text + to, r->text + r->at, n);
            r->at += n;
        }
        to += n;
    }
    r->at = end + 1;
    node->n = (uint32_t)(to - node->at);
    return GEMMA_OK;
}

/* ---- numbers and words ---- */

static size_t count_digits(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && text[i] >= '0' && text[i] <= '9') i++;
    return i;
}

bool gm_json_is_number(const char *text, size_t n)
{
    size_t at = n && text[0] == '-', digits = count_digits(text + at, n - at);
    if (!digits || (digits > 1 && text[at] == '0')) return false;
    at += digits;
    if (at < n && text[at] == '.') {
        digits = count_digits(text + at + 1, n - at - 1);
        if (!digits) return false;
        at += 1 + digits;
    }
    if (at < n && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < n && (text[at] == '+' || text[at] == '-')) at++;
        digits = count_digits(text + at, n - at);
        if (!digits) return false;
        at += digits;
    }
    return at == n;
}

static int read_word(reader *r, const jsmntok_t *piece, gm_json_node *node)
{
    static const char *const words[] = { "null", "false", "true" };
    const char *text = r->text + piece->start;
    size_t n = (size_t)(piece->end - piece->start);
    node->at = (uint32_t)piece->start;
    node->n = (uint32_t)n;
    node->kind = GM_JSON_NONE;
    for (uint32_t i = 0; i < GM_COUNT(words); i++)
        if (n == strlen(words[i]) && !memcmp(text, words[i], n)) node->kind = GM_JSON_NULL + i;
    if (node->kind == GM_JSON_NONE && gm_json_is_number(text, n)) node->kind = GM_JSON_NUMBER;
    if (node->kind == GM_JSON_NONE) return bad(r, "a word that is no value");
    r->at = (size_t)piece->end;
    return GEMMA_OK;
}

/* ---- values ---- */

static int read_value(reader *r, uint32_t depth);

static int read_items(reader *r, gm_json_node *node, uint32_t depth)
{
    bool object = node->kind == GM_JSON_OBJECT;
    char close = object ? '}' : ']';
    int rc = GEMMA_OK;
    r->at++;
    while (!rc && !take(r, close)) {
        if (node->n_items && !take(r, ',')) return bad(r, "a comma or a closing bracket is missing");
        if (object) {
            if (r->i >= r->n_pieces || r->pieces[r->i].type != JSMN_STRING) return bad(r, "a key that is no string");
            rc = read_value(r, depth);
            if (rc) return rc;
            if (!take(r, ':')) return bad(r, "a colon is missing");
        }
        node->n_items++;
        rc = read_value(r, depth);
    }
    return rc;
}

static int read_value(reader *r, uint32_t depth)
{
    skip_space(r);
    if (r->i >= r->n_pieces) return bad(r, "a value is missing");
    const jsmntok_t *piece = r->pieces + r->i;
    gm_json_node *node = r->nodes + r->i++;
    size_t start = (size_t)piece->start - (piece->type == JSMN_STRING);
    if (r->at != start) return bad(r, "something else than a value");
    int rc = GEMMA_OK;
    if (piece->type == JSMN_STRING) {
        node->kind = GM_JSON_STRING;
        rc = read_string(r, piece, node);
    } else if (piece->type == JSMN_PRIMITIVE) {
        rc = read_word(r, piece, node);
    } else {
        if (depth == GM_JSON_DEPTH_MAX)
            return gm_fail(r->error, GEMMA_E_FORMAT, "%s: JSON nested deeper than %d", r->what, GM_JSON_DEPTH_MAX);
        node->kind = piece->type == JSMN_OBJECT ? GM_JSON_OBJECT : GM_JSON_LIST;
        rc = read_items(r, node, depth + 1);
        node->at = (uint32_t)start;
        node->n = (uint32_t)(r->at - start);
    }
    node->end = r->i;
    return rc;
}

static int read_document(gm_mem *mem, gm_json *json, size_t n_bytes, const char *what, gemma_error *error)
{
    reader r = { .text = json->text, .n = n_bytes, .what = what, .error = error };
    jsmn_parser parser;
    jsmn_init(&parser);
    int n_pieces = jsmn_parse(&parser, json->text, n_bytes, NULL, 0);
    if (n_pieces <= 0) {
        r.at = n_pieces ? parser.pos : 0;
        return bad(&r, n_pieces == JSMN_ERROR_PART ? "it ends too soon" : n_pieces ? "a wrong character" : "no value");
    }
    jsmntok_t *pieces = gm_new_array(mem, (uint64_t)n_pieces, sizeof *pieces, GEMMA_TAG_OBJECT);
    json->nodes = gm_new_array(mem, (uint64_t)n_pieces, sizeof *json->nodes, GEMMA_TAG_OBJECT);
    if (!pieces || !json->nodes) {
        gm_delete(mem, pieces);
        return gm_fail_nomem(error, what, (uint64_t)n_pieces * (sizeof *pieces + sizeof *json->nodes));
    }
    jsmn_init(&parser);
    int again = jsmn_parse(&parser, json->text, n_bytes, pieces, (unsigned)n_pieces);
    r.at = parser.pos;
    int rc =
        again == n_pieces ? GEMMA_OK : bad(&r, again == JSMN_ERROR_PART ? "it ends too soon" : "a wrong character");
    r.at = 0;
    r.pieces = pieces;
    r.n_pieces = (uint32_t)n_pieces;
    r.nodes = json->nodes;
    json->n_nodes = (uint32_t)n_pieces;
    if (!rc) rc = read_value(&r, 0);
    skip_space(&r);
    if (!rc && r.at != n_bytes) rc = bad(&r, "something behind the value");
    gm_delete(mem, pieces);
    return rc;
}

int gm_json_parse(gm_mem *mem, const char *text, size_t n_bytes, const char *what, gm_json **out, gemma_error *error)
{
    *out = NULL;
    if (n_bytes > GM_JSON_BYTES_MAX)
        return gm_fail(error, GEMMA_E_ARG, "%s: %zu bytes of JSON; the limit is %d", what, n_bytes, GM_JSON_BYTES_MAX);
    gm_json *json = gm_new(mem, sizeof *json, GEMMA_TAG_OBJECT);
    if (json) json->text = gm_copy_string(mem, text, n_bytes, GEMMA_TAG_OBJECT);
    int rc = json && json->text ? read_document(mem, json, n_bytes, what, error) : gm_fail_nomem(error, what, n_bytes);
    if (rc) {
        gm_json_destroy(mem, json);
        json = NULL;
    }
    *out = json;
    return rc;
}

void gm_json_destroy(gm_mem *mem, gm_json *json)
{
    if (!json) return;
    gm_delete(mem, json->text);
    gm_delete(mem, json->nodes);
    gm_delete(mem, json);
}

/* ---- asking ---- */

const char *gm_value_text(gm_value v, size_t *n)
{
    gm_json_kind kind = gm_value_kind(v);
    *n = 0;
    if (kind != GM_JSON_STRING && kind != GM_JSON_NUMBER) return "";
    *n = gm_value_node(v)->n;
    return v.json->text + gm_value_node(v)->at;
}

bool gm_value_equals(gm_value v, const char *text)
{
    size_t n;
    const char *own = gm_value_text(v, &n);
    return gm_value_is(v, GM_JSON_STRING) && n == strlen(text) && !memcmp(own, text, n);
}

bool gm_value_true(gm_value v)
{
    const gm_json_node *node = v.json ? gm_value_node(v) : NULL;
    const char *text = node ? v.json->text + node->at : NULL;
    switch (gm_value_kind(v)) {
    case GM_JSON_TRUE: return true;
    case GM_JSON_STRING: return node->n > 0;
    case GM_JSON_LIST:
    case GM_JSON_OBJECT: return node->n_items > 0;
    case GM_JSON_NUMBER:
        for (uint32_t i = 0; i < node->n && text[i] != 'e' && text[i] != 'E'; i++)
            if (text[i] >= '1' && text[i] <= '9') return true;
        return false;
    default: return false;
    }
}

uint32_t gm_value_count(gm_value v) { return v.json ? gm_value_node(v)->n_items : 0; }

gm_value gm_value_find(gm_value v, const char *key)
{
    gm_value found = { 0 };
    if (!gm_value_is(v, GM_JSON_OBJECT)) return found;
    for (gm_value k = gm_value_first(v); gm_value_in(k, v); k = gm_value_after(gm_value_after(k)))
        if (gm_value_equals(k, key)) found = gm_value_after(k);
    return found;
}

void gm_value_write(gm_value v, gm_strbuf *out)
{
    static const char *const words[] = { "null", "null", "false", "true" };
    gm_json_kind kind = gm_value_kind(v);
    size_t n;
    const char *text = gm_value_text(v, &n);
    if (kind <= GM_JSON_TRUE) {
        gm_strbuf_text(out, words[kind]);
    } else if (kind == GM_JSON_STRING) {
        gm_strbuf_json_string(out, text, n);
    } else if (kind == GM_JSON_NUMBER) {
        gm_strbuf_put(out, text, n);
    } else {
        bool object = kind == GM_JSON_OBJECT, key = true, first = true;
        gm_strbuf_char(out, object ? '{' : '[');
        for (gm_value i = gm_value_first(v); gm_value_in(i, v); i = gm_value_after(i), key = !key, first = false) {
            if (!first) gm_strbuf_char(out, object && !key ? ':' : ',');
            gm_value_write(i, out);
        }
        gm_strbuf_char(out, object ? '}' : ']');
    }
}
