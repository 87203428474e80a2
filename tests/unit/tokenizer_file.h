/* Reads what tests/generate/tokenizer_goldens.py writes. */
#ifndef GM_TEST_TOKENIZER_FILE_H
#define GM_TEST_TOKENIZER_FILE_H

#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct golden_line {
    const char *text;
    uint32_t n_bytes, n_ids;
    int32_t *ids;
} golden_line;

typedef struct vocab_file {
    uint8_t *bytes;
    gm_vocab_input input;
    const char **texts; /* [n_tokens] */
    uint8_t *n_text;    /* [n_tokens] */
    float *scores;
    int32_t *types;
    char *merges; /* "left right", one after the other */
    size_t *merge_at;
    golden_line *lines;
    uint32_t n_lines;
} vocab_file;

static bool vocab_file_token(void *user, uint32_t i, const char **text, size_t *n_bytes)
{
    const vocab_file *f = user;
    *text = f->texts[i];
    *n_bytes = f->n_text[i];
    return true;
}

static bool vocab_file_merge(void *user, uint32_t i, const char **text, size_t *n_bytes)
{
    const vocab_file *f = user;
    *text = f->merges + f->merge_at[i];
    *n_bytes = f->merge_at[i + 1] - f->merge_at[i];
    return true;
}

static uint32_t take_u32(const uint8_t **at)
{
    *at += 4;
    return gm_load_u32(*at - 4);
}

static const uint8_t *vocab_file_tokens(vocab_file *f, const uint8_t *at)
{
    uint32_t n_all = f->input.n_tokens;
    f->texts = calloc(n_all, sizeof *f->texts);
    f->n_text = calloc(n_all, 1);
    f->scores = calloc(n_all, sizeof *f->scores);
    f->types = calloc(n_all, sizeof *f->types);
    for (uint32_t i = 0; i < n_all; i++) f->types[i] = GM_TOKEN_UNUSED;
    for (uint32_t n = take_u32(&at); n > 0; n--) {
        uint32_t id = take_u32(&at);
        f->scores[id] = gm_load_f32(at);
        f->types[id] = at[4];
        f->n_text[id] = at[5];
        f->texts[id] = (const char *)at + 6;
        at += 6 + f->n_text[id];
    }
    f->input.scores = f->scores;
    f->input.types = f->types;
    return at;
}

static const uint8_t *vocab_file_merges(vocab_file *f, const uint8_t *at)
{
    uint32_t n = take_u32(&at);
    size_t room = (size_t)n * 64 + 1024, used = 0; /* a merge of the real vocabularies has 10 bytes on average */
    f->merges = malloc(room);
    f->merge_at = calloc(n + 1, sizeof *f->merge_at);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t left = take_u32(&at), right = take_u32(&at);
        memcpy(f->merges + used, f->texts[left], f->n_text[left]);
        used += f->n_text[left];
        f->merges[used++] = ' ';
        memcpy(f->merges + used, f->texts[right], f->n_text[right]);
        used += f->n_text[right];
        f->merge_at[i + 1] = used;
    }
    f->input.n_merges = n;
    return at;
}

static void vocab_file_lines(vocab_file *f, const uint8_t *at)
{
    f->n_lines = take_u32(&at);
    f->lines = calloc(f->n_lines, sizeof *f->lines);
    for (uint32_t i = 0; i < f->n_lines; i++) {
        golden_line *line = f->lines + i;
        line->n_bytes = take_u32(&at);
        line->text = (const char *)at;
        at += line->n_bytes;
        line->n_ids = take_u32(&at);
        line->ids = calloc(line->n_ids + 1, sizeof *line->ids);
        for (uint32_t k = 0; k < line->n_ids; k++) line->ids[k] = (int32_t)take_u32(&at);
    }
}

/* The project's own data: trusted, and a failure ends the program. */
static void vocab_file_open(vocab_file *f, const char *path)
{
    memset(f, 0, sizeof *f);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        perror(path);
        exit(1);
    }
    size_t n = (size_t)ftell(file);
    rewind(file);
    f->bytes = malloc(n);
    if (fread(f->bytes, 1, n, file) != n) {
        perror(path);
        exit(1);
    }
    fclose(file);
    const uint8_t *at = f->bytes;
    f->input.bpe = take_u32(&at);
    f->input.n_tokens = take_u32(&at);
    f->input.bos = (int32_t)take_u32(&at);
    f->input.eos = (int32_t)take_u32(&at);
    f->input.unknown = (int32_t)take_u32(&at);
    f->input.padding = (int32_t)take_u32(&at);
    f->input.user = f;
    f->input.token = vocab_file_token;
    f->input.merge = vocab_file_merge;
    at = vocab_file_tokens(f, at);
    at = vocab_file_merges(f, at);
    vocab_file_lines(f, at);
}

static void vocab_file_close(vocab_file *f)
{
    for (uint32_t i = 0; i < f->n_lines; i++) free(f->lines[i].ids);
    free(f->lines);
    free(f->merge_at);
    free(f->merges);
    free(f->types);
    free(f->scores);
    free(f->n_text);
    free(f->texts);
    free(f->bytes);
}

#endif
