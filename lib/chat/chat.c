/* The conversation: messages and tools as they were added, and its last rendering. */
#include "chat/message.h"

#define FLAGS_KNOWN (GEMMA_RENDER_GENERATE | GEMMA_RENDER_THINK | GEMMA_RENDER_KEEP_THOUGHTS)

int gm_chat_create(gm_mem *mem, const gm_tokenizer *tokenizer, uint32_t variant, gm_chat **out, gemma_error *error)
{
    *out = NULL;
    gm_chat *c = gm_new(mem, sizeof *c, GEMMA_TAG_OBJECT);
    if (!c) return gm_fail_nomem(error, "a chat", sizeof *c);
    *c = (gm_chat){ .mem = mem, .tokenizer = tokenizer, .variant = variant };
    gm_error_init(&c->error);
    gm_markers_find(&c->markers, tokenizer);
    c->writer = (gm_writer){ .mem = mem, .markers = &c->markers, .text.mem = mem, .error = &c->error };
    bool gemma3 = c->markers.text[GM_CALL] == NULL;
    if (gemma3 != (variant == GEMMA_CHAT_GEMMA3) || c->markers.id[GM_BOS] < 0 || c->markers.id[GM_TURN] < 0 ||
        c->markers.id[GM_TURN_END] < 0) {
        gm_delete(mem, c);
        return gm_fail(error, GEMMA_E_UNSUPPORTED, "the vocabulary has no tokens <bos>, %s",
                       variant == GEMMA_CHAT_GEMMA3 ? "<start_of_turn>, <end_of_turn>" : "<|turn>, <turn|>");
    }
    *out = c;
    return GEMMA_OK;
}

static void changed(gm_chat *c)
{
    gm_delete(c->mem, c->ids);
    c->ids = NULL;
    c->rendered = false;
}

void gm_chat_destroy(gm_chat *c)
{
    if (!c) return;
    gm_chat_keep(c, 0);
    gm_chat_forget_tools(c);
    changed(c);
    gm_writer_free(&c->writer);
    gm_delete(c->mem, c->messages);
    gm_delete(c->mem, c->tools);
    gm_delete(c->mem, c);
}

const gemma_error *gm_chat_error(const gm_chat *c) { return &c->error; }
uint32_t gm_chat_variant(const gm_chat *c) { return c->variant; }
uint32_t gm_chat_n_messages(const gm_chat *c) { return c->n_messages; }

/* ---- adding ---- */

/* Room for one more element of an array of the chat. */
static int reserve(gm_chat *c, void **array, uint32_t n, uint32_t *cap, size_t element_bytes)
{
    if (n < *cap) return GEMMA_OK;
    uint32_t more = *cap * 2 + 8;
    void *grown = n < UINT32_MAX / 4 ? gm_grow(c->mem, *array, (uint64_t)more * element_bytes, GEMMA_TAG_OBJECT) : NULL;
    if (!grown) return gm_fail_nomem(&c->error, "a conversation's list", (uint64_t)more * element_bytes);
    *array = grown;
    *cap = more;
    return GEMMA_OK;
}

int gm_chat_add_json(gm_chat *c, const char *text, size_t n_bytes)
{
    gm_json *json = NULL;
    gm_message m;
    void *list = c->messages;
    int rc = reserve(c, &list, c->n_messages, &c->messages_cap, sizeof m);
    c->messages = list;
    if (!rc) rc = gm_json_parse(c->mem, text, n_bytes, "message", &json, &c->error);
    if (!rc) rc = gm_message_check(json, &m, &c->error);
    if (rc) {
        gm_json_destroy(c->mem, json);
        return rc;
    }
    c->messages[c->n_messages++] = m;
    changed(c);
    return GEMMA_OK;
}

static void put_field(gm_strbuf *b, const char *key, const char *text, size_t n)
{
    if (!text) return;
    gm_strbuf_text(b, ",\"");
    gm_strbuf_text(b, key);
    gm_strbuf_text(b, "\":");
    gm_strbuf_json_string(b, text, n);
}

/* What JSON cannot hold has no place in a conversation. */
static int check_utf8(gm_chat *c, const char *what, const char *text, size_t n)
{
    if (!text) return GEMMA_OK;
    size_t bad = gm_utf8_check(text, n);
    return bad == n ? GEMMA_OK : gm_fail(&c->error, GEMMA_E_UTF8, "%s: byte %zu is not UTF-8", what, bad);
}

int gm_chat_add(gm_chat *c, const gemma_message *m)
{
    static const char *const roles[] = { "", "system", "user", "assistant", "tool", "developer" };
    if (m->role == 0 || m->role >= GM_COUNT(roles))
        return gm_fail(&c->error, GEMMA_E_ARG, "message: role %u is not known", m->role);
    int rc = check_utf8(c, "a message's text", m->text, m->n_text);
    if (!rc) rc = check_utf8(c, "a message's thought", m->thought, m->n_thought);
    if (rc) return rc;
    gm_strbuf b = { .mem = c->mem };
    gm_strbuf_text(&b, "{\"role\":\"");
    gm_strbuf_text(&b, roles[m->role]);
    gm_strbuf_char(&b, '"');
    put_field(&b, "content", m->text, m->n_text);
    put_field(&b, "reasoning", m->thought, m->n_thought);
    put_field(&b, "name", m->name, m->name ? strlen(m->name) : 0);
    put_field(&b, "tool_call_id", m->call_id, m->call_id ? strlen(m->call_id) : 0);
    gm_strbuf_char(&b, '}');
    rc = b.rc ? gm_fail_nomem(&c->error, "a message", b.n) : gm_chat_add_json(c, b.data, b.n);
    gm_strbuf_free(&b);
    return rc;
}

int gm_chat_add_call(gm_chat *c, const char *id, const char *name, const char *arguments, size_t n_bytes)
{
    gm_message *m = c->n_messages ? c->messages + c->n_messages - 1 : NULL;
    if (!m || m->role != GEMMA_ROLE_MODEL)
        return gm_fail(&c->error, GEMMA_E_STATE, "a call belongs to a message of the model, and the last is none");
    if (gm_message_n_calls(m) >= GM_CALLS_MAX)
        return gm_fail(&c->error, GEMMA_E_FULL, "a message has at most %d calls", GM_CALLS_MAX);
    void *list = m->calls;
    int rc = reserve(c, &list, m->n_calls, &m->calls_cap, sizeof *m->calls);
    m->calls = list;
    if (rc) return rc;
    gm_strbuf b = { .mem = c->mem };
    gm_strbuf_text(&b, "{\"type\":\"function\"");
    put_field(&b, "id", id, id ? strlen(id) : 0);
    gm_strbuf_text(&b, ",\"function\":{\"name\":");
    gm_strbuf_json_string(&b, name, strlen(name));
    gm_strbuf_text(&b, ",\"arguments\":");
    gm_strbuf_put(&b, n_bytes ? arguments : "{}", n_bytes ? n_bytes : 2);
    gm_strbuf_text(&b, "}}");
    gm_json *json = NULL;
    rc = b.rc ? gm_fail_nomem(&c->error, "a call", b.n) : gm_json_parse(c->mem, b.data, b.n, "call", &json, &c->error);
    gm_strbuf_free(&b);
    if (!rc) rc = gm_call_check(gm_json_root(json), "call", &c->error);
    if (rc) {
        gm_json_destroy(c->mem, json);
        return rc;
    }
    m->calls[m->n_calls++] = json;
    changed(c);
    return GEMMA_OK;
}

int gm_chat_add_tool(gm_chat *c, const char *text, size_t n_bytes)
{
    gm_json *json = NULL;
    void *list = c->tools;
    int rc = reserve(c, &list, c->n_tools, &c->tools_cap, sizeof *c->tools);
    c->tools = list;
    if (!rc) rc = gm_json_parse(c->mem, text, n_bytes, "tool", &json, &c->error);
    if (!rc) rc = gm_tool_check(json, &c->error);
    if (rc) {
        gm_json_destroy(c->mem, json);
        return rc;
    }
    c->tools[c->n_tools++] = json;
    changed(c);
    return GEMMA_OK;
}

/* ---- dropping ---- */

void gm_chat_keep(gm_chat *c, uint32_t n_messages)
{
    while (c->n_messages > n_messages) gm_message_free(c->mem, c->messages + --c->n_messages);
    changed(c);
}

void gm_chat_forget_tools(gm_chat *c)
{
    while (c->n_tools) gm_json_destroy(c->mem, c->tools[--c->n_tools]);
    changed(c);
}

static bool has_system(const gm_chat *c)
{
    return c->n_messages && (c->messages[0].role == GEMMA_ROLE_SYSTEM || c->messages[0].role == GEMMA_ROLE_DEVELOPER);
}

static void remove_messages(gm_chat *c, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) gm_message_free(c->mem, c->messages + i);
    memmove(c->messages + from, c->messages + to, (c->n_messages - to) * sizeof *c->messages);
    c->n_messages -= to - from;
    changed(c);
}

uint32_t gm_chat_drop_oldest(gm_chat *c)
{
    uint32_t first = has_system(c), next = first + 1;
    while (next < c->n_messages && c->messages[next].role != GEMMA_ROLE_USER) next++;
    if (next >= c->n_messages) return 0;
    remove_messages(c, first, next);
    return next - first;
}

int gm_chat_set_system(gm_chat *c, const char *text, size_t n_bytes)
{
    bool had = has_system(c);
    if (n_bytes) {
        gemma_message m = { .role = GEMMA_ROLE_SYSTEM, .text = text, .n_text = n_bytes };
        int rc = gm_chat_add(c, &m);
        if (rc) return rc;
        gm_message added = c->messages[c->n_messages - 1]; /* to the front */
        memmove(c->messages + 1, c->messages, (c->n_messages - 1) * sizeof added);
        c->messages[0] = added;
    }
    if (had) remove_messages(c, n_bytes ? 1 : 0, n_bytes ? 2 : 1);
    return GEMMA_OK;
}

/* ---- whole conversations ---- */

/* Every item of a list through `add`. */
static int add_each(gm_chat *c, gm_value list, const char *what, int (*add)(gm_chat *, const char *, size_t))
{
    if (gm_value_absent(list)) return GEMMA_OK;
    if (!gm_value_is(list, GM_JSON_LIST))
        return gm_fail(&c->error, GEMMA_E_FORMAT, "conversation: \"%s\" is not a list", what);
    int rc = GEMMA_OK;
    gm_strbuf b = { .mem = c->mem };
    for (gm_value i = gm_value_first(list); gm_value_in(i, list) && !rc; i = gm_value_after(i)) {
        b.n = 0;
        gm_value_write(i, &b);
        rc = b.rc ? gm_fail_nomem(&c->error, "a conversation", b.n) : add(c, b.data, b.n);
    }
    gm_strbuf_free(&b);
    return rc;
}

static uint32_t read_flags(gm_value v)
{
    static const struct {
        const char *key;
        uint32_t flag;
    } keys[] = { { "add_generation_prompt", GEMMA_RENDER_GENERATE },
                 { "enable_thinking", GEMMA_RENDER_THINK },
                 { "preserve_thinking", GEMMA_RENDER_KEEP_THOUGHTS } };
    uint32_t flags = 0;
    for (uint32_t i = 0; i < GM_COUNT(keys); i++)
        if (gm_value_true(gm_value_find(v, keys[i].key))) flags |= keys[i].flag;
    return flags;
}

int gm_chat_read(gm_chat *c, const char *text, size_t n_bytes, uint32_t *flags)
{
    gm_json *json = NULL;
    int rc = gm_json_parse(c->mem, text, n_bytes, "conversation", &json, &c->error);
    if (rc) return rc;
    uint32_t n_messages = c->n_messages, n_tools = c->n_tools;
    gm_value root = gm_json_root(json), messages = gm_value_find(root, "messages");
    if (gm_value_is(root, GM_JSON_LIST)) messages = root;
    rc = add_each(c, messages, "messages", gm_chat_add_json);
    if (!rc) rc = add_each(c, gm_value_find(root, "tools"), "tools", gm_chat_add_tool);
    if (!rc && flags) *flags = read_flags(root);
    if (rc) {
        gm_chat_keep(c, n_messages);
        while (c->n_tools > n_tools) gm_json_destroy(c->mem, c->tools[--c->n_tools]);
    }
    gm_json_destroy(c->mem, json);
    return rc;
}

int gm_chat_write(gm_chat *c, char *buffer, size_t n_cap, size_t *n_bytes)
{
    gm_strbuf b = { .mem = c->mem };
    gm_strbuf_text(&b, "{\"messages\":[");
    for (uint32_t i = 0; i < c->n_messages; i++) {
        if (i) gm_strbuf_char(&b, ',');
        gm_message_write(c->messages + i, &b);
    }
    gm_strbuf_text(&b, "],\"tools\":[");
    for (uint32_t i = 0; i < c->n_tools; i++) {
        if (i) gm_strbuf_char(&b, ',');
        gm_value_write(gm_json_root(c->tools[i]), &b);
    }
    gm_strbuf_text(&b, "]}");
    int rc = b.rc ? gm_fail_nomem(&c->error, "a conversation's JSON", b.n) : GEMMA_OK;
    *n_bytes = rc ? 0 : b.n;
    if (!rc && b.n > n_cap) rc = gm_fail(&c->error, GEMMA_E_SMALL, "the conversation is %zu bytes of JSON", b.n);
    if (b.data && n_cap && *n_bytes) memcpy(buffer, b.data, b.n < n_cap ? b.n : n_cap);
    gm_strbuf_free(&b);
    return rc;
}

/* ---- rendering ---- */

int gm_chat_render(gm_chat *c, uint32_t flags, gm_rendering *out)
{
    gm_writer *w = &c->writer;
    if (flags & ~(uint32_t)FLAGS_KNOWN) return gm_fail(&c->error, GEMMA_E_ARG, "chat: flags %u are not known", flags);
    if (!c->rendered || c->flags != flags) {
        changed(c);
        gm_writer_clear(w);
        if (c->variant == GEMMA_CHAT_GEMMA3)
            gm_render_gemma3(c, w, flags);
        else
            gm_render_gemma4(c, w, flags);
        int rc = gm_writer_result(w);
        if (!rc) rc = gm_writer_encode(w, c->tokenizer, &c->ids, &c->n_ids, &c->n_standing);
        if (rc) return rc;
        c->flags = flags;
        c->rendered = true;
    }
    gm_chat_rendered(c, out);
    return GEMMA_OK;
}

bool gm_chat_rendered(const gm_chat *c, gm_rendering *out)
{
    const gm_writer *w = &c->writer;
    *out = (gm_rendering){ .text = w->text.data,
                           .n_bytes = w->text.n,
                           .ids = c->ids,
                           .n_ids = c->n_ids,
                           .n_standing = c->n_standing,
                           .in_thought = w->in_thought };
    return c->rendered;
}
