/* The levels of the kernels. Each is kernels_dots.inc and kernels_floats.inc compiled over that level's vectors. */
#ifndef GM_CPU_DOT_H
#define GM_CPU_DOT_H

#include "backend/cpu/kernels.h"

/* Each fills every entry and may be called on any processor; what it fills in may not. */
void gm_kernels_plain(gm_kernels *k);
void gm_kernels_avx2(gm_kernels *k);
void gm_kernels_avx_vnni(gm_kernels *k);
void gm_kernels_avx512(gm_kernels *k, bool is_fast); /* GM_CPU_FAST_512 */
void gm_kernels_neon(gm_kernels *k);
void gm_kernels_dotprod(gm_kernels *k);
void gm_kernels_i8mm(gm_kernels *k);

/* Zeros from run `total` to the end of its block. */
static inline void gm_activations_end(gm_activations *x, size_t total)
{
    size_t n = total % 8;
    if (!n) return;
    x += total / 8;
    memset(x->q + 32 * n, 0, sizeof x->q - 32 * n);
    for (; n < 8; n++) x->d[n] = x->sum[n] = 0, x->bias[n] = 0, x->half_sums[n][0] = x->half_sums[n][1] = 0;
}

/* Bytes 0, 2, 4, 6 of a word. */
static inline uint64_t even_bytes(uint64_t v)
{
    v &= UINT64_C(0x00ff00ff00ff00ff);
    v = (v | v >> 8) & UINT64_C(0x0000ffff0000ffff);
    return (v | v >> 16) & UINT64_C(0xffffffff);
}

/* A kernel's body is compiled once for each number of columns: it must be inlined for the number to be a constant.
 * Compilers see what to vectorise in a small function of its own, and lose it in a large one. */
#if defined(__GNUC__)
#define GM_INLINE     static inline __attribute__((always_inline))
#define GM_NOT_INLINE static __attribute__((noinline))
#else
#define GM_INLINE     static inline
#define GM_NOT_INLINE static
#endif

/* Bytes that are read soon, into the second-level cache. Few at a time: more than it can wait for stop a processor. */
GM_INLINE void gm_fetch_soon(const void *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i += 64) GM_PREFETCH_FAR((const uint8_t *)bytes + i);
}

/* Rows of weights lie one behind the other and are read once: what comes so far behind a block is asked for when the block
 * is worked on. Nearer, a core has too few lines under way for its share of the memory's rate; past the end of a matrix
 * nothing is read, only asked for. */
#define GM_ROWS_AHEAD ((size_t)12 << 10)

/* Of a loop over the eight runs of a block: its number then is a constant. */
#if defined(__clang__)
#define GM_UNROLL _Pragma("clang loop unroll(full)")
#elif defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define GM_UNROLL /* gcc warns that what it instruments is not unrolled */
#elif defined(__GNUC__)
#define GM_UNROLL _Pragma("GCC unroll 8")
#else
#define GM_UNROLL
#endif

#endif
