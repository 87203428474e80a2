/* NULL for every pointer of every public function: ARG or a neutral value, never a crash. */
#include "api/world.h"

#define ARG(call) assert_int_equal(call, GEMMA_E_ARG)

typedef struct things {
    world w;
    gemma_session *s;
    gemma_step *t;
    gemma_sampler *sampler;
    gemma_generation *g;
} things;

static void creating(things *x)
{
    world *w = &x->w;
    void *out;
    int32_t ids[2] = { TINY_ASCII, TINY_ASCII };
    ARG(gemma_runtime_create(&w->host, NULL, NULL, NULL));
    ARG(gemma_cancel_create(w->runtime, NULL, NULL));
    ARG(gemma_file_open(w->runtime, "x", NULL, NULL, NULL));
    ARG(gemma_plan_create(w->file, NULL, NULL, NULL));
    ARG(gemma_model_load(w->plan, NULL, NULL, NULL));
    ARG(gemma_tokenizer_create(w->file, NULL, NULL));
    ARG(gemma_session_create(w->model, NULL, NULL, NULL));
    ARG(gemma_session_fork(x->s, NULL, NULL));
    ARG(gemma_step_create(w->model, NULL, NULL));
    ARG(gemma_sampler_create(w->runtime, NULL, NULL, NULL));
    ARG(gemma_generation_create(x->s, x->sampler, NULL, ids, 2, NULL, NULL, NULL));
/* *out is NULL, and a sentence says what was wrong. */
#define OUT_ARG(type, call)                                                                                            \
    do {                                                                                                               \
        type *made = (type *)(uintptr_t)1;                                                                             \
        type **to = &made;                                                                                             \
        gemma_error error = { .size = sizeof error }, *e = &error;                                                     \
        ARG(call);                                                                                                     \
        assert_null(made);                                                                                             \
        assert_int_equal(error.code, GEMMA_E_ARG);                                                                     \
        assert_true(strlen(error.message) > 5);                                                                        \
        e = NULL;                                                                                                      \
        ARG(call);                                                                                                     \
    } while (0)
    (void)out;
    OUT_ARG(gemma_cancel, gemma_cancel_create(NULL, to, e));
    OUT_ARG(gemma_file, gemma_file_open(NULL, "x", NULL, to, e));
    OUT_ARG(gemma_file, gemma_file_open(w->runtime, NULL, NULL, to, e));
    OUT_ARG(gemma_file, gemma_file_open(w->runtime, "", NULL, to, e));
    OUT_ARG(gemma_plan, gemma_plan_create(NULL, NULL, to, e));
    OUT_ARG(gemma_model, gemma_model_load(NULL, NULL, to, e));
    OUT_ARG(gemma_tokenizer, gemma_tokenizer_create(NULL, to, e));
    OUT_ARG(gemma_session, gemma_session_create(NULL, NULL, to, e));
    OUT_ARG(gemma_session, gemma_session_fork(NULL, to, e));
    OUT_ARG(gemma_step, gemma_step_create(NULL, to, e));
    OUT_ARG(gemma_sampler, gemma_sampler_create(NULL, NULL, to, e));
    OUT_ARG(gemma_generation, gemma_generation_create(NULL, x->sampler, NULL, ids, 2, NULL, to, e));
    OUT_ARG(gemma_generation, gemma_generation_create(x->s, NULL, NULL, ids, 2, NULL, to, e));
    OUT_ARG(gemma_generation, gemma_generation_create(x->s, x->sampler, NULL, NULL, 2, NULL, to, e));
}

static void destroying(void)
{
    gemma_runtime_destroy(NULL);
    gemma_cancel_destroy(NULL);
    gemma_file_close(NULL);
    gemma_plan_destroy(NULL);
    gemma_model_close(NULL);
    gemma_tokenizer_destroy(NULL);
    gemma_session_destroy(NULL);
    gemma_step_destroy(NULL);
    gemma_sampler_destroy(NULL);
    gemma_generation_destroy(NULL);
}

static void asking(things *x)
{
    world *w = &x->w;
    uint32_t device;
    size_t n_bytes;
    gemma_device_info info = { .size = sizeof info };
    gemma_heap_info heap = { .size = sizeof heap };
    gemma_probe probe = { .size = sizeof probe };
    gemma_file_info file = { .size = sizeof file };
    gemma_bill bill = { .size = sizeof bill };
    gemma_plan_info plan = { .size = sizeof plan };
    gemma_prediction prediction = { .size = sizeof prediction };
    gemma_advice advice = { .size = sizeof advice };
    gemma_model_status status = { .size = sizeof status };
    gemma_tokenizer_info tokenizer = { .size = sizeof tokenizer };
    char buffer[8];
    gemma_cancel_raise(NULL);
    gemma_cancel_clear(NULL);
    assert_int_equal(gemma_cancel_raised(NULL), 0);
    assert_int_equal(gemma_device_count(NULL), 0);
    ARG(gemma_device_describe(NULL, 0, &info));
    ARG(gemma_device_describe(w->runtime, 0, NULL));
    ARG(gemma_heap_describe(NULL, 0, 0, &heap));
    ARG(gemma_heap_describe(w->runtime, 0, 0, NULL));
    ARG(gemma_device_find(NULL, "cpu", &device, NULL));
    ARG(gemma_device_find(w->runtime, "cpu", NULL, NULL));
    ARG(gemma_device_probe(NULL, 0, NULL, &probe, NULL));
    ARG(gemma_device_probe(w->runtime, 0, NULL, NULL, NULL));
    ARG(gemma_device_save_kernels(NULL, 0, NULL, 0, &n_bytes, NULL));
    ARG(gemma_device_save_kernels(w->runtime, 1000, NULL, 0, &n_bytes, NULL));
    ARG(gemma_device_save_kernels(w->runtime, 0, NULL, 0, NULL, NULL));
    ARG(gemma_device_save_kernels(w->runtime, 0, NULL, 1, &n_bytes, NULL));
    ARG(gemma_device_load_kernels(NULL, 0, "", 1, NULL));
    ARG(gemma_device_load_kernels(w->runtime, 1000, "", 1, NULL));
    ARG(gemma_device_load_kernels(w->runtime, 0, NULL, 1, NULL));
    ARG(gemma_file_describe(NULL, &file));
    ARG(gemma_file_describe(w->file, NULL));
    ARG(gemma_file_metadata(NULL, "general.name", buffer, sizeof buffer));
    ARG(gemma_file_metadata(w->file, NULL, buffer, sizeof buffer));
    ARG(gemma_file_metadata(w->file, "general.name", NULL, 8));
    assert_int_equal(gemma_file_metadata(w->file, "general.name", NULL, 0), 4);
    ARG(gemma_plan_check(NULL, NULL));
    assert_int_equal(gemma_plan_check(w->plan, NULL), GEMMA_OK);
    assert_int_equal(gemma_plan_n_heaps(NULL), 0);
    ARG(gemma_plan_bill(NULL, 0, &bill));
    ARG(gemma_plan_bill(w->plan, 0, NULL));
    ARG(gemma_plan_bill(w->plan, 1, &bill));
    assert_int_equal(gemma_plan_class_bytes(NULL, 0, 0), 0);
    assert_int_equal(gemma_plan_class_bytes(w->plan, 1, 0), 0);
    ARG(gemma_plan_describe(NULL, &plan));
    ARG(gemma_plan_describe(w->plan, NULL));
    ARG(gemma_plan_predict(NULL, &prediction));
    ARG(gemma_plan_predict(w->plan, NULL));
    assert_int_equal(gemma_plan_n_advice(NULL), 0);
    ARG(gemma_plan_advice(NULL, 0, &advice));
    ARG(gemma_model_query(NULL, &status));
    ARG(gemma_model_query(w->model, NULL));
    ARG(gemma_tokenizer_describe(NULL, &tokenizer));
    ARG(gemma_tokenizer_describe(w->tokenizer, NULL));
    assert_non_null(gemma_class_name(99));
    assert_string_equal(gemma_error_name(1), "GEMMA_E_UNKNOWN");
    assert_non_null(gemma_error_text(-9999));
    /* A result struct without a size is refused. */
    bill.size = 0;
    ARG(gemma_plan_bill(w->plan, 0, &bill));
    status.size = 0;
    ARG(gemma_model_query(w->model, &status));
}

static void text(things *x)
{
    const gemma_tokenizer *t = x->w.tokenizer;
    int32_t ids[4] = { 0 };
    char buffer[4];
    size_t n;
    ARG(gemma_tokenize(NULL, "a", 1, 0, ids, 4, &n));
    ARG(gemma_tokenize(t, NULL, 1, 0, ids, 4, &n));
    ARG(gemma_tokenize(t, "a", 1, 0, NULL, 4, &n));
    ARG(gemma_tokenize(t, "a", 1, 0, ids, 4, NULL));
    assert_int_equal(gemma_tokenize(t, NULL, 0, 0, ids, 4, &n), GEMMA_OK);
    ARG(gemma_detokenize(NULL, ids, 1, 0, buffer, 4, &n));
    ARG(gemma_detokenize(t, NULL, 1, 0, buffer, 4, &n));
    ARG(gemma_detokenize(t, ids, 1, 0, NULL, 4, &n));
    ARG(gemma_detokenize(t, ids, 1, 0, buffer, 4, NULL));
    assert_int_equal(gemma_detokenize(t, NULL, 0, 0, NULL, 0, &n), GEMMA_OK);
    assert_int_equal(gemma_token_is_end(NULL, 1), 0);
}

static void session(things *x)
{
    int32_t ids[2] = { TINY_ASCII, TINY_ASCII };
    uint32_t kept;
    char buffer[8] = "unset";
    ARG(gemma_session_feed(NULL, ids, 2, NULL));
    ARG(gemma_session_feed(x->s, NULL, 2, NULL));
    ARG(gemma_session_rewind(NULL, 0));
    ARG(gemma_session_mark(NULL));
    ARG(gemma_session_unmark(NULL, 0));
    ARG(gemma_session_match(NULL, ids, 2, &kept));
    ARG(gemma_session_match(x->s, NULL, 2, &kept));
    ARG(gemma_session_match(x->s, ids, 2, NULL));
    assert_int_equal(gemma_session_position(NULL), 0);
    assert_int_equal(gemma_session_room(NULL), 0);
    assert_int_equal(gemma_session_ids(NULL, 0, ids, 2), 0);
    assert_int_equal(gemma_session_ids(x->s, 0, NULL, 2), 0);
    assert_int_equal(gemma_session_message(NULL, buffer, sizeof buffer), 0);
    assert_string_equal(buffer, "");
    gemma_session_message(x->s, NULL, 0);
}

static void step(things *x)
{
    gemma_row row = { .size = sizeof row, .token = TINY_ASCII };
    float value;
    int32_t id;
    char buffer[8] = "unset";
    ARG(gemma_step_clear(NULL));
    ARG(gemma_step_add(NULL, x->s, &row, NULL));
    ARG(gemma_step_add(x->t, NULL, &row, NULL));
    ARG(gemma_step_add(x->t, x->s, NULL, NULL));
    ARG(gemma_step_submit(NULL, NULL));
    ARG(gemma_step_wait(NULL, 0));
    assert_int_equal(gemma_step_n_candidates(NULL, 0), 0);
    ARG(gemma_step_candidate(NULL, 0, 0, &id, &value));
    ARG(gemma_step_log_sum(NULL, 0, &value));
    ARG(gemma_step_score(NULL, 0, &value));
    ARG(gemma_step_logits(NULL, 0, &value, 1));
    ARG(gemma_step_hidden(NULL, 0, &value, 1));
    row.want = 15;
    row.target = TINY_ASCII;
    assert_int_equal(gemma_step_add(x->t, x->s, &row, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_submit(x->t, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_wait(x->t, FOREVER), GEMMA_OK);
    assert_int_equal(gemma_step_candidate(x->t, 0, 0, NULL, NULL), GEMMA_OK);
    ARG(gemma_step_log_sum(x->t, 0, NULL));
    ARG(gemma_step_score(x->t, 0, NULL));
    ARG(gemma_step_logits(x->t, 0, NULL, 384));
    ARG(gemma_step_hidden(x->t, 0, NULL, 64));
    ARG(gemma_sampler_draw(NULL, x->t, 0, &id, &value));
    ARG(gemma_sampler_draw(x->sampler, NULL, 0, &id, &value));
    ARG(gemma_sampler_draw(x->sampler, x->t, 0, NULL, &value));
    assert_int_equal(gemma_sampler_draw(x->sampler, x->t, 0, &id, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_clear(x->t), GEMMA_OK);
    assert_int_equal(gemma_step_message(NULL, buffer, sizeof buffer), 0);
    assert_string_equal(buffer, "");
}

static void sampling(things *x)
{
    gemma_piece piece = { .size = sizeof piece };
    char buffer[8] = "unset";
    ARG(gemma_sampler_bias(NULL, 1, 1));
    ARG(gemma_sampler_accept(NULL, 1));
    ARG(gemma_sampler_reset(NULL));
    assert_int_equal(gemma_sampler_wants(NULL), GEMMA_WANT_CANDIDATES);
    ARG(gemma_generation_next(NULL, &piece));
    ARG(gemma_generation_next(x->g, NULL));
    piece.size = 0;
    ARG(gemma_generation_next(x->g, &piece));
    ARG(gemma_generation_stop_at(NULL, "x", 1));
    ARG(gemma_generation_stop_at(x->g, NULL, 1));
    assert_int_equal(gemma_generation_message(NULL, buffer, sizeof buffer), 0);
    assert_string_equal(buffer, "");
    piece.size = sizeof piece;
    assert_int_equal(gemma_session_position(x->s), 1); /* nothing of the above moved it */
    assert_int_equal(gemma_generation_next(x->g, &piece), GEMMA_OK);
    assert_true(piece.id >= 0);
}

static void nulls(void **state)
{
    things x;
    int32_t prompt[3];
    (void)state;
    world_init_family(&x.w, 4);
    world_open(&x.w, NULL);
    x.s = world_session(&x.w);
    x.t = world_step(&x.w);
    x.sampler = world_sampler(&x.w, NULL);
    world_ids(prompt, 3, 1);
    assert_int_equal(gemma_generation_create(x.s, x.sampler, x.w.tokenizer, prompt, 3, NULL, &x.g, NULL), GEMMA_OK);
    creating(&x);
    destroying();
    asking(&x);
    text(&x);
    session(&x);
    step(&x);
    sampling(&x);
    gemma_generation_destroy(x.g);
    gemma_sampler_destroy(x.sampler);
    gemma_step_destroy(x.t);
    gemma_session_destroy(x.s);
    world_close(&x.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(nulls) };
    return cmocka_run_group_tests_name("nulls", tests, NULL, NULL);
}
