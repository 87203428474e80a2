/* The loop. A drawn id is fed by the call after the one that returned it, together with drawing the next one: when a
 * generation ends, its session holds the prompt and every drawn id but the last. */
#include "session/internal.h"

#define FLAGS_KNOWN (GEMMA_DETOKENIZE_SPECIAL | GEMMA_GENERATION_NO_END)

struct gemma_generation {
    void *owner[3];
    gm_session *session;
    gm_sampler *sampler;
    const gm_tokenizer *tokenizer; /* NULL: ids only */
    gemma_error error;
    gm_step *step; /* rows for a piece of the prompt, results for one row */
    const gemma_cancel *cancel;
    uint32_t max_tokens, flags;
    uint32_t stop; /* GEMMA_STOP_…; the last piece was given */
    bool begun;    /* the prompt is fed */
    int32_t last;  /* drawn, not fed yet */
    uint32_t n_drawn;
    size_t n_prompt;
    int32_t *prompt;
    gm_detok detok;
    stops stops;
    char *text;                /* [text_cap] given with the last piece, then held back */
    size_t n_given, n_text;    /* bytes of the first part; of both */
    size_t text_cap, most_new; /* most_new: what one id can add */
};

/* ---- create, destroy ---- */

static int check_create(const gm_session *s, const int32_t *prompt, size_t n, const gemma_generation_options *options,
                        gemma_error *error)
{
    if (!prompt || n == 0) return gm_fail(error, GEMMA_E_ARG, "generation: the prompt is empty");
    if (options->flags & ~(uint32_t)FLAGS_KNOWN)
        return gm_fail(error, GEMMA_E_ARG, "generation: flags %u are not known", options->flags);
    for (size_t i = 0; i < n; i++) {
        if (!gm_session_token_valid(s->engine, prompt[i]))
            return gm_fail(error, GEMMA_E_TOKEN, "generation: prompt id %d at %zu is not one of %u", (int)prompt[i], i,
                           s->engine->n_vocab);
    }
    if (n > gm_session_room(s))
        return gm_fail(error, GEMMA_E_FULL, "generation: a prompt of %zu tokens, but the session has %u of %u left", n,
                       gm_session_room(s), s->ctx);
    return GEMMA_OK;
}

static int take_memory(gm_generation *g, gemma_error *error)
{
    gm_engine *e = g->session->engine;
    bool row = gm_sampler_needs_row(g->sampler);
    step_sizes sizes = { .rows = e->plan->limits.max_rows, .wanted = 1, .lines = row };
    int rc = gm_step_new(e, &sizes, &g->step, error);
    if (rc) return rc;
    uint32_t n_vocab = e->n_vocab;
    if (row && gm_sampler_reserve(g->sampler, n_vocab))
        return gm_fail_nomem(error, "a sampler's work", 8 * (uint64_t)n_vocab);
    uint64_t prompt_bytes = g->n_prompt * sizeof *g->prompt;
    g->prompt = gm_new(e->mem, prompt_bytes, GEMMA_TAG_OBJECT);
    if (!g->prompt) return gm_fail_nomem(error, "a prompt", prompt_bytes);
    if (!g->tokenizer) return GEMMA_OK;
    /* Every byte can become U+FFFD (3 bytes); what is held back is shorter than a stop string. */
    g->most_new = 3 * (gm_tokenizer_longest(g->tokenizer) + sizeof g->detok.held);
    g->text_cap = STOP_BYTES_MAX + 2 * g->most_new;
    g->text = gm_new(e->mem, g->text_cap, GEMMA_TAG_OBJECT);
    return g->text ? GEMMA_OK : gm_fail_nomem(error, "a generation's text", g->text_cap);
}

int gm_generation_create(gm_session *s, gm_sampler *sampler, const gm_tokenizer *tokenizer, const int32_t *prompt,
                         size_t n_prompt, const gemma_generation_options *options, gm_generation **out,
                         gemma_error *error)
{
    static const gemma_generation_options none = { .size = sizeof none };
    *out = NULL;
    if (!options) options = &none;
    int rc = check_create(s, prompt, n_prompt, options, error);
    if (rc) return rc;
    gm_generation *g = gm_new(s->engine->mem, sizeof *g, GEMMA_TAG_OBJECT);
    if (!g) return gm_fail_nomem(error, "a generation", sizeof *g);
    g->session = s;
    g->sampler = sampler;
    g->tokenizer = tokenizer;
    g->cancel = options->cancel;
    g->max_tokens = options->max_tokens;
    g->flags = options->flags;
    g->n_prompt = n_prompt;
    gm_error_init(&g->error);
    if (tokenizer) gm_detok_init(&g->detok, tokenizer, (g->flags & GEMMA_DETOKENIZE_SPECIAL) != 0);
    rc = take_memory(g, error);
    if (rc) {
        gm_generation_destroy(g);
        return rc;
    }
    memcpy(g->prompt, prompt, n_prompt * sizeof *prompt);
    *out = g;
    return GEMMA_OK;
}

void gm_generation_destroy(gm_generation *g)
{
    if (!g) return;
    gm_mem *mem = g->session->engine->mem;
    gm_step_destroy(g->step);
    gm_delete(mem, g->prompt);
    gm_delete(mem, g->text);
    gm_delete(mem, g);
}

void **gm_generation_owner(gm_generation *g) { return g->owner; }
const gemma_error *gm_generation_error(const gm_generation *g) { return &g->error; }

int gm_generation_stop_at(gm_generation *g, const char *text, size_t n_bytes)
{
    if (!g->tokenizer)
        return gm_fail(&g->error, GEMMA_E_ARG, "a stop string needs text: the generation has no tokenizer");
    return gm_stops_add(&g->stops, text, n_bytes, &g->error);
}

/* ---- text ---- */

static void forget_given(gm_generation *g)
{
    if (!g->n_given) return;
    g->n_text -= g->n_given;
    memmove(g->text, g->text + g->n_given, g->n_text);
    g->n_given = 0;
}

/* The text of an id, or (id -1) of the unfinished character that no id followed. true: a stop string is complete; the
 * text ends before it. */
static bool add_text(gm_generation *g, int32_t id)
{
    char *end = g->text + g->n_text;
    size_t room = g->text_cap - g->n_text;
    g->n_text += id >= 0 ? gm_detok_push(&g->detok, id, end, room) : gm_detok_flush(&g->detok, end, room);
    size_t at = gm_stops_find(&g->stops, g->text, g->n_text);
    bool found = at < g->n_text;
    g->n_text = at;
    return found;
}

/* ---- next ---- */

static int feed(gm_generation *g)
{
    bool row = gm_sampler_needs_row(g->sampler);
    if (row && !g->step->sizes.lines)
        return gm_fail(&g->error, GEMMA_E_STATE,
                       "the sampler was changed and now needs whole rows of logits; "
                       "create the generation after setting its biases");
    /* SCORE only for the log of the softmax sum, which the device has anyway. */
    feeding f = { .want = row ? GEMMA_WANT_LOGITS | GEMMA_WANT_SCORE : GEMMA_WANT_CANDIDATES, .cancel = g->cancel };
    const int32_t *ids = g->begun ? &g->last : g->prompt;
    size_t n = g->begun ? 1 : g->n_prompt;
    int rc = gm_session_run(g->session, g->step, ids, n, &f);
    if (rc) return gm_fail(&g->error, rc, "%s", g->session->error.message);
    for (size_t i = 0; !g->begun && i < n; i++) gm_sampler_accept(g->sampler, ids[i]); /* penalties count them */
    g->begun = true;
    return GEMMA_OK;
}

static int draw(gm_generation *g, gemma_piece *piece)
{
    uint32_t row = g->step->n_rows - 1;
    int rc = gm_step_draw(g->step, row, g->sampler, &piece->id, &piece->log_prob);
    if (rc) {
        piece->id = -1;
        return gm_fail(&g->error, rc, "no id could be drawn: the sampler's biases forbid every one");
    }
    g->last = piece->id;
    g->n_drawn++;
    gm_sampler_accept(g->sampler, piece->id);
    return GEMMA_OK;
}

/* Adds the id's text and says why it is the last one. */
static uint32_t judge(gm_generation *g, int32_t id)
{
    bool end = g->tokenizer && !(g->flags & GEMMA_GENERATION_NO_END) && gm_tokenizer_is_end(g->tokenizer, id);
    if (end) return GEMMA_STOP_END;
    if (g->tokenizer && add_text(g, id)) return GEMMA_STOP_STRING;
    if (g->max_tokens && g->n_drawn >= g->max_tokens) return GEMMA_STOP_LENGTH;
    return gm_session_room(g->session) ? GEMMA_STOP_NONE : GEMMA_STOP_FULL;
}

/* Puts what may be given of the text into the piece: all of it when the generation stops. */
static void give(gm_generation *g, gemma_piece *piece)
{
    piece->stop = g->stop;
    if (!g->tokenizer) return;
    if (g->stop && g->stop != GEMMA_STOP_STRING) add_text(g, -1);
    g->n_given = g->n_text - (g->stop ? 0 : gm_stops_held(&g->stops, g->text, g->n_text));
    piece->text = g->text;
    piece->n_bytes = g->n_given;
}

int gm_generation_next(gm_generation *g, gemma_piece *piece)
{
    if (g->stop) return gm_fail(&g->error, GEMMA_E_STATE, "the generation has stopped");
    *piece = (gemma_piece){ .size = piece->size, .id = -1, .text = "" };
    forget_given(g);
    int rc = feed(g);
    if (!rc) rc = draw(g, piece);
    if (!rc)
        g->stop = judge(g, piece->id);
    else if (rc == GEMMA_E_CANCELLED)
        g->stop = GEMMA_STOP_CANCELLED;
    else if (rc == GEMMA_E_FULL)
        g->stop = GEMMA_STOP_FULL; /* someone else fed the session */
    else
        g->stop = GEMMA_STOP_ERROR;
    give(g, piece);
    return g->stop == GEMMA_STOP_ERROR ? rc : GEMMA_OK;
}
