/* A conversation as token ids, turn by turn, in Gemma 3's turn format. */
#ifndef TURNS_H
#define TURNS_H

#include "cli.h"

typedef struct turn {
    int32_t *ids; /* the whole turn, markers included */
    size_t n;
} turn;

typedef struct turns {
    int32_t bos;
    int32_t *opening; /* "<start_of_turn>model\n" */
    size_t n_opening;
    turn *list; /* user and model in turn; the first is a user's */
    size_t n, cap;
} turns;

int turns_open(turns *h, const cli *c); /* needs c->tokenizer */
/* The user's text is not searched for markers: nobody can inject a turn. */
int turns_add_user(turns *h, const cli *c, const char *text, size_t n);
/* The ids as generated, so that the session's own ids are a prefix of the next rendering. */
int turns_add_model(turns *h, const cli *c, const int32_t *ids, size_t n);
bool turns_drop_oldest(turns *h); /* a user's turn and its answer; false: only the last turn is left */
void turns_drop_last(turns *h);
void turns_clear(turns *h); /* no turns, still open */
void turns_close(turns *h);
size_t turns_length(const turns *h);   /* ids of the rendering */
int32_t *turns_render(const turns *h); /* BOS, turns, opening; caller frees; NULL: out of memory */

#endif
