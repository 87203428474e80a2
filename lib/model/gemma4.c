/* Gemma 4: per-layer embeddings (E2B, E4B), layers that share keys and values, global layers whose values are their
 * keys, experts beside the dense FFN (26B-A4B), and a factor on the stream behind every layer. */
#include "model/family.h"

#include <math.h>

/* ---- hyper-parameters ---- */

static int read_experts(const gm_keys *k)
{
    gm_roles *r = k->m->roles;
    int rc = gm_key_u32(k, "expert_count", false, 0, GM_EXPERTS_MAX, &r->n_expert);
    if (rc || r->n_expert == 0) return rc;
    rc = gm_key_uniform(k, "expert_used_count", 1, gm_min_u32(r->n_expert, GM_USED_MAX), &r->n_used);
    if (!rc) rc = gm_key_uniform(k, "expert_feed_forward_length", 1, GM_WIDTH_MAX / 2, &r->n_ff_expert);
    if (!rc) rc = gm_hparams_run(k, "expert_feed_forward_length", r->n_ff_expert);
    return rc;
}

static int read_ple(const gm_keys *k)
{
    gm_model *m = k->m;
    const char *name = "embedding_length_per_layer_input";
    int rc = gm_key_u32(k, name, true, 0, GM_WIDTH_MAX / m->n_layers, &m->n_ple);
    return rc ? rc : gm_hparams_run(k, name, m->n_ple);
}

static int read(const gm_keys *k)
{
    gm_model *m = k->m;
    const char *pattern = "attention.sliding_window_pattern";
    char key[GM_KEY_BYTES];
    bool found;
    uint32_t n_shared = 0;
    int rc = gm_hparams_read(k);
    if (!rc) rc = gm_key_u32(k, "attention.sliding_window", true, 1, GM_WIDTH_MAX, &m->window);
    if (!rc) rc = gm_key_pattern(k, pattern, &found);
    if (!rc && !found) rc = gm_fail(k->error, GEMMA_E_FORMAT, "the array %s is missing", gm_key_name(k, pattern, key));
    if (!rc) rc = gm_hparams_heads(k, true);
    if (!rc) rc = read_ple(k);
    if (!rc) rc = read_experts(k);
    if (!rc) rc = gm_key_u32(k, "attention.shared_kv_layers", false, 0, m->n_layers - 1, &n_shared);
    if (!rc) rc = gm_hparams_kv(k, n_shared);
    m->softcap = 30.0f;
    if (!rc) rc = gm_key_float(k, "final_logit_softcapping", false, 0.0, 1e6, &m->softcap);
    m->attention_scale = 1.0f;
    return rc;
}

/* ---- tensors ---- */

/* Global layers turn only the first quarter of their pairs. Files say so in rope_freqs: 1, and 1e30 for the pairs that
 * stand still; where it is missing it is made. */
static int32_t find_rope_freqs(gm_finder *f, uint32_t head)
{
    gm_roles *r = f->m->roles;
    uint32_t n = head / 2;
    if (gm_find_has(f, "rope_freqs.weight")) return gm_find_vector(f, "rope_freqs.weight", n, false);
    r->made_data = gm_new_array(f->m->mem, n, sizeof *r->made_data, GEMMA_TAG_FILE);
    if (!r->made_data) {
        f->rc = gm_fail_nomem(f->error, "rope_freqs.weight", n * sizeof *r->made_data);
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) r->made_data[i] = i < n / 4 ? 1.0f : 1e30f;
    r->made_tensor = (gm_tensor){ .name = "rope_freqs.weight",
                                  .n_dims = 1,
                                  .ne = { n, 1, 1, 1 },
                                  .format = gm_format_of(GM_F32),
                                  .n_bytes = n * sizeof *r->made_data };
    gm_weight w = { .tensor = &r->made_tensor,
                    .made = r->made_data,
                    .n_bytes = r->made_tensor.n_bytes,
                    .n_out = 1,
                    .bytes_class = GEMMA_CLASS_NORMS,
                    .layer = -1,
                    .read_per_token = r->made_tensor.n_bytes };
    return gm_add_weight(f, &w);
}

static void find_ple(gm_finder *f)
{
    gm_model *m = f->m;
    gm_roles *r = m->roles;
    uint32_t width = m->n_layers * m->n_ple;
    r->ple_token_embd = gm_find_table(f, "per_layer_token_embd.weight", width, GEMMA_CLASS_PLE);
    gm_shape proj = { { m->n_embd, width, 1 } };
    r->ple_model_proj = gm_find_matrix(f, "per_layer_model_proj.weight", proj, GEMMA_CLASS_FFN, false);
    r->ple_proj_norm = gm_find_vector(f, "per_layer_proj_norm.weight", m->n_ple, false);
    if (f->rc) return;
    uint32_t n_rows = m->weights[r->ple_token_embd].n_out, n_vocab = m->weights[r->token_embd].n_out;
    if (n_rows < n_vocab)
        f->rc = gm_fail(f->error, GEMMA_E_FORMAT,
                        "per_layer_token_embd.weight has %u rows, but token_embd.weight has %u", n_rows, n_vocab);
}

/* A token reads n_used of the n_expert matrices. */
static int32_t find_experts(gm_finder *f, const char *name, uint64_t n_in, uint64_t n_out)
{
    const gm_roles *r = f->m->roles;
    gm_shape shape = { { n_in, n_out, r->n_expert } };
    int32_t w = gm_find_matrix(f, name, shape, GEMMA_CLASS_EXPERTS, false);
    if (w >= 0) f->m->weights[w].read_per_token = f->m->weights[w].n_bytes / r->n_expert * r->n_used;
    return w;
}

static void find_moe(gm_finder *f, gm_layer_roles *l)
{
    const gm_roles *r = f->m->roles;
    uint64_t n_embd = f->m->n_embd, n_ff = r->n_ff_expert;
    gm_shape router = { { n_embd, r->n_expert, 1 } };
    if (f->rc) return;
    if (r->n_expert == 0) {
        f->rc = gm_fail(f->error, GEMMA_E_FORMAT, "blk.%d has experts, but the key gemma4.expert_count is missing or 0",
                        (int)f->layer);
        return;
    }
    l->router = gm_find_matrix(f, "ffn_gate_inp.weight", router, GEMMA_CLASS_EXPERTS, false);
    l->router_scale = gm_find_vector(f, "ffn_gate_inp.scale", n_embd, false);
    if (gm_find_has(f, "ffn_gate_up_exps.weight")) {
        l->gate_up_exps = find_experts(f, "ffn_gate_up_exps.weight", n_embd, 2 * n_ff);
    } else {
        l->gate_exps = find_experts(f, "ffn_gate_exps.weight", n_embd, n_ff);
        l->up_exps = find_experts(f, "ffn_up_exps.weight", n_embd, n_ff);
    }
    l->down_exps = find_experts(f, "ffn_down_exps.weight", n_ff, n_embd);
    l->down_exps_scale = gm_find_vector(f, "ffn_down_exps.scale", r->n_expert, true);
    l->pre_ffw_norm_2 = gm_find_vector(f, "pre_ffw_norm_2.weight", n_embd, false);
    l->post_ffw_norm_1 = gm_find_vector(f, "post_ffw_norm_1.weight", n_embd, false);
    l->post_ffw_norm_2 = gm_find_vector(f, "post_ffw_norm_2.weight", n_embd, false);
}

static void find(gm_finder *f)
{
    gm_model *m = f->m;
    uint32_t global = 0;
    while (global < m->n_layers && m->layers[global].sliding) global++;
    if (global < m->n_layers) m->roles->rope_freqs = find_rope_freqs(f, m->layers[global].head);
    if (m->n_ple) find_ple(f);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        gm_layer_roles *l = &m->roles->layers[i];
        f->layer = (int32_t)i;
        gm_find_layer(f, true);
        l->output_scale = gm_find_vector(f, "layer_output_scale.weight", 1, true);
        if (m->n_ple) {
            l->inp_gate =
                gm_find_matrix(f, "inp_gate.weight", (gm_shape){ { m->n_embd, m->n_ple, 1 } }, GEMMA_CLASS_FFN, false);
            l->proj =
                gm_find_matrix(f, "proj.weight", (gm_shape){ { m->n_ple, m->n_embd, 1 } }, GEMMA_CLASS_FFN, false);
            l->post_norm = gm_find_vector(f, "post_norm.weight", m->n_embd, false);
        }
        if (gm_find_has(f, "ffn_gate_inp.weight") || gm_find_has(f, "ffn_down_exps.weight")) find_moe(f, l);
    }
}

/* ---- ops ---- */

/* The per-layer inputs of all layers, from the token and from the scaled embedding. */
static void emit_ple(gm_emit *e)
{
    const gm_model *m = e->m;
    uint32_t width = m->n_layers * m->n_ple;
    uint16_t tokens = gm_emit_slot(e, width);
    gm_op *op = gm_emit_op(e, GM_OP_PLE_ROWS, -1);
    op->out[0] = tokens;
    op->w[0] = m->roles->ple_token_embd;
    op->width = width;
    op->scale = sqrtf((float)m->n_ple);
    uint16_t context = gm_emit_matmul(e, -1, m->roles->ple_model_proj, e->x);
    e->ple = gm_emit_slot(e, width);
    op = gm_emit_op(e, GM_OP_PLE_MIX, -1);
    op->in[0] = context;
    op->in[1] = tokens;
    op->out[0] = e->ple;
    op->w[0] = m->roles->ple_proj_norm;
    op->width = width;
    op->slice = m->n_ple;
    op->scale = (float)(1.0 / sqrt((double)m->n_embd));
    op->scale2 = (float)sqrt(0.5);
}

static uint16_t emit_experts(gm_emit *e, uint32_t layer)
{
    const gm_roles *r = e->m->roles;
    const gm_layer_roles *l = &r->layers[layer];
    uint16_t routed = gm_emit_slot(e, 2 * r->n_used);
    gm_op *op = gm_emit_op(e, GM_OP_ROUTER, (int32_t)layer);
    op->in[0] = e->x;
    op->out[0] = routed;
    op->w[0] = l->router;
    op->w[1] = l->router_scale;
    op->w[2] = l->down_exps_scale;
    op->n_expert = r->n_expert;
    op->n_used = r->n_used;
    op->width = e->m->n_embd;
    op->scale = (float)(1.0 / sqrt((double)e->m->n_embd));
    uint16_t in = gm_emit_norm(e, (int32_t)layer, l->pre_ffw_norm_2, e->x);
    uint16_t out = gm_emit_slot(e, e->m->n_embd);
    op = gm_emit_op(e, GM_OP_EXPERTS, (int32_t)layer);
    op->in[0] = in;
    op->in[1] = routed;
    op->out[0] = out;
    op->w[0] = l->gate_up_exps >= 0 ? l->gate_up_exps : l->gate_exps;
    op->w[1] = l->down_exps;
    op->w[2] = l->up_exps;
    op->n_expert = r->n_expert;
    op->n_used = r->n_used;
    op->n_ff = r->n_ff_expert;
    return out;
}

/* The dense FFN, and the experts beside it where there are any. */
static uint16_t emit_feed(gm_emit *e, uint32_t layer)
{
    const gm_layer_roles *l = &e->m->roles->layers[layer];
    uint16_t dense = gm_emit_ffn(e, layer, e->normed);
    if (l->router < 0) return dense;
    uint16_t sum = gm_emit_norm(e, (int32_t)layer, l->post_ffw_norm_1, dense);
    uint16_t experts = emit_experts(e, layer);
    gm_op *op = gm_emit_op(e, GM_OP_NORM_ADD, (int32_t)layer);
    op->in[0] = experts;
    op->in[1] = op->out[0] = sum;
    op->w[0] = l->post_ffw_norm_2;
    op->width = e->m->n_embd;
    return sum;
}

/* What the layer's per-layer input adds. */
static uint16_t emit_layer_input(gm_emit *e, uint32_t layer)
{
    const gm_layer_roles *l = &e->m->roles->layers[layer];
    uint16_t gated = gm_emit_slot(e, e->m->n_ple);
    gm_op *op = gm_emit_op(e, GM_OP_MATMUL, (int32_t)layer);
    op->in[0] = e->x;
    op->in[1] = e->ple;
    op->out[0] = gated;
    op->w[0] = l->inp_gate;
    op->n_weights = 1;
    op->epilogue = GM_EPILOGUE_GELU_MUL;
    op->offset = layer * e->m->n_ple;
    return gm_emit_matmul(e, (int32_t)layer, l->proj, gated);
}

static void emit(gm_emit *e)
{
    bool ple = e->m->n_ple != 0;
    if (ple) emit_ple(e);
    for (uint32_t i = 0; i < e->m->n_layers; i++) {
        const gm_layer_roles *l = &e->m->roles->layers[i];
        int32_t layer = (int32_t)i, next = gm_emit_next_norm(e, i);
        uint16_t mixed = gm_emit_attention(e, i);
        gm_emit_add(e, layer, mixed, l->post_attention_norm, -1, l->ffn_norm);
        uint16_t fed = emit_feed(e, i);
        gm_emit_add(e, layer, fed, l->post_ffw_norm, ple ? -1 : l->output_scale, ple ? -1 : next);
        if (ple) gm_emit_add(e, layer, emit_layer_input(e, i), l->post_norm, l->output_scale, next);
    }
}

const gm_family_fns gm_gemma4 = { .name = "gemma4", .family = GM_GEMMA4, .read = read, .find = find, .emit = emit };
