#include "turns.h"

#include <stdlib.h>
#include <string.h>

static int32_t *marker(const cli *c, const char *text, size_t *n)
{
    return cli_tokenize(c, text, strlen(text), GEMMA_TOKENIZE_SPECIAL, n);
}

int turns_open(turns *h, const cli *c)
{
    gemma_file_info f = { .size = sizeof f };
    gemma_tokenizer_info t = { .size = sizeof t };
    gemma_file_describe(c->file, &f);
    gemma_tokenizer_describe(c->tokenizer, &t);
    if (strcmp(f.architecture, "gemma3"))
        return cli_fail(c, "turns of %s are not known to this version; use --raw", f.architecture);
    h->bos = t.bos;
    h->opening = marker(c, "<start_of_turn>model\n", &h->n_opening);
    return h->opening ? 0 : EXIT_FAIL;
}

/* Appends head + body + tail as one turn; takes nothing over. */
static int add(turns *h, const cli *c, const int32_t *const *parts, const size_t *sizes, size_t n_parts)
{
    if (h->n == h->cap) {
        size_t cap = h->cap ? 2 * h->cap : 16;
        turn *grown = realloc(h->list, cap * sizeof *grown);
        if (!grown) return cli_fail(c, "out of memory");
        h->list = grown;
        h->cap = cap;
    }
    size_t n = 0;
    for (size_t i = 0; i < n_parts; i++) n += sizes[i];
    turn added = { malloc((n + 1) * sizeof(int32_t)), 0 };
    if (!added.ids) return cli_fail(c, "out of memory");
    for (size_t i = 0; i < n_parts; i++) {
        memcpy(added.ids + added.n, parts[i], sizes[i] * sizeof(int32_t));
        added.n += sizes[i];
    }
    h->list[h->n++] = added;
    return 0;
}

int turns_add_user(turns *h, const cli *c, const char *text, size_t n)
{
    size_t sizes[3] = { 0 };
    int32_t *head = marker(c, "<start_of_turn>user\n", &sizes[0]);
    int32_t *body = cli_tokenize(c, text, n, GEMMA_TOKENIZE_UNTRUSTED | GEMMA_TOKENIZE_STRICT, &sizes[1]);
    int32_t *tail = marker(c, "<end_of_turn>\n", &sizes[2]);
    int code = head && body && tail ? add(h, c, (const int32_t *const[]){ head, body, tail }, sizes, 3) : EXIT_FAIL;
    free(head);
    free(body);
    free(tail);
    return code;
}

int turns_add_model(turns *h, const cli *c, const int32_t *ids, size_t n)
{
    if (n && gemma_token_is_end(c->tokenizer, ids[n - 1])) n--;
    size_t n_tail;
    int32_t *tail = marker(c, "<end_of_turn>\n", &n_tail);
    if (!tail) return EXIT_FAIL;
    int code = add(h, c, (const int32_t *const[]){ h->opening, ids, tail }, (size_t[]){ h->n_opening, n, n_tail }, 3);
    free(tail);
    return code;
}

static void drop(turns *h, size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) free(h->list[i].ids);
    memmove(h->list + first, h->list + first + n, (h->n - first - n) * sizeof *h->list);
    h->n -= n;
}

bool turns_drop_oldest(turns *h)
{
    if (h->n < 3) return false;
    drop(h, 0, 2);
    return true;
}

void turns_drop_last(turns *h)
{
    if (h->n) drop(h, h->n - 1, 1);
}

void turns_clear(turns *h)
{
    drop(h, 0, h->n);
    free(h->list);
    h->list = NULL;
    h->cap = 0;
}

void turns_close(turns *h)
{
    turns_clear(h);
    free(h->opening);
    h->opening = NULL;
}

size_t turns_length(const turns *h)
{
    size_t n = 1 + h->n_opening;
    for (size_t i = 0; i < h->n; i++) n += h->list[i].n;
    return n;
}

int32_t *turns_render(const turns *h)
{
    int32_t *ids = malloc(turns_length(h) * sizeof *ids), *at = ids;
    if (!ids) return NULL;
    *at++ = h->bos;
    for (size_t i = 0; i < h->n; i++) {
        memcpy(at, h->list[i].ids, h->list[i].n * sizeof *at);
        at += h->list[i].n;
    }
    memcpy(at, h->opening, h->n_opening * sizeof *at);
    return ids;
}
