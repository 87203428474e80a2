/* Opening: file, tokenizer, plan, model; the bill as a table. */
#include "cli.h"
#include "models.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const cli *c, const gemma_error *e)
{
    cli_fail(c, "%s", e->message);
    return e->code == GEMMA_E_NOFIT || e->code == GEMMA_E_STALE ? EXIT_NOFIT : EXIT_FAIL;
}

typedef struct meter {
    const cli *c;
    const char *what;
    double started, shown;
} meter;

/* A progress line on a terminal, for work that takes longer than half a second. */
static int show_progress(void *user, uint64_t done, uint64_t total)
{
    meter *m = user;
    double now = cli_seconds();
    if (m->c->tick) m->c->tick(m->c->hook_user, m->what, done, total);
    if (m->c->quiet || !isatty(2)) return 0;
    bool last = done >= total;
    if (now - m->started > 0.5 && (now - m->shown > 0.1 || (last && m->shown > 0))) {
        double percent = total ? 100.0 * (double)done / (double)total : 100.0;
        fprintf(stderr, "\r%s %s of %s  %3.0f %%  %.2f GB/s ", m->what, cli_bytes(done), cli_bytes(total), percent,
                (double)done * 1e-9 / (now - m->started));
        m->shown = now;
    }
    if (last && m->shown > 0) fputs("\r\033[K", stderr);
    return 0;
}

/* Drivers take time to load, and memory. */
static bool needs_no_gpu(const cli *c)
{
    bool cpu = c->device_name && (!strcmp(c->device_name, "cpu") || !strcmp(c->device_name, "reference"));
    return c->no_device || (cpu && !c->vulkan && !c->n_wishes && !c->probe_others && c->fit != GEMMA_FIT_SPLIT);
}

int cli_open_file(cli *c)
{
    gemma_error e = { .size = sizeof e };
    if (!c->model_path) cli_usage(c, "no model: give one with -m FILE");
    c->model_file = cli_find_model(c, c->model_path);
    if (!c->model_file) return EXIT_FAIL;
    gemma_runtime_options ro = { .size = sizeof ro,
                                 .n_threads = c->threads,
                                 .flags = needs_no_gpu(c) ? GEMMA_RUNTIME_NO_VULKAN : 0,
                                 .vulkan = c->vulkan,
                                 .ram_bytes = c->ram_bytes };
    if (gemma_runtime_create(c->host, &ro, &c->runtime, &e)) return fail(c, &e);
    if (gemma_device_find(c->runtime, c->device_name, &c->device, &e)) return fail(c, &e);
    cli_find_homes(c);
    if (gemma_cancel_create(c->runtime, &c->cancel, &e)) return fail(c, &e);
    meter m = { c, "reading", cli_seconds(), 0 };
    gemma_file_options fo = {
        .size = sizeof fo, .flags = c->no_map ? 0 : GEMMA_FILE_MAP, .progress = show_progress, .progress_user = &m
    };
    if (gemma_file_open(c->runtime, c->model_file, &fo, &c->file, &e)) return fail(c, &e);
    return 0;
}

int cli_open_tokenizer(cli *c)
{
    gemma_error e = { .size = sizeof e };
    int code = c->file ? 0 : cli_open_file(c);
    if (!code && gemma_tokenizer_create(c->file, &c->tokenizer, &e)) code = fail(c, &e);
    return code;
}

void cli_plan_options(cli *c, gemma_plan_options *o)
{
    *o = (gemma_plan_options){
        .size = sizeof *o,
        .device = c->device,
        .ctx = c->ctx,
        .kv_global = c->kv_global,
        .kv_sliding = c->kv_sliding,
        .ubatch = c->ubatch,
        .fit = c->fit,
        .logit_rows = c->logit_rows,
        .n_marks = c->n_marks,
        .n_sessions = c->n_sessions,
        .probe = c->probe.size ? &c->probe : NULL,
    };
    cli_place(c, o);
}

int cli_open_plan(cli *c)
{
    gemma_error e = { .size = sizeof e };
    int code = c->file ? 0 : cli_open_file(c);
    if (code) return code;
    gemma_plan_options o;
    cli_plan_options(c, &o);
    if (gemma_plan_create(c->file, &o, &c->plan, &e)) return fail(c, &e);
    gemma_plan_info info = { .size = sizeof info };
    gemma_plan_describe(c->plan, &info);
    c->device = info.device;
    cli_check_wishes(c);
    if (info.note[0]) snprintf(c->note, sizeof c->note, "%s", info.note); /* one made again names its device */
    return 0;
}

int cli_open_model(cli *c)
{
    gemma_error e = { .size = sizeof e };
    int code = c->plan ? 0 : cli_open_plan(c);
    if (code) return code;
    meter m = { c, "loading", cli_seconds(), 0 };
    gemma_load_options lo = { .size = sizeof lo,
                              .progress = show_progress,
                              .progress_user = &m,
                              .cancel = c->cancel,
                              .pressure = c->pressure,
                              .pressure_user = c->hook_user };
    cli_load_kernels(c);
    if (gemma_model_load(c->plan, &lo, &c->model, &e)) {
        code = fail(c, &e);
        if (code == EXIT_NOFIT) fputs("gemma-plan with the same flags lists all that would fit.\n", stderr);
        return code;
    }
    cli_keep_kernels(c);
    return 0;
}

void cli_add_probe(cli *c, const gemma_probe *probe)
{
    if (!c->probe.size) {
        c->probe = *probe;
        return;
    }
    if (c->n_other_probes == CLI_PROBES_MAX) return;
    gemma_probe *other = &c->other_probes[c->n_other_probes++];
    *other = *probe;
    other->next = c->probe.next;
    c->probe.next = other;
}

/* The CPU and real GPUs are what a plan may use besides its own device. */
static void probe_others(cli *c)
{
    for (uint32_t i = 0; i < gemma_device_count(c->runtime); i++) {
        gemma_device_info d = { .size = sizeof d };
        gemma_probe probe = { .size = sizeof probe };
        gemma_device_describe(c->runtime, i, &d);
        bool gpu = d.kind == GEMMA_DEVICE_DISCRETE || d.kind == GEMMA_DEVICE_INTEGRATED;
        if (i == c->device || !d.usable || (i && !gpu)) continue;
        if (!gemma_device_probe(c->runtime, i, c->cancel, &probe, NULL)) cli_add_probe(c, &probe);
    }
}

int cli_probe(cli *c)
{
    gemma_error e = { .size = sizeof e };
    gemma_probe probe = { .size = sizeof probe };
    if (c->device == GEMMA_DEVICE_AUTO) { /* a plan says which it is; it is made again with the measured speed */
        int code = cli_open_plan(c);
        gemma_plan_destroy(c->plan);
        c->plan = NULL;
        if (code) return code;
    }
    if (!c->probe.size) {
        if (gemma_device_probe(c->runtime, c->device, c->cancel, &probe, &e)) return fail(c, &e);
        cli_add_probe(c, &probe);
    }
    bool others = c->probe_others || c->fit == GEMMA_FIT_SPLIT || c->n_wishes;
    if (others && !c->n_other_probes) probe_others(c);
    return 0;
}

void cli_close_file(cli *c)
{
    gemma_model_close(c->model);
    gemma_plan_destroy(c->plan);
    gemma_tokenizer_destroy(c->tokenizer);
    gemma_file_close(c->file);
    c->model = NULL;
    c->plan = NULL;
    c->tokenizer = NULL;
    c->file = NULL;
}

void cli_close(cli *c)
{
    cli_close_file(c);
    gemma_cancel_destroy(c->cancel);
    gemma_runtime_destroy(c->runtime);
    free(c->model_file);
}
