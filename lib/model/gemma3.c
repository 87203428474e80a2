/* Gemma 3: five sliding layers to one global one, norms before and behind each half of a layer, GeGLU. */
#include "model/family.h"

#include <math.h>

enum { LAYERS_27B = 62, PATTERN = 6 };

/* Layer i slides if i % n < n - 1; n 0: all do. */
static int read_pattern(const gm_keys *k)
{
    gm_model *m = k->m;
    uint32_t n = PATTERN;
    bool found;
    int rc = gm_key_u32(k, "attention.sliding_window", false, 0, GM_WIDTH_MAX, &m->window);
    if (rc) return rc;
    rc = gm_key_pattern(k, "attention.sliding_window_pattern", &found);
    if (!rc && !found) {
        rc = gm_key_u32(k, "attention.sliding_window_pattern", false, 0, UINT32_MAX, &n);
        for (uint32_t i = 0; i < m->n_layers; i++) m->layers[i].sliding = n == 0 || i % n < n - 1;
    }
    for (uint32_t i = 0; i < m->n_layers && m->window == 0; i++) m->layers[i].sliding = false;
    return rc;
}

static int read(const gm_keys *k)
{
    gm_model *m = k->m;
    uint32_t n_shared = 0;
    int rc = gm_hparams_read(k);
    if (!rc) rc = read_pattern(k);
    if (!rc) rc = gm_hparams_heads(k, false);
    if (!rc) rc = gm_key_float(k, "final_logit_softcapping", false, 0.0, 1e6, &m->softcap);
    if (!rc) rc = gm_key_u32(k, "attention.shared_kv_layers", false, 0, m->n_layers - 1, &n_shared);
    if (!rc) rc = gm_hparams_kv(k, n_shared);
    if (rc) return rc;
    /* No key tells this; 27B was trained with embedding_length / head_count where the others have the head size. */
    double root = m->n_layers == LAYERS_27B ? (double)m->n_embd / m->n_head : (double)m->layers[0].head;
    m->attention_scale = (float)(1.0 / sqrt(root));
    return GEMMA_OK;
}

static void find(gm_finder *f)
{
    for (uint32_t i = 0; i < f->m->n_layers; i++) {
        f->layer = (int32_t)i;
        gm_find_layer(f, false);
    }
}

static void emit(gm_emit *e)
{
    for (uint32_t i = 0; i < e->m->n_layers; i++) {
        const gm_layer_roles *r = &e->m->roles->layers[i];
        uint16_t mixed = gm_emit_attention(e, i);
        gm_emit_add(e, (int32_t)i, mixed, r->post_attention_norm, -1, r->ffn_norm);
        uint16_t fed = gm_emit_ffn(e, i, e->normed);
        gm_emit_add(e, (int32_t)i, fed, r->post_ffw_norm, -1, gm_emit_next_norm(e, i));
    }
}

const gm_family_fns gm_gemma3 = { .name = "gemma3", .family = GM_GEMMA3, .read = read, .find = find, .emit = emit };
