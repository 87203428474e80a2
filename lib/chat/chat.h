/* chat: Gemma's turn formats: a conversation to text and token ids, and the model's output to thoughts, answers and tool
 * calls. No template engine: the rules are code (gemma3.c, gemma4.c). */
#ifndef GM_CHAT_H
#define GM_CHAT_H

#include "tokenizer/tokenizer.h"

typedef struct gm_chat gm_chat;     /* Threads: one at a time */
typedef struct gm_parser gm_parser; /* Threads: one at a time */

/* The tokenizer outlives both. `variant` is a GEMMA_CHAT_… variant, never AUTO. UNSUPPORTED: the vocabulary lacks the
 * markers of a turn. */
int gm_chat_create(gm_mem *mem, const gm_tokenizer *tokenizer, uint32_t variant, gm_chat **out, gemma_error *error);
void gm_chat_destroy(gm_chat *c); /* NULL is fine */
const gemma_error *gm_chat_error(const gm_chat *c);
uint32_t gm_chat_variant(const gm_chat *c);

/* The contracts of gemma_chat_…; after a failure the conversation is as before. */
int gm_chat_add(gm_chat *c, const gemma_message *message);
int gm_chat_add_call(gm_chat *c, const char *id, const char *name, const char *arguments, size_t n_bytes);
int gm_chat_add_json(gm_chat *c, const char *json, size_t n_bytes);
int gm_chat_add_tool(gm_chat *c, const char *json, size_t n_bytes);
int gm_chat_read(gm_chat *c, const char *json, size_t n_bytes, uint32_t *flags);
int gm_chat_write(gm_chat *c, char *buffer, size_t n_cap, size_t *n_bytes);
int gm_chat_set_system(gm_chat *c, const char *text, size_t n_bytes);
uint32_t gm_chat_n_messages(const gm_chat *c);
void gm_chat_keep(gm_chat *c, uint32_t n_messages);
uint32_t gm_chat_drop_oldest(gm_chat *c);
void gm_chat_forget_tools(gm_chat *c);

typedef struct gm_rendering {
    const char *text;
    size_t n_bytes;
    const int32_t *ids;
    size_t n_ids, n_standing;
    bool in_thought; /* the ids end inside a thought */
} gm_rendering;
/* Valid until the chat is used again. */
int gm_chat_render(gm_chat *c, uint32_t flags, gm_rendering *out);
/* The last rendering again; false: the conversation has changed since, or there was none. */
bool gm_chat_rendered(const gm_chat *c, gm_rendering *out);

/* `limit` bytes for the text of one call; 0: 64 KiB. */
int gm_parser_create(gm_mem *mem, const gm_tokenizer *tokenizer, uint32_t limit, gm_parser **out, gemma_error *error);
void gm_parser_destroy(gm_parser *p);
/* Allocate nothing. */
void gm_parser_reset(gm_parser *p, bool in_thought);
int gm_parser_push(gm_parser *p, int32_t id);
int gm_parser_push_text(gm_parser *p, const char *text, size_t n_bytes);
int gm_parser_finish(gm_parser *p);
bool gm_parser_next(gm_parser *p, gemma_part *part);
bool gm_parser_ended(const gm_parser *p);

#endif
