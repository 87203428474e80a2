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

int cli_open_file(cli *c)
{
    gemma_error e = { .size = sizeof e };
    if (!c->model_path) cli_usage(c, "no model: give one with -m FILE");
    c->model_file = cli_find_model(c, c->model_path);
    if (!c->model_file) return EXIT_FAIL;
    gemma_runtime_options ro = {
        .size = sizeof ro, .n_threads = c->threads, .vulkan = c->vulkan, .ram_bytes = c->ram_bytes
    };
    if (gemma_runtime_create(NULL, &ro, &c->runtime, &e)) return fail(c, &e);
    if (gemma_device_find(c->runtime, c->device_name, &c->device, &e)) return fail(c, &e);
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

/* --place CLASS[:LAYERS]=HOME: with one device there is one home, so only its name is accepted. */
static void check_place(const cli *c)
{
    if (!c->place) return;
    const char *equals = strchr(c->place, '=');
    size_t n = strcspn(c->place, ":=");
    bool known = false;
    for (uint32_t i = 0; i < GEMMA_CLASS_COUNT && equals; i++) {
        const char *name = gemma_class_name(i);
        known |= strlen(name) == n && !strncmp(name, c->place, n);
    }
    if (!equals || !known) cli_usage(c, "--place takes CLASS[:LAYERS]=HOME, not \"%s\"", c->place);
    gemma_device_info info = { .size = sizeof info };
    gemma_device_describe(c->runtime, c->device, &info);
    if (strcmp(equals + 1, info.id))
        cli_usage(c, "--place: \"%s\" is no home of this plan; there is: %s", equals + 1, info.id);
}

int cli_open_plan(cli *c)
{
    gemma_error e = { .size = sizeof e };
    int code = c->file ? 0 : cli_open_file(c);
    if (code) return code;
    gemma_plan_options o = {
        .size = sizeof o,
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
    if (gemma_plan_create(c->file, &o, &c->plan, &e)) return fail(c, &e);
    gemma_plan_info info = { .size = sizeof info };
    gemma_plan_describe(c->plan, &info);
    c->device = info.device;
    check_place(c);
    if (info.note[0]) snprintf(c->note, sizeof c->note, "%s", info.note); /* one made again names its device */
    return 0;
}

int cli_open_model(cli *c)
{
    gemma_error e = { .size = sizeof e };
    int code = c->plan ? 0 : cli_open_plan(c);
    if (code) return code;
    meter m = { c, "loading", cli_seconds(), 0 };
    gemma_load_options lo = { .size = sizeof lo, .progress = show_progress, .progress_user = &m, .cancel = c->cancel };
    cli_load_kernels(c);
    if (gemma_model_load(c->plan, &lo, &c->model, &e)) return fail(c, &e);
    cli_keep_kernels(c);
    return 0;
}

int cli_probe(cli *c)
{
    gemma_error e = { .size = sizeof e };
    if (c->device == GEMMA_DEVICE_AUTO) { /* a plan says which it is; it is made again with the measured speed */
        int code = cli_open_plan(c);
        gemma_plan_destroy(c->plan);
        c->plan = NULL;
        if (code) return code;
    }
    c->probe.size = sizeof c->probe;
    if (gemma_device_probe(c->runtime, c->device, c->cancel, &c->probe, &e)) {
        c->probe.size = 0;
        return fail(c, &e);
    }
    return 0;
}

void cli_close(cli *c)
{
    gemma_model_close(c->model);
    gemma_plan_destroy(c->plan);
    gemma_tokenizer_destroy(c->tokenizer);
    gemma_file_close(c->file);
    gemma_cancel_destroy(c->cancel);
    gemma_runtime_destroy(c->runtime);
    free(c->model_file);
}

static void print_bar(FILE *to, uint64_t part, uint64_t whole)
{
    int n = whole ? (int)(24.0 * (double)part / (double)whole + 0.5) : 0;
    if (n > 24) n = 24;
    for (int i = 0; i < 24; i++) fputs(i < n ? "█" : "·", to);
}

void cli_print_bill(const cli *c, FILE *to)
{
    gemma_plan_info info = { .size = sizeof info };
    gemma_plan_describe(c->plan, &info);
    if (c->note[0]) fprintf(to, "on the CPU: %s\n", c->note);
    if (info.warning[0]) fprintf(to, "%s\n", info.warning);
    for (uint32_t h = 0; h < gemma_plan_n_heaps(c->plan); h++) {
        gemma_bill b = { .size = sizeof b };
        gemma_plan_bill(c->plan, h, &b);
        fprintf(to, "%s\n", b.name);
        for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++) {
            uint64_t n = gemma_plan_class_bytes(c->plan, h, k);
            if (!n) continue;
            fprintf(to, "  %-20s %11s  ", gemma_class_name(k), cli_bytes(n));
            print_bar(to, n, b.total_bytes);
            fputc('\n', to);
        }
        fprintf(to, "  %-20s %11s  of %s that may be used", "total", cli_bytes(b.total_bytes),
                cli_bytes(b.budget_bytes));
        if (b.total_bytes <= b.budget_bytes)
            fprintf(to, "; %s left\n", cli_bytes(b.budget_bytes - b.total_bytes));
        else
            fprintf(to, "; %s short\n", cli_bytes(b.total_bytes - b.budget_bytes));
        if (b.file_bytes)
            fprintf(to, "  %-20s %11s  stay in the file, a row read for every token\n", "per-layer embedding",
                    cli_bytes(b.file_bytes));
        if (b.mapped_bytes)
            fprintf(to, "  %-20s %11s  read in place from the mapped file\n", "weights", cli_bytes(b.mapped_bytes));
    }
}
