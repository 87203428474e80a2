#include "chat/call.h"

#include "chat/json.h"

typedef struct call_reader {
    const char *text;
    size_t n, at;
    gm_strbuf *json;
} call_reader;

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static void skip_space(call_reader *r)
{
    while (r->at < r->n && is_space(r->text[r->at])) r->at++;
}

static bool take(call_reader *r, char c)
{
    skip_space(r);
    if (r->at >= r->n || r->text[r->at] != c) return false;
    r->at++;
    return true;
}

/* Text up to one of `ends`, without white space around it. */
static const char *take_bare(call_reader *r, const char *ends, size_t *n)
{
    skip_space(r);
    size_t from = r->at, to;
    while (r->at < r->n && (!r->text[r->at] || !strchr(ends, r->text[r->at]))) r->at++;
    for (to = r->at; to > from && is_space(r->text[to - 1]); to--) continue;
    *n = to - from;
    return r->text + from;
}

/* The opening quote is taken. */
static bool read_quoted(call_reader *r)
{
    const char *from = r->text + r->at, *end = memchr(from, GM_CALL_QUOTE, r->n - r->at);
    if (!end) return false;
    gm_strbuf_json_string(r->json, from, (size_t)(end - from));
    r->at += (size_t)(end - from) + 1;
    return true;
}

/* A string in JSON's own quotes, which models fall back to; its escapes are JSON's already. The opening one is taken. */
static bool read_json_string(call_reader *r)
{
    size_t from = r->at;
    while (r->at < r->n && r->text[r->at] != '"') {
        if ((uint8_t)r->text[r->at] < 0x20 || r->text[r->at] == GM_CALL_QUOTE) return false;
        bool escape = r->text[r->at++] == '\\';
        if (!escape) continue;
        if (r->at >= r->n || !r->text[r->at] || !strchr("\"\\/bfnrtu", r->text[r->at])) return false;
        if (r->text[r->at] == 'u') {
            for (int i = 1; i <= 4; i++) {
                char c = r->at + (size_t)i < r->n ? r->text[r->at + (size_t)i] : 0;
                if (!c || !strchr("0123456789abcdefABCDEF", c)) return false;
            }
        }
        r->at++;
    }
    if (r->at >= r->n) return false;
    gm_strbuf_char(r->json, '"');
    gm_strbuf_put(r->json, r->text + from, r->at++ - from);
    gm_strbuf_char(r->json, '"');
    return true;
}

static bool read_bare(call_reader *r)
{
    static const char *const words[][2] = { { "true", "true" }, { "false", "false" }, { "null", "null" },
                                            { "True", "true" }, { "False", "false" }, { "None", "null" } };
    size_t n;
    const char *text = take_bare(r, ",}]\xff", &n);
    if (!n || (r->at < r->n && r->text[r->at] == GM_CALL_QUOTE)) return false;
    for (uint32_t i = 0; i < GM_COUNT(words); i++) {
        if (n != strlen(words[i][0]) || memcmp(text, words[i][0], n)) continue;
        gm_strbuf_text(r->json, words[i][1]);
        return true;
    }
    if (gm_json_is_number(text, n))
        gm_strbuf_put(r->json, text, n);
    else
        gm_strbuf_json_string(r->json, text, n);
    return true;
}

static bool read_key(call_reader *r)
{
    size_t n;
    bool read = true;
    if (take(r, GM_CALL_QUOTE)) {
        read = read_quoted(r);
    } else if (take(r, '"')) {
        read = read_json_string(r);
    } else {
        const char *key = take_bare(r, ":,{}[]\xff", &n);
        gm_strbuf_json_string(r->json, key, n);
        read = n > 0;
    }
    if (!read || !take(r, ':')) return false;
    gm_strbuf_char(r->json, ':');
    return true;
}

static bool read_value(call_reader *r, uint32_t depth);

/* The opening bracket is taken. */
static bool read_items(call_reader *r, bool object, uint32_t depth)
{
    char close = object ? '}' : ']';
    if (depth == GM_CALL_DEPTH_MAX) return false;
    gm_strbuf_char(r->json, object ? '{' : '[');
    for (bool first = true; !take(r, close); first = false) {
        if (!first && !take(r, ',')) return false;
        if (!first && take(r, close)) break; /* a comma too many */
        if (!first) gm_strbuf_char(r->json, ',');
        if ((object && !read_key(r)) || !read_value(r, depth + 1)) return false;
    }
    gm_strbuf_char(r->json, close);
    return true;
}

static bool read_value(call_reader *r, uint32_t depth)
{
    if (take(r, GM_CALL_QUOTE)) return read_quoted(r);
    if (take(r, '"')) return read_json_string(r);
    if (take(r, '{')) return read_items(r, true, depth);
    if (take(r, '[')) return read_items(r, false, depth);
    return read_bare(r);
}

int gm_call_parse(const char *text, size_t n, char name[GM_CALL_NAME_MAX], gm_strbuf *json)
{
    call_reader r = { .text = text, .n = n, .json = json };
    static const char head[] = "call:";
    name[0] = '\0';
    skip_space(&r);
    if (n - r.at >= sizeof head - 1 && !memcmp(text + r.at, head, sizeof head - 1)) r.at += sizeof head - 1;
    size_t n_name;
    const char *from = take_bare(&r, "{}[],\xff", &n_name);
    if (n_name == 0 || n_name >= GM_CALL_NAME_MAX || memchr(from, 0, n_name)) return GEMMA_E_FORMAT;
    if (r.at == n)
        gm_strbuf_text(json, "{}"); /* no arguments at all */
    else if (!take(&r, '{') || !read_items(&r, true, 0))
        return json->rc ? json->rc : GEMMA_E_FORMAT;
    if (json->rc) return json->rc;
    skip_space(&r);
    while (take(&r, '}')) continue; /* a bracket too many */
    if (r.at != n) return GEMMA_E_FORMAT;
    memcpy(name, from, n_name);
    name[n_name] = '\0';
    return GEMMA_OK;
}
