#include "model/family.h"

int gm_hparams_run(const gm_keys *k, const char *name, uint32_t value)
{
    char key[GM_KEY_BYTES];
    if (value % GM_RUN == 0) return GEMMA_OK;
    return gm_fail(k->error, GEMMA_E_UNSUPPORTED, "%s is %u, which is not a multiple of %u", gm_key_name(k, name, key),
                   value, GM_RUN);
}

static int read_layer_counts(const gm_keys *k)
{
    gm_model *m = k->m;
    uint32_t ff[GM_LAYERS_MAX], head[GM_LAYERS_MAX], kv[GM_LAYERS_MAX];
    int rc = gm_key_layers(k, "feed_forward_length", true, 1, GM_WIDTH_MAX, ff);
    if (!rc) rc = gm_key_layers(k, "attention.head_count", true, 1, GM_HEADS_MAX, head);
    if (rc) return rc;
    memcpy(kv, head, sizeof kv);
    rc = gm_key_layers(k, "attention.head_count_kv", false, 1, GM_HEADS_MAX, kv);
    for (uint32_t i = 0; i < m->n_layers && !rc; i++) {
        gm_layer *l = &m->layers[i];
        l->n_ff = ff[i];
        l->n_head = head[i];
        l->n_kv = kv[i];
        rc = gm_hparams_run(k, "feed_forward_length", ff[i]);
        if (!rc && l->n_head % l->n_kv)
            rc = gm_fail(k->error, GEMMA_E_FORMAT, "layer %u: %u query heads cannot share %u key/value heads", i,
                         l->n_head, l->n_kv);
    }
    m->n_head = head[0];
    return rc;
}

int gm_hparams_read(const gm_keys *k)
{
    gm_model *m = k->m;
    int rc = gm_key_u32(k, "block_count", true, 1, GM_LAYERS_MAX, &m->n_layers);
    if (!rc) rc = gm_key_u32(k, "context_length", true, 1, INT32_MAX, &m->ctx_trained);
    if (!rc) rc = gm_key_u32(k, "embedding_length", true, 1, GM_WIDTH_MAX, &m->n_embd);
    if (!rc) rc = gm_hparams_run(k, "embedding_length", m->n_embd);
    if (!rc) rc = gm_key_float(k, "attention.layer_norm_rms_epsilon", true, 0.0, 1.0, &m->eps);
    if (rc) return rc;
    m->layers = gm_new_array(m->mem, m->n_layers, sizeof *m->layers, GEMMA_TAG_FILE);
    if (!m->layers) return gm_fail_nomem(k->error, "the model's layers", m->n_layers * sizeof *m->layers);
    char key[GM_KEY_BYTES];
    bool causal = true;
    if (gm_gguf_bool(k->gguf, gm_key_name(k, "attention.causal", key), &causal) && !causal)
        return gm_fail(k->error, GEMMA_E_UNSUPPORTED, "%s is false: only models that generate text are run", key);
    return read_layer_counts(k);
}

/* The head size of a kind: keys and values must agree. */
static int read_head(const gm_keys *k, const char *key_name, const char *value_name, bool required, uint32_t fallback,
                     uint32_t *head)
{
    uint32_t value_head;
    char a[GM_KEY_BYTES], b[GM_KEY_BYTES];
    *head = fallback;
    int rc = gm_key_u32(k, key_name, required, 1, GM_HEAD_MAX, head);
    value_head = *head;
    if (!rc) rc = gm_key_u32(k, value_name, required, 1, GM_HEAD_MAX, &value_head);
    if (rc) return rc;
    if (value_head != *head)
        return gm_fail(k->error, GEMMA_E_UNSUPPORTED, "%s is %u, but %s is %u: they must be the same",
                       gm_key_name(k, key_name, a), *head, gm_key_name(k, value_name, b), value_head);
    if (*head == 0 || *head > GM_HEAD_MAX)
        return gm_fail(k->error, GEMMA_E_FORMAT, "%s is missing, and embedding_length / head_count gives %u",
                       gm_key_name(k, key_name, a), *head);
    return gm_hparams_run(k, key_name, *head);
}

/* Rotating only a part of a head is not known of any Gemma; what it would mean is not either. */
static int check_rotated(const gm_keys *k, const char *name, uint32_t dimensions, uint32_t head)
{
    char key[GM_KEY_BYTES];
    if (dimensions == head) return GEMMA_OK;
    return gm_fail(k->error, GEMMA_E_UNSUPPORTED,
                   "%s is %u, but the heads have %u values: only whole heads are rotated", gm_key_name(k, name, key),
                   dimensions, head);
}

static int read_rope_scaling(const gm_keys *k)
{
    char key[GM_KEY_BYTES];
    gm_str type = { "linear", 6 };
    float factor = 0.0f;
    gm_gguf_string(k->gguf, gm_key_name(k, "rope.scaling.type", key), &type);
    bool none = type.n == 4 && memcmp(type.data, "none", 4) == 0;
    if (!none && !(type.n == 6 && memcmp(type.data, "linear", 6) == 0))
        return gm_fail(k->error, GEMMA_E_UNSUPPORTED, "%s is \"%.*s\"; only \"linear\" and \"none\" are known", key,
                       (int)gm_min_u64(type.n, 32), type.data);
    int rc = gm_key_float(k, "rope.scale_linear", false, 0.0, 1e6, &factor);
    if (!rc) rc = gm_key_float(k, "rope.scaling.factor", false, 0.0, 1e6, &factor);
    k->m->rope_scale_global = none || factor == 0.0f ? 1.0f : 1.0f / factor;
    return rc;
}

static int read_rope(const gm_keys *k, uint32_t head, uint32_t head_sliding)
{
    gm_model *m = k->m;
    float base = 10000.0f, base_sliding = 10000.0f;
    uint32_t rotated = head;
    int rc = gm_key_float(k, "rope.freq_base", false, 1.0, 1e12, &base);
    if (!rc) rc = gm_key_float(k, "rope.freq_base_swa", false, 1.0, 1e12, &base_sliding);
    if (!rc) rc = gm_key_u32(k, "rope.dimension_count", false, 0, UINT32_MAX, &rotated);
    if (!rc) rc = check_rotated(k, "rope.dimension_count", rotated, head);
    if (!rc) rc = gm_key_u32(k, "rope.dimension_count_swa", false, 0, UINT32_MAX, &rotated);
    if (!rc && m->window)
        rc = check_rotated(k, "rope.dimension_count_swa", gm_min_u32(rotated, head_sliding), head_sliding);
    if (rc) return rc;
    m->rope_base_global = base;
    m->rope_base_sliding = base_sliding;
    return read_rope_scaling(k);
}

int gm_hparams_heads(const gm_keys *k, bool swa_required)
{
    gm_model *m = k->m;
    uint32_t head, head_sliding;
    int rc = read_head(k, "attention.key_length", "attention.value_length", false, m->n_embd / m->n_head, &head);
    if (!rc)
        rc = read_head(k, "attention.key_length_swa", "attention.value_length_swa", swa_required, head, &head_sliding);
    if (!rc) rc = read_rope(k, head, head_sliding);
    for (uint32_t i = 0; i < m->n_layers && !rc; i++) {
        gm_layer *l = &m->layers[i];
        l->head = l->sliding ? head_sliding : head;
        if ((uint64_t)l->n_head * l->head > GM_WIDTH_MAX)
            rc = gm_fail(k->error, GEMMA_E_FORMAT, "layer %u: %u heads of %u values are more than %u values", i,
                         l->n_head, l->head, GM_WIDTH_MAX);
    }
    return rc;
}

static int check_source(const gm_keys *k, uint32_t layer)
{
    const gm_model *m = k->m;
    const gm_layer *l = &m->layers[layer];
    if (l->kv < 0)
        return gm_fail(k->error, GEMMA_E_FORMAT, "layer %u shares keys and values, but no %s layer before it has any",
                       layer, l->sliding ? "sliding" : "global");
    const gm_kv_layer *source = &m->kv[l->kv];
    if (source->n_kv == l->n_kv && source->head == l->head) return GEMMA_OK;
    return gm_fail(k->error, GEMMA_E_FORMAT,
                   "layer %u reads %u key/value heads of %u values, but layer %u, which it shares them with, has %u of "
                   "%u",
                   layer, l->n_kv, l->head, source->layer, source->n_kv, source->head);
}

int gm_hparams_kv(const gm_keys *k, uint32_t n_shared)
{
    gm_model *m = k->m;
    uint32_t n_own = m->n_layers - n_shared;
    int32_t last[2] = { -1, -1 };
    m->kv = gm_new_array(m->mem, n_own, sizeof *m->kv, GEMMA_TAG_FILE);
    if (!m->kv) return gm_fail_nomem(k->error, "the model's KV layers", n_own * sizeof *m->kv);
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < m->n_layers && !rc; i++) {
        gm_layer *l = &m->layers[i];
        uint32_t kind = l->sliding ? GM_KV_SLIDING : GM_KV_GLOBAL;
        l->owns_kv = i < n_own;
        if (l->owns_kv) {
            m->kv[i] = (gm_kv_layer){ .kind = kind, .layer = i, .n_kv = l->n_kv, .head = l->head };
            last[kind] = (int32_t)i;
        }
        l->kv = last[kind];
        rc = check_source(k, i);
    }
    m->n_kv = n_own;
    return rc;
}
