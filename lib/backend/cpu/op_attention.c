/* ATTENTION. What a row sees is cut into chunks of GM_CPU_CHUNK positions (at multiples of that), and the chunks into
 * at most GM_CPU_SEGMENTS segments. Chunks are merged in ascending order within a segment, segments in ascending order.
 * Both cuts follow from the row alone, so the result is the same whether a segment is an item of its own (few rows) or
 * a whole head is one (many rows). */
#include "backend/cpu/exec.h"

#include <math.h>

enum { GROUP = GM_DOT_COLUMNS, UNPACKED = 8 };

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

static view view_in(const gm_step_block *block, const gm_op *op, uint32_t row)
{
    uint32_t position = block->position[row], window = op->window;
    view v = { .first = window && position >= window ? position - window + 1 : 0, .last = block->last_seen[row] };
    if (v.first > v.last) return (view){ 0 };
    v.chunk = v.first / GM_CPU_CHUNK;
    v.n_chunks = v.last / GM_CPU_CHUNK - v.chunk + 1;
    v.n_segments = gm_min_u32(v.n_chunks, GM_CPU_SEGMENTS);
    return v;
}

static view view_of(const gm_cpu_task *t, uint32_t row) { return view_in(t->block, &t->o->op, row); }

/* The most segments that a row has. */
static uint32_t most_segments(const gm_step_block *block, const gm_op *op, uint32_t n_rows)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t row = op->rows == GM_ROWS_WANTED ? block->wanted[i] : i;
        most = gm_max_u32(most, view_in(block, op, row).n_segments);
    }
    return most;
}

/* Segments that are items of their own are merged in a second phase, if there are any. */
uint32_t gm_cpu_attention_phases(const gm_exec *x, const gm_cpu_op *o, uint32_t n_rows)
{
    if ((uint64_t)n_rows * o->op.n_head > GM_CPU_SPLIT) return 1;
    return most_segments(x->block, &o->op, n_rows) > 1 ? 2 : 1;
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

/* Query heads of one KV head that are taken through its lines together. */
typedef struct group {
    uint32_t h, n; /* heads h … h + n - 1 */
} group;

typedef struct lines {
    float *scores;   /* [GROUP][GM_CPU_CHUNK] */
    float *unpacked; /* [UNPACKED][head] */
    partial chunk[GROUP], segment[GROUP], all[GROUP];
} lines;

uint64_t gm_cpu_attention_part_bytes(uint32_t head)
{
    return (GROUP * GM_CPU_CHUNK + (UNPACKED + 3 * GROUP) * gm_align_up(head, 16)) * sizeof(float);
}

static lines lines_of(const gm_cpu_task *t)
{
    uint64_t head = gm_align_up(t->o->op.head, 16);
    float *at = gm_cpu_own(t);
    lines l = { .scores = at, .unpacked = at + GROUP * GM_CPU_CHUNK };
    at = l.unpacked + UNPACKED * head;
    for (uint32_t g = 0; g < GROUP; g++, at += 3 * head) {
        l.chunk[g].acc = at;
        l.segment[g].acc = at + head;
        l.all[g].acc = at + 2 * head;
    }
    return l;
}

/* Heads of a group: four, or fewer where that leaves too few items for the parts. Results do not depend on it. */
static uint32_t group_size(const gm_cpu_task *t, uint32_t n_items)
{
    uint32_t n = gm_min_u32(GROUP, t->o->op.n_head / t->o->op.n_kv);
    while (n > 1 && n_items / n < 2 * t->n_parts) n /= 2;
    return n;
}

static uint32_t groups_of(const gm_op *op, uint32_t size)
{
    return op->n_kv * (uint32_t)gm_div_up(op->n_head / op->n_kv, size);
}

static group group_of(const gm_op *op, uint32_t size, uint32_t g)
{
    uint32_t per_kv = op->n_head / op->n_kv, n = (uint32_t)gm_div_up(per_kv, size), first = g % n * size;
    return (group){ .h = g / n * per_kv + first, .n = gm_min_u32(size, per_kv - first) };
}

static void unpack_lines(const gm_cpu_kv *kv, const uint8_t *line, uint32_t n, float *out)
{
    for (uint32_t i = 0; i < n; i++)
        kv->format->unpack(line + i * kv->line_bytes, out + (uint64_t)i * kv->head, kv->head / kv->format->block);
}

/* Lines of a chunk that follow each other in a page: keys or values of positions `at` … of the chunk. */
typedef struct stretch {
    const uint8_t *line, *next; /* next: of the stretch that comes behind, or NULL */
    uint32_t at, n;
} stretch;

/* scores[g][at + i] = line i · q[g]. */
static void add_scores(const gm_cpu_task *t, const float *const *q, uint32_t n_q, const stretch *s, lines *l)
{
    const uint8_t *line = s->line;
    uint32_t at = s->at, n = s->n;
    const gm_cpu_kv *kv = t->o->kv;
    float *out[GROUP] = { NULL };
    for (uint32_t g = 0; g < n_q; g++) out[g] = l->scores + g * GM_CPU_CHUNK + at;
    if (kv->format->type == GM_F16)
        t->k->scores_f16(line, s->next, kv->line_bytes, n, q, out, n_q, kv->head);
    else if (kv->format->type == GM_F32)
        t->k->scores_f32(line, s->next, kv->line_bytes, n, q, out, n_q, kv->head);
    else
        for (uint32_t i = 0; i < n; i += UNPACKED) {
            uint32_t some = gm_min_u32(UNPACKED, n - i);
            unpack_lines(kv, line + i * kv->line_bytes, some, l->unpacked);
            t->k->scores_f32(l->unpacked, NULL, kv->head * sizeof(float), some, q, out, n_q, kv->head);
            for (uint32_t g = 0; g < n_q; g++) out[g] += some;
        }
}

static void add_values(const gm_cpu_task *t, uint32_t n_q, const stretch *s, lines *l)
{
    const uint8_t *line = s->line;
    uint32_t at = s->at, n = s->n;
    const gm_cpu_kv *kv = t->o->kv;
    float *acc[GROUP] = { NULL };
    const float *weights[GROUP] = { NULL };
    for (uint32_t g = 0; g < n_q; g++) {
        acc[g] = l->chunk[g].acc;
        weights[g] = l->scores + g * GM_CPU_CHUNK + at;
    }
    if (kv->format->type == GM_F16)
        t->k->values_f16(line, s->next, kv->line_bytes, n, weights, acc, n_q, kv->head);
    else if (kv->format->type == GM_F32)
        t->k->values_f32(line, s->next, kv->line_bytes, n, weights, acc, n_q, kv->head);
    else
        for (uint32_t i = 0; i < n; i += UNPACKED) {
            uint32_t some = gm_min_u32(UNPACKED, n - i);
            unpack_lines(kv, line + i * kv->line_bytes, some, l->unpacked);
            t->k->values_f32(l->unpacked, NULL, kv->head * sizeof(float), some, weights, acc, n_q, kv->head);
            for (uint32_t g = 0; g < n_q; g++) weights[g] += some;
        }
}

typedef struct chunk {
    uint32_t row, kv_head, lo, hi; /* positions lo … hi */
} chunk;

/* The stretch from position p on. */
static stretch stretch_of(const gm_cpu_task *t, const uint8_t *pages, const chunk *c, uint32_t p)
{
    stretch s = { .line = pages + gm_cpu_kv_line(t, c->row, c->kv_head, p), .at = p - c->lo };
    s.n = gm_min_u32(GM_PAGE - p % GM_PAGE, c->hi - p + 1);
    if (p + s.n <= c->hi) s.next = pages + gm_cpu_kv_line(t, c->row, c->kv_head, p + s.n);
    return s;
}

/* Into l->chunk. Behind the last keys come the first values. */
static void one_chunk(const gm_cpu_task *t, const float *const *q, uint32_t n_q, const chunk *c, lines *l)
{
    const gm_cpu_kv *kv = t->o->kv;
    uint32_t n = c->hi - c->lo + 1;
    stretch s;
    for (uint32_t at = 0; at < n; at += s.n) {
        s = stretch_of(t, kv->k, c, c->lo + at);
        if (!s.next) s.next = kv->v + gm_cpu_kv_line(t, c->row, c->kv_head, c->lo);
        add_scores(t, q, n_q, &s, l);
    }
    for (uint32_t g = 0; g < n_q; g++) {
        float *scores = l->scores + g * GM_CPU_CHUNK;
        l->chunk[g].max = scores[0];
        for (uint32_t i = 1; i < n; i++)
            if (scores[i] > l->chunk[g].max) l->chunk[g].max = scores[i];
        l->chunk[g].sum = t->k->softmax_exp(scores, l->chunk[g].max, n);
        memset(l->chunk[g].acc, 0, t->o->op.head * sizeof(float));
    }
    for (uint32_t at = 0; at < n; at += s.n) {
        s = stretch_of(t, kv->v, c, c->lo + at);
        add_values(t, n_q, &s, l);
    }
}

static void one_segment(const gm_cpu_task *t, uint32_t i, group heads, const view *v, uint32_t s, lines *l,
                        partial out[GROUP])
{
    const gm_op *op = &t->o->op;
    const float *q[GROUP] = { NULL };
    chunk at = { .row = gm_cpu_step_row(t, op->rows, i), .kv_head = heads.h / (op->n_head / op->n_kv) };
    uint32_t first = v->chunk + (uint32_t)((uint64_t)s * v->n_chunks / v->n_segments);
    uint32_t last = v->chunk + (uint32_t)((uint64_t)(s + 1) * v->n_chunks / v->n_segments);
    for (uint32_t g = 0; g < heads.n; g++) {
        q[g] = gm_cpu_row(&t->o->in[0], i) + (heads.h + g) * op->head;
        out[g].sum = 0;
    }
    for (uint32_t c = first; c < last && !gm_cpu_stopped(t->x); c++) {
        at.lo = gm_max_u32(v->first, c * GM_CPU_CHUNK);
        at.hi = gm_min_u32(v->last, c * GM_CPU_CHUNK + GM_CPU_CHUNK - 1);
        one_chunk(t, q, heads.n, &at, l);
        for (uint32_t g = 0; g < heads.n; g++) merge(&out[g], &l->chunk[g], op->head);
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

static void split_segments(const gm_cpu_task *t, lines *l, uint32_t n_segments)
{
    const gm_op *op = &t->o->op;
    uint32_t first, last, size = group_size(t, t->n_rows * n_segments * op->n_head), n_groups = groups_of(op, size);
    /* Segments of one stretch lie together, so that groups find its pages in the cache. */
    uint32_t per_row = n_segments * n_groups;
    while (gm_cpu_take(t, t->n_rows * per_row, 1, &first, &last)) {
        uint32_t i = first / per_row, s = first % per_row / n_groups;
        group heads = group_of(op, size, first % n_groups);
        view v = view_of(t, gm_cpu_step_row(t, op->rows, i));
        if (s >= v.n_segments) continue;
        partial p[GROUP];
        for (uint32_t g = 0; g < heads.n; g++) p[g] = stored(t, i, heads.h + g, s);
        one_segment(t, i, heads, &v, s, l, p);
        for (uint32_t g = 0; g < heads.n; g++) {
            p[g].acc[-16] = p[g].max;
            p[g].acc[-15] = p[g].sum;
        }
    }
}

static void merge_segments(const gm_cpu_task *t, lines *l)
{
    uint32_t n_head = t->o->op.n_head, first, last;
    while (gm_cpu_take(t, t->n_rows * n_head, 1, &first, &last)) {
        uint32_t i = first / n_head, h = first % n_head;
        view v = view_of(t, gm_cpu_step_row(t, t->o->op.rows, i));
        l->all[0].sum = 0;
        for (uint32_t s = 0; s < v.n_segments; s++) {
            partial p = stored(t, i, h, s);
            merge(&l->all[0], &p, t->o->op.head);
        }
        write_result(t, i, h, &l->all[0]);
    }
}

/* Many rows: a group of a row is an item; rows of one group follow each other, as they see the same pages. */
static void whole_heads(const gm_cpu_task *t, lines *l)
{
    const gm_op *op = &t->o->op;
    uint32_t size = group_size(t, t->n_rows * op->n_head), n_items = t->n_rows * groups_of(op, size);
    uint32_t first, last;
    while (gm_cpu_take(t, n_items, gm_min_u32(8, gm_cpu_grain(t, n_items)), &first, &last)) {
        for (uint32_t item = first; item < last && !gm_cpu_stopped(t->x); item++) {
            uint32_t i = item % t->n_rows;
            group heads = group_of(op, size, item / t->n_rows);
            view v = view_of(t, gm_cpu_step_row(t, op->rows, i));
            for (uint32_t g = 0; g < heads.n; g++) l->all[g].sum = 0;
            for (uint32_t s = 0; s < v.n_segments; s++) {
                one_segment(t, i, heads, &v, s, l, l->segment);
                for (uint32_t g = 0; g < heads.n; g++) merge(&l->all[g], &l->segment[g], op->head);
            }
            for (uint32_t g = 0; g < heads.n; g++) write_result(t, i, heads.h + g, &l->all[g]);
        }
    }
}

void gm_cpu_attention(const gm_cpu_task *t)
{
    lines l = lines_of(t);
    bool few = (uint64_t)t->n_rows * t->o->op.n_head <= GM_CPU_SPLIT;
    uint32_t n_segments = few ? most_segments(t->block, &t->o->op, t->n_rows) : 1;
    if (n_segments == 1)
        whole_heads(t, &l);
    else if (t->phase == 0)
        split_segments(t, &l, n_segments);
    else
        merge_segments(t, &l);
}
