#include "tokenizer/vocab.h"

/* Most bits are set already: then nothing is written, which other threads would wait for. */
static void set_bit(gm_bits *bits, uint32_t bit)
{
    if (!gm_bit_is_set(bits, bit)) atomic_fetch_or_explicit(bits, (uint64_t)1 << (bit & 63), memory_order_relaxed);
}

static void add(gm_joins *j, uint32_t a, uint32_t b)
{
    uint32_t bit = (a | b) < 128 ? b : gm_join_bit(a, b);
    set_bit((a | b) < 128 ? &j->ascii[a][b >> 6] : &j->other[bit >> 6], bit);
}

void gm_joins_add_border(gm_joins *j, const char *text, size_t n, size_t n_left)
{
    uint32_t a = (uint8_t)text[n_left - 1], b = (uint8_t)text[n_left];
    if ((a | b) < 128) {
        add(j, a, b);
        return;
    }
    size_t start = n_left - 1;
    while (start && n_left - start < 4 && ((uint8_t)text[start] & 0xc0) == 0x80) start--;
    if (gm_utf8_next(text + start, n_left - start, &a) == n_left - start && gm_utf8_next(text + n_left, n - n_left, &b))
        add(j, a, b);
}

void gm_joins_add_text(gm_joins *j, const char *text, size_t n)
{
    uint32_t last = GM_NO_CHAR, code;
    for (size_t i = 0, length; i < n; i += length, last = code) {
        length = gm_utf8_next(text + i, n - i, &code);
        if (!length) {
            length = 1;
            code = GM_NO_CHAR;
        }
        if (last != GM_NO_CHAR && code != GM_NO_CHAR) add(j, last, code);
    }
}
