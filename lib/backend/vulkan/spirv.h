/* The kernels' SPIR-V, built into the library by shaders/CMakeLists.txt. */
#ifndef GM_SPIRV_H
#define GM_SPIRV_H

#include <stddef.h>
#include <stdint.h>

typedef struct gm_spirv {
    const char *name; /* "matvec_q4_0" */
    const uint32_t *words;
    size_t n_bytes;
} gm_spirv;

extern const gm_spirv gm_spirv_modules[]; /* ascending by name */
extern const uint32_t gm_spirv_n_modules;

#endif
