/* gguf_writer: builds small GGUF files in memory, right or (on purpose) wrong ones. Runs out of memory: abort().
 *
 *     gguf_writer *w = gguf_writer_create();
 *     gguf_put_string(w, "general.architecture", "gemma3");
 *     gguf_put_u32(w, "gemma3.block_count", 2);
 *     gguf_put_array(w, "tokenizer.ggml.scores", GM_GGUF_F32, scores, n);
 *     gguf_put_tensor(w, "output_norm.weight", GM_F32, 1, (uint64_t[]){ 64 }, data, 64 * 4);
 *     size_t n_bytes;
 *     const uint8_t *bytes = gguf_writer_finish(w, &n_bytes);   (lives as long as the writer)
 *     gguf_writer_destroy(w);
 *
 * Keys and tensors are written in the order in which they were put. Nothing is checked but the host's byte order, which
 * must be little-endian. */
#ifndef GGUF_WRITER_H
#define GGUF_WRITER_H

#include "gguf/gguf.h"

typedef struct gguf_writer gguf_writer;

gguf_writer *gguf_writer_create(void); /* version 3, alignment 32 */
void gguf_writer_destroy(gguf_writer *w);
void gguf_set_version(gguf_writer *w, uint32_t version);
/* Aligns the tensors; other than 32: also puts the key general.alignment. */
void gguf_set_alignment(gguf_writer *w, uint32_t alignment);

/* Keys. `data` of an array or value: little-endian elements of a GM_GGUF_ type that is no string or array. */
void gguf_put_value(gguf_writer *w, const char *key, uint32_t type, const void *data, size_t n_bytes);
void gguf_put_u16(gguf_writer *w, const char *key, uint16_t value);
void gguf_put_u32(gguf_writer *w, const char *key, uint32_t value);
void gguf_put_i32(gguf_writer *w, const char *key, int32_t value);
void gguf_put_u64(gguf_writer *w, const char *key, uint64_t value);
void gguf_put_f32(gguf_writer *w, const char *key, float value);
void gguf_put_bool(gguf_writer *w, const char *key, bool value);
void gguf_put_string(gguf_writer *w, const char *key, const char *text);
void gguf_put_string_n(gguf_writer *w, const char *key, const char *text, size_t n);
void gguf_put_array(gguf_writer *w, const char *key, uint32_t type, const void *data, uint64_t n);
void gguf_put_strings(gguf_writer *w, const char *key, const char *const *texts, uint64_t n);
void gguf_put_strings_n(gguf_writer *w, const char *key, const gm_str *texts, uint64_t n);
/* split.no, split.count and split.tensors.count of part `no` (from 0). */
void gguf_put_split(gguf_writer *w, uint16_t no, uint16_t count, int32_t n_tensors);

/* Tensors: `ne` has n_dims entries; `data` NULL: n_bytes zeros. */
void gguf_put_tensor(gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                     const void *data, size_t n_bytes);
/* Without data, which the caller writes after the file: with one of these, the header ends aligned. */
void gguf_put_tensor_at(gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                        uint64_t offset);
/* From f32 values through gm_format_of(type)->pack; the type must have one, n is the number of elements. */
void gguf_put_tensor_f32(gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                         const float *values);

/* The whole file. May be called again after more was put; the old bytes are gone then. */
const uint8_t *gguf_writer_finish(gguf_writer *w, size_t *n_bytes);
/* The same into a file; false: it cannot be written. */
bool gguf_writer_save(gguf_writer *w, const char *path);

#endif
