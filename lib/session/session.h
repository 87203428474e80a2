/* session: a loaded model at work. The engine runs steps one at a time; sessions hold ids and pages; a step is rows of
 * many sessions; a generation is the loop that turns steps into text. */
#ifndef GM_SESSION_H
#define GM_SESSION_H

#include "kv/kv.h"
#include "plan/plan.h"
#include "sampler/sampler.h"
#include "tokenizer/tokenizer.h"
#include "weights/weights.h"

typedef struct gm_engine gm_engine;
/* The public handles are these structs themselves; `owner` belongs to lib/api (the parent it keeps alive). */
typedef struct gemma_session gm_session;
typedef struct gemma_step gm_step;
typedef struct gemma_generation gm_generation;

/* Compiles the plan's programs over the resident memory (which the engine then owns, also on failure). */
int gm_engine_create(const gm_plan *plan, gm_resident *resident, gm_engine **out, gemma_error *error);
void gm_engine_destroy(gm_engine *e);
void gm_engine_query(gm_engine *e, gemma_model_status *status);
uint64_t gm_engine_session_bytes(const gm_plan *plan);
uint64_t gm_engine_step_bytes(const gm_plan *plan);

/* Reads the plan's blocks, between steps. */
int gm_engine_prove_again(gm_engine *e, gm_proof *proof, gm_proof_result *result, gemma_error *error);
/* Steps of one row so far, and how long the last one took. */
void gm_engine_last_decode(gm_engine *e, uint64_t *n, uint64_t *ns);

/* Gives back everything the plan took, the proof of it too; pages in use wait in host memory, sessions stay. Steps and saved sessions answer
 * STATE from then on. LOST, NOMEM, STATE (it is parked): as before. */
int gm_engine_park(gm_engine *e, gm_proof *proof, gemma_error *error);
/* Of a parked engine: goes on with a plan of the same model, whose memory it then owns, also on failure: then it is parked
 * as before. FULL, NOPAGES: the sessions do not fit in. */
int gm_engine_resume(gm_engine *e, const gm_plan *plan, gm_resident *resident, gemma_error *error);
/* Whether the sessions would fit into that plan: OK, ARG (another model), FULL, NOPAGES, NOMEM. */
int gm_engine_can_take(gm_engine *e, const gm_plan *plan, gemma_error *error);
bool gm_engine_is_parked(gm_engine *e);
/* Asked before every step, by the thread that submits it, without the lock; it may park and resume. Not OK: the step is
 * not carried out, and this is its error. */
typedef int (*gm_engine_between)(void *user, gemma_error *error);
void gm_engine_watch(gm_engine *e, gm_engine_between between, void *user);

/* ctx 0: the plan's. */
int gm_session_create(gm_engine *e, uint32_t ctx, gm_session **out, gemma_error *error);
/* The same with rotary angles that begin at first_position (≤ 2^28). */
int gm_session_create_at(gm_engine *e, uint32_t ctx, uint32_t first_position, gm_session **out, gemma_error *error);
void gm_session_destroy(gm_session *s);
void **gm_session_owner(gm_session *s);
const gemma_error *gm_session_error(const gm_session *s);
gemma_error *gm_session_sentence(gm_session *s); /* to leave one */
uint32_t gm_session_position(const gm_session *s);
uint32_t gm_session_room(const gm_session *s);
size_t gm_session_ids(const gm_session *s, uint32_t from, int32_t *ids, size_t n_cap);
int gm_session_feed(gm_session *s, const int32_t *ids, size_t n,
                    const gemma_feed_options *options); /* NULL: defaults */
int gm_session_rewind(gm_session *s, uint32_t position);
int gm_session_mark(gm_session *s);
int gm_session_unmark(gm_session *s, uint32_t position);
int gm_session_fork(gm_session *s, gm_session **out, gemma_error *error);
int gm_session_match(gm_session *s, const int32_t *ids, size_t n, uint32_t *kept);

/* `identity`: of the model. Options must have been read (size checked). */
int gm_session_save(gm_session *s, uint64_t identity, const gemma_save_options *options);
int gm_session_load(gm_session *s, uint64_t identity, const gemma_restore_options *options);

int gm_step_create(gm_engine *e, gm_step **out, gemma_error *error);
void gm_step_destroy(gm_step *t);
void **gm_step_owner(gm_step *t);
const gemma_error *gm_step_error(const gm_step *t);
int gm_step_clear(gm_step *t);
int gm_step_add(gm_step *t, gm_session *s, const gemma_row *row, uint32_t *index);
int gm_step_submit(gm_step *t, const gemma_cancel *cancel);
int gm_step_wait(gm_step *t, uint64_t timeout_ns);
/* NULL: no such row, not waited for, or not wanted. */
const gm_candidate *gm_step_candidates(const gm_step *t, uint32_t row, uint32_t *n);
const float *gm_step_log_sum(const gm_step *t, uint32_t row);
const float *gm_step_score(const gm_step *t, uint32_t row);
const float *gm_step_logits(const gm_step *t, uint32_t row, uint32_t *n_vocab);
const float *gm_step_hidden(const gm_step *t, uint32_t row, uint32_t *n_embd);

/* Draws from a row's results with what the sampler needs: candidates or the row. *log_prob may be NULL. STATE (the row
 * has not what the sampler needs, or no id is allowed); NOMEM (the first draw from a row takes the sampler's memory). */
int gm_step_draw(const gm_step *t, uint32_t row, gm_sampler *sampler, int32_t *id, float *log_prob);

/* The session, sampler and tokenizer outlive it. options must have been read (size checked). */
int gm_generation_create(gm_session *s, gm_sampler *sampler, const gm_tokenizer *tokenizer, const int32_t *prompt,
                         size_t n_prompt, const gemma_generation_options *options, gm_generation **out,
                         gemma_error *error);
void gm_generation_destroy(gm_generation *g);
void **gm_generation_owner(gm_generation *g); /* three words: session, sampler, tokenizer */
const gemma_error *gm_generation_error(const gm_generation *g);
int gm_generation_stop_at(gm_generation *g, const char *text, size_t n_bytes);
int gm_generation_next(gm_generation *g, gemma_piece *piece);

#endif
