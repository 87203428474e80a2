/* gemma-tokenize: text to token ids and back, JSON lines on stdin and stdout. */
#include "common/cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: gemma-tokenize -m FILE [--decode | --chat] < LINES\n\n"
    "Reads JSON lines {\"text\": \"…\"} and writes {\"ids\": […]}: special tokens are recognised, no BOS is added.\n"
    "With --decode reads {\"ids\": […]} and writes {\"text\": \"…\"}.\n"
    "With --chat reads {\"messages\": […], \"tools\": […], \"enable_thinking\": …, \"preserve_thinking\": …,\n"
    "\"add_generation_prompt\": …} and writes {\"text\": \"…\", \"ids\": […]} as the model wants them.\n\n"
    "      --decode            ids to text\n"
    "      --chat              conversations to text and ids\n"
    "      --template NAME     gemma3, gemma4-large or gemma4-small (default: what the file needs)\n";

typedef enum task { ENCODE, DECODE, CHAT } task;

static json_t *id_list(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static json_t *encode(const cli *c, const json_t *line)
{
    const json_t *text = json_object_get(line, "text");
    if (!json_is_string(text)) {
        cli_fail(c, "a line has no \"text\"");
        return NULL;
    }
    size_t n_ids;
    int32_t *ids = cli_tokenize(c, json_string_value(text), json_string_length(text), GEMMA_TOKENIZE_SPECIAL, &n_ids);
    if (!ids) return NULL;
    json_t *list = id_list(ids, n_ids);
    free(ids);
    return json_pack("{s:o}", "ids", list);
}

static json_t *decode(const cli *c, const json_t *line)
{
    const json_t *list = json_object_get(line, "ids");
    size_t n = json_array_size(list), n_bytes = 0;
    if (!json_is_array(list)) {
        cli_fail(c, "a line has no \"ids\"");
        return NULL;
    }
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    char *text = NULL;
    json_t *result = NULL;
    for (size_t i = 0; ids && i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    int rc = ids ? gemma_detokenize(c->tokenizer, ids, n, GEMMA_DETOKENIZE_SPECIAL, NULL, 0, &n_bytes) : GEMMA_E_NOMEM;
    if (!rc || rc == GEMMA_E_SMALL) {
        text = malloc(n_bytes + 1);
        rc = text ? gemma_detokenize(c->tokenizer, ids, n, GEMMA_DETOKENIZE_SPECIAL, text, n_bytes, &n_bytes)
                  : GEMMA_E_NOMEM;
    }
    if (rc) {
        cli_fail(c, "the ids cannot be decoded: %s", gemma_error_text(rc));
    } else {
        json_t *string = json_stringn(text, n_bytes);
        if (!string)
            cli_fail(c, "the ids decode to bytes that are not valid UTF-8, which JSON cannot hold");
        else
            result = json_pack("{s:o}", "text", string);
    }
    free(ids);
    free(text);
    return result;
}

/* A line as it was written: the library reads it, so that numbers stay as they are. */
static json_t *render(const cli *c, gemma_chat *chat, const char *line, size_t n)
{
    gemma_rendering r = { .size = sizeof r };
    char sentence[512];
    uint32_t flags;
    gemma_chat_keep(chat, 0);
    gemma_chat_forget_tools(chat);
    int rc = gemma_chat_read(chat, line, n, &flags);
    if (!rc) rc = gemma_chat_render(chat, flags, &r);
    if (rc) {
        gemma_chat_message(chat, sentence, sizeof sentence);
        cli_fail(c, "%s", sentence);
        return NULL;
    }
    char *text = malloc(r.n_bytes + 1);
    int32_t *ids = malloc((r.n_ids + 1) * sizeof *ids);
    json_t *result = NULL;
    if (text && ids) {
        size_t n_bytes = gemma_chat_text(chat, text, r.n_bytes), n_ids = gemma_chat_ids(chat, ids, r.n_ids);
        result = json_pack("{s:o,s:o}", "text", json_stringn(text, n_bytes), "ids", id_list(ids, n_ids));
    }
    if (!result) cli_fail(c, "out of memory");
    free(text);
    free(ids);
    return result;
}

static int run(const cli *c, task what, gemma_chat *chat)
{
    size_t n, number = 0;
    for (char *text; (text = cli_line(stdin, &n));) {
        json_error_t error = { .text = "" };
        number++;
        json_t *line = n && what != CHAT ? json_loadb(text, n, JSON_ALLOW_NUL, &error) : NULL, *result = NULL;
        if (line)
            result = what == DECODE ? decode(c, line) : encode(c, line);
        else if (n && what == CHAT)
            result = render(c, chat, text, n);
        else if (n)
            cli_fail(c, "line %zu is not JSON: %s", number, error.text);
        json_decref(line);
        free(text);
        if (!n) continue;
        if (!result) return cli_fail(c, "line %zu stopped the run", number);
        json_dumpf(result, stdout, JSON_COMPACT | JSON_ENSURE_ASCII); /* a line stays one line for every reader */
        putchar('\n');
        json_decref(result);
    }
    return 0;
}

static uint32_t read_template(const cli *c, const char *name)
{
    static const char *const names[] = { "auto", "gemma3", "gemma4-small", "gemma4-large" };
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return i; /* GEMMA_CHAT_… */
    cli_usage(c, "--template %s: known are gemma3, gemma4-large, gemma4-small", name);
}

static int open_chat(const cli *c, uint32_t variant, gemma_chat **chat)
{
    gemma_error e = { .size = sizeof e };
    gemma_chat_options o = { .size = sizeof o, .variant = variant };
    return gemma_chat_create(c->tokenizer, c->file, &o, chat, &e) ? cli_fail(c, "%s", e.message) : 0;
}

int main(int argc, char **argv)
{
    cli c = { .program = "gemma-tokenize", .quiet = true, .no_device = true };
    enum { OPT_DECODE = CLI_OWN, OPT_CHAT, OPT_TEMPLATE };
    static const struct option options[] = { CLI_OPTIONS,
                                             { "decode", no_argument, NULL, OPT_DECODE },
                                             { "chat", no_argument, NULL, OPT_CHAT },
                                             { "template", required_argument, NULL, OPT_TEMPLATE },
                                             { 0 } };
    task what = ENCODE;
    uint32_t variant = GEMMA_CHAT_AUTO;
    gemma_chat *chat = NULL;
    cli_short_name(argv);
    for (int o; (o = getopt_long(argc, argv, "m:h", options, NULL)) != -1;) {
        if (cli_option(&c, o, optarg)) continue;
        if (o == 'h') return printf("%s%s", help, cli_help) < 0;
        if (o == OPT_TEMPLATE) variant = read_template(&c, optarg);
        if (o == OPT_DECODE) what = DECODE;
        if (o == OPT_CHAT) what = CHAT;
    }
    if (optind < argc) cli_usage(&c, "unexpected argument \"%s\"", argv[optind]);
    if (variant && what != CHAT) cli_usage(&c, "--template belongs to --chat");
    int code = cli_open_tokenizer(&c);
    if (!code && what == CHAT) code = open_chat(&c, variant, &chat);
    if (!code) code = run(&c, what, chat);
    gemma_chat_destroy(chat);
    cli_close(&c);
    return code;
}
