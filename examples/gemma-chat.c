/* gemma-chat: a conversation in the terminal. The answer goes to stdout, everything else to stderr. */
#include "common/bill.h"
#include "common/status.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#endif

static const char help[] = "Usage: gemma-chat -m FILE [-p TEXT] [options]\n\n"
                           "  -p, --prompt TEXT       answer once and leave (\"-\": read the text from stdin)\n"
                           "      --raw               no turns: continue the text as it is (base models)\n"
                           "  -n, --n N               at most N tokens an answer (default: until it ends)\n"
                           "      --temp X            temperature (default: 1; 0: always the likeliest token)\n"
                           "      --top-k N --top-p X --min-p X         (default: 64, 0.95, off)\n"
                           "      --seed N            the same seed gives the same text (default: 0)\n"
                           "      --status FILE       rewritten once a second: bill, budgets, speed, events\n"
                           "                          (gemma-watch FILE shows it)\n\n"
                           "In a conversation /help lists the commands; Ctrl-C stops an answer, not the program.\n\n";

static const char commands[] =
    "/think on|off   let the model think first (Gemma 4)\n"
    "/system TEXT    what it is told before the conversation; no text: nothing\n"
    "/tools FILE     functions it may call: a JSON list; no file: none\n"
    "/clear          start anew\n"
    "/save FILE, /load FILE   the conversation as JSON; what was read of it in FILE.session\n"
    "/stats          context and speed\n"
    "/quit           leave (also Ctrl-D)\n";

typedef struct text {
    char *data;
    size_t n;
} text;

typedef struct chat {
    cli c;
    const char *prompt, *status_path;
    status status;
    bool raw, think, awaits_result; /* the last answer ended in a tool call */
    uint32_t max_tokens;
    gemma_sampler_options sampling;
    gemma_sampler *sampler;
    gemma_session *session;
    gemma_chat *talk;
    gemma_parser *parser;
    /* of the last answer */
    text answer, thought, calls;      /* calls: name \0 arguments \0 … */
    uint32_t n_prompt, n_gen;         /* n_prompt: that the session did not hold yet */
    double asked_at, prompt_s, gen_s; /* prompt_s: from there to the first token */
    uint32_t stop;
} chat;

static gemma_cancel *interrupt; /* what Ctrl-C raises */

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    gemma_cancel_raise(interrupt);
}

static const char *const stop_names[] = { "none", "end", "length", "string", "full", "cancelled", "error" };

static void append(text *t, const char *data, size_t n)
{
    char *grown = realloc(t->data, t->n + n + 1);
    if (!grown) return;
    memcpy(grown + t->n, data, n);
    t->data = grown;
    t->n += n;
    t->data[t->n] = '\0';
}

static void show(const chat *h, const char *data, size_t n, bool thought)
{
    if (h->c.json) return;
    FILE *to = thought ? stderr : stdout;
    bool dim = thought && isatty(2);
    if (dim) fputs("\033[2m", to);
    fwrite(data, 1, n, to);
    if (dim) fputs("\033[0m", to);
    fflush(to);
}

static int talk_failed(const chat *h)
{
    char message[512];
    gemma_chat_message(h->talk, message, sizeof message);
    return cli_fail(&h->c, "%s", message);
}

static int session_failed(const chat *h)
{
    char message[512];
    gemma_session_message(h->session, message, sizeof message);
    return cli_fail(&h->c, "%s", message);
}

/* ---- what the model writes ---- */

static void take_parts(chat *h)
{
    for (gemma_part p = { .size = sizeof p }; gemma_parser_next(h->parser, &p);) {
        if (p.kind == GEMMA_PART_ANSWER || p.kind == GEMMA_PART_THOUGHT) {
            bool thought = p.kind == GEMMA_PART_THOUGHT;
            if (!thought && h->thought.n && !h->answer.n) show(h, "\n", 1, true); /* where the thought ends */
            append(thought ? &h->thought : &h->answer, p.text, p.n_bytes);
            show(h, p.text, p.n_bytes, thought);
        } else if (p.kind == GEMMA_PART_CALL) {
            append(&h->calls, p.name, strlen(p.name) + 1);
            append(&h->calls, p.text, p.n_bytes);
            append(&h->calls, "", 1);
            fprintf(stderr, "[it calls %s %.*s]\n", p.name, (int)p.n_bytes, p.text);
        } else {
            fprintf(stderr, "[a tool call that cannot be read: %.*s]\n", (int)p.n_bytes, p.text);
        }
    }
}

static void take_piece(chat *h, const gemma_piece *p)
{
    if (h->raw) {
        append(&h->answer, p->text, p->n_bytes);
        show(h, p->text, p->n_bytes, false);
        return;
    }
    if (p->id >= 0) gemma_parser_push(h->parser, p->id);
    take_parts(h);
    if (!p->stop) return;
    gemma_parser_finish(h->parser);
    take_parts(h);
}

/* Continues the session with `ids` and prints what comes. */
static int generate(chat *h, const int32_t *ids, size_t n)
{
    gemma_error e = { .size = sizeof e };
    gemma_generation *g = NULL;
    gemma_generation_options o = { .size = sizeof o, .max_tokens = h->max_tokens, .cancel = h->c.cancel };
    if (gemma_generation_create(h->session, h->sampler, h->c.tokenizer, ids, n, &o, &g, &e))
        return cli_fail(&h->c, "%s", e.message);
    gemma_piece p = { .size = sizeof p };
    h->n_prompt += (uint32_t)n;
    h->answer.n = h->thought.n = h->calls.n = h->n_gen = 0;
    double first = 0;
    int rc = 0;
    while (!p.stop && !(rc = gemma_generation_next(g, &p))) {
        if (first <= 0) first = cli_seconds();
        h->n_gen += p.id >= 0;
        status_token(&h->status, h->n_gen, gemma_session_position(h->session));
        take_piece(h, &p);
    }
    h->stop = p.stop;
    h->prompt_s = (first > 0 ? first : cli_seconds()) - h->asked_at;
    h->gen_s = first > 0 ? cli_seconds() - first : 0;
    status_answered(&h->status, gemma_session_position(h->session), h->n_gen > 1 ? (h->n_gen - 1) / h->gen_s : 0);
    if (rc) {
        char message[512];
        gemma_generation_message(g, message, sizeof message);
        cli_fail(&h->c, "%s", message);
    }
    gemma_generation_destroy(g);
    gemma_cancel_clear(h->c.cancel);
    return rc ? EXIT_FAIL : 0;
}

static void close_model(chat *h)
{
    gemma_parser_destroy(h->parser);
    gemma_chat_destroy(h->talk);
    gemma_sampler_destroy(h->sampler);
    gemma_session_destroy(h->session);
    cli_close_file(&h->c);
}

/* tok/s beside GB/s and the share of the bandwidth measured here, or of what was predicted of several devices. Measuring
 * takes time and memory: it is left out where nothing is told of it, and after the last answer the model goes first. */
static void print_speed(chat *h, FILE *to, bool last)
{
    gemma_prediction p = { .size = sizeof p };
    bool timed = h->n_gen > 1 && h->gen_s > 0, spread = bill_is_spread(&h->c), unknown = timed && !h->c.probe.size;
    if (unknown && spread && cli_probe(&h->c)) return;
    double predicted = bill_predict_at(&h->c, gemma_session_position(h->session) - h->n_gen / 2, &p);
    if (unknown && !spread && last) close_model(h);
    if (unknown && !spread && cli_probe(&h->c)) return;
    fprintf(to, "prompt %u tokens in %.2f s (%.0f tok/s)", h->n_prompt, h->prompt_s, h->n_prompt / h->prompt_s);
    if (timed) {
        double tok_s = (h->n_gen - 1) / h->gen_s, gb_s = (double)(p.bytes_per_token + p.kv_bytes) * tok_s * 1e-9;
        fprintf(to, "; answer %u tokens, %.1f tok/s = %.2f GB/s", h->n_gen, tok_s, gb_s);
        if (!spread)
            fprintf(to, ", %.0f %% of the %.1f GB/s measured", 100 * gb_s / h->c.probe.read_gb_s, h->c.probe.read_gb_s);
        else if (predicted > 0)
            fprintf(to, ", %.0f %% of the %.1f tok/s predicted", 100 * tok_s / predicted, predicted);
    }
    fputc('\n', to);
}

static void print_result(chat *h)
{
    if (!h->c.json) {
        putchar('\n');
        fflush(stdout); /* before the speeds on stderr */
        return;
    }
    json_t *line = json_pack("{s:s%,s:s%,s:s,s:i,s:i,s:f,s:f}", "text", h->answer.n ? h->answer.data : "", h->answer.n,
                             "thought", h->thought.n ? h->thought.data : "", h->thought.n, "stop", stop_names[h->stop],
                             "n_prompt", h->n_prompt, "n_gen", h->n_gen, "prompt_s", h->prompt_s, "gen_s", h->gen_s);
    json_dumpf(line, stdout, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(line);
}

/* One text continued as it is, from an empty session. */
static int answer_raw(chat *h, const char *said, size_t n)
{
    uint32_t flags = GEMMA_TOKENIZE_BOS | GEMMA_TOKENIZE_SPECIAL | GEMMA_TOKENIZE_STRICT;
    size_t n_ids;
    int32_t *ids = cli_tokenize(&h->c, said, n, flags, &n_ids);
    if (!ids) return EXIT_FAIL;
    gemma_session_rewind(h->session, 0);
    show(h, said, n, false);
    int code = generate(h, ids, n_ids);
    free(ids);
    if (!code) print_result(h);
    return code;
}

/* ---- turns ---- */

/* The conversation as ids that leave room for an answer; the oldest turns are dropped where they must be. */
static int32_t *render(chat *h, gemma_rendering *r)
{
    gemma_plan_info plan = { .size = sizeof plan };
    gemma_plan_describe(h->c.plan, &plan);
    uint32_t room = plan.ctx / 4 < 256 ? plan.ctx / 4 : 256, flags = GEMMA_RENDER_GENERATE, dropped = 0;
    if (h->think) flags |= GEMMA_RENDER_THINK;
    for (;;) {
        *r = (gemma_rendering){ .size = sizeof *r };
        if (gemma_chat_render(h->talk, flags, r)) {
            talk_failed(h);
            return NULL;
        }
        if (r->n_ids + room <= plan.ctx || !gemma_chat_drop_oldest(h->talk)) break;
        dropped++;
    }
    if (dropped) fprintf(stderr, "[the context is full: the oldest %u turn(s) were dropped]\n", dropped);
    if (r->n_ids >= plan.ctx) {
        cli_fail(&h->c, "%zu tokens do not fit the context of %u; give --ctx N", r->n_ids, plan.ctx);
        return NULL;
    }
    int32_t *ids = malloc(r->n_ids * sizeof *ids);
    if (ids) gemma_chat_ids(h->talk, ids, r->n_ids);
    return ids;
}

static int show_feeding(void *user, uint64_t done, uint64_t total)
{
    status_tick(user, "reading the prompt", done, total);
    return 0;
}

/* Feeds what the session does not hold yet, up to the ids that will stand, and marks that place: the next turn goes back
 * to it, since thoughts are dropped from the history. *fed is where generation begins. */
static int feed_standing(chat *h, const int32_t *ids, const gemma_rendering *r, uint32_t *fed)
{
    if (gemma_session_match(h->session, ids, r->n_ids, fed)) return session_failed(h);
    size_t standing = r->n_standing < r->n_ids ? r->n_standing : r->n_ids - 1; /* one is left to predict from */
    if (standing < *fed) return 0;
    gemma_feed_options o = {
        .size = sizeof o, .cancel = h->c.cancel, .progress = show_feeding, .progress_user = &h->status
    };
    if (standing > *fed && gemma_session_feed(h->session, ids + *fed, standing - *fed, &o)) return session_failed(h);
    if (gemma_session_mark(h->session)) return session_failed(h);
    h->n_prompt += (uint32_t)standing - *fed;
    *fed = (uint32_t)standing;
    return 0;
}

static int keep_answer(chat *h)
{
    gemma_message m = { .size = sizeof m,
                        .role = GEMMA_ROLE_MODEL,
                        .text = h->answer.data,
                        .n_text = h->answer.n,
                        .thought = h->thought.data,
                        .n_thought = h->thought.n };
    if (gemma_chat_add(h->talk, &m)) return talk_failed(h);
    h->awaits_result = h->calls.n > 0;
    for (size_t at = 0; at < h->calls.n;) {
        const char *name = h->calls.data + at, *arguments = name + strlen(name) + 1;
        if (gemma_chat_add_call(h->talk, NULL, name, arguments, strlen(arguments))) return talk_failed(h);
        at = (size_t)(arguments - h->calls.data) + strlen(arguments) + 1;
    }
    if (h->awaits_result) fputs("[type the call's result]\n", stderr);
    return 0;
}

/* A user's turn, or the result the last call waits for. What fails is taken back. */
static int answer_turn(chat *h, const char *said, size_t n)
{
    uint32_t before = gemma_chat_n_messages(h->talk), fed = 0;
    gemma_message m = { .size = sizeof m,
                        .role = h->awaits_result ? GEMMA_ROLE_TOOL : GEMMA_ROLE_USER,
                        .text = said,
                        .n_text = n,
                        .name = h->awaits_result ? h->calls.data : NULL };
    if (gemma_chat_add(h->talk, &m)) return talk_failed(h);
    gemma_rendering r;
    int32_t *ids = render(h, &r);
    int code = ids ? feed_standing(h, ids, &r, &fed) : EXIT_FAIL;
    gemma_parser_reset(h->parser, r.in_thought);
    if (!code) code = generate(h, ids + fed, r.n_ids - fed);
    free(ids);
    if (code) {
        if (gemma_chat_n_messages(h->talk) > before) gemma_chat_keep(h->talk, before);
        gemma_cancel_clear(h->c.cancel);
        return code;
    }
    print_result(h);
    return keep_answer(h);
}

static int answer(chat *h, const char *said, size_t n)
{
    if (!n) return cli_fail(&h->c, "an empty prompt has no continuation");
    h->n_prompt = 0;
    h->asked_at = cli_seconds();
    return h->raw ? answer_raw(h, said, n) : answer_turn(h, said, n);
}

/* ---- commands ---- */

static void start_anew(chat *h)
{
    if (h->talk) gemma_chat_keep(h->talk, 0);
    gemma_session_rewind(h->session, 0);
    gemma_sampler_reset(h->sampler);
    h->awaits_result = false;
}

static int write_file(void *file, const void *bytes, uint64_t n_bytes)
{
    return fwrite(bytes, 1, n_bytes, file) != n_bytes;
}

static int64_t read_file(void *file, uint64_t offset, void *dst, uint64_t n_bytes)
{
    if (fseeko(file, (off_t)offset, SEEK_SET)) return -1;
    size_t n = fread(dst, 1, n_bytes, file);
    return ferror((FILE *)file) ? -1 : (int64_t)n;
}

/* "FILE.session", opened. */
static FILE *open_session(const char *path, const char *mode)
{
    char *name = NULL;
    FILE *f = asprintf(&name, "%s.session", path) < 0 ? NULL : fopen(name, mode);
    free(name);
    return f;
}

/* The session goes back to where the conversation stands without the last turn's thoughts, as the next turn would have it
 * anyway: marks are not saved. */
static int save_session(chat *h, const char *path)
{
    gemma_rendering r = { .size = sizeof r };
    if (!gemma_session_position(h->session)) return 0;
    if (gemma_chat_render(h->talk, 0, &r)) return talk_failed(h);
    int32_t *ids = malloc(r.n_ids * sizeof *ids);
    uint32_t kept;
    if (!ids) return cli_fail(&h->c, "out of memory");
    int rc = gemma_session_match(h->session, ids, gemma_chat_ids(h->talk, ids, r.n_ids), &kept);
    free(ids);
    if (rc) return session_failed(h);
    FILE *f = open_session(path, "wb");
    gemma_save_options o = { .size = sizeof o, .write = write_file, .user = f, .cancel = h->c.cancel };
    if (!f) return cli_fail(&h->c, "cannot write %s.session", path);
    int code = gemma_session_save(h->session, &o) ? session_failed(h) : 0;
    if (fclose(f) && !code) code = cli_fail(&h->c, "cannot write %s.session", path);
    return code;
}

/* Without it the conversation is read again. */
static void load_session(chat *h, const char *path)
{
    FILE *f = open_session(path, "rb");
    gemma_restore_options o = { .size = sizeof o, .read = read_file, .user = f, .cancel = h->c.cancel };
    if (!f) return;
    if (gemma_session_load(h->session, &o)) session_failed(h);
    fclose(f);
}

static int save(chat *h, const char *path)
{
    size_t n = 0;
    gemma_chat_write(h->talk, NULL, 0, &n);
    char *data = malloc(n + 1);
    FILE *f = data && !gemma_chat_write(h->talk, data, n, &n) ? fopen(path, "wb") : NULL;
    bool written = f && fwrite(data, 1, n, f) == n, closed = f && !fclose(f);
    free(data);
    return written && closed ? save_session(h, path) : cli_fail(&h->c, "cannot write %s", path);
}

static int load(chat *h, const char *path)
{
    size_t n;
    char *data = cli_read_file(&h->c, path, &n);
    if (!data) return EXIT_FAIL;
    start_anew(h);
    int code = gemma_chat_read(h->talk, data, n, NULL) ? talk_failed(h) : 0;
    free(data);
    if (!code) load_session(h, path);
    return code;
}

static int read_tools(chat *h, const char *path)
{
    gemma_chat_forget_tools(h->talk);
    if (!*path) return 0;
    json_error_t error;
    json_t *list = json_load_file(path, 0, &error);
    if (!json_is_array(list)) {
        json_decref(list);
        return cli_fail(&h->c, "%s is no JSON list of tools%s%s", path, *error.text ? ": " : "", error.text);
    }
    int code = 0;
    for (size_t i = 0; i < json_array_size(list) && !code; i++) {
        char *tool = json_dumps(json_array_get(list, i), JSON_COMPACT);
        if (!tool || gemma_chat_add_tool(h->talk, tool, strlen(tool))) code = talk_failed(h);
        free(tool);
    }
    json_decref(list);
    return code;
}

static void print_stats(chat *h)
{
    fprintf(stderr, "[%u of %u tokens in the context; ", gemma_session_position(h->session),
            gemma_session_position(h->session) + gemma_session_room(h->session));
    print_speed(h, stderr, false);
}

/* The words behind a command, or NULL when the line is another one. */
static const char *words_of(const char *line, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(line, name, n) || (line[n] && line[n] != ' ')) return NULL;
    for (line += n; *line == ' ';) line++;
    return line;
}

/* true: leave. */
static bool command(chat *h, const char *line)
{
    const char *words;
    if (words_of(line, "/quit") || words_of(line, "/exit")) return true;
    if (words_of(line, "/stats")) {
        print_stats(h);
    } else if (words_of(line, "/clear")) {
        start_anew(h);
        fputs("[the conversation starts anew]\n", stderr);
    } else if (h->raw) {
        fputs("/clear, /stats, /quit; with --raw every line is a text of its own\n", stderr);
    } else if ((words = words_of(line, "/think"))) {
        h->think = strcmp(words, "off") != 0;
        fprintf(stderr, "[thinking is %s]\n", h->think ? "on" : "off");
    } else if ((words = words_of(line, "/system"))) {
        if (gemma_chat_set_system(h->talk, words, strlen(words))) talk_failed(h);
    } else if ((words = words_of(line, "/tools"))) {
        read_tools(h, words);
    } else if ((words = words_of(line, "/save")) && *words) {
        save(h, words);
    } else if ((words = words_of(line, "/load")) && *words) {
        load(h, words);
    } else {
        fputs(commands, stderr);
    }
    return false;
}

static char *read_line(bool terminal)
{
#ifdef HAVE_LIBEDIT
    if (terminal) {
        char *line = readline("> ");
        if (line && *line) add_history(line);
        return line;
    }
#endif
    size_t n;
    if (terminal) fputs("> ", stderr);
    return cli_line(stdin, &n);
}

static int converse(chat *h)
{
    bool terminal = isatty(0);
    struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESTART };
    sigaction(SIGINT, &action, NULL);
    for (;;) {
        bool leave = false;
        status_wait(&h->status);
        char *line = read_line(terminal);
        status_resume(&h->status);
        if (!line) break;
        gemma_cancel_clear(h->c.cancel); /* a Ctrl-C at the prompt stops nothing later */
        if (*line == '/')
            leave = command(h, line);
        else if (*line)
            answer(h, line, strlen(line));
        free(line);
        if (leave) break;
    }
    return 0;
}

static int run(chat *h)
{
    gemma_error e = { .size = sizeof e };
    h->c.n_marks = h->raw ? 0 : 1; /* where the history ends that will stand */
    h->c.tick = status_loading;
    h->c.pressure = status_pressure;
    h->c.hook_user = &h->status;
    int code = cli_open_file(&h->c);
    if (!code && h->status_path) code = cli_probe(&h->c);
    if (!code) code = cli_open_plan(&h->c);
    if (!code) code = status_open(&h->status, &h->c, h->status_path);
    if (!code && !h->c.json) cli_print_bill(&h->c, stderr);
    if (!code) code = cli_open_model(&h->c);
    if (!code) code = cli_open_tokenizer(&h->c);
    if (code) return code;
    interrupt = h->c.cancel;
    h->sampling.size = sizeof h->sampling;
    if (gemma_sampler_create(h->c.runtime, &h->sampling, &h->sampler, &e) ||
        gemma_session_create(h->c.model, NULL, &h->session, &e))
        return cli_fail(&h->c, "%s", e.message);
    h->status.ctx = gemma_session_room(h->session);
    if (!h->raw && (gemma_chat_create(h->c.tokenizer, h->c.file, NULL, &h->talk, &e) ||
                    gemma_parser_create(h->c.tokenizer, NULL, &h->parser, &e)))
        return cli_fail(&h->c, "%s; --raw continues a text without turns", e.message);
    if (!h->prompt) return converse(h);
    size_t n = strlen(h->prompt);
    char *piped = NULL;
    if (!strcmp(h->prompt, "-") && !(piped = cli_read_all(stdin, &n))) return cli_fail(&h->c, "cannot read stdin");
    code = answer(h, piped ? piped : h->prompt, n);
    free(piped);
    if (!code && !h->c.json) print_speed(h, stderr, true);
    return code;
}

enum { RAW = CLI_OWN, TEMP, TOP_K, TOP_P, MIN_P, SEED, STATUS };

static void read_options(chat *h, int argc, char **argv)
{
    static const struct option options[] = { CLI_OPTIONS,
                                             { "prompt", required_argument, NULL, 'p' },
                                             { "raw", no_argument, NULL, RAW },
                                             { "n", required_argument, NULL, 'n' },
                                             { "temp", required_argument, NULL, TEMP },
                                             { "top-k", required_argument, NULL, TOP_K },
                                             { "top-p", required_argument, NULL, TOP_P },
                                             { "min-p", required_argument, NULL, MIN_P },
                                             { "seed", required_argument, NULL, SEED },
                                             { "status", required_argument, NULL, STATUS },
                                             { 0 } };
    cli_short_name(argv);
    for (int o; (o = getopt_long(argc, argv, "m:hp:n:", options, NULL)) != -1;) {
        if (cli_option(&h->c, o, optarg)) continue;
        switch (o) {
        case 'h': printf("%s%s", help, cli_help); exit(0);
        case 'p': h->prompt = optarg; break;
        case 'n': h->max_tokens = cli_u32(&h->c, "--n", optarg, 1, 1u << 24); break;
        case RAW: h->raw = true; break;
        case TEMP: h->sampling.temperature = (float)cli_double(&h->c, "--temp", optarg, 0, 100); break;
        case TOP_K: h->sampling.top_k = cli_u32(&h->c, "--top-k", optarg, 0, 1u << 24); break;
        case TOP_P: h->sampling.top_p = (float)cli_double(&h->c, "--top-p", optarg, 0, 1); break;
        case MIN_P: h->sampling.min_p = (float)cli_double(&h->c, "--min-p", optarg, 0, 1); break;
        case STATUS: h->status_path = optarg; break;
        case SEED: h->sampling.seed = cli_u32(&h->c, "--seed", optarg, 0, UINT32_MAX); break;
        }
    }
    if (optind < argc) cli_usage(&h->c, "unexpected argument \"%s\" (a prompt is given with -p)", argv[optind]);
}

int main(int argc, char **argv)
{
    chat h = { .c = { .program = "gemma-chat" }, .sampling = { .temperature = 1, .top_k = 64, .top_p = 0.95f } };
    read_options(&h, argc, argv);
    int code = run(&h);
    status_close(&h.status);
    free(h.answer.data);
    free(h.thought.data);
    free(h.calls.data);
    if (h.c.file) close_model(&h);
    cli_close(&h.c);
    return code;
}
