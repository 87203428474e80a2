#include "conform/naive.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define U 0x1p-24 /* half a unit in the last place of 1 */

static const float *input(const scene *s, unsigned i, uint32_t r) { return s->in[i] + (uint64_t)r * s->in_width[i]; }

/* ---- dots ---- */

static bool packed(precision p, const gm_weight_shape *w)
{
    return p.packs && w->n_in % 32 == 0 && w->format->block > 1;
}

/* w · x; every x[i] is off by up to own[i] already (NULL: exact). */
static expected dot(const double *w, const double *x, const double *own, uint32_t n, bool pack, double slack)
{
    double sum = 0, size = 0, variance = 0, spread = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += w[i] * x[i];
        size += fabs(w[i] * x[i]);
        if (own) spread += w[i] * w[i] * own[i] * own[i];
    }
    for (uint32_t b = 0; pack && b < n; b += 32) {
        double most = 0, squares = 0;
        for (uint32_t i = b; i < b + 32; i++) {
            most = fmax(most, fabs(x[i]));
            squares += w[i] * w[i];
        }
        variance += squares * (most / 127) * (most / 127) / 12;
    }
    /* `own` are six deviations of independent errors, so they add up like variances. */
    return (expected){ sum, slack * U * (n / 16.0 + 20) * size + 6 * sqrt(variance) + sqrt(spread) };
}

static expected row_dot(const scene *s, precision p, unsigned w, uint64_t row, const double *x, const double *own)
{
    const gm_weight_shape *shape = &s->shapes[w];
    double slack = packed(p, shape) ? p.slack * 4 : p.slack;
    return dot(s->w[w] + row * shape->n_in, x, own, shape->n_in, packed(p, shape), slack);
}

static double *doubles(const float *x, uint32_t n)
{
    double *d = malloc(n * sizeof *d);
    assert_non_null(d);
    for (uint32_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}

/* gelu(gate) × up. The slope of gelu is at most 1.13. Its float error is that of 1 + tanh, relative to 1. */
static expected gated(expected gate, expected up, double slack)
{
    double z = gate.value, g = 0.5 * z * (1 + tanh(0.7978845608028654 * (z + 0.044715 * z * z * z)));
    double error = 1.13 * gate.error * (fabs(up.value) + up.error) + fabs(g) * up.error;
    return (expected){ g * up.value, error + slack * U * 8 * fabs(z * up.value) };
}

static void matmul(const scene *s, precision p, unsigned o, uint32_t r, expected *e)
{
    double *x = doubles(input(s, 0, r), s->in_width[0]);
    for (uint32_t k = 0; k < s->out_width[o]; k++) {
        e[k] = row_dot(s, p, o, k, x, NULL);
        if (s->op.epilogue == GM_EPILOGUE_GEGLU) e[k] = gated(e[k], row_dot(s, p, 1, k, x, NULL), p.slack);
        if (s->op.epilogue == GM_EPILOGUE_GELU_MUL)
            e[k] = gated(e[k], (expected){ (double)input(s, 1, r)[s->op.offset + k], 0 }, p.slack);
    }
    free(x);
}

/* ---- norms ---- */

static void rms(const scene *s, precision p, const double *x, const double *w, uint32_t n, expected *e)
{
    double squares = 0;
    for (uint32_t i = 0; i < n; i++) squares += x[i] * x[i];
    double scale = 1 / sqrt(squares / n + (double)s->op.eps);
    for (uint32_t i = 0; i < n; i++) {
        e[i].value = x[i] * scale * (w ? w[i] : 1);
        e[i].error = p.slack * U * 8 * fabs(e[i].value);
    }
}

static void norm(const scene *s, precision p, uint32_t r, expected *e)
{
    double *x = doubles(input(s, 0, r), s->op.width);
    rms(s, p, x, s->w[0], s->op.width, e);
    free(x);
}

static void norm_add(const scene *s, precision p, unsigned o, uint32_t r, expected *e)
{
    uint32_t n = s->op.width;
    norm(s, p, r, e);
    double *x = calloc(n, sizeof *x), by = s->w[1] ? s->w[1][0] : 1, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        double base = (double)input(s, 1, r)[i];
        e[i].error = (e[i].error + p.slack * U * 4 * (fabs(base) + fabs(e[i].value))) * fabs(by);
        e[i].value = (base + e[i].value) * by;
        x[i] = e[i].value;
        most = fmax(most, e[i].error);
    }
    if (o == 1) {
        double squares = 0;
        for (uint32_t i = 0; i < n; i++) squares += x[i] * x[i];
        rms(s, p, x, s->w[2], n, e);
        for (uint32_t i = 0; i < n; i++) e[i].error += 2 * most / sqrt(squares / n) * (s->w[2] ? fabs(s->w[2][i]) : 1);
    }
    free(x);
}

static void ple_mix(const scene *s, precision p, uint32_t r, expected *e)
{
    uint32_t n = s->op.slice;
    double *x = doubles(input(s, 0, r), s->op.width);
    for (uint32_t i = 0; i < s->op.width; i++) x[i] *= (double)s->op.scale;
    for (uint32_t l = 0; l < s->op.width; l += n) rms(s, p, x + l, s->w[0], n, e + l);
    for (uint32_t i = 0; i < s->op.width; i++) {
        double token = (double)input(s, 1, r)[i];
        e[i].error = (e[i].error + p.slack * U * 4 * (fabs(token) + fabs(e[i].value))) * (double)s->op.scale2;
        e[i].value = (e[i].value + token) * (double)s->op.scale2;
    }
    free(x);
}

/* ---- rows ---- */

static void table_row(const scene *s, uint32_t r, expected *e)
{
    for (uint32_t i = 0; i < s->out_width[0]; i++) {
        e[i].value = s->w[0][(uint64_t)s->token[r] * s->out_width[0] + i] * (double)s->op.scale;
        e[i].error = U * 2 * fabs(e[i].value);
    }
}

static void rope(const scene *s, precision p, uint32_t r, expected *e)
{
    uint32_t half = s->op.width / 2;
    double off = p.coarse_angles ? 5 * U : U;
    for (uint32_t j = 0; j < half; j++) {
        double t = s->angle[r] * (double)s->op.scale * pow(s->op.base, -2.0 * j / s->op.width);
        if (s->w[0]) t /= s->w[0][j];
        e[j] = (expected){ cos(t), off + fabs(t) * 0x1p-50 };
        e[half + j] = (expected){ sin(t), off + fabs(t) * 0x1p-50 };
    }
}

/* ---- heads and attention ---- */

/* RMS and rotation of one head. */
static void turned(const scene *s, precision p, const float *x, unsigned w, uint32_t r, double by, expected *e)
{
    uint32_t n = s->op.head, half = n / 2;
    const float *angles = input(s, 3, r);
    double *d = doubles(x, n);
    rms(s, p, d, s->w[w], n, e);
    for (uint32_t j = 0; j < half; j++) {
        double c = (double)angles[j], sine = (double)angles[half + j], a = e[j].value, b = e[half + j].value;
        double error = p.slack * U * 12 * (fabs(a) + fabs(b)) * (fabs(c) + fabs(sine)) * fabs(by);
        e[j] = (expected){ (a * c - b * sine) * by, error };
        e[half + j] = (expected){ (b * c + a * sine) * by, error };
    }
    free(d);
}

void naive_line(const scene *s, precision p, bool v, uint32_t r, uint32_t kv_head, expected *e)
{
    uint32_t n = s->op.head;
    if (!v) {
        turned(s, p, input(s, 1, r) + kv_head * n, 1, r, 1, e);
        return;
    }
    const float *x = input(s, s->op.v_from_k ? 1 : 2, r) + kv_head * n;
    double *d = doubles(x, n);
    for (uint32_t i = 0; i < n; i++) e[i] = (expected){ d[i], 0 };
    if (s->op.v_norm) rms(s, p, d, NULL, n, e);
    free(d);
}

static void heads(const scene *s, precision p, uint32_t r, expected *e)
{
    for (uint32_t h = 0; h < s->op.n_head; h++)
        turned(s, p, input(s, 0, r) + h * s->op.head, 0, r, (double)s->op.scale, e + h * s->op.head);
}

static bool seen(const scene *s, uint32_t r, uint32_t position)
{
    if (position > s->last_seen[r]) return false;
    return s->op.window == 0 || (int64_t)s->position[r] - (int64_t)position < (int64_t)s->op.window;
}

/* Scores are off by `off`, so weights by twice that, relatively; values are added one after another within a chunk. */
static void one_head(const scene *s, precision p, uint32_t r, uint32_t h, expected *e)
{
    uint32_t n = s->op.head, kv_head = h / (s->op.n_head / s->op.n_kv);
    const float *q = input(s, 0, r) + h * n;
    double *scores = calloc(s->n_positions, sizeof *scores), max = -INFINITY, sum = 0, off = 0;
    float *line = malloc(n * sizeof *line);
    for (uint32_t t = 0; t < s->n_positions; t++) {
        if (!seen(s, r, t)) continue;
        scene_line(s, s->k, kv_head, t, line);
        double size = 0;
        for (uint32_t i = 0; i < n; i++) {
            scores[t] += (double)q[i] * (double)line[i];
            size += fabs((double)q[i] * (double)line[i]);
        }
        off = fmax(off, U * (n / 16.0 + 20) * size);
        max = fmax(max, scores[t]);
    }
    for (uint32_t t = 0; t < s->n_positions; t++) sum += seen(s, r, t) ? exp(scores[t] - max) : 0;
    for (uint32_t i = 0; i < n; i++) e[i] = (expected){ 0, 0 };
    for (uint32_t t = 0; t < s->n_positions; t++) {
        if (!seen(s, r, t)) continue;
        scene_line(s, s->v, kv_head, t, line);
        for (uint32_t i = 0; i < n; i++) {
            double term = exp(scores[t] - max) / sum * (double)line[i];
            e[i].value += term;
            e[i].error += fabs(term) * p.slack * (2 * off + U * 100);
        }
    }
    free(line);
    free(scores);
}

/* ---- head, router, experts ---- */

void naive_logits(const scene *s, precision p, uint32_t r, expected *e)
{
    double *x = doubles(input(s, 0, r), s->in_width[0]), cap = (double)s->op.softcap;
    for (uint32_t id = 0; id < s->op.n_vocab; id++) {
        e[id] = row_dot(s, p, 0, id, x, NULL);
        if (cap > 0) e[id] = (expected){ cap * tanh(e[id].value / cap), e[id].error + cap * U * 8 * p.slack };
    }
    for (uint32_t i = 0; i < s->n_suppressed; i++)
        if ((uint32_t)s->suppressed[i] < s->op.n_vocab) e[s->suppressed[i]].value = -INFINITY;
    free(x);
}

static void router(const scene *s, precision p, uint32_t r, expected *e)
{
    uint32_t n = s->in_width[0], n_used = s->op.n_used;
    double *x = doubles(input(s, 0, r), n), *logits = malloc(s->op.n_expert * sizeof *logits), sum = 0;
    expected *t = malloc(n * sizeof *t);
    rms(s, p, x, NULL, n, t);
    double off = 0;
    for (uint32_t i = 0; i < n; i++) x[i] = t[i].value * (double)s->op.scale * (s->w[1] ? s->w[1][i] : 1);
    for (uint32_t k = 0; k < s->op.n_expert; k++) {
        expected l = dot(s->w[0] + (uint64_t)k * n, x, NULL, n, false, p.slack * 2);
        logits[k] = l.value;
        off = fmax(off, l.error);
    }
    double first = 0;
    for (uint32_t u = 0; u < n_used; u++) {
        uint32_t best = 0;
        for (uint32_t k = 1; k < s->op.n_expert; k++)
            if (logits[k] > logits[best]) best = k;
        if (u == 0) first = logits[best];
        e[u] = (expected){ best, 0 };
        e[n_used + u].value = exp(logits[best] - first);
        sum += e[n_used + u].value;
        logits[best] = -INFINITY;
    }
    for (uint32_t u = 0; u < n_used; u++) {
        e[n_used + u].value *= (s->w[2] ? s->w[2][(uint32_t)e[u].value] : 1) / sum;
        e[n_used + u].error = fabs(e[n_used + u].value) * (4 * off + U * 32);
    }
    free(t);
    free(logits);
    free(x);
}

static void experts(const scene *s, precision p, uint32_t r, expected *e)
{
    uint32_t n_ff = s->op.n_ff, n_embd = s->in_width[0];
    double *x = doubles(input(s, 0, r), n_embd), *h = malloc(n_ff * sizeof *h), *own = malloc(n_ff * sizeof *own);
    for (uint32_t i = 0; i < n_embd; i++) e[i] = (expected){ 0, 0 };
    for (uint32_t u = 0; u < s->op.n_used; u++) {
        uint64_t id = (uint64_t)input(s, 1, r)[u];
        double weight = (double)input(s, 1, r)[s->op.n_used + u];
        for (uint32_t j = 0; j < n_ff; j++) {
            expected gate = row_dot(s, p, 0, s->w[2] ? id * n_ff + j : id * 2 * n_ff + j, x, NULL);
            expected up = s->w[2] ? row_dot(s, p, 2, id * n_ff + j, x, NULL)
                                  : row_dot(s, p, 0, id * 2 * n_ff + n_ff + j, x, NULL);
            expected g = gated(gate, up, p.slack);
            h[j] = g.value;
            own[j] = g.error;
        }
        for (uint32_t i = 0; i < n_embd; i++) {
            expected d = row_dot(s, p, 1, id * n_embd + i, h, own);
            e[i].value += weight * d.value;
            e[i].error += fabs(weight) * (d.error + p.slack * U * 8 * fabs(d.value));
        }
    }
    free(own);
    free(h);
    free(x);
}

void naive_output(const scene *s, precision p, unsigned o, uint32_t r, expected *e)
{
    switch (s->op.kind) {
    case GM_OP_EMBED:
    case GM_OP_PLE_ROWS: table_row(s, r, e); break;
    case GM_OP_ROPE: rope(s, p, r, e); break;
    case GM_OP_NORM: norm(s, p, r, e); break;
    case GM_OP_MATMUL: matmul(s, p, o, r, e); break;
    case GM_OP_HEADS: heads(s, p, r, e); break;
    case GM_OP_ATTENTION:
        for (uint32_t h = 0; h < s->op.n_head; h++) one_head(s, p, r, h, e + h * s->op.head);
        break;
    case GM_OP_NORM_ADD: norm_add(s, p, o, r, e); break;
    case GM_OP_ROWS:
        for (uint32_t i = 0; i < s->out_width[0]; i++) e[i] = (expected){ (double)input(s, 0, r)[i], 0 };
        break;
    case GM_OP_PLE_MIX: ple_mix(s, p, r, e); break;
    case GM_OP_ROUTER: router(s, p, r, e); break;
    case GM_OP_EXPERTS: experts(s, p, r, e); break;
    default: break;
    }
}
