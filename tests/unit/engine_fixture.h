/* An engine over the dummy device with a plan made by hand: two layers of KV (one global, one sliding), F32, and the
 * results that backend/dummy/dummy.h promises. */
#ifndef GM_TEST_ENGINE_FIXTURE_H
#define GM_TEST_ENGINE_FIXTURE_H

#include "backend/dummy/dummy.h"
#include "session/session.h"
#include "support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

enum { FIX_VOCAB = 383, FIX_EMBD = 8, FIX_HEAD = 32, FIX_WINDOW = 64 };

typedef struct fixture {
    gm_mem mem;
    gm_backend *dummy;
    gm_kv_layer kv[2];
    gm_program programs[GM_PROGRAMS];
    gm_op op;
    gm_share share;
    gm_segment segment;
    uint8_t kv_share[2];
    gm_plan plan;
    gm_engine *engine;
} fixture;

static inline gm_kv_shape fixture_shape(uint32_t ctx, uint32_t n_sessions)
{
    gm_kv_shape s = { .ctx = ctx, .window = FIX_WINDOW, .slack = 32, .ubatch = 32 };
    s.n_sessions = n_sessions;
    s.n_marks = 2;
    s.n_global = gm_kv_global_pages(n_sessions * gm_align_up(ctx, GM_PAGE));
    s.n_sliding = gm_kv_sliding_pages(FIX_WINDOW, s.slack, s.ubatch, n_sessions) + 2 * gm_kv_mark_pages(FIX_WINDOW);
    return s;
}

/* Everything but the engine. */
static inline void fixture_plan(fixture *f, gm_kv_shape shape)
{
    memset(f, 0, sizeof *f);
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&f->mem, &host);
    assert_int_equal(gm_dummy_create(&f->mem, NULL, &f->dummy, NULL), GEMMA_OK);
    f->op = (gm_op){ .kind = GM_OP_HEAD, .rows = GM_ROWS_WANTED, .n_vocab = FIX_VOCAB, .kv = -1 };
    for (size_t i = 0; i < GM_COUNT(f->op.w); i++) f->op.w[i] = -1;
    f->segment = (gm_segment){ .n_ops = 1 };
    for (uint32_t i = 0; i < 2; i++) {
        f->kv[i] = (gm_kv_layer){ .kind = i, .layer = i, .n_kv = 1, .head = FIX_HEAD, .format = gm_format_of(GM_F32) };
        f->programs[i] = (gm_program){ .mem = &f->mem, .ops = &f->op, .n_ops = 1, .max_rows = shape.ubatch };
        f->programs[i].cut = i == GM_PROGRAM_CUT;
        f->programs[i].kv = f->kv;
        f->programs[i].n_kv = 2;
        f->plan.programs[i] = f->share.programs[i] = &f->programs[i];
        f->plan.cuts[i] = (gm_cuts){ .segments = &f->segment, .n_segments = 1 };
    }
    f->plan.mem = &f->mem;
    f->plan.devices = (gm_devices){ .backends = { f->dummy }, .n = 1 };
    f->plan.shares = &f->share;
    f->plan.kv_share = f->kv_share;
    f->plan.kv_shape = shape;
    f->plan.limits = (gm_step_limits){ .max_rows = shape.ubatch,
                                       .n_tables = shape.n_sessions,
                                       .global_pages = gm_kv_table_global(&shape),
                                       .sliding_ring = gm_kv_table_ring(&shape),
                                       .result_rows = 2,
                                       .n_vocab = FIX_VOCAB,
                                       .n_embd = FIX_EMBD,
                                       .max_copies = 2 * shape.n_sessions };
    f->share.backend = f->dummy;
    f->share.limits = f->plan.limits;
}

/* lib/weights is not linked: this is all that the engine needs of it. */
static inline int fixture_resident(fixture *f, gm_resident **out)
{
    const gm_plan *p = &f->plan;
    gm_resident *r = gm_new(&f->mem, sizeof *r, GEMMA_TAG_OBJECT);
    if (!r) return GEMMA_E_NOMEM;
    r->mem = &f->mem;
    r->n_blocks = 3;
    r->n_shares = 1;
    r->buffers = gm_new_array(&f->mem, r->n_blocks, sizeof *r->buffers, GEMMA_TAG_OBJECT);
    gm_resident_share *share = r->shares = gm_new(&f->mem, sizeof *r->shares, GEMMA_TAG_OBJECT);
    if (share) share->kv_k = gm_new_array(&f->mem, 4, sizeof *share->kv_k, GEMMA_TAG_OBJECT);
    if (share && share->kv_k) share->kv_v = share->kv_k + 2;
    int rc = r->buffers && share && share->kv_k ? GEMMA_OK : GEMMA_E_NOMEM;
    for (uint32_t i = 0; !rc && i < 2; i++) {
        uint64_t half = gm_kv_page_bytes(&f->kv[i]) * (i ? p->kv_shape.n_sliding : p->kv_shape.n_global);
        rc = gm_buffer_create(f->dummy, 0, 2 * half, GEMMA_TAG_KV, &r->buffers[i], NULL);
        if (rc) break;
        memset(r->buffers[i]->host, 0xff, 2 * half);
        share->kv_k[i] = (gm_span){ .buffer = r->buffers[i] };
        share->kv_v[i] = (gm_span){ .buffer = r->buffers[i], .offset = half };
    }
    uint64_t n_bytes = gm_step_block_layout(&p->limits, NULL, NULL);
    if (!rc) rc = gm_buffer_create(f->dummy, 0, n_bytes, GEMMA_TAG_STAGING, &r->buffers[2], NULL);
    if (rc) {
        gm_resident_destroy(r);
        return rc;
    }
    share->staging = r->buffers[2];
    for (uint32_t i = 0; i < 3; i++) r->allocated_bytes += r->buffers[i]->n_bytes;
    *out = r;
    return GEMMA_OK;
}

void gm_resident_destroy(gm_resident *r)
{
    if (!r) return;
    for (uint32_t i = 0; r->buffers && i < r->n_blocks; i++) gm_buffer_destroy(r->buffers[i]);
    gm_delete(r->mem, r->buffers);
    if (r->shares) gm_delete(r->mem, r->shares->kv_k);
    gm_delete(r->mem, r->shares);
    gm_delete(r->mem, r);
}

int gm_proof_create(const gm_plan *plan, const gm_resident *r, gm_proof **out, gm_proof_result *result,
                    gemma_error *error)
{
    (void)plan, (void)r;
    *out = NULL;
    *result = (gm_proof_result){ 0 };
    return gm_fail(error, GEMMA_E_INTERNAL, "the fixture proves nothing");
}

int gm_proof_again(gm_proof *p, gm_proof_result *result, gemma_error *error)
{
    return gm_proof_create(NULL, NULL, &p, result, error);
}

void gm_proof_destroy(gm_proof *p) { (void)p; }

static inline int fixture_engine(fixture *f, gemma_error *error)
{
    gm_resident *r = NULL;
    int rc = fixture_resident(f, &r);
    return rc ? rc : gm_engine_create(&f->plan, r, &f->engine, error);
}

static inline void fixture_create(fixture *f, uint32_t ctx, uint32_t n_sessions)
{
    fixture_plan(f, fixture_shape(ctx, n_sessions));
    assert_int_equal(fixture_engine(f, NULL), GEMMA_OK);
}

static inline void fixture_destroy(fixture *f)
{
    if (f->engine) {
        gemma_model_status status;
        gm_engine_query(f->engine, &status);
        assert_int_equal(status.global_pages_free, status.global_pages);
        assert_int_equal(status.sliding_pages_free, status.sliding_pages);
    }
    gm_engine_destroy(f->engine);
    gm_backend_destroy(f->dummy);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

static inline uint32_t pages_in_use(fixture *f)
{
    gemma_model_status status;
    gm_engine_query(f->engine, &status);
    return status.global_pages - status.global_pages_free + status.sliding_pages - status.sliding_pages_free;
}

static inline gm_session *fixture_session(fixture *f)
{
    gm_session *s;
    assert_int_equal(gm_session_create(f->engine, 0, &s, NULL), GEMMA_OK);
    return s;
}

/* n ids that differ from one another and by `seed`. */
static inline const int32_t *some_ids(uint32_t seed, uint32_t n)
{
    static _Thread_local int32_t ids[4096];
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)((i * 31 + seed * 97 + i / 7) % FIX_VOCAB);
    return ids;
}

static inline void cancel_init(gemma_cancel *c)
{
    memset(c, 0, sizeof *c);
    atomic_init(&c->raised, 0);
}

/* ---- a little less to write ---- */

static inline void feed(gm_session *s, const int32_t *ids, size_t n)
{
    if (gm_session_feed(s, ids, n, NULL)) fail_msg("%s", gm_session_error(s)->message);
}

static inline int add(gm_step *t, gm_session *s, int32_t token, uint32_t want)
{
    gemma_row row = { .size = sizeof row, .token = token, .target = token, .want = want };
    return gm_step_add(t, s, &row, NULL);
}

static inline void add_ok(gm_step *t, gm_session *s, int32_t token, uint32_t want)
{
    if (add(t, s, token, want)) fail_msg("%s", gm_step_error(t)->message);
}

static inline void run_step(gm_step *t)
{
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_OK);
    assert_int_equal(gm_step_wait(t, UINT64_MAX), GEMMA_OK);
}

static inline gm_step *new_step(fixture *f)
{
    gm_step *t;
    assert_int_equal(gm_step_create(f->engine, &t, NULL), GEMMA_OK);
    return t;
}

/* The session's pages hold its ids: asked with one more row, which is then taken back. */
static inline void check_content(fixture *f, gm_session *s)
{
    int32_t ids[1024];
    uint32_t n = gm_session_position(s), n_embd;
    assert_int_equal(gm_session_ids(s, 0, ids, 1024), n);
    ids[n] = 7;
    gm_step *t = new_step(f);
    add_ok(t, s, 7, GEMMA_WANT_HIDDEN);
    run_step(t);
    const float *hidden = gm_step_hidden(t, 0, &n_embd);
    assert_int_equal(n_embd, FIX_EMBD);
    assert_int_equal((uint32_t)hidden[1], gm_dummy_history(ids, n + 1) % 65536);
    gm_step_destroy(t);
    assert_int_equal(gm_session_rewind(s, n), GEMMA_OK);
}

static inline void check_message(const gemma_error *error, int code, const char *part)
{
    assert_int_equal(error->code, code);
    if (!strstr(error->message, part)) fail_msg("\"%s\" has no \"%s\"", error->message, part);
}

#endif
