/* A GGUF file in memory, opened in place and through the host's read: both must agree, and everything an open file
 * promises is walked. */
#include "gguf/gguf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

typedef struct file_bytes {
    const uint8_t *data;
    size_t n;
} file_bytes;

static int64_t read_input(void *user, const char *path, uint64_t offset, void *dst, uint64_t n)
{
    const file_bytes *in = user;
    (void)path;
    if (!dst) return (int64_t)in->n;
    if (offset >= in->n) return 0;
    n = gm_min_u64(n, in->n - offset);
    memcpy(dst, in->data + offset, n);
    return (int64_t)n;
}

static void require(bool promised)
{
    if (!promised) abort();
}

static uint64_t sum_of(const void *p, uint64_t n)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += ((const uint8_t *)p)[i];
    return sum;
}

static void touch_tensors(const gm_gguf *g)
{
    for (uint32_t i = 0; i < gm_gguf_n_tensors(g); i++) {
        const gm_tensor *t = gm_gguf_tensor(g, i);
        require(gm_gguf_find(g, t->name) == t);
        require(t->n_bytes > 0 && t->ne[0] % t->format->block == 0);
        require(t->n_bytes == gm_row_bytes(t->format, t->ne[0]) * t->ne[1] * t->ne[2] * t->ne[3]);
        uint8_t ends[2];
        require(gm_gguf_read(g, t, 0, ends, 1, NULL) == GEMMA_OK);
        require(gm_gguf_read(g, t, t->n_bytes - 1, ends + 1, 1, NULL) == GEMMA_OK);
        const uint8_t *mapped = gm_gguf_mapped(g, t);
        require(!mapped || (mapped[0] == ends[0] && mapped[t->n_bytes - 1] == ends[1]));
    }
}

/* The keys are private: ask for those that the library, the seeds and the fuzzer's dictionary know. */
static const char *const keys[] = { "general.architecture",
                                    "general.alignment",
                                    "general.name",
                                    "split.no",
                                    "split.count",
                                    "split.tensors.count",
                                    "tokenizer.ggml.tokens",
                                    "tokenizer.ggml.scores",
                                    "tokenizer.ggml.token_type",
                                    "a",
                                    "b",
                                    "c",
                                    "d",
                                    "e",
                                    "f",
                                    "g",
                                    "h",
                                    "i",
                                    "j",
                                    "k",
                                    "l",
                                    "m",
                                    "n",
                                    "o" };

static uint64_t touch_key(const gm_gguf *g, const char *key)
{
    char text[16];
    int64_t length = gm_gguf_text(g, key, text, sizeof text);
    require((length >= 0) == gm_gguf_has(g, key));
    if (length < 0) return 0;
    require(strlen(text) < sizeof text && gm_utf8_check(text, strlen(text)) == strlen(text));

    uint32_t type, u32;
    float f32;
    bool truth;
    gm_str string;
    gm_strings walk = { 0 };
    uint64_t n, n_seen = 0, sum = (uint64_t)length;
    int64_t integer;
    sum += gm_gguf_u32(g, key, &u32) + gm_gguf_f32(g, key, &f32) + gm_gguf_bool(g, key, &truth);
    if (gm_gguf_string(g, key, &string)) sum += sum_of(string.data, string.n);
    if (!gm_gguf_array(g, key, &type, &n)) return sum;
    require(gm_gguf_strings(g, key, &walk) == (type == GM_GGUF_STRING));
    for (; gm_strings_next(&walk, &string); n_seen++) sum += sum_of(string.data, string.n);
    require(n_seen == (type == GM_GGUF_STRING ? n : 0));
    const void *numbers = gm_gguf_array_data(g, key);
    if (numbers && n) sum += sum_of(numbers, n);
    if (n && gm_gguf_array_int(g, key, n - 1, &integer)) sum += (uint64_t)integer;
    require(!gm_gguf_array_int(g, key, n, &integer));
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    file_bytes in = { data, n };
    gemma_host host = { .size = sizeof host, .user = &in, .read = read_input };
    gm_mem mem;
    gm_mem_init(&mem, &host);
    int rc[2];
    uint64_t sums[2] = { 0 };
    for (int way = 0; way < 2; way++) {
        gm_gguf_input input = { .path = way ? "input.gguf" : NULL,
                                .bytes = n ? data : (const uint8_t *)"",
                                .n_bytes = n };
        gemma_error error = { .size = sizeof error };
        gm_gguf *g = NULL;
        rc[way] = gm_gguf_open(&mem, &input, &g, &error);
        require((rc[way] == GEMMA_OK) == (g != NULL));
        require(rc[way] == error.code && gm_utf8_check(error.message, strlen(error.message)) == strlen(error.message));
        if (g) {
            touch_tensors(g);
            for (size_t i = 0; i < GM_COUNT(keys); i++) sums[way] += touch_key(g, keys[i]);
        }
        gm_gguf_close(g);
        require(gm_mem_live(&mem, GEMMA_TAG_FILE) == 0);
    }
    require(sums[0] == sums[1]);
    return 0;
}
