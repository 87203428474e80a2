#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

const char cli_help[] =
    "  -m, --model FILE        the GGUF file, or one that is already here: ollama:NAME[:TAG], hf:REPO[:QUANT]\n"
    "      --device NAME       auto (default), cpu, vulkan, vulkan:N, part of a device's name, or reference (plain C)\n"
    "      --ctx N             tokens of context (default: 4096, at most what the model was trained for)\n"
    "      --kv TYPE           type of the KV cache: f16 (default), q8_0, q4_0, f32\n"
    "      --kv-global TYPE, --kv-sliding TYPE   the same for one kind of layer\n"
    "      --threads N         CPU threads (default: all cores)\n"
    "      --ubatch N          rows of one prefill step (default: 512)\n"
    "      --fit HOW           refuse (default), shrink or split what does not fit\n"
    "      --place CLASS[:LAYERS]=HOME   where bytes lie, may be repeated: experts=cpu, ffn:0-5=vulkan:1, ple=memory.\n"
    "                          CLASS: embedding, ple, attention, ffn, experts, head, kv, kv-global, kv-sliding, all;\n"
    "                          LAYERS: 3, 0-5, odd, even; HOME: a device, file, memory (of the plan's device)\n"
    "      --no-map            read the weights instead of mapping the file\n"
    "      --json              machine-readable output\n"
    "  -h, --help              this text\n"
    "      --version           the library's version\n";

static void print_error(const cli *c, const char *format, va_list args)
{
    fprintf(stderr, "%s: ", c->program);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void cli_usage(const cli *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_error(c, format, args);
    va_end(args);
    fprintf(stderr, "Try \"%s --help\".\n", c->program);
    exit(EXIT_USAGE);
}

int cli_fail(const cli *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_error(c, format, args);
    va_end(args);
    return EXIT_FAIL;
}

uint32_t cli_u32(const cli *c, const char *flag, const char *value, uint32_t least, uint32_t most)
{
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno || end == value || *end || n < least || n > most)
        cli_usage(c, "%s takes a whole number from %u to %u, not \"%s\"", flag, least, most, value);
    return (uint32_t)n;
}

double cli_double(const cli *c, const char *flag, const char *value, double least, double most)
{
    char *end;
    double x = strtod(value, &end);
    if (end == value || *end || !(x >= least && x <= most))
        cli_usage(c, "%s takes a number from %g to %g, not \"%s\"", flag, least, most, value);
    return x;
}

static const struct {
    const char *name;
    uint32_t value;
} types[] = { { "f16", GEMMA_TYPE_F16 },
              { "f32", GEMMA_TYPE_F32 },
              { "q8_0", GEMMA_TYPE_Q8_0 },
              { "q4_0", GEMMA_TYPE_Q4_0 } },
  fits[] = { { "refuse", GEMMA_FIT_REFUSE }, { "shrink", GEMMA_FIT_SHRINK }, { "split", GEMMA_FIT_SPLIT } };

const char *cli_type_name(uint32_t type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].value == type) return types[i].name;
    return "?";
}

const char *cli_fit_name(uint32_t fit)
{
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++)
        if (fits[i].value == fit) return fits[i].name;
    return "?";
}

static uint32_t kv_type(const cli *c, const char *value)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcasecmp(types[i].name, value)) return types[i].value;
    cli_usage(c, "\"%s\" is no KV type; known are f16, f32, q8_0, q4_0", value);
}

static uint32_t fit_policy(const cli *c, const char *value)
{
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++)
        if (!strcmp(fits[i].name, value)) return fits[i].value;
    cli_usage(c, "--fit takes refuse, shrink or split, not \"%s\"", value);
}

void cli_short_name(char **argv)
{
    char *slash = strrchr(argv[0], '/');
    if (slash) argv[0] = slash + 1;
}

bool cli_option(cli *c, int option, const char *value)
{
    switch (option) {
    case 'm': c->model_path = value; break;
    case CLI_DEVICE: c->device_name = value; break;
    case CLI_CTX: c->ctx = cli_u32(c, "--ctx", value, 1, 1u << 24); break;
    case CLI_KV: c->kv_global = c->kv_sliding = kv_type(c, value); break;
    case CLI_KV_GLOBAL: c->kv_global = kv_type(c, value); break;
    case CLI_KV_SLIDING: c->kv_sliding = kv_type(c, value); break;
    case CLI_THREADS: c->threads = cli_u32(c, "--threads", value, 1, 1024); break;
    case CLI_UBATCH: c->ubatch = cli_u32(c, "--ubatch", value, 1, 8192); break;
    case CLI_FIT: c->fit = fit_policy(c, value); break;
    case CLI_PLACE: cli_add_wish(c, value); break;
    case CLI_NO_MAP: c->no_map = true; break;
    case CLI_JSON: c->json = true; break;
    case CLI_VERSION:
        printf("%s (libgemma %u.%u.%u)\n", c->program, gemma_version() >> 16, gemma_version() >> 8 & 255,
               gemma_version() & 255);
        exit(0);
    case '?': fprintf(stderr, "Try \"%s --help\".\n", c->program); exit(EXIT_USAGE);
    default: return false;
    }
    return true;
}

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

const char *cli_bytes(uint64_t n)
{
    static char texts[8][24];
    static unsigned at;
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    char *text = texts[at++ % 8];
    double x = (double)n;
    size_t unit = 0;
    while (x >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        x /= 1024;
        unit++;
    }
    snprintf(text, sizeof texts[0], unit ? "%.2f %s" : "%.0f %s", x, units[unit]);
    return text;
}

char *cli_line(FILE *from, size_t *n)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t got = getline(&line, &cap, from);
    if (got < 0) {
        free(line);
        return NULL;
    }
    if (got && line[got - 1] == '\n') line[--got] = '\0';
    *n = (size_t)got;
    return line;
}

char *cli_read_all(FILE *from, size_t *n)
{
    size_t cap = 1 << 16;
    char *data = malloc(cap);
    for (*n = 0; data; *n += fread(data + *n, 1, cap - *n - 1, from)) {
        if (feof(from)) break;
        char *grown = ferror(from) ? NULL : *n + 1 < cap ? data : realloc(data, cap *= 2);
        if (!grown) free(data);
        data = grown;
    }
    if (data) data[*n] = '\0';
    return data;
}

char *cli_read_file(const cli *c, const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *data = f ? cli_read_all(f, n) : NULL;
    if (!data) cli_fail(c, "cannot read %s: %s", path, strerror(errno));
    if (f) fclose(f);
    return data;
}

int32_t *cli_tokenize(const cli *c, const char *text, size_t n, uint32_t flags, size_t *n_ids)
{
    int32_t *ids = malloc((n + 2) * sizeof *ids);
    int rc = ids ? gemma_tokenize(c->tokenizer, text, n, flags, ids, n + 2, n_ids) : GEMMA_E_NOMEM;
    if (!rc) return ids;
    if (rc == GEMMA_E_UTF8)
        cli_fail(c, "the text is not valid UTF-8: byte %zu (0x%02x)", *n_ids, (unsigned char)text[*n_ids]);
    else
        cli_fail(c, "the text cannot be tokenised: %s", gemma_error_text(rc));
    free(ids);
    return NULL;
}
