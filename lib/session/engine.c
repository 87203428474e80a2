#include "session/internal.h"

/* ---- create, destroy, query ---- */

int gm_engine_create(const gm_plan *plan, gm_resident *resident, gm_engine **out, gemma_error *error)
{
    *out = NULL;
    gm_engine *e = gm_new(plan->mem, sizeof *e, GEMMA_TAG_OBJECT);
    if (!e) {
        gm_resident_destroy(resident);
        return gm_fail_nomem(error, "the engine", sizeof *e);
    }
    e->mem = plan->mem;
    e->plan = plan;
    e->n_vocab = plan->limits.n_vocab;
    e->n_embd = plan->limits.n_embd;
    e->resident = resident;
    int rc = gm_mutex_create(e->mem, &e->lock);
    if (!rc) rc = gm_kv_create(e->mem, &plan->kv_shape, &e->kv);
    if (rc) gm_fail(error, rc, "the page tables of %u sessions: %s", plan->kv_shape.n_sessions, gm_error_text(rc));
    if (!rc) rc = gm_segments_create(e, error);
    if (rc) {
        gm_engine_destroy(e);
        e = NULL;
    }
    *out = e;
    return rc;
}

void gm_engine_destroy(gm_engine *e)
{
    if (!e) return;
    if (!e->parked) gm_segments_destroy(e);
    gm_parked_destroy(e->parked);
    gm_kv_destroy(e->kv);
    gm_mutex_destroy(e->mem, e->lock);
    gm_resident_destroy(e->resident);
    gm_delete(e->mem, e);
}

void gm_engine_query(gm_engine *e, gemma_model_status *status)
{
    gm_mutex_lock(e->lock);
    *status = e->status;
    status->size = sizeof *status;
    status->lost = e->lost;
    status->parked = e->parked != NULL;
    if (e->resident) {
        status->allocated_bytes = e->resident->allocated_bytes;
        status->load_bytes = e->resident->read_bytes;
        status->load_seconds = e->resident->seconds;
    }
    status->global_pages = e->plan->kv_shape.n_global;
    status->sliding_pages = e->plan->kv_shape.n_sliding;
    status->global_pages_free = gm_kv_free_pages(e->kv, GM_KV_GLOBAL);
    status->sliding_pages_free = gm_kv_free_pages(e->kv, GM_KV_SLIDING);
    gm_mutex_unlock(e->lock);
}

/* ---- the end of a step ---- */

static void copy_results(const gm_engine *e, gm_step *t)
{
    const gm_step_block *b = &e->blocks[e->plan->head_share];
    const gm_step_limits *l = &e->plan->limits;
    if (!t->n_wanted) return;
    memcpy(t->candidates, b->candidates, (size_t)t->n_wanted * GM_RESULTS_MAX * sizeof *t->candidates);
    memcpy(t->n_candidates, b->n_candidates, t->n_wanted * sizeof *t->n_candidates);
    memcpy(t->log_sum, b->log_sum, t->n_wanted * sizeof *t->log_sum);
    memcpy(t->score, b->score, t->n_wanted * sizeof *t->score);
    for (uint32_t r = 0; r < t->n_rows; r++) {
        size_t line = t->rows[r].line;
        if (t->rows[r].want & GEMMA_WANT_LOGITS)
            memcpy(t->logits + line * l->n_vocab, b->logits + line * l->n_vocab, l->n_vocab * sizeof *t->logits);
        if (t->rows[r].want & GEMMA_WANT_HIDDEN)
            memcpy(t->hidden + line * l->n_embd, b->hidden + line * l->n_embd, l->n_embd * sizeof *t->hidden);
    }
}

static void commit(gm_step *t)
{
    for (uint32_t r = 0; r < t->n_rows; r++) {
        gm_session *s = t->parts[t->rows[r].part].session;
        s->ids[s->n_ids++] = t->rows[r].token;
    }
    for (uint32_t i = 0; i < t->n_parts; i++) gm_kv_commit(t->parts[i].session->seq, t->parts[i].n_rows);
}

static void drop(const gm_step *t, uint32_t n_parts)
{
    for (uint32_t i = 0; i < n_parts; i++) gm_kv_drop(t->parts[i].session->seq);
}

static void count(gm_engine *e, const gm_step *t)
{
    e->status.last_step_ns = gm_now_ns() - e->started_ns;
    e->status.step_ns += e->status.last_step_ns;
    e->status.steps++;
    e->status.rows += t->n_rows;
    e->status.last_dispatches = e->n_dispatches;
    e->status.last_submits = e->n_submits;
    if (t->n_rows != 1) return;
    e->n_decoded++;
    e->decode_ns = e->status.last_step_ns;
}

static void finish(gm_engine *e, int rc, const gemma_error *error)
{
    gm_step *t = e->running;
    e->running = NULL;
    if (rc) {
        drop(t, t->n_parts);
        t->error = *error;
        if (rc == GEMMA_E_LOST) e->lost = true;
    } else {
        count(e, t);
        copy_results(e, t);
        commit(t);
    }
    gm_step_detach(t);
    t->result = rc;
    t->state = STEP_ENDED;
}

/* Waits for the device without the lock; false: the time is over. */
static bool ask_backend(gm_engine *e, uint64_t timeout_ns)
{
    gemma_error error;
    gm_error_init(&error);
    e->busy = true;
    gm_mutex_unlock(e->lock);
    int rc = gm_segments_wait(e, timeout_ns, &error);
    gm_mutex_lock(e->lock);
    e->busy = false;
    if (rc != GEMMA_E_TIMEOUT) finish(e, rc, &error);
    gm_mutex_wake_all(e->lock);
    return rc != GEMMA_E_TIMEOUT;
}

bool gm_engine_await(gm_engine *e, const gm_step *t, uint64_t timeout_ns)
{
    uint64_t begun = gm_now_ns();
    while (t->state == STEP_RUNNING) {
        uint64_t passed = timeout_ns == FOREVER ? 0 : gm_now_ns() - begun;
        uint64_t left = passed < timeout_ns ? timeout_ns - passed : 0;
        bool in_time = e->busy ? gm_mutex_wait(e->lock, left) : ask_backend(e, left);
        if (!in_time && timeout_ns != FOREVER) break;
    }
    return t->state != STEP_RUNNING;
}

void gm_engine_await_idle(gm_engine *e)
{
    while (e->busy || e->running) {
        if (e->busy)
            gm_mutex_wait(e->lock, FOREVER);
        else
            ask_backend(e, FOREVER);
    }
}

void gm_engine_await_still(gm_engine *e)
{
    while (e->moving) gm_mutex_wait(e->lock, FOREVER);
}

/* Something to run steps with is there. */
static int check_ready(const gm_engine *e, gemma_error *error)
{
    if (e->parked) return gm_fail(error, GEMMA_E_STATE, "the model is parked; resume it first");
    if (e->lost) return gm_fail(error, GEMMA_E_LOST, "an earlier step lost the device; load the model again");
    return GEMMA_OK;
}

int gm_engine_take(gm_engine *e, gemma_error *error)
{
    gm_mutex_lock(e->lock);
    gm_engine_await_idle(e);
    int rc = check_ready(e, error);
    if (!rc) e->busy = true;
    gm_mutex_unlock(e->lock);
    return rc;
}

int gm_engine_give(gm_engine *e, int rc)
{
    gm_mutex_lock(e->lock);
    e->busy = false;
    if (rc == GEMMA_E_LOST) e->lost = true;
    gm_mutex_wake_all(e->lock);
    gm_mutex_unlock(e->lock);
    return rc;
}

void gm_engine_last_decode(gm_engine *e, uint64_t *n, uint64_t *ns)
{
    gm_mutex_lock(e->lock);
    *n = e->n_decoded;
    *ns = e->decode_ns;
    gm_mutex_unlock(e->lock);
}

int gm_engine_prove_again(gm_engine *e, gm_proof *proof, gm_proof_result *result, gemma_error *error)
{
    int rc = gm_engine_take(e, error);
    return rc ? rc : gm_engine_give(e, gm_proof_again(proof, result, error));
}

/* ---- the beginning of a step ---- */

/* All or none of the step's sessions get their pages. */
static int prepare(gm_engine *e, gm_step *t)
{
    gm_step_block *b = &e->blocks[e->first_share];
    b->n_copies = 0;
    for (uint32_t i = 0; i < t->n_parts; i++) {
        const part *p = &t->parts[i];
        int rc = gm_kv_prepare(p->session->seq, p->n_rows, b->copies, &b->n_copies);
        if (!rc) continue;
        drop(t, i);
        return gm_fail(&t->error, rc, "%u rows from position %u: %s (free pages: %u global, %u sliding)", p->n_rows,
                       p->first, gm_error_text(rc), gm_kv_free_pages(e->kv, GM_KV_GLOBAL),
                       gm_kv_free_pages(e->kv, GM_KV_SLIDING));
    }
    return GEMMA_OK;
}

/* n values from `offset` as Q8_0. */
static int read_converted(const gm_gguf *gguf, const gm_tensor *t, uint64_t offset, uint8_t *row, uint64_t n,
                          gemma_error *error)
{
    enum { UNIT = 256 }; /* values: whole blocks of every format */
    const gm_format *f = t->format, *q8_0 = gm_format_of(GM_Q8_0);
    uint8_t room[4096];
    uint64_t most = sizeof room / f->block_bytes * f->block / UNIT * UNIT;
    int rc = GEMMA_OK;
    for (uint64_t at = 0, step; at < n && !rc; at += step) {
        step = gm_min_u64(most, n - at);
        rc = gm_gguf_read(gguf, t, offset + gm_row_bytes(f, at), room, gm_row_bytes(f, step), error);
        if (!rc) gm_requant_q8_0(f, room, 1, (gm_block_q8_0 *)(void *)(row + gm_row_bytes(q8_0, at)), step);
    }
    return rc;
}

/* Row `token` of a table that stays in the file, as the device takes it. */
static int read_file_row(const gm_engine *e, uint32_t i, int32_t token, uint8_t *row, gemma_error *error)
{
    const gm_gguf *gguf = e->resident->gguf;
    const gm_weight *w = &e->plan->model->weights[i];
    uint64_t n = w->tensor->ne[0], n_bytes = gm_row_bytes(w->tensor->format, n);
    uint64_t offset = w->offset + (uint64_t)token * n_bytes;
    if (gm_plan_converts(e->plan, i)) return read_converted(gguf, w->tensor, offset, row, n, error);
    return gm_gguf_read(gguf, w->tensor, offset, row, n_bytes, error);
}

/* The rows of the table that stays in the file, one per token. */
static int read_file_rows(gm_engine *e, gm_step *t, uint32_t share)
{
    const gm_share *s = &e->plan->shares[share];
    uint64_t n_bytes = s->limits.file_row_bytes;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; n_bytes && i < e->plan->model->n_weights; i++) {
        if (s->weights[i].block != GM_BLOCK_ROWS) continue;
        uint8_t *rows = e->blocks[share].file_rows;
        for (uint32_t r = 0; !rc && r < t->n_rows; r++)
            rc = read_file_row(e, i, t->rows[r].token, rows + r * gm_file_row_stride(n_bytes), &t->error);
    }
    return rc;
}

static void fill_tables(gm_engine *e, const gm_step *t)
{
    uint32_t stride = gm_table_stride(&e->plan->limits);
    for (uint32_t i = 0; i < t->n_parts; i++) {
        gm_kv_seq *seq = t->parts[i].session->seq;
        size_t at = (size_t)gm_kv_seq_table(seq) * stride;
        const uint32_t *line = e->blocks[e->first_share].tables + at;
        gm_kv_sync(seq, e->blocks[e->first_share].tables + at);
        for (uint32_t s = e->first_share + 1; s < e->plan->devices.n; s++)
            if (gm_share_used(&e->plan->shares[s])) memcpy(e->blocks[s].tables + at, line, stride * sizeof *line);
    }
}

static void fill_block(gm_engine *e, const gm_step *t, gm_step_block *b)
{
    const gm_step_block *first = &e->blocks[e->first_share];
    for (uint32_t i = 0; i < t->n_parts; i++) t->parts[i].n_filled = 0;
    if (b != first) memcpy(b->copies, first->copies, first->n_copies * sizeof *b->copies);
    b->n_copies = first->n_copies;
    b->n_rows = t->n_rows;
    b->n_wanted = t->n_wanted;
    for (uint32_t r = 0; r < t->n_rows; r++) {
        const step_row *row = &t->rows[r];
        part *p = &t->parts[row->part];
        b->token[r] = row->token;
        b->position[r] = b->last_seen[r] = p->first + p->n_filled++;
        b->angle[r] = b->position[r] + p->session->first_position;
        b->table[r] = gm_kv_seq_table(p->session->seq);
        if (!row->want) continue;
        b->wanted[row->result] = r;
        b->want[row->result] = row->want;
        b->target[row->result] = row->target;
        b->result_row[row->result] = row->line;
    }
}

static int check_start(const gm_engine *e, gm_step *t)
{
    if (t->state != STEP_OPEN) return gm_fail(&t->error, GEMMA_E_STATE, "the step was submitted already");
    if (!t->n_rows) return gm_fail(&t->error, GEMMA_E_ARG, "the step has no rows");
    for (uint32_t i = 0; i < t->n_parts; i++) {
        if (!t->parts[i].session)
            return gm_fail(&t->error, GEMMA_E_STATE, "a session with %u rows in the step was destroyed",
                           t->parts[i].n_rows);
    }
    const gm_step_limits *l = &e->plan->limits; /* of a plan that may be newer than the step */
    if (t->n_rows > l->max_rows || t->n_lines > l->result_rows)
        return gm_fail(&t->error, GEMMA_E_SMALL,
                       "the step has %u rows, %u with logits or hidden states; the plan takes %u and %u", t->n_rows,
                       t->n_lines, l->max_rows, l->result_rows);
    return check_ready(e, &t->error);
}

void gm_engine_watch(gm_engine *e, gm_engine_between between, void *user)
{
    gm_mutex_lock(e->lock);
    e->between = between;
    e->between_user = user;
    gm_mutex_unlock(e->lock);
}

static int ask_between(gm_engine *e, gm_step *t)
{
    if (!e->between) return GEMMA_OK;
    gm_mutex_unlock(e->lock);
    int rc = e->between(e->between_user, &t->error);
    gm_mutex_lock(e->lock);
    return rc;
}

int gm_engine_start(gm_engine *e, gm_step *t, const gemma_cancel *cancel)
{
    if (t->state == STEP_RUNNING) return gm_fail(&t->error, GEMMA_E_STATE, "the step is running");
    int rc = ask_between(e, t);
    if (rc) return rc;
    gm_engine_await_idle(e);
    rc = check_start(e, t);
    for (uint32_t s = 0; !rc && s < e->plan->devices.n; s++)
        if (gm_share_used(&e->plan->shares[s])) rc = read_file_rows(e, t, s);
    if (!rc) rc = prepare(e, t);
    if (rc) return rc;
    fill_tables(e, t);
    for (uint32_t s = 0; s < e->plan->devices.n; s++)
        if (gm_share_used(&e->plan->shares[s])) fill_block(e, t, &e->blocks[s]);
    t->state = STEP_RUNNING;
    e->running = t;
    e->started_ns = gm_now_ns();
    e->busy = true;
    gm_mutex_unlock(e->lock);
    gemma_error error;
    gm_error_init(&error);
    rc = gm_segments_start(e, t->n_wanted == t->n_rows ? GM_PROGRAM_FULL : GM_PROGRAM_CUT, cancel, &error);
    gm_mutex_lock(e->lock);
    e->busy = false;
    if (rc) finish(e, rc, &error); /* wait will say so */
    gm_mutex_wake_all(e->lock);
    return GEMMA_OK;
}
