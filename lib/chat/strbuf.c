#include "chat/strbuf.h"

void gm_strbuf_put(gm_strbuf *b, const char *text, size_t n)
{
    if (b->rc || !n) return;
    if (n > b->cap - b->n) {
        if (!b->mem) {
            b->rc = GEMMA_E_SMALL;
            return;
        }
        size_t cap = b->cap * 2 > b->n + n ? b->cap * 2 : b->n + n + 256;
        char *grown = gm_grow(b->mem, b->data, cap, GEMMA_TAG_OBJECT);
        if (!grown) {
            b->rc = GEMMA_E_NOMEM;
            return;
        }
        b->data = grown;
        b->cap = cap;
    }
    memcpy(b->data + b->n, text, n);
    b->n += n;
}

static void put_escaped(gm_strbuf *b, uint8_t c)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt", hex[] = "0123456789abcdef";
    const char *found = c ? strchr(plain, c) : NULL;
    char text[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
    if (found) text[1] = letters[found - plain];
    gm_strbuf_put(b, text, found ? 2 : sizeof text);
}

void gm_strbuf_json_string(gm_strbuf *b, const char *text, size_t n)
{
    gm_strbuf_char(b, '"');
    for (size_t i = 0; i < n; i++) {
        size_t start = i;
        while (i < n && (uint8_t)text[i] >= 0x20 && text[i] != '"' && text[i] != '\\' && text[i] != 0x7f) i++;
        gm_strbuf_put(b, text + start, i - start);
        if (i < n) put_escaped(b, (uint8_t)text[i]);
    }
    gm_strbuf_char(b, '"');
}

static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Length of the space at the text's end; 0: none. */
static size_t space_at_end(const char *text, size_t n)
{
    uint32_t code;
    for (size_t length = 1; length <= 3 && length <= n; length++)
        if (gm_utf8_next(text + n - length, length, &code) == length) return is_space(code) ? length : 0;
    return 0;
}

void gm_strbuf_trim(gm_strbuf *b, size_t from)
{
    size_t length, at = from;
    uint32_t code;
    if (b->rc) return;
    while (b->n > from && (length = space_at_end(b->data + from, b->n - from))) b->n -= length;
    while (at < b->n && (length = gm_utf8_next(b->data + at, b->n - at, &code)) && is_space(code)) at += length;
    if (at == from) return;
    memmove(b->data + from, b->data + at, b->n - at);
    b->n -= at - from;
}

void gm_strbuf_free(gm_strbuf *b)
{
    if (b->mem) gm_delete(b->mem, b->data);
    *b = (gm_strbuf){ .mem = b->mem };
}
