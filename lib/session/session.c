#include "session/internal.h"

/* ---- create, destroy, fork ---- */

static step_sizes feeder_sizes(const gm_plan *plan) { return (step_sizes){ .rows = plan->limits.max_rows }; }
static uint64_t bytes_of(uint32_t ctx) { return sizeof(gm_session) + (uint64_t)ctx * sizeof(int32_t); }

uint64_t gm_engine_session_bytes(const gm_plan *plan)
{
    step_sizes sizes = feeder_sizes(plan);
    return bytes_of(plan->kv_shape.ctx) + gm_step_bytes(plan, &sizes) + gm_kv_seq_bytes(&plan->kv_shape) +
           3 * GM_NEW_EXTRA;
}

/* With the pages of `parent`, or empty. */
static int create(gm_engine *e, uint32_t ctx, gm_session *parent, gm_session **out, gemma_error *error)
{
    *out = NULL;
    gm_session *s = gm_new(e->mem, bytes_of(ctx), GEMMA_TAG_OBJECT);
    if (!s) return gm_fail_nomem(error, "a session", bytes_of(ctx));
    s->engine = e;
    s->ctx = s->ctx_asked = ctx;
    s->ids = (int32_t *)(s + 1);
    gm_error_init(&s->error);
    step_sizes sizes = feeder_sizes(e->plan);
    int rc = gm_step_new(e, &sizes, &s->feeder, error);
    if (rc) goto done;
    gm_mutex_lock(e->lock);
    gm_engine_await_still(e);
    rc = parent ? gm_kv_fork(parent->seq, &s->seq) : gm_kv_seq_create(e->kv, &s->seq);
    s->next = e->sessions;
    e->sessions = s;
    gm_mutex_unlock(e->lock);
    if (rc == GEMMA_E_NOPAGES)
        gm_fail(error, rc, "all %u sessions of the plan are alive", e->plan->kv_shape.n_sessions);
    else if (rc)
        gm_fail_nomem(error, "a session's page tables", gm_kv_seq_bytes(&e->plan->kv_shape));
done:
    if (rc) {
        gm_session_destroy(s);
        s = NULL;
    }
    *out = s;
    return rc;
}

int gm_session_create_at(gm_engine *e, uint32_t ctx, uint32_t first_position, gm_session **out, gemma_error *error)
{
    uint32_t most = e->plan->kv_shape.ctx;
    *out = NULL;
    if (ctx > most) return gm_fail(error, GEMMA_E_ARG, "a session of %u tokens: the plan has room for %u", ctx, most);
    if (first_position > FIRST_POSITION_MAX)
        return gm_fail(error, GEMMA_E_ARG, "first_position is %u, and %u at most", first_position, FIRST_POSITION_MAX);
    int rc = create(e, ctx ? ctx : most, NULL, out, error);
    if (!rc) (*out)->first_position = first_position;
    return rc;
}

int gm_session_create(gm_engine *e, uint32_t ctx, gm_session **out, gemma_error *error)
{
    return gm_session_create_at(e, ctx, 0, out, error);
}

void gm_session_destroy(gm_session *s)
{
    if (!s) return;
    gm_engine *e = s->engine;
    gm_mutex_lock(e->lock);
    gm_engine_await_still(e);
    gm_session **at = &e->sessions;
    while (*at && *at != s) at = &(*at)->next;
    if (*at) *at = s->next;
    if (s->step) gm_engine_await(e, s->step, FOREVER);
    for (uint32_t i = 0; s->step && i < s->step->n_parts; i++) {
        if (s->step->parts[i].session == s) s->step->parts[i].session = NULL; /* submit will notice */
    }
    gm_kv_seq_destroy(s->seq);
    gm_mutex_unlock(e->lock);
    gm_step_destroy(s->feeder);
    gm_delete(e->mem, s);
}

/* ---- what is asked ---- */

void **gm_session_owner(gm_session *s) { return &s->owner; }
const gemma_error *gm_session_error(const gm_session *s) { return &s->error; }
gemma_error *gm_session_sentence(gm_session *s) { return &s->error; }
uint32_t gm_session_position(const gm_session *s) { return s->n_ids; }
uint32_t gm_session_room(const gm_session *s) { return s->ctx - s->n_ids; }

size_t gm_session_ids(const gm_session *s, uint32_t from, int32_t *ids, size_t n_cap)
{
    if (from >= s->n_ids) return 0;
    size_t n = gm_min_u64(n_cap, s->n_ids - from);
    if (n) memcpy(ids, s->ids + from, n * sizeof *ids);
    return n;
}

/* ---- calls under the lock; none while a step has rows of the session ---- */

int gm_session_enter(gm_session *s, const char *call)
{
    gm_mutex_lock(s->engine->lock);
    gm_engine_await_still(s->engine);
    if (!s->step) return GEMMA_OK;
    gm_mutex_unlock(s->engine->lock);
    return gm_fail(&s->error, GEMMA_E_STATE, "%s: a step has rows of this session; wait for it or clear it first",
                   call);
}

int gm_session_leave(gm_session *s, int rc)
{
    gm_mutex_unlock(s->engine->lock);
    return rc;
}

int gm_session_fork(gm_session *s, gm_session **out, gemma_error *error)
{
    *out = NULL;
    int rc = gm_session_enter(s, "fork");
    if (rc) return gm_fail(error, rc, "%s", s->error.message);
    gm_session_leave(s, GEMMA_OK); /* a session has one thread at a time: it stays as it is */
    rc = create(s->engine, s->ctx, s, out, error);
    if (rc) return rc;
    memcpy((*out)->ids, s->ids, s->n_ids * sizeof *s->ids);
    (*out)->n_ids = s->n_ids;
    (*out)->first_position = s->first_position;
    return GEMMA_OK;
}

static int rewind_to(gm_session *s, uint32_t position)
{
    uint32_t nearest, stands = s->n_ids;
    if (position > stands)
        return gm_fail(&s->error, GEMMA_E_REWIND, "rewind to %u: the session stands at %u", position, stands);
    int rc = gm_kv_rewind(s->seq, position, &nearest);
    if (rc)
        return gm_fail(&s->error, rc,
                       "rewind to %u: positions below %u have left the window; the nearest that can be had is %u",
                       position, gm_kv_window_first(s->seq), nearest);
    s->n_ids = position;
    return GEMMA_OK;
}

int gm_session_rewind(gm_session *s, uint32_t position)
{
    int rc = gm_session_enter(s, "rewind");
    return rc ? rc : gm_session_leave(s, rewind_to(s, position));
}

int gm_session_mark(gm_session *s)
{
    int rc = gm_session_enter(s, "mark");
    if (rc) return rc;
    uint32_t n_marks = s->engine->plan->kv_shape.n_marks;
    rc = gm_kv_mark(s->seq);
    if (rc && !n_marks)
        gm_fail(&s->error, rc, "mark at %u: the plan has no marks", s->n_ids);
    else if (rc)
        gm_fail(&s->error, rc, "mark at %u: other sessions hold some of the plan's %u", s->n_ids, n_marks);
    return gm_session_leave(s, rc);
}

int gm_session_unmark(gm_session *s, uint32_t position)
{
    int rc = gm_session_enter(s, "unmark");
    if (rc) return rc;
    rc = gm_kv_unmark(s->seq, position);
    if (rc) gm_fail(&s->error, rc, "unmark %u: there is no mark", position);
    return gm_session_leave(s, rc);
}

int gm_session_match(gm_session *s, const int32_t *ids, size_t n, uint32_t *kept)
{
    *kept = 0;
    if (!ids || n == 0) return gm_fail(&s->error, GEMMA_E_ARG, "match: there are no ids");
    int rc = gm_session_enter(s, "match");
    if (rc) return rc;
    uint32_t most = (uint32_t)gm_min_u64(n - 1, s->n_ids), same = 0;
    while (same < most && ids[same] == s->ids[same]) same++;
    same = gm_kv_reachable(s->seq, same);
    rc = rewind_to(s, same);
    if (!rc) *kept = same;
    return gm_session_leave(s, rc);
}

/* ---- feed ---- */

static int check_feed(gm_session *s, const int32_t *ids, size_t n)
{
    if (!ids || n == 0) return gm_fail(&s->error, GEMMA_E_ARG, "feed: there are no ids");
    for (size_t i = 0; i < n; i++) {
        if (!gm_session_token_valid(s->engine, ids[i]))
            return gm_fail(&s->error, GEMMA_E_TOKEN, "feed: id %d at %zu is not one of %u", (int)ids[i], i,
                           s->engine->n_vocab);
    }
    if (n > gm_session_room(s))
        return gm_fail(&s->error, GEMMA_E_FULL, "feed: %zu tokens, but the session has %u of %u left", n,
                       gm_session_room(s), s->ctx);
    return GEMMA_OK;
}

/* Global pages for all n, so that the session cannot be stranded half-way. (Sliding pages suffice by their number.) */
static int reserve(gm_session *s, uint32_t n)
{
    int rc = gm_session_enter(s, "feed");
    if (rc) return rc;
    rc = gm_kv_reserve(s->seq, n);
    if (rc)
        gm_fail(&s->error, rc,
                "feed: %u tokens from position %u: other sessions hold the pages, %u global ones are free", n, s->n_ids,
                gm_kv_free_pages(s->engine->kv, GM_KV_GLOBAL));
    return gm_session_leave(s, rc);
}

static bool cancelled(const feeding *f) { return f->cancel && atomic_load(&f->cancel->raised); }

static int run_piece(gm_session *s, gm_step *t, const int32_t *ids, uint32_t n, uint32_t want,
                     const gemma_cancel *cancel)
{
    int rc = gm_step_fill(t, s, ids, n, want);
    if (!rc) rc = gm_step_submit(t, cancel);
    if (!rc) rc = gm_step_wait(t, FOREVER);
    if (rc) {
        gm_fail(&s->error, rc, "%s", t->error.message);
        gm_step_clear(t);
    }
    return rc;
}

/* Rows of a step now: another plan may have taken over before the last one. */
static uint32_t most_rows(const gm_session *s, const gm_step *t)
{
    gm_mutex_lock(s->engine->lock);
    uint32_t most = gm_min_u32(s->engine->plan->limits.max_rows, t->sizes.rows);
    gm_mutex_unlock(s->engine->lock);
    return most;
}

static int run_pieces(gm_session *s, gm_step *t, const int32_t *ids, uint32_t n, const feeding *f)
{
    for (uint32_t done = 0; done < n;) {
        uint32_t most = most_rows(s, t), rows = gm_min_u32(f->piece ? gm_min_u32(f->piece, most) : most, n - done);
        bool stop = cancelled(f);
        int rc =
            stop ? GEMMA_E_CANCELLED : run_piece(s, t, ids + done, rows, done + rows == n ? f->want : 0, f->cancel);
        if (rc == GEMMA_E_CANCELLED) return gm_fail(&s->error, rc, "cancelled with %u of %u tokens fed", done, n);
        if (rc == GEMMA_E_SMALL && most_rows(s, t) < rows) continue; /* a smaller plan has taken over */
        if (rc) return rc;
        done += rows;
        if (f->progress && f->progress(f->progress_user, done, n) && done < n)
            return gm_fail(&s->error, GEMMA_E_CANCELLED, "cancelled with %u of %u tokens fed", done, n);
    }
    return GEMMA_OK;
}

int gm_session_run(gm_session *s, gm_step *t, const int32_t *ids, size_t n, const feeding *f)
{
    int rc = check_feed(s, ids, n);
    if (!rc) rc = reserve(s, (uint32_t)n);
    if (rc) return rc;
    rc = run_pieces(s, t, ids, (uint32_t)n, f);
    gm_mutex_lock(s->engine->lock);
    gm_engine_await_still(s->engine);
    gm_kv_unreserve(s->seq);
    return gm_session_leave(s, rc);
}

int gm_session_feed(gm_session *s, const int32_t *ids, size_t n, const gemma_feed_options *options)
{
    gemma_feed_options o;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_feed_options", &s->error);
    if (rc) return rc;
    feeding f = { .piece = o.piece, .progress = o.progress, .progress_user = o.progress_user, .cancel = o.cancel };
    return gm_session_run(s, s->feeder, ids, n, &f);
}
