/* What a host does wrong: the code, a part of the sentence, and the state that is left. */
#include "api/world.h"

#include <stdio.h>

static void expect(int rc, int code, const char *message, const char *part)
{
    if (rc != code) fail_msg("%s, not %s: %s", gemma_error_name(rc), gemma_error_name(code), message);
    if (!strstr(message, part)) fail_msg("\"%s\" does not say \"%s\"", message, part);
}

/* ---- files ---- */

typedef struct file_case {
    const char *what;
    const char *path; /* or a tiny model: */
    const char *skip; /* left out of it */
    const char *put;  /* a key (with `text`) or a tensor of `type` and shape ne put in */
    const char *text;
    uint32_t type;
    uint64_t ne[2];
    uint32_t percent;    /* of the file that is there; 0: all of it */
    uint32_t damaged_at; /* offset of a byte that is changed, plus 1 */
    int code;
    const char *part;
} file_case;

static const file_case file_cases[] = {
    { .what = "missing", .path = "/nowhere/model.gguf", .code = GEMMA_E_IO, .part = "/nowhere/model.gguf" },
    { .what = "directory", .path = "/tmp", .code = GEMMA_E_IO, .part = "/tmp" },
    { .what = "truncated in the tensors", .percent = 60, .code = GEMMA_E_FORMAT, .part = "ends" },
    { .what = "truncated in the header", .percent = 5, .code = GEMMA_E_FORMAT, .part = "" },
    { .what = "no GGUF", .damaged_at = 1, .code = GEMMA_E_FORMAT, .part = "GGUF" },
    { .what = "a version of the future", .damaged_at = 5, .code = GEMMA_E_UNSUPPORTED, .part = "version" },
    { .what = "another architecture",
      .skip = "general.architecture",
      .put = "general.architecture",
      .text = "llama",
      .code = GEMMA_E_UNSUPPORTED,
      .part = "llama" },
    { .what = "no architecture",
      .skip = "general.architecture",
      .code = GEMMA_E_FORMAT,
      .part = "general.architecture" },
    { .what = "a key is missing", .skip = "gemma3.block_count", .code = GEMMA_E_FORMAT, .part = "gemma3.block_count" },
    { .what = "an unknown quant type",
      .skip = "blk.1.ffn_up.weight",
      .put = "blk.1.ffn_up.weight",
      .type = 200,
      .ne = { 64, 96 },
      .code = GEMMA_E_UNSUPPORTED,
      .part = "blk.1.ffn_up.weight" },
    { .what = "wrong shape",
      .skip = "blk.0.attn_q.weight",
      .put = "blk.0.attn_q.weight",
      .type = GM_F32,
      .ne = { 64, 32 },
      .code = GEMMA_E_FORMAT,
      .part = "blk.0.attn_q.weight" },
    { .what = "a missing tensor",
      .skip = "blk.3.ffn_down.weight",
      .code = GEMMA_E_FORMAT,
      .part = "blk.3.ffn_down.weight" },
    { .what = "a missing norm", .skip = "output_norm.weight", .code = GEMMA_E_FORMAT, .part = "output_norm.weight" },
};

/* File and plan: the first code that is not OK. */
static int open_and_plan(const world *w, const file_case *c, const void *bytes, uint64_t n_bytes, gemma_error *error)
{
    gemma_file_options o = { .size = sizeof o, .bytes = c->path ? NULL : bytes, .n_bytes = n_bytes };
    gemma_file *file = (gemma_file *)(uintptr_t)1;
    gemma_plan *plan = (gemma_plan *)(uintptr_t)1;
    int rc = gemma_file_open(w->runtime, c->path, &o, &file, error);
    if (rc) {
        assert_null(file);
        return rc;
    }
    rc = gemma_plan_create(file, NULL, &plan, error);
    if (rc) assert_null(plan);
    gemma_plan_destroy(plan);
    gemma_file_close(file);
    return rc;
}

static void check_file(const world *w, const file_case *c)
{
    tiny_model t;
    size_t n;
    gemma_error error = { .size = sizeof error };
    tiny_model_defaults(&t, 3);
    t.skip[0] = c->skip;
    gguf_writer *writer = tiny_model_write(&t);
    if (c->put && c->text)
        gguf_put_string(writer, c->put, c->text);
    else if (c->put)
        gguf_put_tensor(writer, c->put, c->type, 2, c->ne, NULL, (size_t)(c->ne[0] * c->ne[1] * 4));
    const uint8_t *bytes = gguf_writer_finish(writer, &n);
    uint8_t *copy = aligned_alloc(64, (n + 63) / 64 * 64);
    memcpy(copy, bytes, n);
    if (c->damaged_at) copy[c->damaged_at - 1] ^= 0x40;
    uint64_t live = fault_live_blocks();
    int rc = open_and_plan(w, c, copy, c->percent ? n * c->percent / 100 : n, &error);
    if (rc != c->code || error.code != c->code)
        fail_msg("%s: %s, not %s: %s", c->what, gemma_error_name(rc), gemma_error_name(c->code), error.message);
    if (!strstr(error.message, c->part)) fail_msg("%s: \"%s\" does not say \"%s\"", c->what, error.message, c->part);
    assert_int_equal(fault_live_blocks(), live);
    free(copy);
    gguf_writer_destroy(writer);
}

static void files(void **state)
{
    world w;
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, NULL);
    for (size_t i = 0; i < COUNT(file_cases); i++) check_file(&w, &file_cases[i]);
    world_close(&w);
}

/* ---- options ---- */

static void devices(void **state)
{
    world w;
    uint32_t device = 77;
    gemma_device_info info = { .size = sizeof info };
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, NULL);
    expect(gemma_device_find(w.runtime, "toaster", &device, &w.error), GEMMA_E_DEVICE, w.error.message, "toaster");
    assert_non_null(strstr(w.error.message, "reference")); /* the list */
    assert_non_null(strstr(w.error.message, "cpu"));
    assert_int_equal(device, 77);
    assert_int_equal(gemma_device_find(w.runtime, NULL, &device, NULL), GEMMA_OK);
    assert_int_equal(gemma_device_find(w.runtime, "reference", &device, NULL), GEMMA_OK);
    assert_int_equal(gemma_device_describe(w.runtime, device, &info), GEMMA_OK);
    assert_string_equal(info.id, "reference");
    assert_int_equal(gemma_device_describe(w.runtime, 99, &info), GEMMA_E_ARG);
    gemma_heap_info heap = { .size = sizeof heap };
    assert_int_equal(gemma_heap_describe(w.runtime, device, 99, &heap), GEMMA_E_ARG);
    assert_int_equal(gemma_heap_describe(w.runtime, device, 0, &heap), GEMMA_OK);
    world_close(&w);
}

/* A struct with a tail that this library does not know: fine while it is zero. */
static void sizes(void **state)
{
    world w;
    struct {
        gemma_plan_options o;
        uint64_t tail;
    } future = { .o = { .size = sizeof future } };
    gemma_plan *plan;
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, NULL);
    assert_ok(gemma_plan_create(w.file, &future.o, &plan, &w.error), w.error.message);
    gemma_plan_destroy(plan);
    future.tail = 1;
    expect(gemma_plan_create(w.file, &future.o, &plan, &w.error), GEMMA_E_VERSION, w.error.message,
           "gemma_plan_options");
    assert_null(plan);
    future.o.size = 0;
    expect(gemma_plan_create(w.file, &future.o, &plan, &w.error), GEMMA_E_ARG, w.error.message, "size");
    gemma_host host = w.host;
    gemma_runtime *rt;
    host.size = 3;
    expect(gemma_runtime_create(&host, NULL, &rt, &w.error), GEMMA_E_ARG, w.error.message, "gemma_host");
    host = w.host;
    host.free = NULL;
    expect(gemma_runtime_create(&host, NULL, &rt, &w.error), GEMMA_E_ARG, w.error.message, "free");
    assert_null(rt);
    gemma_session *s;
    gemma_session_options so = { .size = 2 };
    expect(gemma_session_create(w.model, &so, &s, &w.error), GEMMA_E_ARG, w.error.message, "gemma_session_options");
    so = (gemma_session_options){ .size = sizeof so, .ctx = 100000 };
    expect(gemma_session_create(w.model, &so, &s, &w.error), GEMMA_E_ARG, w.error.message, "100000");
    so = (gemma_session_options){ .size = sizeof so, .first_position = UINT32_MAX };
    expect(gemma_session_create(w.model, &so, &s, &w.error), GEMMA_E_ARG, w.error.message, "first_position");
    /* An old, short result struct is not written beyond its size. */
    gemma_file_info info = { .size = 8, .n_layers = 77 };
    assert_int_equal(gemma_file_describe(w.file, &info), GEMMA_OK);
    assert_int_equal(info.n_layers, 77);
    assert_int_equal(info.has_weights, 1);
    assert_int_equal(info.size, 8);
    world_close(&w);
}

static const struct plan_case {
    gemma_plan_options o;
    int code;
    const char *part;
} plan_cases[] = {
    { { .ctx = 100000 }, GEMMA_E_ARG, "ctx" },          { { .n_sessions = 100000 }, GEMMA_E_ARG, "n_sessions" },
    { { .ubatch = 1000000 }, GEMMA_E_ARG, "ubatch" },   { { .n_marks = 1000000 }, GEMMA_E_ARG, "n_marks" },
    { { .slack = 1000000 }, GEMMA_E_ARG, "slack" },     { { .logit_rows = 1000000 }, GEMMA_E_ARG, "logit_rows" },
    { { .min_ctx = 1000000 }, GEMMA_E_ARG, "min_ctx" }, { { .fit = 9 }, GEMMA_E_ARG, "fit" },
    { { .kv_global = 99 }, GEMMA_E_ARG, "kv_global" },  { { .kv_sliding = UINT32_MAX }, GEMMA_E_ARG, "kv_sliding" },
    { { .device = 1000 }, GEMMA_E_DEVICE, "1000" },
};

static void plan_options(void **state)
{
    world w;
    (void)state;
    world_init_family(&w, 4);
    world_open(&w, NULL);
    for (size_t i = 0; i < COUNT(plan_cases); i++) {
        gemma_plan_options o = plan_cases[i].o;
        gemma_plan *plan = (gemma_plan *)(uintptr_t)1;
        o.size = sizeof o;
        int rc = gemma_plan_create(w.file, &o, &plan, &w.error);
        expect(rc, plan_cases[i].code, w.error.message, plan_cases[i].part);
        assert_null(plan);
    }
    gemma_probe probe = { .size = sizeof probe, .device = 1, .read_gb_s = 10 };
    gemma_plan_options o = { .size = sizeof o, .probe = &probe };
    probe.next = &probe;
    gemma_plan *plan;
    expect(gemma_plan_create(w.file, &o, &plan, &w.error), GEMMA_E_ARG, w.error.message, "chain");
    world_close(&w);
}

/* ---- plans that do not fit ---- */

static gemma_bill bill_of(const gemma_plan *plan)
{
    gemma_bill bill = { .size = sizeof bill };
    assert_int_equal(gemma_plan_bill(plan, 0, &bill), GEMMA_OK);
    return bill;
}

static uint32_t check_advice(world *w, const gemma_plan *plan, gemma_plan_options o)
{
    uint32_t n = gemma_plan_n_advice(plan);
    for (uint32_t i = 0; i < n; i++) {
        gemma_advice a = { .size = sizeof a };
        gemma_plan *better;
        assert_int_equal(gemma_plan_advice(plan, i, &a), GEMMA_OK);
        o.ctx = a.ctx;
        o.kv_global = a.kv_global;
        o.kv_sliding = a.kv_sliding;
        o.n_sessions = a.n_sessions;
        o.ubatch = a.ubatch;
        assert_ok(gemma_plan_create(w->file, &o, &better, &w->error), w->error.message);
        assert_ok(gemma_plan_check(better, &w->error), w->error.message);
        gemma_bill bill = bill_of(better);
        assert_int_equal(bill.total_bytes, a.total_bytes);
        assert_int_equal(bill.budget_bytes, a.budget_bytes);
        assert_true(bill.total_bytes <= bill.budget_bytes);
        gemma_plan_destroy(better);
    }
    gemma_advice none = { .size = sizeof none };
    assert_int_equal(gemma_plan_advice(plan, n, &none), GEMMA_E_ARG);
    return n;
}

static void plans_that_do_not_fit(void **state)
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .ctx = 512, .n_sessions = 8, .min_ctx = 64, .headroom_bytes = 1 };
    gemma_plan *plan;
    gemma_model *model = (gemma_model *)(uintptr_t)1;
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, &o);
    uint64_t whole = bill_of(w.plan).total_bytes;
    o.budget_bytes = whole / 10 * 7;
    assert_ok(gemma_plan_create(w.file, &o, &plan, &w.error), w.error.message);
    gemma_plan_info info = { .size = sizeof info };
    assert_int_equal(gemma_plan_describe(plan, &info), GEMMA_OK);
    assert_int_equal(info.fits, 0);
    expect(gemma_plan_check(plan, &w.error), GEMMA_E_NOFIT, w.error.message, "it would fit with");
    uint64_t live = fault_live_blocks();
    expect(gemma_model_load(plan, NULL, &model, &w.error), GEMMA_E_NOFIT, w.error.message, "needs");
    assert_null(model);
    assert_int_equal(fault_live_blocks(), live);
    assert_true(check_advice(&w, plan, o) >= 2);
    gemma_plan_destroy(plan);
    o.fit = GEMMA_FIT_SHRINK;
    assert_ok(gemma_plan_create(w.file, &o, &plan, &w.error), w.error.message);
    assert_int_equal(gemma_plan_describe(plan, &info), GEMMA_OK);
    assert_true(info.fits && info.ctx >= 64 && info.ctx < 512);
    assert_ok(gemma_model_load(plan, NULL, &model, &w.error), w.error.message);
    gemma_model_close(model);
    gemma_plan_destroy(plan);
    o.budget_bytes = 10000; /* nothing helps */
    assert_ok(gemma_plan_create(w.file, &o, &plan, &w.error), w.error.message);
    expect(gemma_plan_check(plan, &w.error), GEMMA_E_NOFIT, w.error.message, "needs");
    assert_int_equal(gemma_plan_n_advice(plan), 0);
    gemma_plan_destroy(plan);
    world_close(&w);
}

/* ---- sessions and steps ---- */

static void expect_session(const gemma_session *s, int rc, int code, const char *part)
{
    char message[512];
    gemma_session_message(s, message, sizeof message);
    expect(rc, code, message, part);
}

static void expect_step(const gemma_step *t, int rc, int code, const char *part)
{
    char message[512];
    gemma_step_message(t, message, sizeof message);
    expect(rc, code, message, part);
}

enum { CTX = 300, FED = 280 };

static void assert_unchanged(const gemma_session *s, const int32_t *ids)
{
    int32_t have[CTX];
    assert_int_equal(gemma_session_position(s), FED);
    assert_int_equal(gemma_session_room(s), CTX - FED);
    assert_int_equal(gemma_session_ids(s, 0, have, CTX), FED);
    assert_memory_equal(have, ids, FED * sizeof *have);
}

static void feeding(void **state)
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .ctx = CTX, .ubatch = 16, .slack = 8 };
    int32_t ids[CTX + 1], bad[2] = { TINY_ASCII, TINY_VOCAB_MIN };
    uint32_t kept;
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, &o);
    world_ids(ids, COUNT(ids), 1);
    gemma_session *s = world_session(&w), *more = (gemma_session *)(uintptr_t)1;
    assert_int_equal(gemma_session_feed(s, ids, FED, NULL), GEMMA_OK);
    expect_session(s, gemma_session_feed(s, ids, 0, NULL), GEMMA_E_ARG, "no ids");
    expect_session(s, gemma_session_feed(s, NULL, 3, NULL), GEMMA_E_ARG, "no ids");
    expect_session(s, gemma_session_feed(s, bad, 2, NULL), GEMMA_E_TOKEN, "384 at 1");
    bad[1] = -1;
    expect_session(s, gemma_session_feed(s, bad, 2, NULL), GEMMA_E_TOKEN, "-1");
    expect_session(s, gemma_session_feed(s, ids, CTX - FED + 1, NULL), GEMMA_E_FULL, "21 tokens");
    expect_session(s, gemma_session_rewind(s, FED + 1), GEMMA_E_REWIND, "281");
    expect_session(s, gemma_session_rewind(s, 3), GEMMA_E_REWIND, "nearest");
    expect_session(s, gemma_session_unmark(s, 3), GEMMA_E_ARG, "");
    assert_int_equal(gemma_session_mark(s), GEMMA_E_NOPAGES); /* the plan has no marks */
    expect_session(s, gemma_session_match(s, ids, 0, &kept), GEMMA_E_ARG, "no ids");
    gemma_feed_options fo = { .size = 1 };
    expect_session(s, gemma_session_feed(s, ids, 1, &fo), GEMMA_E_ARG, "gemma_feed_options");
    expect(gemma_session_fork(s, &more, &w.error), GEMMA_E_NOPAGES, w.error.message, "1 sessions");
    assert_null(more);
    expect(gemma_session_create(w.model, NULL, &more, &w.error), GEMMA_E_NOPAGES, w.error.message, "alive");
    assert_unchanged(s, ids);
    assert_int_equal(gemma_session_feed(s, ids, CTX - FED, NULL), GEMMA_OK);
    expect_session(s, gemma_session_feed(s, ids, 1, NULL), GEMMA_E_FULL, "0 of 300");
    gemma_session_destroy(s);
    world_close(&w);
}

static void stepping(void **state)
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .ctx = CTX, .ubatch = 16, .n_sessions = 2 };
    int32_t ids[CTX], id;
    float value, row_values[TINY_VOCAB_MIN];
    (void)state;
    world_init_family(&w, 4);
    world_open(&w, &o);
    world_ids(ids, COUNT(ids), 1);
    gemma_session *s = world_session(&w), *other = world_session(&w);
    gemma_step *t = world_step(&w), *second = world_step(&w);
    gemma_sampler *sampler = world_sampler(&w, NULL);
    assert_int_equal(gemma_session_feed(s, ids, FED, NULL), GEMMA_OK);

    gemma_row row = { .size = sizeof row, .token = 384 };
    expect_step(t, gemma_step_submit(t, NULL), GEMMA_E_ARG, "no rows");
    expect_step(t, gemma_step_wait(t, 0), GEMMA_E_STATE, "not submitted");
    expect_step(t, gemma_step_add(t, s, &row, NULL), GEMMA_E_TOKEN, "384");
    row.token = ids[0];
    row.want = 1024;
    expect_step(t, gemma_step_add(t, s, &row, NULL), GEMMA_E_ARG, "1024");
    row.want = GEMMA_WANT_SCORE;
    row.target = -5;
    expect_step(t, gemma_step_add(t, s, &row, NULL), GEMMA_E_TOKEN, "-5");
    row = (gemma_row){ .size = 2 };
    expect_step(t, gemma_step_add(t, s, &row, NULL), GEMMA_E_ARG, "gemma_row");
    row = (gemma_row){ .size = sizeof row, .token = ids[0], .want = GEMMA_WANT_LOGITS };
    assert_int_equal(gemma_step_add(t, s, &row, NULL), GEMMA_OK);
    expect_step(t, gemma_step_add(t, s, &row, NULL), GEMMA_E_SMALL, "logit_rows");
    row.want = 0;
    for (uint32_t i = 1; i < 16; i++) assert_int_equal(gemma_step_add(t, s, &row, NULL), GEMMA_OK);
    expect_step(t, gemma_step_add(t, s, &row, NULL), GEMMA_E_SMALL, "ubatch");
    expect_step(second, gemma_step_add(second, s, &row, NULL), GEMMA_E_STATE, "another step");
    assert_int_equal(gemma_step_logits(t, 0, row_values, w.n_vocab), GEMMA_E_ARG); /* not yet */
    assert_int_equal(gemma_sampler_draw(sampler, t, 0, &id, &value), GEMMA_E_STATE);
    expect_session(s, gemma_session_feed(s, ids, 1, NULL), GEMMA_E_STATE, "step");
    expect_session(s, gemma_session_rewind(s, FED), GEMMA_E_STATE, "step");
    assert_unchanged(s, ids);
    assert_int_equal(gemma_step_clear(t), GEMMA_OK);

    for (uint32_t i = FED; i < CTX - 4; i++) assert_int_equal(gemma_session_feed(s, &ids[i], 1, NULL), GEMMA_OK);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(gemma_step_add(t, s, &row, NULL), GEMMA_OK);
    expect_step(t, gemma_step_add(t, s, &row, NULL), GEMMA_E_FULL, "300");
    row.want = GEMMA_WANT_CANDIDATES;
    assert_int_equal(gemma_step_add(t, other, &row, NULL), GEMMA_OK); /* it goes on as if nothing had been */
    assert_int_equal(gemma_step_submit(t, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_wait(t, FOREVER), GEMMA_OK);
    expect_step(t, gemma_step_submit(t, NULL), GEMMA_E_STATE, "submitted");
    expect_step(t, gemma_step_add(t, other, &row, NULL), GEMMA_E_STATE, "clear");
    assert_int_equal(gemma_session_room(s), 0);
    assert_int_equal(gemma_session_position(other), 1);
    assert_int_equal(gemma_step_n_candidates(t, 3), 0);
    assert_int_equal(gemma_step_n_candidates(t, 4), 64);
    assert_int_equal(gemma_step_n_candidates(t, 5), 0);
    assert_int_equal(gemma_step_candidate(t, 4, 64, &id, &value), GEMMA_E_ARG);
    assert_int_equal(gemma_step_candidate(t, 4, 63, &id, &value), GEMMA_OK);
    assert_int_equal(gemma_step_score(t, 4, &value), GEMMA_E_ARG);
    assert_int_equal(gemma_step_logits(t, 4, row_values, w.n_vocab), GEMMA_E_ARG);
    assert_int_equal(gemma_step_hidden(t, 4, row_values, w.n_vocab), GEMMA_E_ARG);
    gemma_step_clear(t);
    row.want = GEMMA_WANT_LOGITS;
    assert_int_equal(gemma_step_add(t, other, &row, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_submit(t, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_wait(t, FOREVER), GEMMA_OK);
    assert_int_equal(gemma_step_logits(t, 0, row_values, w.n_vocab - 1), GEMMA_E_SMALL);
    gemma_step_destroy(t);
    gemma_step_destroy(second);
    gemma_sampler_destroy(sampler);
    gemma_session_destroy(other);
    gemma_session_destroy(s);
    world_close(&w);
}

/* ---- text, samplers, generations ---- */

static void text(void **state)
{
    world w;
    int32_t ids[64], bad = 5000;
    size_t n = 99;
    char buffer[64];
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, NULL);
    const char *broken = "ab\xff\xfe", *good = "the word";
    assert_int_equal(gemma_tokenize(w.tokenizer, broken, 4, GEMMA_TOKENIZE_STRICT, ids, 64, &n), GEMMA_E_UTF8);
    assert_int_equal(gemma_tokenize(w.tokenizer, broken, 4, 0, ids, 64, &n), GEMMA_OK);
    assert_int_equal(n, 4); /* byte tokens */
    assert_int_equal(gemma_tokenize(w.tokenizer, good, 8, 0, NULL, 0, &n), GEMMA_E_SMALL);
    size_t there = n;
    assert_int_equal(gemma_tokenize(w.tokenizer, good, 8, 0, ids, there - 1, &n), GEMMA_E_SMALL);
    assert_int_equal(n, there);
    assert_int_equal(gemma_tokenize(w.tokenizer, good, 8, 0, ids, there, &n), GEMMA_OK);
    assert_int_equal(gemma_tokenize(w.tokenizer, good, 8, 0x8000, ids, 64, &n), GEMMA_E_ARG);
    assert_int_equal(
        gemma_tokenize(w.tokenizer, good, 8, GEMMA_TOKENIZE_SPECIAL | GEMMA_TOKENIZE_UNTRUSTED, ids, 64, &n),
        GEMMA_E_ARG);
    assert_int_equal(gemma_tokenize(w.tokenizer, "", 0, 0, ids, 64, &n), GEMMA_OK);
    assert_int_equal(n, 0);
    assert_int_equal(gemma_detokenize(w.tokenizer, &bad, 1, 0, buffer, 64, &n), GEMMA_E_TOKEN);
    assert_int_equal(gemma_detokenize(w.tokenizer, ids, there, 0, buffer, 3, &n), GEMMA_E_SMALL);
    assert_int_equal(n, 8);
    assert_int_equal(gemma_token_is_end(w.tokenizer, -7), 0);
    assert_int_equal(gemma_token_is_end(w.tokenizer, 5000), 0);
    assert_int_equal(gemma_file_metadata(w.file, "no.such.key", buffer, 64), GEMMA_E_ARG);
    assert_int_equal(gemma_file_metadata(w.file, "general.name", buffer, 3), 4);
    assert_string_equal(buffer, "ti");
    world_close(&w);
}

static void samplers(void **state)
{
    static const struct {
        gemma_sampler_options o;
        const char *part;
    } bad[] = { { { .temperature = -1 }, "temperature" },
                { { .min_p = 1.5f }, "min_p" },
                { { .top_p = -0.5f }, "top_p" },
                { { .repetition = -1 }, "repetition" },
                { { .penalty_last = 1000000 }, "penalty_last" } };
    world w;
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, NULL);
    for (size_t i = 0; i < COUNT(bad); i++) {
        gemma_sampler_options o = bad[i].o;
        gemma_sampler *s = (gemma_sampler *)(uintptr_t)1;
        o.size = sizeof o;
        expect(gemma_sampler_create(w.runtime, &o, &s, &w.error), GEMMA_E_ARG, w.error.message, bad[i].part);
        assert_null(s);
    }
    gemma_sampler *s = world_sampler(&w, NULL);
    assert_int_equal(gemma_sampler_bias(s, -1, 1), GEMMA_E_ARG);
    for (int32_t id = 0; id < 1024; id++) assert_int_equal(gemma_sampler_bias(s, id, 1), GEMMA_OK);
    assert_int_equal(gemma_sampler_bias(s, 1024, 1), GEMMA_E_SMALL);
    gemma_sampler_destroy(s);
    world_close(&w);
}

static void generations(void **state)
{
    world w;
    gemma_plan_options o = { .size = sizeof o, .ctx = CTX };
    int32_t ids[CTX + 1], bad = 384;
    char message[512], stop[300];
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, &o);
    world_ids(ids, COUNT(ids), 1);
    gemma_session *s = world_session(&w);
    gemma_sampler *sampler = world_sampler(&w, NULL);
    gemma_generation *g = (gemma_generation *)(uintptr_t)1;
    gemma_error *e = &w.error;
    expect(gemma_generation_create(s, sampler, w.tokenizer, ids, 0, NULL, &g, e), GEMMA_E_ARG, e->message, "empty");
    assert_null(g);
    expect(gemma_generation_create(s, sampler, NULL, &bad, 1, NULL, &g, e), GEMMA_E_TOKEN, e->message, "384");
    expect(gemma_generation_create(s, sampler, NULL, ids, CTX + 1, NULL, &g, e), GEMMA_E_FULL, e->message, "301");
    gemma_generation_options go = { .size = sizeof go, .flags = 0x100 };
    expect(gemma_generation_create(s, sampler, NULL, ids, 1, &go, &g, e), GEMMA_E_ARG, e->message, "flags");
    assert_int_equal(gemma_session_position(s), 0);

    go.flags = GEMMA_GENERATION_NO_END;
    assert_ok(gemma_generation_create(s, sampler, NULL, ids, 3, &go, &g, e), e->message);
    assert_int_equal(gemma_generation_stop_at(g, "x", 1), GEMMA_E_ARG); /* no text without a tokenizer */
    gemma_generation_destroy(g);
    assert_ok(gemma_generation_create(s, sampler, w.tokenizer, ids, 3, &go, &g, e), e->message);
    memset(stop, 'x', sizeof stop);
    assert_int_equal(gemma_generation_stop_at(g, stop, 0), GEMMA_E_ARG);
    assert_int_equal(gemma_generation_stop_at(g, stop, 257), GEMMA_E_ARG);
    assert_true(gemma_generation_message(g, message, sizeof message) > 0);
    for (int i = 0; i < 16; i++) assert_int_equal(gemma_generation_stop_at(g, stop, 256), GEMMA_OK);
    assert_int_equal(gemma_generation_stop_at(g, stop, 256), GEMMA_E_SMALL);
    gemma_piece piece = { .size = sizeof piece };
    for (uint32_t n = 3; n < CTX; n++) {
        assert_int_equal(gemma_generation_next(g, &piece), GEMMA_OK);
        assert_int_equal(piece.stop, GEMMA_STOP_NONE);
        assert_int_equal(gemma_session_position(s), n);
    }
    assert_int_equal(gemma_generation_next(g, &piece), GEMMA_OK);
    assert_int_equal(piece.stop, GEMMA_STOP_FULL);
    assert_true(piece.id >= 0);
    assert_int_equal(gemma_session_room(s), 0);
    assert_int_equal(gemma_generation_next(g, &piece), GEMMA_E_STATE);
    gemma_generation_message(g, message, sizeof message);
    assert_non_null(strstr(message, "stopped"));
    gemma_generation_destroy(g);
    gemma_sampler_destroy(sampler);
    gemma_session_destroy(s);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),        cmocka_unit_test(devices), cmocka_unit_test(sizes),
        cmocka_unit_test(plan_options), cmocka_unit_test(feeding), cmocka_unit_test(plans_that_do_not_fit),
        cmocka_unit_test(stepping),     cmocka_unit_test(text),    cmocka_unit_test(samplers),
        cmocka_unit_test(generations),
    };
    return cmocka_run_group_tests_name("bad_input", tests, NULL, NULL);
}
