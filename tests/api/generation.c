/* The loop: why it stops, what text it gives, seeds, log-probabilities; and what progress callbacks see. */
#include "api/world.h"

#include <math.h>

enum { TEXT_BYTES = 4096, IDS = 512 };

typedef struct story {
    char text[TEXT_BYTES];
    size_t n_bytes;
    int32_t ids[IDS];
    float log_probs[IDS];
    uint32_t n_ids, stop;
    int rc;
} story;

typedef struct ask {
    gemma_sampler_options sampler;
    gemma_generation_options options;
    const char *stops[2];
    int32_t always; /* an id with a bias that wins; 0: none */
} ask;

static bool is_utf8(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint8_t c = (uint8_t)text[i];
        size_t length = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        if ((c >= 0x80 && c < 0xc2) || i + length > n) return false;
        if (c == 0xed && (uint8_t)text[i + 1] >= 0xa0) return false; /* half of a UTF-16 pair */
        for (size_t k = 1; k < length; k++)
            if (((uint8_t)text[i + k] & 0xc0) != 0x80) return false;
        i += length;
    }
    return true;
}

static void tell(world *w, gemma_session *s, const int32_t *prompt, size_t n, const ask *a, story *out)
{
    gemma_sampler_options so = a->sampler;
    gemma_generation_options go = a->options;
    gemma_generation *g;
    *out = (story){ 0 };
    so.size = sizeof so;
    go.size = sizeof go;
    gemma_sampler *sampler = world_sampler(w, &so);
    if (a->always) assert_int_equal(gemma_sampler_bias(sampler, a->always, 1000), GEMMA_OK);
    assert_ok(gemma_generation_create(s, sampler, w->tokenizer, prompt, n, &go, &g, &w->error), w->error.message);
    for (int i = 0; i < 2 && a->stops[i]; i++)
        assert_int_equal(gemma_generation_stop_at(g, a->stops[i], strlen(a->stops[i])), GEMMA_OK);
    while (!out->stop) {
        gemma_piece piece = { .size = sizeof piece };
        out->rc = gemma_generation_next(g, &piece);
        assert_true(is_utf8(piece.text, piece.n_bytes));
        memcpy(out->text + out->n_bytes, piece.text, piece.n_bytes);
        out->n_bytes += piece.n_bytes;
        out->stop = piece.stop;
        if (piece.id < 0) break;
        out->log_probs[out->n_ids] = piece.log_prob;
        out->ids[out->n_ids++] = piece.id;
    }
    gemma_piece piece = { .size = sizeof piece };
    assert_int_equal(gemma_generation_next(g, &piece), GEMMA_E_STATE);
    gemma_generation_destroy(g);
    gemma_sampler_destroy(sampler);
}

static const ask greedy_30 = { .options = { .max_tokens = 30, .flags = GEMMA_GENERATION_NO_END } };
static const ask drawn_200 = { .sampler = { .temperature = 1.5f, .top_k = 60, .seed = 42 },
                               .options = { .max_tokens = 200, .flags = GEMMA_GENERATION_NO_END } };
static const ask row_200 = { .sampler = { .temperature = 2, .seed = 7 },
                             .options = { .max_tokens = 200, .flags = GEMMA_GENERATION_NO_END } };

static void prompt_of(int32_t prompt[12])
{
    prompt[0] = TINY_BOS;
    world_ids(prompt + 1, 11, 21);
}

/* ---- why it stops ---- */

static void stops(void **state)
{
    world w;
    int32_t prompt[12];
    story x;
    (void)state;
    world_init_family(&w, 3);
    gemma_plan_options o = { .size = sizeof o, .ctx = 64 };
    world_open(&w, &o);
    prompt_of(prompt);
    gemma_session *s = world_session(&w);

    tell(&w, s, prompt, 12, &greedy_30, &x);
    assert_int_equal(x.stop, GEMMA_STOP_LENGTH);
    assert_int_equal(x.n_ids, 30);
    assert_int_equal(gemma_session_position(s), 12 + 29); /* all but the last one drawn */

    gemma_session_rewind(s, 0);
    ask a = { .options = { .flags = GEMMA_GENERATION_NO_END } };
    tell(&w, s, prompt, 12, &a, &x);
    assert_int_equal(x.stop, GEMMA_STOP_FULL);
    assert_int_equal(gemma_session_room(s), 0);
    assert_int_equal(x.n_ids, 64 - 12 + 1);

    gemma_session_rewind(s, 0);
    a = (ask){ .always = TINY_END_OF_TURN };
    tell(&w, s, prompt, 12, &a, &x);
    assert_int_equal(x.stop, GEMMA_STOP_END);
    assert_int_equal(x.n_ids, 1);
    assert_int_equal(x.ids[0], TINY_END_OF_TURN);
    assert_int_equal(x.n_bytes, 0);

    gemma_session_rewind(s, 0);
    a = (ask){ .always = TINY_EOS, .options = { .flags = GEMMA_GENERATION_NO_END, .max_tokens = 5 } };
    tell(&w, s, prompt, 12, &a, &x);
    assert_int_equal(x.stop, GEMMA_STOP_LENGTH);
    assert_int_equal(x.n_ids, 5);

    gemma_session_rewind(s, 0);
    a.options.flags |= GEMMA_DETOKENIZE_SPECIAL;
    tell(&w, s, prompt, 12, &a, &x);
    assert_int_equal(x.n_bytes, 25);
    assert_memory_equal(x.text, "<eos><eos>", 10);

    gemma_cancel *cancel;
    assert_int_equal(gemma_cancel_create(w.runtime, &cancel, NULL), GEMMA_OK);
    gemma_session_rewind(s, 0);
    a = greedy_30;
    a.options.cancel = cancel;
    gemma_cancel_raise(cancel);
    tell(&w, s, prompt, 12, &a, &x);
    assert_int_equal(x.stop, GEMMA_STOP_CANCELLED);
    assert_int_equal(x.rc, GEMMA_OK);
    assert_int_equal(x.n_ids, 0);
    assert_int_equal(gemma_session_position(s), 0);
    gemma_cancel_clear(cancel);
    tell(&w, s, prompt, 12, &a, &x);
    assert_int_equal(x.stop, GEMMA_STOP_LENGTH);
    gemma_cancel_destroy(cancel);
    gemma_session_destroy(s);
    world_close(&w);
}

/* A stop string is cut out, wherever ids meet in it, and what only might have become one is given. */
static void stop_strings(void **state)
{
    world w;
    int32_t prompt[12];
    story whole, cut;
    (void)state;
    world_init_family(&w, 3);
    world_open(&w, NULL);
    prompt_of(prompt);
    gemma_session *s = world_session(&w);
    tell(&w, s, prompt, 12, &drawn_200, &whole);
    uint32_t n_tried = 0;
    for (size_t at = 5; at + 8 < whole.n_bytes; at += 17) {
        char text[8] = { 0 };
        size_t n = 4;
        while (n < 7 && !is_utf8(whole.text + at, n)) n++;
        memcpy(text, whole.text + at, n);
        if (!is_utf8(text, n) || strlen(text) != n) continue; /* not whole characters, or a NUL was drawn */
        ask a = drawn_200;
        a.stops[0] = "this does not come";
        a.stops[1] = text;
        gemma_session_rewind(s, 0);
        tell(&w, s, prompt, 12, &a, &cut);
        n_tried++;
        assert_int_equal(cut.stop, GEMMA_STOP_STRING);
        assert_true(cut.n_bytes <= at); /* it may have stood there before */
        assert_memory_equal(cut.text, whole.text, cut.n_bytes);
        assert_memory_equal(whole.text + cut.n_bytes, text, n);
    }
    assert_true(n_tried > 3);
    ask a = drawn_200;
    a.stops[0] = "this does not come";
    gemma_session_rewind(s, 0);
    tell(&w, s, prompt, 12, &a, &cut);
    assert_int_equal(cut.n_bytes, whole.n_bytes);
    assert_memory_equal(cut.text, whole.text, whole.n_bytes);
    gemma_session_destroy(s);
    world_close(&w);
}

/* ---- what it gives ---- */

/* Bytes that are no character become U+FFFD in a stream, and stay what they are in a batch. */
static size_t without_bad_bytes(const char *text, size_t n, char *out)
{
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        uint8_t c = (uint8_t)text[i];
        size_t length = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        if (i + length <= n && is_utf8(text + i, length)) {
            memcpy(out + m, text + i, length);
            m += length;
            i += length;
        } else {
            i++; /* dropped, as U+FFFD below */
        }
    }
    return m;
}

/* Leaves U+FFFD out; out may be text. */
static size_t without_replacements(const char *text, size_t n, char *out)
{
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        if (i + 3 <= n && memcmp(text + i, "\xef\xbf\xbd", 3) == 0)
            i += 3;
        else
            out[m++] = text[i++];
    }
    return m;
}

static void check_text(world *w, const ask *a)
{
    int32_t prompt[12];
    story x, again;
    static char batch[TEXT_BYTES], clean[TEXT_BYTES], streamed[TEXT_BYTES];
    size_t n;
    prompt_of(prompt);
    gemma_session *s = world_session(w);
    tell(w, s, prompt, 12, a, &x);
    assert_int_equal(x.stop, GEMMA_STOP_LENGTH);
    assert_int_equal(gemma_detokenize(w->tokenizer, x.ids, x.n_ids, 0, batch, sizeof batch, &n), GEMMA_OK);
    if (is_utf8(batch, n)) {
        assert_int_equal(n, x.n_bytes);
        assert_memory_equal(batch, x.text, n);
    } else {
        size_t n_clean = without_bad_bytes(batch, n, clean);
        n_clean = without_replacements(clean, n_clean, clean); /* the model can say one */
        size_t m = without_replacements(x.text, x.n_bytes, streamed);
        assert_int_equal(m, n_clean);
        assert_memory_equal(streamed, clean, m);
    }
    gemma_session_rewind(s, 0);
    tell(w, s, prompt, 12, a, &again);
    assert_int_equal(again.n_ids, x.n_ids);
    assert_memory_equal(again.ids, x.ids, x.n_ids * sizeof *x.ids);
    assert_memory_equal(again.log_probs, x.log_probs, x.n_ids * sizeof *x.log_probs);
    if (a->sampler.temperature > 0) {
        ask other = *a;
        other.sampler.seed++;
        gemma_session_rewind(s, 0);
        tell(w, s, prompt, 12, &other, &again);
        assert_memory_not_equal(again.ids, x.ids, x.n_ids * sizeof *x.ids);
    }
    gemma_session_destroy(s);
}

static void text_and_seeds(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        world w;
        world_init_family(&w, family);
        world_open(&w, NULL);
        check_text(&w, &greedy_30);
        check_text(&w, &drawn_200);
        check_text(&w, &row_200);
        world_close(&w);
    }
}

/* Each piece's log_prob is that of a step with SCORE over the same ids; greedy ids are its first candidates. */
static void check_scores(world *w, const ask *a)
{
    int32_t prompt[12], best;
    story x;
    prompt_of(prompt);
    gemma_session *s = world_session(w);
    gemma_step *t = world_step(w);
    tell(w, s, prompt, 12, a, &x);
    gemma_session_rewind(s, 0);
    if (gemma_session_feed(s, prompt, 11, NULL)) fail();
    for (uint32_t i = 0; i < x.n_ids; i++) {
        float logit, log_sum, first;
        gemma_row row = { .size = sizeof row,
                          .token = i ? x.ids[i - 1] : prompt[11],
                          .target = x.ids[i],
                          .want = GEMMA_WANT_SCORE | GEMMA_WANT_CANDIDATES };
        gemma_step_clear(t);
        assert_int_equal(gemma_step_add(t, s, &row, NULL), GEMMA_OK);
        assert_int_equal(gemma_step_submit(t, NULL), GEMMA_OK);
        assert_int_equal(gemma_step_wait(t, FOREVER), GEMMA_OK);
        assert_int_equal(gemma_step_score(t, 0, &logit), GEMMA_OK);
        assert_int_equal(gemma_step_log_sum(t, 0, &log_sum), GEMMA_OK);
        assert_int_equal(gemma_step_candidate(t, 0, 0, &best, &first), GEMMA_OK);
        assert_true(fabsf(logit - log_sum - x.log_probs[i]) < 1e-5f);
        assert_true(x.log_probs[i] <= 0 && logit <= first);
        if (a->sampler.temperature == 0) assert_int_equal(best, x.ids[i]);
    }
    gemma_step_destroy(t);
    gemma_session_destroy(s);
}

static void log_probs(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        world w;
        world_init_family(&w, family);
        world_open(&w, NULL);
        check_scores(&w, &greedy_30);
        check_scores(&w, &drawn_200);
        check_scores(&w, &row_200);
        world_close(&w);
    }
}

/* ---- progress ---- */

typedef struct progress {
    uint64_t done, total, n_calls, cancel_at; /* cancel_at: the call that cancels */
    bool wrong;
} progress;

static int follow(void *user, uint64_t done, uint64_t total)
{
    progress *p = user;
    p->wrong |= done < p->done || done > total || (p->n_calls && total != p->total);
    p->done = done;
    p->total = total;
    return ++p->n_calls == p->cancel_at;
}

static void check_progress(const progress *p, bool to_the_end)
{
    assert_true(p->n_calls > 0);
    assert_false(p->wrong);
    if (to_the_end) assert_int_equal(p->done, p->total);
}

static void progress_is_monotone(void **state)
{
    world w;
    int32_t ids[100];
    (void)state;
    world_init_family(&w, 4);
    world_open(&w, NULL);
    world_ids(ids, COUNT(ids), 1);
    const char *path = world_save(&w);

    progress open = { 0 }, load = { 0 }, feed = { 0 }, stop = { .cancel_at = 1 };
    gemma_file *file;
    gemma_model *model;
    gemma_file_options fo = { .size = sizeof fo, .progress = follow, .progress_user = &open };
    assert_ok(gemma_file_open(w.runtime, path, &fo, &file, &w.error), w.error.message);
    check_progress(&open, false);
    gemma_file_close(file);
    fo.progress_user = &stop;
    assert_int_equal(gemma_file_open(w.runtime, path, &fo, &file, &w.error), GEMMA_E_CANCELLED);
    assert_null(file);

    gemma_load_options lo = { .size = sizeof lo, .progress = follow, .progress_user = &load };
    assert_ok(gemma_model_load(w.plan, &lo, &model, &w.error), w.error.message);
    check_progress(&load, true);
    gemma_model_close(model);
    uint64_t live = fault_live_blocks();
    stop = (progress){ .cancel_at = 1 };
    lo.progress_user = &stop;
    assert_int_equal(gemma_model_load(w.plan, &lo, &model, &w.error), GEMMA_E_CANCELLED);
    assert_null(model);
    gemma_cancel *cancel;
    assert_int_equal(gemma_cancel_create(w.runtime, &cancel, NULL), GEMMA_OK);
    gemma_cancel_raise(cancel);
    lo = (gemma_load_options){ .size = sizeof lo, .cancel = cancel };
    assert_int_equal(gemma_model_load(w.plan, &lo, &model, &w.error), GEMMA_E_CANCELLED);
    gemma_cancel_destroy(cancel);
    assert_int_equal(fault_live_blocks(), live);

    gemma_session *s = world_session(&w);
    gemma_feed_options eo = { .size = sizeof eo, .piece = 30, .progress = follow, .progress_user = &feed };
    assert_int_equal(gemma_session_feed(s, ids, 100, &eo), GEMMA_OK);
    check_progress(&feed, true);
    assert_int_equal(feed.n_calls, 4);
    assert_int_equal(feed.total, 100);
    stop = (progress){ .cancel_at = 2 };
    eo.progress_user = &stop;
    gemma_session_rewind(s, 0);
    assert_int_equal(gemma_session_feed(s, ids, 100, &eo), GEMMA_E_CANCELLED);
    assert_int_equal(gemma_session_position(s), 60);
    gemma_session_destroy(s);
    world_forget_file(path);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops),     cmocka_unit_test(stop_strings),         cmocka_unit_test(text_and_seeds),
        cmocka_unit_test(log_probs), cmocka_unit_test(progress_is_monotone),
    };
    return cmocka_run_group_tests_name("generation", tests, NULL, NULL);
}
