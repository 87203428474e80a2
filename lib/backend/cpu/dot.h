/* The levels of the kernels. Each is kernels_dots.inc and kernels_floats.inc compiled over that level's vectors. */
#ifndef GM_CPU_DOT_H
#define GM_CPU_DOT_H

#include "backend/cpu/kernels.h"

/* Each fills every entry and may be called on any processor; what it fills in may not. */
void gm_kernels_plain(gm_kernels *k);
void gm_kernels_avx2(gm_kernels *k);
void gm_kernels_avx_vnni(gm_kernels *k);
void gm_kernels_avx512(gm_kernels *k);

/* A kernel's body is compiled once for each number of columns: it must be inlined for the number to be a constant.
 * Compilers see what to vectorise in a small function of its own, and lose it in a large one. */
#if defined(__GNUC__)
#define GM_INLINE     static inline __attribute__((always_inline))
#define GM_NOT_INLINE static __attribute__((noinline))
#else
#define GM_INLINE     static inline
#define GM_NOT_INLINE static
#endif

#endif
