#include "api/gemma_naive.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { LAYERS = 64, WIDTH = 4096 };

typedef struct naive {
    const tiny_model *t;
    naive_mistake mistake;
    gm_mem mem;
    gm_gguf *file;
    float **tensors;               /* [n_tensors], unpacked when first asked for */
    uint32_t n;                    /* rows */
    double *k[LAYERS], *v[LAYERS]; /* [n][n_kv × head] */
    double *x, *ple;               /* [n][n_embd], [n][n_layers × n_ple] */
} naive;

static double *doubles(size_t n)
{
    double *d = calloc(n, sizeof *d);
    assert_non_null(d);
    return d;
}

static bool wrong(const naive *m, naive_mistake mistake) { return m->mistake == mistake; }

/* X.scale of X.weight, one or one for each matrix; experts' down has its own at another place. */
static void apply_factors(const naive *m, const gm_tensor *t, float *values)
{
    char name[96];
    uint64_t n = t->ne[0] * t->ne[1];
    snprintf(name, sizeof name, "%.*s.scale", (int)(strlen(t->name) - strlen(".weight")), t->name);
    const gm_tensor *s = gm_gguf_find(m->file, name);
    if (!s || strstr(name, "ffn_down_exps")) return;
    float *factors = malloc(s->n_bytes);
    assert_int_equal(gm_gguf_read(m->file, s, 0, factors, s->n_bytes, NULL), GEMMA_OK);
    for (uint64_t i = 0; i < n * t->ne[2]; i++) values[i] *= factors[s->ne[0] == 1 ? 0 : i / n];
    free(factors);
}

static const float *tensor(naive *m, int layer, const char *name)
{
    char full[96];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    for (uint32_t i = 0; i < gm_gguf_n_tensors(m->file); i++) {
        const gm_tensor *t = gm_gguf_tensor(m->file, i);
        if (strcmp(t->name, full)) continue;
        if (m->tensors[i]) return m->tensors[i];
        uint64_t n = t->ne[0] * t->ne[1] * t->ne[2];
        void *packed = malloc(t->n_bytes);
        m->tensors[i] = malloc(n * sizeof(float));
        assert_int_equal(gm_gguf_read(m->file, t, 0, packed, t->n_bytes, NULL), GEMMA_OK);
        t->format->unpack(packed, m->tensors[i], n / t->format->block);
        free(packed);
        if (t->format->type == GM_NVFP4 && !wrong(m, NO_FACTORS)) apply_factors(m, t, m->tensors[i]);
        return m->tensors[i];
    }
    return NULL;
}

static bool slides(const naive *m, uint32_t i) { return !m->t->pattern || (i + 1) % m->t->pattern; }
static uint32_t head_of(const naive *m, uint32_t i)
{
    return m->t->family == 4 && !slides(m, i) ? 2 * m->t->head : m->t->head;
}

/* ---- arithmetic ---- */

static void multiply(const float *w, uint32_t n_in, uint32_t n_out, const double *x, double *y)
{
    assert_non_null(w);
    for (uint32_t o = 0; o < n_out; o++) {
        y[o] = 0;
        for (uint32_t i = 0; i < n_in; i++) y[o] += (double)w[(size_t)o * n_in + i] * x[i];
    }
}

static void norm(const naive *m, const double *x, const float *w, uint32_t n, double *out)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += x[i] * x[i];
    double by = 1 / sqrt(sum / n + (double)m->t->eps);
    for (uint32_t i = 0; i < n; i++) out[i] = x[i] * by * (w ? (double)w[i] : 1);
}

static double gelu(double z) { return 0.5 * z * (1 + tanh(0.7978845608028654 * (z + 0.044715 * z * z * z))); }

static void turn(const naive *m, uint32_t layer, uint32_t position, double *head)
{
    bool sliding = slides(m, layer);
    uint32_t n = head_of(m, layer), half = n / 2;
    double base = sliding != wrong(m, BASES_SWAPPED) ? 1e4 : 1e6,
           factor = m->t->rope_factor > 0 ? m->t->rope_factor : 1;
    if (wrong(m, NO_ROPE_FACTOR) || (sliding && !wrong(m, ROPE_FACTOR_EVERYWHERE))) factor = 1;
    for (uint32_t j = 0; j < half; j++) {
        if (m->t->family == 4 && !sliding && j >= n / 8 && !wrong(m, WHOLE_HEADS_TURN)) return;
        double angle = position / factor * pow(base, -2.0 * j / n), a = head[j], b = head[j + half];
        head[j] = a * cos(angle) - b * sin(angle);
        head[j + half] = b * cos(angle) + a * sin(angle);
    }
}

/* ---- a layer ---- */

/* The layer whose keys and values it reads: itself, or the last owner of its kind. */
static uint32_t source_of(const naive *m, uint32_t layer)
{
    uint32_t n_own = m->t->n_layers - m->t->n_shared;
    if (layer < n_own || wrong(m, OWN_KV_ON_SHARED)) return layer;
    uint32_t source = layer;
    for (uint32_t i = 0; i < n_own; i++) {
        if (slides(m, i) != slides(m, layer)) continue;
        source = i;
        if (wrong(m, SHARED_FROM_FIRST)) break;
    }
    return source;
}

static void write_kv(naive *m, uint32_t layer, uint32_t row, const double *a)
{
    uint32_t head = head_of(m, layer), n_kv = m->t->n_kv, width = n_kv * head;
    int l = (int)layer;
    const float *v_weight = tensor(m, l, "attn_v.weight");
    if (!m->k[layer]) {
        m->k[layer] = doubles((size_t)m->n * width);
        m->v[layer] = doubles((size_t)m->n * width);
    }
    double *k = m->k[layer] + (size_t)row * width, *v = m->v[layer] + (size_t)row * width;
    multiply(tensor(m, l, "attn_k.weight"), m->t->n_embd, width, a, k);
    if (v_weight)
        multiply(v_weight, m->t->n_embd, width, a, v);
    else
        memcpy(v, k, width * sizeof *v);
    for (uint32_t h = 0; h < n_kv; h++) {
        norm(m, k + h * head, tensor(m, l, "attn_k_norm.weight"), head, k + h * head);
        if (!v_weight && wrong(m, V_IS_NORMED_K)) memcpy(v + h * head, k + h * head, head * sizeof *v);
        turn(m, layer, row, k + h * head);
        if (m->t->family == 4 && !wrong(m, NO_V_NORM)) norm(m, v + h * head, NULL, head, v + h * head);
    }
}

static double attention_scale(const naive *m, uint32_t layer)
{
    const tiny_model *t = m->t;
    if (wrong(m, OTHER_ATTENTION_SCALE))
        return 1 / sqrt(head_of(m, layer)) * (t->family == 4 || t->n_layers == 62 ? 1 : 2);
    if (t->family == 4) return 1;
    return 1 / sqrt(t->n_layers == 62 ? (double)t->n_embd / t->n_head : t->head);
}

static void attend(naive *m, uint32_t layer, uint32_t row, const double *q, double *out)
{
    uint32_t head = head_of(m, layer), n_head = m->t->n_head, n_kv = m->t->n_kv, source = source_of(m, layer),
             first = 0;
    uint32_t window = m->t->window + wrong(m, WINDOW_ONE_MORE);
    double *weights = doubles(row + 1);
    if (slides(m, layer) && row + 1 > window) first = row + 1 - window;
    for (uint32_t h = 0; h < n_head; h++) {
        uint32_t kv = wrong(m, KV_HEADS_IN_TURN) ? h % n_kv : h / (n_head / n_kv);
        double most = -INFINITY, sum = 0;
        for (uint32_t p = first; p <= row; p++) {
            const double *k = m->k[source] + ((size_t)p * n_kv + kv) * head;
            weights[p] = 0;
            for (uint32_t i = 0; i < head; i++) weights[p] += q[h * head + i] * k[i] * attention_scale(m, layer);
            most = fmax(most, weights[p]);
        }
        for (uint32_t p = first; p <= row; p++) sum += weights[p] = exp(weights[p] - most);
        for (uint32_t i = 0; i < head; i++) out[h * head + i] = 0;
        for (uint32_t p = first; p <= row; p++)
            for (uint32_t i = 0; i < head; i++)
                out[h * head + i] += weights[p] / sum * m->v[source][((size_t)p * n_kv + kv) * head + i];
    }
    free(weights);
}

static void mix(naive *m, uint32_t layer, uint32_t row, const double *a, double *out)
{
    uint32_t head = head_of(m, layer), n_head = m->t->n_head;
    double q[WIDTH], mixed[WIDTH];
    multiply(tensor(m, (int)layer, "attn_q.weight"), m->t->n_embd, n_head * head, a, q);
    for (uint32_t h = 0; h < n_head; h++) {
        norm(m, q + h * head, tensor(m, (int)layer, "attn_q_norm.weight"), head, q + h * head);
        turn(m, layer, row, q + h * head);
    }
    attend(m, layer, row, q, mixed);
    multiply(tensor(m, (int)layer, "attn_output.weight"), n_head * head, m->t->n_embd, mixed, out);
}

static void gated(const float *gate, const float *up, const float *down, uint32_t n_in, uint32_t n_ff, const double *in,
                  double *out)
{
    double g[WIDTH], u[WIDTH];
    multiply(gate, n_in, n_ff, in, g);
    multiply(up, n_in, n_ff, in, u);
    for (uint32_t i = 0; i < n_ff; i++) g[i] = gelu(g[i]) * u[i];
    multiply(down, n_ff, n_in, g, out);
}

/* Weights of all experts; 0 for those not taken. */
static void route(naive *m, uint32_t layer, const double *r, const double *normed, double *weights)
{
    const tiny_model *t = m->t;
    const float *scale = tensor(m, (int)layer, "ffn_gate_inp.scale"),
                *each = tensor(m, (int)layer, "ffn_down_exps.scale");
    double in[WIDTH], logits[WIDTH], all = 0, sum = 0, most = -INFINITY;
    norm(m, wrong(m, ROUTER_READS_NORMED) ? normed : r, NULL, t->n_embd, in);
    for (uint32_t i = 0; i < t->n_embd; i++)
        in[i] *= (double)scale[i] * (wrong(m, ROUTER_UNSCALED) ? 1 : 1 / sqrt(t->n_embd));
    multiply(tensor(m, (int)layer, "ffn_gate_inp.weight"), t->n_embd, t->n_expert, in, logits);
    for (uint32_t e = 0; e < t->n_expert; e++) most = fmax(most, logits[e]), weights[e] = 0;
    for (uint32_t e = 0; e < t->n_expert; e++) all += exp(logits[e] - most);
    for (uint32_t u = 0; u < t->n_used; u++) {
        uint32_t best = 0;
        for (uint32_t e = 1; e < t->n_expert; e++)
            if (logits[e] > logits[best]) best = e;
        weights[best] = exp(logits[best] - most) / all;
        if (wrong(m, EXPERT_SCALE_FIRST)) weights[best] *= (double)each[best];
        sum += weights[best];
        logits[best] = -INFINITY;
    }
    for (uint32_t e = 0; e < t->n_expert; e++) {
        if (!wrong(m, NO_RENORM)) weights[e] /= sum;
        if (each && !wrong(m, NO_EXPERT_SCALE) && !wrong(m, EXPERT_SCALE_FIRST)) weights[e] *= (double)each[e];
    }
}

static void add_experts(naive *m, uint32_t layer, const double *r, double *f)
{
    const tiny_model *t = m->t;
    uint32_t n = t->n_embd, n_ff = t->n_ff_expert;
    int l = (int)layer;
    size_t one = (size_t)n_ff * n;
    double in[WIDTH], weights[WIDTH], each[WIDTH], sum[WIDTH] = { 0 };
    norm(m, f, tensor(m, l, "post_ffw_norm_1.weight"), n, f);
    norm(m, r, tensor(m, l, "pre_ffw_norm_2.weight"), n, in);
    route(m, layer, r, in, weights);
    const float *fused = tensor(m, l, "ffn_gate_up_exps.weight"), *gate = tensor(m, l, "ffn_gate_exps.weight"),
                *up = tensor(m, l, "ffn_up_exps.weight"), *down = tensor(m, l, "ffn_down_exps.weight");
    for (uint32_t e = 0; e < t->n_expert; e++) {
        if (weights[e] == 0) continue;
        const float *g = fused ? fused + 2 * e * one : gate + e * one, *u = fused ? g + one : up + e * one;
        bool swap = wrong(m, UP_BEFORE_GATE);
        gated(swap ? u : g, swap ? g : u, down + e * one, n, n_ff, in, each);
        for (uint32_t i = 0; i < n; i++) sum[i] += weights[e] * each[i];
    }
    norm(m, sum, tensor(m, l, "post_ffw_norm_2.weight"), n, sum);
    for (uint32_t i = 0; i < n; i++) f[i] += sum[i];
}

static void feed(naive *m, uint32_t layer, const double *r, double *f)
{
    uint32_t n = m->t->n_embd;
    int l = (int)layer;
    double in[WIDTH];
    norm(m, r, tensor(m, l, "ffn_norm.weight"), n, in);
    gated(tensor(m, l, "ffn_gate.weight"), tensor(m, l, "ffn_up.weight"), tensor(m, l, "ffn_down.weight"), n,
          m->t->n_ff, in, f);
    if (m->t->n_expert) add_experts(m, layer, r, f);
}

static void add_ple(naive *m, uint32_t layer, uint32_t row, double *y)
{
    uint32_t n = m->t->n_embd, n_ple = m->t->n_ple, slice = wrong(m, PLE_OTHER_LAYER) ? 0 : layer;
    double g[WIDTH], out[WIDTH];
    multiply(tensor(m, (int)layer, "inp_gate.weight"), n, n_ple, y, g);
    for (uint32_t c = 0; c < n_ple; c++) g[c] = gelu(g[c]) * m->ple[((size_t)row * m->t->n_layers + slice) * n_ple + c];
    multiply(tensor(m, (int)layer, "proj.weight"), n_ple, n, g, out);
    norm(m, out, tensor(m, (int)layer, "post_norm.weight"), n, out);
    for (uint32_t i = 0; i < n; i++) y[i] += out[i];
}

static void one_layer(naive *m, uint32_t layer)
{
    uint32_t n = m->t->n_embd;
    int l = (int)layer;
    double a[WIDTH], out[WIDTH], y[WIDTH];
    for (uint32_t row = 0; row < m->n; row++) {
        double *x = m->x + (size_t)row * n;
        norm(m, x, tensor(m, l, "attn_norm.weight"), n, a);
        if (source_of(m, layer) == layer) write_kv(m, layer, row, a);
        mix(m, layer, row, a, out);
        norm(m, out, tensor(m, l, "post_attention_norm.weight"), n, out);
        for (uint32_t i = 0; i < n; i++) y[i] = x[i] + out[i];
        feed(m, layer, y, out);
        norm(m, out, tensor(m, l, "post_ffw_norm.weight"), n, out);
        for (uint32_t i = 0; i < n; i++) y[i] += out[i];
        if (m->t->n_ple) add_ple(m, layer, row, y);
        const float *scale = m->t->family == 4 ? tensor(m, l, "layer_output_scale.weight") : NULL;
        double by = scale && !wrong(m, NO_OUTPUT_SCALE) ? (double)scale[0] : 1;
        for (uint32_t i = 0; i < n; i++) x[i] = wrong(m, SCALE_ONLY_UPDATE) ? x[i] + (y[i] - x[i]) * by : y[i] * by;
    }
}

/* ---- the model ---- */

static void begin(naive *m, const int32_t *ids)
{
    const tiny_model *t = m->t;
    const float *table = tensor(m, -1, "token_embd.weight"), *rows = tensor(m, -1, "per_layer_token_embd.weight");
    uint32_t n = t->n_embd, width = t->n_layers * t->n_ple;
    double context[WIDTH];
    for (uint32_t r = 0; r < m->n; r++) {
        double *x = m->x + (size_t)r * n, *ple = m->ple + (size_t)r * width, by = sqrt(n);
        for (uint32_t i = 0; i < n; i++) x[i] = (double)table[(size_t)ids[r] * n + i];
        if (width && wrong(m, PLE_OF_UNSCALED))
            multiply(tensor(m, -1, "per_layer_model_proj.weight"), n, width, x, context);
        for (uint32_t i = 0; i < n && !wrong(m, NO_EMBEDDING_SCALE); i++) x[i] *= by;
        if (width && !wrong(m, PLE_OF_UNSCALED))
            multiply(tensor(m, -1, "per_layer_model_proj.weight"), n, width, x, context);
        for (uint32_t i = 0; i < width; i++) context[i] *= wrong(m, PLE_CONTEXT_UNSCALED) ? 1 : 1 / by;
        for (uint32_t i = 0; i < width; i += t->n_ple)
            norm(m, context + i, tensor(m, -1, "per_layer_proj_norm.weight"), t->n_ple, context + i);
        for (uint32_t i = 0; i < width; i++) {
            double token = (double)rows[(size_t)ids[r] * width + i];
            ple[i] = context[i] + token * (wrong(m, PLE_TOKEN_UNSCALED) ? 1 : sqrt(t->n_ple));
            ple[i] *= wrong(m, PLE_SUM_UNSCALED) ? 1 : sqrt(0.5);
        }
    }
}

static void head(naive *m, float *logits)
{
    uint32_t n = m->t->n_embd, n_vocab = m->t->n_vocab;
    const float *w =
        m->t->untied && !wrong(m, TIED_OUTPUT) ? tensor(m, -1, "output.weight") : tensor(m, -1, "token_embd.weight");
    double h[WIDTH], *z = doubles(n_vocab);
    for (uint32_t r = 0; r < m->n; r++) {
        norm(m, m->x + (size_t)r * n, tensor(m, -1, "output_norm.weight"), n, h);
        multiply(w, n, n_vocab, h, z);
        for (uint32_t i = 0; i < n_vocab; i++)
            logits[(size_t)r * n_vocab + i] =
                (float)(m->t->family == 4 && !wrong(m, NO_SOFTCAP) ? 30 * tanh(z[i] / 30) : z[i]);
    }
    free(z);
}

void naive_gemma(const tiny_model *t, const void *file, size_t n_bytes, naive_mistake mistake, const int32_t *ids,
                 uint32_t n, float *logits)
{
    naive m = { .t = t, .mistake = mistake, .n = n };
    gm_mem_init(&m.mem, NULL);
    gm_gguf_input input = { .bytes = file, .n_bytes = n_bytes };
    assert_int_equal(gm_gguf_open(&m.mem, &input, &m.file, NULL), GEMMA_OK);
    uint32_t n_tensors = gm_gguf_n_tensors(m.file);
    m.tensors = calloc(n_tensors, sizeof *m.tensors);
    m.x = doubles((size_t)n * t->n_embd);
    m.ple = doubles((size_t)n * t->n_layers * t->n_ple + 1);
    begin(&m, ids);
    for (uint32_t i = 0; i < t->n_layers; i++) one_layer(&m, i);
    head(&m, logits);
    for (uint32_t i = 0; i < n_tensors; i++) free(m.tensors[i]);
    for (uint32_t i = 0; i < t->n_layers; i++) free(m.k[i]), free(m.v[i]);
    free(m.tensors);
    free(m.x);
    free(m.ple);
    gm_gguf_close(m.file);
}
