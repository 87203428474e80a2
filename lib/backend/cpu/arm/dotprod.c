#include "backend/cpu/arm/vector.h"

void gm_kernels_dotprod(gm_kernels *k) { fill_level(k, "neon-dotprod"); }
