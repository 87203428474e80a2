/* ATTENTION. What a row sees is cut into chunks of GM_CPU_CHUNK positions (at multiples of that), and the chunks into
 * at most GM_CPU_SEGMENTS segments. Chunks are merged in ascending order within a segment, segments in ascending order.
 * Both cuts follow from the row alone, so the result is the same whether a segment is an item of its own (few rows) or
 * a whole head is one (many rows). */
#include "backend/cpu/exec.h"

#include <math.h>

/* A softmax under way: exp(score - max) summed, and the values weighted with it. */
typedef struct partial {
    float max, sum;
    float *acc; /* [head] */
} partial;

typedef struct view {
    uint32_t first, last;     /* positions, both seen */
    uint32_t chunk, n_chunks; /* first chunk */
    uint32_t n_segments;      /* 0: nothing is seen */
} view;

static view view_of(const gm_cpu_task *t, uint32_t row)
{
    uint32_t position = t->block->position[row], window = t->o->op.window;
    view v = { .first = window && position >= window ? position - window + 1 : 0, .last = t->block->last_seen[row] };
    if (v.first > v.last) return (view){ 0 };
    v.chunk = v.first / GM_CPU_CHUNK;
    v.n_chunks = v.last / GM_CPU_CHUNK - v.chunk + 1;
    v.n_segments = gm_min_u32(v.n_chunks, GM_CPU_SEGMENTS);
    return v;
}

/* a = a and b together; an empty one has sum 0. */
static void merge(partial *a, const partial *b, uint32_t head)
{
    if (b->sum == 0) return;
    if (a->sum == 0) {
        memcpy(a->acc, b->acc, head * sizeof *a->acc);
        a->max = b->max;
        a->sum = b->sum;
        return;
    }
    float max = a->max > b->max ? a->max : b->max, fa = expf(a->max - max), fb = expf(b->max - max);
    for (uint32_t i = 0; i < head; i++) a->acc[i] = a->acc[i] * fa + b->acc[i] * fb;
    a->sum = a->sum * fa + b->sum * fb;
    a->max = max;
}

typedef struct lines {
    float *scores;   /* [GM_CPU_CHUNK] */
    float *unpacked; /* [head] */
    partial chunk, segment, all;
} lines;

static lines lines_of(const gm_cpu_task *t, uint32_t part)
{
    uint32_t head = (uint32_t)gm_align_up(t->o->op.head, 16);
    float *at = gm_cpu_own(t, part);
    lines l = { .scores = at, .unpacked = at + GM_CPU_CHUNK };
    l.chunk.acc = l.unpacked + head;
    l.segment.acc = l.chunk.acc + head;
    l.all.acc = l.segment.acc + head;
    return l;
}

static void add_scores(const gm_cpu_task *t, const float *q, const uint8_t *line, uint32_t n, lines *l, float *scores)
{
    const gm_cpu_kv *kv = t->o->kv;
    for (uint32_t i = 0; i < n; i++, line += kv->line_bytes) {
        if (kv->format->type == GM_F16) {
            scores[i] = t->k->dot_f16((const uint16_t *)(const void *)line, q, kv->head);
        } else if (kv->format->type == GM_F32) {
            scores[i] = t->k->dot_f32((const float *)(const void *)line, q, kv->head);
        } else {
            kv->format->unpack(line, l->unpacked, kv->head / kv->format->block);
            scores[i] = t->k->dot_f32(l->unpacked, q, kv->head);
        }
    }
}

static void add_values(const gm_cpu_task *t, const float *weights, const uint8_t *line, uint32_t n, lines *l)
{
    const gm_cpu_kv *kv = t->o->kv;
    for (uint32_t i = 0; i < n; i++, line += kv->line_bytes) {
        if (kv->format->type == GM_F16) {
            t->k->axpy_f16(l->chunk.acc, weights[i], (const uint16_t *)(const void *)line, kv->head);
        } else if (kv->format->type == GM_F32) {
            t->k->axpy_f32(l->chunk.acc, weights[i], (const float *)(const void *)line, kv->head);
        } else {
            kv->format->unpack(line, l->unpacked, kv->head / kv->format->block);
            t->k->axpy_f32(l->chunk.acc, weights[i], l->unpacked, kv->head);
        }
    }
}

/* Positions lo … hi of one chunk, into l->chunk. */
static void one_chunk(const gm_cpu_task *t, const float *q, uint32_t row, uint32_t kv_head, uint32_t lo, uint32_t hi,
                      lines *l)
{
    uint32_t n = hi - lo + 1, step;
    for (uint32_t p = lo; p <= hi; p += step) {
        step = gm_min_u32(GM_PAGE - p % GM_PAGE, hi - p + 1);
        add_scores(t, q, t->o->kv->k + gm_cpu_kv_line(t, row, kv_head, p), step, l, l->scores + (p - lo));
    }
    l->chunk.max = l->scores[0];
    for (uint32_t i = 1; i < n; i++)
        if (l->scores[i] > l->chunk.max) l->chunk.max = l->scores[i];
    l->chunk.sum = t->k->softmax_exp(l->scores, l->chunk.max, n);
    memset(l->chunk.acc, 0, t->o->op.head * sizeof(float));
    for (uint32_t p = lo; p <= hi; p += step) {
        step = gm_min_u32(GM_PAGE - p % GM_PAGE, hi - p + 1);
        add_values(t, l->scores + (p - lo), t->o->kv->v + gm_cpu_kv_line(t, row, kv_head, p), step, l);
    }
}

static void one_segment(const gm_cpu_task *t, uint32_t i, uint32_t h, const view *v, uint32_t s, lines *l, partial *out)
{
    const gm_op *op = &t->o->op;
    const float *q = gm_cpu_row(&t->o->in[0], i) + h * op->head;
    uint32_t row = gm_cpu_step_row(t, op->rows, i), kv_head = h / (op->n_head / op->n_kv);
    uint32_t first = v->chunk + (uint32_t)((uint64_t)s * v->n_chunks / v->n_segments);
    uint32_t last = v->chunk + (uint32_t)((uint64_t)(s + 1) * v->n_chunks / v->n_segments);
    out->sum = 0;
    for (uint32_t c = first; c < last && !gm_cpu_stopped(t->x); c++) {
        uint32_t lo = gm_max_u32(v->first, c * GM_CPU_CHUNK);
        uint32_t hi = gm_min_u32(v->last, c * GM_CPU_CHUNK + GM_CPU_CHUNK - 1);
        one_chunk(t, q, row, kv_head, lo, hi, l);
        merge(out, &l->chunk, op->head);
    }
}

static void write_result(const gm_cpu_task *t, uint32_t i, uint32_t h, const partial *p)
{
    uint32_t head = t->o->op.head;
    float *out = gm_cpu_row(&t->o->out[0], i) + h * head, by = 1 / p->sum;
    if (p->sum == 0)
        memset(out, 0, head * sizeof *out);
    else
        for (uint32_t j = 0; j < head; j++) out[j] = p->acc[j] * by;
}

/* Segments of the split path lie in the shared place: [row][head][segment] of max, sum, acc. */
static partial stored(const gm_cpu_task *t, uint32_t i, uint32_t h, uint32_t s)
{
    uint64_t stride = gm_align_up(t->o->op.head, 16) + 16;
    float *at = (float *)gm_cpu_shared(t) + ((uint64_t)(i * t->o->op.n_head + h) * GM_CPU_SEGMENTS + s) * stride;
    return (partial){ .max = at[0], .sum = at[1], .acc = at + 16 };
}

static void split_segments(const gm_cpu_task *t, lines *l)
{
    uint32_t n_head = t->o->op.n_head, first, last;
    /* Segments of one stretch lie together, so that heads of a group find its pages in the cache. */
    uint32_t per_row = GM_CPU_SEGMENTS * n_head;
    while (gm_cpu_take(t, t->n_rows * per_row, 1, &first, &last)) {
        uint32_t i = first / per_row, s = first % per_row / n_head, h = first % n_head;
        view v = view_of(t, gm_cpu_step_row(t, t->o->op.rows, i));
        if (s >= v.n_segments) continue;
        partial p = stored(t, i, h, s);
        one_segment(t, i, h, &v, s, l, &p);
        p.acc[-16] = p.max;
        p.acc[-15] = p.sum;
    }
}

static void merge_segments(const gm_cpu_task *t, lines *l)
{
    uint32_t n_head = t->o->op.n_head, first, last;
    while (gm_cpu_take(t, t->n_rows * n_head, 1, &first, &last)) {
        uint32_t i = first / n_head, h = first % n_head;
        view v = view_of(t, gm_cpu_step_row(t, t->o->op.rows, i));
        l->all.sum = 0;
        for (uint32_t s = 0; s < v.n_segments; s++) {
            partial p = stored(t, i, h, s);
            merge(&l->all, &p, t->o->op.head);
        }
        write_result(t, i, h, &l->all);
    }
}

/* Many rows: a head of a row is an item; rows of one head follow each other, as they see the same pages. */
static void whole_heads(const gm_cpu_task *t, lines *l, uint32_t n_parts)
{
    uint32_t n_items = t->n_rows * t->o->op.n_head, first, last;
    while (gm_cpu_take(t, n_items, gm_min_u32(8, gm_cpu_grain(n_items, n_parts)), &first, &last)) {
        for (uint32_t item = first; item < last && !gm_cpu_stopped(t->x); item++) {
            uint32_t h = item / t->n_rows, i = item % t->n_rows;
            view v = view_of(t, gm_cpu_step_row(t, t->o->op.rows, i));
            l->all.sum = 0;
            for (uint32_t s = 0; s < v.n_segments; s++) {
                one_segment(t, i, h, &v, s, l, &l->segment);
                merge(&l->all, &l->segment, t->o->op.head);
            }
            write_result(t, i, h, &l->all);
        }
    }
}

void gm_cpu_attention(const gm_cpu_task *t, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    lines l = lines_of(t, part);
    if (t->n_rows * t->o->op.n_head > GM_CPU_SPLIT)
        whole_heads(t, &l, n_parts);
    else if (phase == 0)
        split_segments(t, &l);
    else
        merge_segments(t, &l);
}
