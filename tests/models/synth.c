/* synth-model: writes a GGUF file of a released Gemma's sizes and types with random weights. */
#include "models/synth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct options {
    const char *size, *mix, *vocabulary, *out;
    uint32_t n_layers;
    uint64_t seed;
    bool header_only;
} options;

static int usage(FILE *to)
{
    fprintf(
        to,
        "Usage: synth-model SIZE MIX VOCABULARY OUT [--layers N] [--seed N] [--header-only]\n"
        "\n"
        "Writes the GGUF file OUT: a model of the sizes and tensor types of a released Gemma, with random weights\n"
        "that keep activations sane. The tokenizer is copied from the GGUF file VOCABULARY; a number instead, 262144\n"
        "say, makes up so many tokens: enough for planning.\n"
        "\n"
        "  --layers N     the first N layers only\n"
        "  --seed N       other weights (default 1)\n"
        "  --header-only  no weights: a sparse file of full size, for planning\n"
        "\nSIZE:");
    for (size_t i = 0; synth_size_name(i); i++) fprintf(to, " %s", synth_size_name(i));
    fprintf(to, "\nMIX: ");
    for (size_t i = 0; synth_mix_name(i); i++) fprintf(to, " %s", synth_mix_name(i));
    fprintf(to, "\n");
    return to == stdout ? 0 : 2;
}

static bool number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    if (!text || text[0] < '0' || text[0] > '9') return false;
    *out = strtoull(text, &end, 10);
    return *end == 0 && *out <= max;
}

/* false: something is wrong, and said. */
static bool read_arguments(int argc, char **argv, options *o)
{
    const char **places[] = { &o->size, &o->mix, &o->vocabulary, &o->out };
    size_t n_places = 0;
    for (int i = 1; i < argc; i++) {
        uint64_t n = 0;
        if (strcmp(argv[i], "--header-only") == 0) {
            o->header_only = true;
        } else if (strcmp(argv[i], "--layers") == 0 || strcmp(argv[i], "--seed") == 0) {
            bool layers = argv[i][2] == 'l';
            if (!number(argv[i + 1], layers ? 1000 : UINT64_MAX, &n) || (layers && n == 0)) {
                fprintf(stderr, "synth-model: %s needs a number%s.\n", argv[i], layers ? " from 1 to 1000" : "");
                return false;
            }
            i++;
            if (layers)
                o->n_layers = (uint32_t)n;
            else
                o->seed = n;
        } else if (argv[i][0] == '-' || n_places == GM_COUNT(places)) {
            fprintf(stderr, "synth-model: the argument %s is not understood.\n", argv[i]);
            return false;
        } else {
            *places[n_places++] = argv[i];
        }
    }
    if (n_places < GM_COUNT(places)) fprintf(stderr, "synth-model: four arguments are needed.\n");
    return n_places == GM_COUNT(places);
}

/* ---- the tokenizer's keys ---- */

static void copy_strings(const gm_gguf *from, const char *key, uint64_t n, gguf_writer *w)
{
    gm_str *texts = calloc(n ? n : 1, sizeof *texts);
    if (!texts) abort();
    gm_strings walk = { 0 };
    uint64_t i = 0;
    gm_gguf_strings(from, key, &walk);
    while (i < n && gm_strings_next(&walk, &texts[i])) i++;
    gguf_put_strings_n(w, key, texts, i);
    free(texts);
}

static void copy_key(const gm_gguf *from, const char *key, gguf_writer *w)
{
    uint32_t type, number_value;
    uint64_t n;
    gm_str text;
    bool flag;
    if (gm_gguf_array(from, key, &type, &n)) {
        const void *data = gm_gguf_array_data(from, key);
        if (type == GM_GGUF_STRING)
            copy_strings(from, key, n, w);
        else if (data)
            gguf_put_array(w, key, type, data, n);
    } else if (gm_gguf_string(from, key, &text)) {
        gguf_put_string_n(w, key, text.data, text.n);
    } else if (gm_gguf_bool(from, key, &flag)) {
        gguf_put_bool(w, key, flag);
    } else if (gm_gguf_u32(from, key, &number_value)) {
        gguf_put_u32(w, key, number_value);
    }
}

static void copy_tokenizer(const gm_gguf *from, gguf_writer *w)
{
    static const char *const keys[] = { "ggml.model",
                                        "ggml.pre",
                                        "ggml.tokens",
                                        "ggml.scores",
                                        "ggml.token_type",
                                        "ggml.merges",
                                        "ggml.bos_token_id",
                                        "ggml.eos_token_id",
                                        "ggml.unknown_token_id",
                                        "ggml.padding_token_id",
                                        "ggml.mask_token_id",
                                        "ggml.add_bos_token",
                                        "ggml.add_eos_token",
                                        "ggml.add_space_prefix",
                                        "ggml.suppress_tokens",
                                        "chat_template" };
    for (size_t i = 0; i < GM_COUNT(keys); i++) {
        char key[64];
        snprintf(key, sizeof key, "tokenizer.%s", keys[i]);
        copy_key(from, key, w);
    }
}

/* Tokens that say no more than how many there are. */
static void make_tokenizer(const options *o, uint64_t n, gguf_writer *w)
{
    enum { N_TEXT = 12 };
    char *bytes = calloc(n, N_TEXT);
    gm_str *texts = calloc(n, sizeof *texts);
    if (!bytes || !texts) abort();
    for (uint64_t i = 0; i < n; i++) {
        char *text = bytes + i * N_TEXT;
        texts[i] = (gm_str){ text, (size_t)snprintf(text, N_TEXT, "t%u", (unsigned)i) };
    }
    gguf_put_string(w, "tokenizer.ggml.model", strncmp(o->size, "gemma4", 6) == 0 ? "gemma4" : "llama");
    gguf_put_strings_n(w, "tokenizer.ggml.tokens", texts, n);
    free(texts);
    free(bytes);
}

/* ---- the file ---- */

static bool write_tensor(FILE *f, const synth_tensor *t, uint64_t seed, uint8_t *buffer, size_t n_buffer)
{
    static const uint8_t zeros[SYNTH_ALIGNMENT];
    synth_stream s;
    synth_begin(&s, t, seed);
    for (size_t n; (n = synth_next(&s, buffer, n_buffer)) > 0;)
        if (fwrite(buffer, 1, n, f) != n) return false;
    size_t n_padding = gm_align_up(t->n_bytes, SYNTH_ALIGNMENT) - t->n_bytes;
    return fwrite(zeros, 1, n_padding, f) == n_padding;
}

/* vocabulary NULL: n_vocab made-up tokens. */
static bool write_file(const options *o, const synth_model *m, const gm_gguf *vocabulary, uint64_t n_vocab)
{
    enum { N_BUFFER = 1 << 20 };
    FILE *f = fopen(o->out, "wb");
    uint8_t *buffer = malloc(N_BUFFER);
    if (!buffer) abort();
    gguf_writer *w = gguf_writer_create();
    if (vocabulary)
        copy_tokenizer(vocabulary, w);
    else
        make_tokenizer(o, n_vocab, w);
    size_t n_header;
    const uint8_t *header = synth_header(m, w, &n_header);
    bool ok = f && fwrite(header, 1, n_header, f) == n_header;
    for (size_t i = 0; i < synth_n_tensors(m) && ok && !o->header_only; i++)
        ok = write_tensor(f, synth_tensor_at(m, i), o->seed, buffer, N_BUFFER);
    if (ok && o->header_only) ok = synth_write_hole(f, synth_data_bytes(m));
    int why = errno;
    if (f && fclose(f) != 0) ok = false, why = errno;
    if (!ok) fprintf(stderr, "synth-model: %s cannot be written: %s.\n", o->out, strerror(why));
    free(buffer);
    gguf_writer_destroy(w);
    return ok;
}

/* The vocabulary must be of the model's family; returns its number of tokens, or 0. */
static uint64_t count_tokens(const gm_gguf *g, const options *o)
{
    uint32_t type;
    uint64_t n = 0;
    gm_str model = { "", 0 };
    bool gemma4 = strncmp(o->size, "gemma4", 6) == 0;
    gm_gguf_string(g, "tokenizer.ggml.model", &model);
    if (!gm_gguf_array(g, "tokenizer.ggml.tokens", &type, &n) || type != GM_GGUF_STRING || n == 0) {
        fprintf(stderr, "synth-model: %s has no tokens.\n", o->vocabulary);
        return 0;
    }
    if (gemma4 != (model.n == 6 && memcmp(model.data, "gemma4", 6) == 0)) {
        fprintf(stderr, "synth-model: the tokenizer of %s is of the kind \"%.*s\", which %s does not use.\n",
                o->vocabulary, (int)model.n, model.data, o->size);
        return 0;
    }
    return n;
}

static bool is_listed(const char *name, const char *(*names)(size_t i))
{
    size_t i = 0;
    while (names(i) && strcmp(names(i), name) != 0) i++;
    return names(i) != NULL;
}

static void say_why_not(const options *o)
{
    if (!is_listed(o->size, synth_size_name))
        fprintf(stderr, "synth-model: there is no size \"%s\"; --help lists them.\n", o->size);
    else if (!is_listed(o->mix, synth_mix_name))
        fprintf(stderr, "synth-model: there is no mix \"%s\"; --help lists them.\n", o->mix);
    else
        fprintf(stderr, "synth-model: %s has fewer than %u layers.\n", o->size, o->n_layers);
}

int main(int argc, char **argv)
{
    options o = { .seed = 1 };
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return usage(stdout);
    if (argc == 1 || !read_arguments(argc, argv, &o)) return usage(stderr);
    gm_mem mem;
    gemma_error error;
    gm_gguf *vocabulary = NULL;
    gm_mem_init(&mem, NULL);
    uint64_t n_vocab = 0;
    bool made_up = number(o.vocabulary, 1 << 24, &n_vocab) && n_vocab;
    if (!made_up && gm_gguf_open(&mem, &(gm_gguf_input){ .path = o.vocabulary, .map = true }, &vocabulary, &error)) {
        fprintf(stderr, "synth-model: %s\n", error.message);
        return 1;
    }
    bool ok = false;
    if (!made_up) n_vocab = count_tokens(vocabulary, &o);
    synth_model *m = n_vocab ? synth_create(o.size, o.mix, o.n_layers, n_vocab) : NULL;
    if (m) {
        ok = write_file(&o, m, vocabulary, n_vocab);
        if (ok)
            printf("%s: %llu tensors of %llu bytes\n", o.out, (unsigned long long)synth_n_tensors(m),
                   (unsigned long long)synth_tensor_bytes(m));
    } else if (n_vocab) {
        say_why_not(&o);
    }
    synth_destroy(m);
    gm_gguf_close(vocabulary);
    return ok ? 0 : 1;
}
