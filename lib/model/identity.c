#include "model/model.h"

#define SAMPLE_BYTES 256 /* of each tensor: trainings of the same shape differ there */

static uint64_t of_numbers(const uint64_t *numbers, uint32_t n, uint64_t seed)
{
    for (uint32_t i = 0; i < n; i++) {
        uint8_t bytes[8];
        gm_store_u64(bytes, numbers[i]);
        seed = gm_hash64(bytes, sizeof bytes, seed);
    }
    return seed;
}

static uint64_t of_shape(const gm_model *m)
{
    uint64_t h = gm_hash64(m->architecture, strlen(m->architecture), 0), base[2];
    memcpy(&base[0], &m->rope_base_global, sizeof base[0]);
    memcpy(&base[1], &m->rope_base_sliding, sizeof base[1]);
    const uint64_t numbers[] = {
        m->n_layers,
        m->n_embd,
        m->n_vocab,
        m->window,
        m->n_head,
        m->n_ple,
        m->n_kv,
        gm_f32_bits(m->eps),
        gm_f32_bits(m->softcap),
        gm_f32_bits(m->attention_scale),
        gm_f32_bits(m->rope_scale_global),
        base[0],
        base[1],
    };
    h = of_numbers(numbers, GM_COUNT(numbers), h);
    for (uint32_t i = 0; i < m->n_kv; i++) {
        const gm_kv_layer *l = &m->kv[i];
        h = of_numbers((const uint64_t[]){ l->kind, l->layer, l->n_kv, l->head }, 4, h);
    }
    return h;
}

static int of_tensor(const gm_gguf *gguf, const gm_tensor *t, uint64_t *h, gemma_error *error)
{
    uint8_t sample[SAMPLE_BYTES];
    uint64_t n = gm_min_u64(t->n_bytes, sizeof sample);
    int rc = n ? gm_gguf_read(gguf, t, 0, sample, n, error) : GEMMA_OK;
    if (rc) return rc;
    *h = gm_hash64(t->name, strlen(t->name), *h);
    *h = of_numbers((const uint64_t[]){ t->format->type, t->ne[0], t->ne[1], t->ne[2], t->ne[3] }, 5, *h);
    *h = gm_hash64(sample, n, *h);
    return GEMMA_OK;
}

int gm_model_identity(const gm_model *m, const gm_gguf *gguf, uint64_t *identity, gemma_error *error)
{
    uint64_t h = of_shape(m);
    gm_strings tokens = { 0 };
    gm_gguf_strings(gguf, "tokenizer.ggml.tokens", &tokens);
    for (gm_str token; gm_strings_next(&tokens, &token);) h = gm_hash64(token.data, token.n, h);
    int rc = GEMMA_OK;
    for (uint32_t i = 0; !rc && i < gm_gguf_n_tensors(gguf); i++)
        rc = of_tensor(gguf, gm_gguf_tensor(gguf, i), &h, error);
    if (!rc) *identity = h;
    return rc;
}
