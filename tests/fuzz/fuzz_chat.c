/* Byte 0: bits 0-1 the variant (0 and 3: the large one), bits 2-4 the rendering's flags, bit 5: JSON of one message or
 * tool, not of a conversation. The rest is the JSON. What comes out must fit together: the ids decode to the text,
 * control tokens stand only where the rules put them, and the conversation survives its own JSON. */
#include "../unit/chat_small.h"
#include "chat/chat.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The ids' text; U+2581 and a space are one. */
static void check_text(const gm_tokenizer *t, const gm_rendering *r)
{
    size_t n;
    char *text = malloc(r->n_bytes + 1);
    REQUIRE(text);
    REQUIRE(!gm_tokenizer_decode(t, r->ids, r->n_ids, GEMMA_DETOKENIZE_SPECIAL, text, r->n_bytes, &n));
    size_t k = 0;
    for (size_t i = 0; i < r->n_bytes; k++) {
        bool mark = r->n_bytes - i >= 3 && !memcmp(r->text + i, SMALL_SPACE, 3);
        REQUIRE(k < n && text[k] == (mark ? ' ' : r->text[i]));
        i += mark ? 3 : 1;
    }
    REQUIRE(k == n);
    free(text);
}

static int32_t find(const gm_tokenizer *t, const char *text) { return gm_tokenizer_find(t, text, strlen(text)); }

/* Turns open and close in turn, only the first id is BOS, and nothing else of control comes from a message. */
static void check_ids(const gm_tokenizer *t, const gm_rendering *r, bool gemma3)
{
    int32_t bos = find(t, "<bos>"), eos = find(t, "<eos>"), mask = find(t, "<mask>"), pad = find(t, "<pad>");
    int32_t open = find(t, gemma3 ? "<start_of_turn>" : "<|turn>"),
            close = find(t, gemma3 ? "<end_of_turn>" : "<turn|>");
    int depth = 0;
    REQUIRE(r->n_ids > 0 && r->n_standing <= r->n_ids && r->ids[0] == bos);
    for (size_t i = 1; i < r->n_ids; i++) {
        int32_t id = r->ids[i];
        REQUIRE(id != bos && id != eos && id != pad && (mask < 0 || id != mask));
        if (id == open) depth++;
        if (id == close) depth--;
        REQUIRE(depth >= 0 && (gemma3 ? depth <= 1 : true));
    }
}

static void check_again(gm_chat *c, gm_chat *second, uint32_t flags, const gm_rendering *r)
{
    size_t n_json, n;
    char *text = malloc(r->n_bytes + 1);
    REQUIRE(text && gm_chat_write(c, NULL, 0, &n_json) == GEMMA_E_SMALL);
    memcpy(text, r->text, r->n_bytes);
    n = r->n_bytes;
    char *json = malloc(n_json);
    gm_rendering again;
    REQUIRE(json && !gm_chat_write(c, json, n_json, &n_json));
    REQUIRE(!gm_chat_read(second, json, n_json, NULL));
    REQUIRE(!gm_chat_render(second, flags, &again));
    REQUIRE(again.n_bytes == n && !memcmp(again.text, text, n));
    free(json);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint32_t variants[] = { GEMMA_CHAT_GEMMA4_LARGE, GEMMA_CHAT_GEMMA3, GEMMA_CHAT_GEMMA4_SMALL,
                                         GEMMA_CHAT_GEMMA4_LARGE };
    static small_vocab v;
    if (n == 0) return 0;
    uint32_t variant = variants[data[0] & 3], flags = data[0] >> 2 & 7;
    const char *json = (const char *)data + 1;
    gm_mem mem;
    gm_tokenizer *t;
    gm_chat *c, *second;
    gm_mem_init(&mem, NULL);
    chat_small_init(&v, variant != GEMMA_CHAT_GEMMA3);
    REQUIRE(!gm_tokenizer_create(&mem, &v.input, &t, NULL));
    REQUIRE(!gm_chat_create(&mem, t, variant, &c, NULL) && !gm_chat_create(&mem, t, variant, &second, NULL));
    int rc;
    if (data[0] & 32) {
        rc = gm_chat_add_json(c, json, n - 1);
        if (rc) rc = gm_chat_add_tool(c, json, n - 1);
        gm_chat_add_call(c, NULL, "f", json, n - 1);
    } else {
        rc = gm_chat_read(c, json, n - 1, NULL);
        if (rc) REQUIRE(gm_chat_n_messages(c) == 0);
    }
    REQUIRE(rc == GEMMA_OK || gm_chat_error(c)->message[0]);
    gm_rendering r;
    rc = gm_chat_render(c, flags, &r);
    REQUIRE(rc == GEMMA_OK || rc == GEMMA_E_UNSUPPORTED || rc == GEMMA_E_STATE);
    if (!rc) {
        check_text(t, &r);
        check_ids(t, &r, variant == GEMMA_CHAT_GEMMA3);
        check_again(c, second, flags, &r);
    }
    while (gm_chat_drop_oldest(c)) REQUIRE(gm_chat_render(c, flags, &r) != GEMMA_E_NOMEM);
    gm_chat_destroy(second);
    gm_chat_destroy(c);
    gm_tokenizer_destroy(t);
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++) REQUIRE(gm_mem_live(&mem, tag) == 0);
    return 0;
}
