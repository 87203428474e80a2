/* From the arrays of a file to checked tables. */
#include "tokenizer/vocab.h"

static int fail_tables(gemma_error *error, uint64_t n_bytes)
{
    return gm_fail_nomem(error, "the tables of the vocabulary", n_bytes);
}

static int check_input(const gm_vocab_input *in, gemma_error *error)
{
    if (in->n_tokens == 0 || in->n_tokens > GM_TOKENS_MAX)
        return gm_fail(error, GEMMA_E_FORMAT, "a vocabulary of %u tokens, not 1 to %d", in->n_tokens, GM_TOKENS_MAX);
    if (in->bpe && in->n_merges > GM_MERGES_MAX)
        return gm_fail(error, GEMMA_E_FORMAT, "%u merges, at most %d", in->n_merges, GM_MERGES_MAX);
    if (!in->bpe && !in->scores) return gm_fail(error, GEMMA_E_FORMAT, "the vocabulary has no scores");
    const struct {
        const char *name;
        int32_t id;
    } special[] = { { "bos", in->bos }, { "eos", in->eos }, { "unknown", in->unknown }, { "padding", in->padding } };
    for (size_t i = 0; i < GM_COUNT(special); i++)
        if (special[i].id < -1 || (special[i].id >= 0 && (uint32_t)special[i].id >= in->n_tokens))
            return gm_fail(error, GEMMA_E_FORMAT, "the %s token is %d, outside the vocabulary of %u", special[i].name,
                           special[i].id, in->n_tokens);
    return GEMMA_OK;
}

static uint32_t table_log2(uint32_t n) /* at most half full */
{
    uint32_t log2 = 4;
    while (((uint64_t)1 << log2) < (uint64_t)n * 2) log2++;
    return log2;
}

static int allocate(gm_tokenizer *t, const gm_vocab_input *in, gemma_error *error)
{
    uint64_t n = t->n_tokens;
    t->text_log2 = table_log2(in->n_tokens);
    t->pair_log2 = table_log2(in->n_merges);
    uint64_t n_text_slots = (uint64_t)1 << t->text_log2, n_pair_slots = (uint64_t)1 << t->pair_log2;
    t->at = gm_new_array(t->mem, n + 1, sizeof *t->at, GEMMA_TAG_VOCAB);
    t->type = gm_new_array(t->mem, n, sizeof *t->type, GEMMA_TAG_VOCAB);
    t->whole = gm_new_array(t->mem, n, sizeof *t->whole, GEMMA_TAG_VOCAB);
    t->texts = gm_new_array(t->mem, n_text_slots, sizeof *t->texts, GEMMA_TAG_VOCAB);
    t->joins.other = gm_new(t->mem, ((uint64_t)1 << GM_JOIN_BITS_LOG2) / 8, GEMMA_TAG_VOCAB);
    bool ok = t->at && t->type && t->whole && t->texts && t->joins.other;
    if (t->bpe) {
        t->pair_slots = gm_new_array(t->mem, n_pair_slots, sizeof *t->pair_slots, GEMMA_TAG_VOCAB);
        t->pairs = gm_new_array(t->mem, (uint64_t)in->n_merges + 1, sizeof *t->pairs, GEMMA_TAG_VOCAB);
        ok = ok && t->pair_slots && t->pairs;
    } else {
        t->rank = gm_new_array(t->mem, n, sizeof *t->rank, GEMMA_TAG_VOCAB);
        ok = ok && t->rank;
    }
    uint64_t n_bytes = n_text_slots * sizeof *t->texts + (t->bpe ? n_pair_slots * sizeof *t->pair_slots : 0);
    return ok ? GEMMA_OK : fail_tables(error, n_bytes);
}

static int read_type(const gm_vocab_input *in, uint32_t id, const char *text, size_t n, uint8_t *out,
                     gemma_error *error)
{
    int32_t type = GM_TOKEN_NORMAL;
    if (in->types) {
        type = (int32_t)gm_load_u32((const char *)in->types + (size_t)id * 4);
        if (type < GM_TOKEN_NORMAL || type > GM_TOKEN_BYTE)
            return gm_fail(error, GEMMA_E_FORMAT, "token %u has type %d, not %d to %d", id, type, GM_TOKEN_NORMAL,
                           GM_TOKEN_BYTE);
    } else if (gm_byte_value(text, n) >= 0) {
        type = GM_TOKEN_BYTE;
    }
    /* Some files type it as normal. */
    if (in->bpe && id == 1 && type == GM_TOKEN_NORMAL && n == 5 && !memcmp(text, "<eos>", 5)) type = GM_TOKEN_CONTROL;
    *out = (uint8_t)type;
    return GEMMA_OK;
}

static bool text_is(const char *text, size_t n, const char *wanted)
{
    return n == strlen(wanted) && !memcmp(text, wanted, n);
}

static uint32_t marker_kind(const gm_tokenizer *t, uint32_t type, const char *text, size_t n)
{
    if (type == GM_TOKEN_CONTROL || type == GM_TOKEN_UNKNOWN) return GM_MARKER_CONTROL;
    if (t->bpe || text_is(text, n, "[multimodal]") || text_is(text, n, "<start_of_image>") ||
        text_is(text, n, "<end_of_image>"))
        return GM_MARKER_INJECTION;
    return GM_MARKER_USER;
}

/* Keeps the text of token `id` behind those before it. */
static int keep_text(gm_tokenizer *t, uint32_t id, const char *text, size_t n, gemma_error *error)
{
    uint64_t end = (uint64_t)t->at[id] + n;
    if (end > UINT32_MAX) return gm_fail(error, GEMMA_E_FORMAT, "token %u: over 4 GiB of token texts", id);
    if (end > t->text_room) {
        uint64_t grown = end + end / 2 + (uint64_t)t->n_tokens * 8;
        char *texts = gm_mem_alloc(t->mem, grown, 16, GEMMA_TAG_VOCAB);
        if (!texts) return fail_tables(error, grown);
        if (t->text) memcpy(texts, t->text, t->at[id]);
        gm_mem_free(t->mem, t->text, t->text_room, GEMMA_TAG_VOCAB);
        t->text = texts;
        t->text_room = grown;
    }
    if (t->type[id] == GM_TOKEN_NORMAL)
        n = gm_text_with_spaces(t->text + t->at[id], text, n);
    else if (n)
        memcpy(t->text + t->at[id], text, n);
    t->at[id + 1] = t->at[id] + (uint32_t)n;
    return GEMMA_OK;
}

static int read_tokens(gm_tokenizer *t, const gm_vocab_input *in, gemma_error *error)
{
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        const char *text = NULL;
        size_t n = 0;
        if (!in->token(in->user, id, &text, &n)) return gm_fail(error, GEMMA_E_FORMAT, "token %u cannot be read", id);
        if (n > GM_TOKEN_BYTES_MAX)
            return gm_fail(error, GEMMA_E_FORMAT, "token %u has %zu bytes, at most %d", id, n, GM_TOKEN_BYTES_MAX);
        int rc = read_type(in, id, text, n, &t->type[id], error);
        if (!rc) rc = keep_text(t, id, text, n, error);
        if (rc) return rc;
        uint32_t type = t->type[id];
        t->longest = gm_max_u32(t->longest, (uint32_t)n);
        if (type == GM_TOKEN_UNUSED || n == 0) {
            t->whole[id] = GM_WHOLE_NEVER;
        } else if (type == GM_TOKEN_NORMAL) {
            if (memchr(text, ' ', n)) t->whole[id] = GM_WHOLE_NEVER; /* no text has a space when it is searched */
            t->longest_normal = gm_max_u32(t->longest_normal, t->at[id + 1] - t->at[id]);
        } else if (type == GM_TOKEN_BYTE) {
            int value = gm_byte_value(text, n);
            if (value < 0) return gm_fail(error, GEMMA_E_FORMAT, "token %u is a byte but its text is not <0xHH>", id);
            if (t->byte_id[value] < 0) t->byte_id[value] = (int32_t)id;
        } else {
            rc = gm_markers_add(t, text, n, (int32_t)id, marker_kind(t, type, text, n), error);
        }
        if (rc) return rc;
    }
    for (uint32_t value = 0; value < 256; value++)
        if (t->byte_id[value] < 0) return gm_fail(error, GEMMA_E_FORMAT, "no token stands for the byte 0x%x", value);
    return GEMMA_OK;
}

static int enter_texts(gm_tokenizer *t, gemma_error *error)
{
    enum { AHEAD = 16 };
    uint64_t hashes[AHEAD]; /* of the next tokens, whose slots are on their way from memory */
    for (uint32_t i = 0; i < t->n_tokens + AHEAD; i++) {
        uint64_t *hash = hashes + i % AHEAD;
        if (i >= AHEAD && t->whole[i - AHEAD] != GM_WHOLE_NEVER) {
            int rc = gm_text_enter(t, i - AHEAD, *hash, error);
            if (rc) return rc;
        }
        if (i >= t->n_tokens) continue;
        size_t n;
        const char *text = gm_token_text(t, i, &n);
        *hash = gm_text_hash(text, n);
        GM_PREFETCH(t->texts + gm_text_home(t, *hash));
    }
    return GEMMA_OK;
}

static int read_scores(gm_tokenizer *t, const gm_vocab_input *in, gemma_error *error)
{
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        float score = gm_load_f32((const char *)in->scores + (size_t)id * 4);
        if (score != score) return gm_fail(error, GEMMA_E_FORMAT, "the score of token %u is not a number", id);
        uint32_t bits = gm_f32_bits(score + 0.0f); /* one zero */
        t->rank[id] = bits >> 31 ? bits : ~(bits | 0x80000000u);
        size_t n;
        const char *text = gm_token_text(t, id, &n);
        if (t->type[id] == GM_TOKEN_NORMAL) gm_joins_add_text(&t->joins, text, n);
    }
    return GEMMA_OK;
}

static void add_end(gm_tokenizer *t, int32_t id)
{
    if (id >= 0 && !gm_tokenizer_is_end(t, id)) t->ends[t->n_ends++] = id;
}

static void find_ends(gm_tokenizer *t)
{
    size_t n;
    const char *text;
    if (t->eos >= 0 && (text = gm_token_text(t, (uint32_t)t->eos, &n), !text_is(text, n, "</s>"))) add_end(t, t->eos);
    if (t->n_tokens > 1 && (text = gm_token_text(t, 1, &n), text_is(text, n, "<eos>"))) add_end(t, 1);
    static const char *const spm[] = { "<end_of_turn>" }, *const bpe[] = { "<turn|>", "<|tool_response>" };
    const char *const *names = t->bpe ? bpe : spm;
    for (size_t i = 0; i < (t->bpe ? GM_COUNT(bpe) : GM_COUNT(spm)); i++)
        add_end(t, gm_tokenizer_find(t, names[i], strlen(names[i])));
}

int gm_tokenizer_create(gm_mem *mem, const gm_vocab_input *input, gm_tokenizer **out, gemma_error *error)
{
    *out = NULL;
    int rc = check_input(input, error);
    if (rc) return rc;
    gm_tokenizer *t = gm_new(mem, sizeof *t, GEMMA_TAG_VOCAB);
    if (!t) return fail_tables(error, sizeof *t);
    t->mem = mem;
    t->bpe = input->bpe;
    t->add_space_prefix = !input->bpe && input->add_space_prefix;
    t->n_tokens = input->n_tokens;
    t->bos = input->bos;
    t->eos = input->eos;
    t->unknown = input->unknown;
    t->padding = input->padding;
    memset(t->byte_id, -1, sizeof t->byte_id);
    for (uint32_t i = 0; i < 256; i++) t->byte_text[i] = (char)i;

    rc = allocate(t, input, error);
    if (!rc) rc = read_tokens(t, input, error);
    if (!rc) rc = enter_texts(t, error);
    if (rc) goto done;
    for (uint32_t i = 0; i < 128; i++) {
        char c = (char)i;
        t->ascii_id[i] = gm_text_find(t, &c, 1, GM_TYPES_NORMAL);
    }
    rc = t->bpe ? gm_read_merges(t, input, error) : read_scores(t, input, error);
    if (rc) goto done;
    find_ends(t);
done:
    if (rc) {
        gm_tokenizer_destroy(t);
        t = NULL;
    }
    *out = t;
    return rc;
}

void gm_tokenizer_destroy(gm_tokenizer *t)
{
    if (!t) return;
    gm_mem *mem = t->mem;
    gm_mem_free(mem, t->text, t->text_room, GEMMA_TAG_VOCAB);
    gm_delete(mem, t->at);
    gm_delete(mem, t->type);
    gm_delete(mem, t->whole);
    gm_delete(mem, t->texts);
    gm_delete(mem, t->rank);
    gm_delete(mem, t->pairs);
    gm_delete(mem, t->pair_slots);
    gm_delete(mem, t->markers.nodes);
    gm_delete(mem, t->joins.other);
    gm_delete(mem, t);
}
