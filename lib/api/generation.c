#include "api/handles.h"

enum { SESSION, SAMPLER, TOKENIZER }; /* a generation's owner words */

int gemma_generation_create(gemma_session *s, gemma_sampler *sampler, gemma_tokenizer *tokenizer, const int32_t *prompt,
                            size_t n_prompt, const gemma_generation_options *options, gemma_generation **out,
                            gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_generation_create: out is NULL");
    *out = NULL;
    gemma_generation_options o;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_generation_options", error);
    if (rc) return rc;
    if (!s || !sampler) return gm_fail(error, GEMMA_E_ARG, "gemma_generation_create: no session or no sampler");
    rc = gm_generation_create(s, sampler->sampler, tokenizer ? tokenizer->tokenizer : NULL, prompt, n_prompt, &o, out,
                              error);
    if (rc) return rc;
    void **owner = gm_generation_owner(*out);
    owner[SESSION] = s;
    gm_ref_take(&gm_link_of(s)->ref);
    owner[SAMPLER] = sampler;
    gm_ref_take(&sampler->ref);
    owner[TOKENIZER] = tokenizer;
    if (tokenizer) gm_ref_take(&tokenizer->ref);
    return GEMMA_OK;
}

void gemma_generation_destroy(gemma_generation *g)
{
    if (!g) return;
    void **owner = gm_generation_owner(g);
    gemma_session *session = owner[SESSION];
    gemma_sampler *sampler = owner[SAMPLER];
    gemma_tokenizer *tokenizer = owner[TOKENIZER];
    gm_generation_destroy(g);
    gemma_session_destroy(session);
    gemma_sampler_destroy(sampler);
    gemma_tokenizer_destroy(tokenizer);
}

int gemma_generation_stop_at(gemma_generation *g, const char *text, size_t n_bytes)
{
    return g ? gm_generation_stop_at(g, text, n_bytes) : GEMMA_E_ARG;
}

int gemma_generation_next(gemma_generation *g, gemma_piece *piece)
{
    if (!g || !piece) return GEMMA_E_ARG;
    gemma_piece full = { .size = sizeof full, .id = -1 };
    int rc = gm_result_write(piece, &full, sizeof full);
    if (rc) return rc; /* before anything is drawn */
    uint64_t modes = gm_float_env_set_default();
    rc = gm_generation_next(g, &full);
    gm_float_env_restore(modes);
    gm_result_write(piece, &full, sizeof full);
    return rc;
}

size_t gemma_generation_message(const gemma_generation *g, char *buffer, size_t n_bytes)
{
    return gm_message_copy(g ? gm_generation_error(g) : NULL, buffer, n_bytes);
}
