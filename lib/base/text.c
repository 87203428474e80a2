#include "base/base.h"

#include <stdarg.h>

typedef struct writer {
    char *buffer;
    size_t room; /* bytes the buffer takes, without the NUL */
    size_t length;
    bool cut; /* something did not fit: nothing more is written */
    va_list args;
} writer;

static void put(writer *w, const char *text, size_t n)
{
    if (w->cut) return;
    if (n > w->room - w->length) {
        n = w->room - w->length;
        w->cut = true;
    }
    memcpy(w->buffer + w->length, text, n);
    w->length += n;
}

/* At least min_digits digits, zeros in front. */
static void put_number(writer *w, uint64_t value, uint32_t base, uint32_t min_digits)
{
    char digits[24];
    size_t at = sizeof digits;
    for (; value || min_digits; value /= base) {
        digits[--at] = "0123456789abcdef"[value % base];
        min_digits -= min_digits > 0;
    }
    put(w, digits + at, sizeof digits - at);
}

static void put_signed(writer *w, int64_t value)
{
    if (value < 0) put(w, "-", 1);
    put_number(w, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10, 1);
}

/* Correctly rounded (ties to even) in integers; from 2^63 on twelve digits, cut off, and an exponent. */
static void put_float(writer *w, double value, uint32_t n_decimals)
{
    static const uint32_t powers[] = { 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000 };
    if (value != value) {
        put(w, "nan", 3);
        return;
    }
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (bits >> 63) put(w, "-", 1);
    double size = bits >> 63 ? -value : value;
    if (size - size != 0) {
        put(w, "inf", 3);
        return;
    }
    uint32_t exponent = 0;
    if (size >= 0x1p63)
        for (; size >= 1e12; exponent++) size /= 10;
    uint64_t whole = (uint64_t)size;
    if (exponent) {
        put_number(w, whole, 10, 1);
        put(w, "e", 1);
        put_number(w, exponent, 10, 1);
        return;
    }
    /* The fraction in units of 2^-64, times 10^n: `high` is its whole part, `low` what is left of it. */
    double scaled = (size - (double)whole) * 0x1p64;
    uint64_t fraction = (uint64_t)scaled, power = powers[gm_min_u32(n_decimals, GM_COUNT(powers) - 1)];
    bool more = (double)fraction != scaled; /* bits below 2^-64 */
    uint64_t low_part = (fraction & UINT32_MAX) * power, high_part = (fraction >> 32) * power + (low_part >> 32);
    uint64_t high = high_part >> 32, low = high_part << 32 | (low_part & UINT32_MAX), tie = (uint64_t)1 << 63;
    bool odd = n_decimals ? high & 1 : whole & 1;
    if (low > tie || (low == tie && (more || odd))) high++;
    if (high == power) {
        whole++;
        high = 0;
    }
    put_number(w, whole, 10, 1);
    if (n_decimals == 0) return;
    put(w, ".", 1);
    put_number(w, high, 10, gm_min_u32(n_decimals, GM_COUNT(powers) - 1));
}

/* `limit` < 0: up to the NUL; otherwise at most so many bytes, cut at a whole character. */
static void put_string(writer *w, const char *text, int limit)
{
    if (!text) text = "(null)";
    if (limit < 0) {
        put(w, text, strlen(text));
        return;
    }
    const char *end = memchr(text, 0, (size_t)limit);
    put(w, text, end ? (size_t)(end - text) : gm_utf8_whole(text, (size_t)limit));
}

/* What stands between % and the letter. */
typedef struct conversion {
    int precision; /* -1: none */
    uint32_t n_long;
    bool is_size;
    char letter;
} conversion;

static const char *read_conversion(writer *w, const char *at, conversion *c)
{
    *c = (conversion){ .precision = -1 };
    if (*at == '.') {
        c->precision = 0;
        if (*++at == '*') {
            c->precision = va_arg(w->args, int);
            at++;
        }
        for (; *at >= '0' && *at <= '9' && c->precision < 100000000; at++) c->precision = c->precision * 10 + *at - '0';
    }
    for (; *at == 'l'; at++) c->n_long++;
    for (; *at == 'z'; at++) c->is_size = true;
    c->letter = *at;
    return at;
}

static bool put_conversion(writer *w, const conversion *c)
{
    char letter;
    switch (c->letter) {
    case '%': put(w, "%", 1); return true;
    case 'c':
        letter = (char)va_arg(w->args, int);
        put(w, &letter, 1);
        return true;
    case 's': put_string(w, va_arg(w->args, const char *), c->precision); return true;
    case 'f': put_float(w, va_arg(w->args, double), c->precision < 0 ? 6 : (uint32_t)c->precision); return true;
    case 'd':
    case 'i':
        if (c->is_size)
            put_signed(w, va_arg(w->args, ptrdiff_t));
        else if (c->n_long > 1)
            put_signed(w, va_arg(w->args, long long));
        else if (c->n_long)
            put_signed(w, va_arg(w->args, long));
        else
            put_signed(w, va_arg(w->args, int));
        return true;
    case 'u':
    case 'x': {
        uint32_t base = c->letter == 'x' ? 16 : 10;
        if (c->is_size)
            put_number(w, va_arg(w->args, size_t), base, 1);
        else if (c->n_long > 1)
            put_number(w, va_arg(w->args, unsigned long long), base, 1);
        else if (c->n_long)
            put_number(w, va_arg(w->args, unsigned long), base, 1);
        else
            put_number(w, va_arg(w->args, unsigned), base, 1);
        return true;
    }
    default: return false;
    }
}

size_t gm_text_format_v(char *buffer, size_t n, const char *format, va_list args)
{
    if (n == 0) return 0;
    writer w = { .buffer = buffer, .room = n - 1 };
    va_copy(w.args, args);
    while (*format) {
        const char *percent = strchr(format, '%');
        put(&w, format, percent ? (size_t)(percent - format) : strlen(format));
        if (!percent) break;
        conversion c;
        const char *letter = read_conversion(&w, percent + 1, &c);
        if (!put_conversion(&w, &c)) { /* unknown: the arguments can no longer be told apart, show the format itself */
            put(&w, percent, strlen(percent));
            break;
        }
        format = letter + 1;
    }
    va_end(w.args);
    if (w.cut) w.length = gm_utf8_whole(buffer, w.length);
    buffer[w.length] = 0;
    return w.length;
}

size_t gm_text_format(char *buffer, size_t n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t length = gm_text_format_v(buffer, n, format, args);
    va_end(args);
    return length;
}

const char *gm_text_bytes(char *buffer, uint64_t n_bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)n_bytes;
    uint32_t unit = 0;
    for (; unit + 1 < GM_COUNT(units) && value >= (unit ? 1023.5 : 1024); unit++) value /= 1024;
    /* Three digits, and no more where the rounding would carry. */
    int n_decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    gm_text_format(buffer, 24, "%.*f %s", n_decimals, value, units[unit]);
    return buffer;
}

/* Of a character that begins with `lead`; 0: none does. */
static size_t utf8_length(uint8_t lead)
{
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return 0;
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Rules out longer forms than needed, surrogates and numbers above U+10FFFF. */
static bool utf8_second_fits(uint8_t lead, uint8_t second)
{
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    return second >= low && second <= high;
}

size_t gm_utf8_next(const char *text, size_t n, uint32_t *code)
{
    const uint8_t *t = (const uint8_t *)text;
    size_t length = utf8_length(t[0]);
    if (length == 0 || length > n) return 0;
    uint32_t value = length == 1 ? t[0] : t[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (i == 1 ? !utf8_second_fits(t[0], t[1]) : (t[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (t[i] & 0x3f);
    }
    if (code) *code = value;
    return length;
}

size_t gm_utf8_check(const char *text, size_t n)
{
    size_t at = 0;
    while (at < n) {
        size_t length = gm_utf8_next(text + at, n - at, NULL);
        if (length == 0) return at;
        at += length;
    }
    return n;
}

size_t gm_utf8_whole(const char *text, size_t n)
{
    const uint8_t *t = (const uint8_t *)text;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        uint8_t lead = t[n - back];
        if ((lead & 0xc0) == 0x80) continue;
        bool inside = utf8_length(lead) > back && (back == 1 || utf8_second_fits(lead, t[n - back + 1]));
        return inside ? n - back : n;
    }
    return n;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

bool gm_text_contains(const char *text, const char *part)
{
    for (;; text++) {
        size_t i = 0;
        while (part[i] && lower(text[i]) == lower(part[i])) i++;
        if (!part[i]) return true;
        if (!*text) return false;
    }
}
