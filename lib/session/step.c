#include "session/internal.h"

#define WANT_KNOWN (GEMMA_WANT_CANDIDATES | GEMMA_WANT_LOGITS | GEMMA_WANT_HIDDEN | GEMMA_WANT_SCORE)
#define WANT_LINE  (GEMMA_WANT_LOGITS | GEMMA_WANT_HIDDEN)
#define NO_LINE    UINT32_MAX

/* ---- memory: one block, the struct in front ---- */

static void *take(gm_step *t, uint64_t *at, uint64_t n, size_t element_bytes)
{
    void *array = t && n ? (char *)t + *at : NULL;
    *at = gm_align_up(*at + n * element_bytes, 16);
    return array;
}

/* Bytes of a step; with t, its pointers too. */
static uint64_t layout(const gm_plan *plan, const step_sizes *z, gm_step *t)
{
    const gm_step_limits *l = &plan->limits;
    gm_step s = { 0 };
    uint64_t at = gm_align_up(sizeof s, 16);
    s.rows = take(t, &at, z->rows, sizeof *s.rows);
    s.parts = take(t, &at, plan->kv_shape.n_sessions, sizeof *s.parts);
    s.candidates = take(t, &at, (uint64_t)z->wanted * GM_RESULTS_MAX, sizeof *s.candidates);
    s.n_candidates = take(t, &at, z->wanted, sizeof *s.n_candidates);
    s.log_sum = take(t, &at, z->wanted, sizeof *s.log_sum);
    s.score = take(t, &at, z->wanted, sizeof *s.score);
    s.logits = take(t, &at, (uint64_t)z->lines * l->n_vocab, sizeof *s.logits);
    s.hidden = take(t, &at, (uint64_t)z->lines * l->n_embd, sizeof *s.hidden);
    if (t) *t = s;
    return at;
}

uint64_t gm_step_bytes(const gm_plan *plan, const step_sizes *sizes) { return layout(plan, sizes, NULL); }

static step_sizes public_sizes(const gm_plan *plan)
{
    const gm_step_limits *l = &plan->limits;
    return (step_sizes){ .rows = l->max_rows, .wanted = l->max_rows, .lines = l->result_rows };
}

uint64_t gm_engine_step_bytes(const gm_plan *plan)
{
    step_sizes sizes = public_sizes(plan);
    return gm_step_bytes(plan, &sizes) + GM_NEW_EXTRA;
}

int gm_step_new(gm_engine *e, const step_sizes *sizes, gm_step **out, gemma_error *error)
{
    uint64_t n_bytes = gm_step_bytes(e->plan, sizes);
    *out = gm_new(e->mem, n_bytes, GEMMA_TAG_OBJECT);
    if (!*out) return gm_fail_nomem(error, "the rows and results of a step", n_bytes);
    layout(e->plan, sizes, *out);
    (*out)->engine = e;
    (*out)->sizes = *sizes;
    (*out)->sizes.parts = e->plan->kv_shape.n_sessions;
    gm_error_init(&(*out)->error);
    return GEMMA_OK;
}

int gm_step_create(gm_engine *e, gm_step **out, gemma_error *error)
{
    step_sizes sizes = public_sizes(e->plan);
    return gm_step_new(e, &sizes, out, error);
}

void gm_step_destroy(gm_step *t)
{
    if (!t) return;
    gm_engine *e = t->engine;
    gm_mutex_lock(e->lock);
    gm_engine_await(e, t, FOREVER); /* its rows count */
    gm_step_detach(t);
    gm_mutex_unlock(e->lock);
    gm_delete(e->mem, t);
}

void **gm_step_owner(gm_step *t) { return &t->owner; }
const gemma_error *gm_step_error(const gm_step *t) { return &t->error; }

/* ---- rows ---- */

void gm_step_detach(gm_step *t)
{
    for (uint32_t i = 0; i < t->n_parts; i++) {
        if (t->parts[i].session) t->parts[i].session->step = NULL;
    }
    t->n_parts = 0;
}

static int clear(gm_step *t)
{
    if (t->state == STEP_RUNNING) return gm_fail(&t->error, GEMMA_E_STATE, "the step is running; wait for it first");
    gm_step_detach(t);
    t->n_rows = t->n_wanted = t->n_lines = 0;
    t->state = STEP_OPEN;
    t->readable = false;
    return GEMMA_OK;
}

int gm_step_clear(gm_step *t)
{
    gm_mutex_lock(t->engine->lock);
    int rc = clear(t);
    gm_mutex_unlock(t->engine->lock);
    return rc;
}

bool gm_session_token_valid(const gm_engine *e, int32_t id) { return id >= 0 && (uint32_t)id < e->n_vocab; }

static int check_token(gm_step *t, const char *what, int32_t id)
{
    if (gm_session_token_valid(t->engine, id)) return GEMMA_OK;
    return gm_fail(&t->error, GEMMA_E_TOKEN, "row %u: %s %d is not one of %u ids", t->n_rows, what, (int)id,
                   t->engine->n_vocab);
}

static int check_row(gm_step *t, const gm_session *s, const gemma_row *row)
{
    gemma_error *error = &t->error;
    if (s->engine != t->engine) return gm_fail(error, GEMMA_E_ARG, "the session and the step are of two models");
    if (row->want & ~(uint32_t)WANT_KNOWN)
        return gm_fail(error, GEMMA_E_ARG, "row %u wants %u, which is not known", t->n_rows, row->want);
    if (t->state != STEP_OPEN) return gm_fail(error, GEMMA_E_STATE, "the step was submitted; clear it first");
    if (s->step && s->step != t) return gm_fail(error, GEMMA_E_STATE, "another step has rows of this session");
    int rc = check_token(t, "token", row->token);
    if (!rc && row->want & GEMMA_WANT_SCORE) rc = check_token(t, "target", row->target);
    if (rc) return rc;
    if (t->n_rows == t->sizes.rows)
        return gm_fail(error, GEMMA_E_SMALL, "the step has %u rows, all that the plan's ubatch allows", t->n_rows);
    if (row->want && t->n_wanted == t->sizes.wanted)
        return gm_fail(error, GEMMA_E_SMALL, "the step has %u wanted rows and takes no more", t->n_wanted);
    if (row->want & WANT_LINE && t->n_lines == t->sizes.lines)
        return gm_fail(error, GEMMA_E_SMALL,
                       "%u rows want logits or hidden states, all that the plan's logit_rows allow", t->n_lines);
    return GEMMA_OK;
}

/* The session's share of the step, begun if need be. A step's sessions are all alive, so there are enough parts, but
 * for those of destroyed sessions. NULL: no part is left. */
static part *part_of(gm_step *t, gm_session *s)
{
    for (uint32_t i = 0; s->step == t && i < t->n_parts; i++) {
        if (t->parts[i].session == s) return &t->parts[i];
    }
    if (t->n_parts == t->sizes.parts) return NULL;
    t->parts[t->n_parts] = (part){ .session = s, .first = s->n_ids };
    return &t->parts[t->n_parts];
}

static int add(gm_step *t, gm_session *s, const gemma_row *row, uint32_t *index)
{
    int rc = check_row(t, s, row);
    if (rc) return rc;
    part *p = part_of(t, s);
    if (!p) return gm_fail(&t->error, GEMMA_E_STATE, "sessions with rows in the step were destroyed; clear it first");
    if (p->n_rows >= s->ctx - s->n_ids)
        return gm_fail(&t->error, GEMMA_E_FULL, "the session's %u tokens are used up", s->ctx);
    if (!s->step) {
        s->step = t;
        t->n_parts++;
    }
    p->n_rows++;
    t->rows[t->n_rows] = (step_row){
        .part = (uint32_t)(p - t->parts),
        .token = row->token,
        .target = row->want & GEMMA_WANT_SCORE ? row->target : 0,
        .want = row->want,
        .result = row->want ? t->n_wanted++ : 0,
        .line = row->want & WANT_LINE ? t->n_lines++ : NO_LINE,
    };
    if (index) *index = t->n_rows;
    t->n_rows++;
    return GEMMA_OK;
}

int gm_step_add(gm_step *t, gm_session *s, const gemma_row *row, uint32_t *index)
{
    gemma_row r;
    int rc = gm_options_read(&r, sizeof r, row, "gemma_row", &t->error);
    if (rc) return rc;
    gm_mutex_lock(t->engine->lock);
    rc = add(t, s, &r, index);
    gm_mutex_unlock(t->engine->lock);
    return rc;
}

int gm_step_fill(gm_step *t, gm_session *s, const int32_t *ids, uint32_t n, uint32_t want)
{
    gm_mutex_lock(t->engine->lock);
    int rc = clear(t);
    for (uint32_t i = 0; !rc && i < n; i++) {
        gemma_row row = { .size = sizeof row, .token = ids[i], .want = i + 1 == n ? want : 0 };
        rc = add(t, s, &row, NULL);
    }
    gm_mutex_unlock(t->engine->lock);
    return rc;
}

/* ---- the pass ---- */

int gm_step_submit(gm_step *t, const gemma_cancel *cancel)
{
    gm_mutex_lock(t->engine->lock);
    int rc = gm_engine_start(t->engine, t, cancel);
    gm_mutex_unlock(t->engine->lock);
    return rc;
}

int gm_step_wait(gm_step *t, uint64_t timeout_ns)
{
    gm_engine *e = t->engine;
    gm_mutex_lock(e->lock);
    int rc;
    if (t->state == STEP_OPEN)
        rc = gm_fail(&t->error, GEMMA_E_STATE, "the step was not submitted");
    else if (gm_engine_await(e, t, timeout_ns))
        rc = t->result;
    else
        rc = gm_fail(&t->error, GEMMA_E_TIMEOUT, "the step of %u rows is still running", t->n_rows);
    t->readable = rc == GEMMA_OK;
    gm_mutex_unlock(e->lock);
    return rc;
}

/* ---- results ---- */

/* NULL: no such row, not waited for, or none of `want` was wanted. */
static const step_row *row_with(const gm_step *t, uint32_t row, uint32_t want)
{
    return t->readable && row < t->n_rows && t->rows[row].want & want ? &t->rows[row] : NULL;
}

const gm_candidate *gm_step_candidates(const gm_step *t, uint32_t row, uint32_t *n)
{
    const step_row *r = row_with(t, row, GEMMA_WANT_CANDIDATES);
    *n = r ? gm_min_u32(t->n_candidates[r->result], GM_RESULTS_MAX) : 0;
    return r ? t->candidates + (size_t)r->result * GM_RESULTS_MAX : NULL;
}

const float *gm_step_log_sum(const gm_step *t, uint32_t row)
{
    const step_row *r = row_with(t, row, GEMMA_WANT_CANDIDATES | GEMMA_WANT_SCORE);
    return r ? &t->log_sum[r->result] : NULL;
}

const float *gm_step_score(const gm_step *t, uint32_t row)
{
    const step_row *r = row_with(t, row, GEMMA_WANT_SCORE);
    return r ? &t->score[r->result] : NULL;
}

const float *gm_step_logits(const gm_step *t, uint32_t row, uint32_t *n_vocab)
{
    const step_row *r = row_with(t, row, GEMMA_WANT_LOGITS);
    uint32_t n = t->engine->n_vocab;
    *n_vocab = r ? n : 0;
    return r ? t->logits + (size_t)r->line * n : NULL;
}

const float *gm_step_hidden(const gm_step *t, uint32_t row, uint32_t *n_embd)
{
    const step_row *r = row_with(t, row, GEMMA_WANT_HIDDEN);
    uint32_t n = t->engine->n_embd;
    *n_embd = r ? n : 0;
    return r ? t->hidden + (size_t)r->line * n : NULL;
}
