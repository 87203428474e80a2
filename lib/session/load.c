#include "session/save.h"

typedef unsigned long long ull;

/* ---- reading ---- */

static int read_in(save_pass *p, const gemma_restore_options *o, uint64_t n_bytes)
{
    gm_session *s = p->session;
    int rc = gm_save_cancelled(p);
    if (rc) return rc;
    for (uint64_t done = 0; done < n_bytes;) {
        int64_t n = o->read(o->user, p->at + done, p->buffer + done, n_bytes - done);
        if (n < 0 || (uint64_t)n > n_bytes - done)
            return gm_fail(&s->error, GEMMA_E_IO, "load: %llu bytes at %llu could not be read", (ull)(n_bytes - done),
                           (ull)(p->at + done));
        if (n == 0)
            return gm_fail(&s->error, GEMMA_E_FORMAT, "load: the saved session is cut short: it ends at byte %llu",
                           (ull)(p->at + done));
        done += (uint64_t)n;
    }
    p->at += n_bytes;
    return GEMMA_OK;
}

static int read_record(save_pass *p, const gemma_restore_options *o, uint64_t n_bytes)
{
    uint64_t begins = p->at;
    int rc = read_in(p, o, n_bytes + SAVE_HASH_BYTES);
    if (rc) return rc;
    if (gm_load_u64(p->buffer + n_bytes) != gm_hash64(p->buffer, n_bytes, p->record++))
        return gm_fail(&p->session->error, GEMMA_E_FORMAT,
                       "load: the saved session is damaged: the checksum of the %llu bytes at %llu is wrong",
                       (ull)n_bytes, (ull)begins);
    return GEMMA_OK;
}

/* ---- the header ---- */

static int read_header(save_pass *p, const gemma_restore_options *o)
{
    gemma_error *error = &p->session->error;
    const uint8_t *b = p->buffer;
    int rc = read_in(p, o, SAVE_HEADER_BYTES);
    if (rc) return rc;
    if (memcmp(b, SAVE_MAGIC, 8)) return gm_fail(error, GEMMA_E_FORMAT, "load: this is not a saved session");
    uint32_t version = gm_load_u32(b + 8), n_header = gm_load_u32(b + 12);
    if (version != SAVE_VERSION)
        return gm_fail(error, GEMMA_E_UNSUPPORTED, "load: a saved session of version %u; this library knows %u",
                       version, SAVE_VERSION);
    uint64_t hash = gm_load_u64(b + SAVE_HEADER_BYTES - SAVE_HASH_BYTES);
    if (n_header != SAVE_HEADER_BYTES || hash != gm_hash64(b, SAVE_HEADER_BYTES - SAVE_HASH_BYTES, 0) ||
        gm_load_u64(b + SAVE_HEADER_BYTES - 2 * SAVE_HASH_BYTES) != 0)
        return gm_fail(error, GEMMA_E_FORMAT, "load: the saved session is damaged: its header's checksum is wrong");
    save_header *h = &p->header;
    *h = (save_header){ .identity = gm_load_u64(b + 16), .n_bytes = gm_load_u64(b + 24) };
    uint32_t *const numbers[] = { &h->n_ids,
                                  &h->first_position,
                                  &h->n_kv,
                                  &h->type[GM_KV_GLOBAL],
                                  &h->type[GM_KV_SLIDING],
                                  &h->n_pages[GM_KV_GLOBAL],
                                  &h->first[GM_KV_SLIDING],
                                  &h->n_pages[GM_KV_SLIDING] };
    for (uint32_t i = 0; i < GM_COUNT(numbers); i++) *numbers[i] = gm_load_u32(b + 32 + 4 * i);
    return GEMMA_OK;
}

static const char *type_name(uint32_t type)
{
    const gm_format *f = gm_format_of(type);
    return f ? f->name : "unknown";
}

/* It is of this model and its KV types. */
static int check_model(const save_pass *p, uint64_t identity)
{
    static const char *const kinds[KINDS] = { "global", "sliding" };
    const save_header *h = &p->header;
    gemma_error *error = &p->session->error;
    save_header own;
    gm_save_header_init(p->session, identity, &own);
    if (h->identity != identity || h->n_kv != own.n_kv)
        return gm_fail(error, GEMMA_E_ARG, "load: the session was saved with another model (%llx, this is %llx)",
                       (ull)h->identity, (ull)identity);
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        if (h->type[kind] != own.type[kind])
            return gm_fail(error, GEMMA_E_ARG, "load: the session was saved with %s KV of type %s; the plan has %s",
                           kinds[kind], type_name(h->type[kind]), type_name(own.type[kind]));
    }
    return GEMMA_OK;
}

/* The counts agree with one another and with the session. */
static int check_counts(const save_pass *p)
{
    const save_header *h = &p->header;
    const gm_session *s = p->session;
    const gm_kv_shape *shape = &s->engine->plan->kv_shape;
    gemma_error *error = &p->session->error;
    uint32_t end = (uint32_t)gm_div_up(h->n_ids, GM_PAGE);
    uint32_t globals = shape->n_global ? end : 0;
    if (h->first_position > FIRST_POSITION_MAX)
        return gm_fail(error, GEMMA_E_FORMAT, "load: first_position is %u, and %u at most", h->first_position,
                       FIRST_POSITION_MAX);
    if (h->n_ids > s->ctx)
        return gm_fail(error, GEMMA_E_FULL, "load: the saved session has %u tokens; this one has room for %u", h->n_ids,
                       s->ctx);
    uint64_t sliding_end = (uint64_t)h->first[GM_KV_SLIDING] + h->n_pages[GM_KV_SLIDING];
    if (h->n_pages[GM_KV_GLOBAL] != globals || sliding_end != (shape->n_sliding ? end : 0))
        return gm_fail(error, GEMMA_E_FORMAT, "load: %u tokens in %u global pages and %u sliding ones from %u on",
                       h->n_ids, h->n_pages[GM_KV_GLOBAL], h->n_pages[GM_KV_SLIDING], h->first[GM_KV_SLIDING]);
    if (h->n_bytes != gm_save_bytes(s, h))
        return gm_fail(error, GEMMA_E_FORMAT, "load: the saved session says it has %llu bytes and needs %llu",
                       (ull)h->n_bytes, (ull)gm_save_bytes(s, h));
    return GEMMA_OK;
}

/* ---- content ---- */

/* Beyond n_ids, which stays 0 until all is well, nobody sees them. */
static int read_ids(save_pass *p, const gemma_restore_options *o)
{
    gm_session *s = p->session;
    for (uint32_t done = 0; done < p->header.n_ids;) {
        uint32_t n = gm_min_u32(SAVE_IDS, p->header.n_ids - done);
        int rc = read_record(p, o, 4 * n);
        if (rc) return rc;
        for (uint32_t i = 0; i < n; i++, done++) {
            s->ids[done] = (int32_t)gm_load_u32(p->buffer + 4 * i);
            if (!gm_session_token_valid(s->engine, s->ids[done]))
                return gm_fail(&s->error, GEMMA_E_FORMAT, "load: id %d at %u is not one of %u", (int)s->ids[done], done,
                               s->engine->n_vocab);
        }
    }
    return GEMMA_OK;
}

static int read_page(save_pass *p, const gemma_restore_options *o, uint32_t kv, uint32_t index)
{
    gm_session *s = p->session;
    uint64_t n_bytes = gm_kv_page_bytes(&gm_save_program(s)->kv[kv]);
    int rc = read_record(p, o, 2 * n_bytes);
    if (rc) return rc;
    save_piece piece[2];
    gm_save_pieces(s, kv, index, piece);
    rc = gm_engine_take(s->engine, &s->error);
    if (rc) return rc;
    for (int i = 0; !rc && i < 2; i++)
        rc = gm_buffer_write(piece[i].span->buffer, piece[i].offset, p->buffer + (i ? n_bytes : 0), n_bytes, &s->error);
    return gm_engine_give(s->engine, rc);
}

/* Pages that only a longer slack than the plan's would need are passed over. */
static int read_pages(save_pass *p, const gemma_restore_options *o, uint32_t kind)
{
    const gm_program *program = gm_save_program(p->session);
    uint32_t first, end;
    int rc = GEMMA_OK;
    gm_kv_held(p->session->seq, kind, &first, &end);
    for (uint32_t i = 0; i < p->header.n_pages[kind]; i++) {
        uint32_t index = p->header.first[kind] + i;
        for (uint32_t kv = 0; !rc && kv < program->n_kv; kv++) {
            if (program->kv[kv].kind != kind) continue;
            if (index >= first) {
                rc = read_page(p, o, kv, index);
                continue;
            }
            p->at += 2 * gm_kv_page_bytes(&program->kv[kv]) + SAVE_HASH_BYTES;
            p->record++;
        }
    }
    return rc;
}

static int adopt(save_pass *p)
{
    gm_session *s = p->session;
    const save_header *h = &p->header;
    int rc = gm_session_enter(s, "load");
    if (rc) return rc;
    rc = gm_kv_adopt(s->seq, h->n_ids, h->first[GM_KV_SLIDING]);
    if (rc == GEMMA_E_NOPAGES)
        gm_fail(&s->error, rc, "load: %u tokens: other sessions hold the pages (free: %u global, %u sliding)", h->n_ids,
                gm_kv_free_pages(s->engine->kv, GM_KV_GLOBAL), gm_kv_free_pages(s->engine->kv, GM_KV_SLIDING));
    else if (rc)
        rc = gm_fail(&s->error, GEMMA_E_FORMAT, "load: sliding pages from %u on are not the window of %u tokens",
                     h->first[GM_KV_SLIDING], h->n_ids);
    return gm_session_leave(s, rc);
}

static int read_content(save_pass *p, const gemma_restore_options *o)
{
    gm_session *s = p->session;
    int rc = read_ids(p, o);
    for (uint32_t kind = 0; !rc && kind < KINDS; kind++) rc = read_pages(p, o, kind);
    if (!rc) {
        s->n_ids = p->header.n_ids;
        s->first_position = p->header.first_position;
        return GEMMA_OK;
    }
    gm_mutex_lock(s->engine->lock);
    gm_kv_rewind(s->seq, 0, NULL);
    return gm_session_leave(s, rc);
}

int gm_session_load(gm_session *s, uint64_t identity, const gemma_restore_options *o)
{
    int rc = gm_session_enter(s, "load");
    if (rc) return rc;
    gm_session_leave(s, GEMMA_OK); /* a session has one thread at a time: it stays as it is */
    if (s->n_ids)
        return gm_fail(&s->error, GEMMA_E_STATE, "load: the session holds %u tokens; rewind it to 0 first", s->n_ids);
    save_pass p;
    rc = gm_save_pass_init(s, "load", o->cancel, &p);
    if (rc) return rc;
    rc = read_header(&p, o);
    if (!rc) rc = check_model(&p, identity);
    if (!rc) rc = check_counts(&p);
    if (!rc) rc = adopt(&p);
    if (!rc) rc = read_content(&p, o);
    gm_save_pass_finish(&p);
    return rc;
}
