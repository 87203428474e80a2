#include "api/handles.h"
#include "chat/chat.h"

struct gemma_chat {
    gemma_tokenizer *tokenizer; /* a reference */
    gm_chat *chat;
};

struct gemma_parser {
    gemma_tokenizer *tokenizer; /* a reference */
    gm_parser *parser;
};

/* ---- the turn format a file needs ---- */

static const char *find_text(const char *text, size_t n, const char *part, size_t n_part)
{
    for (; n >= n_part; text++, n--)
        if (*text == *part && !memcmp(text, part, n_part)) return text;
    return NULL;
}

/* Whether a template puts an empty thought into its generation prompt, which is its last use of add_generation_prompt.
 * The newline may be escaped. *found: there is a generation prompt. */
static bool has_empty_thought(gm_str template, bool *found)
{
    static const char prompt[] = "add_generation_prompt", escaped[] = "<|channel>thought\\n<channel|>",
                      plain[] = "<|channel>thought\n<channel|>";
    const char *at = template.data, *end = at + template.n, *last = NULL;
    while ((at = find_text(at, (size_t)(end - at), prompt, sizeof prompt - 1))) {
        last = at;
        at += sizeof prompt - 1;
    }
    *found = last != NULL;
    return last && (find_text(last, (size_t)(end - last), escaped, sizeof escaped - 1) ||
                    find_text(last, (size_t)(end - last), plain, sizeof plain - 1));
}

static int choose_variant(const gm_gguf *g, uint32_t *variant, gemma_error *error)
{
    gm_str architecture = { "", 0 }, template;
    gm_gguf_string(g, "general.architecture", &architecture);
    if (architecture.n == 6 && !memcmp(architecture.data, "gemma3", 6)) {
        *variant = GEMMA_CHAT_GEMMA3;
        return GEMMA_OK;
    }
    if (architecture.n != 6 || memcmp(architecture.data, "gemma4", 6))
        return gm_fail(error, GEMMA_E_UNSUPPORTED, "%s: no turn format is known for the architecture \"%.*s\"",
                       gm_gguf_name(g), (int)gm_min_u64(architecture.n, 60), architecture.data);
    bool found = false, large = false;
    if (gm_gguf_string(g, "tokenizer.chat_template", &template)) large = has_empty_thought(template, &found);
    uint32_t n_per_layer = 0;
    gm_gguf_u32(g, "gemma4.embedding_length_per_layer_input", &n_per_layer);
    if (!found) large = n_per_layer == 0;
    *variant = large ? GEMMA_CHAT_GEMMA4_LARGE : GEMMA_CHAT_GEMMA4_SMALL;
    return GEMMA_OK;
}

/* ---- chat ---- */

static int read_options(const gemma_chat_options *given, gemma_chat_options *o, gemma_error *error)
{
    *o = (gemma_chat_options){ .size = sizeof *o };
    int rc = given ? gm_options_read(o, sizeof *o, given, "gemma_chat_options", error) : GEMMA_OK;
    if (!rc && o->variant > GEMMA_CHAT_GEMMA4_LARGE)
        rc = gm_fail(error, GEMMA_E_ARG, "gemma_chat_create: variant %u is not known", o->variant);
    return rc;
}

int gemma_chat_create(gemma_tokenizer *tokenizer, gemma_file *file, const gemma_chat_options *options, gemma_chat **out,
                      gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_chat_create: out is NULL");
    *out = NULL;
    gemma_chat_options o;
    int rc = read_options(options, &o, error);
    if (rc) return rc;
    if (!tokenizer) return gm_fail(error, GEMMA_E_ARG, "gemma_chat_create: tokenizer is NULL");
    if (!file && !o.variant)
        return gm_fail(error, GEMMA_E_ARG, "gemma_chat_create: without a file the variant must be given");
    if (!o.variant) rc = choose_variant(file->gguf, &o.variant, error);
    if (rc) return rc;
    gm_mem *mem = &tokenizer->runtime->mem;
    gemma_chat *c = gm_new(mem, sizeof *c, GEMMA_TAG_OBJECT);
    if (!c) return gm_fail_nomem(error, "a chat handle", sizeof *c);
    rc = gm_chat_create(mem, tokenizer->tokenizer, o.variant, &c->chat, error);
    if (rc) {
        gm_delete(mem, c);
        return rc;
    }
    c->tokenizer = tokenizer;
    gm_ref_take(&tokenizer->ref);
    *out = c;
    return GEMMA_OK;
}

void gemma_chat_destroy(gemma_chat *c)
{
    if (!c) return;
    gemma_tokenizer *tokenizer = c->tokenizer;
    gm_chat_destroy(c->chat);
    gm_delete(&tokenizer->runtime->mem, c);
    gemma_tokenizer_destroy(tokenizer);
}

size_t gemma_chat_message(const gemma_chat *c, char *buffer, size_t n_bytes)
{
    return gm_message_copy(c ? gm_chat_error(c->chat) : NULL, buffer, n_bytes);
}

uint32_t gemma_chat_variant(const gemma_chat *c) { return c ? gm_chat_variant(c->chat) : 0; }

int gemma_chat_add(gemma_chat *c, const gemma_message *message)
{
    if (!c || !message) return GEMMA_E_ARG;
    gemma_message m;
    int rc = gm_options_read(&m, sizeof m, message, "gemma_message", NULL);
    if (rc) return rc;
    if ((!m.text && m.n_text) || (!m.thought && m.n_thought)) return GEMMA_E_ARG;
    return gm_chat_add(c->chat, &m);
}

int gemma_chat_add_call(gemma_chat *c, const char *id, const char *name, const char *arguments, size_t n_bytes)
{
    if (!c || !name || (!arguments && n_bytes)) return GEMMA_E_ARG;
    return gm_chat_add_call(c->chat, id, name, arguments, n_bytes);
}

int gemma_chat_add_json(gemma_chat *c, const char *json, size_t n_bytes)
{
    return c && json ? gm_chat_add_json(c->chat, json, n_bytes) : GEMMA_E_ARG;
}

int gemma_chat_add_tool(gemma_chat *c, const char *json, size_t n_bytes)
{
    return c && json ? gm_chat_add_tool(c->chat, json, n_bytes) : GEMMA_E_ARG;
}

int gemma_chat_read(gemma_chat *c, const char *json, size_t n_bytes, uint32_t *flags)
{
    return c && json ? gm_chat_read(c->chat, json, n_bytes, flags) : GEMMA_E_ARG;
}

int gemma_chat_write(gemma_chat *c, char *buffer, size_t n_cap, size_t *n_bytes)
{
    if (!c || !n_bytes || (!buffer && n_cap)) return GEMMA_E_ARG;
    return gm_chat_write(c->chat, buffer, n_cap, n_bytes);
}

int gemma_chat_set_system(gemma_chat *c, const char *text, size_t n_bytes)
{
    return c && (text || !n_bytes) ? gm_chat_set_system(c->chat, text, n_bytes) : GEMMA_E_ARG;
}

uint32_t gemma_chat_n_messages(const gemma_chat *c) { return c ? gm_chat_n_messages(c->chat) : 0; }

int gemma_chat_keep(gemma_chat *c, uint32_t n_messages)
{
    if (!c) return GEMMA_E_ARG;
    gm_chat_keep(c->chat, n_messages);
    return GEMMA_OK;
}

uint32_t gemma_chat_drop_oldest(gemma_chat *c) { return c ? gm_chat_drop_oldest(c->chat) : 0; }

int gemma_chat_forget_tools(gemma_chat *c)
{
    if (!c) return GEMMA_E_ARG;
    gm_chat_forget_tools(c->chat);
    return GEMMA_OK;
}

int gemma_chat_render(gemma_chat *c, uint32_t flags, gemma_rendering *rendering)
{
    if (!c || !rendering) return GEMMA_E_ARG;
    gm_rendering r;
    int rc = gm_chat_render(c->chat, flags, &r);
    if (rc) return rc;
    gemma_rendering full = { .size = sizeof full,
                             .in_thought = r.in_thought,
                             .n_ids = r.n_ids,
                             .n_standing = r.n_standing,
                             .n_bytes = r.n_bytes };
    return gm_result_write(rendering, &full, sizeof full);
}

size_t gemma_chat_ids(const gemma_chat *c, int32_t *ids, size_t n_cap)
{
    gm_rendering r = { 0 };
    if (!c || !ids || !gm_chat_rendered(c->chat, &r)) return 0;
    size_t n = r.n_ids < n_cap ? r.n_ids : n_cap;
    memcpy(ids, r.ids, n * sizeof *ids);
    return n;
}

size_t gemma_chat_text(const gemma_chat *c, char *buffer, size_t n_cap)
{
    gm_rendering r = { 0 };
    if (!c || !buffer || !gm_chat_rendered(c->chat, &r)) return 0;
    size_t n = r.n_bytes < n_cap ? r.n_bytes : n_cap;
    memcpy(buffer, r.text, n);
    return n;
}

/* ---- parser ---- */

int gemma_parser_create(gemma_tokenizer *tokenizer, const gemma_parser_options *options, gemma_parser **out,
                        gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_parser_create: out is NULL");
    *out = NULL;
    gemma_parser_options o = { .size = sizeof o };
    int rc = options ? gm_options_read(&o, sizeof o, options, "gemma_parser_options", error) : GEMMA_OK;
    if (rc) return rc;
    if (!tokenizer) return gm_fail(error, GEMMA_E_ARG, "gemma_parser_create: tokenizer is NULL");
    gm_mem *mem = &tokenizer->runtime->mem;
    gemma_parser *p = gm_new(mem, sizeof *p, GEMMA_TAG_OBJECT);
    if (!p) return gm_fail_nomem(error, "a parser handle", sizeof *p);
    rc = gm_parser_create(mem, tokenizer->tokenizer, o.call_bytes, &p->parser, error);
    if (rc) {
        gm_delete(mem, p);
        return rc;
    }
    p->tokenizer = tokenizer;
    gm_ref_take(&tokenizer->ref);
    *out = p;
    return GEMMA_OK;
}

void gemma_parser_destroy(gemma_parser *p)
{
    if (!p) return;
    gemma_tokenizer *tokenizer = p->tokenizer;
    gm_parser_destroy(p->parser);
    gm_delete(&tokenizer->runtime->mem, p);
    gemma_tokenizer_destroy(tokenizer);
}

int gemma_parser_reset(gemma_parser *p, uint32_t in_thought)
{
    if (!p || in_thought > 1) return GEMMA_E_ARG;
    gm_parser_reset(p->parser, in_thought);
    return GEMMA_OK;
}

int gemma_parser_push(gemma_parser *p, int32_t id) { return p ? gm_parser_push(p->parser, id) : GEMMA_E_ARG; }

int gemma_parser_push_text(gemma_parser *p, const char *text, size_t n_bytes)
{
    return p && (text || !n_bytes) ? gm_parser_push_text(p->parser, text, n_bytes) : GEMMA_E_ARG;
}

int gemma_parser_finish(gemma_parser *p) { return p ? gm_parser_finish(p->parser) : GEMMA_E_ARG; }

int gemma_parser_next(gemma_parser *p, gemma_part *part)
{
    gemma_part full = { .size = sizeof full };
    if (!p || !part || part->size < 8 || !gm_parser_next(p->parser, &full)) return 0;
    gm_result_write(part, &full, sizeof full);
    return 1;
}

int gemma_parser_ended(const gemma_parser *p) { return p && gm_parser_ended(p->parser); }
