#include "backend/cpu/dot.h"

void gm_kernels_pick(gm_kernels *k, uint32_t features)
{
    memset(k, 0, sizeof *k);
    gm_kernels_plain(k);
#if defined(GM_X86_LEVELS)
    if (!(features & GM_CPU_AVX2)) return;
    gm_kernels_avx2(k);
    if (features & GM_CPU_AVX_VNNI) gm_kernels_avx_vnni(k);
    /* Without VNNI, 512 bits bring nothing over AVX2 here. */
    if ((features & GM_CPU_AVX512) && (features & GM_CPU_AVX512_VNNI)) gm_kernels_avx512(k, features & GM_CPU_FAST_512);
#elif defined(GM_ARM_LEVELS)
    if (!(features & GM_CPU_NEON)) return;
    gm_kernels_neon(k);
    if (!(features & GM_CPU_DOTPROD)) return;
    gm_kernels_dotprod(k);
    if (features & GM_CPU_I8MM) gm_kernels_i8mm(k);
#else
    (void)features;
#endif
}
