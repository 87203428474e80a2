/* Numbers in Python's notation. */
#include "chat/write.h"

#include <stdlib.h>

enum { DIGITS_MAX = 40, DIGITS_NEEDED = 17 }; /* kept; what any double needs to be read back */

/* 0.d1d2d3… × 10^point, d1 ≠ 0; no digits: zero. */
typedef struct decimal {
    char digits[DIGITS_MAX + 1]; /* NUL-terminated */
    int n;
    int64_t point;
    bool more; /* digits beyond these */
} decimal;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static void read_decimal(const char *text, size_t n, decimal *d)
{
    bool after_point = false;
    size_t i = 0;
    *d = (decimal){ 0 };
    for (; i < n && (is_digit(text[i]) || text[i] == '.'); i++) {
        if (text[i] == '.') {
            after_point = true;
            continue;
        }
        bool leading = d->n == 0 && text[i] == '0';
        if (!after_point && !leading) d->point++;
        if (after_point && leading) d->point--;
        if (leading) continue;
        if (d->n < DIGITS_MAX)
            d->digits[d->n++] = text[i];
        else if (text[i] != '0')
            d->more = true;
    }
    int64_t exponent = 0;
    bool negative = i + 1 < n && text[i + 1] == '-';
    for (; i < n; i++)
        if (is_digit(text[i]) && exponent < 1000000000) exponent = exponent * 10 + (text[i] - '0');
    d->point += negative ? -exponent : exponent;
    while (d->n && d->digits[d->n - 1] == '0' && !d->more) d->n--;
    d->digits[d->n] = '\0';
}

/* Written without a decimal point, strtod does not depend on the locale. */
static double value_of(const char *digits, int n, int64_t point)
{
    char text[64];
    if (!n) return 0;
    int64_t exponent = point - n;
    if (exponent > 400) exponent = 400;
    if (exponent < -800) exponent = -800;
    gm_text_format(text, sizeof text, "%.*se%d", n, digits, (int)exponent);
    return strtod(text, NULL);
}

/* The first n digits of d, rounded half to even, or always up. */
static decimal rounded(const decimal *d, int n, bool always_up)
{
    decimal r = *d;
    if (n >= d->n) return r;
    bool beyond = d->more;
    for (int i = n + 1; i < d->n; i++) beyond |= d->digits[i] != '0';
    bool odd = n > 0 && (d->digits[n - 1] - '0') % 2;
    bool up = always_up || d->digits[n] > '5' || (d->digits[n] == '5' && (beyond || odd));
    r.n = n;
    while (up && r.n && r.digits[r.n - 1] == '9') r.n--;
    if (up && r.n) r.digits[r.n - 1]++;
    if (up && !r.n) { /* 99… becomes 1 with one more place */
        r.digits[r.n++] = '1';
        r.point++;
    }
    while (r.n && r.digits[r.n - 1] == '0') r.n--;
    r.digits[r.n] = '\0';
    return r;
}

/* ---- all digits of a double ---- */

enum { LIMBS = 90, LIMB = 1000000000 }; /* 767 digits are the most a double has */

static void multiply(uint32_t *limbs, int *n, uint32_t factor)
{
    uint64_t carry = 0;
    for (int i = 0; i < *n; i++) {
        carry += (uint64_t)limbs[i] * factor;
        limbs[i] = (uint32_t)(carry % LIMB);
        carry /= LIMB;
    }
    if (carry) limbs[(*n)++] = (uint32_t)carry;
}

/* value = mantissa × 2^exponent exactly: mantissa × 5^-exponent with the point moved when the exponent is negative. */
static void expand(double value, decimal *d)
{
    uint64_t bits, mantissa;
    memcpy(&bits, &value, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff);
    mantissa = bits & 0xfffffffffffffu;
    if (exponent)
        mantissa |= (uint64_t)1 << 52;
    else
        exponent = 1;
    exponent -= 1075;
    uint32_t limbs[LIMBS] = { (uint32_t)(mantissa % LIMB), (uint32_t)(mantissa / LIMB) };
    int n = limbs[1] ? 2 : 1;
    for (int i = 0; i < exponent; i++) multiply(limbs, &n, 2);
    for (int i = 0; i > exponent; i--) multiply(limbs, &n, 5);
    *d = (decimal){ .point = exponent < 0 ? exponent : 0 };
    for (int i = n; i-- > 0;) {
        for (uint32_t unit = LIMB / 10; unit; unit /= 10) {
            char digit = (char)('0' + limbs[i] / unit % 10);
            bool leading = d->n == 0 && digit == '0';
            if (!leading) d->point++;
            if (leading) continue;
            if (d->n < DIGITS_MAX)
                d->digits[d->n++] = digit;
            else if (digit != '0')
                d->more = true;
        }
    }
}

/* The fewest digits that read back as the same double, and of those the closest: that may be above, as doubles are less
 * dense above a power of two. Up to fifteen come back as they were written, except near the ends of the range. */
static void shorten(decimal *d)
{
    if (d->n <= 15 && d->point > -290 && d->point < 290) return;
    double value = value_of(d->digits, d->n, d->point);
    decimal exact;
    expand(value, &exact);
    for (int i = 2; i < 2 * (DIGITS_NEEDED + 1); i++) {
        *d = rounded(&exact, i / 2, i % 2);
        if (value_of(d->digits, d->n, d->point) == value) return;
    }
}

static void put_zeros(gm_strbuf *out, int64_t n)
{
    for (; n > 0; n--) gm_strbuf_char(out, '0');
}

static void put_float(gm_strbuf *out, const decimal *d)
{
    if (d->point > -4 && d->point <= 16) {
        int whole = d->point > 0 ? (int)d->point : 0;
        if (whole > d->n) whole = d->n;
        gm_strbuf_put(out, d->digits, (size_t)whole);
        put_zeros(out, whole ? d->point - whole : 1);
        gm_strbuf_char(out, '.');
        put_zeros(out, -d->point);
        gm_strbuf_put(out, d->digits + whole, (size_t)(d->n - whole));
        if (whole == d->n) gm_strbuf_char(out, '0');
        return;
    }
    gm_strbuf_put(out, d->digits, 1);
    if (d->n > 1) gm_strbuf_char(out, '.');
    gm_strbuf_put(out, d->digits + 1, (size_t)(d->n - 1));
    int exponent = (int)d->point - 1, size = exponent < 0 ? -exponent : exponent;
    char text[16];
    gm_text_format(text, sizeof text, "e%c%s%d", exponent < 0 ? '-' : '+', size < 10 ? "0" : "", size);
    gm_strbuf_text(out, text);
}

void gm_put_number(gm_strbuf *out, const char *text, size_t n)
{
    bool is_float = memchr(text, '.', n) || memchr(text, 'e', n) || memchr(text, 'E', n);
    bool negative = text[0] == '-';
    if (!is_float) {
        bool zero = negative && n == 2 && text[1] == '0';
        gm_strbuf_put(out, text + zero, n - zero);
        return;
    }
    decimal d;
    read_decimal(text + negative, n - negative, &d);
    double value = value_of(d.digits, d.n, d.point);
    if (negative) gm_strbuf_char(out, '-');
    if (value == 0) {
        gm_strbuf_text(out, "0.0");
    } else if (value - value != 0) {
        gm_strbuf_text(out, "inf");
    } else {
        shorten(&d);
        put_float(out, &d);
    }
}
