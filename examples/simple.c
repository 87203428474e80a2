/* simple: the smallest whole program. simple MODEL.gguf "The capital of France is" */
#include <gemma.h>

#include <stdio.h>
#include <string.h>

#define MAX_PROMPT 4096 /* bytes */

int main(int argc, char **argv)
{
    if (argc != 3 || strlen(argv[2]) > MAX_PROMPT) {
        fprintf(stderr, "usage: simple MODEL.gguf PROMPT\n");
        return 2;
    }
    gemma_error e = { .size = sizeof e };
    gemma_runtime *runtime = NULL;
    gemma_file *file = NULL;
    gemma_plan *plan = NULL;
    gemma_model *model = NULL;
    gemma_tokenizer *tokenizer = NULL;
    gemma_session *session = NULL;
    gemma_sampler *sampler = NULL;
    gemma_generation *generation = NULL;

    gemma_plan_options options = { .size = sizeof options };
    gemma_sampler_options greedy = { .size = sizeof greedy };
    gemma_generation_options limit = { .size = sizeof limit, .max_tokens = 64 };
    int32_t ids[MAX_PROMPT + 1];
    size_t n_ids = 0;

    int rc = gemma_runtime_create(NULL, NULL, &runtime, &e);
    if (!rc) rc = gemma_device_find(runtime, "auto", &options.device, &e);
    if (!rc) rc = gemma_file_open(runtime, argv[1], NULL, &file, &e);
    if (!rc) rc = gemma_plan_create(file, &options, &plan, &e); /* every byte, before any is taken */
    if (!rc) rc = gemma_model_load(plan, NULL, &model, &e);     /* refuses what does not fit */
    if (!rc) rc = gemma_tokenizer_create(file, &tokenizer, &e);
    if (!rc) rc = gemma_session_create(model, NULL, &session, &e);
    if (!rc) rc = gemma_sampler_create(runtime, &greedy, &sampler, &e);
    if (!rc) rc = gemma_tokenize(tokenizer, argv[2], strlen(argv[2]), GEMMA_TOKENIZE_BOS, ids, MAX_PROMPT + 1, &n_ids);
    if (!rc) rc = gemma_generation_create(session, sampler, tokenizer, ids, n_ids, &limit, &generation, &e);

    gemma_piece piece = { .size = sizeof piece };
    while (!rc && !piece.stop) {
        rc = gemma_generation_next(generation, &piece);
        if (!rc)
            fwrite(piece.text, 1, piece.n_bytes, stdout);
        else
            gemma_generation_message(generation, e.message, sizeof e.message);
        fflush(stdout);
    }
    putchar('\n');
    if (rc) fprintf(stderr, "simple: %s\n", e.message[0] ? e.message : gemma_error_text(rc));

    gemma_generation_destroy(generation); /* any order; NULL is fine */
    gemma_sampler_destroy(sampler);
    gemma_session_destroy(session);
    gemma_tokenizer_destroy(tokenizer);
    gemma_model_close(model);
    gemma_plan_destroy(plan);
    gemma_file_close(file);
    gemma_runtime_destroy(runtime);
    return rc != 0;
}
