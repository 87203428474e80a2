/* gemma-bench: tokens per second beside the bytes they read and the bandwidth that was measured here. */
#include "common/bench.h"
#include "common/svg.h"
#include "common/threads.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: gemma-bench -m FILE [options]\n\n"
    "Tokens a second, best and median, beside the bytes they read, the bandwidth measured just before (% of it), and "
    "what\n"
    "was predicted from that.\n\n"
    "  -p N                    prefill N tokens (default: 512; with --sweep 0: skip)\n"
    "  -n N                    decode N tokens (default: 128; with --sweep 32; 0: skip)\n"
    "  -d N                    with N tokens in the context before (default: 0); with --sweep: up to N\n"
    "  -r N                    repetitions (default: 5; with --sweep 3)\n"
    "  -o md|json|csv          how to print (default: md)\n"
    "      --sweep             at depth 0, 512, 1024, 2048 … up to -d, or to the end of --ctx, or to 8192\n"
    "      --svg FILE          the sweep as a picture: decode, what was predicted, the share of the bandwidth\n"
    "      --host-threads      on threads of this program, through gemma_host.parallel_for, with what that costs\n"
    "      --ram MIB           plan as if the machine had so much RAM, all of it free\n";

enum { DEPTHS_MAX = 16, DEFAULT_DEPTH = 8192, LARGEST = 1 << 20 };
#define UNSET UINT32_MAX

typedef struct bench {
    cli c;
    uint32_t n_prompt, n_gen, depth, reps; /* UNSET: not given */
    const char *format, *svg;
    bool sweep, host_threads;
    gemma_host host;
    threads *threads;
    uint32_t depths[DEPTHS_MAX], n_depths, fits_ctx;
    gemma_step *step;
    gemma_session *session;
    uint32_t marked; /* position that repetitions begin at */
    int32_t *ids;    /* [the last depth + rows], fixed pseudo-random ids */
    double *figures; /* [4 × reps] */
    bench_result results[2 * DEPTHS_MAX];
    uint32_t n_results;
} bench;

/* A line on the terminal that the next one replaces; NULL: takes it away. */
static void tell(const bench *b, const char *format, ...)
{
    va_list args;
    if (b->c.quiet || !isatty(2)) return;
    fputs("\r\033[K", stderr);
    if (!format) return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
}

static int step_failed(const bench *b)
{
    char text[512];
    gemma_step_message(b->step, text, sizeof text);
    return cli_fail(&b->c, "%s", text);
}

static int session_failed(const bench *b)
{
    char text[512];
    gemma_session_message(b->session, text, sizeof text);
    return cli_fail(&b->c, "%s", text);
}

static int on_rows(void *user, uint64_t done, uint64_t total)
{
    const bench *b = user;
    tell(b, "reading up to depth %llu of %llu", (unsigned long long)(b->marked + done),
         (unsigned long long)(b->marked + total));
    return 0;
}

static int feed(bench *b, uint32_t from, uint32_t n, bool tells)
{
    gemma_feed_options o = {
        .size = sizeof o, .cancel = b->c.cancel, .progress = tells ? on_rows : NULL, .progress_user = b
    };
    return n && gemma_session_feed(b->session, b->ids + from, n, &o) ? session_failed(b) : 0;
}

/* The session at `depth`, which is no less than before; what is there is marked, so that it is read once. */
static int go_to(bench *b, uint32_t depth)
{
    gemma_error e = { .size = sizeof e };
    if (!b->session && gemma_session_create(b->c.model, NULL, &b->session, &e)) return cli_fail(&b->c, "%s", e.message);
    if (gemma_session_rewind(b->session, b->marked)) return session_failed(b);
    if (depth == b->marked) return 0;
    int code = feed(b, b->marked, depth - b->marked, true);
    if (!code && gemma_session_mark(b->session)) code = session_failed(b);
    b->marked = depth;
    return code;
}

static int decode_one(bench *b, int32_t *id)
{
    gemma_row row = { .size = sizeof row, .token = *id, .want = GEMMA_WANT_CANDIDATES };
    gemma_step_clear(b->step);
    if (gemma_step_add(b->step, b->session, &row, NULL) || gemma_step_submit(b->step, b->c.cancel) ||
        gemma_step_wait(b->step, UINT64_MAX) || gemma_step_candidate(b->step, 0, 0, id, NULL))
        return step_failed(b);
    return 0;
}

static int decode(bench *b, double *tok_s)
{
    int32_t id = b->ids[0];
    int code = decode_one(b, &id); /* wakes the threads; not counted */
    double t0 = cli_seconds();
    for (uint32_t i = 1; i < b->n_gen + 1 && !code; i++) code = decode_one(b, &id);
    *tok_s = b->n_gen / (cli_seconds() - t0);
    return code;
}

static int prefill(bench *b, double *tok_s)
{
    double t0 = cli_seconds();
    int code = feed(b, b->marked, b->n_prompt, false);
    *tok_s = b->n_prompt / (cli_seconds() - t0);
    return code;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- predicted ---- */

/* On a machine that others use, the speed of one moment says little about the next: the devices are measured again
 * before each repetition. */
static int probe_again(bench *b)
{
    for (gemma_probe *p = &b->c.probe; p; p = (gemma_probe *)p->next) {
        const gemma_probe *next = p->next;
        gemma_error e = { .size = sizeof e };
        if (gemma_device_probe(b->c.runtime, p->device, b->c.cancel, p, &e)) return cli_fail(&b->c, "%s", e.message);
        p->next = next;
    }
    return 0;
}

/* By the probes of now: the same plan once more, which is not loaded. */
static int predict(bench *b, uint32_t depth, gemma_prediction *prediction)
{
    gemma_plan_options o;
    gemma_plan *plan;
    gemma_error e = { .size = sizeof e };
    cli_plan_options(&b->c, &o);
    o.replaces = b->c.model;
    if (gemma_plan_create(b->c.file, &o, &plan, &e)) return cli_fail(&b->c, "%s", e.message);
    gemma_plan_predict_at(plan, depth, prediction);
    gemma_plan_destroy(plan);
    return 0;
}

static double median_of(double *values, uint32_t n)
{
    qsort(values, n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* One repetition and what was predicted just before it. */
static int repeat(bench *b, bool generating, uint32_t predicted_depth, double *tok_s, double *predicted)
{
    gemma_prediction p = { .size = sizeof p };
    int code = go_to(b, b->marked);
    if (!code) code = probe_again(b);
    if (!code) code = predict(b, predicted_depth, &p);
    if (!code) code = generating ? decode(b, tok_s) : prefill(b, tok_s);
    *predicted = generating ? p.decode_tok_s : p.prefill_tok_s;
    return code;
}

/* Bytes that one token of a result reads. A step of a prompt reads the weights, and the KV before it, once for all of its
 * rows. */
static double bytes_of(const bench *b, const bench_result *r, uint32_t ubatch)
{
    gemma_prediction p = { .size = sizeof p };
    double bytes = 0;
    gemma_plan_predict_at(b->c.plan, r->depth + r->n_gen / 2, &p);
    if (r->n_gen) return (double)(p.bytes_per_token + p.kv_bytes);
    for (uint32_t at = 0; at < r->n_prompt; at += ubatch) {
        gemma_plan_predict_at(b->c.plan, r->depth + at, &p);
        bytes += (double)(p.prompt_bytes + p.kv_bytes);
    }
    return bytes / r->n_prompt;
}

static double calls_per_step(const bench *b, uint64_t calls, uint64_t steps)
{
    return b->threads && steps ? (double)calls / (double)steps : 0;
}

static int measure(bench *b, bool generating)
{
    bench_result *r = &b->results[b->n_results];
    gemma_plan_info plan = { .size = sizeof plan };
    gemma_model_status before = { .size = sizeof before }, after = { .size = sizeof after };
    gemma_plan_describe(b->c.plan, &plan);
    uint32_t n_rows = b->n_prompt < plan.ubatch ? b->n_prompt : plan.ubatch;
    uint32_t depth = b->marked + (generating ? b->n_gen : b->n_prompt - n_rows) / 2;
    double *tok_s = b->figures, *predicted = tok_s + b->reps, *ratio = predicted + b->reps, *gb_s = ratio + b->reps;
    double first[2];
    snprintf(r->test, sizeof r->test, generating ? "tg%u" : "pp%u", generating ? b->n_gen : b->n_prompt);
    *(generating ? &r->n_gen : &r->n_prompt) = generating ? b->n_gen : b->n_prompt;
    r->depth = b->marked;
    tell(b, "%s at depth %u: warming up", r->test, r->depth);
    int code = repeat(b, generating, depth, &first[0], &first[1]);
    uint64_t calls = 0;
    for (uint32_t i = 0; i < b->reps && !code; i++) {
        tell(b, "%s at depth %u: %u of %u", r->test, r->depth, i + 1, b->reps);
        code = repeat(b, generating, depth, &tok_s[i], &predicted[i]);
        ratio[i] = predicted[i] / tok_s[i];
        gb_s[i] = b->c.probe.read_gb_s;
    }
    tell(b, NULL);
    if (code) return code;
    /* Once more for the calls alone: those of probes are not to be among them. */
    gemma_model_query(b->c.model, &before);
    if (b->threads) calls = threads_n_calls(b->threads);
    if (b->threads) code = go_to(b, b->marked);
    if (b->threads && !code) code = generating ? decode(b, &first[0]) : prefill(b, &first[0]);
    gemma_model_query(b->c.model, &after);
    if (b->threads) r->host_calls = calls_per_step(b, threads_n_calls(b->threads) - calls, after.steps - before.steps);
    r->dispatches = after.last_dispatches;
    r->submits = after.last_submits;
    r->median = median_of(tok_s, b->reps);
    r->best = tok_s[b->reps - 1];
    r->predicted = median_of(predicted, b->reps);
    r->off_pct = 100 * (median_of(ratio, b->reps) - 1);
    r->measured_gb_s = median_of(gb_s, b->reps);
    r->bytes_per_token = bytes_of(b, r, plan.ubatch);
    b->n_results++;
    return code;
}

/* ---- depths ---- */

static uint32_t rows_of(const bench *b) { return b->n_prompt > b->n_gen + 1 ? b->n_prompt : b->n_gen + 1; }

static bool fits(bench *b, uint32_t ctx)
{
    gemma_plan_options o;
    gemma_plan *plan = NULL;
    cli_plan_options(&b->c, &o);
    o.ctx = ctx;
    bool good = !gemma_plan_create(b->c.file, &o, &plan, NULL) && !gemma_plan_check(plan, NULL);
    gemma_plan_destroy(plan);
    return good;
}

/* The longest context that fits; 0: as long as the model goes. */
static uint32_t longest_ctx(bench *b, uint32_t trained)
{
    uint32_t least = 1, most = trained;
    if (fits(b, trained)) return 0;
    while (most - least > 1) {
        uint32_t middle = least + (most - least) / 2;
        *(fits(b, middle) ? &least : &most) = middle;
    }
    return least;
}

/* 0, 512, 1024, 2048 … and the last one. */
static void list_depths(bench *b, uint32_t last)
{
    for (uint32_t d = 0; d < last && b->n_depths + 1 < DEPTHS_MAX; d = d ? 2 * d : 512) b->depths[b->n_depths++] = d;
    b->depths[b->n_depths++] = last;
}

static int choose_depths(bench *b)
{
    gemma_file_info info = { .size = sizeof info };
    uint32_t rows = rows_of(b), trained;
    gemma_file_describe(b->c.file, &info);
    trained = info.ctx_trained ? info.ctx_trained : LARGEST;
    if (rows > trained) return cli_fail(&b->c, "%u tokens to run are more than the %u this model holds", rows, trained);
    if (b->depth == UNSET)
        b->depth = !b->sweep                        ? 0
                   : b->c.ctx > rows                ? b->c.ctx - rows
                   : trained - rows < DEFAULT_DEPTH ? trained - rows
                                                    : DEFAULT_DEPTH;
    if (b->depth > trained - rows)
        return cli_fail(&b->c,
                        "-d %u and %u tokens to run behind it are more than the %u this model holds: at most -d %u",
                        b->depth, rows, trained, trained - rows);
    if (b->c.ctx && b->c.ctx < b->depth + rows)
        return cli_fail(&b->c, "--ctx %u is less than the %u tokens to run", b->c.ctx, b->depth + rows);
    if (!b->c.ctx) b->c.ctx = b->depth + rows;
    b->c.n_marks = b->depth ? 1 : 0;
    return 0;
}

/* With --sweep, what does not fit is left out. The devices have been measured: the plan's is known. */
static int settle_depths(bench *b)
{
    gemma_file_info info = { .size = sizeof info };
    uint32_t last = b->depth, rows = rows_of(b);
    gemma_file_describe(b->c.file, &info);
    if (b->sweep && b->c.fit == GEMMA_FIT_REFUSE) b->fits_ctx = longest_ctx(b, info.ctx_trained);
    if (b->fits_ctx > rows && b->fits_ctx < b->c.ctx) {
        b->c.ctx = b->fits_ctx;
        if (last > b->fits_ctx - rows) last = b->fits_ctx - rows;
    }
    if (b->sweep)
        list_depths(b, last);
    else
        b->depths[b->n_depths++] = last;
    return 0;
}

/* ---- the whole ---- */

static int make_ids(bench *b)
{
    gemma_file_info info = { .size = sizeof info };
    size_t n = (size_t)b->depths[b->n_depths - 1] + rows_of(b);
    gemma_file_describe(b->c.file, &info);
    b->ids = malloc(n * sizeof *b->ids);
    b->figures = malloc(4 * (size_t)b->reps * sizeof *b->figures);
    if (!b->ids || !b->figures) return cli_fail(&b->c, "out of memory");
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        b->ids[i] = (int32_t)((uint64_t)x * info.n_vocab >> 32);
    }
    return 0;
}

static int use_own_threads(bench *b)
{
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (!b->c.threads) b->c.threads = n_cores > 0 ? (uint32_t)n_cores : 1;
    b->threads = threads_create(b->c.threads);
    if (!b->threads) return cli_fail(&b->c, "the system cannot start %u threads", b->c.threads);
    b->host = (gemma_host){ .size = sizeof b->host, .user = b->threads, .parallel_for = threads_run };
    b->c.host = &b->host;
    return 0;
}

static int open_all(bench *b)
{
    gemma_error e = { .size = sizeof e };
    int code = b->svg ? svg_check(&b->c, b->svg) : 0;
    if (!code && b->host_threads) code = use_own_threads(b);
    if (!code) code = cli_open_file(&b->c);
    if (!code) code = choose_depths(b);
    if (!code) code = cli_probe(&b->c);
    if (!code) code = settle_depths(b);
    if (!code) code = cli_open_model(&b->c);
    if (!code && gemma_step_create(b->c.model, &b->step, &e)) code = cli_fail(&b->c, "%s", e.message);
    return code ? code : make_ids(b);
}

static int run(bench *b)
{
    int code = open_all(b);
    for (uint32_t i = 0; i < b->n_depths && !code; i++) {
        code = go_to(b, b->depths[i]);
        if (!code && b->n_prompt) code = measure(b, false);
        if (!code && b->n_gen) code = measure(b, true);
    }
    if (code) return code;
    bench_report report = { .c = &b->c,
                            .results = b->results,
                            .n_results = b->n_results,
                            .sweep = b->sweep,
                            .max_depth = b->depth,
                            .fits_ctx = b->fits_ctx,
                            .host_threads = b->host_threads };
    bench_print(&report, b->format);
    fflush(stdout);
    return b->svg ? bench_draw(&report, b->svg) : 0;
}

/* Defaults, and what does not go together. */
static void check_options(bench *b)
{
    if (b->c.json) b->format = "json";
    if (strcmp(b->format, "md") && strcmp(b->format, "json") && strcmp(b->format, "csv"))
        cli_usage(&b->c, "-o takes md, json or csv, not \"%s\"", b->format);
    if (b->svg && !b->sweep) cli_usage(&b->c, "--svg draws a sweep over depth: give --sweep too");
    if (b->n_prompt == UNSET) b->n_prompt = b->sweep ? 0 : 512;
    if (b->n_gen == UNSET) b->n_gen = b->sweep ? 32 : 128;
    if (b->reps == UNSET) b->reps = b->sweep ? 3 : 5;
    if (b->svg && !b->n_gen) cli_usage(&b->c, "--svg draws decoding: -n 0 leaves nothing to draw");
    if (!b->n_prompt && !b->n_gen) cli_usage(&b->c, "-p 0 and -n 0 leave nothing to measure");
}

enum { SWEEP = CLI_OWN, SVG, HOST_THREADS, RAM };

int main(int argc, char **argv)
{
    bench b = { .c = { .program = "gemma-bench" },
                .n_prompt = UNSET,
                .n_gen = UNSET,
                .depth = UNSET,
                .reps = UNSET,
                .format = "md" };
    static const struct option options[] = { CLI_OPTIONS,
                                             { "sweep", no_argument, NULL, SWEEP },
                                             { "svg", required_argument, NULL, SVG },
                                             { "host-threads", no_argument, NULL, HOST_THREADS },
                                             { "ram", required_argument, NULL, RAM },
                                             { 0 } };
    cli_short_name(argv);
    for (int o; (o = getopt_long(argc, argv, "m:hp:n:d:r:o:", options, NULL)) != -1;) {
        if (cli_option(&b.c, o, optarg)) continue;
        switch (o) {
        case 'h': printf("%s\n%s", help, cli_help); return 0;
        case 'p': b.n_prompt = cli_u32(&b.c, "-p", optarg, 0, LARGEST); break;
        case 'n': b.n_gen = cli_u32(&b.c, "-n", optarg, 0, LARGEST); break;
        case 'd': b.depth = cli_u32(&b.c, "-d", optarg, 0, LARGEST); break;
        case 'r': b.reps = cli_u32(&b.c, "-r", optarg, 1, 1000); break;
        case 'o': b.format = optarg; break;
        case SWEEP: b.sweep = true; break;
        case SVG: b.svg = optarg; break;
        case HOST_THREADS: b.host_threads = true; break;
        case RAM: b.c.ram_bytes = (uint64_t)cli_u32(&b.c, "--ram", optarg, 1, LARGEST) << 20; break;
        }
    }
    if (optind < argc) cli_usage(&b.c, "unexpected argument \"%s\"", argv[optind]);
    check_options(&b);
    int code = run(&b);
    free(b.ids);
    free(b.figures);
    gemma_step_destroy(b.step);
    gemma_session_destroy(b.session);
    cli_close(&b.c);
    threads_destroy(b.threads);
    return code;
}
