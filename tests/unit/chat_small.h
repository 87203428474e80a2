/* The small vocabulary with the markers of a family's turns. */
#ifndef GM_TEST_CHAT_SMALL_H
#define GM_TEST_CHAT_SMALL_H

#include "tokenizer_small.h"

static const char *const chat_markers_gemma4[] = {
    "<|turn>",   "<|think|>",    "<|channel>",   "<channel|>",       "<|tool>",
    "<tool|>",   "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>",
    "<|image|>", "<|audio|>",    "<|video|>",    "<|image>",         "<mask>",
};
static const char *const chat_markers_gemma3[] = { "<start_of_turn>", "<end_of_image>" };

static inline void chat_small_init(small_vocab *v, bool gemma4)
{
    small_init(v, gemma4);
    if (gemma4)
        for (size_t i = 0; i < GM_COUNT(chat_markers_gemma4); i++) {
            bool user = strstr(chat_markers_gemma4[i], "channel") || strstr(chat_markers_gemma4[i], "tool_");
            small_add(v, chat_markers_gemma4[i], user ? GM_TOKEN_USER : GM_TOKEN_CONTROL);
        }
    else
        for (size_t i = 0; i < GM_COUNT(chat_markers_gemma3); i++)
            small_add(v, chat_markers_gemma3[i], GM_TOKEN_CONTROL);
}

#endif
