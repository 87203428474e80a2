# Kernels unroll into functions of thousands of short-lived vectors, on which this check takes gcc minutes a file.
set(kernel_options "")
if(GEMMA_SANITIZE MATCHES address)
  set(kernel_options -fno-sanitize-address-use-after-scope)
endif()
set(folder ${CMAKE_CURRENT_LIST_DIR})
set_source_files_properties(${folder}/dot_plain.c PROPERTIES COMPILE_OPTIONS "${kernel_options}")

# The x86-64 levels: files with flags of their own, run only where the processor has them.
include(CheckCSourceCompiles)
check_c_source_compiles("
#ifndef __x86_64__
#error not for this processor
#endif
int main(void) { return 0; }" gm_x86_64)
if(gm_x86_64)
  set(avx2 ${kernel_options} -mavx2 -mfma -mf16c)
  if(MINGW AND CMAKE_C_COMPILER_ID STREQUAL GNU)
    # gcc cannot align the stack to 32 bytes on Windows and spills registers with aligned moves all the same.
    list(APPEND avx2 -Wa,-muse-unaligned-vector-move)
  endif()
  target_sources(gm_backend_cpu PRIVATE ${folder}/x86/avx2.c ${folder}/x86/avx_vnni.c ${folder}/x86/avx512.c)
  target_compile_definitions(gm_backend_cpu PRIVATE GM_X86_LEVELS)
  set_source_files_properties(${folder}/x86/avx2.c PROPERTIES COMPILE_OPTIONS "${avx2}")
  set_source_files_properties(${folder}/x86/avx_vnni.c PROPERTIES COMPILE_OPTIONS "${avx2};-mavxvnni")
  set_source_files_properties(${folder}/x86/avx512.c PROPERTIES
    COMPILE_OPTIONS "${avx2};-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni")
endif()

# The Arm levels: 64 bits, little-endian.
check_c_source_compiles("
#ifndef __AARCH64EL__
#error not for this processor
#endif
int main(void) { return 0; }" gm_aarch64)
if(gm_aarch64)
  target_sources(gm_backend_cpu PRIVATE ${folder}/arm/neon.c ${folder}/arm/dotprod.c ${folder}/arm/i8mm.c)
  target_compile_definitions(gm_backend_cpu PRIVATE GM_ARM_LEVELS)
  set_source_files_properties(${folder}/arm/neon.c PROPERTIES COMPILE_OPTIONS "${kernel_options};-march=armv8-a")
  set_source_files_properties(${folder}/arm/dotprod.c PROPERTIES
    COMPILE_OPTIONS "${kernel_options};-march=armv8.2-a+dotprod")
  set_source_files_properties(${folder}/arm/i8mm.c PROPERTIES
    COMPILE_OPTIONS "${kernel_options};-march=armv8.2-a+dotprod+i8mm")
endif()
