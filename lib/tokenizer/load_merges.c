/* Half a million merges, three texts to be found for each: in batches, so that the tables' memory is asked for long
 * before it is needed, and by all threads of the pool, each with a range of ranks. */
#include "tokenizer/vocab.h"

enum { TEXTS = 3, N_BATCH = 64, MAX_PARTS = 8, MISSES_MAX = N_BATCH / 4 };
static const char *const text_names[TEXTS] = { "left part", "right part", "result" };

#define NOT_PLAIN UINT32_MAX /* gm_pair.left of a merge that no text leads to: one of its tokens is not normal */

typedef struct merge {
    uint32_t at[TEXTS], n[TEXTS]; /* in batch.text; the result is left and right in a row */
    uint64_t hash[TEXTS];
    uint32_t rank, n_texts; /* to be found: 2 where the result is known */
    int32_t ids[TEXTS];
} merge;

/* What one thread works with. */
typedef struct batch {
    merge merges[N_BATCH];
    uint32_t n, n_text;
    /* In most vocabularies a merge has the result of the merge before, or the token behind that. */
    uint32_t result, n_misses;
    bool in_order; /* of the batch before so many were like this that another one is found at once */
    int rc;
    gemma_error error; /* of the lowest rank */
    char text[N_BATCH * 2 * GM_TOKEN_BYTES_MAX];
} batch;

typedef struct work {
    gm_tokenizer *t;
    uint32_t n_merges, n_parts;
    batch *parts;
} work;

/* ---- texts, until they are found in the place of their pair ---- */

static void keep_text(gm_pair *pair, const char *text, size_t n)
{
    memcpy(pair, &text, sizeof text);
    pair->result = (uint32_t)n;
}

static const char *kept_text(const gm_pair *pair, size_t *n)
{
    const char *text;
    memcpy(&text, pair, sizeof text);
    *n = pair->result;
    return text;
}
_Static_assert(sizeof(char *) <= offsetof(gm_pair, result), "a text's address lies in front of its length");

static int keep_texts(gm_tokenizer *t, const gm_vocab_input *in, gemma_error *error)
{
    for (uint32_t i = 0; i < in->n_merges; i++) {
        const char *text = NULL;
        size_t n = 0;
        if (!in->merge(in->user, i, &text, &n)) return gm_fail(error, GEMMA_E_FORMAT, "merge %u cannot be read", i);
        keep_text(t->pairs + i, text, gm_min_u64(n, UINT32_MAX));
    }
    return GEMMA_OK;
}

/* ---- a batch ---- */

/* Splits "left right" at its space, and puts the texts behind those of the batch. */
static int split_merge(batch *b, uint32_t rank, const char *text, size_t n)
{
    merge *m = b->merges + b->n;
    char *to = b->text + b->n_text;
    uint32_t n_to = 0, n_left = 0;
    bool good = n > 2 && n <= 2 * GM_TOKEN_BYTES_MAX + 1;
    for (size_t i = 0; i < n && good; i++) {
        char c = text[i];
        if (c == ' ') {
            good = n_to && !n_left && i + 1 < n;
            n_left = n_to;
        } else if (c == '\xe2' && gm_is_space_mark(text + i, n - i)) {
            to[n_to++] = ' ';
            i += 2;
        } else {
            to[n_to++] = c;
        }
    }
    if (!good || !n_left)
        return gm_fail(&b->error, GEMMA_E_FORMAT, "merge %u is not two token texts with a space between them", rank);
    m->rank = rank;
    m->n_texts = TEXTS;
    m->at[0] = m->at[2] = b->n_text;
    m->at[1] = b->n_text + n_left;
    m->n[0] = n_left;
    m->n[1] = n_to - n_left;
    m->n[2] = n_to;
    b->n_text += n_to;
    b->n++;
    return GEMMA_OK;
}

/* Whether texts that are equal to this one are found as token `id`. */
static bool is_found_as(const gm_tokenizer *t, uint32_t id, const char *text, size_t n)
{
    return id < t->n_tokens && t->type[id] == GM_TOKEN_NORMAL && t->whole[id] != GM_WHOLE_NEVER &&
           gm_text_is(t, id, text, n);
}

static void guess_result(const gm_tokenizer *t, batch *b)
{
    if (!b->in_order) return;
    merge *m = b->merges + b->n - 1;
    const char *text = b->text + m->at[2];
    if (!is_found_as(t, b->result, text, m->n[2])) {
        if (is_found_as(t, b->result + 1, text, m->n[2])) {
            b->result++;
        } else {
            int32_t id = gm_text_find(t, text, m->n[2], GM_TYPES_NORMAL);
            b->n_misses++;
            if (id < 0) return;
            b->result = (uint32_t)id;
        }
    }
    m->ids[2] = (int32_t)b->result;
    m->n_texts = 2;
}

static void fetch_texts(const gm_tokenizer *t, batch *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        merge *m = b->merges + i;
        for (uint32_t k = 0; k < m->n_texts; k++) {
            m->hash[k] = gm_text_hash(b->text + m->at[k], m->n[k]);
            GM_PREFETCH(t->texts + gm_text_home(t, m->hash[k]));
        }
    }
    const uint32_t *where[N_BATCH * TEXTS]; /* the texts begin that they must be compared with, most likely */
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const merge *m = b->merges + i;
        for (uint32_t k = 0; k < m->n_texts; k++) {
            uint32_t slot = t->texts[gm_text_home(t, m->hash[k])];
            where[n] = t->at + (slot ? gm_text_slot_id(slot) : 0);
            GM_PREFETCH(where[n++]);
        }
    }
    for (uint32_t i = 0; i < n; i++) GM_PREFETCH(t->text + *where[i]);
}

static int find_texts(gm_tokenizer *t, batch *b, merge *m)
{
    bool plain = true;
    for (uint32_t k = 0; k < m->n_texts; k++) {
        const char *text = b->text + m->at[k];
        m->ids[k] = gm_text_find_hashed(t, text, m->n[k], m->hash[k], GM_TYPES_NORMAL);
        if (m->ids[k] >= 0) continue;
        plain = false;
        if (gm_text_find_hashed(t, text, m->n[k], m->hash[k], GM_TYPES_OTHER) < 0)
            return gm_fail(&b->error, GEMMA_E_FORMAT, "merge %u: its %s is not in the vocabulary", m->rank,
                           text_names[k]);
    }
    if (plain) {
        t->pairs[m->rank] = (gm_pair){ (uint32_t)m->ids[0], (uint32_t)m->ids[1], (uint32_t)m->ids[2] };
        gm_joins_add_border(&t->joins, b->text + m->at[0], m->n[2], m->n[0]);
    } else {
        t->pairs[m->rank] = (gm_pair){ .left = NOT_PLAIN };
    }
    return GEMMA_OK;
}

/* What was found of the batch before says whether results are in the order of their tokens. */
static void begin_batch(batch *b)
{
    const merge *last = b->n ? b->merges + b->n - 1 : NULL;
    if (last && !b->in_order) {
        b->n_misses = 0;
        for (uint32_t i = 1; i < b->n; i++) {
            int64_t step = (int64_t)b->merges[i].ids[2] - b->merges[i - 1].ids[2];
            b->n_misses += step != 0 && step != 1;
        }
        if (last->ids[2] >= 0) b->result = (uint32_t)last->ids[2];
    }
    b->in_order = last && b->n_misses <= MISSES_MAX;
    b->n = b->n_text = b->n_misses = 0;
}

static void find_part(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    const work *w = arg;
    (void)phase, (void)n_parts;
    if (part >= w->n_parts) return;
    batch *b = w->parts + part;
    uint32_t i = (uint32_t)((uint64_t)w->n_merges * part / w->n_parts);
    uint32_t end = (uint32_t)((uint64_t)w->n_merges * (part + 1) / w->n_parts);
    gm_error_init(&b->error);
    while (i < end && !b->rc) {
        begin_batch(b);
        while (i < end && b->n < N_BATCH && !b->rc) {
            size_t n;
            const char *text = kept_text(w->t->pairs + i, &n);
            b->rc = split_merge(b, i++, text, n);
            if (!b->rc) guess_result(w->t, b);
        }
        int rc = GEMMA_OK; /* what is wrong with a merge before the one that cannot be split comes first */
        fetch_texts(w->t, b);
        for (uint32_t k = 0; k < b->n && !rc; k++) rc = find_texts(w->t, b, b->merges + k);
        if (rc) b->rc = rc;
    }
}

/* ---- the whole ---- */

static int enter_pairs(gm_tokenizer *t, uint32_t n, gemma_error *error)
{
    enum { AHEAD = 16 };
    for (uint32_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            const gm_pair *next = t->pairs + i + AHEAD;
            GM_PREFETCH(t->pair_slots + gm_pair_home(t, gm_pair_hash(next->left, next->right)));
        }
        int rc = t->pairs[i].left == NOT_PLAIN ? GEMMA_OK : gm_pair_enter(t, i, error);
        if (rc) return rc;
    }
    return GEMMA_OK;
}

int gm_read_merges(gm_tokenizer *t, const gm_vocab_input *in, gemma_error *error)
{
    uint32_t n_parts = in->pool ? gm_min_u32(gm_pool_n_threads(in->pool), MAX_PARTS) : 1;
    work w = { .t = t, .n_merges = in->n_merges, .n_parts = n_parts };
    int rc = keep_texts(t, in, error);
    if (rc) return rc;
    w.parts = gm_new_array(t->mem, n_parts, sizeof *w.parts, GEMMA_TAG_OBJECT);
    if (!w.parts) return gm_fail_nomem(error, "reading the merges", n_parts * sizeof *w.parts);
    if (in->pool)
        gm_pool_run(in->pool, find_part, &w, 1, NULL);
    else
        find_part(&w, 0, 0, 1);
    for (uint32_t i = 0; i < n_parts && !rc; i++)
        if (w.parts[i].rc) rc = gm_fail(error, w.parts[i].rc, "%s", w.parts[i].error.message);
    if (!rc) rc = enter_pairs(t, in->n_merges, error);
    gm_delete(t->mem, w.parts);
    return rc;
}
