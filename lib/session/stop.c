#include "session/internal.h"

int gm_stops_add(stops *s, const char *text, size_t n_bytes, gemma_error *error)
{
    if (!text || n_bytes == 0 || n_bytes > STOP_BYTES_MAX)
        return gm_fail(error, GEMMA_E_ARG, "a stop string has 1 to %d bytes, not %zu", STOP_BYTES_MAX, n_bytes);
    /* Whole characters only: then a match in valid text begins and ends at a character. */
    size_t bad = gm_utf8_check(text, n_bytes);
    if (bad < n_bytes) return gm_fail(error, GEMMA_E_UTF8, "stop string: byte %zu is not valid UTF-8", bad);
    if (s->n == STOPS_MAX) return gm_fail(error, GEMMA_E_SMALL, "there are %d stop strings already", STOPS_MAX);
    memcpy(s->text[s->n], text, n_bytes);
    s->n_bytes[s->n++] = (uint32_t)n_bytes;
    return GEMMA_OK;
}

size_t gm_stops_find(const stops *s, const char *text, size_t n)
{
    for (size_t end = 1; s->n && end <= n; end++) {
        size_t longest = 0;
        for (uint32_t i = 0; i < s->n; i++) {
            size_t length = s->n_bytes[i];
            if (length > end || length <= longest) continue;
            if (memcmp(text + end - length, s->text[i], length) == 0) longest = length;
        }
        if (longest) return end - longest;
    }
    return n;
}

static bool begins_one(const stops *s, const char *text, size_t n)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->n_bytes[i] > n && memcmp(s->text[i], text, n) == 0) return true;
    }
    return false;
}

size_t gm_stops_held(const stops *s, const char *text, size_t n)
{
    size_t length = s->n ? gm_min_u64(n, STOP_BYTES_MAX - 1) : 0;
    while (length && !begins_one(s, text + n - length, length)) length--;
    return length;
}
