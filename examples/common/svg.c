#include "svg.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void svg_text(FILE *to, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", to); break;
        case '<': fputs("&lt;", to); break;
        case '>': fputs("&gt;", to); break;
        case '"': fputs("&quot;", to); break;
        default:
            if ((unsigned char)*text >= ' ') fputc(*text, to);
        }
    }
}

void svg_label(FILE *to, int x, int y, const char *attributes, const char *text)
{
    fprintf(to, "<text x=\"%d\" y=\"%d\"%s>", x, y, attributes);
    svg_text(to, text);
    fputs("</text>\n", to);
}

static size_t n_characters(const char *text)
{
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

void svg_entry(svg_flow *f, const char *fill, const char *text)
{
    int width = 34 + (int)(n_characters(text) * 65 / 10);
    if (f->x > f->left && f->x + width > SVG_WIDTH - SVG_LEFT) {
        f->x = f->left;
        f->y += SVG_ROW;
    }
    fprintf(f->to, "<rect x=\"%d\" y=\"%d\" width=\"11\" height=\"11\" fill=\"%s\"/>\n", f->x, f->y - 10, fill);
    svg_label(f->to, f->x + 17, f->y, "", text);
    f->x += width;
}

static int fail(const cli *c, const char *path) { return cli_fail(c, "cannot write %s: %s", path, strerror(errno)); }

int svg_check(const cli *c, const char *path)
{
    bool there = !access(path, F_OK);
    FILE *f = fopen(path, "a");
    if (!f) return fail(c, path);
    fclose(f);
    if (!there) unlink(path);
    return 0;
}

int svg_write(const cli *c, const char *path, const char *title, int height, const char *defs, const char *body,
              size_t n_body)
{
    FILE *f = fopen(path, "w");
    if (!f) return fail(c, path);
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" fill=\"" SVG_INK
            "\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>",
            SVG_WIDTH, height, SVG_WIDTH, height);
    svg_text(f, title);
    fputs("</title>\n", f);
    fputs(defs, f);
    svg_label(f, SVG_LEFT, 30, " font-size=\"16\" font-weight=\"bold\"", title);
    fwrite(body, 1, n_body, f);
    fputs("</svg>\n", f);
    bool good = !ferror(f);
    if (fclose(f)) good = false;
    return good ? 0 : fail(c, path);
}
