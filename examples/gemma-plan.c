/* gemma-plan: where every byte of a model would lie, before anything is loaded. */
#include "common/bill.h"
#ifdef HAVE_VULKAN
#include "common/machine_host.h"
#endif

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: gemma-plan -m FILE [options]\n\n"
    "Prints the bill of a plan: bytes by class and heap, what a token reads, the predicted speed.\n"
    "Exit status 3: it does not fit (what would fit is listed).\n\n"
    "      --sessions N        conversations alive at once (default: 1)\n"
    "      --svg FILE          the bill as a picture\n"
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

/* The described bandwidth of a device; that of the CPU where a GPU draws on the same memory. 0: not described. */
static double described_gb_s(const gemma_device_info *d)
{
    double gb_s = 0;
    for (uint32_t i = 0; i < tier.n_devices && i < MACHINE_DEVICES_MAX && !(gb_s > 0); i++) {
        const machine_device *m = &tier.devices[i];
        bool same = d->kind == GEMMA_DEVICE_CPU ? m->shared_heaps != 0 : strcmp(m->name, d->name) == 0;
        if (same) gb_s = m->gb_s;
    }
    return gb_s;
}

/* What is described in place of what is measured: first of the device that the plan is for. */
static int probe_tier(cli *c)
{
    int code = c->device == GEMMA_DEVICE_AUTO ? cli_open_plan(c) : 0;
    gemma_plan_destroy(c->plan);
    c->plan = NULL;
    uint32_t n = gemma_device_count(c->runtime);
    for (uint32_t i = 0; i < n && !code && c->device < n; i++) {
        gemma_device_info d = { .size = sizeof d };
        uint32_t device = i == 0 ? c->device : i <= c->device ? i - 1 : i;
        gemma_device_describe(c->runtime, device, &d);
        if (i && device && d.kind == GEMMA_DEVICE_CPU) continue; /* the reference is for tests */
        gemma_probe probe = { .size = sizeof probe, .device = device, .read_gb_s = described_gb_s(&d) };
        if (probe.read_gb_s > 0 && (i == 0 || c->probe.size)) cli_add_probe(c, &probe);
    }
    return code;
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

/* ---- what would fit ---- */

typedef struct choice {
    gemma_advice advice;
    gemma_plan *plan;
    bool map; /* without --no-map */
} choice;
enum { OPTIONS_MAX = 12 };

/* The same plan with the file mapped, if that is what is in the way. */
static gemma_plan *plan_mapped(cli *c)
{
    gemma_file_options fo = { .size = sizeof fo, .flags = GEMMA_FILE_MAP };
    gemma_plan_options po;
    gemma_file *file = NULL;
    gemma_plan *plan = NULL;
    cli_plan_options(c, &po);
    if (c->no_map && !gemma_file_open(c->runtime, c->model_file, &fo, &file, NULL))
        gemma_plan_create(file, &po, &plan, NULL);
    gemma_file_close(file); /* the plan keeps it */
    if (!plan || !gemma_plan_check(plan, NULL)) return plan;
    gemma_plan_destroy(plan);
    return NULL;
}

/* The plan's advice, each made into the plan that it promises. */
static uint32_t find_options(cli *c, choice *list)
{
    uint32_t n = 0;
    for (; n < gemma_plan_n_advice(c->plan) && n + 1 < OPTIONS_MAX; n++) {
        gemma_advice *a = &list[n].advice;
        *a = (gemma_advice){ .size = sizeof *a };
        gemma_plan_advice(c->plan, n, a);
        gemma_plan_options o;
        cli_plan_options(c, &o);
        o.ctx = a->ctx;
        o.kv_global = a->kv_global;
        o.kv_sliding = a->kv_sliding;
        o.n_sessions = a->n_sessions;
        o.ubatch = a->ubatch;
        o.fit = a->fit;
        list[n].plan = NULL;
        list[n].map = false;
        gemma_plan_create(c->file, &o, &list[n].plan, NULL);
    }
    gemma_plan_info i = { .size = sizeof i };
    gemma_bill b = { .size = sizeof b };
    gemma_plan *mapped = plan_mapped(c);
    if (!mapped) return n;
    gemma_plan_describe(mapped, &i);
    gemma_plan_bill(mapped, 0, &b);
    list[n] = (choice){ .advice = { .ctx = i.ctx,
                                    .kv_global = i.kv_global,
                                    .kv_sliding = i.kv_sliding,
                                    .n_sessions = i.n_sessions,
                                    .ubatch = i.ubatch,
                                    .fit = c->fit,
                                    .second_device = i.device,
                                    .total_bytes = b.total_bytes,
                                    .budget_bytes = b.budget_bytes },
                        .plan = mapped,
                        .map = true };
    return n + 1;
}

static void forget_options(choice *list, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) gemma_plan_destroy(list[i].plan);
}

/* ---- JSON ---- */

static bool is_measured(void) { return !*tier_id(); }

static json_t *advice_json(const cli *c, const choice *list, uint32_t n)
{
    json_t *advice = json_array();
    for (uint32_t i = 0; i < n; i++) {
        const gemma_advice *a = &list[i].advice;
        json_t *set =
            json_pack("{s:i,s:s,s:s,s:i,s:i,s:s,s:b}", "ctx", a->ctx, "kv_global", cli_type_name(a->kv_global),
                      "kv_sliding", cli_type_name(a->kv_sliding), "sessions", a->n_sessions, "ubatch", a->ubatch, "fit",
                      cli_fit_name(a->fit), "map", list[i].map || !c->no_map);
        json_t *entry = json_pack("{s:o,s:I,s:I}", "set", set, "planned", (json_int_t)a->total_bytes, "budget",
                                  (json_int_t)a->budget_bytes);
        if (list[i].plan) json_object_set_new(entry, "predict", bill_predict_json(list[i].plan, is_measured()));
        gemma_device_info d = { .size = sizeof d };
        if (a->fit == GEMMA_FIT_SPLIT && !gemma_device_describe(c->runtime, a->second_device, &d))
            json_object_set_new(
                entry, "split",
                json_pack("{s:s,s:i,s:i}", "device", d.id, "layers", a->split_layers, "experts", a->split_experts));
        json_array_append_new(advice, entry);
    }
    return advice;
}

/* What only some plans have: weights held as Q8_0 for want of a kernel, a second device, a described machine. */
static void add_particulars(const cli *c, json_t *root)
{
    gemma_plan_info i = { .size = sizeof i };
    gemma_device_info d = { .size = sizeof d };
    gemma_plan_describe(c->plan, &i);
    gemma_device_describe(c->runtime, i.second_device, &d);
    if (i.n_converted)
        json_object_set_new(root, "converted",
                            json_pack("{s:i,s:I,s:I,s:s}", "weights", i.n_converted, "bytes",
                                      (json_int_t)i.converted_bytes, "file_bytes", (json_int_t)i.converted_file_bytes,
                                      "warning", i.warning));
    if (i.split_layers || i.split_experts)
        json_object_set_new(
            root, "split",
            json_pack("{s:s,s:i,s:i}", "device", d.id, "layers", i.split_layers, "experts", i.split_experts));
    if (*tier_id()) json_object_set_new(root, "tier", json_string(tier_id()));
}

static void print_json(const cli *c, bool fits, const choice *list, uint32_t n)
{
    json_t *root = json_pack("{s:b,s:o,s:o,s:o}", "fits", fits, "heaps", bill_json(c), "predict",
                             bill_predict_json(c->plan, is_measured()), "advice", advice_json(c, list, n));
    add_particulars(c, root);
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(root);
}

/* ---- text ---- */

static void print_speed(const cli *c, const gemma_prediction *p)
{
    if (!c->probe.size) {
        puts("speed unmeasured");
        return;
    }
    fputs("memory reads at ", stdout);
    for (const gemma_probe *probe = &c->probe; probe; probe = probe->next) {
        gemma_device_info d = { .size = sizeof d };
        gemma_device_describe(c->runtime, probe->device, &d);
        printf("%s%.1f GB/s", probe == &c->probe ? "" : ", ", probe->read_gb_s);
        if (c->probe.next) printf(" on %s", d.id);
    }
    fputs(*tier_id() ? " (described): " : ": ", stdout);
    if (p->measured)
        printf("at most %.1f tok/s, %.1f when the context is full\n", p->decode_tok_s, p->decode_full_tok_s);
    else
        puts("not all of the plan's devices are measured, so no speed is predicted");
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
    print_speed(c, &p);
}

/* The flags that a piece of advice changes. */
static void advice_flags(const cli *c, const choice *o, char *text, size_t n)
{
    gemma_plan_info i = { .size = sizeof i };
    const gemma_advice *a = &o->advice;
    gemma_plan_describe(c->plan, &i);
    bool global = a->kv_global != i.kv_global, sliding = a->kv_sliding != i.kv_sliding;
    bool both = global && sliding && a->kv_global == a->kv_sliding;
    size_t at = 0;
    text[0] = '\0';
    if (a->ctx != i.ctx) at += (size_t)snprintf(text + at, n - at, " --ctx %u", a->ctx);
    if (both) at += (size_t)snprintf(text + at, n - at, " --kv %s", cli_type_name(a->kv_global));
    if (global && !both) at += (size_t)snprintf(text + at, n - at, " --kv-global %s", cli_type_name(a->kv_global));
    if (sliding && !both) at += (size_t)snprintf(text + at, n - at, " --kv-sliding %s", cli_type_name(a->kv_sliding));
    if (a->ubatch != i.ubatch) at += (size_t)snprintf(text + at, n - at, " --ubatch %u", a->ubatch);
    if (a->n_sessions != i.n_sessions) at += (size_t)snprintf(text + at, n - at, " --sessions %u", a->n_sessions);
    if (a->fit != c->fit) at += (size_t)snprintf(text + at, n - at, " --fit %s", cli_fit_name(a->fit));
    if (o->map) snprintf(text + at, n - at, " without --no-map");
}

static void print_advice(const cli *c, const choice *list, uint32_t n)
{
    if (!n) fputs("\nNo context, KV type or split makes it fit: take a smaller model or quantisation.\n", stderr);
    if (n) fputs("\nThis would fit:\n", stderr);
    for (uint32_t i = 0; i < n; i++) {
        char flags[200], split[400] = "";
        gemma_prediction p = { .size = sizeof p };
        gemma_plan_info info = { .size = sizeof info };
        advice_flags(c, &list[i], flags, sizeof flags);
        fprintf(stderr, "  %-40s %s of %s", flags + (flags[0] == ' '), cli_bytes(list[i].advice.total_bytes),
                cli_bytes(list[i].advice.budget_bytes));
        if (list[i].plan) {
            gemma_plan_predict(list[i].plan, &p);
            gemma_plan_describe(list[i].plan, &info);
            bill_split_text(c, &info, split, sizeof split);
        }
        if (p.measured)
            fprintf(stderr, ", %.1f tok/s, %.1f when the context is full", p.decode_tok_s, p.decode_full_tok_s);
        fprintf(stderr, "%s%s\n", split[0] ? ": " : "", split);
    }
}

static int draw(const cli *c, const char *svg)
{
    gemma_file_info f = { .size = sizeof f };
    gemma_plan_info i = { .size = sizeof i };
    char title[256];
    gemma_file_describe(c->file, &f);
    gemma_plan_describe(c->plan, &i);
    snprintf(title, sizeof title, "%s, context %u, KV %s%s%s", f.name[0] ? f.name : c->model_path, i.ctx,
             cli_type_name(i.kv_global), *tier_id() ? ", on " : "", tier_id());
    return bill_write_svg(c, svg, title);
}

/* The plan once more when it does not fit: a split needs the speeds of other devices too. */
static int measure_others(cli *c)
{
    gemma_plan_destroy(c->plan);
    c->plan = NULL;
    c->probe_others = true;
    int code = cli_probe(c);
    return code ? code : cli_open_plan(c);
}

static int run(cli *c, bool probe, const char *svg)
{
    choice list[OPTIONS_MAX];
    gemma_error e = { .size = sizeof e };
    int code = cli_open_file(c);
    if (!code && probe) code = c->vulkan ? probe_tier(c) : cli_probe(c);
    if (!code) code = cli_open_plan(c);
    if (code) return code;
    bool fits = gemma_plan_check(c->plan, &e) == GEMMA_OK;
    if (!fits && probe && !c->vulkan && (code = measure_others(c)) != 0) return code;
    uint32_t n = fits ? 0 : find_options(c, list);
    if (c->json)
        print_json(c, fits, list, n);
    else
        print_table(c);
    if (svg) code = draw(c, svg);
    fflush(stdout);
    if (!fits) cli_fail(c, "%s", e.message);
    if (!fits && !c->json) print_advice(c, list, n);
    forget_options(list, n);
    return code ? code : fits ? 0 : EXIT_NOFIT;
}

enum { SESSIONS = CLI_OWN, NO_PROBE, TIER, SVG };

int main(int argc, char **argv)
{
    cli c = { .program = "gemma-plan" };
    bool probe = true;
    const char *described = NULL, *svg = NULL;
    static const struct option options[] = { CLI_OPTIONS,
                                             { "sessions", required_argument, NULL, SESSIONS },
                                             { "no-probe", no_argument, NULL, NO_PROBE },
                                             { "tier", required_argument, NULL, TIER },
                                             { "svg", required_argument, NULL, SVG },
                                             { 0 } };
    cli_short_name(argv);
    for (int o; (o = getopt_long(argc, argv, "m:h", options, NULL)) != -1;) {
        if (cli_option(&c, o, optarg)) continue;
        if (o == 'h') return printf("%s%s", help, cli_help) < 0;
        if (o == SESSIONS) c.n_sessions = cli_u32(&c, "--sessions", optarg, 1, 1024);
        if (o == NO_PROBE) probe = false;
        if (o == TIER) described = optarg;
        if (o == SVG) svg = optarg;
    }
    if (optind < argc) cli_usage(&c, "unexpected argument \"%s\"", argv[optind]);
    int code = described ? open_tier(&c, described) : 0;
    if (!code) code = run(&c, probe, svg);
    cli_close(&c);
    return code;
}
