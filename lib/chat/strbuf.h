/* Text that grows, or (mem NULL) fills a block of the caller's. The first failure stays in `rc` (NOMEM, SMALL) and
 * nothing is written after it: a writer asks once, at its end. */
#ifndef GM_CHAT_STRBUF_H
#define GM_CHAT_STRBUF_H

#include "base/base.h"

typedef struct gm_strbuf {
    gm_mem *mem;
    char *data;
    size_t n, cap;
    int rc;
} gm_strbuf;

void gm_strbuf_put(gm_strbuf *b, const char *text, size_t n);
static inline void gm_strbuf_char(gm_strbuf *b, char c) { gm_strbuf_put(b, &c, 1); }
static inline void gm_strbuf_text(gm_strbuf *b, const char *text) { gm_strbuf_put(b, text, strlen(text)); }
void gm_strbuf_json_string(gm_strbuf *b, const char *text, size_t n); /* quoted and escaped */
/* Python's str.strip() on what was written from `from` on. */
void gm_strbuf_trim(gm_strbuf *b, size_t from);
void gm_strbuf_free(gm_strbuf *b); /* of a growing one; empty again */

#endif
