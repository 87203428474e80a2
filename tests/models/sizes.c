/* The synthetic models against what is known of the released ones, and their random blocks against what they promise. */
#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/model.h"
#include "models/synth.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { N_VOCAB = 262144 };

/* Tensors, elements, and bytes without the file's header; 0: not known. */
static const struct {
    const char *size;
    size_t n_tensors;
    uint64_t elements, bf16, q8_0, q4_k_m, q4_0;
} released[] = {
    { "gemma4-e2b", 601, 4647450147, 9295485068, 4951677068, 3412060300, 3344341132 },
    { "gemma4-e4b", 720, 7518069290, 15037270184, 8015415464, 5319465128, 5170104488 },
    { "gemma4-12b", 667, 11907350576, 23816241344, 12653822144, 7365558464, 6960054464 },
    { "gemma4-26b-a4b", 658, 25233142046, 50489312376, 26844036216, 16780192888, 14423538808 },
    { "gemma4-31b", 833, 30697345596, 61397354736, 32619841776, 18671229168, 17635166448 },
    { "gemma3-270m", 236, 268098176, 536308224, 285018624, 246587904, 234883584 },
    { "gemma3-1b", 340, 999885952, 2000040448, 1062773248, 799525120, 713892352 },
    { "gemma3-4b", 444, 3880099328, 7760934912, 4123686912, 2483218432, 2356836352 },
    { "gemma3-12b", 626, 11765788416, 23533108224, 12503399424, 7294024704, 6880410624 },
    { "gemma3-27b", 808, 27009002240, 54020713472, 28701043712, 16539843584, 15560551424 },
};

static void check_bytes(const char *size, const char *mix, uint64_t bytes)
{
    synth_model *m = synth_create(size, mix, 0, N_VOCAB);
    assert_non_null(m);
    if (synth_tensor_bytes(m) != bytes)
        fail_msg("%s %s has %llu bytes, should have %llu", size, mix, (unsigned long long)synth_tensor_bytes(m),
                 (unsigned long long)bytes);
    synth_destroy(m);
}

static void sizes_are_those_of_the_released_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < GM_COUNT(released); i++) {
        const char *size = released[i].size;
        assert_string_equal(synth_size_name(i), size);
        synth_model *m = synth_create(size, "BF16", 0, N_VOCAB);
        assert_non_null(m);
        uint64_t elements = 0;
        for (size_t t = 0; t < synth_n_tensors(m); t++) {
            const synth_tensor *tensor = synth_tensor_at(m, t);
            elements += tensor->ne[0] * tensor->ne[1] * tensor->ne[2];
        }
        assert_int_equal(synth_n_tensors(m), released[i].n_tensors);
        assert_true(elements == released[i].elements);
        synth_destroy(m);
        check_bytes(size, "BF16", released[i].bf16);
        check_bytes(size, "Q8_0", released[i].q8_0);
        check_bytes(size, "Q4_K_M", released[i].q4_k_m);
        check_bytes(size, "Q4_0", released[i].q4_0);
    }
    assert_null(synth_size_name(GM_COUNT(released)));
}

static void what_does_not_exist_is_refused(void **state)
{
    (void)state;
    assert_null(synth_create("gemma4-e3b", "Q8_0", 0, N_VOCAB));
    assert_null(synth_create("gemma4-e2b", "Q8", 0, N_VOCAB));
    assert_null(synth_create("gemma4-e2b", "Q8_0", 36, N_VOCAB));
}

/* ---- as a file ---- */

/* A header and a hole, opened as a model. */
static void check_file(const char *size, const char *mix, uint32_t n_layers)
{
    synth_model *s = synth_create(size, mix, n_layers, N_VOCAB);
    gguf_writer *w = gguf_writer_create();
    size_t n_header;
    const uint8_t *header = synth_header(s, w, &n_header);
    char path[] = "/tmp/gemma-synth-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    assert_non_null(f);
    assert_int_equal(fwrite(header, 1, n_header, f), n_header);
    assert_true(synth_write_hole(f, synth_data_bytes(s)));
    assert_int_equal(fclose(f), 0);

    gm_mem mem;
    gm_gguf *g = NULL;
    gm_model *m = NULL;
    gemma_error error = { .size = sizeof error };
    gm_mem_init(&mem, NULL);
    int rc = gm_gguf_open(&mem, &(gm_gguf_input){ .path = path }, &g, &error);
    remove(path);
    if (!rc) rc = gm_model_create(&mem, g, &m, &error);
    if (rc) fail_msg("%s %s, %u layers: %s", size, mix, n_layers, error.message);
    assert_true(gm_gguf_file_bytes(g) == n_header + synth_data_bytes(s));
    if (n_layers) assert_int_equal(m->n_layers, n_layers);
    gm_model_destroy(m);
    gm_gguf_close(g);
    gguf_writer_destroy(w);
    synth_destroy(s);
}

static void every_size_is_a_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < GM_COUNT(released); i++) check_file(released[i].size, "Q4_K_M", 0);
    for (size_t i = 0; synth_mix_name(i); i++) check_file("gemma4-e2b", synth_mix_name(i), 0);
}

static void any_number_of_layers_is_a_model(void **state)
{
    (void)state;
    static const uint32_t n_layers[] = { 1, 2, 4, 5, 6, 9, 10, 12, 20, 34 };
    for (size_t i = 0; i < GM_COUNT(n_layers); i++) {
        check_file("gemma4-e2b", "Q4_0", n_layers[i]);
        if (n_layers[i] < 30) check_file("gemma4-26b-a4b", "Q4_K_M", n_layers[i]);
    }
}

/* ---- weights ---- */

static uint8_t *write_tensor(const synth_tensor *t, uint64_t seed, size_t piece)
{
    uint8_t *bytes = malloc(t->n_bytes);
    assert_non_null(bytes);
    synth_stream s;
    synth_begin(&s, t, seed);
    size_t n_done = 0;
    for (size_t n; (n = synth_next(&s, bytes + n_done, (size_t)gm_min_u64(piece, t->n_bytes - n_done))) > 0;)
        n_done += n;
    assert_int_equal(n_done, t->n_bytes);
    return bytes;
}

static void check_weights(const synth_tensor *t)
{
    const gm_format *f = gm_format_of(t->type);
    uint8_t *bytes = write_tensor(t, 1, 1 << 20), *pieces = write_tensor(t, 1, 1000),
            *other = write_tensor(t, 2, 1 << 20);
    assert_memory_equal(bytes, pieces, t->n_bytes);
    assert_memory_not_equal(bytes, other, t->n_bytes);
    uint64_t n = t->ne[0] * t->ne[1] * t->ne[2];
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    f->unpack(bytes, values, n / f->block);
    double sum = 0, squares = 0, largest = 0;
    for (uint64_t i = 0; i < n; i++) {
        double v = (double)values[i];
        sum += v;
        squares += v * v;
        largest = fmax(largest, fabs(v));
    }
    double deviation = sqrt(squares / (double)n), size = (double)t->size;
    if (!(fabs(deviation - size) <= 0.03 * size && fabs(sum / (double)n) <= 0.01 * size && largest <= 5 * size))
        fail_msg("%s %s: mean %g, deviation %g, largest %g, should be 0 and %g", t->name, f->name, sum / (double)n,
                 deviation, largest, size);
    free(values);
    free(other);
    free(pieces);
    free(bytes);
}

static void weights_have_the_size_they_should(void **state)
{
    (void)state;
    static const char *const mixes[] = { "Q4_0", "Q4_K_M", "Q6_K", "Q8_0", "BF16" };
    bool seen[GM_TYPE_LIMIT] = { false };
    for (size_t i = 0; i < GM_COUNT(mixes); i++) {
        for (int small = 0; small < 2; small++) { /* rows of 640 bring the formats of 32 */
            synth_model *m = synth_create(small ? "gemma3-270m" : "gemma4-e2b", mixes[i], 2, 512);
            for (size_t k = 0; k < synth_n_tensors(m); k++) {
                const synth_tensor *t = synth_tensor_at(m, k);
                if (t->fill != SYNTH_RANDOM || seen[t->type]) continue;
                check_weights(t);
                seen[t->type] = true;
            }
            synth_destroy(m);
        }
    }
    static const uint32_t types[] = { GM_Q4_0, GM_Q5_0, GM_Q8_0, GM_Q4_K, GM_Q6_K, GM_BF16 };
    for (size_t i = 0; i < GM_COUNT(types); i++) assert_true(seen[types[i]]);
}

static void vectors_are_norms_and_frequencies(void **state)
{
    (void)state;
    synth_model *m = synth_create("gemma4-26b-a4b", "Q8_0", 1, 512);
    size_t n_norms = 0, n_freqs = 0;
    for (size_t k = 0; k < synth_n_tensors(m); k++) {
        const synth_tensor *t = synth_tensor_at(m, k);
        if (t->fill == SYNTH_RANDOM) continue;
        assert_int_equal(t->type, GM_F32);
        uint8_t *bytes = write_tensor(t, 1, 1000);
        for (uint64_t i = 0; i < t->ne[0]; i++) {
            float v = gm_load_f32(bytes + 4 * i);
            if (t->fill == SYNTH_FREQS)
                assert_true(v == (i < 64 ? 1.0f : 1e30f));
            else
                assert_true(v >= 0.89f * t->size && v <= 1.11f * t->size);
        }
        n_norms += t->fill == SYNTH_NORM;
        n_freqs += t->fill == SYNTH_FREQS;
        free(bytes);
    }
    assert_true(n_norms == 13 && n_freqs == 1);
    synth_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_those_of_the_released_models),
        cmocka_unit_test(what_does_not_exist_is_refused),
        cmocka_unit_test(every_size_is_a_model),
        cmocka_unit_test(any_number_of_layers_is_a_model),
        cmocka_unit_test(weights_have_the_size_they_should),
        cmocka_unit_test(vectors_are_norms_and_frequencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
