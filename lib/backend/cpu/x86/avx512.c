#include "backend/cpu/x86/vector.h"

void gm_kernels_avx512(gm_kernels *k) { fill_level(k, "avx512-vnni"); }
