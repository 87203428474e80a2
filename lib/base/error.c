#include "base/base.h"

#include <stdarg.h>

enum {
    STRUCT_MIN = 8, /* bytes of the smallest struct that crosses the ABI: its size and one field */
    STRUCT_MAX = 4096,
    LOG_LINE = 1024,
    MESSAGE = sizeof(((gemma_error *)0)->message),
};
static const size_t message_at = offsetof(gemma_error, message);

const char *gm_error_name(int code)
{
    switch (code) {
    case GEMMA_OK: return "GEMMA_OK";
#define NAME(name, value, text)                                                                                        \
    case value: return "GEMMA_E_" #name;
        GEMMA_ERROR_LIST(NAME)
#undef NAME
    default: return "GEMMA_E_UNKNOWN";
    }
}

const char *gm_error_text(int code)
{
    switch (code) {
    case GEMMA_OK: return "no error";
#define TEXT(name, value, text)                                                                                        \
    case value: return text;
        GEMMA_ERROR_LIST(TEXT)
#undef TEXT
    default: return "an error this library does not know";
    }
}

/* What the caller's struct has beyond `message_at`, with which we may do as we like. */
static size_t message_room(const gemma_error *error)
{
    return error->size <= message_at ? 0 : gm_min_u64(error->size - message_at, MESSAGE);
}

int gm_fail(gemma_error *error, int code, const char *format, ...)
{
    if (!error || error->size < STRUCT_MIN) return code;
    char message[MESSAGE]; /* the arguments may point into error->message */
    va_list args;
    va_start(args, format);
    gm_text_format_v(message, sizeof message, format, args);
    va_end(args);
    error->code = code;
    gm_text_format(error->message, message_room(error), "%s", message);
    return code;
}

int gm_fail_nomem(gemma_error *error, const char *what, uint64_t n_bytes)
{
    char bytes[24];
    return gm_fail(error, GEMMA_E_NOMEM, "out of host memory: %s for %s", gm_text_bytes(bytes, n_bytes), what);
}

void gm_error_init(gemma_error *error)
{
    memset(error, 0, sizeof *error);
    error->size = sizeof *error;
}

void gm_error_clear(gemma_error *error)
{
    if (!error || error->size < STRUCT_MIN) return;
    error->code = GEMMA_OK;
    if (message_room(error)) error->message[0] = 0;
}

size_t gm_message_copy(const gemma_error *kept, char *buffer, size_t n)
{
    return gm_text_format(buffer, n, "%s", kept ? kept->message : "");
}

int gm_options_read(void *dst, uint32_t known, const void *src, const char *what, gemma_error *error)
{
    uint32_t given = known;
    if (src) memcpy(&given, src, sizeof given);
    if (given < STRUCT_MIN || given > STRUCT_MAX)
        return gm_fail(error, GEMMA_E_ARG, "%s: its size field is %u; it must be the size of the struct", what, given);
    for (uint32_t i = known; i < given; i++) {
        if (((const uint8_t *)src)[i])
            return gm_fail(error, GEMMA_E_VERSION, "%s: byte %u of %u is set, but this library knows only %u", what, i,
                           given, known);
    }
    memset(dst, 0, known);
    if (src) memcpy(dst, src, gm_min_u32(given, known));
    memcpy(dst, &known, sizeof known);
    return GEMMA_OK;
}

int gm_result_write(void *dst, const void *src, uint32_t known)
{
    uint32_t room;
    if (!dst) return GEMMA_E_ARG;
    memcpy(&room, dst, sizeof room);
    if (room < STRUCT_MIN) return GEMMA_E_ARG;
    memcpy((uint8_t *)dst + sizeof room, (const uint8_t *)src + sizeof room, gm_min_u32(room, known) - sizeof room);
    return GEMMA_OK;
}

void gm_log(const gm_mem *mem, uint32_t level, const char *format, ...)
{
    if (level == GEMMA_LOG_NONE || level > mem->host.log_level) return;
    char line[LOG_LINE];
    va_list args;
    va_start(args, format);
    gm_text_format_v(line, sizeof line, format, args);
    va_end(args);
    mem->host.log(mem->host.user, level, line);
}
