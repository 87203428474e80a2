/* Gemma 3's turns: user and model in turn, the system text in front of the first user's. No tools, no thoughts. */
#include "chat/message.h"

static void put_content(gm_writer *w, gm_value content)
{
    if (gm_value_is(content, GM_JSON_STRING)) gm_put_trimmed(w, content);
    if (!gm_value_is(content, GM_JSON_LIST)) return;
    for (gm_value i = gm_value_first(content); gm_value_in(i, content); i = gm_value_after(i)) {
        gm_marker marker;
        if (gm_part_of(i, &marker) == GM_CONTENT_TEXT)
            gm_put_trimmed(w, gm_value_find(i, "text"));
        else
            gm_put_marker(w, marker);
    }
}

/* Not trimmed; of a list the first text. */
static void put_system(gm_writer *w, gm_value content)
{
    if (gm_value_is(content, GM_JSON_STRING)) gm_put_string(w, content);
    if (gm_value_count(content) && gm_value_is(content, GM_JSON_LIST))
        gm_put_string(w, gm_value_find(gm_value_first(content), "text"));
    gm_put_text(w, "\n\n");
}

static int check(const gm_chat *c, uint32_t first, gemma_error *error)
{
    if (c->n_tools || (c->n_messages && c->messages[c->n_messages - 1].role == GEMMA_ROLE_TOOL))
        return gm_fail(error, GEMMA_E_UNSUPPORTED,
                       "Gemma 3 has no notation for tools; describe them in the system text");
    for (uint32_t i = first; i < c->n_messages; i++) {
        uint32_t want = (i - first) % 2 ? GEMMA_ROLE_MODEL : GEMMA_ROLE_USER;
        if (c->messages[i].role == want) continue;
        return gm_fail(error, GEMMA_E_STATE,
                       "message %u: Gemma 3 needs user and model in turn, beginning with the user; a message of the %s "
                       "is due",
                       i, want == GEMMA_ROLE_USER ? "user" : "model");
    }
    return GEMMA_OK;
}

void gm_render_gemma3(const gm_chat *c, gm_writer *w, uint32_t flags)
{
    uint32_t first = 0;
    if (c->n_messages && (c->messages[0].role == GEMMA_ROLE_SYSTEM || c->messages[0].role == GEMMA_ROLE_DEVELOPER))
        first = 1;
    w->rc = check(c, first, w->error);
    gm_put_marker(w, GM_BOS);
    for (uint32_t i = first; i < c->n_messages; i++) {
        gm_put_marker(w, GM_TURN);
        gm_put_text(w, c->messages[i].role == GEMMA_ROLE_MODEL ? "model\n" : "user\n");
        if (first && i == first) put_system(w, gm_message_field(c->messages, "content"));
        put_content(w, gm_message_field(c->messages + i, "content"));
        gm_put_marker(w, GM_TURN_END);
        gm_put_text(w, "\n");
    }
    if (!(flags & GEMMA_RENDER_GENERATE)) return;
    gm_put_marker(w, GM_TURN);
    gm_put_text(w, "model\n");
}
