/* Running the table: against the naive results, and against itself. */
#include "conform/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

const precision cases_of_shaders = { .packs = false, .slack = 8, .coarse_angles = true };

/* The largest error met, in parts of its bound: printed, so that a bound that is far too wide shows. */
static double worst;

static void compare(const char *name, const char *what, const float *got, const expected *e, uint32_t n, uint32_t row)
{
    for (uint32_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - e[i].value), bound = e[i].error + 1e-37;
        if (isinf(e[i].value) && (double)got[i] == e[i].value) continue;
        if (!(off <= bound))
            fail_msg("%s: %s[%u] of row %u is %.9g, should be %.9g ± %.3g", name, what, i, row, (double)got[i],
                     e[i].value, bound);
        worst = fmax(worst, off / bound);
    }
}

/* Packing rounds: half a step of the format, relative to the value (F16) or to the block's largest. */
static double packing_error(const gm_format *f, const expected *e, uint32_t i)
{
    double most = 0;
    for (uint32_t k = i / 32 * 32; k < i / 32 * 32 + 32 && f->block > 1; k++) most = fmax(most, fabs(e[k].value));
    switch (f->type) {
    case GM_F16: return fabs(e[i].value) * 0x1p-11 + 0x1p-25;
    case GM_Q8_0: return most * (0.502 / 127 + 0x1p-11);
    case GM_Q4_0: return most * (1.001 / 8 + 0x1p-11);
    default: return 0;
    }
}

static void check_lines(const char *name, const scene *s, precision p, const results *r)
{
    expected *e = scene_alloc(s->op.head * sizeof *e);
    float *line = scene_alloc(s->op.head * sizeof *line);
    double *packing = scene_alloc(s->op.head * sizeof *packing);
    for (uint32_t row = 0; row < s->n_rows; row++)
        for (uint32_t i = 0; i < 2 * s->op.n_kv; i++) {
            bool v = i >= s->op.n_kv;
            naive_line(s, p, v, row, i % s->op.n_kv, e);
            for (uint32_t k = 0; k < s->op.head; k++) packing[k] = packing_error(s->kv.format, e, k);
            for (uint32_t k = 0; k < s->op.head; k++) e[k].error += packing[k];
            scene_line(s, v ? r->v : r->k, i % s->op.n_kv, s->position[row], line);
            compare(name, v ? "V" : "K", line, e, s->op.head, row);
        }
    /* Nothing else was touched. */
    uint64_t line_bytes = gm_row_bytes(s->kv.format, s->kv.head);
    for (uint32_t t = 0; t < s->n_positions - s->n_rows; t++)
        for (uint32_t h = 0; h < s->kv.n_kv; h++) {
            uint64_t at = (((uint64_t)s->table[t / GM_PAGE] * s->kv.n_kv + h) * GM_PAGE + t % GM_PAGE) * line_bytes;
            assert_memory_equal(s->k + at, r->k + at, line_bytes);
            assert_memory_equal(s->v + at, r->v + at, line_bytes);
        }
    uint64_t tail = (s->n_pages - SCENE_PAGES_KEPT) * gm_kv_page_bytes(&s->kv);
    assert_memory_equal(s->k + tail, r->k + tail, SCENE_PAGES_KEPT * gm_kv_page_bytes(&s->kv));
}

static void check_candidates(const char *name, const scene *s, const results *r, uint32_t row, const expected *e)
{
    uint32_t n = r->n_candidates[row], n_left = s->op.n_vocab;
    uint8_t *listed = scene_alloc(s->op.n_vocab);
    for (uint32_t id = 0; id < s->op.n_vocab; id++)
        if (isinf(e[id].value)) n_left--;
    if (n != gm_min_u32(n_left, GM_RESULTS_MAX)) fail_msg("%s: %u candidates of row %u", name, n, row);
    for (uint32_t i = 0; i < n; i++) {
        gm_candidate c = r->candidates[row][i];
        assert_in_range(c.id, 0, s->op.n_vocab - 1);
        assert_false(listed[c.id]);
        listed[c.id] = 1;
        compare(name, "candidate", &c.logit, &e[c.id], 1, row);
        if (i && !(r->candidates[row][i - 1].logit > c.logit ||
                   (r->candidates[row][i - 1].logit == c.logit && r->candidates[row][i - 1].id < c.id)))
            fail_msg("%s: candidates %u and %u of row %u are out of order", name, i - 1, i, row);
    }
    double bar = n ? (double)r->candidates[row][n - 1].logit : 0;
    for (uint32_t id = 0; id < s->op.n_vocab; id++)
        if (!listed[id] && !isinf(e[id].value) && e[id].value - e[id].error > bar)
            fail_msg("%s: id %u of row %u should be a candidate", name, id, row);
}

static void check_results(const char *name, const scene *s, precision p, const results *r)
{
    uint32_t n_vocab = s->op.n_vocab;
    expected *e = scene_alloc(n_vocab * sizeof *e);
    for (uint32_t row = 0; row < s->n_rows; row++) {
        naive_logits(s, p, row, e);
        double sum = 0, error = 0;
        for (uint32_t id = 0; id < n_vocab; id++) {
            sum += exp(e[id].value);
            if (!isinf(e[id].value)) error = fmax(error, e[id].error);
        }
        const float *logits = r->logits + (uint64_t)row * n_vocab;
        if (s->want[row] & GEMMA_WANT_LOGITS) compare(name, "logits", logits, e, n_vocab, row);
        if (s->want[row] & GEMMA_WANT_CANDIDATES)
            check_candidates(name, s, r, row, e);
        else
            assert_int_equal(r->n_candidates[row], 0);
        if (s->want[row] & GEMMA_WANT_SCORE) compare(name, "score", &r->score[row], &e[s->target[row]], 1, row);
        expected log_sum = { log(sum), error + p.slack * 0x1p-20 };
        if (s->want[row] & (GEMMA_WANT_SCORE | GEMMA_WANT_CANDIDATES))
            compare(name, "log_sum", &r->log_sum[row], &log_sum, 1, row);
        if (s->want[row] & GEMMA_WANT_HIDDEN)
            assert_memory_equal(r->hidden + (uint64_t)row * s->in_width[0], s->in[0] + (uint64_t)row * s->in_width[0],
                                s->in_width[0] * sizeof(float));
        for (uint32_t i = 0; i < r->n_candidates[row] && (s->want[row] & GEMMA_WANT_LOGITS); i++)
            assert_true(logits[r->candidates[row][i].id] == r->candidates[row][i].logit);
    }
}

static void check_case(const char *name, const scene *s, precision p, const results *r)
{
    for (unsigned o = 0; o < 3; o++) {
        uint32_t n = s->out_width[o];
        expected *e = scene_alloc(n * sizeof *e);
        for (uint32_t row = 0; n && row < s->n_rows; row++) {
            naive_output(s, p, o, row, e);
            compare(name, "output", r->out[o] + (uint64_t)row * n, e, n, row);
        }
    }
    if (s->op.kind == GM_OP_HEADS && s->kv.format) check_lines(name, s, p, r);
    if (s->op.kind == GM_OP_HEAD) check_results(name, s, p, r);
}

void cases_check(gm_backend *be, precision p, const char *only)
{
    double by_kind[GM_OP_LIMIT] = { 0 };
    for (uint32_t i = 0; i < cases_count(); i++) {
        scene s;
        const char *name = cases_make(i, &s);
        if (only && !gm_text_contains(name, only)) {
            scene_free_all();
            continue;
        }
        gm_program program = { .ops = &s.op, .n_ops = 1, .weights = s.shapes, .n_weights = 4, .kv = &s.kv, .n_kv = 1 };
        const char *why = be->fns->refuses ? be->fns->refuses(be, &program, &s.op) : NULL;
        if (why) {
            print_message("SKIPPED %s: %s\n", name, why);
        } else {
            results *r = scene_results(&s);
            worst = 0;
            scene_run(&s, be, NULL, 0, r);
            check_case(name, &s, p, r);
            by_kind[s.op.kind] = fmax(by_kind[s.op.kind], worst);
        }
        scene_free_all();
    }
    for (uint32_t k = 1; k < GM_OP_LIMIT; k++)
        print_message("%-10s at most %.3f of the allowed error\n", gm_op_name(k), by_kind[k]);
}

/* ---- the same bits ---- */

/* Row `row` of a against row `of` of b. */
static void same_row(const char *name, const scene *s, const results *a, uint32_t row, const results *b, uint32_t of)
{
    for (unsigned o = 0; o < 3; o++) {
        uint64_t n = s->out_width[o];
        if (n && memcmp(a->out[o] + row * n, b->out[o] + of * n, n * sizeof(float)))
            fail_msg("%s: output %u of row %u depends on how rows are run", name, o, row);
    }
    if (s->op.kind != GM_OP_HEAD) return;
    uint32_t want = s->want[row], n_vocab = s->op.n_vocab;
    bool same = a->n_candidates[row] == b->n_candidates[of] &&
                !memcmp(a->candidates[row], b->candidates[of], a->n_candidates[row] * sizeof(gm_candidate));
    if (want & (GEMMA_WANT_CANDIDATES | GEMMA_WANT_SCORE)) same &= a->log_sum[row] == b->log_sum[of];
    if (want & GEMMA_WANT_SCORE) same &= a->score[row] == b->score[of];
    if (want & GEMMA_WANT_LOGITS)
        same &=
            !memcmp(a->logits + (uint64_t)row * n_vocab, b->logits + (uint64_t)of * n_vocab, n_vocab * sizeof(float));
    if (!same) fail_msg("%s: results of row %u depend on how rows are run", name, row);
}

static void same_pools(const char *name, const scene *s, const results *a, const results *b)
{
    if (!s->kv.format) return;
    uint64_t n_bytes = s->n_pages * gm_kv_page_bytes(&s->kv);
    if (memcmp(a->k, b->k, n_bytes) || memcmp(a->v, b->v, n_bytes))
        fail_msg("%s: the KV depends on how rows are run", name);
}

/* Pieces of the given lengths, over and over, until all rows are through. */
static void in_pieces(const char *name, const scene *s, gm_backend *be, const results *whole, const uint32_t *lengths,
                      uint32_t n_lengths)
{
    results *r = scene_results(s);
    for (uint32_t first = 0, i = 0; first < s->n_rows; i++) {
        uint32_t rows[SCENE_ROWS], n = gm_min_u32(lengths[i % n_lengths], s->n_rows - first);
        for (uint32_t k = 0; k < n; k++) rows[k] = first + k;
        scene_run(s, be, rows, n, r);
        for (uint32_t k = 0; k < n; k++) same_row(name, s, whole, first + k, r, k);
        first += n;
    }
    same_pools(name, s, whole, r);
}

void cases_check_bits(gm_backend *const *backends, uint32_t n)
{
    static const uint32_t one[] = { 1 }, odd[] = { 3, 1, 7, 2, 13 }, large[] = { 48, 5 };
    for (uint32_t i = 0; i < cases_count(); i++) {
        scene s;
        const char *name = cases_make(i, &s);
        results *first = scene_results(&s);
        scene_run(&s, backends[0], NULL, 0, first);
        for (uint32_t b = 1; b < n; b++) {
            results *r = scene_results(&s);
            scene_run(&s, backends[b], NULL, 0, r);
            for (uint32_t row = 0; row < s.n_rows; row++) same_row(name, &s, first, row, r, row);
            same_pools(name, &s, first, r);
        }
        in_pieces(name, &s, backends[n - 1], first, one, GM_COUNT(one));
        in_pieces(name, &s, backends[n - 1], first, odd, GM_COUNT(odd));
        in_pieces(name, &s, backends[0], first, large, GM_COUNT(large));
        scene_free_all();
    }
}
