/* gemma-chat: a conversation in the terminal. The answer goes to stdout, everything else to stderr. */
#include "common/cli.h"
#include "common/turns.h"

#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#endif

static const char help[] =
    "Usage: gemma-chat -m FILE [-p TEXT] [options]\n\n"
    "  -p, --prompt TEXT       answer once and leave (\"-\": read the text from stdin)\n"
    "      --raw               no turns: continue the text as it is (base models)\n"
    "  -n, --n N               at most N tokens an answer (default: until it ends)\n"
    "      --temp X            temperature (default: 1; 0: always the likeliest token)\n"
    "      --top-k N --top-p X --min-p X         (default: 64, 0.95, off)\n"
    "      --seed N            the same seed gives the same text (default: 0)\n\n"
    "In a conversation: /help, /clear, /stats, /quit; Ctrl-C stops an answer, not the program.\n\n";

typedef struct chat {
    cli c;
    const char *prompt;
    bool raw;
    uint32_t max_tokens;
    gemma_sampler_options sampling;
    gemma_sampler *sampler;
    gemma_session *session;
    turns talk;
    /* of the last answer */
    uint32_t n_prompt, n_gen;
    double prompt_s, gen_s;
    uint32_t stop;
    char *answer;
    size_t n_answer;
} chat;

static gemma_cancel *interrupt; /* what Ctrl-C raises */

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    gemma_cancel_raise(interrupt);
}

static const char *const stop_names[] = { "none", "end", "length", "string", "full", "cancelled", "error" };

static void append_answer(chat *h, const gemma_piece *p)
{
    char *grown = realloc(h->answer, h->n_answer + p->n_bytes + 1);
    if (!grown) return;
    memcpy(grown + h->n_answer, p->text, p->n_bytes);
    h->answer = grown;
    h->n_answer += p->n_bytes;
    h->answer[h->n_answer] = '\0';
}

/* Continues the session with `ids` and prints what comes. Generated ids are put into `made` (room for max). */
static int generate(chat *h, const int32_t *ids, size_t n, int32_t *made, uint32_t max)
{
    gemma_error e = { .size = sizeof e };
    gemma_generation *g = NULL;
    gemma_generation_options o = { .size = sizeof o, .max_tokens = h->max_tokens, .cancel = h->c.cancel };
    if (gemma_generation_create(h->session, h->sampler, h->c.tokenizer, ids, n, &o, &g, &e))
        return cli_fail(&h->c, "%s", e.message);
    gemma_piece p = { .size = sizeof p };
    h->n_prompt = (uint32_t)n;
    h->n_gen = 0;
    h->n_answer = 0;
    double t0 = cli_seconds(), first = 0;
    int rc = 0;
    while (!rc && !p.stop) {
        rc = gemma_generation_next(g, &p);
        if (rc) break;
        if (!first) first = cli_seconds();
        if (p.id >= 0) {
            if (h->n_gen < max) made[h->n_gen] = p.id;
            h->n_gen++;
        }
        append_answer(h, &p);
        if (h->c.json) continue;
        fwrite(p.text, 1, p.n_bytes, stdout);
        fflush(stdout);
    }
    h->stop = p.stop;
    h->prompt_s = (first ? first : cli_seconds()) - t0;
    h->gen_s = first ? cli_seconds() - first : 0;
    if (rc) {
        char text[512];
        gemma_generation_message(g, text, sizeof text);
        cli_fail(&h->c, "%s", text);
    }
    gemma_generation_destroy(g);
    gemma_cancel_clear(h->c.cancel);
    return rc ? EXIT_FAIL : 0;
}

/* tok/s beside GB/s and the share of the bandwidth measured here. */
static void print_speed(chat *h, FILE *to)
{
    gemma_prediction p = { .size = sizeof p };
    gemma_plan_info plan = { .size = sizeof plan };
    gemma_plan_predict(h->c.plan, &p);
    gemma_plan_describe(h->c.plan, &plan);
    if (!h->c.probe.size && cli_probe(&h->c)) return;
    double depth = gemma_session_position(h->session) - h->n_gen / 2.0;
    double bytes = (double)p.bytes_per_token + (double)p.kv_bytes_full * depth / plan.ctx;
    fprintf(to, "prompt %u tokens in %.2f s (%.0f tok/s)", h->n_prompt, h->prompt_s, h->n_prompt / h->prompt_s);
    if (h->n_gen > 1 && h->gen_s > 0) {
        double tok_s = (h->n_gen - 1) / h->gen_s, gb_s = bytes * tok_s * 1e-9;
        fprintf(to, "; answer %u tokens, %.1f tok/s = %.2f GB/s, %.0f %% of the %.1f GB/s measured", h->n_gen, tok_s,
                gb_s, 100 * gb_s / h->c.probe.read_gb_s, h->c.probe.read_gb_s);
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
    json_t *line = json_pack("{s:s%,s:s,s:i,s:i,s:f,s:f}", "text", h->answer ? h->answer : "", h->n_answer, "stop",
                             stop_names[h->stop], "n_prompt", h->n_prompt, "n_gen", h->n_gen, "prompt_s", h->prompt_s,
                             "gen_s", h->gen_s);
    json_dumpf(line, stdout, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(line);
}

/* One text continued as it is, from an empty session. */
static int answer_raw(chat *h, const char *text, size_t n)
{
    uint32_t flags = GEMMA_TOKENIZE_BOS | GEMMA_TOKENIZE_SPECIAL | GEMMA_TOKENIZE_STRICT;
    size_t n_ids;
    int32_t *ids = cli_tokenize(&h->c, text, n, flags, &n_ids);
    if (!ids) return EXIT_FAIL;
    gemma_session_rewind(h->session, 0);
    if (!h->c.json) fwrite(text, 1, n, stdout);
    int code = generate(h, ids, n_ids, NULL, 0);
    free(ids);
    if (!code) print_result(h);
    return code;
}

/* One turn of the conversation: the history is rendered anew and what the session already holds is kept. */
static int answer_turn(chat *h, const char *text, size_t n)
{
    int code = turns_add_user(&h->talk, &h->c, text, n);
    if (code) return code;
    gemma_plan_info plan = { .size = sizeof plan };
    gemma_plan_describe(h->c.plan, &plan);
    uint32_t least = plan.ctx / 4 < 256 ? plan.ctx / 4 : 256; /* room for an answer */
    size_t n_ids = turns_length(&h->talk);
    uint32_t dropped = 0;
    while (n_ids + least > plan.ctx && turns_drop_oldest(&h->talk)) {
        n_ids = turns_length(&h->talk);
        dropped++;
    }
    if (n_ids >= plan.ctx) {
        turns_drop_last(&h->talk);
        return cli_fail(&h->c, "%zu tokens do not fit the context of %u; give --ctx N", n_ids, plan.ctx);
    }
    if (dropped) fprintf(stderr, "[the context is full: the oldest %u turn(s) were dropped]\n", dropped);
    int32_t *ids = turns_render(&h->talk), *made = malloc(plan.ctx * sizeof *made);
    uint32_t kept = 0;
    code = ids && made ? 0 : cli_fail(&h->c, "out of memory");
    if (!code && gemma_session_match(h->session, ids, n_ids, &kept)) code = cli_fail(&h->c, "cannot rewind");
    if (!code) code = generate(h, ids + kept, n_ids - kept, made, plan.ctx);
    if (code)
        turns_drop_last(&h->talk);
    else {
        print_result(h);
        code = turns_add_model(&h->talk, &h->c, made, h->n_gen < plan.ctx ? h->n_gen : plan.ctx);
    }
    free(ids);
    free(made);
    return code;
}

static int answer(chat *h, const char *text, size_t n)
{
    if (!n) return cli_fail(&h->c, "an empty prompt has no continuation");
    return h->raw ? answer_raw(h, text, n) : answer_turn(h, text, n);
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

/* true: leave. */
static bool command(chat *h, const char *line)
{
    if (!strcmp(line, "/quit") || !strcmp(line, "/exit")) return true;
    if (!strcmp(line, "/clear")) {
        turns_clear(&h->talk);
        gemma_session_rewind(h->session, 0);
        gemma_sampler_reset(h->sampler);
        fputs("[the conversation starts anew]\n", stderr);
    } else if (!strcmp(line, "/stats")) {
        fprintf(stderr, "[%u of %u tokens in the context; ", gemma_session_position(h->session),
                gemma_session_position(h->session) + gemma_session_room(h->session));
        print_speed(h, stderr);
    } else {
        fputs("/clear  start anew\n/stats  context and speed\n/quit   leave (also Ctrl-D)\n", stderr);
    }
    return false;
}

static int converse(chat *h)
{
    bool terminal = isatty(0);
    struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESTART };
    sigaction(SIGINT, &action, NULL);
    for (char *line; (line = read_line(terminal));) {
        bool leave = false;
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
    int code = cli_open_plan(&h->c);
    if (!code && !h->c.json) cli_print_bill(&h->c, stderr);
    if (!code) code = cli_open_model(&h->c);
    if (!code) code = cli_open_tokenizer(&h->c);
    if (code) return code;
    interrupt = h->c.cancel;
    h->sampling.size = sizeof h->sampling;
    if (gemma_sampler_create(h->c.runtime, &h->sampling, &h->sampler, &e) ||
        gemma_session_create(h->c.model, NULL, &h->session, &e))
        return cli_fail(&h->c, "%s", e.message);
    if (!h->raw && (code = turns_open(&h->talk, &h->c))) return code;
    if (!h->prompt) return converse(h);
    size_t n = strlen(h->prompt);
    char *text = strcmp(h->prompt, "-") ? NULL : cli_read_file(&h->c, "/dev/stdin", &n);
    code = answer(h, text ? text : h->prompt, n);
    free(text);
    if (!code && !h->c.json) print_speed(h, stderr);
    return code;
}

enum { RAW = CLI_OWN, TEMP, TOP_K, TOP_P, MIN_P, SEED };

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
                                             { 0 } };
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
    free(h.answer);
    turns_close(&h.talk);
    gemma_sampler_destroy(h.sampler);
    gemma_session_destroy(h.session);
    cli_close(&h.c);
    return code;
}
