/* One tool call, from the notation the model writes to JSON. */
#ifndef GM_CHAT_CALL_H
#define GM_CHAT_CALL_H

#include "chat/strbuf.h"

/* Stands for the quote token in a call's text; no byte of UTF-8 text is this one. */
#define GM_CALL_QUOTE '\xff'
enum { GM_CALL_NAME_MAX = 256, GM_CALL_DEPTH_MAX = 64 };

/* "call:NAME{k:VALUE,…}" to its name (NUL-terminated) and its arguments as JSON, in a buffer of fixed size. What is not
 * quoted and neither a number nor a word of Python's or JSON's becomes a string. FORMAT: it cannot be read; SMALL: json
 * is too small. */
int gm_call_parse(const char *text, size_t n, char name[GM_CALL_NAME_MAX], gm_strbuf *json);

#endif
