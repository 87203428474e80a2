/* HEAD: the vocabulary is streamed, nothing of its size is kept. An item is GM_CPU_VOCAB rows of the output matrix for
 * all wanted rows; a part keeps the best candidates it has met, an item leaves its softmax sum. Both are merged in a way
 * that does not know the parts: candidates have a total order, sums are added in the order of items. */
#include "backend/cpu/exec.h"

#include <math.h>

#define COLUMNS 16 /* wanted rows whose logits of an item are held at once */

typedef struct chunk_sum {
    float max, sum; /* Σ exp(logit - max) */
} chunk_sum;

typedef struct best {
    uint32_t n;
    gm_candidate heap[GM_RESULTS_MAX]; /* the worst on top */
} best;

/* A part's place: a line for unpacked rows, logits [COLUMNS][GM_CPU_VOCAB], the best of each wanted row. */
typedef struct place {
    uint8_t *line;
    float *logits;
    best *rows;
} place;

uint64_t gm_cpu_head_part_bytes(const gm_cpu_matrix *m, uint32_t max_rows)
{
    return m->line_bytes + COLUMNS * GM_CPU_VOCAB * sizeof(float) + gm_align_up((uint64_t)max_rows * sizeof(best), 64);
}

uint64_t gm_cpu_head_sums_bytes(uint32_t n_vocab, uint32_t max_rows)
{
    return gm_div_up(n_vocab, GM_CPU_VOCAB) * max_rows * sizeof(chunk_sum);
}

static place place_of(const gm_cpu_task *t, uint32_t part)
{
    place p = { .line = gm_cpu_own_of(t, part) };
    p.logits = (float *)(void *)(p.line + t->o->w[0].line_bytes);
    p.rows = (best *)(void *)(p.logits + COLUMNS * GM_CPU_VOCAB);
    return p;
}

static bool better(gm_candidate a, gm_candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

static void sink(best *b, uint32_t i)
{
    for (;;) {
        uint32_t worst = i, left = 2 * i + 1, right = left + 1;
        if (left < b->n && better(b->heap[worst], b->heap[left])) worst = left;
        if (right < b->n && better(b->heap[worst], b->heap[right])) worst = right;
        if (worst == i) return;
        gm_candidate c = b->heap[i];
        b->heap[i] = b->heap[worst];
        b->heap[worst] = c;
        i = worst;
    }
}

static void offer(best *b, gm_candidate c)
{
    if (b->n == GM_RESULTS_MAX) {
        if (!better(c, b->heap[0])) return;
        b->heap[0] = c;
        sink(b, 0);
        return;
    }
    uint32_t i = b->n++;
    for (; i && better(b->heap[(i - 1) / 2], c); i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = c;
}

/* Takes the heap apart: best first. */
static uint32_t sorted(best *b, gm_candidate *out)
{
    uint32_t n = b->n;
    while (b->n) {
        out[b->n - 1] = b->heap[0];
        b->heap[0] = b->heap[--b->n];
        sink(b, 0);
    }
    return n;
}

static void apply_softcap(const gm_cpu_task *t, float *z, uint32_t n)
{
    float cap = t->o->op.softcap;
    if (t->x->cpu->reference) {
        for (uint32_t i = 0; i < n; i++) z[i] = cap * tanhf(z[i] / cap);
        return;
    }
    /* tanh y = (1 - e) / (1 + e) with e = exp(-2 y) for y ≥ 0. */
    float e[256];
    for (uint32_t at = 0; at < n; at += GM_COUNT(e)) {
        uint32_t some = gm_min_u32(n - at, GM_COUNT(e));
        for (uint32_t i = 0; i < some; i++) e[i] = fabsf(z[at + i]) * (-2 / cap);
        t->k->softmax_exp(e, 0, some);
        for (uint32_t i = 0; i < some; i++) z[at + i] = copysignf(cap * (1 - e[i]) / (1 + e[i]), z[at + i]);
    }
}

static void suppress(const gm_exec *x, float *logits, uint32_t first, uint32_t last)
{
    uint32_t lo = 0, hi = x->n_suppressed;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((uint32_t)x->suppressed[mid] < first)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < x->n_suppressed && (uint32_t)x->suppressed[lo] < last; lo++)
        logits[(uint32_t)x->suppressed[lo] - first] = -INFINITY;
}

static void collect(best *b, const float *logits, uint32_t first, uint32_t n)
{
    /* What equals the worst may have the lower id. Suppressed ones are -inf. */
    float bar = b->n == GM_RESULTS_MAX ? b->heap[0].logit : -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (!(logits[i] >= bar && logits[i] > -INFINITY)) continue;
        offer(b, (gm_candidate){ (int32_t)(first + i), logits[i] });
        if (b->n == GM_RESULTS_MAX) bar = b->heap[0].logit;
    }
}

/* The logits of one wanted row and item go where they are wanted; they are overwritten. */
static void use_logits(const gm_cpu_task *t, uint32_t row, uint32_t chunk, float *logits, uint32_t n, best *b)
{
    gm_step_block *block = t->x->block;
    uint32_t first = chunk * GM_CPU_VOCAB, want = block->want[row];
    if (t->o->op.softcap > 0) apply_softcap(t, logits, n);
    suppress(t->x, logits, first, first + n);
    if (want & GEMMA_WANT_LOGITS)
        memcpy(block->logits + (uint64_t)block->result_row[row] * t->x->limits.n_vocab + first, logits,
               n * sizeof *logits);
    if (want & GEMMA_WANT_CANDIDATES) collect(b, logits, first, n);
    uint32_t target = (uint32_t)block->target[row];
    if ((want & GEMMA_WANT_SCORE) && target >= first && target - first < n) block->score[row] = logits[target - first];
    chunk_sum *sum = (chunk_sum *)gm_cpu_extra(t) + (uint64_t)chunk * t->n_rows + row;
    *sum = (chunk_sum){ -INFINITY, 0 };
    if (!(want & (GEMMA_WANT_CANDIDATES | GEMMA_WANT_SCORE))) return;
    for (uint32_t i = 0; i < n; i++)
        if (logits[i] > sum->max) sum->max = logits[i];
    if (sum->max > -INFINITY) sum->sum = t->k->softmax_exp(logits, sum->max, n);
}

static const void *columns_of_part(const gm_cpu_task *t)
{
    if (!gm_cpu_packs_own(t->o, t->n_rows)) return gm_cpu_shared(t);
    void *own = (uint8_t *)gm_cpu_own(t) + gm_cpu_head_part_bytes(&t->o->w[0], t->x->max_rows);
    gm_cpu_pack_own(t, own);
    return own;
}

static void stream(const gm_cpu_task *t)
{
    const gm_cpu_matrix *m = &t->o->w[0];
    place p = place_of(t, t->part);
    const void *packed = columns_of_part(t);
    uint32_t n_vocab = t->o->op.n_vocab, n_chunks = (uint32_t)gm_div_up(n_vocab, GM_CPU_VOCAB), chunk, last;
    while (gm_cpu_take(t, n_chunks, 1, &chunk, &last)) {
        uint32_t first = chunk * GM_CPU_VOCAB, n = gm_min_u32(GM_CPU_VOCAB, n_vocab - first);
        for (uint32_t r = 0; r < t->n_rows && !gm_cpu_stopped(t->x); r += COLUMNS) {
            gm_cpu_columns columns = gm_cpu_columns_of(t, m, packed);
            if (columns.index)
                columns.index += r;
            else
                columns.data = (const uint8_t *)columns.data + r * columns.stride;
            columns.n = gm_min_u32(COLUMNS, t->n_rows - r);
            gm_cpu_product(t->k, m, first, first + n, &columns, p.logits, GM_CPU_VOCAB, p.line);
            for (uint32_t c = 0; c < columns.n; c++)
                use_logits(t, r + c, chunk, p.logits + c * GM_CPU_VOCAB, n, &p.rows[r + c]);
        }
    }
}

static float log_sum(const gm_cpu_task *t, uint32_t row)
{
    const chunk_sum *sums = gm_cpu_extra(t);
    uint32_t n_chunks = (uint32_t)gm_div_up(t->o->op.n_vocab, GM_CPU_VOCAB);
    float max = -INFINITY;
    double sum = 0;
    for (uint32_t c = 0; c < n_chunks; c++) max = fmaxf(max, sums[(uint64_t)c * t->n_rows + row].max);
    for (uint32_t c = 0; c < n_chunks; c++) {
        const chunk_sum *s = &sums[(uint64_t)c * t->n_rows + row];
        if (s->max > -INFINITY) sum += (double)s->sum * exp((double)s->max - (double)max);
    }
    return (float)((double)max + log(sum));
}

static void finish(const gm_cpu_task *t)
{
    gm_step_block *block = t->x->block;
    uint32_t row, last;
    while (gm_cpu_take(t, t->n_rows, 1, &row, &last)) {
        uint32_t want = block->want[row];
        best *all = &place_of(t, 0).rows[row];
        for (uint32_t i = 1; i < t->n_parts; i++) {
            const best *b = &place_of(t, i).rows[row];
            for (uint32_t c = 0; c < b->n; c++) offer(all, b->heap[c]);
        }
        block->n_candidates[row] = sorted(all, block->candidates + (uint64_t)row * GM_RESULTS_MAX);
        if (want & (GEMMA_WANT_CANDIDATES | GEMMA_WANT_SCORE)) block->log_sum[row] = log_sum(t, row);
        if (want & GEMMA_WANT_HIDDEN)
            memcpy(block->hidden + (uint64_t)block->result_row[row] * t->x->limits.n_embd, gm_cpu_input(t, row),
                   t->o->in[0].width * sizeof(float));
    }
}

void gm_cpu_head(const gm_cpu_task *t)
{
    uint32_t phase = t->phase + (!t->o->packs || gm_cpu_packs_own(t->o, t->n_rows));
    if (phase == 0) {
        gm_cpu_pack_rows(t);
    } else if (phase == 1) {
        best *rows = place_of(t, t->part).rows;
        for (uint32_t r = 0; r < t->n_rows; r++) rows[r].n = 0;
        stream(t);
    } else {
        finish(t);
    }
}
