#include "weights/weights.h"

#define PIECE    ((uint64_t)16 << 20) /* between two looks at cancel and progress */
#define THREADED ((uint64_t)1 << 20)  /* of less, one thread fetches the pages sooner */
#define ROOM     (256u << 10)         /* for blocks on their way to being Q8_0 */
#define UNIT     256                  /* values: whole blocks of every format */

typedef struct load {
    const gm_plan *plan;
    const gm_gguf *gguf;
    gm_pool *pool;
    gemma_progress progress;
    void *progress_user;
    const gemma_cancel *cancel;
    gemma_error *error;
    gm_resident *r;
    uint8_t *room;                    /* [ROOM]; NULL: nothing is converted */
    uint32_t lane;                    /* of the last piece sent */
    bool fetches;                     /* pages of the mapped file come now, not with the first tokens */
    uint64_t done_bytes, total_bytes; /* of all weights, those that stay in the file included */
} load;

static int cancelled(const load *l) { return gm_fail(l->error, GEMMA_E_CANCELLED, "loading was cancelled"); }

static bool is_raised(const load *l) { return l->cancel && atomic_load(&l->cancel->raised); }

static int advance(load *l, uint64_t n_bytes)
{
    l->done_bytes += n_bytes;
    bool stop = l->progress && l->progress(l->progress_user, l->done_bytes, l->total_bytes);
    return stop || is_raised(l) ? cancelled(l) : GEMMA_OK;
}

static int check_budgets(const load *l)
{
    const gm_plan *p = l->plan;
    char needs[24], may[24];
    int rc = gm_plan_check(p, l->error);
    for (uint32_t i = 0; i < p->n_lines && !rc; i++) {
        const gm_bill_line *line = &p->lines[i];
        uint64_t budget = gm_line_budget(p, line);
        if (line->total_bytes > budget)
            rc = gm_fail(l->error, GEMMA_E_STALE, "%s: the plan needs %s, but only %s may be used by now", line->name,
                         gm_text_bytes(needs, line->total_bytes), gm_text_bytes(may, budget));
    }
    return rc;
}

static int create_buffers(load *l)
{
    const gm_plan *p = l->plan;
    gm_resident *r = l->r;
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        const gm_block *b = &p->blocks[i];
        int rc = gm_buffer_create(p->devices.backends[b->share], b->heap, b->n_bytes, b->tag, &r->buffers[i], l->error);
        if (rc) return rc;
        r->allocated_bytes += b->n_bytes;
        if (is_raised(l)) return cancelled(l);
    }
    for (uint32_t i = 0; i < r->n_shares; i++) {
        const gm_share *share = &p->shares[i];
        if (!gm_share_used(share)) continue;
        r->shares[i].scratch = r->buffers[share->scratch.block];
        r->shares[i].staging = r->buffers[share->staging.block];
        if (share->transfer.block != GM_BLOCK_NONE) r->shares[i].transfer = r->buffers[share->transfer.block];
    }
    for (uint32_t i = 0; i < p->n_blocks; i++) r->buffers[i]->via = r->shares[p->blocks[i].share].transfer;
    return GEMMA_OK;
}

/* Where the bytes of a piece are put together: in the buffer, or in the staging on the way to it. */
static char *piece_of(const gm_buffer *b, uint64_t offset, uint64_t *most)
{
    *most = b->host ? PIECE : gm_min_u64(PIECE, b->via->n_bytes);
    return b->host ? (char *)b->host + offset : b->via->host;
}

static int clear(load *l, gm_buffer *b)
{
    uint64_t most;
    int rc = GEMMA_OK;
    for (uint64_t at = 0, n; at < b->n_bytes && !rc; at += n) {
        char *piece = piece_of(b, at, &most);
        n = gm_min_u64(most, b->n_bytes - at);
        if (b->host || at == 0) memset(piece, 0, (size_t)n);
        if (!b->host) rc = gm_buffer_write(b, at, piece, n, l->error);
        if (!rc && is_raised(l)) rc = cancelled(l);
    }
    return rc;
}

/* A NaN or an infinity among norms and scales would spread to every logit. */
static int check_finite(const load *l, const gm_weight *w, uint64_t at, const void *bytes, uint64_t n)
{
    if (w->bytes_class != GEMMA_CLASS_NORMS) return GEMMA_OK; /* all F32 */
    for (uint64_t i = 0; i + 4 <= n; i += 4)
        if ((gm_load_u32((const uint8_t *)bytes + i) & 0x7f800000) == 0x7f800000)
            return gm_fail(l->error, GEMMA_E_FORMAT, "%s: value %llu is no finite number", w->tensor->name,
                           (unsigned long long)((at + i) / 4));
    return GEMMA_OK;
}

/* n bytes of a weight from `at`, into dst. */
static int fetch(load *l, const gm_weight *w, uint64_t at, void *dst, uint64_t n)
{
    if (w->made) {
        memcpy(dst, (const char *)w->made + at, (size_t)n);
        return GEMMA_OK;
    }
    gemma_error why;
    gm_error_init(&why);
    l->r->read_bytes += n;
    int rc = gm_gguf_read(l->gguf, w->tensor, w->offset + at, dst, n, &why);
    return rc ? gm_fail(l->error, rc, "%s: %s", w->tensor->name, why.message) : check_finite(l, w, at, dst, n);
}

/* ---- to memory the CPU does not see: one half of the staging is read into while the other one is copied ---- */

enum { LANES = 2 };

static bool is_sent(const gm_buffer *b) { return !b->host && b->backend->fns->send; }

static int await_lanes(load *l, gm_buffer *b)
{
    int rc = GEMMA_OK;
    for (uint32_t lane = 0; lane < LANES; lane++) {
        int one = b->backend->fns->sent(b, lane, l->error);
        rc = rc ? rc : one;
    }
    return rc;
}

/* Nothing is on its way any more: before memory is used otherwise, or given back. */
static int settle(load *l)
{
    int rc = GEMMA_OK;
    for (uint32_t i = 0; l->r && i < l->plan->n_blocks; i++) {
        gm_buffer *b = l->r->buffers ? l->r->buffers[i] : NULL;
        if (!b || !is_sent(b)) continue;
        int one = await_lanes(l, b);
        rc = rc ? rc : one;
    }
    return rc;
}

static int send(load *l, const gm_weight *w, gm_buffer *b, uint64_t offset)
{
    uint64_t half = b->via->n_bytes / LANES / 64 * 64;
    int rc = GEMMA_OK;
    for (uint64_t at = 0, n; at < w->n_bytes && !rc; at += n) {
        uint32_t lane = l->lane = (l->lane + 1) % LANES;
        n = gm_min_u64(half, w->n_bytes - at);
        rc = b->backend->fns->sent(b, lane, l->error);
        if (!rc) rc = fetch(l, w, at, (char *)b->via->host + lane * half, n);
        if (!rc) rc = b->backend->fns->send(b, offset + at, lane * half, n, lane, l->error);
        if (!rc) rc = advance(l, n);
    }
    return rc;
}

/* ---- straight, or in pieces that are waited for ---- */

static int move(load *l, const gm_weight *w, gm_buffer *b, uint64_t offset)
{
    uint64_t most;
    int rc = GEMMA_OK;
    for (uint64_t at = 0, n; at < w->n_bytes && !rc; at += n) {
        char *piece = piece_of(b, offset + at, &most);
        n = gm_min_u64(most, w->n_bytes - at);
        rc = fetch(l, w, at, piece, n);
        if (!rc && !b->host) rc = gm_buffer_write(b, offset + at, piece, n, l->error);
        if (!rc) rc = advance(l, n);
    }
    return rc;
}

typedef struct conversion { /* n values from l->room to out */
    const gm_format *in_file;
    const uint8_t *room;
    float factor;
    char *out;
    uint64_t n;
} conversion;

static void convert_part(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    const conversion *c = arg;
    (void)phase;
    uint64_t n_units = gm_div_up(c->n, UNIT), first = n_units * part / n_parts * UNIT;
    uint64_t last = gm_min_u64(n_units * (part + 1) / n_parts * UNIT, c->n);
    void *out = c->out + gm_row_bytes(gm_format_of(GM_Q8_0), first);
    if (first < last)
        gm_requant_q8_0(c->in_file, c->room + gm_row_bytes(c->in_file, first), c->factor, out, last - first);
}

/* As move, for one that is held as Q8_0. Pieces end with the room for its blocks, and with the matrix, as each may have
 * its own factor. */
static int convert(load *l, uint32_t i, gm_buffer *b, uint64_t offset)
{
    const gm_weight *w = &l->plan->model->weights[i];
    const gm_format *in_file = w->tensor->format, *q8_0 = gm_format_of(GM_Q8_0);
    uint64_t n_matrix = (uint64_t)w->n_out * l->plan->shapes[i].n_in, most;
    uint64_t n_values = n_matrix * l->plan->shapes[i].n_matrix, fit = ROOM / in_file->block_bytes * in_file->block;
    int rc = is_sent(b) ? await_lanes(l, b) : GEMMA_OK; /* the whole staging is used */
    for (uint64_t at = 0, n; at < n_values && !rc; at += n) {
        char *piece = piece_of(b, offset + gm_row_bytes(q8_0, at), &most);
        n = gm_min_u64(fit, most / q8_0->block_bytes * q8_0->block) / UNIT * UNIT;
        n = gm_min_u64(n, n_matrix - at % n_matrix);
        rc = fetch(l, w, gm_row_bytes(in_file, at), l->room, gm_row_bytes(in_file, n));
        if (rc) break;
        float factor = w->factors ? w->factors[at / n_matrix] : 1;
        conversion c = { .in_file = in_file, .room = l->room, .factor = factor, .out = piece, .n = n };
        if (l->pool)
            gm_pool_run(l->pool, convert_part, &c, 1, NULL);
        else
            convert_part(&c, 0, 0, 1);
        if (!b->host) rc = gm_buffer_write(b, offset + gm_row_bytes(q8_0, at), piece, gm_row_bytes(q8_0, n), l->error);
        if (!rc) rc = advance(l, gm_row_bytes(in_file, n));
    }
    return rc;
}

/* ---- used where the file is mapped ---- */

typedef struct stretch {
    const char *at;
    uint64_t n;
} stretch;

static void fetch_stretch(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    const stretch *s = arg;
    uint64_t first = s->n * part / n_parts, last = s->n * (part + 1) / n_parts;
    (void)phase;
    if (first < last) gm_map_fetch(s->at + first, last - first);
}

static int fetch_mapped(load *l, const char *at, uint64_t n_bytes)
{
    int rc = GEMMA_OK;
    for (uint64_t done = 0, n; done < n_bytes && !rc; done += n) {
        stretch s = { at + done, n = gm_min_u64(PIECE, n_bytes - done) };
        if (l->fetches && l->pool && n >= THREADED)
            gm_pool_run(l->pool, fetch_stretch, &s, 1, NULL);
        else if (l->fetches)
            fetch_stretch(&s, 0, 0, 1);
        rc = advance(l, n);
    }
    return rc;
}

/* Where not all of them stay in memory, some would only push out others. */
static bool fit_in_memory(const load *l)
{
    const gm_plan *p = l->plan;
    uint64_t n_bytes = 0;
    for (uint32_t s = 0; s < l->r->n_shares; s++)
        for (uint32_t i = 0; p->shares[s].weights && i < p->model->n_weights; i++)
            if (p->shares[s].weights[i].block == GM_BLOCK_FILE) n_bytes += p->model->weights[i].n_bytes;
    return n_bytes < gm_ram_available_bytes();
}

static int place_weight(load *l, uint32_t i, bool moving, const gm_place *place, gm_span *span)
{
    const gm_weight *w = &l->plan->model->weights[i];
    if (place->block == GM_BLOCK_ROWS) return advance(l, w->n_bytes);
    if (place->block == GM_BLOCK_FILE) {
        const char *mapped = gm_gguf_mapped(l->gguf, w->tensor);
        *span = (gm_span){ .mapped = mapped + place->offset };
        int rc = check_finite(l, w, 0, mapped + place->offset, w->n_bytes);
        return rc ? rc : fetch_mapped(l, mapped + place->offset, w->n_bytes);
    }
    *span = (gm_span){ .buffer = l->r->buffers[place->block], .offset = place->offset };
    if (!moving) return GEMMA_OK;
    if (gm_plan_converts(l->plan, i)) return convert(l, i, span->buffer, place->offset);
    return is_sent(span->buffer) ? send(l, w, span->buffer, place->offset) : move(l, w, span->buffer, place->offset);
}

static int place_weights(load *l, bool moving)
{
    const gm_plan *p = l->plan;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->model->n_weights && !rc; i++)
        for (uint32_t s = 0; s < l->r->n_shares && !rc; s++) {
            const gm_place *places = p->shares[s].weights;
            if (places && places[i].block != GM_BLOCK_NONE)
                rc = place_weight(l, i, moving, &places[i], &l->r->shares[s].weights[i]);
        }
    return rc;
}

static int place_kv(load *l, bool clearing)
{
    const gm_plan *p = l->plan;
    gm_resident *r = l->r;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->n_blocks && clearing && !rc; i++)
        if (p->blocks[i].tag == GEMMA_TAG_KV) rc = clear(l, r->buffers[i]);
    for (uint32_t i = 0; i < p->model->n_kv; i++) {
        gm_resident_share *share = &r->shares[p->kv_share[i]];
        share->kv_k[i] = (gm_span){ .buffer = r->buffers[p->kv_k[i].block], .offset = p->kv_k[i].offset };
        share->kv_v[i] = (gm_span){ .buffer = r->buffers[p->kv_v[i].block], .offset = p->kv_v[i].offset };
    }
    return rc;
}

/* The tables of a device that the plan uses. */
static int prepare_share(load *l, uint32_t share)
{
    const gm_model *m = l->plan->model;
    gm_mem *mem = l->plan->mem;
    gm_resident_share *s = &l->r->shares[share];
    s->weights = gm_new_array(mem, m->n_weights, sizeof *s->weights, GEMMA_TAG_OBJECT);
    s->kv_k = gm_new_array(mem, m->n_kv, sizeof *s->kv_k, GEMMA_TAG_OBJECT);
    s->kv_v = gm_new_array(mem, m->n_kv, sizeof *s->kv_v, GEMMA_TAG_OBJECT);
    if (!s->weights || !s->kv_k || !s->kv_v)
        return gm_fail_nomem(l->error, "a loaded model's tables", m->n_weights * sizeof *s->weights);
    for (uint32_t i = 0; i < m->n_weights; i++)
        if (l->plan->shares[share].weights[i].block != GM_BLOCK_NONE) l->total_bytes += m->weights[i].n_bytes;
    return GEMMA_OK;
}

static int prepare(load *l)
{
    const gm_plan *p = l->plan;
    gm_resident *r = l->r = gm_new(p->mem, sizeof *r, GEMMA_TAG_OBJECT);
    if (!r) return gm_fail_nomem(l->error, "a loaded model", sizeof *r);
    r->mem = p->mem;
    r->gguf = l->gguf;
    r->n_blocks = p->n_blocks;
    r->buffers = gm_new_array(p->mem, p->n_blocks, sizeof(gm_buffer *), GEMMA_TAG_OBJECT);
    r->shares = gm_new_array(p->mem, p->devices.n, sizeof *r->shares, GEMMA_TAG_OBJECT);
    if (!r->buffers || !r->shares)
        return gm_fail_nomem(l->error, "a loaded model's blocks", p->n_blocks * sizeof(gm_buffer *));
    r->n_shares = p->devices.n;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < r->n_shares && !rc; i++)
        if (gm_share_used(&p->shares[i])) rc = prepare_share(l, i);
    if (rc || !p->n_converted) return rc;
    gm_log(p->mem, GEMMA_LOG_WARN, "%s", p->warning);
    l->room = gm_new(p->mem, ROOM, GEMMA_TAG_OBJECT);
    return l->room ? GEMMA_OK : gm_fail_nomem(l->error, "the room to turn weights into Q8_0", ROOM);
}

int gm_weights_load(const gm_plan *plan, const gm_gguf *gguf, gm_pool *pool, const gemma_load_options *options,
                    gm_resident **out, gemma_error *error)
{
    uint64_t start = gm_now_ns();
    bool rehearse = options->flags & GEMMA_LOAD_REHEARSE;
    load l = { .plan = plan,
               .gguf = gguf,
               .pool = pool,
               .progress = options->progress,
               .progress_user = options->progress_user,
               .cancel = options->cancel,
               .error = error };
    *out = NULL;
    int rc = check_budgets(&l);
    if (!rc) rc = prepare(&l);
    if (!rc) rc = create_buffers(&l);
    if (!rc) rc = place_kv(&l, !rehearse);
    l.fetches = !rc && !rehearse && fit_in_memory(&l);
    if (!rc) rc = place_weights(&l, !rehearse);
    l.error = rc ? NULL : error; /* the first sentence stays */
    int settled = settle(&l);
    rc = rc ? rc : settled;
    gm_delete(plan->mem, l.room);
    if (rc) {
        gm_resident_destroy(l.r);
        return rc;
    }
    l.r->seconds = (double)(gm_now_ns() - start) * 1e-9;
    *out = l.r;
    return GEMMA_OK;
}

void gm_resident_destroy(gm_resident *r)
{
    if (!r) return;
    for (uint32_t i = 0; r->buffers && i < r->n_blocks; i++) gm_buffer_destroy(r->buffers[i]);
    gm_delete(r->mem, r->buffers);
    for (uint32_t i = 0; i < r->n_shares; i++) {
        gm_delete(r->mem, r->shares[i].weights);
        gm_delete(r->mem, r->shares[i].kv_k);
        gm_delete(r->mem, r->shares[i].kv_v);
    }
    gm_delete(r->mem, r->shares);
    gm_delete(r->mem, r);
}
