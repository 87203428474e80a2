/* gemma-tokenize: text to token ids and back, JSON lines on stdin and stdout. */
#include "common/cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: gemma-tokenize -m FILE [--decode] < LINES\n\n"
    "Reads JSON lines {\"text\": \"…\"} and writes {\"ids\": […]}: special tokens are recognised, no BOS is added.\n"
    "With --decode reads {\"ids\": […]} and writes {\"text\": \"…\"}.\n\n"
    "      --decode            ids to text\n";

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
    json_t *list = json_array();
    for (size_t i = 0; i < n_ids; i++) json_array_append_new(list, json_integer(ids[i]));
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

static int run(const cli *c, bool decoding)
{
    size_t n, number = 0;
    for (char *text; (text = cli_line(stdin, &n));) {
        json_error_t error;
        number++;
        json_t *line = n ? json_loadb(text, n, JSON_ALLOW_NUL, &error) : NULL;
        free(text);
        if (!n) continue;
        if (!line) return cli_fail(c, "line %zu is not JSON: %s", number, error.text);
        json_t *result = decoding ? decode(c, line) : encode(c, line);
        json_decref(line);
        if (!result) return cli_fail(c, "line %zu stopped the run", number);
        json_dumpf(result, stdout, JSON_COMPACT | JSON_ENSURE_ASCII); /* a line stays one line for every reader */
        putchar('\n');
        json_decref(result);
    }
    return 0;
}

int main(int argc, char **argv)
{
    cli c = { .program = "gemma-tokenize", .quiet = true };
    static const struct option options[] = { CLI_OPTIONS, { "decode", no_argument, NULL, CLI_OWN }, { 0 } };
    bool decoding = false;
    for (int o; (o = getopt_long(argc, argv, "m:h", options, NULL)) != -1;) {
        if (cli_option(&c, o, optarg)) continue;
        if (o == 'h') return printf("%s%s", help, cli_help) < 0;
        decoding = true;
    }
    if (optind < argc) cli_usage(&c, "unexpected argument \"%s\"", argv[optind]);
    int code = cli_open_tokenizer(&c);
    if (!code) code = run(&c, decoding);
    cli_close(&c);
    return code;
}
