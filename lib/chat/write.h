/* What a rendering is written into, and the pieces every rule writes. */
#ifndef GM_CHAT_WRITE_H
#define GM_CHAT_WRITE_H

#include "chat/json.h"
#include "tokenizer/tokenizer.h"

/* The tokens that are control, not text. Their texts are in markers.c. */
typedef enum gm_marker {
    GM_BOS,
    GM_TURN, /* gemma3: <start_of_turn>, <end_of_turn> */
    GM_TURN_END,
    GM_THINK,
    GM_CHANNEL,
    GM_CHANNEL_END,
    GM_TOOL,
    GM_TOOL_END,
    GM_CALL,
    GM_CALL_END,
    GM_RESPONSE,
    GM_RESPONSE_END,
    GM_QUOTE,
    GM_IMAGE, /* gemma3: <start_of_image> */
    GM_AUDIO,
    GM_VIDEO,
    GM_IMAGE_BEGIN, /* the rest is never written, only hidden */
    GM_IMAGE_END,
    GM_AUDIO_BEGIN,
    GM_AUDIO_END,
    GM_EOS,
    GM_PAD,
    GM_UNKNOWN,
    GM_MASK,
    GM_MARKER_COUNT
} gm_marker;

/* The longest text of a marker, in bytes. */
enum { GM_MARKER_BYTES_MAX = 17 };

typedef struct gm_marker_set {
    const char *text[GM_MARKER_COUNT]; /* NULL: the family has none */
    int32_t id[GM_MARKER_COUNT];       /* -1: not in this vocabulary */
} gm_marker_set;
void gm_markers_find(gm_marker_set *set, const gm_tokenizer *t);

typedef struct gm_mark {
    size_t at; /* of its text */
    gm_marker marker;
} gm_mark;

/* A rendering: text, and where in it the markers stand. Everything else, whoever wrote it, is encoded as untrusted text:
 * only what gm_put_marker wrote can become a control token. */
typedef struct gm_writer {
    gm_mem *mem;
    const gm_marker_set *markers;
    gm_strbuf text;
    gm_mark *marks;
    size_t n_marks, marks_cap;
    size_t standing; /* bytes that stand when the conversation goes on; SIZE_MAX: all */
    bool in_thought;
    gemma_error *error;
    int rc; /* the first failure */
} gm_writer;

void gm_put_marker(gm_writer *w, gm_marker marker); /* UNSUPPORTED: the vocabulary has none */
static inline void gm_put_text(gm_writer *w, const char *text) { gm_strbuf_text(&w->text, text); }
void gm_put_string(gm_writer *w, gm_value string); /* as it is; nothing for other values */
void gm_put_trimmed(gm_writer *w, gm_value string);
/* From here on a later rendering may differ; the first call counts. */
static inline void gm_stands_to_here(gm_writer *w)
{
    if (w->standing == SIZE_MAX) w->standing = w->text.n;
}
int gm_writer_result(const gm_writer *w); /* the first failure of the writer or its text, or OK */
void gm_writer_clear(gm_writer *w);       /* keeps the memory */
void gm_writer_free(gm_writer *w);
/* Allocates *ids; n_standing as in gm_rendering. */
int gm_writer_encode(const gm_writer *w, const gm_tokenizer *t, int32_t **ids, size_t *n_ids, size_t *n_standing);

/* ---- number.c ---- */
void gm_put_number(gm_strbuf *out, const char *text, size_t n); /* text: JSON's grammar */

/* ---- sort.c ---- */
typedef struct gm_member {
    gm_value key, value;
} gm_member;
/* The members of an object, sorted; to be given to gm_delete, also on failure. */
int gm_members_sort(gm_mem *mem, gm_value object, gm_member **out, uint32_t *n);

/* ---- values.c: Gemma 4's notation of values and declarations ---- */
void gm_put_value(gm_writer *w, gm_value v, bool quoted_keys);
void gm_put_members(gm_writer *w, gm_value object, bool quoted_keys); /* k:VALUE,… sorted, without braces */
void gm_put_declaration(gm_writer *w, gm_value function);

#endif
