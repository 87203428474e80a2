#include "session/save.h"

/* ---- the form ---- */

void gm_save_header_init(const gm_session *s, uint64_t identity, save_header *h)
{
    const gm_program *p = gm_save_program(s);
    *h = (save_header){ .identity = identity, .n_kv = p->n_kv };
    for (uint32_t i = 0; i < p->n_kv; i++) h->type[p->kv[i].kind] = p->kv[i].format->type;
}

uint64_t gm_save_bytes(const gm_session *s, const save_header *h)
{
    const gm_program *p = gm_save_program(s);
    uint64_t n = SAVE_HEADER_BYTES + (uint64_t)h->n_ids * 4 + gm_div_up(h->n_ids, SAVE_IDS) * SAVE_HASH_BYTES;
    for (uint32_t i = 0; i < p->n_kv; i++)
        n += h->n_pages[p->kv[i].kind] * (2 * gm_kv_page_bytes(&p->kv[i]) + SAVE_HASH_BYTES);
    return n;
}

int gm_save_pass_init(gm_session *s, const char *call, const gemma_cancel *cancel, save_pass *p)
{
    const gm_program *program = gm_save_program(s);
    uint64_t longest = SAVE_IDS * 4;
    *p = (save_pass){ .session = s, .call = call, .cancel = cancel };
    for (uint32_t i = 0; i < program->n_kv; i++) longest = gm_max_u64(longest, 2 * gm_kv_page_bytes(&program->kv[i]));
    p->buffer_bytes = longest + SAVE_HASH_BYTES;
    p->buffer = gm_mem_alloc(s->engine->mem, p->buffer_bytes, 64, GEMMA_TAG_OBJECT);
    return p->buffer ? GEMMA_OK : gm_fail_nomem(&s->error, "a page of a saved session", p->buffer_bytes);
}

void gm_save_pass_finish(save_pass *p)
{
    gm_mem_free(p->session->engine->mem, p->buffer, p->buffer_bytes, GEMMA_TAG_OBJECT);
}

int gm_save_cancelled(const save_pass *p)
{
    if (!p->cancel || !atomic_load(&p->cancel->raised)) return GEMMA_OK;
    return gm_fail(&p->session->error, GEMMA_E_CANCELLED, "%s: cancelled at byte %llu of %llu", p->call,
                   (unsigned long long)p->at, (unsigned long long)p->header.n_bytes);
}

void gm_save_pieces(const gm_session *s, uint32_t kv, uint32_t index, save_piece piece[2])
{
    const gm_kv_layer *l = &gm_save_program(s)->kv[kv];
    uint64_t n_bytes = gm_kv_page_bytes(l), page = gm_kv_page(s->seq, l->kind, index);
    const gm_resident_share *share = &s->engine->resident->shares[s->engine->plan->kv_share[kv]];
    const gm_span *spans[2] = { &share->kv_k[kv], &share->kv_v[kv] };
    for (int i = 0; i < 2; i++)
        piece[i] = (save_piece){ .span = spans[i], .offset = spans[i]->offset + page * n_bytes, .n_bytes = n_bytes };
}

/* ---- writing ---- */

static int write_out(save_pass *p, const gemma_save_options *o, uint64_t n_bytes)
{
    int rc = gm_save_cancelled(p);
    if (rc) return rc;
    if (o->write(o->user, p->buffer, n_bytes))
        return gm_fail(&p->session->error, GEMMA_E_IO, "save: %llu bytes at %llu of %llu could not be written",
                       (unsigned long long)n_bytes, (unsigned long long)p->at, (unsigned long long)p->header.n_bytes);
    p->at += n_bytes;
    return GEMMA_OK;
}

static int write_record(save_pass *p, const gemma_save_options *o, uint64_t n_bytes)
{
    gm_store_u64(p->buffer + n_bytes, gm_hash64(p->buffer, n_bytes, p->record++));
    return write_out(p, o, n_bytes + SAVE_HASH_BYTES);
}

static int write_header(save_pass *p, const gemma_save_options *o)
{
    const save_header *h = &p->header;
    const uint32_t numbers[] = { h->n_ids,
                                 h->first_position,
                                 h->n_kv,
                                 h->type[GM_KV_GLOBAL],
                                 h->type[GM_KV_SLIDING],
                                 h->n_pages[GM_KV_GLOBAL],
                                 h->first[GM_KV_SLIDING],
                                 h->n_pages[GM_KV_SLIDING] };
    uint8_t *b = p->buffer;
    memset(b, 0, SAVE_HEADER_BYTES);
    memcpy(b, SAVE_MAGIC, 8);
    gm_store_u32(b + 8, SAVE_VERSION);
    gm_store_u32(b + 12, SAVE_HEADER_BYTES);
    gm_store_u64(b + 16, h->identity);
    gm_store_u64(b + 24, h->n_bytes);
    for (uint32_t i = 0; i < GM_COUNT(numbers); i++) gm_store_u32(b + 32 + 4 * i, numbers[i]);
    gm_store_u64(b + SAVE_HEADER_BYTES - SAVE_HASH_BYTES, gm_hash64(b, SAVE_HEADER_BYTES - SAVE_HASH_BYTES, 0));
    return write_out(p, o, SAVE_HEADER_BYTES);
}

static int write_ids(save_pass *p, const gemma_save_options *o)
{
    int rc = GEMMA_OK;
    for (uint32_t done = 0; !rc && done < p->header.n_ids;) {
        uint32_t n = gm_min_u32(SAVE_IDS, p->header.n_ids - done);
        for (uint32_t i = 0; i < n; i++) gm_store_u32(p->buffer + 4 * i, (uint32_t)p->session->ids[done + i]);
        rc = write_record(p, o, 4 * n);
        done += n;
    }
    return rc;
}

/* The rows behind the last position hold what was there before: nobody's business. */
static void blank_rest(const gm_kv_layer *l, uint32_t n_used, uint8_t *page)
{
    uint64_t row = gm_row_bytes(l->format, l->head);
    for (uint32_t h = 0; h < l->n_kv; h++)
        memset(page + (h * GM_PAGE + n_used) * row, 0, (size_t)(GM_PAGE - n_used) * row);
}

static int write_page(save_pass *p, const gemma_save_options *o, uint32_t kv, uint32_t index)
{
    gm_session *s = p->session;
    const gm_kv_layer *l = &gm_save_program(s)->kv[kv];
    save_piece piece[2];
    gm_save_pieces(s, kv, index, piece);
    int rc = gm_engine_take(s->engine, &s->error);
    if (rc) return rc;
    for (int i = 0; !rc && i < 2; i++)
        rc = gm_buffer_read(piece[i].span->buffer, piece[i].offset, p->buffer + (i ? piece[0].n_bytes : 0),
                            piece[i].n_bytes, &s->error);
    rc = gm_engine_give(s->engine, rc);
    if (rc) return rc;
    uint32_t n_used = gm_min_u32(GM_PAGE, p->header.n_ids - index * GM_PAGE);
    for (int i = 0; i < 2; i++) blank_rest(l, n_used, p->buffer + (i ? piece[0].n_bytes : 0));
    return write_record(p, o, 2 * piece[0].n_bytes);
}

static int write_pages(save_pass *p, const gemma_save_options *o, uint32_t kind)
{
    const gm_program *program = gm_save_program(p->session);
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->header.n_pages[kind]; i++) {
        for (uint32_t kv = 0; !rc && kv < program->n_kv; kv++)
            if (program->kv[kv].kind == kind) rc = write_page(p, o, kv, p->header.first[kind] + i);
    }
    return rc;
}

int gm_session_save(gm_session *s, uint64_t identity, const gemma_save_options *o)
{
    int rc = gm_session_enter(s, "save");
    if (rc) return rc;
    gm_session_leave(s, GEMMA_OK); /* a session has one thread at a time: it stays as it is */
    save_pass p;
    rc = gm_save_pass_init(s, "save", o->cancel, &p);
    if (rc) return rc;
    save_header *h = &p.header;
    gm_save_header_init(s, identity, h);
    h->n_ids = s->n_ids;
    h->first_position = s->first_position;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        uint32_t end;
        gm_kv_held(s->seq, kind, &h->first[kind], &end);
        h->n_pages[kind] = end - h->first[kind];
    }
    h->n_bytes = gm_save_bytes(s, h);
    rc = write_header(&p, o);
    if (!rc) rc = write_ids(&p, o);
    for (uint32_t kind = 0; !rc && kind < KINDS; kind++) rc = write_pages(&p, o, kind);
    gm_save_pass_finish(&p);
    return rc;
}
