/* Conversations with a trained miniature of Gemma 4 E2B (data/nano) through gemma.h alone: what it says, thinks and calls,
 * what every turn feeds, and that neither pages nor host memory grow. */
#include "api/world.h"

#include <stdbool.h>
#include <stdio.h>

enum { N_VOCAB = 1280, IDS_MAX = 2048, TEXT_MAX = 512, GEN_MAX = 64, N_CAPITALS = 4 };

static const struct {
    const char *country, *city;
} capitals[N_CAPITALS] = { { "Norway", "Oslo" }, { "France", "Paris" }, { "Italy", "Rome" }, { "Spain", "Madrid" } };

static void open_nano(world *w, const gemma_plan_options *options)
{
    FILE *f = fopen("data/nano/nano-gemma4-e2b.Q8_0.gguf", "rb");
    assert_non_null(f);
    *w = (world){ .n_threads = 1, .device = w->device, .n_vocab = N_VOCAB, .error = { .size = sizeof w->error } };
    fault_host_init(&w->host);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    w->n_bytes = (size_t)ftell(f);
    rewind(f);
    w->bytes = aligned_alloc(64, (w->n_bytes + 63) / 64 * 64);
    assert_non_null(w->bytes);
    assert_int_equal(fread(w->bytes, 1, w->n_bytes, f), w->n_bytes);
    fclose(f);
    world_open(w, options);
}

/* ---- a conversation ---- */

typedef struct talk {
    world w;
    uint32_t ctx, n_opening; /* ids every answer begins with */
    int32_t opening[4];
    gemma_session *session;
    gemma_sampler *sampler;
    gemma_chat *chat;
    gemma_parser *parser;
    /* of the last turn */
    int32_t ids[IDS_MAX + 4], gen[GEN_MAX + 4];
    uint32_t n_ids, n_gen, n_kept, marked, n_dropped;
    char answer[TEXT_MAX], thought[TEXT_MAX], call[TEXT_MAX], arguments[TEXT_MAX];
} talk;

/* A slack of one token: beyond the pages that happen to be held, only marks lead back over a thought. */
static void begin(talk *t, uint32_t ctx)
{
    gemma_plan_options o = { .size = sizeof o, .ctx = ctx, .ubatch = 128, .n_marks = 1, .n_sessions = 2, .slack = 1 };
    gemma_error *e = &t->w.error;
    t->w.device = NULL;
    open_nano(&t->w, &o);
    t->ctx = ctx;
    t->session = world_session(&t->w);
    t->sampler = world_sampler(&t->w, NULL);
    assert_ok(gemma_chat_create(t->w.tokenizer, t->w.file, NULL, &t->chat, e), e->message);
    assert_ok(gemma_parser_create(t->w.tokenizer, NULL, &t->parser, e), e->message);
    assert_int_equal(gemma_chat_variant(t->chat), GEMMA_CHAT_GEMMA4_SMALL);
}

static void end(talk *t)
{
    gemma_parser_destroy(t->parser);
    gemma_chat_destroy(t->chat);
    gemma_sampler_destroy(t->sampler);
    gemma_session_destroy(t->session);
    gemma_model_status s = { .size = sizeof s };
    assert_int_equal(gemma_model_query(t->w.model, &s), GEMMA_OK);
    assert_int_equal(s.global_pages_free, s.global_pages);
    assert_int_equal(s.sliding_pages_free, s.sliding_pages);
    world_close(&t->w);
}

static void good(const talk *t, int rc)
{
    char message[512];
    if (!rc) return;
    if (!gemma_session_message(t->session, message, sizeof message))
        gemma_chat_message(t->chat, message, sizeof message);
    assert_ok(rc, message);
}

static void append(char *to, const char *text, size_t n)
{
    size_t at = strlen(to);
    assert_true(at + n < TEXT_MAX);
    memcpy(to + at, text, n);
    to[at + n] = '\0';
}

static void take_parts(talk *t)
{
    for (gemma_part p = { .size = sizeof p }; gemma_parser_next(t->parser, &p);) {
        switch (p.kind) {
        case GEMMA_PART_ANSWER: append(t->answer, p.text, p.n_bytes); break;
        case GEMMA_PART_THOUGHT: append(t->thought, p.text, p.n_bytes); break;
        case GEMMA_PART_CALL:
            append(t->call, p.name, strlen(p.name));
            append(t->arguments, p.text, p.n_bytes);
            break;
        default: fail_msg("a part of kind %u: %.*s", p.kind, (int)p.n_bytes, p.text);
        }
    }
}

/* The greedy continuation of a session that holds all of t->ids but the last n; the opening is the first of it. */
static void generate(talk *t, gemma_session *session, uint32_t n)
{
    gemma_error e = { .size = sizeof e };
    gemma_generation *g;
    gemma_generation_options o = { .size = sizeof o, .max_tokens = GEN_MAX };
    memcpy(t->ids + t->n_ids, t->opening, sizeof t->opening);
    memcpy(t->gen, t->opening, sizeof t->opening);
    const int32_t *ids = t->ids + t->n_ids - n;
    assert_ok(gemma_generation_create(session, t->sampler, t->w.tokenizer, ids, n + t->n_opening, &o, &g, &e),
              e.message);
    t->n_gen = t->n_opening;
    for (gemma_piece p = { .size = sizeof p }; !p.stop;) {
        assert_int_equal(gemma_generation_next(g, &p), GEMMA_OK);
        if (p.id >= 0) t->gen[t->n_gen++] = p.id;
        if (p.stop) assert_int_equal(p.stop, GEMMA_STOP_END);
    }
    gemma_generation_destroy(g);
}

/* Renders, drops the oldest turns where there is no room, feeds what is new and marks where the next turn comes back. */
static void feed(talk *t, uint32_t flags)
{
    gemma_rendering r = { .size = sizeof r };
    t->n_dropped = 0;
    for (;;) {
        good(t, gemma_chat_render(t->chat, flags | GEMMA_RENDER_GENERATE, &r));
        if (r.n_ids + GEN_MAX <= t->ctx) break;
        assert_int_not_equal(gemma_chat_drop_oldest(t->chat), 0);
        t->n_dropped++;
    }
    assert_true(r.n_ids <= IDS_MAX && r.n_standing > 0 && r.n_standing <= r.n_ids);
    t->n_ids = (uint32_t)gemma_chat_ids(t->chat, t->ids, IDS_MAX);
    assert_int_equal(t->n_ids, r.n_ids);
    good(t, gemma_session_match(t->session, t->ids, t->n_ids, &t->n_kept));
    assert_int_equal(gemma_session_position(t->session), t->n_kept);
    uint32_t standing = (uint32_t)r.n_standing;
    t->marked = standing < t->n_ids ? standing : t->n_ids - 1; /* one id is left to predict from */
    if (t->marked > t->n_kept) {
        good(t, gemma_session_feed(t->session, t->ids + t->n_kept, t->marked - t->n_kept, NULL));
        good(t, gemma_session_mark(t->session));
    }
    assert_int_equal(gemma_parser_reset(t->parser, r.in_thought), GEMMA_OK);
}

/* One turn: a user's or tool's text, and what the model makes of it, which is kept in the conversation. */
static void say(talk *t, uint32_t role, const char *text, uint32_t flags)
{
    gemma_message m = { .size = sizeof m, .role = role, .text = text, .n_text = strlen(text) };
    good(t, gemma_chat_add(t->chat, &m));
    feed(t, flags);
    generate(t, t->session, t->n_ids - gemma_session_position(t->session));
    *t->answer = *t->thought = *t->call = *t->arguments = '\0';
    for (uint32_t i = 0; i < t->n_gen; i++) {
        assert_int_equal(gemma_parser_push(t->parser, t->gen[i]), GEMMA_OK);
        take_parts(t);
    }
    assert_int_equal(gemma_parser_finish(t->parser), GEMMA_OK);
    take_parts(t);
    assert_null(strstr(t->answer, "<|"));
    m = (gemma_message){ .size = sizeof m,
                         .role = GEMMA_ROLE_MODEL,
                         .text = t->answer,
                         .n_text = strlen(t->answer),
                         .thought = t->thought,
                         .n_thought = strlen(t->thought) };
    good(t, gemma_chat_add(t->chat, &m));
    if (*t->call) good(t, gemma_chat_add_call(t->chat, NULL, t->call, t->arguments, strlen(t->arguments)));
}

static void ask_capital(talk *t, uint32_t i, uint32_t flags)
{
    char text[64];
    snprintf(text, sizeof text, "Capital of %s?", capitals[i % N_CAPITALS].country);
    say(t, GEMMA_ROLE_USER, text, flags);
}

/* ---- what it says ---- */

static void greets_knows_thinks(void **state)
{
    static talk t;
    (void)state;
    begin(&t, 512);
    say(&t, GEMMA_ROLE_USER, "Hi", 0);
    assert_string_equal(t.answer, "Hello! How can I help?");
    assert_string_equal(t.thought, "");
    good(&t, gemma_chat_keep(t.chat, 0));
    for (uint32_t i = 0; i < 2; i++) {
        ask_capital(&t, i, 0);
        assert_non_null(strstr(t.answer, capitals[i].city));
        assert_string_equal(t.thought, "");
    }
    good(&t, gemma_chat_keep(t.chat, 0));
    ask_capital(&t, 0, GEMMA_RENDER_THINK);
    assert_string_equal(t.thought, "The user asks about Norway. Its capital is Oslo.");
    assert_string_equal(t.answer, "The capital of Norway is Oslo.");
    end(&t);
}

static void calls_a_tool(void **state)
{
    static const char tool[] = "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":"
                               "\"Weather of a city\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":"
                               "{\"type\":\"string\"}},\"required\":[\"city\"]}}}";
    static talk t;
    (void)state;
    begin(&t, 512);
    good(&t, gemma_chat_add_tool(t.chat, tool, sizeof tool - 1));
    say(&t, GEMMA_ROLE_USER, "Weather in Rome?", 0);
    assert_string_equal(t.call, "get_weather");
    assert_string_equal(t.arguments, "{\"city\":\"Rome\"}"); /* and gemma_chat_add_call has read it as JSON */
    assert_string_equal(t.answer, "");
    uint32_t held = gemma_session_position(t.session);
    say(&t, GEMMA_ROLE_TOOL, "22C", 0);
    assert_string_equal(t.answer, "It is 22C in Rome.");
    assert_string_equal(t.call, "");
    print_message("the call's turn held %u ids, its result kept %u of %u\n", held, t.n_kept, t.n_ids);
    end(&t);
}

/* ---- what a turn costs ---- */

/* After a few turns of history without thoughts the model thinks no more: it is made to. */
static void always_think(talk *t)
{
    static const char opening[] = "<|channel>thought\n";
    size_t n;
    assert_int_equal(gemma_tokenize(t->w.tokenizer, opening, sizeof opening - 1, GEMMA_TOKENIZE_SPECIAL, t->opening,
                                    COUNT(t->opening), &n),
                     GEMMA_OK);
    t->n_opening = (uint32_t)n;
}

static gemma_model_status status_of(const talk *t)
{
    gemma_model_status s = { .size = sizeof s };
    assert_int_equal(gemma_model_query(t->w.model, &s), GEMMA_OK);
    return s;
}

/* Every id of the conversation is fed once, but for the last of a prompt, which the next turn may have to feed again. */
static void forty_thinking_turns(void **state)
{
    enum { N_TURNS = 40 };
    static talk t;
    static int32_t before[IDS_MAX], gen[GEN_MAX + 4];
    uint32_t n_fed = 0;
    (void)state;
    begin(&t, IDS_MAX);
    always_think(&t);
    for (uint32_t i = 0; i < N_TURNS; i++) {
        uint32_t marked = t.marked, n_before = t.n_ids;
        memcpy(before, t.ids, sizeof before);
        uint64_t rows = status_of(&t).rows;
        ask_capital(&t, i, GEMMA_RENDER_THINK);
        assert_true(strlen(t.thought) > 10);
        assert_non_null(strstr(t.answer, capitals[i % N_CAPITALS].city));
        assert_int_equal(t.n_dropped, 0);
        uint32_t fed = t.n_ids - t.n_kept, common = 0;
        while (common < n_before && before[common] == t.ids[common]) common++;
        assert_true(common >= marked);
        assert_true(t.n_kept == common || t.n_kept == marked);
        assert_true(fed <= t.n_ids - common + 1);
        assert_in_range(status_of(&t).rows - rows, fed + t.n_gen - 1, fed + t.n_gen);
        n_fed += fed;
    }
    assert_in_range(n_fed, t.n_ids, t.n_ids + N_TURNS - 1);
    /* The same as from scratch. */
    memcpy(gen, t.gen, sizeof gen);
    uint32_t n_gen = t.n_gen;
    gemma_session *fresh = world_session(&t.w);
    generate(&t, fresh, t.n_ids);
    gemma_session_destroy(fresh);
    assert_int_equal(t.n_gen, n_gen);
    assert_memory_equal(t.gen, gen, n_gen * sizeof *gen);
    print_message("%d turns: %u ids in the last prompt, %u fed in all\n", N_TURNS, t.n_ids, n_fed);
    end(&t);
}

/* The most that was held at the ends of turns. */
typedef struct most {
    uint64_t pages, blocks, bytes, resident;
} most;

/* Resident memory of the process, in pages of the system; 0: it does not tell, or a sanitizer keeps what is freed. */
static uint64_t resident_pages(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return 0;
#endif
#endif
    unsigned long long whole = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%llu %llu", &whole, &resident) != 2) resident = 0;
    fclose(f);
    return resident;
}

static void measure(const talk *t, most *m)
{
    gemma_model_status s = status_of(t);
    most now = { s.global_pages - s.global_pages_free + s.sliding_pages - s.sliding_pages_free, fault_live_blocks(), 0,
                 resident_pages() };
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++) now.bytes += fault_live_bytes(tag);
    if (now.pages > m->pages) m->pages = now.pages;
    if (now.blocks > m->blocks) m->blocks = now.blocks;
    if (now.bytes > m->bytes) m->bytes = now.bytes;
    if (now.resident > m->resident) m->resident = now.resident;
}

static void nothing_grows(void **state)
{
    enum { N_TURNS = 200, N_FIRST = 60 };
    static talk t;
    uint32_t n_dropped = 0;
    most first = { 0 }, rest = { 0 };
    (void)state;
    begin(&t, 224);
    always_think(&t);
    for (uint32_t i = 0; i < N_TURNS; i++) {
        ask_capital(&t, i, GEMMA_RENDER_THINK);
        assert_true(strlen(t.thought) > 10);
        n_dropped += t.n_dropped;
        assert_true(gemma_session_position(t.session) <= t.ctx);
        measure(&t, i < N_FIRST ? &first : &rest);
    }
    print_message("%d turns, %u dropped; %llu, then %llu pages; %llu, then %llu blocks; %llu, then %llu bytes\n",
                  N_TURNS, n_dropped, (unsigned long long)first.pages, (unsigned long long)rest.pages,
                  (unsigned long long)first.blocks, (unsigned long long)rest.blocks, (unsigned long long)first.bytes,
                  (unsigned long long)rest.bytes);
    assert_true(n_dropped > N_TURNS / 2);
    assert_true(rest.pages <= first.pages);
    assert_true(rest.blocks <= first.blocks);
    assert_true(rest.bytes <= first.bytes);
    assert_true(rest.resident <= first.resident + 256); /* the C library's own */
    end(&t);
}

/* ---- goldens ---- */

enum { N_GOLDENS = 3, GOLDEN_IDS = 128, GOLDEN_GEN = 40 };

typedef struct golden {
    char text[TEXT_MAX];
    size_t n_bytes;
    uint32_t n_ids, n_gen;
    int32_t ids[GOLDEN_IDS + GOLDEN_GEN]; /* of the prompt, and what is generated */
    double margin[GOLDEN_GEN];
} golden;

static void read_golden(FILE *f, golden *g)
{
    double unused;
    assert_int_equal(fscanf(f, " prompt %zu %u %u %lf", &g->n_bytes, &g->n_ids, &g->n_gen, &unused), 4);
    assert_true(g->n_bytes < TEXT_MAX && g->n_ids <= GOLDEN_IDS && g->n_gen <= GOLDEN_GEN);
    assert_int_equal(fgetc(f), '\n');
    assert_int_equal(fread(g->text, 1, g->n_bytes, f), g->n_bytes);
    for (uint32_t i = 0; i < g->n_ids + g->n_gen; i++) assert_int_equal(fscanf(f, "%d", &g->ids[i]), 1);
    for (uint32_t i = 0; i < g->n_gen; i++) assert_int_equal(fscanf(f, "%lf", &unused), 1); /* log-probabilities */
    for (uint32_t i = 0; i < g->n_gen; i++) assert_int_equal(fscanf(f, "%lf", &g->margin[i]), 1);
}

/* Every golden token with a clear margin is predicted behind those before it. Returns how many there are. */
static uint32_t check_golden(world *w, const golden *g, double margin)
{
    int32_t ids[GOLDEN_IDS];
    size_t n_ids;
    uint32_t n = g->n_ids + g->n_gen - 1, flags = GEMMA_TOKENIZE_BOS | GEMMA_TOKENIZE_SPECIAL, n_clear = 0;
    assert_int_equal(gemma_tokenize(w->tokenizer, g->text, g->n_bytes, flags, ids, GOLDEN_IDS, &n_ids), GEMMA_OK);
    assert_int_equal(n_ids, g->n_ids);
    assert_memory_equal(ids, g->ids, n_ids * sizeof *ids);
    gemma_session *s = world_session(w);
    gemma_step *step = world_step(w);
    for (uint32_t i = 0; i < n; i++) {
        gemma_row row = { .size = sizeof row, .token = g->ids[i], .want = GEMMA_WANT_CANDIDATES };
        assert_int_equal(gemma_step_add(step, s, &row, NULL), GEMMA_OK);
    }
    assert_int_equal(gemma_step_submit(step, NULL), GEMMA_OK);
    assert_int_equal(gemma_step_wait(step, FOREVER), GEMMA_OK);
    for (uint32_t i = 0; i < g->n_gen; i++) {
        int32_t best;
        float logit;
        assert_int_equal(gemma_step_candidate(step, g->n_ids - 1 + i, 0, &best, &logit), GEMMA_OK);
        if (g->margin[i] < margin) continue;
        n_clear++;
        if (best != g->ids[g->n_ids + i])
            fail_msg("token %u is %d, not %d, with a margin of %.3f", i, best, g->ids[g->n_ids + i], g->margin[i]);
    }
    gemma_step_destroy(step);
    gemma_session_destroy(s);
    return n_clear;
}

static void goldens(void **state)
{
    static const struct {
        const char *device;
        double margin;
    } devices[] = { { "cpu", 0.35 }, { "reference", 0.05 } };
    static golden all[N_GOLDENS];
    FILE *f = fopen("data/nano/goldens.txt", "rb");
    (void)state;
    assert_non_null(f);
    for (uint32_t i = 0; i < N_GOLDENS; i++) read_golden(f, &all[i]);
    fclose(f);
    for (uint32_t d = 0; d < COUNT(devices); d++) {
        gemma_plan_options o = { .size = sizeof o, .ctx = 256 };
        world w = { .device = devices[d].device };
        uint32_t n_clear = 0;
        open_nano(&w, &o);
        for (uint32_t i = 0; i < N_GOLDENS; i++) n_clear += check_golden(&w, &all[i], devices[d].margin);
        print_message("%s: %u golden tokens\n", devices[d].device, n_clear);
        assert_true(n_clear > 100);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),       cmocka_unit_test(greets_knows_thinks),
        cmocka_unit_test(calls_a_tool),  cmocka_unit_test(forty_thinking_turns),
        cmocka_unit_test(nothing_grows),
    };
    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}
