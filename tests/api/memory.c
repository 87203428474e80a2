/* Planned is allocated, to the byte; generating allocates nothing; everything is freed in any order. */
#include "api/world.h"

typedef enum way { BY_READ, MAPPED, BY_BYTES, BY_HOST, WAYS } way;

static world here; /* what the host's read serves */

static int64_t read_bytes(void *user, const char *path, uint64_t offset, void *dst, uint64_t n)
{
    const world *w = user;
    (void)path;
    if (!dst) return (int64_t)w->n_bytes;
    uint64_t left = offset < w->n_bytes ? w->n_bytes - offset : 0;
    if (n > left) n = left;
    memcpy(dst, (const char *)w->bytes + offset, n);
    return (int64_t)n;
}

static uint64_t bulk_bytes(void)
{
    uint64_t sum = 0;
    for (uint32_t tag = GEMMA_TAG_WEIGHTS; tag <= GEMMA_TAG_STAGING; tag++) sum += fault_live_bytes(tag);
    return sum;
}

static gemma_bill bill_of(const gemma_plan *plan)
{
    gemma_bill bill = { .size = sizeof bill };
    assert_int_equal(gemma_plan_n_heaps(plan), 1);
    assert_int_equal(gemma_plan_bill(plan, 0, &bill), GEMMA_OK);
    return bill;
}

static void check_bill(const gemma_plan *plan, const gemma_model *model)
{
    gemma_bill bill = bill_of(plan);
    gemma_model_status status = { .size = sizeof status };
    uint64_t classes = 0;
    assert_int_equal(fault_live_bytes(GEMMA_TAG_WEIGHTS), bill.weight_bytes);
    assert_int_equal(fault_live_bytes(GEMMA_TAG_KV), bill.kv_sliding_bytes + bill.kv_global_bytes + bill.marks_bytes);
    assert_int_equal(fault_live_bytes(GEMMA_TAG_SCRATCH), bill.scratch_bytes);
    assert_int_equal(fault_live_bytes(GEMMA_TAG_STAGING), bill.staging_bytes);
    assert_int_equal(bulk_bytes(), bill.total_bytes);
    for (uint32_t c = 0; c < GEMMA_CLASS_COUNT; c++) classes += gemma_plan_class_bytes(plan, 0, c);
    assert_int_equal(classes, bill.total_bytes + bill.driver_bytes);
    assert_int_equal(gemma_plan_class_bytes(plan, 0, GEMMA_CLASS_MARKS), bill.marks_bytes);
    assert_int_equal(gemma_plan_class_bytes(plan, 0, 99), 0);
    assert_int_equal(gemma_model_query(model, &status), GEMMA_OK);
    assert_int_equal(status.allocated_bytes, bill.total_bytes);
}

/* Every byte of the file's tensors is loaded or mapped. */
static void check_way(way how, const char *device, uint32_t family, uint64_t *weight_bytes)
{
    world *w = &here;
    gemma_error *e = &w->error;
    gemma_model *model;
    gemma_plan *plan;
    gemma_file *file;
    world_init_family(w, family);
    const char *path = world_save(w);
    if (how == BY_HOST) {
        w->host.read = read_bytes;
        w->host.user = w;
    }
    assert_ok(gemma_runtime_create(&w->host, NULL, &w->runtime, e), e->message);
    gemma_file_options fo = { .size = sizeof fo, .flags = how == MAPPED ? GEMMA_FILE_MAP : 0 };
    if (how == BY_BYTES) {
        fo.bytes = w->bytes;
        fo.n_bytes = w->n_bytes;
    }
    assert_ok(gemma_file_open(w->runtime, how == BY_BYTES ? NULL : path, &fo, &file, e), e->message);
    gemma_plan_options po = { .size = sizeof po, .n_sessions = 2, .n_marks = 1, .ubatch = 96, .logit_rows = 3 };
    assert_ok(gemma_device_find(w->runtime, device, &po.device, e), e->message);
    assert_ok(gemma_plan_create(file, &po, &plan, e), e->message);
    assert_int_equal(bulk_bytes(), 0); /* a plan is arithmetic */
    assert_ok(gemma_model_load(plan, NULL, &model, e), e->message);
    check_bill(plan, model);
    gemma_bill bill = bill_of(plan);
    *weight_bytes = bill.weight_bytes + bill.mapped_bytes;
    assert_true((bill.mapped_bytes > 0) == (how == MAPPED || how == BY_BYTES));
    gemma_file_close(file);
    gemma_plan_destroy(plan);
    gemma_model_close(model);
    world_close(w);
    world_forget_file(path);
}

static void bill_is_allocated(void **state)
{
    static const char *const devices[] = { "cpu", "reference" };
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        for (size_t d = 0; d < COUNT(devices); d++) {
            for (way how = 0; how < WAYS; how++) {
                uint64_t weight_bytes;
                check_way(how, devices[d], family, &weight_bytes);
                assert_true(weight_bytes > 50000);
            }
        }
    }
}

static void sessions_and_steps_take_what_the_plan_says(void **state)
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .n_sessions = 2 };
    gemma_plan_info info = { .size = sizeof info };
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, &o);
    assert_int_equal(gemma_plan_describe(w.plan, &info), GEMMA_OK);
    uint64_t before = fault_live_bytes(GEMMA_TAG_OBJECT);
    gemma_session *s = world_session(&w);
    uint64_t after_session = fault_live_bytes(GEMMA_TAG_OBJECT);
    gemma_step *t = world_step(&w);
    uint64_t after_step = fault_live_bytes(GEMMA_TAG_OBJECT);
    assert_int_equal(after_session - before, info.session_bytes);
    assert_int_equal(after_step - after_session, info.step_bytes);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    assert_int_equal(fault_live_bytes(GEMMA_TAG_OBJECT), before);
    world_close(&w);
}

/* ---- nothing is allocated ---- */

static void check_generating(world *w, const gemma_sampler_options *so)
{
    int32_t prompt[20], id[4] = { 0 };
    world_ids(prompt, COUNT(prompt), 5);
    gemma_session *s = world_session(w);
    gemma_sampler *sampler = world_sampler(w, so);
    gemma_generation_options go = { .size = sizeof go, .flags = GEMMA_GENERATION_NO_END, .max_tokens = 200 };
    gemma_generation *g;
    assert_ok(gemma_generation_create(s, sampler, w->tokenizer, prompt, COUNT(prompt), &go, &g, &w->error),
              w->error.message);
    assert_int_equal(gemma_generation_stop_at(g, "no such text will come", 22), GEMMA_OK);
    uint64_t before = fault_allocations();
    gemma_piece piece = { .size = sizeof piece };
    uint32_t n = 0;
    do {
        assert_int_equal(gemma_generation_next(g, &piece), GEMMA_OK);
        n++;
    } while (!piece.stop);
    assert_int_equal(piece.stop, GEMMA_STOP_LENGTH);
    assert_int_equal(n, 200);
    assert_int_equal(fault_allocations(), before);
    assert_int_equal(gemma_session_ids(s, 217, id, 4), 2);
    gemma_generation_destroy(g);
    gemma_sampler_destroy(sampler);
    gemma_session_destroy(s);
}

static void generating_allocates_nothing(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        world w;
        world_init_family(&w, family);
        w.n_threads = 2;
        world_open(&w, NULL);
        gemma_sampler_options greedy = { .size = sizeof greedy },
                              few = { .size = sizeof few, .temperature = 1, .top_k = 40, .top_p = 0.9f, .seed = 11 },
                              whole = { .size = sizeof whole, .temperature = 0.7f, .n_vocab = w.n_vocab, .seed = 5 },
                              penalties = {
                                  .size = sizeof penalties, .temperature = 1, .top_k = 100, .repetition = 1.2f
                              };
        check_generating(&w, &greedy);
        check_generating(&w, &few);
        check_generating(&w, &whole);
        check_generating(&w, &penalties);
        world_close(&w);
    }
}

/* Steps, draws from rows, feeding, rewinding, marks: whatever a host does per token. */
static void stepping_allocates_nothing(void **state)
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .n_sessions = 2, .n_marks = 1, .ubatch = 64, .slack = 8 };
    int32_t ids[100], id;
    float log_prob, *logits = malloc(TINY_VOCAB_MIN * sizeof *logits);
    (void)state;
    world_ids(ids, COUNT(ids), 9);
    world_init_family(&w, 4);
    world_open(&w, &o);
    gemma_session *s = world_session(&w);
    gemma_step *t = world_step(&w);
    gemma_sampler_options so = { .size = sizeof so, .temperature = 1, .n_vocab = w.n_vocab, .seed = 3 };
    gemma_sampler *whole = world_sampler(&w, &so), *greedy = world_sampler(&w, NULL);
    uint64_t before = fault_allocations();
    assert_int_equal(gemma_session_feed(s, ids, COUNT(ids), NULL), GEMMA_OK);
    assert_int_equal(gemma_session_mark(s), GEMMA_OK);
    for (uint32_t i = 0; i < 100; i++) {
        gemma_row row = { .size = sizeof row, .token = ids[i], .target = ids[i], .want = 15 };
        uint32_t index;
        gemma_step_clear(t);
        assert_int_equal(gemma_step_add(t, s, &row, &index), GEMMA_OK);
        assert_int_equal(gemma_step_submit(t, NULL), GEMMA_OK);
        assert_int_equal(gemma_step_wait(t, FOREVER), GEMMA_OK);
        assert_int_equal(gemma_step_logits(t, index, logits, w.n_vocab), GEMMA_OK);
        assert_int_equal(gemma_sampler_draw(whole, t, index, &id, &log_prob), GEMMA_OK);
        assert_int_equal(gemma_sampler_accept(whole, id), GEMMA_OK);
        assert_int_equal(gemma_sampler_draw(greedy, t, index, &id, &log_prob), GEMMA_OK);
        if (i % 10 == 9) assert_int_equal(gemma_session_rewind(s, gemma_session_position(s) - 3), GEMMA_OK);
    }
    assert_int_equal(gemma_session_rewind(s, 100), GEMMA_OK);
    assert_int_equal(gemma_session_unmark(s, 100), GEMMA_OK);
    gemma_step_clear(t);
    assert_int_equal(fault_allocations(), before);
    gemma_sampler_destroy(whole);
    gemma_sampler_destroy(greedy);
    gemma_session_destroy(s);
    gemma_step_destroy(t);
    world_close(&w);
    free(logits);
}

/* ---- orders of destruction ---- */

enum { N_HANDLES = 10 };

typedef struct handle {
    void *object;
    void (*destroy)(void *object);
} handle;

static void runtime_end(void *x) { gemma_runtime_destroy(x); }
static void file_end(void *x) { gemma_file_close(x); }
static void plan_end(void *x) { gemma_plan_destroy(x); }
static void model_end(void *x) { gemma_model_close(x); }
static void tokenizer_end(void *x) { gemma_tokenizer_destroy(x); }
static void session_end(void *x) { gemma_session_destroy(x); }
static void step_end(void *x) { gemma_step_destroy(x); }
static void sampler_end(void *x) { gemma_sampler_destroy(x); }
static void generation_end(void *x) { gemma_generation_destroy(x); }
static void cancel_end(void *x) { gemma_cancel_destroy(x); }

/* Everything alive and in use: a half-read generation, a step that runs. */
static void make_all(handle h[N_HANDLES])
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .n_sessions = 2 };
    int32_t prompt[10];
    gemma_cancel *cancel;
    world_ids(prompt, COUNT(prompt), 2);
    world_init_family(&w, 4);
    world_open(&w, &o);
    assert_int_equal(gemma_cancel_create(w.runtime, &cancel, NULL), GEMMA_OK);
    gemma_session *s = world_session(&w), *fork;
    gemma_sampler *sampler = world_sampler(&w, NULL);
    gemma_generation *g;
    assert_int_equal(gemma_generation_create(s, sampler, w.tokenizer, prompt, COUNT(prompt), NULL, &g, NULL), GEMMA_OK);
    gemma_piece piece = { .size = sizeof piece };
    assert_int_equal(gemma_generation_next(g, &piece), GEMMA_OK);
    assert_int_equal(gemma_session_fork(s, &fork, NULL), GEMMA_OK);
    gemma_session_destroy(s); /* the generation keeps it */
    gemma_step *t = world_step(&w);
    gemma_row row = { .size = sizeof row, .token = prompt[0], .want = GEMMA_WANT_CANDIDATES };
    assert_int_equal(gemma_step_add(t, fork, &row, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_submit(t, cancel), GEMMA_OK);
    const handle all[N_HANDLES] = { { w.runtime, runtime_end }, { w.file, file_end },
                                    { w.plan, plan_end },       { w.model, model_end },
                                    { sampler, sampler_end },   { w.tokenizer, tokenizer_end },
                                    { fork, session_end },      { t, step_end },
                                    { g, generation_end },      { cancel, cancel_end } };
    memcpy(h, all, sizeof all);
    here.bytes = w.bytes;
}

/* The k-th of several orders: forwards, backwards, and shuffled ones. */
static void order_of(uint32_t k, uint32_t order[N_HANDLES])
{
    uint32_t state = k * 2654435761u;
    for (uint32_t i = 0; i < N_HANDLES; i++) order[i] = k == 1 ? N_HANDLES - 1 - i : i;
    for (uint32_t i = N_HANDLES - 1; i > 0 && k > 1; i--) {
        state = state * 1664525u + 1013904223u;
        uint32_t j = (state >> 8) % (i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

static void destroyed_in_any_order(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 12; k++) {
        handle h[N_HANDLES];
        uint32_t order[N_HANDLES];
        make_all(h);
        order_of(k, order);
        for (uint32_t i = 0; i < N_HANDLES; i++) h[order[i]].destroy(h[order[i]].object);
        free(here.bytes);
        assert_int_equal(fault_live_blocks(), 0);
        assert_int_equal(fault_mismatches(), 0);
    }
}

/* A runtime that is told how much RAM there is plans for that. */
static void told_ram(void **state)
{
    (void)state;
    enum { RAM = 200 << 20 };
    world w;
    gemma_plan_options po = { .size = sizeof po, .ctx = 64 };
    gemma_runtime_options ro = {
        .size = sizeof ro, .n_threads = 1, .flags = GEMMA_RUNTIME_NO_VULKAN, .ram_bytes = RAM
    };
    gemma_heap_info heap = { .size = sizeof heap };
    world_init_family(&w, 3);
    gemma_file_options fo = { .size = sizeof fo, .bytes = w.bytes, .n_bytes = w.n_bytes };
    assert_ok(gemma_runtime_create(&w.host, &ro, &w.runtime, &w.error), w.error.message);
    assert_int_equal(gemma_heap_describe(w.runtime, 0, 0, &heap), GEMMA_OK);
    assert_int_equal(heap.total_bytes, RAM);
    assert_int_equal(heap.budget_bytes, RAM);
    assert_int_equal(heap.reported, 1);
    assert_int_equal(heap.used_bytes, 0);
    assert_ok(gemma_file_open(w.runtime, NULL, &fo, &w.file, &w.error), w.error.message);
    assert_ok(gemma_plan_create(w.file, &po, &w.plan, &w.error), w.error.message);
    assert_ok(gemma_plan_check(w.plan, &w.error), w.error.message);
    gemma_plan_destroy(w.plan);
    po.headroom_bytes = RAM - (16 << 10); /* less than the scratch needs */
    assert_ok(gemma_plan_create(w.file, &po, &w.plan, &w.error), w.error.message);
    assert_int_equal(gemma_plan_check(w.plan, &w.error), GEMMA_E_NOFIT);
    assert_non_null(strstr(w.error.message, "RAM: needs"));
    gemma_bill bill = { .size = sizeof bill };
    assert_int_equal(gemma_plan_bill(w.plan, 0, &bill), GEMMA_OK);
    assert_int_equal(bill.budget_bytes, 16 << 10);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bill_is_allocated),
        cmocka_unit_test(sessions_and_steps_take_what_the_plan_says),
        cmocka_unit_test(generating_allocates_nothing),
        cmocka_unit_test(stepping_allocates_nothing),
        cmocka_unit_test(destroyed_in_any_order),
        cmocka_unit_test(told_ram),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
