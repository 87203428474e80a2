#include "backend/cpu/x86/vector.h"

void gm_kernels_avx2(gm_kernels *k) { fill_level(k, "avx2"); }
