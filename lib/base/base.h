/* base: what every other folder stands on: memory, errors, text, references, threads, clock, files, CPU features.
 * The only folder that knows the operating system (os_posix.c, os_windows.c). */
#ifndef GM_BASE_H
#define GM_BASE_H

#include "gemma.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define GM_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#if defined(__MINGW32__) && !defined(__clang__)
#define GM_PRINTF(at, first) __attribute__((format(gnu_printf, at, first)))
#elif defined(__GNUC__)
#define GM_PRINTF(at, first) __attribute__((format(printf, at, first)))
#else
#define GM_PRINTF(at, first)
#endif

/* Asks for a cache line that is read soon: into all caches, or from the second on. Any address will do. */
#if defined(__GNUC__)
#define GM_PREFETCH(p)     __builtin_prefetch(p)
#define GM_PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2)
#else
#define GM_PREFETCH(p)     ((void)(p))
#define GM_PREFETCH_FAR(p) ((void)(p))
#endif

static inline uint32_t gm_min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t gm_max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline uint64_t gm_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline double gm_max_f64(double a, double b) { return a > b ? a : b; }
static inline uint64_t gm_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline uint64_t gm_div_up(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }
/* `to` is a power of two. The caller knows that a + to does not overflow. */
static inline uint64_t gm_align_up(uint64_t a, uint64_t to) { return (a + to - 1) & ~(to - 1); }

/* Checked arithmetic for numbers from outside: false = overflow, *out untouched. */
static inline bool gm_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b && a > UINT64_MAX / b) return false;
    *out = a * b;
    return true;
}
static inline bool gm_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a > UINT64_MAX - b) return false;
    *out = a + b;
    return true;
}

/* ---- bits.c: numbers as files store them (little-endian, any alignment), half floats ---- */
static inline uint16_t gm_load_u16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t gm_load_u32(const void *p)
{
    const uint8_t *b = p;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t gm_load_u64(const void *p)
{
    return gm_load_u32(p) | (uint64_t)gm_load_u32((const uint8_t *)p + 4) << 32;
}
static inline float gm_f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static inline uint32_t gm_f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}
static inline float gm_f32_from_bf16(uint16_t h) { return gm_f32_from_bits((uint32_t)h << 16); }
static inline float gm_load_f32(const void *p) { return gm_f32_from_bits(gm_load_u32(p)); }
/* Exact, subnormals, infinities and NaN included; no table. Branch-free enough to be vectorised. */
static inline float gm_f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    /* 2^112 moves the exponent bias from 15 to 127 and normalises subnormals; inf and NaN get their exponent back. */
    uint32_t bits = gm_f32_bits(gm_f32_from_bits(rest) * 0x1p112f);
    bits |= (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
    return gm_f32_from_bits(sign | bits);
}
/* Round to nearest even; overflow gives infinity. */
uint16_t gm_f16_from_f32(float f);

static inline void gm_store_u32(void *p, uint32_t x)
{
    uint8_t *b = p;
    for (int i = 0; i < 4; i++) b[i] = (uint8_t)(x >> 8 * i);
}
static inline void gm_store_u64(void *p, uint64_t x)
{
    gm_store_u32(p, (uint32_t)x);
    gm_store_u32((uint8_t *)p + 4, (uint32_t)(x >> 32));
}

/* ---- hash.c ---- */
/* XXH64: finds damage, not malice. A hash of several pieces takes the one before as its seed. */
uint64_t gm_hash64(const void *bytes, uint64_t n, uint64_t seed);

/* ---- mem.c: all memory of the library ---- */
typedef struct gm_mem {
    gemma_host host; /* every hook set but read and parallel_for; alloc and free are taken only as a pair */
    atomic_uint_least64_t live_bytes[GEMMA_TAG_COUNT]; /* held now, by tag */
} gm_mem;

/* `host` NULL or with NULL hooks: the C heap, no log. Never fails. */
void gm_mem_init(gm_mem *mem, const gemma_host *host);
uint64_t gm_mem_live(const gm_mem *mem, uint32_t tag);
/* Exactly n_bytes at `align` (power of two), not cleared; NULL when out of memory or n_bytes == 0. */
void *gm_mem_alloc(gm_mem *mem, uint64_t n_bytes, size_t align, uint32_t tag);
void gm_mem_free(gm_mem *mem, void *block, uint64_t n_bytes, uint32_t tag); /* NULL is fine */

/* Small things: cleared, 16-byte aligned, their size remembered in front of them. NULL when out of memory (n_bytes 0
 * is not: it gives a block of no bytes). */
#define GM_NEW_EXTRA 16 /* bytes a block of gm_new takes beyond n_bytes */
void *gm_new(gm_mem *mem, uint64_t n_bytes, uint32_t tag);
void *gm_new_array(gm_mem *mem, uint64_t n, size_t element_bytes, uint32_t tag); /* checks n × element_bytes */
/* Grows to n_bytes (new part cleared) and returns the block, perhaps moved; on NULL the old block still stands. */
void *gm_grow(gm_mem *mem, void *block, uint64_t n_bytes, uint32_t tag);           /* block NULL: gm_new */
void gm_delete(gm_mem *mem, void *block);                                          /* NULL is fine */
char *gm_copy_string(gm_mem *mem, const char *text, size_t n_bytes, uint32_t tag); /* adds the NUL */

/* Reference counts of objects that children keep alive. */
typedef struct gm_ref {
    atomic_uint count;
} gm_ref;
static inline void gm_ref_init(gm_ref *r) { atomic_init(&r->count, 1); }
static inline void gm_ref_take(gm_ref *r) { atomic_fetch_add_explicit(&r->count, 1, memory_order_relaxed); }
static inline bool gm_ref_drop(gm_ref *r) /* true: that was the last one, destroy */
{
    return atomic_fetch_sub_explicit(&r->count, 1, memory_order_acq_rel) == 1;
}

/* ---- text.c: formatting without stdio and without the locale ---- */
/* %s %d %u %c %% %x, with l, ll, z; %.Ns; %.Nf (N ≤ 9, default 6; from 2^63 on "922337203685e7"); N may be *;
 * widths and flags are not known. Writes at most n bytes with the NUL, cut at a whole UTF-8 character; returns the
 * length written. */
size_t gm_text_format(char *buffer, size_t n, const char *format, ...) GM_PRINTF(3, 4);
size_t gm_text_format_v(char *buffer, size_t n, const char *format, __builtin_va_list args);
/* "12.3 MiB" and the like into a caller's buffer of at least 24 bytes; returns it. */
const char *gm_text_bytes(char *buffer, uint64_t n_bytes);
/* Index of the first byte that is not valid UTF-8 (shortest form, no surrogates, ≤ U+10FFFF), or n. */
size_t gm_utf8_check(const char *text, size_t n);
/* Length of the longest prefix that does not end inside a character (invalid bytes count as whole). */
size_t gm_utf8_whole(const char *text, size_t n);
/* Length of the valid character at text[0], or 0 if there is none; n ≥ 1. *code may be NULL. */
size_t gm_utf8_next(const char *text, size_t n, uint32_t *code);
bool gm_text_contains(const char *text, const char *part); /* any ASCII case */

/* ---- error.c ---- */
const char *gm_error_name(int code); /* as gemma_error_name */
const char *gm_error_text(int code);
/* Fills *error (NULL allowed) and returns the code: `return gm_fail(error, GEMMA_E_FORMAT, "%s: …", name);`
 * Writes no more than error->size bytes, nothing at all when that is 0: give structs of our own to gm_error_init. */
int gm_fail(gemma_error *error, int code, const char *format, ...) GM_PRINTF(3, 4);
/* The usual sentence for GEMMA_E_NOMEM. */
int gm_fail_nomem(gemma_error *error, const char *what, uint64_t n_bytes);
void gm_error_init(gemma_error *error);  /* zeroed, size set */
void gm_error_clear(gemma_error *error); /* code and sentence; NULL is fine */
/* The sentence an object keeps for its gemma_X_message(); starts with gm_error_init. */
size_t gm_message_copy(const gemma_error *kept, char *buffer, size_t n);
/* Option structs across the ABI (style rule 3): ARG or VERSION on failure. `given` is src's own size field. */
int gm_options_read(void *dst, uint32_t known, const void *src, const char *what, gemma_error *error);
/* Result structs: copies min(src size, the caller's size), keeps the caller's size field. ARG if dst is NULL or its
 * size is < 8. */
int gm_result_write(void *dst, const void *src, uint32_t known);
void gm_log(const gm_mem *mem, uint32_t level, const char *format, ...) GM_PRINTF(3, 4);

/* ---- cancel: gemma_cancel is this struct ---- */
struct gemma_cancel {
    gm_mem *mem;
    void *owner;
    atomic_int raised;
};

/* ---- os_posix.c / os_windows.c ---- */
uint64_t gm_now_ns(void); /* monotonic */
void gm_cpu_relax(void);
void gm_sleep_ns(uint64_t ns);
uint32_t gm_n_cores(void);         /* the process may use, ≥ 1 */
uint64_t gm_ram_total_bytes(void); /* the smaller of the machine and its cgroup */
uint64_t gm_ram_available_bytes(void);

typedef struct gm_mutex gm_mutex; /* with one condition */
int gm_mutex_create(gm_mem *mem, gm_mutex **out);
void gm_mutex_destroy(gm_mem *mem, gm_mutex *mutex);
void gm_mutex_lock(gm_mutex *mutex);
void gm_mutex_unlock(gm_mutex *mutex);
bool gm_mutex_wait(gm_mutex *mutex, uint64_t timeout_ns); /* false: timed out; wake-ups may be spurious */
void gm_mutex_wake_all(gm_mutex *mutex);

typedef struct gm_thread gm_thread;
int gm_thread_start(gm_mem *mem, void (*run)(void *arg), void *arg, gm_thread **out); /* NOMEM, INTERNAL */
void gm_thread_join(gm_mem *mem, gm_thread *thread);

/* A file opened for reading, by the OS or by the host's `read`; or mapped; or bytes in memory. Any thread. */
typedef struct gm_source gm_source;
int gm_source_open(gm_mem *mem, const char *path, bool map, gm_source **out, gemma_error *error);
int gm_source_from_bytes(gm_mem *mem, const void *bytes, uint64_t n_bytes, gm_source **out, gemma_error *error);
void gm_source_close(gm_source *source);
uint64_t gm_source_bytes(const gm_source *source);
const char *gm_source_name(const gm_source *source);   /* path, or "bytes in memory" */
const void *gm_source_mapped(const gm_source *source); /* NULL: must be read */
/* Brings the bytes of a mapping into memory, so that no page of them is waited for later. Where the system cannot, or the file
 * has become shorter, nothing happens. */
void gm_map_fetch(const void *mapped, uint64_t n_bytes);
/* All n bytes or an error: IO (the sentence has the path, offset and the OS's reason), FORMAT (past the end). */
int gm_source_read(gm_source *source, uint64_t offset, void *dst, uint64_t n, gemma_error *error);

void *gm_library_open(const char *name); /* NULL: not there */
void *gm_library_symbol(void *library, const char *name);

/* The caller's rounding and denormal modes are put to the C defaults and restored (x86 MXCSR, Arm FPCR). */
uint64_t gm_float_env_set_default(void);
void gm_float_env_restore(uint64_t saved);

/* ---- cpu.c ---- */
enum {
    GM_CPU_AVX2 = 1u << 0,   /* with FMA and F16C, and the OS saves ymm */
    GM_CPU_AVX512 = 1u << 1, /* F BW DQ VL, and the OS saves zmm */
    GM_CPU_AVX512_VNNI = 1u << 2,
    GM_CPU_AVX_VNNI = 1u << 3,
    GM_CPU_AVX512_BF16 = 1u << 4,
    GM_CPU_FAST_512 = 1u << 5, /* 512-bit instructions take no longer than 256-bit ones */
    GM_CPU_NEON = 1u << 8,
    GM_CPU_DOTPROD = 1u << 9, /* SDOT */
    GM_CPU_I8MM = 1u << 10,   /* SMMLA */
};
uint32_t gm_cpu_features(void);
void gm_cpu_name(char *buffer, size_t n); /* "AMD EPYC 9354", or the architecture's name */

/* ---- pool.c: the runtime's threads ---- */
typedef struct gm_pool gm_pool;
/* Work runs on n_threads threads, the caller being one of them. With the host's parallel_for no thread is started. */
int gm_pool_create(gm_mem *mem, uint32_t n_threads, gm_pool **out, gemma_error *error);
void gm_pool_destroy(gm_pool *pool); /* NULL is fine */
uint32_t gm_pool_n_threads(const gm_pool *pool);
/* A sequence of phases, each cut into n_threads parts that may run at once; phase i + 1 starts when all parts of
 * phase i are done. One wake-up per call with our own threads; one parallel_for per phase with the host's.
 * `run(arg, phase, part, n_parts)`. Calls from several threads take turns. `stop` (may be NULL) is asked between
 * phases, on the thread of any part: true ends the sequence; returns false then. Allocates nothing. */
typedef void (*gm_phase_fn)(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts);
bool gm_pool_run(gm_pool *pool, gm_phase_fn run, void *arg, uint32_t n_phases, bool (*stop)(void *arg));

#endif
