#include "model/family.h"

static const gm_family_fns *const families[] = { &gm_gemma3, &gm_gemma4 };

const char *gm_model_known(void) { return "gemma3, gemma4"; }

static const gm_family_fns *family_of(const gm_model *m)
{
    for (size_t i = 0; i < GM_COUNT(families); i++)
        if (families[i]->family == m->family) return families[i];
    return NULL;
}

static int read_architecture(gm_model *m, const gm_gguf *gguf, gemma_error *error)
{
    gm_str name;
    if (!gm_gguf_string(gguf, "general.architecture", &name))
        return gm_fail(error, GEMMA_E_FORMAT, "%s: the key general.architecture is missing", gm_gguf_name(gguf));
    for (size_t i = 0; i < GM_COUNT(families); i++) {
        size_t n = strlen(families[i]->name);
        if (n != name.n || memcmp(families[i]->name, name.data, n)) continue;
        m->family = families[i]->family;
        memcpy(m->architecture, name.data, n);
        return GEMMA_OK;
    }
    return gm_fail(error, GEMMA_E_UNSUPPORTED, "%s: the architecture is \"%.*s\"; known are %s", gm_gguf_name(gguf),
                   (int)gm_min_u64(name.n, 64), name.data, gm_model_known());
}

static int prepare_roles(gm_model *m, gemma_error *error)
{
    gm_roles *r = m->roles = gm_new(m->mem, sizeof *r, GEMMA_TAG_FILE);
    if (!r) return gm_fail_nomem(error, "the model's roles", sizeof *r);
    r->token_embd = r->output = r->output_norm = -1;
    r->rope_freqs = r->ple_token_embd = r->ple_model_proj = r->ple_proj_norm = -1;
    return GEMMA_OK;
}

static int find_tensors(gm_model *m, const gm_gguf *gguf, gemma_error *error)
{
    uint64_t n_bytes = m->n_layers * sizeof *m->roles->layers;
    m->roles->layers = gm_new(m->mem, n_bytes, GEMMA_TAG_FILE);
    if (!m->roles->layers) return gm_fail_nomem(error, "the layers' roles", n_bytes);
    memset(m->roles->layers, 0xff, n_bytes); /* every index -1 */
    gm_finder f = { .m = m, .gguf = gguf, .error = error, .layer = -1 };
    gm_find_common(&f);
    if (!f.rc) family_of(m)->find(&f);
    if (f.rc) return f.rc;

    m->shapes = gm_new_array(m->mem, m->n_weights, sizeof *m->shapes, GEMMA_TAG_FILE);
    if (!m->shapes) return gm_fail_nomem(error, "the model's shapes", m->n_weights * sizeof *m->shapes);
    for (uint32_t i = 0; i < m->n_weights; i++) {
        const gm_weight *w = &m->weights[i];
        m->shapes[i] = (gm_weight_shape){ .format = w->tensor->format,
                                          .n_in = (uint32_t)w->tensor->ne[0],
                                          .n_out = w->n_out,
                                          .n_matrix = (uint32_t)w->tensor->ne[2],
                                          .factors = w->factors };
    }
    return GEMMA_OK;
}

int gm_model_create(gm_mem *mem, const gm_gguf *gguf, gm_model **out, gemma_error *error)
{
    *out = NULL;
    gm_model *m = gm_new(mem, sizeof *m, GEMMA_TAG_FILE);
    if (!m) return gm_fail_nomem(error, "a model", sizeof *m);
    m->mem = mem;
    gm_keys keys = { .m = m, .gguf = gguf, .error = error };
    int rc = read_architecture(m, gguf, error);
    if (!rc) rc = prepare_roles(m, error);
    if (!rc) rc = family_of(m)->read(&keys);
    if (!rc) rc = find_tensors(m, gguf, error);
    if (!rc) rc = gm_vocab_read(&keys);
    if (rc) {
        gm_model_destroy(m);
        return rc;
    }
    *out = m;
    return GEMMA_OK;
}

void gm_model_destroy(gm_model *m)
{
    if (!m) return;
    if (m->roles) {
        gm_delete(m->mem, m->roles->layers);
        gm_delete(m->mem, m->roles->made_data);
        gm_delete(m->mem, m->roles);
    }
    for (uint32_t i = 0; i < m->n_weights; i++) gm_delete(m->mem, m->weights[i].factors);
    gm_delete(m->mem, m->layers);
    gm_delete(m->mem, m->weights);
    gm_delete(m->mem, m->shapes);
    gm_delete(m->mem, m->kv);
    gm_delete(m->mem, m->suppressed);
    gm_delete(m->mem, m);
}

/* The model's KV table with the formats of this program. */
static void give_kv(gm_program *p, const gm_model *m, const gm_emit_options *options)
{
    gm_kv_layer kv[GM_LAYERS_MAX];
    memcpy(kv, m->kv, m->n_kv * sizeof *kv);
    for (uint32_t i = 0; i < m->n_kv; i++) kv[i].format = options->kv_format[kv[i].kind];
    gm_program_kv(p, kv, m->n_kv);
}

int gm_model_emit(const gm_model *m, const gm_emit_options *options, gm_program **out, gemma_error *error)
{
    *out = NULL;
    gm_program *p;
    int rc = gm_program_create(m->mem, options->max_rows, options->cut, &p);
    if (rc) return gm_fail_nomem(error, "a program", sizeof *p);
    p->weights = options->shapes ? options->shapes : m->shapes;
    p->n_weights = m->n_weights;
    p->suppressed = m->suppressed;
    p->n_suppressed = m->n_suppressed;
    give_kv(p, m, options);
    gm_emit e = { .m = m, .p = p, .cut = options->cut, .ple = GM_NONE };
    memset(e.rope, 0xff, sizeof e.rope); /* GM_NONE */
    gm_emit_begin(&e);
    family_of(m)->emit(&e);
    gm_emit_head(&e);
    rc = gm_program_check(p, error);
    if (rc) {
        gm_program_destroy(p);
        return rc;
    }
    *out = p;
    return GEMMA_OK;
}
