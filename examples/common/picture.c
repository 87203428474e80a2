/* The bill as an SVG picture: a bar per heap, its classes as segments, the budget and what may be used of it as lines; what
 * stays in the file is drawn apart. Mid-tone colours and no background: it can lie on a light or a dark page. */
#include "bill.h"
#include "svg.h"

#include <stdlib.h>
#include <string.h>

enum { LEFT = SVG_LEFT, BAR = SVG_WIDTH - 2 * LEFT, THICK = 30 };

static const char *const colours[GEMMA_CLASS_COUNT] = {
    [GEMMA_CLASS_EMBEDDING] = "#4c78a8", [GEMMA_CLASS_PLE] = "#7b9fc4",        [GEMMA_CLASS_ATTENTION] = "#d9772b",
    [GEMMA_CLASS_FFN] = "#4a9a42",       [GEMMA_CLASS_EXPERTS] = "#8a5fbf",    [GEMMA_CLASS_HEAD] = "#b0699a",
    [GEMMA_CLASS_NORMS] = "#9d755d",     [GEMMA_CLASS_KV_SLIDING] = "#2a9d8f", [GEMMA_CLASS_KV_GLOBAL] = "#d8504f",
    [GEMMA_CLASS_MARKS] = "#b8860b",     [GEMMA_CLASS_SCRATCH] = "#7f8c8d",    [GEMMA_CLASS_STAGING] = "#a3abb2",
    [GEMMA_CLASS_DRIVER] = "#5c6670",
};

const char *bill_colour(uint32_t bytes_class)
{
    return bytes_class < GEMMA_CLASS_COUNT ? colours[bytes_class] : "#808080";
}

/* ---- pieces ---- */

static void put_box(FILE *to, double x, int y, double width, const char *fill, const char *name, uint64_t n_bytes)
{
    fprintf(to, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\"><title>", x, y, width, THICK, fill);
    svg_text(to, name);
    fprintf(to, ": %s</title></rect>\n", cli_bytes(n_bytes));
}

static void put_entry(svg_flow *f, const char *fill, const char *name, uint64_t n_bytes)
{
    char text[80];
    snprintf(text, sizeof text, "%s %s", name, cli_bytes(n_bytes));
    svg_entry(f, fill, text);
}

/* ---- a heap ---- */

/* A line over the bar with its label above; lines beyond the picture are told in words. */
static void put_line(FILE *to, double x, int y, bool dashed, const char *name, uint64_t n_bytes, int label_y)
{
    char text[64];
    snprintf(text, sizeof text, "%s %s", name, cli_bytes(n_bytes));
    bool beyond = x > LEFT + BAR + 0.5;
    if (beyond) strcat(text, " →");
    if (!beyond)
        fprintf(to, "<line x1=\"%.2f\" y1=\"%d\" x2=\"%.2f\" y2=\"%d\" stroke=\"" SVG_INK "\" stroke-width=\"2\"%s/>\n",
                x, label_y + 4, x, y + THICK + 4, dashed ? " stroke-dasharray=\"4 3\"" : "");
    int right = beyond ? LEFT + BAR : (int)x;
    if (right < LEFT + 150)
        svg_label(to, right, label_y, "", text);
    else
        svg_label(to, right, label_y, " text-anchor=\"end\"", text);
}

/* A picture of a small part of a large budget is of no use: the bar shows six times what is planned then. */
static double full_width(const bill_heap *h)
{
    double planned = (double)h->bill.total_bytes, budget = (double)h->heap.budget_bytes;
    double most = planned > budget ? planned : budget;
    if (planned > 0 && planned < most / 6) most = 6 * planned;
    return most > 0 ? most : 1;
}

static int put_heap(const cli *c, FILE *to, uint32_t index, int y)
{
    bill_heap h = bill_heap_at(c, index);
    const gemma_bill *b = &h.bill;
    char text[256];
    double full = full_width(&h), at = LEFT;
    bool fits = b->total_bytes <= b->budget_bytes;
    snprintf(text, sizeof text, "%s (%s, heap %u): %s planned, %s %s", b->name, h.device.id, b->heap,
             cli_bytes(b->total_bytes),
             cli_bytes(fits ? b->budget_bytes - b->total_bytes : b->total_bytes - b->budget_bytes),
             fits ? "left" : "SHORT");
    svg_label(to, LEFT, y, " font-weight=\"bold\"", text);
    int bar = y + 46;
    fprintf(to, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"" SVG_EDGE "\" fill-opacity=\"0.18\"/>\n",
            LEFT, bar, BAR, THICK);
    for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++) {
        uint64_t n = gemma_plan_class_bytes(c->plan, index, k);
        if (!n || k == GEMMA_CLASS_DRIVER) continue;
        double width = BAR * (double)n / full;
        put_box(to, at, bar, width, bill_colour(k), gemma_class_name(k), n);
        at += width;
    }
    put_line(to, LEFT + BAR * (double)h.heap.budget_bytes / full, bar, false,
             h.heap.reported ? "budget" : "no budget told; heap", h.heap.budget_bytes, bar - 26);
    put_line(to, LEFT + BAR * (double)b->budget_bytes / full, bar, true, "may be used", b->budget_bytes, bar - 9);
    svg_flow f = { to, LEFT, LEFT, bar + THICK + 24 };
    for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++) {
        uint64_t n = gemma_plan_class_bytes(c->plan, index, k);
        if (!n) continue;
        put_entry(&f, bill_colour(k),
                  k == GEMMA_CLASS_DRIVER ? "driver (estimated, not in the bar)" : gemma_class_name(k), n);
    }
    return f.y + 34;
}

/* ---- the file ---- */

static int put_file(const cli *c, FILE *to, int y)
{
    gemma_file_info info = { .size = sizeof info };
    gemma_file_describe(c->file, &info);
    uint64_t mapped = 0, rows = 0;
    char text[128];
    for (uint32_t i = 0; i < gemma_plan_n_heaps(c->plan); i++) {
        bill_heap h = bill_heap_at(c, i);
        mapped += h.bill.mapped_bytes;
        rows += h.bill.file_bytes;
    }
    if (!mapped && !rows) return y;
    double scale = BAR / (double)(info.file_bytes ? info.file_bytes : 1);
    snprintf(text, sizeof text, "the file: %s, of which %s stay in it", cli_bytes(info.file_bytes),
             cli_bytes(mapped + rows));
    svg_label(to, LEFT, y, " font-weight=\"bold\"", text);
    y += 12;
    fprintf(to,
            "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"" SVG_EDGE
            "\" stroke-dasharray=\"2 3\"/>\n",
            LEFT, y, BAR, THICK);
    put_box(to, LEFT, y, scale * (double)mapped, "url(#mapped)", "used in place from the mapped file", mapped);
    put_box(to, LEFT + scale * (double)mapped, y, scale * (double)rows, "url(#rows)", "read a row at a time", rows);
    svg_flow f = { to, LEFT, LEFT, y + THICK + 24 };
    if (mapped) put_entry(&f, "url(#mapped)", "used in place from the mapped file", mapped);
    if (rows) put_entry(&f, "url(#rows)", "per-layer embedding, a row read for every token", rows);
    return f.y + 26;
}

int bill_write_svg(const cli *c, const char *path, const char *title)
{
    char *body = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&body, &n);
    if (!to) return cli_fail(c, "out of memory");
    int y = 66;
    for (uint32_t i = 0; i < gemma_plan_n_heaps(c->plan); i++) y = put_heap(c, to, i, y);
    y = put_file(c, to, y);
    static const char defs[] = "<defs>\n"
                               "<pattern id=\"mapped\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">"
                               "<rect width=\"6\" height=\"6\" fill=\"#4c78a8\" fill-opacity=\"0.35\"/>"
                               "<path d=\"M0 6L6 0\" stroke=\"#4c78a8\"/></pattern>\n"
                               "<pattern id=\"rows\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">"
                               "<rect width=\"6\" height=\"6\" fill=\"#7b9fc4\" fill-opacity=\"0.25\"/>"
                               "<path d=\"M0 3H6\" stroke=\"#7b9fc4\"/></pattern>\n</defs>\n";
    int code = fclose(to) ? cli_fail(c, "out of memory") : svg_write(c, path, title, y, defs, body, n);
    free(body);
    return code;
}
