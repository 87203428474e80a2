/* The sweep over depth as a picture: tokens a second above, share of the measured bandwidth below. */
#include "bench.h"
#include "svg.h"

#include <math.h>
#include <stdlib.h>

enum { LEFT = 72, RIGHT = SVG_WIDTH - 28, TOP = 118, SPEED = 230, GAP = 52, SHARE = 110, BOTTOM = 62 };
#define MEASURED  "#4c78a8"
#define PREDICTED "#d9772b"
#define PART      "#4a9a42"
#define CLIFF     "#d8504f"

/* A panel with its axes: depth to the right, values from 0 up. */
typedef struct panel {
    FILE *to;
    double max_x, max_y;
    int top, height;
} panel;

static double x_of(const panel *p, double depth) { return LEFT + (RIGHT - LEFT) * depth / p->max_x; }
static double y_of(const panel *p, double value) { return p->top + p->height * (1 - value / p->max_y); }

/* 1, 2 or 5 times a power of ten, about a quarter of `most`. */
static double round_step(double most)
{
    double power = pow(10, floor(log10(most / 4))), times = most / 4 / power;
    return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

static void put_axes(panel *p, double step_y, const char *unit, const char *name)
{
    char text[32];
    for (double v = 0; v <= p->max_y * 1.001; v += step_y) {
        int y = (int)(y_of(p, v) + 0.5);
        fprintf(p->to, "<path d=\"M%d %dH%d\" stroke=\"" SVG_EDGE "\" stroke-opacity=\"%s\"/>\n", LEFT, y, RIGHT,
                v > 0 ? "0.3" : "1");
        snprintf(text, sizeof text, "%g%s", v, unit);
        svg_label(p->to, LEFT - 8, y + 4, " text-anchor=\"end\"", text);
    }
    svg_label(p->to, SVG_LEFT, p->top - 12, " font-weight=\"bold\"", name);
}

static void put_depths(const panel *p)
{
    uint32_t step = 64;
    char text[32];
    while (step * 8.0 < p->max_x) step *= 2;
    for (uint32_t d = 0; d <= p->max_x; d += step) {
        int x = (int)(x_of(p, d) + 0.5), y = p->top + p->height;
        fprintf(p->to, "<path d=\"M%d %dv5\" stroke=\"" SVG_EDGE "\"/>\n", x, y);
        snprintf(text, sizeof text, "%u", d);
        svg_label(p->to, x, y + 19, " text-anchor=\"middle\"", text);
    }
    svg_label(p->to, (LEFT + RIGHT) / 2, p->top + p->height + 38, " text-anchor=\"middle\"",
              "tokens in the context before (depth)");
}

static double median_tok_s(const bench_result *r) { return r->median; }
static double predicted_tok_s(const bench_result *r) { return r->predicted; }

static void put_line(const panel *p, const bench_report *b, double (*value)(const bench_result *r), const char *colour,
                     const char *unit, bool dashed)
{
    fprintf(p->to, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s points=\"", colour,
            dashed ? " stroke-dasharray=\"6 4\"" : "");
    for (uint32_t i = 0; i < b->n_results; i++)
        if (b->results[i].n_gen)
            fprintf(p->to, "%.1f,%.1f ", x_of(p, b->results[i].depth), y_of(p, value(&b->results[i])));
    fputs("\"/>\n", p->to);
    for (uint32_t i = 0; i < b->n_results; i++) {
        const bench_result *r = &b->results[i];
        if (r->n_gen)
            fprintf(p->to,
                    "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%s\" fill=\"%s\"><title>depth %u: %.1f%s</title></circle>\n",
                    x_of(p, r->depth), y_of(p, value(r)), dashed ? "2.5" : "3.5", colour, r->depth, value(r), unit);
    }
}

/* Where the plan does not fit any more: nothing can be measured beyond. */
static void put_cliff(const panel *p, const bench_report *b, bool named)
{
    char text[64];
    if (!b->fits_ctx || b->fits_ctx > p->max_x) return;
    double x = x_of(p, b->fits_ctx);
    fprintf(p->to,
            "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"" CLIFF "\" fill-opacity=\"0.14\"/>\n", x,
            p->top, RIGHT - x, p->height);
    fprintf(p->to, "<path d=\"M%.1f %dv%d\" stroke=\"" CLIFF "\" stroke-width=\"2\"/>\n", x, p->top, p->height);
    if (!named) return;
    snprintf(text, sizeof text, "fits no more beyond %u tokens", b->fits_ctx);
    bool right = x < (LEFT + RIGHT) / 2;
    svg_label(p->to, (int)x + (right ? 7 : -7), p->top + 16,
              right ? " fill=\"" CLIFF "\"" : " fill=\"" CLIFF "\" text-anchor=\"end\"", text);
}

static void put_caption(const bench_report *b, FILE *to)
{
    gemma_device_info d = { .size = sizeof d };
    char text[400];
    gemma_device_describe(b->c->runtime, b->c->device, &d);
    double least = INFINITY, most = 0;
    for (uint32_t i = 0; i < b->n_results; i++) {
        least = fmin(least, b->results[i].measured_gb_s);
        most = fmax(most, b->results[i].measured_gb_s);
    }
    snprintf(text, sizeof text, "%s; memory was read at %.1f to %.1f GB/s meanwhile", d.name, least, most);
    svg_label(to, SVG_LEFT, 52, "", text);
    svg_flow f = { to, SVG_LEFT, SVG_LEFT, 78 };
    svg_entry(&f, MEASURED, "decode, measured (median)");
    svg_entry(&f, PREDICTED, "predicted before each run");
    svg_entry(&f, PART, "bytes read a second, of what memory gives");
    if (b->fits_ctx && b->fits_ctx <= b->max_depth) svg_entry(&f, CLIFF, "does not fit");
}

static void put_panels(const bench_report *b, FILE *to)
{
    double most = 0, most_share = 100;
    for (uint32_t i = 0; i < b->n_results; i++) {
        const bench_result *r = &b->results[i];
        if (!r->n_gen) continue;
        most = fmax(most, fmax(r->median, r->predicted));
        most_share = fmax(most_share, bench_share(r));
    }
    double step = round_step(most > 0 ? most : 1), max_x = b->max_depth ? b->max_depth : 1;
    panel speed = { to, max_x, step * ceil(most / step), TOP, SPEED };
    panel share = { to, max_x, 50 * ceil(most_share / 50), TOP + SPEED + GAP, SHARE };
    if (!(speed.max_y > 0)) speed.max_y = 1;
    put_cliff(&speed, b, true);
    put_cliff(&share, b, false);
    put_axes(&speed, step, "", "tokens per second");
    put_axes(&share, 50, " %", "share of the measured bandwidth");
    put_depths(&share);
    put_line(&speed, b, predicted_tok_s, PREDICTED, " tok/s predicted", true);
    put_line(&speed, b, median_tok_s, MEASURED, " tok/s", false);
    put_line(&share, b, bench_share, PART, " %", false);
}

int bench_draw(const bench_report *b, const char *path)
{
    gemma_file_info f = { .size = sizeof f };
    gemma_plan_info i = { .size = sizeof i };
    char title[256], *body = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&body, &n);
    if (!to) return cli_fail(b->c, "out of memory");
    gemma_file_describe(b->c->file, &f);
    gemma_plan_describe(b->c->plan, &i);
    snprintf(title, sizeof title, "%s: decode over depth, KV %s", f.name[0] ? f.name : b->c->model_path,
             cli_type_name(i.kv_global));
    put_caption(b, to);
    put_panels(b, to);
    int code = fclose(to) ? cli_fail(b->c, "out of memory")
                          : svg_write(b->c, path, title, TOP + SPEED + GAP + SHARE + BOTTOM, "", body, n);
    free(body);
    return code;
}
