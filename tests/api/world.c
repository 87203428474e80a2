#define _POSIX_C_SOURCE 200809L
#include "api/world.h"

#include <stdio.h>
#include <unistd.h>

void world_init(world *w, const tiny_model *t)
{
    *w = (world){ .n_threads = 1, .error = { .size = sizeof w->error } };
    fault_host_init(&w->host);
    gguf_writer *writer = tiny_model_write(t);
    const uint8_t *bytes = gguf_writer_finish(writer, &w->n_bytes);
    w->bytes = aligned_alloc(64, (w->n_bytes + 63) / 64 * 64);
    assert_non_null(w->bytes);
    memcpy(w->bytes, bytes, w->n_bytes);
    gguf_writer_destroy(writer);
    w->n_vocab = t->n_vocab;
}

void world_init_family(world *w, uint32_t family)
{
    tiny_model t;
    tiny_model_defaults(&t, family);
    world_init(w, &t);
}

void assert_ok(int rc, const char *message)
{
    if (rc) fail_msg("%s: %s", gemma_error_name(rc), message);
}

void world_open(world *w, const gemma_plan_options *options)
{
    gemma_error *e = &w->error;
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = w->n_threads };
    if (!w->runtime) assert_ok(gemma_runtime_create(&w->host, &ro, &w->runtime, e), e->message);
    gemma_file_options fo = { .size = sizeof fo, .bytes = w->bytes, .n_bytes = w->n_bytes };
    assert_ok(gemma_file_open(w->runtime, NULL, &fo, &w->file, e), e->message);
    assert_ok(gemma_tokenizer_create(w->file, &w->tokenizer, e), e->message);
    gemma_plan_options po = { .size = sizeof po };
    if (options) po = *options;
    assert_ok(gemma_device_find(w->runtime, w->device ? w->device : "cpu", &po.device, e), e->message);
    assert_ok(gemma_plan_create(w->file, &po, &w->plan, e), e->message);
    assert_ok(gemma_model_load(w->plan, NULL, &w->model, e), e->message);
}

void world_close(world *w)
{
    gemma_runtime_destroy(w->runtime);
    gemma_tokenizer_destroy(w->tokenizer);
    gemma_file_close(w->file);
    gemma_plan_destroy(w->plan);
    gemma_model_close(w->model);
    free(w->bytes);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

gemma_session *world_session(world *w)
{
    gemma_session *s;
    gemma_error error = { .size = sizeof error }; /* threads share w */
    assert_ok(gemma_session_create(w->model, NULL, &s, &error), error.message);
    return s;
}

gemma_step *world_step(world *w)
{
    gemma_step *t;
    gemma_error error = { .size = sizeof error }; /* threads share w */
    assert_ok(gemma_step_create(w->model, &t, &error), error.message);
    return t;
}

gemma_sampler *world_sampler(world *w, const gemma_sampler_options *options)
{
    gemma_sampler *s;
    gemma_error error = { .size = sizeof error }; /* threads share w */
    assert_ok(gemma_sampler_create(w->runtime, options, &s, &error), error.message);
    return s;
}

void world_ids(int32_t *ids, size_t n, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        ids[i] = TINY_ASCII + (int32_t)((state >> 8) % 111);
    }
}

static void assert_step_ok(int rc, const gemma_step *step)
{
    char message[512];
    if (rc == GEMMA_OK) return;
    gemma_step_message(step, message, sizeof message);
    assert_ok(rc, message);
}

void world_rows(world *w, gemma_step *step, gemma_session *s, const int32_t *ids, uint32_t n, uint32_t piece,
                bool every, float *logits)
{
    for (uint32_t at = 0; at < n;) {
        uint32_t rows = n - at < piece ? n - at : piece, index;
        assert_step_ok(gemma_step_clear(step), step);
        for (uint32_t i = 0; i < rows; i++) {
            gemma_row row = { .size = sizeof row, .token = ids[at + i] };
            row.want = every || i + 1 == rows ? GEMMA_WANT_LOGITS : 0;
            assert_step_ok(gemma_step_add(step, s, &row, &index), step);
            assert_int_equal(index, i);
        }
        assert_step_ok(gemma_step_submit(step, NULL), step);
        assert_step_ok(gemma_step_wait(step, FOREVER), step);
        for (uint32_t i = 0; i < rows; i++) {
            if (!every && i + 1 < rows) continue;
            assert_step_ok(gemma_step_logits(step, i, logits + (size_t)(at + i) * w->n_vocab, w->n_vocab), step);
        }
        at += rows;
    }
    assert_step_ok(gemma_step_clear(step), step);
}

void world_row(world *w, gemma_step *step, gemma_session *s, int32_t id, float *logits)
{
    world_rows(w, step, s, &id, 1, 1, true, logits);
}

void assert_same_rows(const world *w, const char *what, const float *a, const float *b, uint32_t n_rows)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *x = a + (size_t)r * w->n_vocab, *y = b + (size_t)r * w->n_vocab;
        if (memcmp(x, y, w->n_vocab * sizeof *x) == 0) continue;
        uint32_t i = 0;
        while (memcmp(&x[i], &y[i], sizeof *x) == 0) i++;
        fail_msg("%s: row %u of %u: logit %u is %.9g and %.9g", what, r, n_rows, i, (double)x[i], (double)y[i]);
    }
}

const char *world_save(const world *w)
{
    static char path[] = "/tmp/gemma-test-XXXXXX";
    memcpy(path + sizeof path - 7, "XXXXXX", 6);
    int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(w->bytes, 1, w->n_bytes, f), w->n_bytes);
    assert_int_equal(fclose(f), 0);
    return path;
}

void world_forget_file(const char *path) { remove(path); }
