/* Generations over the dummy device, whose next id follows from the last one: a vocabulary is made for each test in
 * which the ids of that chain have the texts that the test wants to come out. */
#include "engine_fixture.h"
#include "session/internal.h"

#include <math.h>

enum { LAST = 5 /* the last id of most prompts */, CHAIN_MAX = 64 };
#define SPACE "\xe2\x96\x81"

/* ---- the vocabulary ---- */

typedef struct vocab {
    const char *texts[FIX_VOCAB];
    int32_t types[FIX_VOCAB];
    float scores[FIX_VOCAB];
    char bytes[256][8], fillers[FIX_VOCAB][8];
    int32_t ids[CHAIN_MAX]; /* the chain behind LAST */
} vocab;

static bool vocab_token(void *user, uint32_t i, const char **text, size_t *n_bytes)
{
    const vocab *v = user;
    *text = v->texts[i];
    *n_bytes = strlen(*text);
    return true;
}

static void put(vocab *v, uint32_t id, const char *text)
{
    v->texts[id] = text;
    bool byte = strncmp(text, "<0x", 3) == 0, control = text[0] == '<' && strlen(text) > 1;
    v->types[id] = byte ? GM_TOKEN_BYTE : control ? GM_TOKEN_CONTROL : GM_TOKEN_NORMAL;
}

static void put_elsewhere(vocab *v, const char *text)
{
    uint32_t id = 0;
    for (uint32_t i = 0; i < FIX_VOCAB; i++) {
        if (v->texts[i] && strcmp(v->texts[i], text) == 0) return;
    }
    while (v->texts[id] || id == LAST) id++;
    put(v, id, text);
}

static int32_t find(const vocab *v, const char *text)
{
    for (int32_t i = 0; i < FIX_VOCAB; i++) {
        if (strcmp(v->texts[i], text) == 0) return i;
    }
    return -1;
}

/* "<eos>" and "<0x41>" are what they look like; texts end with NULL. */
static gm_tokenizer *make_tokenizer(fixture *f, vocab *v, const char *const *texts)
{
    memset(v, 0, sizeof *v);
    int32_t id = LAST;
    for (uint32_t i = 0; i < CHAIN_MAX; i++) v->ids[i] = id = gm_dummy_best(id, FIX_VOCAB);
    for (uint32_t i = 0; texts[i]; i++) put(v, (uint32_t)v->ids[i], texts[i]);
    put_elsewhere(v, "<eos>"), put_elsewhere(v, "<bos>"), put_elsewhere(v, "<unk>"), put_elsewhere(v, "<pad>");
    for (uint32_t i = 0; i < 256; i++) {
        char *name = v->bytes[i];
        memcpy(name, "<0x", 3);
        name[3] = "0123456789ABCDEF"[i >> 4];
        name[4] = "0123456789ABCDEF"[i & 15];
        name[5] = '>';
        put_elsewhere(v, name);
    }
    for (uint32_t i = 0; i < FIX_VOCAB; i++) {
        if (v->texts[i]) continue;
        gm_text_format(v->fillers[i], sizeof v->fillers[i], "w%u.", i);
        put(v, i, v->fillers[i]);
    }
    gm_vocab_input in = { .n_tokens = FIX_VOCAB, .user = v, .token = vocab_token, .scores = v->scores };
    in.types = v->types;
    in.eos = find(v, "<eos>"), in.bos = find(v, "<bos>"), in.unknown = find(v, "<unk>"), in.padding = find(v, "<pad>");
    gm_tokenizer *t;
    gemma_error error;
    gm_error_init(&error);
    if (gm_tokenizer_create(&f->mem, &in, &t, &error)) fail_msg("%s", error.message);
    return t;
}

/* ---- one generation and all it stands on ---- */

typedef struct scene {
    fixture f;
    vocab v;
    gm_tokenizer *tokenizer;
    gm_sampler *sampler;
    gm_session *session;
    gm_generation *g;
    char text[1024]; /* all pieces */
    size_t n_text;
    uint32_t n_pieces, stop;
    int32_t ids[CHAIN_MAX]; /* drawn */
    uint32_t n_ids;
} scene;

static const int32_t prompt[] = { 9, 8, 7, LAST };

static void scene_create(scene *c, uint32_t ctx, const char *const *texts, gemma_sampler_options sampling)
{
    memset(c, 0, sizeof *c);
    fixture_create(&c->f, ctx, 2);
    if (texts) c->tokenizer = make_tokenizer(&c->f, &c->v, texts);
    sampling.size = sizeof sampling;
    assert_int_equal(gm_sampler_create(&c->f.mem, &sampling, &c->sampler, NULL), GEMMA_OK);
    c->session = fixture_session(&c->f);
}

static void scene_generation(scene *c, gemma_generation_options options)
{
    options.size = sizeof options;
    gemma_error error;
    gm_error_init(&error);
    if (gm_generation_create(c->session, c->sampler, c->tokenizer, prompt, 4, &options, &c->g, &error))
        fail_msg("%s", error.message);
}

static void scene_destroy(scene *c)
{
    gm_generation_destroy(c->g);
    gm_session_destroy(c->session);
    gm_sampler_destroy(c->sampler);
    gm_tokenizer_destroy(c->tokenizer);
    fixture_destroy(&c->f);
}

/* One piece more; returns next's code. */
static int next(scene *c, gemma_piece *piece)
{
    *piece = (gemma_piece){ .size = sizeof *piece };
    uint64_t allocations = fault_allocations();
    int rc = gm_generation_next(c->g, piece);
    assert_int_equal(fault_allocations(), allocations);
    assert_int_equal(gm_utf8_check(piece->text, piece->n_bytes), piece->n_bytes);
    memcpy(c->text + c->n_text, piece->text, piece->n_bytes);
    c->n_text += piece->n_bytes;
    c->text[c->n_text] = 0;
    c->n_pieces++;
    c->stop = piece->stop;
    if (piece->id >= 0) c->ids[c->n_ids++] = piece->id;
    return rc;
}

static void run(scene *c)
{
    gemma_piece piece;
    while (!c->stop) assert_int_equal(next(c, &piece), GEMMA_OK);
    assert_int_equal(gm_generation_next(c->g, &piece), GEMMA_E_STATE);
    for (uint32_t i = 0; c->tokenizer && i < c->n_ids; i++) assert_int_equal(c->ids[i], c->v.ids[i]);
}

static void generate(scene *c, uint32_t ctx, const char *const *texts, const char *const *stop_strings,
                     gemma_generation_options options)
{
    scene_create(c, ctx, texts, (gemma_sampler_options){ .seed = 1 });
    scene_generation(c, options);
    for (uint32_t i = 0; stop_strings && stop_strings[i]; i++)
        assert_int_equal(gm_generation_stop_at(c->g, stop_strings[i], strlen(stop_strings[i])), GEMMA_OK);
    run(c);
}

static const gemma_generation_options defaults;

/* ---- why it stops ---- */

static void test_end(void **state)
{
    (void)state;
    scene c;
    generate(&c, 512, (const char *[]){ SPACE "Hello", ",", SPACE "w", "orld", "<eos>", NULL }, NULL, defaults);
    assert_string_equal(c.text, " Hello, world");
    assert_int_equal(c.stop, GEMMA_STOP_END);
    assert_int_equal(c.n_ids, 5);
    assert_int_equal(c.ids[4], find(&c.v, "<eos>"));
    /* the prompt and every drawn id but the last */
    int32_t ids[16];
    assert_int_equal(gm_session_ids(c.session, 0, ids, 16), 8);
    assert_memory_equal(ids, prompt, sizeof prompt);
    assert_memory_equal(ids + 4, c.ids, 4 * sizeof *ids);
    scene_destroy(&c);
}

static void test_no_end(void **state)
{
    (void)state;
    scene c;
    static const char *const texts[] = { "a", "<eos>", "b", "<pad>", "c", NULL };
    gemma_generation_options o = { .max_tokens = 5, .flags = GEMMA_GENERATION_NO_END };
    generate(&c, 512, texts, NULL, o);
    assert_string_equal(c.text, "abc");
    assert_int_equal(c.stop, GEMMA_STOP_LENGTH);
    scene_destroy(&c);
    o.flags |= GEMMA_DETOKENIZE_SPECIAL;
    generate(&c, 512, texts, NULL, o);
    assert_string_equal(c.text, "a<eos>b<pad>c");
    scene_destroy(&c);
}

static void test_length(void **state)
{
    (void)state;
    scene c;
    generate(&c, 512, (const char *[]){ "a", "b", "c", "<eos>", NULL }, NULL,
             (gemma_generation_options){ .max_tokens = 2 });
    assert_string_equal(c.text, "ab");
    assert_int_equal(c.stop, GEMMA_STOP_LENGTH);
    assert_int_equal(gm_session_position(c.session), 5);
    scene_destroy(&c);
    generate(&c, 512, (const char *[]){ "a", "<eos>", NULL }, NULL, (gemma_generation_options){ .max_tokens = 2 });
    assert_int_equal(c.stop, GEMMA_STOP_END); /* the better reason */
    scene_destroy(&c);
}

static void test_full(void **state)
{
    (void)state;
    scene c;
    generate(&c, 6, (const char *[]){ "a", "b", "c", "d", NULL }, NULL, defaults);
    assert_string_equal(c.text, "abc"); /* c is drawn from the last row there is room for */
    assert_int_equal(c.stop, GEMMA_STOP_FULL);
    assert_int_equal(gm_session_room(c.session), 0);
    scene_destroy(&c);

    /* someone else fills the session between two calls */
    scene_create(&c, 8, (const char *[]){ "a", "b", NULL }, (gemma_sampler_options){ 0 });
    scene_generation(&c, defaults);
    gemma_piece piece;
    assert_int_equal(next(&c, &piece), GEMMA_OK);
    assert_int_equal(gm_session_feed(c.session, prompt, 4, NULL), GEMMA_OK);
    assert_int_equal(next(&c, &piece), GEMMA_OK);
    assert_int_equal(piece.stop, GEMMA_STOP_FULL);
    assert_int_equal(piece.id, -1);
    scene_destroy(&c);
}

static void test_stop_strings(void **state)
{
    (void)state;
    scene c;
    static const char *const texts[] = { "ab", "cS", "TO", "Pxyz", "<eos>", NULL };
    static const char *const stop[] = { "nothing", "STOP", NULL };
    generate(&c, 512, texts, stop, defaults);
    assert_string_equal(c.text, "abc");
    assert_int_equal(c.stop, GEMMA_STOP_STRING);
    assert_int_equal(c.n_ids, 4);
    scene_destroy(&c);

    /* what might have become one, and did not */
    generate(&c, 512, (const char *[]){ "S", "T", "O", "STO", "<eos>", NULL }, stop, defaults);
    assert_string_equal(c.text, "STOSTO");
    assert_int_equal(c.stop, GEMMA_STOP_END);
    scene_destroy(&c);

    /* overlapping beginnings: "aab" in "aaab" */
    generate(&c, 512, (const char *[]){ "a", "aa", "b", NULL }, (const char *[]){ "aab", NULL }, defaults);
    assert_string_equal(c.text, "a");
    assert_int_equal(c.stop, GEMMA_STOP_STRING);
    scene_destroy(&c);

    /* a stop string beats the length */
    generate(&c, 512, (const char *[]){ "x", "y", NULL }, (const char *[]){ "xy", NULL },
             (gemma_generation_options){ .max_tokens = 2 });
    assert_string_equal(c.text, "");
    assert_int_equal(c.stop, GEMMA_STOP_STRING);
    scene_destroy(&c);
}

static void test_held_back(void **state)
{
    (void)state;
    scene c;
    scene_create(&c, 512, (const char *[]){ "xEN", "D", "y", "<eos>", NULL }, (gemma_sampler_options){ 0 });
    scene_generation(&c, defaults);
    assert_int_equal(gm_generation_stop_at(c.g, "ENDE", 4), GEMMA_OK);
    gemma_piece piece;
    static const char *const pieces[] = { "x", "", "ENDy" };
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(next(&c, &piece), GEMMA_OK);
        assert_int_equal(piece.n_bytes, strlen(pieces[i]));
        assert_memory_equal(piece.text, pieces[i], piece.n_bytes);
        assert_int_equal(piece.id, c.v.ids[i]);
    }
    scene_destroy(&c);
}

static void test_utf8(void **state)
{
    (void)state;
    scene c;
    /* a character in three byte tokens; the stop string begins with one that is cut between pieces */
    static const char *const texts[] = { "a", "<0xE6>", "<0x97>", "<0xA5>", "<0xE6>", "<0x9C>", "<0xAC>", "!", NULL };
    generate(&c, 512, texts, (const char *[]){ "\xe6\x9c\xac!", NULL }, defaults);
    assert_string_equal(c.text, "a\xe6\x97\xa5");
    assert_int_equal(c.stop, GEMMA_STOP_STRING);
    assert_int_equal(c.n_ids, 8);
    scene_destroy(&c);
    /* the end comes inside a character */
    generate(&c, 512, (const char *[]){ "a", "<0xE6>", "<0x97>", "<eos>", NULL }, NULL, defaults);
    assert_string_equal(c.text, "a\xef\xbf\xbd");
    assert_int_equal(c.stop, GEMMA_STOP_END);
    scene_destroy(&c);
    /* bytes that are none */
    generate(&c, 512, (const char *[]){ "<0xFF>", "<0xE6>", "b", "<eos>", NULL }, NULL, defaults);
    assert_string_equal(c.text, "\xef\xbf\xbd\xef\xbf\xbd"
                                "b");
    scene_destroy(&c);
}

static void test_cancelled(void **state)
{
    (void)state;
    static const char *const texts[] = { "a", "E", "N", "x", NULL };
    for (uint32_t after = 0; after < 4; after++) {
        scene c;
        gemma_cancel cancel;
        cancel_init(&cancel);
        scene_create(&c, 512, texts, (gemma_sampler_options){ 0 });
        scene_generation(&c, (gemma_generation_options){ .cancel = &cancel });
        assert_int_equal(gm_generation_stop_at(c.g, "END", 3), GEMMA_OK);
        gemma_piece piece;
        for (uint32_t i = 0; i < after; i++) assert_int_equal(next(&c, &piece), GEMMA_OK);
        if (after % 2)
            atomic_store(&cancel.raised, 1);
        else
            gm_dummy_fail(c.f.dummy, GM_DUMMY_SUBMIT, 1, GEMMA_E_CANCELLED); /* while the device works */
        assert_int_equal(next(&c, &piece), GEMMA_OK);
        assert_int_equal(piece.stop, GEMMA_STOP_CANCELLED);
        assert_int_equal(piece.id, -1);
        assert_true(memcmp(c.text, "aENx", after) == 0); /* what was held back is given */
        assert_int_equal(c.n_text, after);
        assert_int_equal(gm_session_position(c.session), after ? 3 + after : 0);
        assert_int_equal(gm_generation_next(c.g, &piece), GEMMA_E_STATE);
        scene_destroy(&c);
    }
}

static void test_error(void **state)
{
    (void)state;
    scene c;
    scene_create(&c, 512, (const char *[]){ "a", "EN", "x", NULL }, (gemma_sampler_options){ 0 });
    scene_generation(&c, defaults);
    assert_int_equal(gm_generation_stop_at(c.g, "END", 3), GEMMA_OK);
    gemma_piece piece;
    assert_int_equal(next(&c, &piece), GEMMA_OK);
    assert_int_equal(next(&c, &piece), GEMMA_OK);
    gm_dummy_fail(c.f.dummy, GM_DUMMY_WAIT, 1, GEMMA_E_LOST);
    assert_int_equal(next(&c, &piece), GEMMA_E_LOST);
    assert_int_equal(piece.stop, GEMMA_STOP_ERROR);
    assert_string_equal(c.text, "aEN");
    assert_non_null(strstr(gm_generation_error(c.g)->message, "told to fail"));
    assert_int_equal(gm_session_position(c.session), 5);
    assert_int_equal(gm_generation_next(c.g, &piece), GEMMA_E_STATE);
    scene_destroy(&c);
}

/* ---- what is drawn ---- */

static double expected_log_sum(void)
{
    double sum = 0;
    for (uint32_t k = 0; k < FIX_VOCAB; k++) sum += exp(-0.25 * k);
    return 10 + log(sum);
}

static void test_ids_only(void **state)
{
    (void)state;
    scene c;
    generate(&c, 512, NULL, NULL, (gemma_generation_options){ .max_tokens = 40 });
    assert_int_equal(c.n_ids, 40);
    assert_int_equal(c.n_text, 0);
    int32_t id = LAST;
    for (uint32_t i = 0; i < 40; i++) assert_int_equal(c.ids[i], id = gm_dummy_best(id, FIX_VOCAB));
    assert_int_equal(gm_generation_stop_at(c.g, "x", 1), GEMMA_E_ARG); /* there is no text */
    scene_destroy(&c);
}

static void test_log_prob(void **state)
{
    (void)state;
    for (int row = 0; row < 2; row++) {
        scene c;
        scene_create(&c, 512, NULL, (gemma_sampler_options){ .frequency = row ? 0.001f : 0 });
        assert_true(gm_sampler_needs_row(c.sampler) == row);
        scene_generation(&c, defaults);
        gemma_piece piece;
        assert_int_equal(next(&c, &piece), GEMMA_OK);
        assert_int_equal(piece.id, gm_dummy_best(LAST, FIX_VOCAB));
        assert_true(fabs(piece.log_prob - (10 - expected_log_sum())) < 1e-5);
        scene_destroy(&c);
    }
}

/* gm_step_draw by hand, the log-sum taken from the row. */
static void test_step_draw(void **state)
{
    (void)state;
    scene c;
    scene_create(&c, 512, NULL, (gemma_sampler_options){ .seed = 3 });
    gm_step *t;
    assert_int_equal(gm_step_create(c.f.engine, &t, NULL), GEMMA_OK);
    gemma_row rows[] = { { .size = sizeof *rows, .token = 20, .want = GEMMA_WANT_LOGITS },
                         { .size = sizeof *rows, .token = 30, .want = GEMMA_WANT_CANDIDATES },
                         { .size = sizeof *rows, .token = 40 } };
    for (int i = 0; i < 3; i++) assert_int_equal(gm_step_add(t, c.session, &rows[i], NULL), GEMMA_OK);
    int32_t id;
    float log_prob;
    assert_int_equal(gm_step_draw(t, 1, c.sampler, &id, NULL), GEMMA_E_STATE); /* not yet */
    assert_int_equal(gm_step_submit(t, NULL), GEMMA_OK);
    assert_int_equal(gm_step_wait(t, FOREVER), GEMMA_OK);
    assert_int_equal(gm_step_draw(t, 1, c.sampler, &id, &log_prob), GEMMA_OK);
    assert_int_equal(id, gm_dummy_best(30, FIX_VOCAB));
    assert_int_equal(gm_step_draw(t, 0, c.sampler, &id, NULL), GEMMA_E_STATE); /* has no candidates */
    assert_int_equal(gm_step_draw(t, 2, c.sampler, &id, NULL), GEMMA_E_STATE);
    assert_int_equal(gm_step_draw(t, 3, c.sampler, &id, NULL), GEMMA_E_STATE);
    int32_t best = gm_dummy_best(20, FIX_VOCAB);
    assert_int_equal(gm_sampler_bias(c.sampler, best, -INFINITY), GEMMA_OK);
    assert_int_equal(gm_step_draw(t, 0, c.sampler, &id, &log_prob), GEMMA_OK);
    assert_int_equal(id, (best + 1) % FIX_VOCAB);
    assert_true(fabs(log_prob - (9.75 - expected_log_sum())) < 1e-5);
    assert_int_equal(gm_step_draw(t, 1, c.sampler, &id, NULL), GEMMA_E_STATE); /* has no row */
    gm_step_destroy(t);
    scene_destroy(&c);
}

/* Penalties count the ids of the prompt. */
static void test_prompt_is_accepted(void **state)
{
    (void)state;
    scene c;
    scene_create(&c, 512, NULL, (gemma_sampler_options){ .presence = 100 });
    int32_t best = gm_dummy_best(LAST, FIX_VOCAB), ids[] = { best, LAST };
    assert_int_equal(gm_generation_create(c.session, c.sampler, NULL, ids, 2, NULL, &c.g, NULL), GEMMA_OK);
    gemma_piece piece;
    assert_int_equal(next(&c, &piece), GEMMA_OK);
    assert_int_equal(piece.id, (best + 1) % FIX_VOCAB);
    scene_destroy(&c);
}

static void test_long_prompt(void **state)
{
    (void)state;
    scene c;
    scene_create(&c, 512, NULL, (gemma_sampler_options){ 0 });
    const int32_t *ids = some_ids(1, 70);
    assert_int_equal(gm_generation_create(c.session, c.sampler, NULL, ids, 70, NULL, &c.g, NULL), GEMMA_OK);
    gemma_piece piece;
    assert_int_equal(next(&c, &piece), GEMMA_OK);
    assert_int_equal(piece.id, gm_dummy_best(ids[69], FIX_VOCAB));
    uint32_t n_wanted[3] = { 0, 0, 1 }, n = 0;
    for (uint32_t i = 0; i < gm_dummy_n_entries(c.f.dummy); i++) {
        const gm_dummy_entry *e = gm_dummy_entry_at(c.f.dummy, i);
        if (e->call == GM_DUMMY_SUBMIT) assert_int_equal(e->n_wanted, n_wanted[n++]);
    }
    assert_int_equal(n, 3);
    scene_destroy(&c);
}

static void test_sampler_changed(void **state)
{
    (void)state;
    scene c;
    scene_create(&c, 512, NULL, (gemma_sampler_options){ 0 });
    scene_generation(&c, defaults);
    assert_int_equal(gm_sampler_bias(c.sampler, 3, 1.0f), GEMMA_OK);
    gemma_piece piece;
    assert_int_equal(next(&c, &piece), GEMMA_E_STATE);
    assert_int_equal(piece.stop, GEMMA_STOP_ERROR);
    assert_non_null(strstr(gm_generation_error(c.g)->message, "create the generation after"));
    assert_int_equal(gm_session_position(c.session), 0);
    scene_destroy(&c);
}

/* ---- refusals, memory ---- */

static void test_refused(void **state)
{
    (void)state;
    scene c;
    scene_create(&c, 10, (const char *[]){ "a", NULL }, (gemma_sampler_options){ 0 });
    gemma_error error;
    gm_error_init(&error);
    int32_t ids[11] = { 1, FIX_VOCAB };
    gemma_generation_options o = { .size = sizeof o, .flags = 1u << 20 };
    assert_int_equal(gm_generation_create(c.session, c.sampler, NULL, ids, 0, NULL, &c.g, &error), GEMMA_E_ARG);
    assert_int_equal(gm_generation_create(c.session, c.sampler, NULL, ids, 1, &o, &c.g, &error), GEMMA_E_ARG);
    assert_int_equal(gm_generation_create(c.session, c.sampler, NULL, ids, 2, NULL, &c.g, &error), GEMMA_E_TOKEN);
    assert_non_null(strstr(error.message, "prompt id 383 at 1"));
    ids[1] = 1;
    assert_int_equal(gm_generation_create(c.session, c.sampler, NULL, ids, 11, NULL, &c.g, &error), GEMMA_E_FULL);
    assert_non_null(strstr(error.message, "11 tokens, but the session has 10 of 10"));
    assert_null(c.g);
    scene_generation(&c, defaults);
    char text[257];
    memset(text, 'x', sizeof text);
    assert_int_equal(gm_generation_stop_at(c.g, text, 0), GEMMA_E_ARG);
    assert_int_equal(gm_generation_stop_at(c.g, text, 257), GEMMA_E_ARG);
    assert_int_equal(gm_generation_stop_at(c.g, "a\xe6\x97", 3), GEMMA_E_UTF8);
    for (uint32_t i = 0; i < STOPS_MAX; i++) assert_int_equal(gm_generation_stop_at(c.g, text, 256 - i), GEMMA_OK);
    assert_int_equal(gm_generation_stop_at(c.g, text, 1), GEMMA_E_SMALL);
    scene_destroy(&c);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    scene c;
    scene_create(&c, 512, (const char *[]){ "a", NULL }, (gemma_sampler_options){ .presence = 1 });
    int rc = GEMMA_E_NOMEM;
    uint64_t nth = 0, live = fault_live_blocks();
    while (rc == GEMMA_E_NOMEM) {
        gemma_error error;
        gm_error_init(&error);
        fault_fail_nth(++nth);
        rc = gm_generation_create(c.session, c.sampler, c.tokenizer, prompt, 4, NULL, &c.g, &error);
        assert_int_equal(error.code, rc);
        assert_true((rc == GEMMA_OK) == (c.g != NULL));
        if (rc) assert_true(fault_live_blocks() <= live + 1); /* the sampler keeps what it reserved */
    }
    fault_fail_nth(0);
    assert_int_equal(rc, GEMMA_OK);
    assert_true(nth > 4);
    run(&c);
    scene_destroy(&c);
}

/* ---- stop strings alone ---- */

static size_t found_at(const stops *s, const char *text) { return gm_stops_find(s, text, strlen(text)); }

static void test_stops(void **state)
{
    (void)state;
    static stops s;
    memset(&s, 0, sizeof s);
    assert_int_equal(found_at(&s, "abc"), 3);
    assert_int_equal(gm_stops_held(&s, "abc", 3), 0);
    static const char *const texts[] = { "bcdef", "cd", "xcd", "\xc3\xa9!" };
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(gm_stops_add(&s, texts[i], strlen(texts[i]), NULL), GEMMA_OK);
    assert_int_equal(found_at(&s, "abcdef"), 2); /* the first to be complete, whatever the pieces */
    assert_int_equal(found_at(&s, "axcd"), 1);   /* of two that end there, the longer */
    assert_int_equal(found_at(&s, "cd"), 0);
    assert_int_equal(found_at(&s, "bcde"), 1);
    assert_int_equal(found_at(&s, "c d"), 3);
    assert_int_equal(gm_stops_held(&s, "abc", 3), 2);
    assert_int_equal(gm_stops_held(&s, "abx", 3), 1);
    assert_int_equal(gm_stops_held(&s, "ab ", 3), 0);
    assert_int_equal(gm_stops_held(&s, "a\xc3\xa9", 3), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_no_end),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_held_back),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_ids_only),
        cmocka_unit_test(test_log_prob),
        cmocka_unit_test(test_step_draw),
        cmocka_unit_test(test_prompt_is_accepted),
        cmocka_unit_test(test_long_prompt),
        cmocka_unit_test(test_sampler_changed),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
