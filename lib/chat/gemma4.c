/* Gemma 4's turns, by the template of 2026-07-09. */
#include "chat/message.h"

static bool is_system(const gm_message *m) { return m->role == GEMMA_ROLE_SYSTEM || m->role == GEMMA_ROLE_DEVELOPER; }

/* What a message has written last; decides what the generation prompt is. */
typedef enum ending { ENDS_PLAIN, ENDS_CALL, ENDS_RESULTS } ending;

typedef struct rendering {
    const gm_chat *c;
    gm_writer *w;
    uint32_t flags;
    uint32_t first;     /* the first message that is no system text */
    uint32_t last_user; /* one more than its index; 0: none */
    bool after_model;   /* the last message that is no tool's was the model's */
    ending end;         /* of that message */
} rendering;

/* ---- content ---- */

/* The text without thoughts: split at the closing marker, of each part what stands before an opening one; trimmed. */
static void put_without_thoughts(gm_writer *w, gm_value string)
{
    static const char open[] = "<|channel>", close[] = "<channel|>";
    const size_t n_open = sizeof open - 1, n_close = sizeof close - 1;
    size_t n, from = w->text.n, start = 0;
    const char *text = gm_value_text(string, &n);
    bool hidden = false;
    for (size_t i = 0; i <= n; i++) {
        bool at_close = n - i >= n_close && !memcmp(text + i, close, n_close);
        bool at_open = n - i >= n_open && !memcmp(text + i, open, n_open);
        if (i < n && !at_close && (hidden || !at_open)) continue;
        if (!hidden) gm_strbuf_put(&w->text, text + start, i - start);
        hidden = at_open;
        if (at_close) {
            start = i + n_close;
            i = start - 1;
        }
    }
    gm_strbuf_trim(&w->text, from);
}

static void put_content_text(gm_writer *w, gm_value text, bool model)
{
    if (model)
        put_without_thoughts(w, text);
    else
        gm_put_trimmed(w, text);
}

/* Returns whether anything but white space was written. */
static bool put_content(gm_writer *w, gm_value content, bool model)
{
    size_t from = w->text.n;
    if (gm_value_is(content, GM_JSON_STRING)) put_content_text(w, content, model);
    if (gm_value_is(content, GM_JSON_LIST)) {
        for (gm_value i = gm_value_first(content); gm_value_in(i, content); i = gm_value_after(i)) {
            gm_marker marker;
            if (gm_part_of(i, &marker) == GM_CONTENT_TEXT)
                put_content_text(w, gm_value_find(i, "text"), model);
            else
                gm_put_marker(w, marker);
        }
    }
    return w->text.n > from;
}

/* ---- calls and results ---- */

static void put_call(gm_writer *w, gm_value call)
{
    gm_value function = gm_value_find(call, "function"), arguments = gm_value_find(function, "arguments");
    gm_put_marker(w, GM_CALL);
    gm_put_text(w, "call:");
    gm_put_string(w, gm_value_find(function, "name"));
    gm_put_text(w, "{");
    if (gm_value_is(arguments, GM_JSON_OBJECT)) gm_put_members(w, arguments, false);
    gm_put_text(w, "}");
    gm_put_marker(w, GM_CALL_END);
}

/* The texts of a list of parts as one string. */
static void put_joined_texts(gm_writer *w, gm_value list)
{
    gm_marker marker;
    gm_put_marker(w, GM_QUOTE);
    for (gm_value i = gm_value_first(list); gm_value_in(i, list); i = gm_value_after(i))
        if (gm_part_of(i, &marker) == GM_CONTENT_TEXT) gm_put_string(w, gm_value_find(i, "text"));
    gm_put_marker(w, GM_QUOTE);
}

/* `parts`: a list is content parts, not a value. */
static void put_result(gm_writer *w, gm_value name, gm_value body, bool parts)
{
    gm_put_marker(w, GM_RESPONSE);
    gm_put_text(w, "response:");
    if (gm_value_true(name))
        gm_put_string(w, name);
    else
        gm_put_text(w, "unknown");
    gm_put_text(w, "{");
    if (gm_value_is(body, GM_JSON_OBJECT)) {
        gm_put_members(w, body, false);
    } else {
        gm_put_text(w, "value:");
        if (parts && gm_value_is(body, GM_JSON_LIST))
            put_joined_texts(w, body);
        else
            gm_put_value(w, body, false);
    }
    gm_put_text(w, "}");
    gm_put_marker(w, GM_RESPONSE_END);
    if (!parts || !gm_value_is(body, GM_JSON_LIST)) return;
    for (gm_value i = gm_value_first(body); gm_value_in(i, body); i = gm_value_after(i)) {
        gm_marker marker;
        if (gm_part_of(i, &marker) == GM_CONTENT_MEDIA) gm_put_marker(w, marker);
    }
}

static bool same_text(gm_value a, gm_value b)
{
    size_t n_a, n_b;
    const char *x = gm_value_text(a, &n_a), *y = gm_value_text(b, &n_b);
    return n_a == n_b && !memcmp(x, y, n_a);
}

/* The function a tool's message answers: by the call's id, else by its own name; with neither, the last call's. */
static gm_value result_name(const gm_message *m, const gm_message *tool)
{
    gm_value id = gm_message_field(tool, "tool_call_id"), name = gm_message_field(tool, "name");
    if (gm_value_absent(id) && gm_value_true(name)) return name;
    for (uint32_t i = gm_message_n_calls(m); i-- > 0;) {
        gm_value call = gm_message_call(m, i), own = gm_value_find(call, "id");
        if (gm_value_absent(id) == gm_value_absent(own) && same_text(id, own))
            return gm_value_find(gm_value_find(call, "function"), "name");
    }
    return name;
}

/* Results of message `at`: its own list, or the tools' messages behind a message with calls. True if there are any. */
static bool put_results(rendering *r, uint32_t at)
{
    const gm_message *m = r->c->messages + at;
    gm_value own = gm_message_field(m, "tool_responses");
    if (gm_value_true(own)) {
        for (gm_value i = gm_value_first(own); gm_value_in(i, own); i = gm_value_after(i))
            put_result(r->w, gm_value_find(i, "name"), gm_value_find(i, "response"), false);
        return true;
    }
    if (!gm_message_n_calls(m)) return false;
    uint32_t k = at + 1;
    for (; k < r->c->n_messages && r->c->messages[k].role == GEMMA_ROLE_TOOL; k++)
        put_result(r->w, result_name(m, r->c->messages + k), gm_message_field(r->c->messages + k, "content"), true);
    return k > at + 1;
}

/* ---- messages ---- */

static void put_thought(rendering *r, uint32_t at)
{
    const gm_message *m = r->c->messages + at;
    gm_value thought = gm_message_thought(m);
    bool kept = r->flags & GEMMA_RENDER_KEEP_THOUGHTS && gm_message_n_calls(m) > 0;
    if (!thought.json || (!kept && at + 1 <= r->last_user)) return;
    if (!kept) gm_stands_to_here(r->w); /* the next user's message takes it away */
    gm_put_marker(r->w, GM_CHANNEL);
    gm_put_text(r->w, "thought\n");
    gm_put_string(r->w, thought);
    gm_put_text(r->w, "\n");
    gm_put_marker(r->w, GM_CHANNEL_END);
}

static void put_message(rendering *r, uint32_t at)
{
    static const char *const roles[] = { "", "system", "user", "model", "tool", "developer" };
    const gm_chat *c = r->c;
    const gm_message *m = c->messages + at;
    gm_writer *w = r->w;
    bool model = m->role == GEMMA_ROLE_MODEL, calls = gm_message_n_calls(m) > 0;
    uint32_t next = at + 1;
    while (next < c->n_messages && c->messages[next].role == GEMMA_ROLE_TOOL) next++;
    bool last = next == c->n_messages;

    if (!model || !r->after_model) {
        gm_put_marker(w, GM_TURN);
        gm_put_text(w, roles[m->role]);
        gm_put_text(w, "\n");
    }
    put_thought(r, at);
    for (uint32_t i = 0; i < gm_message_n_calls(m); i++) put_call(w, gm_message_call(m, i));
    bool results = put_results(r, at);
    size_t before = w->text.n;
    bool content = put_content(w, gm_message_field(m, "content"), model);
    /* More results would go in front of it, the model's next message continues it. */
    if (last && model && content && w->standing > before) w->standing = before;

    r->end = results ? ENDS_RESULTS : calls ? ENDS_CALL : ENDS_PLAIN;
    r->after_model = model;
    if (r->end == ENDS_CALL) {
        gm_put_marker(w, GM_RESPONSE);
        return;
    }
    bool goes_on = model && !last && c->messages[next].role == GEMMA_ROLE_MODEL;
    bool open = results && !content && last;
    if (goes_on || open) return;
    if (last && model) gm_stands_to_here(w);
    gm_put_marker(w, GM_TURN_END);
    gm_put_text(w, "\n");
}

static void put_system_text(gm_writer *w, gm_value content)
{
    if (gm_value_is(content, GM_JSON_STRING)) gm_put_trimmed(w, content);
    if (!gm_value_is(content, GM_JSON_LIST)) return;
    for (gm_value i = gm_value_first(content); gm_value_in(i, content); i = gm_value_after(i)) {
        gm_put_trimmed(w, gm_value_find(i, "text"));
        gm_put_text(w, " ");
    }
}

static void put_start(rendering *r)
{
    const gm_chat *c = r->c;
    gm_writer *w = r->w;
    gm_put_marker(w, GM_BOS);
    r->first = c->n_messages && is_system(c->messages) ? 1 : 0;
    if (!r->first && !c->n_messages) gm_stands_to_here(w); /* a system message may come */
    if (!r->first && !c->n_tools && !(r->flags & GEMMA_RENDER_THINK)) return;
    gm_put_marker(w, GM_TURN);
    gm_put_text(w, "system\n");
    if (r->flags & GEMMA_RENDER_THINK) {
        gm_put_marker(w, GM_THINK);
        gm_put_text(w, "\n");
    }
    if (r->first) put_system_text(w, gm_message_field(c->messages, "content"));
    for (uint32_t i = 0; i < c->n_tools; i++) {
        gm_put_marker(w, GM_TOOL);
        gm_put_declaration(w, gm_tool_function(c->tools[i]));
        gm_put_marker(w, GM_TOOL_END);
    }
    gm_put_marker(w, GM_TURN_END);
    gm_put_text(w, "\n");
}

static void put_prompt(rendering *r)
{
    bool think = r->flags & GEMMA_RENDER_THINK;
    gm_writer *w = r->w;
    if (r->end == ENDS_CALL || (r->end == ENDS_RESULTS && !think)) return;
    if (r->end == ENDS_PLAIN) {
        gm_put_marker(w, GM_TURN);
        gm_put_text(w, "model\n");
        if (think || r->c->variant != GEMMA_CHAT_GEMMA4_LARGE) return;
    }
    gm_stands_to_here(w);
    gm_put_marker(w, GM_CHANNEL);
    gm_put_text(w, "thought\n");
    if (r->end == ENDS_PLAIN)
        gm_put_marker(w, GM_CHANNEL_END); /* an empty thought: answer at once */
    else
        w->in_thought = true;
}

void gm_render_gemma4(const gm_chat *c, gm_writer *w, uint32_t flags)
{
    rendering r = { .c = c, .w = w, .flags = flags };
    put_start(&r);
    for (uint32_t i = r.first; i < c->n_messages; i++)
        if (c->messages[i].role == GEMMA_ROLE_USER) r.last_user = i + 1;
    for (uint32_t i = r.first; i < c->n_messages; i++)
        if (c->messages[i].role != GEMMA_ROLE_TOOL) put_message(&r, i);
    if (flags & GEMMA_RENDER_GENERATE) put_prompt(&r);
}
