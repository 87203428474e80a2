/* gemma-eval: what a model predicts, as numbers: logits, greedy continuations, teacher-forced scores, perplexity. */
#include "common/cli.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: gemma-eval -m FILE MODE\n\n"
    "      --tokens F.i32 --logits OUT.f32   little-endian ids in, float32 logits of every row out\n"
    "      --pos0 N                          position of the first token (with --tokens)\n"
    "      --prompts F.jsonl --greedy N      {\"text\": …} lines in, N greedy tokens after each (BOS is added)\n"
    "      --score F.jsonl                   {\"ids\": […]} lines in, teacher-forced predictions out\n"
    "      --ppl FILE                        perplexity of a text\n\n";

typedef struct eval {
    cli c;
    const char *tokens, *logits, *prompts, *score, *ppl;
    uint32_t pos0, greedy;
    bool has_greedy;
    gemma_session *session;
    gemma_step *step;
    gemma_plan_info plan;
} eval;

static int step_failed(const eval *e)
{
    char text[512];
    gemma_step_message(e->step, text, sizeof text);
    return cli_fail(&e->c, "%s", text);
}

/* Feeds ids in steps of at most `most` rows, all wanting `want`; the target of a row is the id after it. After each
 * step `take` sees its rows. */
typedef int (*take_rows)(eval *e, uint32_t first, uint32_t n, void *user);
static int feed(eval *e, const int32_t *ids, uint32_t n, uint32_t want, uint32_t most, take_rows take, void *user)
{
    for (uint32_t at = 0; at < n;) {
        uint32_t piece = n - at < most ? n - at : most;
        gemma_step_clear(e->step);
        for (uint32_t i = at; i < at + piece; i++) {
            gemma_row row = { .size = sizeof row, .token = ids[i], .want = want };
            if (i + 1 < n)
                row.target = ids[i + 1];
            else
                row.want &= ~(uint32_t)GEMMA_WANT_SCORE;
            if (gemma_step_add(e->step, e->session, &row, NULL)) return step_failed(e);
        }
        if (gemma_step_submit(e->step, e->c.cancel) || gemma_step_wait(e->step, UINT64_MAX)) return step_failed(e);
        int code = take(e, at, piece, user);
        if (code) return code;
        at += piece;
    }
    return 0;
}

/* A new session whose context holds n tokens. */
static int start(eval *e, size_t n, uint32_t first_position)
{
    gemma_error err = { .size = sizeof err };
    gemma_session_destroy(e->session);
    e->session = NULL;
    gemma_session_options o = { .size = sizeof o, .first_position = first_position };
    if (n > e->plan.ctx) return cli_fail(&e->c, "%zu tokens do not fit a context of %u; give --ctx N", n, e->plan.ctx);
    if (gemma_session_create(e->c.model, &o, &e->session, &err)) return cli_fail(&e->c, "%s", err.message);
    return 0;
}

/* ---- --tokens, --logits ---- */

typedef struct logit_file {
    FILE *f;
    float *row;
    uint32_t n_vocab;
} logit_file;

static int write_logits(eval *e, uint32_t first, uint32_t n, void *user)
{
    logit_file *l = user;
    (void)first;
    for (uint32_t i = 0; i < n; i++) {
        if (gemma_step_logits(e->step, i, l->row, l->n_vocab)) return cli_fail(&e->c, "row %u has no logits", i);
        if (fwrite(l->row, sizeof(float), l->n_vocab, l->f) != l->n_vocab)
            return cli_fail(&e->c, "cannot write %s", e->logits);
    }
    return 0;
}

static int run_tokens(eval *e, const int32_t *ids, size_t n)
{
    gemma_file_info info = { .size = sizeof info };
    gemma_file_describe(e->c.file, &info);
    logit_file l = { fopen(e->logits, "wb"), malloc(info.n_vocab * sizeof(float)), info.n_vocab };
    int code = start(e, n, e->pos0);
    if (!code && (!l.f || !l.row)) code = cli_fail(&e->c, "cannot write %s", e->logits);
    uint32_t most = e->plan.logit_rows < e->plan.ubatch ? e->plan.logit_rows : e->plan.ubatch;
    if (!code) code = feed(e, ids, (uint32_t)n, GEMMA_WANT_LOGITS, most, write_logits, &l);
    if (l.f && fclose(l.f) && !code) code = cli_fail(&e->c, "cannot write %s", e->logits);
    free(l.row);
    return code;
}

/* ---- scores ---- */

typedef struct scores {
    json_t *argmax, *logprob; /* NULL: not wanted */
    double nll;
    int32_t best; /* of the last row */
    float best_logprob;
} scores;

static int take_scores(eval *e, uint32_t first, uint32_t n, void *user)
{
    scores *s = user;
    (void)first;
    for (uint32_t i = 0; i < n; i++) {
        float log_sum, logit;
        int32_t id;
        if (gemma_step_log_sum(e->step, i, &log_sum) || gemma_step_candidate(e->step, i, 0, &id, &logit))
            return cli_fail(&e->c, "row %u has no candidates", i);
        s->best = id;
        s->best_logprob = logit - log_sum;
        if (s->argmax) json_array_append_new(s->argmax, json_integer(id));
        if (gemma_step_score(e->step, i, &logit)) continue; /* the last row has no target */
        s->nll -= (double)(logit - log_sum);
        if (s->logprob) json_array_append_new(s->logprob, json_real((double)(logit - log_sum)));
    }
    return 0;
}

static int score_ids(eval *e, const int32_t *ids, size_t n, scores *s)
{
    int code = start(e, n, 0);
    if (code) return code;
    return feed(e, ids, (uint32_t)n, GEMMA_WANT_CANDIDATES | GEMMA_WANT_SCORE, e->plan.ubatch, take_scores, s);
}

static void print_json(json_t *line)
{
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    fflush(stdout);
    json_decref(line);
}

static json_t *id_list(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static int run_prompt(eval *e, const json_t *line)
{
    const json_t *text = json_object_get(line, "text");
    if (!json_is_string(text)) return cli_fail(&e->c, "a prompt has no \"text\"");
    size_t n;
    int32_t *ids = cli_tokenize(&e->c, json_string_value(text), json_string_length(text),
                                GEMMA_TOKENIZE_BOS | GEMMA_TOKENIZE_SPECIAL, &n);
    if (!ids) return EXIT_FAIL;
    scores s = { 0 };
    int code = start(e, n + e->greedy, 0);
    if (!code)
        code = feed(e, ids, (uint32_t)n, GEMMA_WANT_CANDIDATES | GEMMA_WANT_SCORE, e->plan.ubatch, take_scores, &s);
    double prompt_nll = s.nll;
    json_t *gen = json_array(), *logprob = json_array();
    for (uint32_t i = 0; i < e->greedy && !code; i++) {
        int32_t id = s.best;
        json_array_append_new(gen, json_integer(id));
        json_array_append_new(logprob, json_real((double)s.best_logprob));
        if (i + 1 < e->greedy) code = feed(e, &id, 1, GEMMA_WANT_CANDIDATES, 1, take_scores, &s);
    }
    if (!code)
        print_json(json_pack("{s:o,s:O,s:O,s:f}", "ids", id_list(ids, n), "gen", gen, "logprob", logprob, "prompt_nll",
                             prompt_nll));
    json_decref(gen);
    json_decref(logprob);
    free(ids);
    return code;
}

static int run_score(eval *e, const json_t *line)
{
    const json_t *list = json_object_get(line, "ids");
    size_t n = json_array_size(list);
    if (!n) return cli_fail(&e->c, "a line has no \"ids\"");
    int32_t *ids = malloc(n * sizeof *ids);
    if (!ids) return cli_fail(&e->c, "out of memory");
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    scores s = { .argmax = json_array(), .logprob = json_array() };
    int code = score_ids(e, ids, n, &s);
    if (!code) print_json(json_pack("{s:O,s:O}", "argmax", s.argmax, "logprob", s.logprob));
    json_decref(s.argmax);
    json_decref(s.logprob);
    free(ids);
    return code;
}

static int each_line(eval *e, const char *path, int (*run)(eval *e, const json_t *line))
{
    FILE *f = fopen(path, "rb");
    if (!f) return cli_fail(&e->c, "cannot read %s", path);
    int code = 0;
    size_t n, number = 0;
    for (char *text; !code && (text = cli_line(f, &n));) {
        json_error_t error;
        number++;
        json_t *line = n ? json_loadb(text, n, JSON_ALLOW_NUL, &error) : NULL;
        free(text);
        if (!n) continue;
        code = line ? run(e, line) : cli_fail(&e->c, "%s, line %zu is not JSON: %s", path, number, error.text);
        json_decref(line);
    }
    fclose(f);
    return code;
}

/* Windows of the context length, each begun with BOS and scored whole. */
static int run_ppl(eval *e)
{
    size_t n_bytes, n = 0, scored = 0;
    char *text = cli_read_file(&e->c, e->ppl, &n_bytes);
    int32_t *ids = text ? cli_tokenize(&e->c, text, n_bytes, GEMMA_TOKENIZE_BOS, &n) : NULL;
    free(text);
    if (!ids) return EXIT_FAIL;
    scores s = { 0 };
    int code = n < 2 ? cli_fail(&e->c, "%s is too short for a perplexity", e->ppl) : 0;
    for (size_t at = 0; !code && at + 1 < n;) { /* ids[at] is replaced by BOS: it was scored by the window before */
        size_t window = n - at < e->plan.ctx ? n - at : e->plan.ctx;
        ids[at] = ids[0];
        code = score_ids(e, ids + at, window, &s);
        scored += window - 1;
        at += window - 1;
    }
    if (!code)
        print_json(
            json_pack("{s:I,s:f,s:f}", "tokens", (json_int_t)scored, "nll", s.nll, "ppl", exp(s.nll / (double)scored)));
    free(ids);
    return code;
}

static int run(eval *e)
{
    gemma_error err = { .size = sizeof err };
    int32_t *ids = NULL;
    size_t n = 0;
    if (e->tokens) {
        ids = (int32_t *)cli_read_file(&e->c, e->tokens, &n);
        if (!ids) return EXIT_FAIL;
        n /= sizeof *ids;
        e->c.logit_rows = n < 64 ? (uint32_t)n : 64;
    }
    int code = n == 0 && e->tokens ? cli_fail(&e->c, "%s holds no tokens", e->tokens) : cli_open_model(&e->c);
    if (!code && !e->tokens) code = cli_open_tokenizer(&e->c);
    if (!code && gemma_step_create(e->c.model, &e->step, &err)) code = cli_fail(&e->c, "%s", err.message);
    e->plan.size = sizeof e->plan;
    if (!code) gemma_plan_describe(e->c.plan, &e->plan);
    if (!code) {
        if (e->tokens)
            code = run_tokens(e, ids, n);
        else if (e->prompts)
            code = each_line(e, e->prompts, run_prompt);
        else if (e->score)
            code = each_line(e, e->score, run_score);
        else
            code = run_ppl(e);
    }
    free(ids);
    return code;
}

enum { TOKENS = CLI_OWN, LOGITS, POS0, PROMPTS, GREEDY, SCORE, PPL };

static void read_options(eval *e, int argc, char **argv)
{
    static const struct option options[] = { CLI_OPTIONS,
                                             { "tokens", required_argument, NULL, TOKENS },
                                             { "logits", required_argument, NULL, LOGITS },
                                             { "pos0", required_argument, NULL, POS0 },
                                             { "prompts", required_argument, NULL, PROMPTS },
                                             { "greedy", required_argument, NULL, GREEDY },
                                             { "score", required_argument, NULL, SCORE },
                                             { "ppl", required_argument, NULL, PPL },
                                             { 0 } };
    cli_short_name(argv);
    for (int o; (o = getopt_long(argc, argv, "m:h", options, NULL)) != -1;) {
        if (cli_option(&e->c, o, optarg)) continue;
        switch (o) {
        case 'h': printf("%s%s", help, cli_help); exit(0);
        case TOKENS: e->tokens = optarg; break;
        case LOGITS: e->logits = optarg; break;
        case POS0: e->pos0 = cli_u32(&e->c, "--pos0", optarg, 0, 1u << 28); break;
        case PROMPTS: e->prompts = optarg; break;
        case GREEDY:
            e->greedy = cli_u32(&e->c, "--greedy", optarg, 1, 1u << 20);
            e->has_greedy = true;
            break;
        case SCORE: e->score = optarg; break;
        case PPL: e->ppl = optarg; break;
        }
    }
    if (optind < argc) cli_usage(&e->c, "unexpected argument \"%s\"", argv[optind]);
    if (!!e->tokens + !!e->prompts + !!e->score + !!e->ppl != 1)
        cli_usage(&e->c, "give one of --tokens, --prompts, --score, --ppl");
    if (!e->tokens != !e->logits) cli_usage(&e->c, "--tokens and --logits go together");
    if (!e->prompts != !e->has_greedy) cli_usage(&e->c, "--prompts and --greedy go together");
}

int main(int argc, char **argv)
{
    eval e = { .c = { .program = "gemma-eval" } };
    read_options(&e, argc, argv);
    int code = run(&e);
    gemma_step_destroy(e.step);
    gemma_session_destroy(e.session);
    cli_close(&e.c);
    return code;
}
