/* gemma-bench: tokens per second beside the bytes they read and the bandwidth that was measured here. */
#include "common/cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char help[] = "Usage: gemma-bench -m FILE [options]\n\n"
                           "  -p N                    prefill N tokens (default: 512; 0: skip)\n"
                           "  -n N                    decode N tokens (default: 128; 0: skip)\n"
                           "  -d N                    with N tokens in the context before (default: 0)\n"
                           "  -r N                    repetitions (default: 5)\n"
                           "  -o md|json|csv          how to print (default: md)\n";

typedef struct bench {
    cli c;
    uint32_t n_prompt, n_gen, depth, reps;
    const char *format;
    gemma_step *step;
    gemma_session *session;
    int32_t *ids;    /* [depth + n_prompt], fixed pseudo-random ids */
    double *figures; /* [3 × reps] */
    double bytes_per_token;
} bench;

typedef struct result {
    char test[24];
    uint32_t n_prompt, n_gen;
    double best, median, predicted;
    double off_pct; /* the prediction: the median over repetitions, each with the devices as measured just before it */
    double bytes_per_token; /* weights and KV that one token reads, at the middle of the run */
} result;

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

static int feed(bench *b, const int32_t *ids, uint32_t n)
{
    gemma_feed_options o = { .size = sizeof o, .cancel = b->c.cancel };
    return n && gemma_session_feed(b->session, ids, n, &o) ? session_failed(b) : 0;
}

/* A session that holds `depth` tokens, which are read once and marked. */
static int start(bench *b)
{
    gemma_error e = { .size = sizeof e };
    if (b->session) return gemma_session_rewind(b->session, b->depth) ? session_failed(b) : 0;
    if (gemma_session_create(b->c.model, NULL, &b->session, &e)) return cli_fail(&b->c, "%s", e.message);
    int code = feed(b, b->ids, b->depth);
    if (!code && b->depth && gemma_session_mark(b->session)) code = session_failed(b);
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
    int code = feed(b, b->ids + b->depth, b->n_prompt);
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
    int code = start(b);
    if (!code) code = probe_again(b);
    if (!code) code = predict(b, predicted_depth, &p);
    if (!code) code = generating ? decode(b, tok_s) : prefill(b, tok_s);
    *predicted = generating ? p.decode_tok_s : p.prefill_tok_s;
    b->bytes_per_token = generating ? (double)(p.bytes_per_token + p.kv_bytes) : 0;
    return code;
}

static int measure(bench *b, bool generating, result *r)
{
    gemma_plan_info plan = { .size = sizeof plan };
    gemma_plan_describe(b->c.plan, &plan);
    uint32_t n_rows = b->n_prompt < plan.ubatch ? b->n_prompt : plan.ubatch;
    uint32_t depth = b->depth + (generating ? b->n_gen : b->n_prompt - n_rows) / 2;
    double *tok_s = b->figures, *predicted = tok_s + b->reps, *ratio = predicted + b->reps, first[2];
    int code = repeat(b, generating, depth, &first[0], &first[1]); /* warms up */
    for (uint32_t i = 0; i < b->reps && !code; i++) {
        code = repeat(b, generating, depth, &tok_s[i], &predicted[i]);
        ratio[i] = predicted[i] / tok_s[i];
    }
    if (code) return code;
    r->median = median_of(tok_s, b->reps);
    r->best = tok_s[b->reps - 1];
    r->predicted = median_of(predicted, b->reps);
    r->off_pct = 100 * (median_of(ratio, b->reps) - 1);
    r->bytes_per_token = b->bytes_per_token;
    return 0;
}

/* ---- printed ---- */

static json_t *probes_json(const bench *b)
{
    json_t *list = json_array();
    for (const gemma_probe *p = &b->c.probe; p; p = p->next) {
        const struct {
            const char *name;
            double value;
        } figures[] = { { "read_gb_s", p->read_gb_s },
                        { "q4_gb_s", p->q4_gb_s },
                        { "q6_gb_s", p->q6_gb_s },
                        { "q8_gb_s", p->q8_gb_s },
                        { "f16_gb_s", p->f16_gb_s },
                        { "row_ns", p->row_ns },
                        { "product_us", p->product_us },
                        { "op_us", p->op_us },
                        { "submit_us", p->submit_us },
                        { "attention_gflops", p->attention_gflops },
                        { "attention_us", p->attention_us },
                        { "q5_gb_s", p->q5_gb_s },
                        { "compute_gflops", p->compute_gflops } };
        gemma_device_info d = { .size = sizeof d };
        gemma_device_describe(b->c.runtime, p->device, &d);
        json_t *one = json_pack("{s:s}", "device", d.id);
        for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
            json_object_set_new(one, figures[i].name, json_real(figures[i].value));
        json_array_append_new(list, one);
    }
    return list;
}

static void print_json(const bench *b, const result *r, uint32_t n)
{
    gemma_device_info d = { .size = sizeof d };
    gemma_plan_info plan = { .size = sizeof plan };
    gemma_device_describe(b->c.runtime, b->c.device, &d);
    gemma_plan_describe(b->c.plan, &plan);
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        double gb_s = r[i].bytes_per_token * r[i].median * 1e-9, measured = b->c.probe.read_gb_s;
        json_array_append_new(list, json_pack("{s:s,s:i,s:i,s:i,s:s,s:{s:f,s:f},s:f,s:f,s:f,s:f,s:f,s:I,s:i,s:i,s:o}",
                                              "test", r[i].test, "n_prompt", r[i].n_prompt, "n_gen", r[i].n_gen,
                                              "depth", b->depth, "device", d.id, "tok_s", "best", r[i].best, "median",
                                              r[i].median, "gb_s", gb_s, "measured_gb_s", measured, "bandwidth_pct",
                                              measured > 0 ? 100 * gb_s / measured : 0.0, "predicted_tok_s",
                                              r[i].predicted, "predicted_off_pct", r[i].off_pct, "bytes_per_token",
                                              (json_int_t)r[i].bytes_per_token, "dispatches", plan.n_ops, "submits",
                                              plan.n_submits, "probes", probes_json(b)));
    }
    json_dumpf(list, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(list);
}

static void print_probes(const bench *b)
{
    for (const gemma_probe *p = &b->c.probe; p; p = p->next) {
        gemma_device_info d = { .size = sizeof d };
        gemma_device_describe(b->c.runtime, p->device, &d);
        printf("%s: memory reads at %.1f GB/s, products at %.1f (Q4_K), %.1f (Q6_K), %.1f (Q8_0), %.1f (F16); "
               "%.0f GFLOPS, in attention %.0f; a submit takes %.1f µs, an op %.1f, attention %.1f, a product %.1f, "
               "each of its rows %.1f ns\n\n",
               d.name, p->read_gb_s, p->q4_gb_s, p->q6_gb_s, p->q8_gb_s, p->f16_gb_s, p->compute_gflops,
               p->attention_gflops, p->submit_us, p->op_us, p->attention_us, p->product_us, p->row_ns);
    }
}

static void print_rows(const bench *b, const result *r, uint32_t n)
{
    bool csv = !strcmp(b->format, "csv");
    gemma_device_info d = { .size = sizeof d };
    gemma_device_describe(b->c.runtime, b->c.device, &d);
    if (csv) {
        puts("test,depth,device,best_tok_s,median_tok_s,gb_s,measured_gb_s,bandwidth_pct,predicted_tok_s,"
             "predicted_off_pct");
    } else {
        print_probes(b);
        puts("| test | depth | best tok/s | median tok/s | GB/s | % of measured | predicted tok/s | off by |");
        puts("|---|---:|---:|---:|---:|---:|---:|---:|");
    }
    for (uint32_t i = 0; i < n; i++) {
        double gb_s = r[i].bytes_per_token * r[i].median * 1e-9;
        double percent = b->c.probe.read_gb_s > 0 ? 100 * gb_s / b->c.probe.read_gb_s : 0;
        if (csv)
            printf("%s,%u,%s,%.2f,%.2f,%.3f,%.3f,%.1f,%.2f,%.1f\n", r[i].test, b->depth, d.id, r[i].best, r[i].median,
                   gb_s, b->c.probe.read_gb_s, percent, r[i].predicted, r[i].off_pct);
        else if (r[i].n_gen)
            printf("| %s | %u | %.1f | %.1f | %.2f | %.0f | %.1f | %+.0f %% |\n", r[i].test, b->depth, r[i].best,
                   r[i].median, gb_s, percent, r[i].predicted, r[i].off_pct);
        else
            printf("| %s | %u | %.1f | %.1f | | | %.1f | %+.0f %% |\n", r[i].test, b->depth, r[i].best, r[i].median,
                   r[i].predicted, r[i].off_pct);
    }
}

static int open_all(bench *b)
{
    uint32_t rows = b->n_prompt > b->n_gen + 1 ? b->n_prompt : b->n_gen + 1;
    if (!b->c.ctx) b->c.ctx = b->depth + rows;
    if (b->c.ctx < b->depth + rows)
        return cli_fail(&b->c, "--ctx %u is less than the %u tokens to run", b->c.ctx, b->depth + rows);
    b->c.n_marks = b->depth ? 1 : 0;
    int code = cli_open_file(&b->c);
    if (!code) code = cli_probe(&b->c);
    if (!code) code = cli_open_model(&b->c);
    gemma_error e = { .size = sizeof e };
    if (!code && gemma_step_create(b->c.model, &b->step, &e)) code = cli_fail(&b->c, "%s", e.message);
    if (code) return code;
    gemma_file_info info = { .size = sizeof info };
    gemma_file_describe(b->c.file, &info);
    size_t n = (size_t)b->depth + rows;
    b->ids = malloc(n * sizeof *b->ids);
    b->figures = malloc(3 * (size_t)b->reps * sizeof *b->figures);
    if (!b->ids || !b->figures) return cli_fail(&b->c, "out of memory");
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        b->ids[i] = (int32_t)((uint64_t)x * info.n_vocab >> 32);
    }
    return 0;
}

static int run(bench *b)
{
    result r[2] = { 0 };
    uint32_t n = 0;
    int code = open_all(b);
    if (!code && b->n_prompt) {
        r[n].n_prompt = b->n_prompt;
        snprintf(r[n].test, sizeof r[n].test, "pp%u", b->n_prompt);
        code = measure(b, false, &r[n++]);
    }
    if (!code && b->n_gen) {
        r[n].n_gen = b->n_gen;
        snprintf(r[n].test, sizeof r[n].test, "tg%u", b->n_gen);
        code = measure(b, true, &r[n++]);
    }
    if (code) return code;
    if (!strcmp(b->format, "json"))
        print_json(b, r, n);
    else
        print_rows(b, r, n);
    return 0;
}

int main(int argc, char **argv)
{
    bench b = { .c = { .program = "gemma-bench" }, .n_prompt = 512, .n_gen = 128, .reps = 5, .format = "md" };
    static const struct option options[] = { CLI_OPTIONS, { 0 } };
    cli_short_name(argv);
    for (int o; (o = getopt_long(argc, argv, "m:hp:n:d:r:o:", options, NULL)) != -1;) {
        if (cli_option(&b.c, o, optarg)) continue;
        switch (o) {
        case 'h': printf("%s\n%s", help, cli_help); return 0;
        case 'p': b.n_prompt = cli_u32(&b.c, "-p", optarg, 0, 1u << 20); break;
        case 'n': b.n_gen = cli_u32(&b.c, "-n", optarg, 0, 1u << 20); break;
        case 'd': b.depth = cli_u32(&b.c, "-d", optarg, 0, 1u << 20); break;
        case 'r': b.reps = cli_u32(&b.c, "-r", optarg, 1, 1000); break;
        case 'o': b.format = optarg; break;
        }
    }
    if (b.c.json) b.format = "json";
    if (strcmp(b.format, "md") && strcmp(b.format, "json") && strcmp(b.format, "csv"))
        cli_usage(&b.c, "-o takes md, json or csv, not \"%s\"", b.format);
    if (optind < argc) cli_usage(&b.c, "unexpected argument \"%s\"", argv[optind]);
    int code = run(&b);
    free(b.ids);
    free(b.figures);
    gemma_step_destroy(b.step);
    gemma_session_destroy(b.session);
    cli_close(&b.c);
    return code;
}
