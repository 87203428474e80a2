/* kv against a naive reference: every session keeps the list of what stands at its positions, pages keep what was
 * written to them, and after each operation every position that a layer may read must resolve to the right content. */
#ifndef GM_TEST_KV_FIXTURE_H
#define GM_TEST_KV_FIXTURE_H

#include "kv/kv.h"
#include "support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#define SESSIONS 8

static uint32_t random_state;
static inline uint32_t below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return n ? (uint32_t)(((uint64_t)random_state * n) >> 32) : 0;
}

/* ---- the reference ---- */

typedef struct session {
    gm_kv_seq *seq; /* NULL: not alive */
    uint32_t *ids;  /* [ctx] what stands at each position */
    uint32_t length, longest, bottom;
    uint32_t marks[16], n_marks;
    uint32_t *table; /* the step block's line */
    uint32_t prepared;
} session;

typedef struct world {
    gm_mem mem;
    gm_kv_shape shape;
    gm_kv *kv;
    session sessions[SESSIONS];
    uint32_t *content[2]; /* [pages][64] */
    uint32_t next_id;
    uint32_t n_steps, n_marked, n_rewound, n_refused, n_no_pages, n_copies;
} world;

static inline void world_create(world *w, gm_kv_shape shape)
{
    memset(w, 0, sizeof *w);
    gm_mem_init(&w->mem, NULL);
    w->shape = shape;
    w->next_id = 1;
    assert_int_equal(gm_kv_create(&w->mem, &shape, &w->kv), GEMMA_OK);
    w->content[GM_KV_GLOBAL] = calloc((size_t)shape.n_global * GM_PAGE + 1, 4);
    w->content[GM_KV_SLIDING] = calloc((size_t)shape.n_sliding * GM_PAGE + 1, 4);
    uint32_t stride = gm_kv_table_global(&shape) + gm_kv_table_ring(&shape);
    for (uint32_t i = 0; i < shape.n_sessions; i++) {
        w->sessions[i].ids = calloc(shape.ctx, 4);
        w->sessions[i].table = calloc(stride, 4);
    }
}

static inline void world_destroy(world *w)
{
    for (uint32_t i = 0; i < w->shape.n_sessions; i++) {
        gm_kv_seq_destroy(w->sessions[i].seq);
        free(w->sessions[i].ids);
        free(w->sessions[i].table);
    }
    assert_int_equal(gm_kv_free_pages(w->kv, GM_KV_GLOBAL), w->shape.n_global);
    assert_int_equal(gm_kv_free_pages(w->kv, GM_KV_SLIDING), w->shape.n_sliding);
    gm_kv_destroy(w->kv);
    free(w->content[0]);
    free(w->content[1]);
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++) assert_int_equal(gm_mem_live(&w->mem, tag), 0);
}

static inline uint32_t *cell(world *w, const session *s, uint32_t kind, uint32_t position)
{
    uint32_t n_global = gm_kv_table_global(&w->shape), ring = gm_kv_table_ring(&w->shape);
    uint32_t index = position / GM_PAGE;
    uint32_t page = kind == GM_KV_GLOBAL ? s->table[index] : s->table[n_global + index % ring];
    assert_true(page < (kind == GM_KV_GLOBAL ? w->shape.n_global : w->shape.n_sliding));
    return &w->content[kind][(size_t)page * GM_PAGE + position % GM_PAGE];
}

static inline void check_session(world *w, session *s)
{
    if (!s->seq) return;
    gm_kv_sync(s->seq, s->table);
    assert_int_equal(gm_kv_seq_length(s->seq), s->length);
    uint32_t from = s->length >= w->shape.window ? s->length - w->shape.window + 1 : 0;
    for (uint32_t p = 0; w->shape.n_global && p < s->length; p++) {
        if (*cell(w, s, GM_KV_GLOBAL, p) != s->ids[p]) fail_msg("global position %u of %u", p, s->length);
    }
    for (uint32_t p = from; w->shape.n_sliding && p < s->length; p++) {
        if (*cell(w, s, GM_KV_SLIDING, p) != s->ids[p]) fail_msg("sliding position %u of %u", p, s->length);
    }
}

static inline void check(world *w)
{
    for (uint32_t i = 0; i < w->shape.n_sessions; i++) check_session(w, &w->sessions[i]);
}

static inline session *pick(world *w, bool alive)
{
    uint32_t at = below(w->shape.n_sessions);
    for (uint32_t i = 0; i < w->shape.n_sessions; i++, at = (at + 1) % w->shape.n_sessions) {
        if ((w->sessions[at].seq != NULL) == alive) return &w->sessions[at];
    }
    return NULL;
}

static inline void start(session *s, gm_kv_seq *seq)
{
    s->seq = seq;
    s->length = s->longest = s->bottom = s->n_marks = s->prepared = 0;
}

/* ---- operations ---- */

static inline void copy_pages(world *w, const gm_page_copy *copies, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        memcpy(w->content[copies[i].kind] + (size_t)copies[i].to * GM_PAGE,
               w->content[copies[i].kind] + (size_t)copies[i].from * GM_PAGE, GM_PAGE * sizeof(uint32_t));
    }
    w->n_copies += n;
}

static inline void write_rows(world *w, session *s)
{
    gm_kv_sync(s->seq, s->table);
    for (uint32_t k = 0; k < s->prepared; k++) {
        uint32_t p = s->length + k, id = w->next_id++;
        s->ids[p] = id;
        if (w->shape.n_global) *cell(w, s, GM_KV_GLOBAL, p) = id;
        if (w->shape.n_sliding) *cell(w, s, GM_KV_SLIDING, p) = id;
    }
}

/* Prepares, for some of the sessions, pieces of at most ubatch rows in all; false: no pages. */
static inline bool prepare_some(world *w, gm_page_copy *copies, uint32_t *n_copies)
{
    uint32_t left = below(4) ? w->shape.ubatch : gm_min_u32(w->shape.ubatch, 1 + below(6) * w->shape.n_sessions);
    for (uint32_t i = 0; i < w->shape.n_sessions; i++) {
        session *s = &w->sessions[i];
        s->prepared = 0;
        if (!s->seq || !left || below(3) == 0) continue;
        uint32_t n = below(3) ? 1 + below(left) : gm_min_u32(left, 1 + below(4)), room = w->shape.ctx - s->length;
        if (n > room) {
            uint32_t before = gm_kv_free_pages(w->kv, GM_KV_GLOBAL);
            assert_int_equal(gm_kv_prepare(s->seq, n, copies, n_copies), GEMMA_E_FULL);
            assert_int_equal(gm_kv_free_pages(w->kv, GM_KV_GLOBAL), before);
            n = room;
        }
        uint32_t had = *n_copies;
        int rc = gm_kv_prepare(s->seq, n, copies, n_copies);
        assert_true(*n_copies - had <= 2);
        if (rc) {
            assert_int_equal(rc, GEMMA_E_NOPAGES);
            assert_int_equal(*n_copies, had);
            return false;
        }
        s->prepared = n;
        left -= n;
    }
    return true;
}

static inline void step(world *w)
{
    gm_page_copy copies[2 * SESSIONS];
    uint32_t n_copies = 0, had[2] = { gm_kv_free_pages(w->kv, 0), gm_kv_free_pages(w->kv, 1) };
    bool ready = prepare_some(w, copies, &n_copies), commit = ready && below(8);
    w->n_steps++;
    w->n_no_pages += !ready;
    if (ready && (commit || below(2))) { /* a cancelled step may have run in part */
        copy_pages(w, copies, n_copies);
        for (uint32_t i = 0; i < w->shape.n_sessions; i++) {
            if (w->sessions[i].seq) write_rows(w, &w->sessions[i]);
        }
    }
    for (uint32_t i = 0; i < w->shape.n_sessions; i++) {
        session *s = &w->sessions[i];
        if (!s->seq || (commit && !s->prepared)) continue;
        if (!commit) {
            gm_kv_drop(s->seq);
            continue;
        }
        uint32_t n = below(4) ? s->prepared : below(s->prepared + 1); /* drafts count in part */
        gm_kv_commit(s->seq, n);
        s->length += n;
        s->longest = gm_max_u32(s->longest, s->length);
    }
    if (!commit) {
        assert_int_equal(gm_kv_free_pages(w->kv, 0), had[0]);
        assert_int_equal(gm_kv_free_pages(w->kv, 1), had[1]);
    }
}

static inline bool marked(const session *s, uint32_t position)
{
    for (uint32_t i = 0; i < s->n_marks; i++) {
        if (s->marks[i] == position) return true;
    }
    return false;
}

static inline bool promised(const world *w, const session *s, uint32_t position)
{
    if (!w->shape.n_sliding || position == 0 || marked(s, position)) return true;
    return position >= s->bottom && position + w->shape.slack >= s->longest;
}

static inline uint32_t some_target(const session *s)
{
    switch (below(6)) {
    case 0: return s->n_marks ? s->marks[below(s->n_marks)] : s->length;
    case 1: return below(s->length + 1);
    case 2: return below(8) ? s->length : 0;
    default: return s->length - gm_min_u32(s->length, below(70));
    }
}

static inline void rewind_some(world *w, session *s)
{
    uint32_t to = some_target(s), nearest = UINT32_MAX;
    uint32_t reachable = gm_kv_reachable(s->seq, to);
    int rc = gm_kv_rewind(s->seq, to, &nearest);
    assert_int_equal(nearest, reachable);
    if (promised(w, s, to)) assert_int_equal(rc, GEMMA_OK);
    if (rc) {
        assert_int_equal(rc, GEMMA_E_REWIND);
        assert_true(nearest < to);
        for (uint32_t p = nearest + 1; p <= to; p++) assert_false(promised(w, s, p));
        w->n_refused++;
        if (below(2)) return;
        check_session(w, s);
        assert_int_equal(gm_kv_rewind(s->seq, to = nearest, NULL), GEMMA_OK);
    }
    w->n_rewound++;
    if (to == 0 || marked(s, to)) s->longest = s->bottom = to;
    s->length = to;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_marks; i++) {
        if (s->marks[i] <= to) s->marks[n++] = s->marks[i];
    }
    s->n_marks = n;
}

static inline void mark_some(world *w, session *s)
{
    uint32_t in_use = 0;
    for (uint32_t i = 0; i < w->shape.n_sessions; i++) in_use += w->sessions[i].seq ? w->sessions[i].n_marks : 0;
    int rc = gm_kv_mark(s->seq);
    if (marked(s, s->length)) {
        assert_int_equal(rc, GEMMA_OK);
        return;
    }
    bool own = in_use == s->n_marks;
    assert_int_equal(rc, in_use < w->shape.n_marks || (own && s->n_marks) ? GEMMA_OK : GEMMA_E_NOPAGES);
    if (rc) return;
    w->n_marked++;
    if (in_use == w->shape.n_marks) memmove(s->marks, s->marks + 1, --s->n_marks * sizeof *s->marks);
    s->marks[s->n_marks++] = s->length;
}

static inline void unmark_some(session *s)
{
    assert_int_equal(gm_kv_unmark(s->seq, s->length + 1), GEMMA_E_ARG);
    if (!s->n_marks) return;
    uint32_t i = below(s->n_marks);
    assert_int_equal(gm_kv_unmark(s->seq, s->marks[i]), GEMMA_OK);
    memmove(s->marks + i, s->marks + i + 1, (--s->n_marks - i) * sizeof *s->marks);
}

static inline void fork_some(world *w, session *s)
{
    session *other = pick(w, false);
    gm_kv_seq *seq;
    int rc = gm_kv_fork(s->seq, &seq);
    assert_int_equal(rc, other ? GEMMA_OK : GEMMA_E_NOPAGES);
    if (rc) return;
    start(other, seq);
    memcpy(other->ids, s->ids, s->length * sizeof *s->ids);
    other->length = s->length;
    other->longest = s->longest;
    other->bottom = s->bottom;
}

static inline void create_or_destroy(world *w)
{
    session *dead = pick(w, false), *alive = pick(w, true);
    if (dead && (!alive || below(2))) {
        gm_kv_seq *seq;
        assert_int_equal(gm_kv_seq_create(w->kv, &seq), GEMMA_OK);
        start(dead, seq);
    } else if (alive && below(4) == 0) {
        gm_kv_seq_destroy(alive->seq);
        start(alive, NULL);
    }
}

/* Sizes by the rule of the header. */
static inline gm_kv_shape shape_of(uint32_t ctx, uint32_t window, uint32_t slack, uint32_t ubatch, uint32_t n_sessions,
                                   uint32_t n_marks)
{
    gm_kv_shape s = { .ctx = ctx, .window = window, .slack = slack, .ubatch = ubatch };
    s.n_sessions = n_sessions;
    s.n_marks = n_marks;
    s.n_global = gm_kv_global_pages((uint64_t)n_sessions * gm_align_up(ctx, GM_PAGE));
    s.n_sliding = gm_kv_sliding_pages(window, slack, ubatch, n_sessions) + n_marks * gm_kv_mark_pages(window);
    return s;
}

/* To other pools, as large or larger: everything stands as it did. */
static inline void move_house(world *w)
{
    gm_kv_shape shape = w->shape;
    gm_kv *kv;
    uint32_t *map[2];
    if (shape.n_global) shape.n_global += below(3);
    if (shape.n_sliding) shape.n_sliding += below(3);
    assert_int_equal(gm_kv_create(&w->mem, &shape, &kv), GEMMA_OK);
    for (int kind = 0; kind < 2; kind++)
        map[kind] = calloc((kind == GM_KV_SLIDING ? w->shape.n_sliding : w->shape.n_global) + 1, 4);
    assert_int_equal(gm_kv_rehouse(w->kv, kv, map), GEMMA_OK);
    for (int kind = 0; kind < 2; kind++) {
        bool sliding = kind == GM_KV_SLIDING;
        uint32_t n_old = sliding ? w->shape.n_sliding : w->shape.n_global;
        uint32_t n_new = sliding ? shape.n_sliding : shape.n_global, n_used = 0;
        uint32_t *content = calloc((size_t)n_new * GM_PAGE + 1, 4);
        for (uint32_t page = 0; page < n_old; page++) {
            uint32_t to = map[kind][page];
            if (to == UINT32_MAX) continue;
            assert_true(to < n_new && gm_kv_page_used(w->kv, (gm_kv_kind)kind, page));
            memcpy(content + (size_t)to * GM_PAGE, w->content[kind] + (size_t)page * GM_PAGE, GM_PAGE * 4);
            n_used++;
        }
        assert_int_equal(gm_kv_free_pages(kv, (gm_kv_kind)kind), n_new - n_used); /* shared as before */
        free(w->content[kind]);
        free(map[kind]);
        w->content[kind] = content;
    }
    for (uint32_t i = 0; i < w->shape.n_sessions; i++)
        if (w->sessions[i].seq) w->sessions[i].seq = gm_kv_seq_moved(w->sessions[i].seq);
    gm_kv_abandon(w->kv);
    w->kv = kv;
    w->shape = shape;
}

static inline void wander(world *w, uint32_t n_operations, bool forks)
{
    for (uint32_t i = 0; i < n_operations; i++) {
        session *s = pick(w, true);
        uint32_t what = below(20);
        if (!s || what == 0)
            create_or_destroy(w);
        else if (what == 1)
            mark_some(w, s);
        else if (what == 2)
            unmark_some(s);
        else if (what <= 5)
            rewind_some(w, s);
        else if (what == 6 && forks)
            fork_some(w, s);
        else if (what == 7 && below(4) == 0)
            move_house(w);
        else
            step(w);
        check(w);
    }
}

#endif
