#include "model/family.h"

#include <math.h>

enum { NAME_BYTES = 65 };

static const char *full_name(const gm_finder *f, const char *name, char buffer[NAME_BYTES])
{
    if (f->layer < 0)
        gm_text_format(buffer, NAME_BYTES, "%s", name);
    else
        gm_text_format(buffer, NAME_BYTES, "blk.%d.%s", (int)f->layer, name);
    return buffer;
}

static const gm_tensor *find(const gm_finder *f, const char *name)
{
    char full[NAME_BYTES];
    return gm_gguf_find(f->gguf, full_name(f, name, full));
}

bool gm_find_has(const gm_finder *f, const char *name) { return find(f, name) != NULL; }

int32_t gm_add_weight(gm_finder *f, const gm_weight *w)
{
    gm_model *m = f->m;
    if (f->rc) return -1; /* read_factors has left none */
    if (m->n_weights == m->roles->cap_weights) {
        uint32_t cap = m->roles->cap_weights ? 2 * m->roles->cap_weights : 64;
        gm_weight *grown = gm_grow(m->mem, m->weights, (uint64_t)cap * sizeof *grown, GEMMA_TAG_FILE);
        if (!grown) {
            f->rc = gm_fail_nomem(f->error, "the model's tensor list", (uint64_t)cap * sizeof *grown);
            gm_delete(m->mem, w->factors);
            return -1;
        }
        m->weights = grown;
        m->roles->cap_weights = cap;
    }
    m->weights[m->n_weights] = *w;
    return (int32_t)m->n_weights++;
}

/* "[640, 2048]" */
static void format_shape(const uint64_t *ne, uint32_t n_dims, char *buffer, size_t n)
{
    size_t at = gm_text_format(buffer, n, "[");
    for (uint32_t i = 0; i < n_dims; i++)
        at += gm_text_format(buffer + at, n - at, i ? ", %llu" : "%llu", (unsigned long long)ne[i]);
    gm_text_format(buffer + at, n - at, "]");
}

static int wrong_shape(const gm_finder *f, const gm_tensor *t, const gm_shape *shape)
{
    char is[96], should[72];
    uint32_t n_dims = shape->ne[2] > 1 ? 3 : shape->ne[1] > 1 ? 2 : 1;
    format_shape(t->ne, t->n_dims, is, sizeof is);
    format_shape(shape->ne, n_dims, should, sizeof should);
    return gm_fail(f->error, GEMMA_E_FORMAT, "%s has shape %s, but should have %s", t->name, is, should);
}

/* NVFP4 files keep factors apart, in X.scale beside X.weight: one, or one for each matrix. That of ffn_down_exps is a
 * tensor of its own role, which the router applies. */
static const gm_tensor *factors_of(const gm_finder *f, const gm_tensor *t)
{
    static const char suffix[] = ".weight";
    char name[NAME_BYTES + 8];
    size_t n = strlen(t->name);
    if (t->format->type != GM_NVFP4 || n < sizeof suffix || strcmp(t->name + n - strlen(suffix), suffix)) return NULL;
    if (strstr(t->name, ".ffn_down_exps.")) return NULL;
    gm_text_format(name, sizeof name, "%.*s.scale", (int)(n - strlen(suffix)), t->name);
    return gm_gguf_find(f->gguf, name);
}

/* Reads them; NULL where there are none or an error is stuck. */
static float *read_factors(gm_finder *f, const gm_tensor *t)
{
    const gm_tensor *s = f->rc ? NULL : factors_of(f, t);
    if (!s) return NULL;
    uint64_t n = s->ne[0];
    if (s->format->type != GM_F32 || s->n_dims != 1 || (n != 1 && n != t->ne[2])) {
        f->rc = gm_fail(f->error, GEMMA_E_FORMAT, "%s must be 1 or %llu values of type F32", s->name,
                        (unsigned long long)t->ne[2]);
        return NULL;
    }
    float *factors = gm_new_array(f->m->mem, t->ne[2], sizeof *factors, GEMMA_TAG_FILE);
    f->rc = factors ? gm_gguf_read(f->gguf, s, 0, factors, n * sizeof *factors, f->error)
                    : gm_fail_nomem(f->error, s->name, t->ne[2] * sizeof *factors);
    for (uint64_t i = 0; !f->rc && i < t->ne[2]; i++) {
        if (i >= n) factors[i] = factors[0];
        if (!isfinite(factors[i]))
            f->rc =
                gm_fail(f->error, GEMMA_E_FORMAT, "%s: value %llu is no finite number", s->name, (unsigned long long)i);
    }
    if (!f->rc) return factors;
    gm_delete(f->m->mem, factors);
    return NULL;
}

/* NULL when it is absent or an error is stuck. */
static const gm_tensor *find_checked(gm_finder *f, const char *name, const gm_shape *shape, bool optional)
{
    char full[NAME_BYTES];
    if (f->rc) return NULL;
    const gm_tensor *t = find(f, name);
    if (!t) {
        if (!optional) f->rc = gm_fail(f->error, GEMMA_E_FORMAT, "the tensor %s is missing", full_name(f, name, full));
        return NULL;
    }
    bool same = t->ne[0] == shape->ne[0] && t->ne[1] == shape->ne[1] && t->ne[2] == shape->ne[2] && t->ne[3] == 1;
    if (!same)
        f->rc = wrong_shape(f, t, shape);
    else if (!t->format->unpack)
        f->rc = gm_fail(f->error, GEMMA_E_UNSUPPORTED, "%s has the type %s, which this library cannot decode", t->name,
                        t->format->name);
    return f->rc ? NULL : t;
}

static int32_t add_tensor(gm_finder *f, const gm_tensor *t, uint32_t bytes_class)
{
    if (!t) return -1;
    gm_weight w = { .tensor = t,
                    .bytes_class = bytes_class,
                    .layer = f->layer,
                    .n_bytes = t->n_bytes,
                    .n_out = (uint32_t)t->ne[1],
                    .read_per_token = t->n_bytes,
                    .factors = read_factors(f, t) };
    return gm_add_weight(f, &w);
}

int32_t gm_find_vector(gm_finder *f, const char *name, uint64_t n, bool optional)
{
    const gm_tensor *t = find_checked(f, name, &(gm_shape){ { n, 1, 1 } }, optional);
    if (t && t->format->type != GM_F32) {
        f->rc = gm_fail(f->error, GEMMA_E_UNSUPPORTED, "%s has the type %s, but must be F32", t->name, t->format->name);
        return -1;
    }
    return add_tensor(f, t, GEMMA_CLASS_NORMS);
}

int32_t gm_find_matrix(gm_finder *f, const char *name, gm_shape shape, uint32_t bytes_class, bool optional)
{
    return add_tensor(f, find_checked(f, name, &shape, optional), bytes_class);
}

int32_t gm_find_table(gm_finder *f, const char *name, uint64_t width, uint32_t bytes_class)
{
    char full[NAME_BYTES];
    const gm_tensor *t = find(f, name);
    uint64_t n_rows = t ? t->ne[1] : 0;
    if (!f->rc && t && (n_rows == 0 || n_rows > GM_VOCAB_MAX))
        f->rc = gm_fail(f->error, GEMMA_E_FORMAT, "%s has %llu rows; it must have 1 to %u", full_name(f, name, full),
                        (unsigned long long)n_rows, GM_VOCAB_MAX);
    if (!f->rc && t && factors_of(f, t))
        f->rc = gm_fail(f->error, GEMMA_E_UNSUPPORTED,
                        "%s is read by row and has its factor apart (.scale), which is not supported", t->name);
    int32_t w = gm_find_matrix(f, name, (gm_shape){ { width, n_rows, 1 } }, bytes_class, false);
    if (w < 0) return w;
    gm_weight *weight = &f->m->weights[w];
    weight->by_row = true;
    weight->read_per_token = weight->n_bytes / n_rows;
    return w;
}

void gm_find_common(gm_finder *f)
{
    gm_model *m = f->m;
    gm_roles *r = m->roles;
    r->output_norm = gm_find_vector(f, "output_norm.weight", m->n_embd, false);
    r->output = r->token_embd = gm_find_table(f, "token_embd.weight", m->n_embd, GEMMA_CLASS_EMBEDDING);
    if (f->rc) return;
    gm_weight *table = &m->weights[r->token_embd];
    if (gm_find_has(f, "output.weight")) {
        gm_shape shape = { { m->n_embd, table->n_out, 1 } };
        r->output = gm_find_matrix(f, "output.weight", shape, GEMMA_CLASS_HEAD, false);
    } else { /* tied: one row for the token, all of them for the logits */
        table->bytes_class = GEMMA_CLASS_HEAD;
        table->by_row = false;
        table->read_per_token += table->n_bytes;
    }
}

/* n rows from `first` of a matrix, as a weight of their own. */
static int32_t add_rows(gm_finder *f, const gm_tensor *t, uint32_t first, uint32_t n)
{
    uint64_t row_bytes = t->n_bytes / t->ne[1];
    gm_weight w = { .tensor = t,
                    .offset = first * row_bytes,
                    .n_bytes = n * row_bytes,
                    .n_out = n,
                    .bytes_class = GEMMA_CLASS_ATTENTION,
                    .layer = f->layer,
                    .read_per_token = n * row_bytes,
                    .factors = read_factors(f, t) };
    return gm_add_weight(f, &w);
}

static void find_fused_qkv(gm_finder *f, gm_layer_roles *r, const gm_layer *l)
{
    uint32_t q = l->n_head * l->head, kv = l->n_kv * l->head;
    const gm_tensor *t = find_checked(f, "attn_qkv.weight", &(gm_shape){ { f->m->n_embd, q + 2 * kv, 1 } }, false);
    if (!t) return;
    r->q = add_rows(f, t, 0, q);
    if (!l->owns_kv) return;
    r->k = add_rows(f, t, q, kv);
    r->v = add_rows(f, t, q + kv, kv);
}

static void find_qkv(gm_finder *f, gm_layer_roles *r, const gm_layer *l, bool k_as_v)
{
    uint64_t n_embd = f->m->n_embd;
    gm_shape q = { { n_embd, (uint64_t)l->n_head * l->head, 1 } }, kv = { { n_embd, (uint64_t)l->n_kv * l->head, 1 } };
    r->q = gm_find_matrix(f, "attn_q.weight", q, GEMMA_CLASS_ATTENTION, false);
    if (!l->owns_kv) return;
    r->k = gm_find_matrix(f, "attn_k.weight", kv, GEMMA_CLASS_ATTENTION, false);
    r->v = gm_find_matrix(f, "attn_v.weight", kv, GEMMA_CLASS_ATTENTION, k_as_v);
}

void gm_find_layer(gm_finder *f, bool k_as_v)
{
    uint64_t n_embd = f->m->n_embd;
    const gm_layer *l = &f->m->layers[f->layer];
    gm_layer_roles *r = &f->m->roles->layers[f->layer];
    r->attn_norm = gm_find_vector(f, "attn_norm.weight", n_embd, false);
    if (!gm_find_has(f, "attn_q.weight") && gm_find_has(f, "attn_qkv.weight"))
        find_fused_qkv(f, r, l);
    else
        find_qkv(f, r, l, k_as_v);
    r->q_norm = gm_find_vector(f, "attn_q_norm.weight", l->head, false);
    if (l->owns_kv) r->k_norm = gm_find_vector(f, "attn_k_norm.weight", l->head, false);
    gm_shape output = { { (uint64_t)l->n_head * l->head, n_embd, 1 } };
    r->attn_output = gm_find_matrix(f, "attn_output.weight", output, GEMMA_CLASS_ATTENTION, false);
    r->post_attention_norm = gm_find_vector(f, "post_attention_norm.weight", n_embd, false);
    r->ffn_norm = gm_find_vector(f, "ffn_norm.weight", n_embd, false);
    gm_shape in = { { n_embd, l->n_ff, 1 } }, out = { { l->n_ff, n_embd, 1 } };
    r->gate = gm_find_matrix(f, "ffn_gate.weight", in, GEMMA_CLASS_FFN, false);
    r->up = gm_find_matrix(f, "ffn_up.weight", in, GEMMA_CLASS_FFN, false);
    r->down = gm_find_matrix(f, "ffn_down.weight", out, GEMMA_CLASS_FFN, false);
    r->post_ffw_norm = gm_find_vector(f, "post_ffw_norm.weight", n_embd, false);
}
