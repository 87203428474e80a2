/* gemma-plan: where every byte of a model would lie, before anything is loaded. */
#include "common/cli.h"
#ifdef HAVE_VULKAN
#include "common/machine_host.h"
#endif

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: gemma-plan -m FILE [options]\n\n"
    "Prints the bill of a plan: bytes by class and heap, what a token reads, the predicted speed.\n"
    "Exit status 3: it does not fit (what would fit is listed).\n\n"
    "      --sessions N        conversations alive at once (default: 1)\n"
    "      --tier FILE         plan for a described machine (tests/machines/README.md) instead of this one\n"
    "      --no-probe          do not measure the memory's bandwidth (0.3 s)\n";

/* ---- a described machine ---- */

#ifdef HAVE_VULKAN
static machine tier;
static gemma_vulkan_host tier_host;

static int open_tier(cli *c, const char *path)
{
    char error[256];
    if (!machine_read(path, 0, &tier, error, sizeof error)) return cli_fail(c, "%s", error);
    tier_host = machine_host(&tier);
    c->vulkan = &tier_host;
    c->ram_bytes = tier.ram_bytes;
    return 0;
}

/* The bandwidth that is described of the device that the plan is for, in place of a measured one. */
static int probe_tier(cli *c)
{
    int code = c->device == GEMMA_DEVICE_AUTO ? cli_open_plan(c) : 0;
    gemma_device_info d = { .size = sizeof d };
    gemma_plan_destroy(c->plan);
    c->plan = NULL;
    if (code || gemma_device_describe(c->runtime, c->device, &d)) return code;
    for (uint32_t i = 0; i < tier.n_devices; i++)
        if (strcmp(tier.devices[i].name, d.name) == 0 && tier.devices[i].gb_s > 0)
            c->probe = (gemma_probe){ .size = sizeof c->probe, .device = c->device, .read_gb_s = tier.devices[i].gb_s };
    return 0;
}

static const char *tier_id(void) { return tier.id; }
#else
static int open_tier(cli *c, const char *path)
{
    return cli_fail(c, "--tier %s: this program was built without Vulkan", path);
}

static int probe_tier(cli *c) { return (void)c, 0; }
static const char *tier_id(void) { return ""; }
#endif

/* ---- output ---- */

static json_t *heaps_json(const cli *c)
{
    json_t *heaps = json_array();
    for (uint32_t h = 0; h < gemma_plan_n_heaps(c->plan); h++) {
        gemma_bill b = { .size = sizeof b };
        gemma_device_info d = { .size = sizeof d };
        gemma_plan_bill(c->plan, h, &b);
        gemma_device_describe(c->runtime, b.device, &d);
        json_t *classes = json_object();
        for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++) {
            uint64_t n = gemma_plan_class_bytes(c->plan, h, k);
            if (n) json_object_set_new(classes, gemma_class_name(k), json_integer((json_int_t)n));
        }
        json_array_append_new(
            heaps, json_pack("{s:s,s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:o}", "device", d.id, "heap", b.heap, "pool", b.pool,
                             "budget", (json_int_t)b.budget_bytes, "planned", (json_int_t)b.total_bytes, "left",
                             (json_int_t)b.budget_bytes - (json_int_t)b.total_bytes, "mapped",
                             (json_int_t)b.mapped_bytes, "file", (json_int_t)b.file_bytes, "classes", classes));
    }
    return heaps;
}

static json_t *predict_json(const cli *c)
{
    gemma_prediction p = { .size = sizeof p };
    gemma_plan_predict(c->plan, &p);
    return json_pack("{s:f,s:f,s:f,s:I,s:I,s:b}", "decode_tok_s", p.decode_tok_s, "decode_full_tok_s",
                     p.decode_full_tok_s, "prefill_tok_s", p.prefill_tok_s, "bytes_per_token",
                     (json_int_t)p.bytes_per_token, "kv_bytes_full", (json_int_t)p.kv_bytes_full, "measured",
                     p.measured && !*tier_id());
}

/* Predictions of the advised plans come from the same file: weights read per token do not change with the context. */
static json_t *advice_json(const cli *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < gemma_plan_n_advice(c->plan); i++) {
        gemma_advice a = { .size = sizeof a };
        gemma_plan_advice(c->plan, i, &a);
        json_t *set =
            json_pack("{s:i,s:s,s:s,s:i,s:i}", "ctx", a.ctx, "kv_global", cli_type_name(a.kv_global), "kv_sliding",
                      cli_type_name(a.kv_sliding), "sessions", a.n_sessions, "ubatch", a.ubatch);
        json_array_append_new(list, json_pack("{s:o,s:I,s:o}", "set", set, "planned", (json_int_t)a.total_bytes,
                                              "predict", predict_json(c)));
    }
    return list;
}

/* Weights that are held as Q8_0 for want of a kernel; without such, nothing is said of them. */
static void add_converted(const cli *c, json_t *root)
{
    gemma_plan_info i = { .size = sizeof i };
    gemma_plan_describe(c->plan, &i);
    if (!i.n_converted) return;
    json_object_set_new(root, "converted",
                        json_pack("{s:i,s:I,s:I,s:s}", "weights", i.n_converted, "bytes", (json_int_t)i.converted_bytes,
                                  "file_bytes", (json_int_t)i.converted_file_bytes, "warning", i.warning));
}

static void print_json(const cli *c, bool fits)
{
    json_t *root = json_pack("{s:b,s:o,s:o,s:o}", "fits", fits, "heaps", heaps_json(c), "predict", predict_json(c),
                             "advice", advice_json(c));
    add_converted(c, root);
    if (*tier_id()) json_object_set_new(root, "tier", json_string(tier_id()));
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(root);
}

static void print_table(const cli *c)
{
    gemma_file_info f = { .size = sizeof f };
    gemma_plan_info i = { .size = sizeof i };
    gemma_prediction p = { .size = sizeof p };
    gemma_file_describe(c->file, &f);
    gemma_plan_describe(c->plan, &i);
    gemma_plan_predict(c->plan, &p);
    if (*tier_id()) printf("on %s, with %s of RAM\n", tier_id(), cli_bytes(c->ram_bytes));
    printf("%s, %s, %.2f billion parameters, mostly %s\n", f.name[0] ? f.name : c->model_path, f.architecture,
           (double)f.n_parameters * 1e-9, f.quantisation);
    printf("context %u of %u tokens, %u session%s, KV %s (global) %s (sliding), steps of up to %u rows\n\n", i.ctx,
           f.ctx_trained, i.n_sessions, i.n_sessions == 1 ? "" : "s", cli_type_name(i.kv_global),
           cli_type_name(i.kv_sliding), i.ubatch);
    cli_print_bill(c, stdout);
    printf("\na token reads %s of weights, and up to %s of KV when the context is full\n", cli_bytes(p.bytes_per_token),
           cli_bytes(p.kv_bytes_full));
    if (p.measured)
        printf("memory reads at %.1f GB/s%s: at most %.1f tok/s, %.1f when the context is full\n", c->probe.read_gb_s,
               *tier_id() ? " (described)" : "", p.decode_tok_s, p.decode_full_tok_s);
    else
        printf("speed unmeasured\n");
}

static void print_advice(const cli *c)
{
    if (gemma_plan_n_advice(c->plan)) fputs("\nThis would fit:\n", stderr);
    for (uint32_t i = 0; i < gemma_plan_n_advice(c->plan); i++) {
        gemma_advice a = { .size = sizeof a };
        gemma_plan_advice(c->plan, i, &a);
        fprintf(stderr, "  --ctx %u --kv-global %s --kv-sliding %s --ubatch %u --sessions %u   (%s of %s)\n", a.ctx,
                cli_type_name(a.kv_global), cli_type_name(a.kv_sliding), a.ubatch, a.n_sessions,
                cli_bytes(a.total_bytes), cli_bytes(a.budget_bytes));
    }
}

static int run(cli *c, bool probe)
{
    int code = cli_open_file(c);
    if (!code && probe) code = c->vulkan ? probe_tier(c) : cli_probe(c);
    if (!code) code = cli_open_plan(c);
    if (code) return code;
    gemma_error e = { .size = sizeof e };
    bool fits = gemma_plan_check(c->plan, &e) == GEMMA_OK;
    if (c->json)
        print_json(c, fits);
    else
        print_table(c);
    if (fits) return 0;
    fflush(stdout);
    cli_fail(c, "%s", e.message);
    if (!c->json) print_advice(c);
    return EXIT_NOFIT;
}

enum { SESSIONS = CLI_OWN, NO_PROBE, TIER };

int main(int argc, char **argv)
{
    cli c = { .program = "gemma-plan" };
    bool probe = true;
    const char *described = NULL;
    static const struct option options[] = { CLI_OPTIONS,
                                             { "sessions", required_argument, NULL, SESSIONS },
                                             { "no-probe", no_argument, NULL, NO_PROBE },
                                             { "tier", required_argument, NULL, TIER },
                                             { 0 } };
    cli_short_name(argv);
    for (int o; (o = getopt_long(argc, argv, "m:h", options, NULL)) != -1;) {
        if (cli_option(&c, o, optarg)) continue;
        if (o == 'h') return printf("%s%s", help, cli_help) < 0;
        if (o == SESSIONS) c.n_sessions = cli_u32(&c, "--sessions", optarg, 1, 1024);
        if (o == NO_PROBE) probe = false;
        if (o == TIER) described = optarg;
    }
    if (optind < argc) cli_usage(&c, "unexpected argument \"%s\"", argv[optind]);
    int code = described ? open_tier(&c, described) : 0;
    if (!code) code = run(&c, probe);
    cli_close(&c);
    return code;
}
