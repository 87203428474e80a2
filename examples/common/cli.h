/* What the command-line programs share: their common flags, opening a model with progress, messages, exit codes. */
#ifndef CLI_H
#define CLI_H

#include <gemma.h>

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { EXIT_FAIL = 1, EXIT_USAGE = 2, EXIT_NOFIT = 3 };

enum { CLI_WISHES_MAX = 32, CLI_PROBES_MAX = 16 };

/* --place: where bytes of some classes and layers are to lie. */
typedef struct cli_wish {
    const char *text, *home;   /* as given */
    uint32_t classes;          /* bits 1 << GEMMA_CLASS_… */
    int32_t first, last, step; /* layers; first -1: all, and what is of none */
    bool anywhere;             /* "file", "memory"; else of `device` */
    uint32_t device;
    /* what the plan's questions showed */
    bool has_class, concerned, refused;
    char what[24], homes[160]; /* the class that was refused, and the homes there are for it */
} cli_wish;

typedef struct cli {
    const char *program;
    /* flags */
    const char *model_path, *device_name;
    cli_wish wishes[CLI_WISHES_MAX];
    uint32_t n_wishes;
    int32_t n_layers; /* that wishes were asked about */
    uint32_t ctx, threads, ubatch, kv_global, kv_sliding, fit;
    bool no_map, json;
    const gemma_host *host;                 /* hooks; NULL: the library's own */
    const struct gemma_vulkan_host *vulkan; /* instead of the system's; NULL: the system's */
    uint64_t ram_bytes;                     /* instead of the machine's; 0: the machine's */
    /* what the program itself asks of the plan */
    uint32_t logit_rows, n_marks, n_sessions;
    bool quiet;        /* no progress bar */
    bool no_device;    /* only the file is read: no GPU is looked for */
    bool probe_others; /* cli_probe measures every device that a plan may use */
    void (*tick)(void *user, const char *doing, uint64_t done, uint64_t total); /* while loading; NULL: none */
    uint32_t (*pressure)(void *user, const gemma_pressure *event);              /* as of gemma_load_options */
    void *hook_user;                                                            /* of both */
    /* opened by cli_open_…; closed by cli_close */
    char *model_file; /* the path behind model_path */
    gemma_runtime *runtime;
    gemma_file *file;
    gemma_tokenizer *tokenizer;
    uint32_t device;
    gemma_probe probe; /* of the device; size 0: not measured. Those of others are chained to it */
    gemma_probe other_probes[CLI_PROBES_MAX];
    uint32_t n_other_probes;
    gemma_plan *plan;
    char note[256]; /* why --device auto passed GPUs over */
    gemma_model *model;
    gemma_cancel *cancel;
    size_t kernel_bytes; /* that cli_load_kernels handed to the device */
} cli;

/* Long options every program takes; a program's own follow. Values are above any character. */
enum {
    CLI_DEVICE = 1000,
    CLI_CTX,
    CLI_KV,
    CLI_KV_GLOBAL,
    CLI_KV_SLIDING,
    CLI_THREADS,
    CLI_UBATCH,
    CLI_FIT,
    CLI_PLACE,
    CLI_NO_MAP,
    CLI_JSON,
    CLI_VERSION,
    CLI_OWN
};
#define CLI_OPTIONS                                                                                                    \
    { "model", required_argument, NULL, 'm' }, { "help", no_argument, NULL, 'h' },                                     \
        { "version", no_argument, NULL, CLI_VERSION }, { "device", required_argument, NULL, CLI_DEVICE },              \
        { "ctx", required_argument, NULL, CLI_CTX }, { "kv", required_argument, NULL, CLI_KV },                        \
        { "kv-global", required_argument, NULL, CLI_KV_GLOBAL },                                                       \
        { "kv-sliding", required_argument, NULL, CLI_KV_SLIDING },                                                     \
        { "threads", required_argument, NULL, CLI_THREADS }, { "ubatch", required_argument, NULL, CLI_UBATCH },        \
        { "fit", required_argument, NULL, CLI_FIT }, { "place", required_argument, NULL, CLI_PLACE },                  \
        { "no-map", no_argument, NULL, CLI_NO_MAP },                                                                   \
    {                                                                                                                  \
        "json", no_argument, NULL, CLI_JSON                                                                            \
    }
extern const char cli_help[]; /* the lines of --help for them */

/* For getopt's own messages: the program's name without its folder. */
void cli_short_name(char **argv);
/* Takes a common option (c as getopt_long returned it); false: it is the program's own. Exits on a wrong value. */
bool cli_option(cli *c, int option, const char *value);
void cli_usage(const cli *c, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
/* One sentence on stderr; returns EXIT_FAIL. */
int cli_fail(const cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint32_t cli_u32(const cli *c, const char *flag, const char *value, uint32_t least, uint32_t most);
double cli_double(const cli *c, const char *flag, const char *value, double least, double most);

/* Each opens what comes before it too. 0, or an exit code with the sentence printed. */
int cli_open_file(cli *c);      /* runtime, device, file */
int cli_open_tokenizer(cli *c); /* and the tokenizer */
int cli_open_plan(cli *c);      /* the plan, whether it fits or not */
int cli_open_model(cli *c);     /* EXIT_NOFIT when the plan does not fit */
void cli_close_file(cli *c);    /* and all that was opened behind it; the runtime stays */
void cli_close(cli *c);
/* Measures the plan's device; where --fit split or --place may need them, or probe_others says so, those that a plan may
 * use besides. A device that cannot be measured is passed over. */
int cli_probe(cli *c);
void cli_add_probe(cli *c, const gemma_probe *probe); /* the first is that of the plan's device */
void cli_plan_options(cli *c, gemma_plan_options *o); /* as the flags say */

/* ---- place.c ---- */
void cli_add_wish(cli *c, const char *text);   /* exits on one that cannot be read */
void cli_find_homes(cli *c);                   /* exits on a home that is no device */
void cli_place(cli *c, gemma_plan_options *o); /* hooks the wishes up */
void cli_check_wishes(const cli *c);           /* once planned: exits on one that could not be met */

/* Compiled kernels of the device, kept in the user's cache folder; called by cli_open_model. */
void cli_load_kernels(cli *c);
void cli_keep_kernels(const cli *c);

/* "1.23 GiB"; up to eight results live at once. */
const char *cli_bytes(uint64_t n);
/* ---- bill.c ---- */
void cli_print_bill(const cli *c, FILE *to); /* a table with bars */

double cli_seconds(void);                 /* monotonic */
const char *cli_type_name(uint32_t type); /* "f16" */
const char *cli_fit_name(uint32_t fit);   /* "split" */
/* One line of a stream without its newline; NULL at the end. Caller frees. */
char *cli_line(FILE *from, size_t *n);
/* All that is left of a stream, NUL-terminated; NULL: an error. Caller frees. */
char *cli_read_all(FILE *from, size_t *n);
/* A whole file; NULL with the sentence printed. Caller frees. */
char *cli_read_file(const cli *c, const char *path, size_t *n);
/* Text to ids with flags (GEMMA_TOKENIZE_…); NULL with the sentence printed. Caller frees. */
int32_t *cli_tokenize(const cli *c, const char *text, size_t n, uint32_t flags, size_t *n_ids);

#endif
