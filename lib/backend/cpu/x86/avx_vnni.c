#include "backend/cpu/x86/vector.h"

void gm_kernels_avx_vnni(gm_kernels *k) { fill_level(k, "avx2-vnni"); }
