#include "backend/cpu/arm/vector.h"

void gm_kernels_neon(gm_kernels *k) { fill_level(k, "neon"); }
