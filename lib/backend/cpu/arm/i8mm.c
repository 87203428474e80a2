#include "backend/cpu/arm/vector.h"

void gm_kernels_i8mm(gm_kernels *k) { fill_level(k, "neon-i8mm"); }
