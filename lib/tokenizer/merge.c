/* One engine for both kinds of vocabulary. The pair with the lowest rank merges first, the leftmost among equals. Ranks
 * are the order of the merges (bpe) or of the scores, best first (spm). */
#include "tokenizer/vocab.h"

int gm_pair_enter(gm_tokenizer *t, uint32_t rank, gemma_error *error)
{
    const gm_pair *pair = t->pairs + rank;
    uint64_t hash = gm_pair_hash(pair->left, pair->right);
    uint32_t mask = ((uint32_t)1 << t->pair_log2) - 1, i = gm_pair_home(t, hash);
    for (uint32_t probe = 0; probe < GM_PROBES_MAX; probe++, i = (i + 1) & mask) {
        uint32_t slot = t->pair_slots[i];
        if (!slot) {
            t->pair_slots[i] = gm_pair_tag(hash) | (rank + 1);
            return GEMMA_OK;
        }
        const gm_pair *there = t->pairs + (slot & 0xffffffu) - 1;
        if ((slot & 0xff000000u) == gm_pair_tag(hash) && there->left == pair->left && there->right == pair->right)
            return GEMMA_OK;
    }
    return gm_fail(error, GEMMA_E_FORMAT, "merge %u: over %d pairs share a place in the hash table", rank,
                   GM_PROBES_MAX);
}

/* Sets rank and result of `left`, whose right neighbour is `right` and ends at `end`. */
static void rank_pair(const gm_tokenizer *t, const char *part, gm_symbol *left, const gm_symbol *right, uint32_t end)
{
    left->rank = GM_NO_MERGE;
    if (t->bpe) {
        if (left->id < 0 || right->id < 0) return;
        left->rank = gm_pair_find(t, (uint32_t)left->id, (uint32_t)right->id);
        if (left->rank != GM_NO_MERGE) left->result = (int32_t)t->pairs[left->rank].result;
    } else {
        uint32_t n = end - left->at;
        if (n > t->longest_normal) return;
        left->result = gm_text_find(t, part + left->at, n, GM_TYPES_NORMAL);
        if (left->result >= 0) left->rank = t->rank[left->result];
    }
}

/* One symbol per character, and the end behind them. */
static void split(const gm_tokenizer *t, const char *part, uint32_t n_bytes, gm_symbol *symbols)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_bytes; n++) {
        uint8_t byte = (uint8_t)part[i];
        uint32_t length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
        symbols[n].at = i;
        symbols[n].id = byte < 0x80 ? t->ascii_id[byte] : gm_text_find(t, part + i, length, GM_TYPES_NORMAL);
        i += length;
    }
    symbols[n].at = n_bytes;
}

static uint32_t merge_short(const gm_tokenizer *t, const char *part, uint32_t n, gm_symbol *symbols)
{
    for (uint32_t i = 0; i + 1 < n; i++) rank_pair(t, part, symbols + i, symbols + i + 1, symbols[i + 2].at);
    while (n > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < n; i++)
            if (symbols[i].rank < symbols[best].rank) best = i;
        if (symbols[best].rank == GM_NO_MERGE) break;
        gm_symbol *left = symbols + best;
        left->id = left->result;
        memmove(left + 1, left + 2, (n - best - 1) * sizeof *left); /* the end moves too */
        n--;
        if (best + 1 < n) rank_pair(t, part, left, left + 1, left[2].at);
        if (best) rank_pair(t, part, left - 1, left, left[1].at);
    }
    return n;
}

static void sift_down(uint64_t *heap, uint32_t n, uint32_t i)
{
    uint64_t key = heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

static void sift_up(uint64_t *heap, uint32_t i)
{
    uint64_t key = heap[i];
    for (; i && heap[(i - 1) / 2] > key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = key;
}

static uint32_t heap_push(uint64_t *heap, uint32_t n, const gm_symbol *symbols, uint32_t i)
{
    if (symbols[i].rank == GM_NO_MERGE) return n;
    heap[n] = (uint64_t)symbols[i].rank << 32 | i;
    sift_up(heap, n);
    return n + 1;
}

/* The heap never holds more than 2n keys: n - 1 at first, and every merge takes one out and puts at most two in. */
static uint32_t merge_long(const gm_tokenizer *t, const char *part, uint32_t n, gm_symbol *symbols, uint64_t *heap)
{
    uint32_t n_heap = 0;
    symbols[n].rank = GM_NO_MERGE;
    for (uint32_t i = 0; i < n; i++) {
        symbols[i].prev = i - 1; /* of the first: never read */
        symbols[i].next = i + 1;
        symbols[i].rank = GM_NO_MERGE;
        if (i + 1 < n) rank_pair(t, part, symbols + i, symbols + i + 1, symbols[i + 2].at);
        if (symbols[i].rank != GM_NO_MERGE) heap[n_heap++] = (uint64_t)symbols[i].rank << 32 | i;
    }
    for (uint32_t i = n_heap / 2; i-- > 0;) sift_down(heap, n_heap, i);

    while (n_heap) {
        uint32_t i = (uint32_t)heap[0], rank = (uint32_t)(heap[0] >> 32);
        heap[0] = heap[--n_heap];
        if (n_heap) sift_down(heap, n_heap, 0);
        if (symbols[i].rank != rank) continue; /* this pair is gone */
        gm_symbol *left = symbols + i, *right = symbols + left->next;
        left->id = left->result;
        left->rank = right->rank = GM_NO_MERGE;
        left->next = right->next;
        if (left->next < n) {
            gm_symbol *after = symbols + left->next;
            after->prev = i;
            rank_pair(t, part, left, after, symbols[after->next].at);
            n_heap = heap_push(heap, n_heap, symbols, i);
        }
        if (i) {
            rank_pair(t, part, symbols + left->prev, left, symbols[left->next].at);
            n_heap = heap_push(heap, n_heap, symbols, left->prev);
        }
    }
    uint32_t n_left = 0;
    for (uint32_t i = 0; i < n; i = symbols[i].next) symbols[n_left++] = symbols[i];
    symbols[n_left].at = symbols[n].at;
    return n_left;
}

uint32_t gm_merge(const gm_tokenizer *t, const char *part, uint32_t n_bytes, uint32_t n_chars, gm_symbol *symbols,
                  uint64_t *heap)
{
    split(t, part, n_bytes, symbols);
    return heap ? merge_long(t, part, n_chars, symbols, heap) : merge_short(t, part, n_chars, symbols);
}
