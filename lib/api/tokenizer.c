#include "api/handles.h"

/* The vocabulary's string arrays, walked in order. */
typedef struct walk {
    gm_strings tokens, merges;
} walk;

static bool next_string(gm_strings *strings, const char **text, size_t *n)
{
    gm_str s;
    if (!gm_strings_next(strings, &s)) return false;
    *text = s.data;
    *n = s.n;
    return true;
}

static bool next_token(void *user, uint32_t i, const char **text, size_t *n)
{
    (void)i;
    return next_string(&((walk *)user)->tokens, text, n);
}

static bool next_merge(void *user, uint32_t i, const char **text, size_t *n)
{
    (void)i;
    return next_string(&((walk *)user)->merges, text, n);
}

static bool is(gm_str s, const char *text) { return s.n == strlen(text) && !memcmp(s.data, text, s.n); }

static int32_t special_id(const gm_gguf *g, const char *key)
{
    uint32_t id;
    return gm_gguf_u32(g, key, &id) && id <= INT32_MAX ? (int32_t)id : -1;
}

/* Which tokenizer the file asks for. Files made by Ollama call Gemma 4's "llama", with pre = "gemma4" and merges. */
static int read_kind(const gm_gguf *g, bool *bpe, gemma_error *error)
{
    gm_str model, pre = { "", 0 };
    if (!gm_gguf_string(g, "tokenizer.ggml.model", &model))
        return gm_fail(error, GEMMA_E_FORMAT, "%s: no key tokenizer.ggml.model: the file has no tokenizer",
                       gm_gguf_name(g));
    gm_gguf_string(g, "tokenizer.ggml.pre", &pre);
    bool merges = gm_gguf_has(g, "tokenizer.ggml.merges");
    if (is(model, "gemma4") || (is(model, "llama") && is(pre, "gemma4") && merges))
        *bpe = true;
    else if (is(model, "llama"))
        *bpe = false;
    else
        return gm_fail(error, GEMMA_E_UNSUPPORTED, "%s: tokenizer model \"%.*s\"; known are llama (Gemma 3) and gemma4",
                       gm_gguf_name(g), (int)gm_min_u64(model.n, 60), model.data);
    return GEMMA_OK;
}

/* Length of an array that must have one element of `type` per token, or absent (*data NULL). */
static int per_token_array(const gm_gguf *g, const char *key, uint32_t type, uint64_t n_tokens, const void **data,
                           gemma_error *error)
{
    uint32_t has_type;
    uint64_t n;
    *data = NULL;
    if (!gm_gguf_array(g, key, &has_type, &n)) return GEMMA_OK;
    if (has_type != type || n != n_tokens)
        return gm_fail(error, GEMMA_E_FORMAT, "%s: %s has %llu entries of type %u, but there are %llu tokens",
                       gm_gguf_name(g), key, (unsigned long long)n, has_type, (unsigned long long)n_tokens);
    *data = gm_gguf_array_data(g, key);
    return GEMMA_OK;
}

static int read_vocab(const gm_gguf *g, walk *w, gm_vocab_input *in, gemma_error *error)
{
    uint32_t type;
    uint64_t n_tokens, n_merges = 0;
    int rc = read_kind(g, &in->bpe, error);
    if (rc) return rc;
    if (!gm_gguf_array(g, "tokenizer.ggml.tokens", &type, &n_tokens) || type != GM_GGUF_STRING || n_tokens > INT32_MAX)
        return gm_fail(error, GEMMA_E_FORMAT, "%s: tokenizer.ggml.tokens is missing or not a list of strings",
                       gm_gguf_name(g));
    if (in->bpe && (!gm_gguf_array(g, "tokenizer.ggml.merges", &type, &n_merges) || type != GM_GGUF_STRING ||
                    n_merges > INT32_MAX))
        return gm_fail(error, GEMMA_E_FORMAT, "%s: tokenizer.ggml.merges is missing or not a list of strings",
                       gm_gguf_name(g));
    rc = per_token_array(g, "tokenizer.ggml.scores", GM_GGUF_F32, n_tokens, &in->scores, error);
    if (!rc) rc = per_token_array(g, "tokenizer.ggml.token_type", GM_GGUF_I32, n_tokens, &in->types, error);
    if (rc) return rc;
    gm_gguf_strings(g, "tokenizer.ggml.tokens", &w->tokens);
    gm_gguf_strings(g, "tokenizer.ggml.merges", &w->merges);
    in->n_tokens = (uint32_t)n_tokens;
    in->n_merges = (uint32_t)n_merges;
    in->user = w;
    in->token = next_token;
    in->merge = next_merge;
    in->bos = special_id(g, "tokenizer.ggml.bos_token_id");
    in->eos = special_id(g, "tokenizer.ggml.eos_token_id");
    in->unknown = special_id(g, "tokenizer.ggml.unknown_token_id");
    in->padding = special_id(g, "tokenizer.ggml.padding_token_id");
    in->add_space_prefix = !in->bpe;
    gm_gguf_bool(g, "tokenizer.ggml.add_space_prefix", &in->add_space_prefix);
    return GEMMA_OK;
}

int gemma_tokenizer_create(gemma_file *file, gemma_tokenizer **out, gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_tokenizer_create: out is NULL");
    *out = NULL;
    if (!file) return gm_fail(error, GEMMA_E_ARG, "gemma_tokenizer_create: file is NULL");
    gemma_runtime *rt = file->runtime;
    walk w = { 0 };
    gm_vocab_input input = { .pool = rt->pool };
    int rc = read_vocab(file->gguf, &w, &input, error);
    if (rc) return rc;
    gemma_tokenizer *t = gm_new(&rt->mem, sizeof *t, GEMMA_TAG_OBJECT);
    if (!t) return gm_fail_nomem(error, "a tokenizer handle", sizeof *t);
    rc = gm_tokenizer_create(&rt->mem, &input, &t->tokenizer, error);
    if (rc) {
        gm_delete(&rt->mem, t);
        return rc;
    }
    gm_ref_init(&t->ref);
    t->runtime = rt;
    gm_ref_take(&rt->ref);
    *out = t;
    return GEMMA_OK;
}

void gemma_tokenizer_destroy(gemma_tokenizer *t)
{
    if (!t || !gm_ref_drop(&t->ref)) return;
    gemma_runtime *rt = t->runtime;
    gm_tokenizer_destroy(t->tokenizer);
    gm_delete(&rt->mem, t);
    gm_runtime_drop(rt);
}

int gemma_tokenizer_describe(const gemma_tokenizer *t, gemma_tokenizer_info *info)
{
    if (!t || !info) return GEMMA_E_ARG;
    gemma_tokenizer_info full = {
        .size = sizeof full,
        .n_vocab = gm_tokenizer_n_vocab(t->tokenizer),
        .bos = gm_tokenizer_bos(t->tokenizer),
        .eos = gm_tokenizer_eos(t->tokenizer),
        .unknown = gm_tokenizer_unknown(t->tokenizer),
        .padding = gm_tokenizer_padding(t->tokenizer),
    };
    return gm_result_write(info, &full, sizeof full);
}

int gemma_tokenize(const gemma_tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, int32_t *ids,
                   size_t n_cap, size_t *n_ids)
{
    if (!t || !n_ids || (!text && n_bytes) || (!ids && n_cap)) return GEMMA_E_ARG;
    return gm_tokenizer_encode(t->tokenizer, text, n_bytes, flags, ids, n_cap, n_ids);
}

int gemma_detokenize(const gemma_tokenizer *t, const int32_t *ids, size_t n_ids, uint32_t flags, char *buffer,
                     size_t n_cap, size_t *n_bytes)
{
    if (!t || !n_bytes || (!ids && n_ids) || (!buffer && n_cap)) return GEMMA_E_ARG;
    return gm_tokenizer_decode(t->tokenizer, ids, n_ids, flags, buffer, n_cap, n_bytes);
}

int gemma_token_is_end(const gemma_tokenizer *t, int32_t id) { return t && gm_tokenizer_is_end(t->tokenizer, id); }
