/* One draw. Everything that decides it is compares and IEEE double arithmetic in a fixed order, so the same seed draws
 * the same ids everywhere. */
#include "sampler/state.h"

#include <math.h>

/* What is drawn from: the entries with weights e^((logit - most) / temperature), of which the best weighs 1. */
typedef struct pile {
    entry *entries; /* [n] the first n_heap: a heap with the best on top; behind them the taken ones, the best last */
    uint32_t n;
    uint32_t n_heap;
    float most;
    float temperature;
} pile;

static bool better(entry a, entry b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

static void swap(entry *a, entry *b)
{
    entry kept = *a;
    *a = *b;
    *b = kept;
}

/* Moves entries[at] down to where it belongs in a heap of n with the best (or the worst) on top. */
static void sift_down(entry *entries, uint32_t n, uint32_t at, bool best_on_top)
{
    for (;;) {
        uint64_t child = (uint64_t)at * 2 + 1;
        if (child >= n) return;
        if (child + 1 < n && better(entries[child + 1], entries[child]) == best_on_top) child++;
        if (better(entries[child], entries[at]) != best_on_top) return;
        swap(&entries[child], &entries[at]);
        at = (uint32_t)child;
    }
}

static void make_heap(entry *entries, uint32_t n, bool best_on_top)
{
    for (uint32_t i = n / 2; i-- > 0;) sift_down(entries, n, i, best_on_top);
}

/* The k ≤ n best to the front, best first. */
static void keep_best(entry *entries, uint32_t n, uint32_t k)
{
    make_heap(entries, k, false);
    for (uint32_t i = k; i < n; i++) {
        if (!better(entries[i], entries[0])) continue;
        entries[0] = entries[i];
        sift_down(entries, k, 0, false);
    }
    for (uint32_t left = k; left-- > 1;) {
        swap(&entries[0], &entries[left]);
        sift_down(entries, left, 0, false);
    }
}

/* The i-th best, i < n; taken from the heap when it is asked for the first time. */
static entry nth_best(pile *p, uint32_t i)
{
    while (p->n - p->n_heap <= i) {
        swap(&p->entries[0], &p->entries[--p->n_heap]);
        sift_down(p->entries, p->n_heap, 0, true);
    }
    return p->entries[p->n - 1 - i];
}

static double weight(const pile *p, entry e)
{
    if (e.logit == p->most) return 1.0; /* also where both are infinite */
    return gm_exp(((double)e.logit - (double)p->most) / (double)p->temperature);
}

static double sum_of_weights(const pile *p)
{
    double sum = 0;
    for (uint32_t i = 0; i < p->n; i++) sum += weight(p, p->entries[i]);
    return sum;
}

/* top-p and min-p: how many of the best stay, and their summed weight in *sum (in: of all). */
static uint32_t trim(pile *p, float top_p, float min_p, double *sum)
{
    double enough = (double)top_p * *sum, kept = 0;
    uint32_t n = 0;
    for (; n < p->n; n++) {
        double w = weight(p, nth_best(p, n));
        if (w == 0 || w < (double)min_p) break;
        kept += w;
        if (top_p > 0 && kept >= enough) {
            n++;
            break;
        }
    }
    *sum = kept;
    return n;
}

/* The entry of an id among n; NULL: not there. */
static entry *find_entry(entry *entries, bool whole_row, uint32_t n, int32_t id)
{
    if (whole_row) return (uint32_t)id < n ? &entries[id] : NULL;
    for (uint32_t i = 0; i < n; i++)
        if (entries[i].id == id) return &entries[i];
    return NULL;
}

/* Bias, then penalties: repetition as in CTRL (Keskar et al. 2019) with its form for negative logits, then frequency
 * and presence. */
static void adjust(gm_sampler *s, bool whole_row, uint32_t n)
{
    const gemma_sampler_options *o = &s->options;
    for (uint32_t i = 0; i < s->biases.n; i++) {
        entry *e = find_entry(s->entries, whole_row, n, s->biases.rows[i].id);
        if (e) e->logit += s->biases.rows[i].value;
    }
    for (uint32_t i = 0; i < s->tallies.n; i++) {
        entry *e = find_entry(s->entries, whole_row, n, s->tallies.rows[i].id);
        if (!e) continue;
        e->logit = e->logit > 0 ? e->logit / o->repetition : e->logit * o->repetition;
        e->logit -= o->frequency * s->tallies.rows[i].value;
        e->logit -= o->presence;
    }
}

static int32_t first_allowed(const gm_sampler *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        bool forbidden = false;
        for (uint32_t k = 0; k < s->biases.n && !forbidden; k++)
            forbidden = s->biases.rows[k].id == s->entries[i].id && s->biases.rows[k].value == -INFINITY;
        if (!forbidden) return s->entries[i].id;
    }
    return -1;
}

static int32_t draw_weighted(gm_sampler *s, uint32_t n, float most)
{
    const gemma_sampler_options *o = &s->options;
    pile p = { s->entries, n, n, most, o->temperature };
    double sum;
    if (o->top_k) {
        p.n = p.n_heap = gm_min_u32(o->top_k, n);
        keep_best(p.entries, n, p.n); /* best first is also a heap */
        sum = sum_of_weights(&p);
    } else {
        sum = sum_of_weights(&p); /* in the row's order, not the heap's */
        make_heap(p.entries, n, true);
    }
    float top_p = o->top_p < 1 ? o->top_p : 0;
    uint32_t n_kept = top_p > 0 || o->min_p > 0 ? trim(&p, top_p, o->min_p, &sum) : p.n;

    double target = gm_rng_unit(&s->rng) * sum, passed = 0;
    entry drawn = nth_best(&p, 0);
    for (uint32_t i = 0; i < n_kept && passed <= target; i++) {
        entry e = nth_best(&p, i);
        double w = weight(&p, e);
        if (w == 0) break; /* rounding of the sum: the last that weighs anything */
        drawn = e;
        passed += w;
    }
    return drawn.id;
}

int32_t gm_sampler_draw(gm_sampler *s, const int32_t *ids, const float *logits, uint32_t n)
{
    if (n == 0 || n > s->n_entries) return -1;
    for (uint32_t i = 0; i < n; i++) s->entries[i] = (entry){ logits[i], ids ? ids[i] : (int32_t)i };
    adjust(s, ids == NULL, n);
    entry best = { -INFINITY, INT32_MAX };
    for (uint32_t i = 0; i < n; i++) {
        entry *e = &s->entries[i];
        if (isnan(e->logit)) e->logit = -INFINITY;
        if (better(*e, best)) best = *e;
    }
    if (best.logit == -INFINITY) return first_allowed(s, n);
    return s->options.temperature > 0 ? draw_weighted(s, n, best.logit) : best.id;
}
