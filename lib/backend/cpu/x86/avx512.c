#include "backend/cpu/x86/vector.h"

void gm_kernels_avx512(gm_kernels *k, bool is_fast)
{
    fill_level(k, "avx512-vnni");
    fill_pairs(k, is_fast);
}
