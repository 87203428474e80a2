/* The levels of the kernels. Each is kernels_dots.inc and kernels_floats.inc compiled over that level's vectors. */
#ifndef GM_CPU_DOT_H
#define GM_CPU_DOT_H

#include "backend/cpu/kernels.h"

/* Each fills every entry and may be called on any processor; what it fills in may not. */
void gm_kernels_plain(gm_kernels *k);
void gm_kernels_avx2(gm_kernels *k);
void gm_kernels_avx_vnni(gm_kernels *k);
void gm_kernels_avx512(gm_kernels *k);

/* A kernel's body is compiled once for each number of columns: it must be inlined for the number to be a constant. */
#if defined(__GNUC__)
#define GM_INLINE static inline __attribute__((always_inline))
#else
#define GM_INLINE static inline
#endif

#endif
