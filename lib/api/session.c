#include "api/handles.h"

/* Puts a reference count and the model behind a session; on failure the session is destroyed. */
static int adopt(gemma_session *s, gemma_model *model, gemma_session **out, gemma_error *error)
{
    gm_session_link *link = gm_new(gm_model_mem(model), sizeof *link, GEMMA_TAG_OBJECT);
    if (!link) {
        gm_session_destroy(s);
        return gm_fail_nomem(error, "a session handle", sizeof *link);
    }
    gm_ref_init(&link->ref);
    link->model = model;
    gm_ref_take(&model->ref);
    *gm_session_owner(s) = link;
    *out = s;
    return GEMMA_OK;
}

int gemma_session_create(gemma_model *model, const gemma_session_options *options, gemma_session **out,
                         gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_session_create: out is NULL");
    *out = NULL;
    gemma_session_options o;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_session_options", error);
    if (rc) return rc;
    if (!model) return gm_fail(error, GEMMA_E_ARG, "gemma_session_create: model is NULL");
    gemma_session *s = NULL;
    rc = gm_session_create_at(model->engine, o.ctx, o.first_position, &s, error);
    return rc ? rc : adopt(s, model, out, error);
}

void gemma_session_destroy(gemma_session *s)
{
    if (!s) return;
    gm_session_link *link = gm_link_of(s);
    if (!gm_ref_drop(&link->ref)) return;
    gemma_model *model = link->model;
    gm_session_destroy(s);
    gm_delete(gm_model_mem(model), link);
    gm_model_drop(model);
}

size_t gemma_session_message(const gemma_session *s, char *buffer, size_t n_bytes)
{
    return gm_message_copy(s ? gm_session_error(s) : NULL, buffer, n_bytes);
}

uint32_t gemma_session_position(const gemma_session *s) { return s ? gm_session_position(s) : 0; }
uint32_t gemma_session_room(const gemma_session *s) { return s ? gm_session_room(s) : 0; }

size_t gemma_session_ids(const gemma_session *s, uint32_t from, int32_t *ids, size_t n_cap)
{
    return s && ids ? gm_session_ids(s, from, ids, n_cap) : 0;
}

int gemma_session_feed(gemma_session *s, const int32_t *ids, size_t n, const gemma_feed_options *options)
{
    return s ? gm_session_feed(s, ids, n, options) : GEMMA_E_ARG;
}

int gemma_session_rewind(gemma_session *s, uint32_t position)
{
    return s ? gm_session_rewind(s, position) : GEMMA_E_ARG;
}

int gemma_session_mark(gemma_session *s) { return s ? gm_session_mark(s) : GEMMA_E_ARG; }

int gemma_session_unmark(gemma_session *s, uint32_t position)
{
    return s ? gm_session_unmark(s, position) : GEMMA_E_ARG;
}

int gemma_session_fork(gemma_session *s, gemma_session **out, gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_session_fork: out is NULL");
    *out = NULL;
    if (!s) return gm_fail(error, GEMMA_E_ARG, "gemma_session_fork: session is NULL");
    gemma_session *fork = NULL;
    int rc = gm_session_fork(s, &fork, error);
    return rc ? rc : adopt(fork, gm_link_of(s)->model, out, error);
}

int gemma_session_match(gemma_session *s, const int32_t *ids, size_t n, uint32_t *kept)
{
    return s && kept ? gm_session_match(s, ids, n, kept) : GEMMA_E_ARG;
}

/* Another model's number differs; the sentence of a failure is left on the session. */
static int identity_of(gemma_session *s, uint64_t *identity)
{
    const gemma_file *file = gm_link_of(s)->model->plan->file;
    return gm_model_identity(file->model, file->gguf, identity, gm_session_sentence(s));
}

int gemma_session_save(gemma_session *s, const gemma_save_options *options)
{
    if (!s) return GEMMA_E_ARG;
    gemma_save_options o;
    uint64_t identity;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_save_options", gm_session_sentence(s));
    if (!rc && !o.write) rc = gm_fail(gm_session_sentence(s), GEMMA_E_ARG, "save: write is NULL");
    if (!rc) rc = identity_of(s, &identity);
    return rc ? rc : gm_session_save(s, identity, &o);
}

int gemma_session_load(gemma_session *s, const gemma_restore_options *options)
{
    if (!s) return GEMMA_E_ARG;
    gemma_restore_options o;
    uint64_t identity;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_restore_options", gm_session_sentence(s));
    if (!rc && !o.read) rc = gm_fail(gm_session_sentence(s), GEMMA_E_ARG, "load: read is NULL");
    if (!rc) rc = identity_of(s, &identity);
    return rc ? rc : gm_session_load(s, identity, &o);
}
