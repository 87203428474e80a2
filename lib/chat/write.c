#include "chat/write.h"

static const char *const texts[GM_MARKER_COUNT] = {
    [GM_BOS] = "<bos>",
    [GM_TURN] = "<|turn>",
    [GM_TURN_END] = "<turn|>",
    [GM_THINK] = "<|think|>",
    [GM_CHANNEL] = "<|channel>",
    [GM_CHANNEL_END] = "<channel|>",
    [GM_TOOL] = "<|tool>",
    [GM_TOOL_END] = "<tool|>",
    [GM_CALL] = "<|tool_call>",
    [GM_CALL_END] = "<tool_call|>",
    [GM_RESPONSE] = "<|tool_response>",
    [GM_RESPONSE_END] = "<tool_response|>",
    [GM_QUOTE] = "<|\"|>",
    [GM_IMAGE] = "<|image|>",
    [GM_AUDIO] = "<|audio|>",
    [GM_VIDEO] = "<|video|>",
    [GM_IMAGE_BEGIN] = "<|image>",
    [GM_IMAGE_END] = "<image|>",
    [GM_AUDIO_BEGIN] = "<|audio>",
    [GM_AUDIO_END] = "<audio|>",
    [GM_EOS] = "<eos>",
    [GM_PAD] = "<pad>",
    [GM_UNKNOWN] = "<unk>",
    [GM_MASK] = "<mask>",
};

static const char *const texts_gemma3[GM_MARKER_COUNT] = {
    [GM_BOS] = "<bos>",
    [GM_TURN] = "<start_of_turn>",
    [GM_TURN_END] = "<end_of_turn>",
    [GM_IMAGE] = "<start_of_image>",
    [GM_IMAGE_END] = "<end_of_image>",
    [GM_EOS] = "<eos>",
    [GM_PAD] = "<pad>",
    [GM_UNKNOWN] = "<unk>",
    [GM_MASK] = "<mask>",
};

static int32_t find(const gm_tokenizer *t, const char *text)
{
    int32_t id = text ? gm_tokenizer_find(t, text, strlen(text)) : -1;
    return id >= 0 && gm_tokenizer_token_type(t, id) != GM_TOKEN_UNUSED ? id : -1;
}

void gm_markers_find(gm_marker_set *set, const gm_tokenizer *t)
{
    bool gemma3 = find(t, texts_gemma3[GM_TURN]) >= 0;
    for (uint32_t i = 0; i < GM_MARKER_COUNT; i++) {
        set->text[i] = gemma3 ? texts_gemma3[i] : texts[i];
        set->id[i] = find(t, set->text[i]);
    }
}

void gm_put_marker(gm_writer *w, gm_marker marker)
{
    if (w->rc || w->text.rc) return;
    if (w->markers->id[marker] < 0) {
        const char *name = w->markers->text[marker] ? w->markers->text[marker] : texts[marker];
        w->rc = gm_fail(w->error, GEMMA_E_UNSUPPORTED, "the vocabulary has no token %s, which this conversation needs",
                        name);
        return;
    }
    if (w->n_marks == w->marks_cap) {
        size_t cap = w->marks_cap * 2 + 64;
        gm_mark *grown = gm_grow(w->mem, w->marks, cap * sizeof *grown, GEMMA_TAG_OBJECT);
        if (!grown) {
            w->rc = gm_fail_nomem(w->error, "a conversation's markers", cap * sizeof *grown);
            return;
        }
        w->marks = grown;
        w->marks_cap = cap;
    }
    w->marks[w->n_marks++] = (gm_mark){ w->text.n, marker };
    gm_strbuf_text(&w->text, w->markers->text[marker]);
}

void gm_put_string(gm_writer *w, gm_value string)
{
    size_t n;
    const char *text = gm_value_text(string, &n);
    if (gm_value_is(string, GM_JSON_STRING)) gm_strbuf_put(&w->text, text, n);
}

void gm_put_trimmed(gm_writer *w, gm_value string)
{
    size_t from = w->text.n;
    gm_put_string(w, string);
    gm_strbuf_trim(&w->text, from);
}

int gm_writer_result(const gm_writer *w)
{
    if (w->rc) return w->rc;
    return w->text.rc ? gm_fail_nomem(w->error, "a conversation's text", w->text.n) : GEMMA_OK;
}

void gm_writer_clear(gm_writer *w)
{
    w->text.n = 0;
    w->text.rc = GEMMA_OK;
    w->n_marks = 0;
    w->standing = SIZE_MAX;
    w->in_thought = false;
    w->rc = GEMMA_OK;
}

void gm_writer_free(gm_writer *w)
{
    gm_strbuf_free(&w->text);
    gm_delete(w->mem, w->marks);
}

/* ---- token ids ---- */

typedef struct encoding {
    const gm_writer *w;
    const gm_tokenizer *t;
    int32_t *ids;
    size_t cap, n, n_standing;
} encoding;

/* The text between two markers is encoded in one piece, as it would be in the rendered text. Where the standing part ends
 * inside of it, its ids stand only if it ends in a newline: what follows is trimmed text, and no newline is joined to
 * anything but a newline. */
static int encode_run(encoding *e, size_t from, size_t to)
{
    const char *text = e->w->text.data;
    size_t standing = e->w->standing, n = 0;
    if (standing > from && standing < to && text[standing - 1] == '\n' && text[standing] != '\n') {
        int rc = encode_run(e, from, standing);
        if (rc) return rc;
        e->n_standing = e->n;
        from = standing;
    }
    if (to == from) return GEMMA_OK;
    int rc =
        gm_tokenizer_encode(e->t, text + from, to - from, GEMMA_TOKENIZE_UNTRUSTED, e->ids + e->n, e->cap - e->n, &n);
    e->n += n;
    if (!rc && (to < standing || (to == standing && text[to - 1] == '\n'))) e->n_standing = e->n;
    return rc;
}

int gm_writer_encode(const gm_writer *w, const gm_tokenizer *t, int32_t **ids, size_t *n_ids, size_t *n_standing)
{
    encoding e = { .w = w, .t = t, .cap = w->text.n + w->n_marks + 2 };
    *ids = e.ids = gm_new_array(w->mem, e.cap, sizeof *e.ids, GEMMA_TAG_OBJECT);
    if (!e.ids) return gm_fail_nomem(w->error, "a conversation's token ids", e.cap * sizeof *e.ids);
    size_t at = 0;
    int rc = GEMMA_OK;
    for (size_t i = 0; i < w->n_marks && !rc; i++) {
        const gm_mark *mark = w->marks + i;
        rc = encode_run(&e, at, mark->at);
        e.ids[e.n++] = w->markers->id[mark->marker];
        at = mark->at + strlen(w->markers->text[mark->marker]);
        if (at <= w->standing) e.n_standing = e.n;
    }
    if (!rc) rc = encode_run(&e, at, w->text.n);
    *n_ids = e.n;
    *n_standing = e.n_standing;
    if (rc == GEMMA_OK) return rc;
    gm_delete(w->mem, e.ids);
    *ids = NULL;
    return gm_fail(w->error, rc, "the conversation's text could not be encoded: %s", gm_error_text(rc));
}
