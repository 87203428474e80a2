/* A conversation's parts as they are kept: JSON documents in the OpenAI shape, checked when they are added, so that a
 * rendering can trust their form. */
#ifndef GM_CHAT_MESSAGE_H
#define GM_CHAT_MESSAGE_H

#include "chat/chat.h"
#include "chat/write.h"

enum { GM_CALLS_MAX = 128 };

typedef struct gm_message {
    gm_json *json;
    gm_json **calls; /* [n_calls] added to a message of the model, behind those in json */
    uint32_t n_calls, calls_cap;
    uint32_t role; /* GEMMA_ROLE_… */
} gm_message;

/* Takes json over when it succeeds. FORMAT with a sentence. */
int gm_message_check(gm_json *json, gm_message *m, gemma_error *error);
void gm_message_free(gm_mem *mem, gm_message *m);
/* A call as it stands in a message's tool_calls. */
int gm_call_check(gm_value call, const char *what, gemma_error *error);
/* *json stays the caller's on failure. Also takes the function alone, without {"type", "function"} around it. */
int gm_tool_check(const gm_json *json, gemma_error *error);
gm_value gm_tool_function(const gm_json *tool);

static inline gm_value gm_message_field(const gm_message *m, const char *key)
{
    return gm_value_find(gm_json_root(m->json), key);
}
uint32_t gm_message_n_calls(const gm_message *m);
gm_value gm_message_call(const gm_message *m, uint32_t i); /* the call's object */
gm_value gm_message_thought(const gm_message *m);          /* reasoning, else reasoning_content, else NONE */
void gm_message_write(const gm_message *m, gm_strbuf *out);

typedef enum gm_part_kind { GM_CONTENT_OTHER, GM_CONTENT_TEXT, GM_CONTENT_MEDIA } gm_part_kind;
/* What a member of a content list is; *marker is set for media. */
gm_part_kind gm_part_of(gm_value part, gm_marker *marker);

struct gm_chat {
    gm_mem *mem;
    const gm_tokenizer *tokenizer;
    uint32_t variant;
    gemma_error error;
    gm_marker_set markers;
    gm_message *messages;
    uint32_t n_messages, messages_cap;
    gm_json **tools;
    uint32_t n_tools, tools_cap;
    /* the last rendering */
    gm_writer writer;
    int32_t *ids;
    size_t n_ids, n_standing;
    uint32_t flags;
    bool rendered;
};

/* gemma3.c, gemma4.c: write the whole conversation. */
void gm_render_gemma3(const gm_chat *c, gm_writer *w, uint32_t flags);
void gm_render_gemma4(const gm_chat *c, gm_writer *w, uint32_t flags);

#endif
