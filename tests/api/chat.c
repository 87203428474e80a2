/* gemma_chat and gemma_parser: what a program sees of them, over vocabularies without tensors. */
#include "api/world.h"
#include "support/gguf_writer.h"
#include "unit/chat_small.h"

#define ARG(call) assert_int_equal(call, GEMMA_E_ARG)

typedef struct place {
    gemma_host host;
    gguf_writer *writer;
    gemma_runtime *runtime;
    gemma_file *file;
    gemma_tokenizer *tokenizer;
} place;

/* A vocabulary file; chat_template NULL: none, n_per_layer 0: none. */
static void place_open(place *p, bool gemma4, const char *chat_template, uint32_t n_per_layer)
{
    static small_vocab v;
    gemma_error e = { .size = sizeof e };
    chat_small_init(&v, gemma4);
    fault_host_init(&p->host);
    p->writer = gguf_writer_create();
    gguf_put_string(p->writer, "general.architecture", gemma4 ? "gemma4" : "gemma3");
    gguf_put_string(p->writer, "tokenizer.ggml.model", gemma4 ? "gemma4" : "llama");
    gguf_put_strings(p->writer, "tokenizer.ggml.tokens", v.texts, v.input.n_tokens);
    gguf_put_array(p->writer, "tokenizer.ggml.scores", GM_GGUF_F32, v.scores, v.input.n_tokens);
    gguf_put_array(p->writer, "tokenizer.ggml.token_type", GM_GGUF_I32, v.types, v.input.n_tokens);
    if (gemma4) gguf_put_strings(p->writer, "tokenizer.ggml.merges", v.merges, v.input.n_merges);
    gguf_put_u32(p->writer, "tokenizer.ggml.bos_token_id", 2);
    gguf_put_u32(p->writer, "tokenizer.ggml.eos_token_id", 1);
    gguf_put_bool(p->writer, "tokenizer.ggml.add_space_prefix", false);
    if (chat_template) gguf_put_string(p->writer, "tokenizer.chat_template", chat_template);
    if (n_per_layer) gguf_put_u32(p->writer, "gemma4.embedding_length_per_layer_input", n_per_layer);
    gemma_file_options o = { .size = sizeof o };
    size_t n;
    o.bytes = gguf_writer_finish(p->writer, &n);
    o.n_bytes = n;
    assert_ok(gemma_runtime_create(&p->host, NULL, &p->runtime, &e), e.message);
    assert_ok(gemma_file_open(p->runtime, NULL, &o, &p->file, &e), e.message);
    assert_ok(gemma_tokenizer_create(p->file, &p->tokenizer, &e), e.message);
}

static void place_close(place *p)
{
    gemma_tokenizer_destroy(p->tokenizer);
    gemma_file_close(p->file);
    gemma_runtime_destroy(p->runtime);
    gguf_writer_destroy(p->writer);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

static void variant_of_a_file(void **state)
{
    static const struct {
        bool gemma4;
        const char *chat_template;
        uint32_t n_per_layer, variant;
    } cases[] = {
        { false, NULL, 0, GEMMA_CHAT_GEMMA3 },
        { true, NULL, 0, GEMMA_CHAT_GEMMA4_LARGE },
        { true, NULL, 256, GEMMA_CHAT_GEMMA4_SMALL },
        { true, "{%- if add_generation_prompt -%}'<|turn>model\\n'{%- endif %}", 0, GEMMA_CHAT_GEMMA4_SMALL },
        { true, "{%- if add_generation_prompt -%}'<|channel>thought\\n<channel|>'", 256, GEMMA_CHAT_GEMMA4_LARGE },
        { true, "{%- if add_generation_prompt -%}'<|channel>thought\n<channel|>'", 256, GEMMA_CHAT_GEMMA4_LARGE },
        { true, "'<|channel>thought\\n<channel|>' {% if add_generation_prompt %}x", 0, GEMMA_CHAT_GEMMA4_SMALL },
        { true, "no prompt at all '<|channel>thought\\n<channel|>'", 256, GEMMA_CHAT_GEMMA4_SMALL },
        { true, "", 256, GEMMA_CHAT_GEMMA4_SMALL },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        place p;
        gemma_chat *c;
        gemma_error e = { .size = sizeof e };
        place_open(&p, cases[i].gemma4, cases[i].chat_template, cases[i].n_per_layer);
        assert_ok(gemma_chat_create(p.tokenizer, p.file, NULL, &c, &e), e.message);
        assert_int_equal(gemma_chat_variant(c), cases[i].variant);
        gemma_chat_destroy(c);
        place_close(&p);
    }
}

static void nulls(void **state)
{
    place p;
    gemma_chat *c = (gemma_chat *)(uintptr_t)1;
    gemma_parser *parser;
    gemma_error e = { .size = sizeof e };
    gemma_part part = { .size = sizeof part };
    gemma_rendering r = { .size = sizeof r };
    gemma_message m = { .size = sizeof m, .role = GEMMA_ROLE_USER, .n_text = 1 };
    char text[64];
    int32_t id;
    size_t n;
    (void)state;
    place_open(&p, true, NULL, 0);
    ARG(gemma_chat_create(NULL, p.file, NULL, &c, &e));
    assert_null(c);
    assert_int_equal(e.code, GEMMA_E_ARG);
    ARG(gemma_chat_create(p.tokenizer, NULL, NULL, &c, &e));
    ARG(gemma_chat_create(p.tokenizer, p.file, NULL, NULL, &e));
    gemma_chat_options o = { .size = sizeof o, .variant = 9 };
    ARG(gemma_chat_create(p.tokenizer, p.file, &o, &c, &e));
    o.variant = GEMMA_CHAT_GEMMA3;
    assert_int_equal(gemma_chat_create(p.tokenizer, NULL, &o, &c, &e), GEMMA_E_UNSUPPORTED);
    assert_int_equal(gemma_chat_message(NULL, text, sizeof text), 0);
    assert_int_equal(gemma_chat_variant(NULL), 0);
    o.variant = GEMMA_CHAT_GEMMA4_SMALL;
    assert_ok(gemma_chat_create(p.tokenizer, NULL, &o, &c, &e), e.message);
    ARG(gemma_chat_add(NULL, &m));
    ARG(gemma_chat_add(c, NULL));
    ARG(gemma_chat_add(c, &m)); /* a length without text */
    m.size = 4;
    ARG(gemma_chat_add(c, &m));
    ARG(gemma_chat_add_call(c, NULL, NULL, NULL, 0));
    ARG(gemma_chat_add_call(c, NULL, "f", NULL, 1));
    ARG(gemma_chat_add_json(c, NULL, 0));
    ARG(gemma_chat_add_tool(c, NULL, 0));
    ARG(gemma_chat_read(NULL, "[]", 2, NULL));
    ARG(gemma_chat_write(c, NULL, 1, &n));
    ARG(gemma_chat_write(c, text, 1, NULL));
    ARG(gemma_chat_set_system(c, NULL, 1));
    assert_int_equal(gemma_chat_n_messages(NULL), 0);
    ARG(gemma_chat_keep(NULL, 0));
    assert_int_equal(gemma_chat_drop_oldest(NULL), 0);
    ARG(gemma_chat_forget_tools(NULL));
    ARG(gemma_chat_render(c, 0, NULL));
    ARG(gemma_chat_render(NULL, 0, &r));
    assert_int_equal(gemma_chat_ids(c, &id, 1), 0); /* nothing was rendered */
    assert_int_equal(gemma_chat_text(c, text, 1), 0);
    ARG(gemma_parser_create(NULL, NULL, &parser, &e));
    ARG(gemma_parser_create(p.tokenizer, NULL, NULL, &e));
    assert_ok(gemma_parser_create(p.tokenizer, NULL, &parser, &e), e.message);
    ARG(gemma_parser_push(NULL, 0));
    ARG(gemma_parser_push_text(parser, NULL, 1));
    ARG(gemma_parser_finish(NULL));
    ARG(gemma_parser_reset(parser, 2));
    assert_int_equal(gemma_parser_next(parser, NULL), 0);
    assert_int_equal(gemma_parser_next(NULL, &part), 0);
    assert_int_equal(gemma_parser_ended(NULL), 0);
    gemma_parser_destroy(parser);
    gemma_parser_destroy(NULL);
    gemma_chat_destroy(c);
    gemma_chat_destroy(NULL);
    place_close(&p);
}

/* A call and its result, from the user's question to the last prompt; the parents are destroyed first. */
static void a_round_with_a_tool(void **state)
{
    place p;
    gemma_chat *c;
    gemma_parser *parser;
    gemma_error e = { .size = sizeof e };
    gemma_rendering r = { .size = sizeof r };
    char text[512], sentence[64];
    (void)state;
    place_open(&p, true, NULL, 0);
    assert_ok(gemma_chat_create(p.tokenizer, p.file, NULL, &c, &e), e.message);
    assert_ok(gemma_parser_create(p.tokenizer, NULL, &parser, &e), e.message);
    gemma_tokenizer_destroy(p.tokenizer);
    gemma_file_close(p.file);
    gemma_runtime_destroy(p.runtime);
    p.tokenizer = NULL;
    p.file = NULL;
    p.runtime = NULL;

    gemma_message m = { .size = sizeof m, .role = GEMMA_ROLE_USER, .text = "abc", .n_text = 3 };
    assert_int_equal(gemma_chat_add(c, &m), GEMMA_OK);
    assert_int_equal(gemma_chat_render(c, GEMMA_RENDER_GENERATE | GEMMA_RENDER_THINK, &r), GEMMA_OK);
    assert_int_equal(r.n_standing, r.n_ids);
    assert_int_equal(gemma_parser_reset(parser, r.in_thought), GEMMA_OK);
    static const char output[] = "<|channel>thought\nb\n<channel|><|tool_call>call:f{a:1}<tool_call|><|tool_response>";
    assert_int_equal(gemma_parser_push_text(parser, output, sizeof output - 1), GEMMA_OK);
    gemma_part part = { .size = sizeof part };
    assert_int_equal(gemma_parser_next(parser, &part), 1);
    assert_int_equal(part.kind, GEMMA_PART_THOUGHT);
    m = (gemma_message){ .size = sizeof m, .role = GEMMA_ROLE_MODEL, .thought = part.text, .n_thought = part.n_bytes };
    assert_int_equal(gemma_chat_add(c, &m), GEMMA_OK);
    assert_int_equal(gemma_parser_next(parser, &part), 1);
    assert_int_equal(part.kind, GEMMA_PART_CALL);
    assert_int_equal(gemma_chat_add_call(c, "1", part.name, part.text, part.n_bytes), GEMMA_OK);
    assert_int_equal(gemma_parser_next(parser, &part), 0);
    assert_int_equal(gemma_parser_ended(parser), 1);
    m = (gemma_message){ .size = sizeof m, .role = GEMMA_ROLE_TOOL, .text = "c", .n_text = 1, .call_id = "1" };
    assert_int_equal(gemma_chat_add(c, &m), GEMMA_OK);
    assert_int_equal(gemma_chat_render(c, GEMMA_RENDER_GENERATE | GEMMA_RENDER_THINK, &r), GEMMA_OK);
    assert_int_equal(r.in_thought, 1);
    size_t n = gemma_chat_text(c, text, sizeof text - 1);
    assert_int_equal(n, r.n_bytes);
    text[n] = '\0';
    assert_string_equal(text, "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nabc<turn|>\n<|turn>model\n"
                              "<|channel>thought\nb\n<channel|><|tool_call>call:f{a:1}<tool_call|>"
                              "<|tool_response>response:f{value:<|\"|>c<|\"|>}<tool_response|><|channel>thought\n");
    assert_int_equal(gemma_chat_add_json(c, "{", 1), GEMMA_E_FORMAT);
    assert_true(gemma_chat_message(c, sentence, sizeof sentence) > 10);
    assert_non_null(strstr(sentence, "not JSON"));
    gemma_parser_destroy(parser);
    gemma_chat_destroy(c);
    place_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variant_of_a_file),
        cmocka_unit_test(nulls),
        cmocka_unit_test(a_round_with_a_tool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
