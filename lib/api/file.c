#include "api/handles.h"

void gm_file_drop(gemma_file *file)
{
    if (!file || !gm_ref_drop(&file->ref)) return;
    gemma_runtime *rt = file->runtime;
    gm_model_destroy(file->model);
    gm_gguf_close(file->gguf);
    gm_delete(&rt->mem, file);
    gm_runtime_drop(rt);
}

int gemma_file_open(gemma_runtime *rt, const char *path, const gemma_file_options *options, gemma_file **out,
                    gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_file_open: out is NULL");
    *out = NULL;
    gemma_file_options o;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_file_options", error);
    if (rc) return rc;
    if (!rt) return gm_fail(error, GEMMA_E_ARG, "gemma_file_open: runtime is NULL");
    if (!o.bytes && (!path || !*path)) return gm_fail(error, GEMMA_E_ARG, "gemma_file_open: no path and no bytes");
    if (o.flags & ~(uint32_t)GEMMA_FILE_MAP)
        return gm_fail(error, GEMMA_E_VERSION, "gemma_file_options: unknown flags 0x%x", o.flags);

    gemma_file *file = gm_new(&rt->mem, sizeof *file, GEMMA_TAG_OBJECT);
    if (!file) return gm_fail_nomem(error, "a file handle", sizeof *file);
    gm_ref_init(&file->ref);
    file->runtime = rt;
    gm_ref_take(&rt->ref);
    gm_gguf_input input = {
        .path = o.bytes ? NULL : path,
        .bytes = o.bytes,
        .n_bytes = o.n_bytes,
        .map = (o.flags & GEMMA_FILE_MAP) != 0,
        .progress = o.progress,
        .progress_user = o.progress_user,
    };
    file->in_memory = input.map || input.bytes;
    rc = gm_gguf_open(&rt->mem, &input, &file->gguf, error);
    if (!rc && gm_gguf_n_tensors(file->gguf)) rc = gm_model_create(&rt->mem, file->gguf, &file->model, error);
    if (rc) {
        gm_file_drop(file);
        return rc;
    }
    *out = file;
    return GEMMA_OK;
}

void gemma_file_close(gemma_file *file) { gm_file_drop(file); }

/* The type that holds most of the tensor bytes. */
static const char *main_type(const gm_gguf *g)
{
    uint64_t bytes[GM_TYPE_LIMIT] = { 0 };
    const char *best = "none";
    uint64_t most = 0;
    for (uint32_t i = 0; i < gm_gguf_n_tensors(g); i++) {
        const gm_tensor *t = gm_gguf_tensor(g, i);
        uint64_t *sum = &bytes[t->format->type];
        *sum += t->n_bytes;
        if (*sum > most) {
            most = *sum;
            best = t->format->name;
        }
    }
    return best;
}

int gemma_file_describe(const gemma_file *file, gemma_file_info *info)
{
    if (!file || !info) return GEMMA_E_ARG;
    const gm_gguf *g = file->gguf;
    gemma_file_info full = { .size = sizeof full };
    gm_gguf_text(g, "general.architecture", full.architecture, sizeof full.architecture);
    gm_gguf_text(g, "general.name", full.name, sizeof full.name);
    gm_text_format(full.quantisation, sizeof full.quantisation, "%s", main_type(g));
    uint32_t type;
    uint64_t n_tokens = 0;
    if (gm_gguf_array(g, "tokenizer.ggml.tokens", &type, &n_tokens)) full.n_vocab = (uint32_t)n_tokens;
    if (file->model) {
        full.has_weights = 1;
        full.n_layers = file->model->n_layers;
        full.n_vocab = file->model->n_vocab;
        full.n_embd = file->model->n_embd;
        full.ctx_trained = file->model->ctx_trained;
        full.window = file->model->window;
    }
    full.n_tensors = gm_gguf_n_tensors(g);
    for (uint32_t i = 0; i < full.n_tensors; i++) {
        const gm_tensor *t = gm_gguf_tensor(g, i);
        full.n_parameters += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        full.tensor_bytes += t->n_bytes;
    }
    full.file_bytes = gm_gguf_file_bytes(g);
    return gm_result_write(info, &full, sizeof full);
}

int64_t gemma_file_metadata(const gemma_file *file, const char *key, char *buffer, size_t n_bytes)
{
    if (!file || !key || (!buffer && n_bytes)) return GEMMA_E_ARG;
    int64_t n = gm_gguf_text(file->gguf, key, buffer, n_bytes);
    return n < 0 ? GEMMA_E_ARG : n;
}
