#include "model/family.h"

enum { TOKEN_UNUSED = 5 }; /* the type of padding rows, "[PAD262145]" */

/* Marks ids of the file's own list and padding ids; an id outside the vocabulary cannot be drawn anyway. */
static void mark_suppressed(const gm_keys *k, bool *marked)
{
    const char *list = "tokenizer.ggml.suppress_tokens", *types = "tokenizer.ggml.token_type";
    uint32_t type, n_vocab = k->m->n_vocab;
    uint64_t n;
    int64_t id;
    if (gm_gguf_array(k->gguf, list, &type, &n)) {
        for (uint64_t i = 0; i < n && gm_gguf_array_int(k->gguf, list, i, &id); i++)
            if (id >= 0 && id < n_vocab) marked[id] = true;
    }
    if (gm_gguf_array(k->gguf, types, &type, &n) && (type == GM_GGUF_I32 || type == GM_GGUF_U32)) {
        const uint8_t *data = gm_gguf_array_data(k->gguf, types);
        for (uint64_t i = 0; data && i < n && i < n_vocab; i++)
            if (gm_load_u32(data + 4 * i) == TOKEN_UNUSED) marked[i] = true;
    }
}

static int collect(const gm_keys *k, const bool *marked)
{
    gm_model *m = k->m;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_vocab; i++) n += marked[i];
    if (n == m->n_vocab) return gm_fail(k->error, GEMMA_E_FORMAT, "all %u tokens are unused or suppressed", m->n_vocab);
    if (n == 0) return GEMMA_OK;
    m->suppressed = gm_new_array(m->mem, n, sizeof *m->suppressed, GEMMA_TAG_FILE);
    if (!m->suppressed) return gm_fail_nomem(k->error, "the list of suppressed tokens", n * sizeof *m->suppressed);
    for (uint32_t i = 0; i < m->n_vocab; i++)
        if (marked[i]) m->suppressed[m->n_suppressed++] = (int32_t)i;
    return GEMMA_OK;
}

int gm_vocab_read(const gm_keys *k)
{
    gm_model *m = k->m;
    uint32_t type;
    uint64_t n_tokens, n_rows = m->weights[m->roles->token_embd].n_out;
    if (!gm_gguf_array(k->gguf, "tokenizer.ggml.tokens", &type, &n_tokens)) n_tokens = n_rows;
    if (n_tokens == 0) return gm_fail(k->error, GEMMA_E_FORMAT, "tokenizer.ggml.tokens is empty");
    if (n_tokens > n_rows) /* fewer are fine: rows at the end may be padding */
        return gm_fail(k->error, GEMMA_E_FORMAT,
                       "tokenizer.ggml.tokens has %llu entries, but token_embd.weight %llu rows",
                       (unsigned long long)n_tokens, (unsigned long long)n_rows);
    m->n_vocab = (uint32_t)n_tokens;
    bool *marked = gm_new(m->mem, m->n_vocab, GEMMA_TAG_FILE);
    if (!marked) return gm_fail_nomem(k->error, "a table of suppressed tokens", m->n_vocab);
    mark_suppressed(k, marked);
    int rc = collect(k, marked);
    gm_delete(m->mem, marked);
    return rc;
}
