/* An SVG picture: what pictures share. Mid-tone colours and no background, so that they can lie on a light or a dark page. */
#ifndef SVG_H
#define SVG_H

#include "cli.h"

enum { SVG_WIDTH = 860, SVG_LEFT = 20, SVG_ROW = 19 };
#define SVG_INK  "#6e7781"
#define SVG_EDGE "#8c959f"

void svg_text(FILE *to, const char *text); /* escaped */
/* `attributes` begin with a space, or are empty. */
void svg_label(FILE *to, int x, int y, const char *attributes, const char *text);

/* A legend that flows over rows. */
typedef struct svg_flow {
    FILE *to;
    int left, x, y;
} svg_flow;
void svg_entry(svg_flow *f, const char *fill, const char *text);

/* Before long work: whether `path` can be written. What is there is left alone. 0, or an exit code with the sentence
 * printed. */
int svg_check(const cli *c, const char *path);
/* The picture with its title on top; `defs` may be empty. 0, or an exit code with the sentence printed. */
int svg_write(const cli *c, const char *path, const char *title, int height, const char *defs, const char *body,
              size_t n_body);

#endif
