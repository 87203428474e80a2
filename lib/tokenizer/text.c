#include "tokenizer/vocab.h"

int gm_text_enter(gm_tokenizer *t, uint32_t id, uint64_t hash, gemma_error *error)
{
    size_t n;
    const char *text = gm_token_text(t, id, &n);
    uint32_t mask = ((uint32_t)1 << t->text_log2) - 1, i = gm_text_home(t, hash);
    for (uint32_t probe = 0; probe < GM_PROBES_MAX; probe++, i = (i + 1) & mask) {
        uint32_t slot = t->texts[i];
        if (!slot) {
            t->texts[i] = gm_text_tag(hash) | (id + 1);
            return GEMMA_OK;
        }
        if (!((slot ^ gm_text_tag(hash)) >> GM_TEXT_ID_BITS) && t->type[gm_text_slot_id(slot)] == t->type[id] &&
            gm_text_is(t, gm_text_slot_id(slot), text, n)) {
            t->whole[id] = GM_WHOLE_NEVER;
            return GEMMA_OK;
        }
    }
    return gm_fail(error, GEMMA_E_FORMAT, "token %u: over %d token texts share a place in the hash table", id,
                   GM_PROBES_MAX);
}

size_t gm_text_with_spaces(char *dst, const char *text, size_t n)
{
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        if (text[i] == '\xe2' && gm_is_space_mark(text + i, n - i)) {
            dst[n_out++] = ' ';
            i += 3;
        } else {
            dst[n_out++] = text[i++];
        }
    }
    return n_out;
}

int32_t gm_tokenizer_find(const gm_tokenizer *t, const char *text, size_t n_bytes)
{
    if (n_bytes > GM_TOKEN_BYTES_MAX) return -1;
    int32_t id = gm_text_find(t, text, n_bytes, GM_TYPES_OTHER);
    if (id >= 0) return id;
    char spaced[GM_TOKEN_BYTES_MAX];
    size_t n = gm_text_with_spaces(spaced, text, n_bytes);
    return gm_text_find(t, spaced, n, GM_TYPES_NORMAL);
}

uint32_t gm_tokenizer_n_vocab(const gm_tokenizer *t) { return t->n_tokens; }
int32_t gm_tokenizer_bos(const gm_tokenizer *t) { return t->bos; }
int32_t gm_tokenizer_eos(const gm_tokenizer *t) { return t->eos; }
int32_t gm_tokenizer_unknown(const gm_tokenizer *t) { return t->unknown; }
int32_t gm_tokenizer_padding(const gm_tokenizer *t) { return t->padding; }

uint32_t gm_tokenizer_token_type(const gm_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_tokens ? t->type[id] : 0;
}

bool gm_tokenizer_is_end(const gm_tokenizer *t, int32_t id)
{
    for (uint32_t i = 0; i < t->n_ends; i++)
        if (t->ends[i] == id) return true;
    return false;
}
