/* Half a million merges, three texts to be found for each: in batches, so that the tables' memory is asked for long
 * before it is needed. */
#include "tokenizer/vocab.h"

enum { PARTS = 3, N_BATCH = 64 };
static const char *const part_names[PARTS] = { "left part", "right part", "result" };

typedef struct merge {
    uint32_t at[PARTS], n[PARTS]; /* in batch.text; the result is left and right in a row */
    uint64_t hash[PARTS];
    uint32_t rank;
    bool plain; /* text may lead to it: all its tokens are normal */
} merge;

typedef struct batch {
    merge merges[N_BATCH];
    char text[N_BATCH * 2 * GM_TOKEN_BYTES_MAX];
} batch;

/* Splits "left right" at the first space behind its first byte, and puts the texts behind those of the batch. */
static int split_merge(batch *b, uint32_t n_batch, uint32_t rank, const char *text, size_t n, gemma_error *error)
{
    const char *space = n > 1 && n <= 2 * GM_TOKEN_BYTES_MAX + 1 ? memchr(text + 1, ' ', n - 1) : NULL;
    size_t n_left = space ? (size_t)(space - text) : 0, n_right = space ? n - n_left - 1 : 0;
    if (n_right == 0 || text[0] == ' ' || memchr(space + 1, ' ', n_right))
        return gm_fail(error, GEMMA_E_FORMAT, "merge %u is not two token texts with a space between them", rank);
    merge *m = b->merges + n_batch;
    const merge *before = n_batch ? m - 1 : NULL;
    uint32_t at = before ? before->at[2] + before->n[2] : 0;
    n_left = gm_text_with_spaces(b->text + at, text, n_left);
    n_right = gm_text_with_spaces(b->text + at + n_left, space + 1, n_right);
    *m = (merge){ .at = { at, at + (uint32_t)n_left, at },
                  .n = { (uint32_t)n_left, (uint32_t)n_right, (uint32_t)(n_left + n_right) },
                  .rank = rank };
    return GEMMA_OK;
}

static void fetch_texts(const gm_tokenizer *t, batch *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < PARTS; k++) {
            merge *m = b->merges + i;
            m->hash[k] = gm_text_hash(b->text + m->at[k], m->n[k]);
            GM_PREFETCH(t->texts + gm_text_home(t, m->hash[k]));
        }
    const uint32_t *longer[N_BATCH * PARTS]; /* where texts begin that must be compared, most likely */
    uint32_t n_longer = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < PARTS; k++) {
            if (b->merges[i].n[k] <= GM_EXACT_HASH) continue;
            const gm_text_slot *slot = t->texts + gm_text_home(t, b->merges[i].hash[k]);
            longer[n_longer] = t->at + (slot->token ? slot->token - 1 : 0);
            GM_PREFETCH(longer[n_longer++]);
        }
    for (uint32_t i = 0; i < n_longer; i++) GM_PREFETCH(t->text + *longer[i]);
}

static int find_parts(gm_tokenizer *t, const batch *b, merge *m, gemma_error *error)
{
    int32_t ids[PARTS];
    m->plain = true;
    for (uint32_t k = 0; k < PARTS; k++) {
        const char *text = b->text + m->at[k];
        ids[k] = gm_text_find_hashed(t, text, m->n[k], m->hash[k], GM_TYPES_NORMAL);
        if (ids[k] >= 0) continue;
        m->plain = false;
        if (gm_text_find_hashed(t, text, m->n[k], m->hash[k], GM_TYPES_OTHER) < 0)
            return gm_fail(error, GEMMA_E_FORMAT, "merge %u: its %s is not in the vocabulary", m->rank, part_names[k]);
    }
    if (m->plain) t->pairs[m->rank] = (gm_pair){ (uint32_t)ids[0], (uint32_t)ids[1], (uint32_t)ids[2] };
    return GEMMA_OK;
}

static int enter_batch(gm_tokenizer *t, batch *b, uint32_t n, gemma_error *error)
{
    fetch_texts(t, b, n);
    for (uint32_t i = 0; i < n; i++) {
        merge *m = b->merges + i;
        int rc = find_parts(t, b, m, error);
        if (rc) return rc;
        if (!m->plain) continue;
        const gm_pair *pair = t->pairs + m->rank;
        GM_PREFETCH(t->pair_slots + gm_pair_home(t, gm_pair_hash(pair->left, pair->right)));
        gm_joins_add_border(&t->joins, b->text + m->at[0], m->n[2], m->n[0]);
    }
    for (uint32_t i = 0; i < n; i++) {
        int rc = b->merges[i].plain ? gm_pair_enter(t, b->merges[i].rank, error) : GEMMA_OK;
        if (rc) return rc;
    }
    return GEMMA_OK;
}

int gm_read_merges(gm_tokenizer *t, const gm_vocab_input *in, gemma_error *error)
{
    batch *b = gm_new(t->mem, sizeof *b, GEMMA_TAG_OBJECT);
    if (!b) return gm_fail_nomem(error, "reading the merges", sizeof *b);
    int rc = GEMMA_OK;
    uint32_t n_batch = 0;
    for (uint32_t i = 0; i < in->n_merges && !rc; i++) {
        const char *text = NULL;
        size_t n = 0;
        if (!in->merge(in->user, i, &text, &n))
            rc = gm_fail(error, GEMMA_E_FORMAT, "merge %u cannot be read", i);
        else
            rc = split_merge(b, n_batch++, i, text, n, error);
        if (!rc && (n_batch == N_BATCH || i + 1 == in->n_merges)) {
            rc = enter_batch(t, b, n_batch, error);
            n_batch = 0;
        }
    }
    gm_delete(t->mem, b);
    return rc;
}
