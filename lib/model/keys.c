#include "model/family.h"

const char *gm_key_name(const gm_keys *k, const char *name, char buffer[GM_KEY_BYTES])
{
    gm_text_format(buffer, GM_KEY_BYTES, "%s.%s", k->m->architecture, name);
    return buffer;
}

static int missing(const gm_keys *k, const char *key)
{
    return gm_fail(k->error, GEMMA_E_FORMAT, "the key %s is missing", key);
}

static int out_of_range(const gm_keys *k, const char *key, int64_t value, uint32_t low, uint32_t high)
{
    return gm_fail(k->error, GEMMA_E_FORMAT, "%s is %lld, but must be %u to %u", key, (long long)value, low, high);
}

bool gm_key_has(const gm_keys *k, const char *name)
{
    char key[GM_KEY_BYTES];
    return gm_gguf_has(k->gguf, gm_key_name(k, name, key));
}

int gm_key_u32(const gm_keys *k, const char *name, bool required, uint32_t low, uint32_t high, uint32_t *out)
{
    char key[GM_KEY_BYTES];
    uint32_t value;
    if (!gm_gguf_has(k->gguf, gm_key_name(k, name, key))) return required ? missing(k, key) : GEMMA_OK;
    if (!gm_gguf_u32(k->gguf, key, &value))
        return gm_fail(k->error, GEMMA_E_FORMAT, "%s is not a whole number from 0 to 4294967295", key);
    if (value < low || value > high) return out_of_range(k, key, value, low, high);
    *out = value;
    return GEMMA_OK;
}

int gm_key_float(const gm_keys *k, const char *name, bool required, double low, double high, float *out)
{
    char key[GM_KEY_BYTES];
    float value;
    uint32_t whole;
    if (!gm_gguf_has(k->gguf, gm_key_name(k, name, key))) return required ? missing(k, key) : GEMMA_OK;
    if (!gm_gguf_f32(k->gguf, key, &value)) {
        if (!gm_gguf_u32(k->gguf, key, &whole)) return gm_fail(k->error, GEMMA_E_FORMAT, "%s is not a number", key);
        value = (float)whole;
    }
    if (!(value >= low && value <= high)) /* NaN is not in range either */
        return gm_fail(k->error, GEMMA_E_FORMAT, "%s is not from %.9f to %.1f", key, low, high);
    *out = value;
    return GEMMA_OK;
}

/* The array's elements must be numbers, one per layer. *array is false when the key is absent or no array. */
static int find_array(const gm_keys *k, const char *key, bool *array)
{
    uint32_t type, n_layers = k->m->n_layers;
    uint64_t n;
    int64_t value;
    *array = gm_gguf_array(k->gguf, key, &type, &n);
    if (!*array) return GEMMA_OK;
    if (n != n_layers)
        return gm_fail(k->error, GEMMA_E_FORMAT, "%s has %llu entries, but the model has %u layers", key,
                       (unsigned long long)n, n_layers);
    if (!gm_gguf_array_int(k->gguf, key, 0, &value))
        return gm_fail(k->error, GEMMA_E_FORMAT, "%s is not an array of whole numbers", key);
    return GEMMA_OK;
}

int gm_key_layers(const gm_keys *k, const char *name, bool required, uint32_t low, uint32_t high, uint32_t *values)
{
    char key[GM_KEY_BYTES];
    bool array;
    uint32_t scalar = 0, n_layers = k->m->n_layers;
    int rc = find_array(k, gm_key_name(k, name, key), &array);
    if (rc) return rc;
    if (!array) {
        if (!gm_gguf_has(k->gguf, key) && !required) return GEMMA_OK;
        rc = gm_key_u32(k, name, required, low, high, &scalar);
        for (uint32_t i = 0; i < n_layers && !rc; i++) values[i] = scalar;
        return rc;
    }
    for (uint32_t i = 0; i < n_layers; i++) {
        int64_t value = -1;
        gm_gguf_array_int(k->gguf, key, i, &value);
        if (value < low || value > high) {
            gm_text_format(key + strlen(key), GM_KEY_BYTES - strlen(key), "[%u]", i);
            return out_of_range(k, key, value, low, high);
        }
        values[i] = (uint32_t)value;
    }
    return GEMMA_OK;
}

int gm_key_uniform(const gm_keys *k, const char *name, uint32_t low, uint32_t high, uint32_t *out)
{
    uint32_t values[GM_LAYERS_MAX];
    char key[GM_KEY_BYTES];
    int rc = gm_key_layers(k, name, true, low, high, values);
    if (rc) return rc;
    for (uint32_t i = 1; i < k->m->n_layers; i++) {
        if (values[i] != values[0])
            return gm_fail(k->error, GEMMA_E_UNSUPPORTED, "%s differs between layers (%u and %u)",
                           gm_key_name(k, name, key), values[0], values[i]);
    }
    *out = values[0];
    return GEMMA_OK;
}

int gm_key_pattern(const gm_keys *k, const char *name, bool *found)
{
    char key[GM_KEY_BYTES];
    int rc = find_array(k, gm_key_name(k, name, key), found);
    if (rc || !*found) return rc;
    for (uint32_t i = 0; i < k->m->n_layers; i++) {
        int64_t value = 0;
        gm_gguf_array_int(k->gguf, key, i, &value);
        k->m->layers[i].sliding = value != 0;
    }
    return GEMMA_OK;
}
