/* gemma-watch: bars of memory in the terminal, from the status file of a running program or of this machine's devices. */
#include "common/cli.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
    "Usage: gemma-watch [FILE] [options]\n\n"
    "Shows who has what of each heap, and how fast it is read: from FILE, which a program rewrites once a second\n"
    "(gemma-chat --status FILE). Without FILE: the devices of this machine and their heaps. Ctrl-C ends it.\n\n"
    "      --once              print once, as plain text, and leave\n"
    "      --interval S        seconds between two looks (default: 1)\n"
    "  -h, --help              this text\n"
    "      --version           the library's version\n";

typedef struct watch {
    cli c;
    const char *file;
    bool once, colour; /* colour: a terminal */
    double interval_s;
    int columns, rows;
} watch;

/* ---- bars ---- */

/* How a class is drawn: a letter, or a block in one of the terminal's 256 colours. */
static const struct {
    char letter;
    int colour;
} looks[GEMMA_CLASS_COUNT] = {
    [GEMMA_CLASS_EMBEDDING] = { 'E', 67 },  [GEMMA_CLASS_PLE] = { 'P', 110 },
    [GEMMA_CLASS_ATTENTION] = { 'A', 172 }, [GEMMA_CLASS_FFN] = { 'F', 71 },
    [GEMMA_CLASS_EXPERTS] = { 'X', 98 },    [GEMMA_CLASS_HEAD] = { 'H', 132 },
    [GEMMA_CLASS_NORMS] = { 'N', 95 },      [GEMMA_CLASS_KV_SLIDING] = { 'S', 36 },
    [GEMMA_CLASS_KV_GLOBAL] = { 'G', 167 }, [GEMMA_CLASS_MARKS] = { 'M', 136 },
    [GEMMA_CLASS_SCRATCH] = { 'W', 102 },   [GEMMA_CLASS_STAGING] = { 'T', 145 },
    [GEMMA_CLASS_DRIVER] = { 'D', 59 },
};
enum { OTHERS = 240, OURS = 250 };

typedef struct bar {
    const watch *w;
    FILE *to;
    double cells_per_byte;
    double at; /* bytes so far */
    int drawn, n_cells;
} bar;

static bar bar_begin(const watch *w, FILE *to, double total)
{
    int n = w->columns - 6;
    bar b = { .w = w, .to = to, .n_cells = n > 100 ? 100 : n < 20 ? 20 : n };
    b.cells_per_byte = total > 0 ? b.n_cells / total : 0;
    fputs("  [", to);
    return b;
}

/* Cells up to where the part ends; a part that is too small for one leaves its place to the next. */
static void bar_part(bar *b, double n_bytes, char letter, int colour)
{
    b->at += n_bytes > 0 ? n_bytes : 0;
    int end = (int)lround(b->at * b->cells_per_byte);
    if (end > b->n_cells) end = b->n_cells;
    if (end <= b->drawn) return;
    if (b->w->colour) fprintf(b->to, "\033[38;5;%dm", colour);
    for (; b->drawn < end; b->drawn++) {
        if (b->w->colour)
            fputs(letter == '.' ? "·" : letter == '#' ? "▒" : "█", b->to);
        else
            fputc(letter, b->to);
    }
    if (b->w->colour) fputs("\033[0m", b->to);
}

static void bar_end(bar *b)
{
    for (; b->drawn < b->n_cells; b->drawn++) fputc(' ', b->to);
    fputs("]\n", b->to);
}

/* ---- from a status file ---- */

static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }
static const char *words(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}
static const char *bytes(double n) { return cli_bytes(n > 0 ? (uint64_t)n : 0); }

static void show_classes(const watch *w, FILE *to, const json_t *classes)
{
    bool any = false;
    fputs("  ", to);
    for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++) {
        double n = number(classes, gemma_class_name(k));
        if (!(n > 0)) continue;
        fputs(any ? ", " : "", to);
        if (w->colour)
            fprintf(to, "\033[38;5;%dm█\033[0m ", looks[k].colour);
        else
            fprintf(to, "%c ", looks[k].letter);
        fprintf(to, "%s %s", gemma_class_name(k), bytes(n));
        any = true;
    }
    fputs(any ? "\n" : "nothing\n", to);
}

static void show_heap(const watch *w, FILE *to, const json_t *heap)
{
    const json_t *now = json_object_get(heap, "now"), *classes = json_object_get(heap, "classes");
    double total = number(now, "total"), budget = number(now, "budget"), used = number(now, "used");
    double planned = number(heap, "planned"), held = used > planned ? used : planned;
    bool told = !json_is_false(json_object_get(heap, "reported"));
    fprintf(to, "%s  [%s, heap %.0f]\n", words(heap, "name"), words(heap, "device"), number(heap, "heap"));
    bar b = bar_begin(w, to, total);
    uint32_t largest = 0;
    for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++)
        if (number(classes, gemma_class_name(k)) > number(classes, gemma_class_name(largest))) largest = k;
    for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++)
        bar_part(&b, number(classes, gemma_class_name(k)), looks[k].letter, looks[k].colour);
    if (planned > 0 && !b.drawn)
        bar_part(&b, 1 / b.cells_per_byte - b.at, looks[largest].letter, looks[largest].colour);
    bar_part(&b, held - planned, 'o', OURS);
    bar_part(&b, budget - b.at, '.', OTHERS);
    bar_part(&b, total - b.at, '#', OTHERS);
    bar_end(&b);
    fprintf(to, "  ours %s", bytes(held));
    if (held > 1.02 * planned) fprintf(to, " (o %s beside the plan)", bytes(held - planned));
    fputs(" of ", to);
    if (told)
        fprintf(to, "a budget of %s (# others and the system %s of %s)", bytes(budget), bytes(total - budget),
                bytes(total));
    else
        fprintf(to, "%s; the driver tells no budget, so what others have is not known", bytes(total));
    if (held > budget)
        fprintf(to, "%s; OVER BY %s%s", w->colour ? "\033[1;31m" : "", bytes(held - budget),
                w->colour ? "\033[0m" : "");
    fputc('\n', to);
    show_classes(w, to, classes);
    double in_file = number(heap, "mapped") + number(heap, "file");
    if (in_file > 0) fprintf(to, "  and %s that stay in the file\n", bytes(in_file));
}

static void show_events(FILE *to, const json_t *events)
{
    size_t i;
    json_t *e;
    if (json_array_size(events)) fputs("events\n", to);
    json_array_foreach(events, i, e)
    {
        time_t when = (time_t)number(e, "time");
        struct tm t;
        char clock[16];
        strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&when, &t));
        fprintf(to, "  %s  %-9s %s heap %.0f: budget %s, we hold %s", clock, words(e, "kind"), words(e, "device"),
                number(e, "heap"), bytes(number(e, "budget")), bytes(number(e, "planned")));
        if (number(e, "slow") > 0)
            fprintf(to, "; %s read at %.1f GB/s instead of %.1f", bytes(number(e, "slow")), number(e, "gb_s"),
                    number(e, "expected_gb_s"));
        fputc('\n', to);
    }
}

static void show_head(const watch *w, FILE *to, const json_t *x)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double age = (double)now.tv_sec + (double)now.tv_nsec * 1e-9 - number(x, "time"), done = number(x, "done");
    bool ended = !strcmp(words(x, "doing"), "ended");
    pid_t pid = (pid_t)number(x, "pid");
    fprintf(to, "%s, process %d: %s", words(x, "program"), (int)pid, words(x, "doing"));
    if (number(x, "total") > 0) fprintf(to, ", %.0f %%", 100 * done / number(x, "total"));
    if (age > 3 + 2 * w->interval_s && !ended) {
        bool gone = pid > 0 && kill(pid, 0) && errno == ESRCH;
        fprintf(to, "; written %.0f s ago%s", age, gone ? ": it has ended without saying so" : "");
    }
    fprintf(to, "\n%s\n\n", words(x, "model"));
}

static void show_status(const watch *w, FILE *to, const json_t *x)
{
    size_t i;
    json_t *heap;
    const json_t *speed = json_object_get(x, "speed");
    show_head(w, to, x);
    json_array_foreach(json_object_get(x, "heaps"), i, heap) show_heap(w, to, heap);
    fprintf(to, "\ncontext %.0f of %.0f tokens", number(x, "position"), number(x, "ctx"));
    if (number(speed, "tok_s") > 0)
        fprintf(to, "; %.1f tok/s = %.2f GB/s", number(speed, "tok_s"), number(speed, "gb_s"));
    if (number(speed, "bandwidth_pct") > 0)
        fprintf(to, ", %.0f %% of the %.1f GB/s measured", number(speed, "bandwidth_pct"),
                number(speed, "measured_gb_s"));
    fputc('\n', to);
    show_events(to, json_object_get(x, "events"));
}

/* false: there is nothing to show, and why. */
static bool show_file(const watch *w, FILE *to, char *why, size_t n)
{
    json_error_t error;
    json_t *x = json_load_file(w->file, 0, &error);
    bool good = json_is_array(json_object_get(x, "heaps")) && json_is_string(json_object_get(x, "program"));
    if (good)
        show_status(w, to, x);
    else if (access(w->file, R_OK))
        snprintf(why, n, "cannot read %s: %s", w->file, strerror(errno));
    else
        snprintf(why, n, "%s is no status file%s%s", w->file, *error.text && !x ? ": " : "", x ? "" : error.text);
    json_decref(x);
    return good;
}

/* ---- the devices ---- */

static void show_devices(const watch *w, FILE *to)
{
    for (uint32_t i = 0; i < gemma_device_count(w->c.runtime); i++) {
        gemma_device_info d = { .size = sizeof d };
        gemma_device_describe(w->c.runtime, i, &d);
        if (!strcmp(d.id, "reference")) continue; /* the CPU once more */
        fprintf(to, "%s  %s\n", d.id, d.name);
        if (!d.usable) fprintf(to, "  cannot be used: %s\n", d.reason);
        for (uint32_t k = 0; k < d.n_heaps; k++) {
            gemma_heap_info h = { .size = sizeof h };
            gemma_heap_describe(w->c.runtime, i, k, &h);
            double total = (double)h.total_bytes, budget = (double)h.budget_bytes;
            bar b = bar_begin(w, to, total);
            bar_part(&b, budget, '.', OTHERS);
            bar_part(&b, total - budget, '#', OTHERS);
            bar_end(&b);
            fprintf(to, "  heap %u, %s: ", k, h.name);
            if (h.reported)
                fprintf(to, "%s may be used, # others and the system have %s of %s\n", bytes(budget),
                        bytes(total - budget), bytes(total));
            else
                fprintf(to, "%s; the driver tells no budget\n", bytes(total));
        }
    }
}

static int open_devices(watch *w)
{
    gemma_error e = { .size = sizeof e };
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 1 };
    return gemma_runtime_create(NULL, &ro, &w->c.runtime, &e) ? cli_fail(&w->c, "%s", e.message) : 0;
}

/* ---- the terminal ---- */

static volatile sig_atomic_t ends;
static void on_end(int signal_number)
{
    (void)signal_number;
    ends = 1;
}

static void measure_terminal(watch *w)
{
    struct winsize size;
    w->columns = 80;
    w->rows = 0; /* any number */
    if (!w->colour || ioctl(1, TIOCGWINSZ, &size) || !size.ws_col) return;
    w->columns = size.ws_col;
    w->rows = size.ws_row;
}

/* A screen of its own, without cursor and line wrap; given back as it was. */
static void enter_screen(const watch *w)
{
    if (w->colour) fputs("\033[?1049h\033[?25l\033[?7l", stdout);
}

static void leave_screen(const watch *w)
{
    if (w->colour) fputs("\033[?7h\033[?25h\033[?1049l", stdout);
    fflush(stdout);
}

/* Over what is there, line by line, so that nothing flickers; what does not fit the screen is left out. */
static void paint(const watch *w, const char *text)
{
    if (!w->colour) {
        fputs(text, stdout);
        fflush(stdout);
        return;
    }
    fputs("\033[H", stdout);
    for (int row = 1; *text; row++) {
        size_t n = strcspn(text, "\n");
        bool last = w->rows && row >= w->rows;
        printf("%.*s\033[K%s", (int)n, text, last ? "" : "\n");
        if (last) break;
        text += n + (text[n] == '\n');
    }
    fputs("\033[J", stdout);
    fflush(stdout);
}

/* One look. 0, or an exit code when there is nothing to show and that ends the program. */
static int look(watch *w)
{
    char why[512] = "", *text = NULL;
    size_t n;
    FILE *to = open_memstream(&text, &n);
    if (!to) return cli_fail(&w->c, "out of memory");
    measure_terminal(w);
    bool good = true;
    if (w->file)
        good = show_file(w, to, why, sizeof why);
    else
        show_devices(w, to);
    if (!good) fprintf(to, "%s\n", why);
    fclose(to);
    if (good || !w->once) paint(w, text);
    free(text);
    return good || !w->once ? 0 : cli_fail(&w->c, "%s", why);
}

static int run(watch *w)
{
    int code = w->file ? 0 : open_devices(w);
    if (code || w->once) return code ? code : look(w);
    struct sigaction action = { .sa_handler = on_end };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    enter_screen(w);
    while (!ends && !code) {
        struct timespec pause = { (time_t)w->interval_s, (long)((w->interval_s - floor(w->interval_s)) * 1e9) };
        code = look(w);
        if (!w->colour) putchar('\n');
        if (!ends && !code) nanosleep(&pause, NULL);
    }
    leave_screen(w);
    return code;
}

enum { ONCE = CLI_OWN, INTERVAL };

int main(int argc, char **argv)
{
    watch w = { .c = { .program = "gemma-watch" }, .interval_s = 1 };
    static const struct option options[] = { { "help", no_argument, NULL, 'h' },
                                             { "version", no_argument, NULL, CLI_VERSION },
                                             { "once", no_argument, NULL, ONCE },
                                             { "interval", required_argument, NULL, INTERVAL },
                                             { 0 } };
    cli_short_name(argv);
    for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (cli_option(&w.c, o, optarg)) continue;
        if (o == 'h') return printf("%s", help) < 0;
        if (o == ONCE) w.once = true;
        if (o == INTERVAL) w.interval_s = cli_double(&w.c, "--interval", optarg, 0.05, 3600);
    }
    if (optind < argc) w.file = argv[optind++];
    if (optind < argc) cli_usage(&w.c, "unexpected argument \"%s\"", argv[optind]);
    w.colour = !w.once && isatty(1);
    int code = run(&w);
    gemma_runtime_destroy(w.c.runtime);
    return code;
}
