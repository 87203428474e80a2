/* Files whose header is fine and whose values are not. */
#define _POSIX_C_SOURCE 200809L /* mkstemp */
#include "api/world.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* A norm or scale whose last value is no number, read and mapped. */
static void check_value(const char *tensor, uint64_t n, float value, const char *part)
{
    world w;
    tiny_model t;
    float values[64];
    tiny_model_defaults(&t, 4);
    t.n_ple = t.n_shared = 0;
    t.n_expert = 4;
    t.skip[0] = tensor;
    gguf_writer *writer = tiny_model_write(&t);
    for (int i = 0; i < 64; i++) values[i] = 1;
    values[n - 1] = value;
    gguf_put_tensor_f32(writer, tensor, GM_F32, 1, &n, values);
    char path[] = "/tmp/gemma-bad-XXXXXX";
    close(mkstemp(path));
    assert_true(gguf_writer_save(writer, path));
    gguf_writer_destroy(writer);
    world_init(&w, &t);
    gemma_error *e = &w.error;
    assert_ok(gemma_runtime_create(&w.host, NULL, &w.runtime, e), e->message);
    for (uint32_t flags = 0; flags <= GEMMA_FILE_MAP; flags += GEMMA_FILE_MAP) {
        gemma_file_options fo = { .size = sizeof fo, .flags = flags };
        gemma_plan_options po = { .size = sizeof po };
        assert_ok(gemma_device_find(w.runtime, "cpu", &po.device, e), e->message);
        assert_ok(gemma_file_open(w.runtime, path, &fo, &w.file, e), e->message);
        assert_ok(gemma_plan_create(w.file, &po, &w.plan, e), e->message);
        assert_int_equal(gemma_model_load(w.plan, NULL, &w.model, e), GEMMA_E_FORMAT);
        if (!strstr(e->message, part) || !strstr(e->message, tensor))
            fail_msg("\"%s\" does not say \"%s\" of %s", e->message, part, tensor);
        assert_null(w.model);
        gemma_plan_destroy(w.plan);
        gemma_file_close(w.file);
    }
    w.plan = NULL;
    w.file = NULL;
    remove(path);
    world_close(&w);
}

static void values_that_are_no_numbers(void **state)
{
    (void)state;
    check_value("blk.0.layer_output_scale.weight", 1, NAN, "value 0 is no finite number");
    check_value("blk.1.layer_output_scale.weight", 1, -INFINITY, "value 0");
    check_value("blk.3.attn_norm.weight", 64, INFINITY, "value 63");
    check_value("blk.2.ffn_down_exps.scale", 4, -NAN, "value 3");
    check_value("rope_freqs.weight", 32, NAN, "value 31");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(values_that_are_no_numbers) };
    return cmocka_run_group_tests_name("bad_values", tests, NULL, NULL);
}
