# Programs that measure: built with the tests, run by hand.
add_executable(bench_dots bench/dots.c $<TARGET_OBJECTS:gm_base> $<TARGET_OBJECTS:gm_quant>
               $<TARGET_OBJECTS:gm_backend_cpu> $<TARGET_OBJECTS:gm_backend> $<TARGET_OBJECTS:gm_op>)
target_include_directories(bench_dots PRIVATE ${PROJECT_SOURCE_DIR}/lib ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(bench_dots PRIVATE Threads::Threads m ${CMAKE_DL_LIBS})

add_executable(bench_kernels bench/kernels.c conform/cases.c conform/scene.c $<TARGET_OBJECTS:gm_base>
               $<TARGET_OBJECTS:gm_quant> $<TARGET_OBJECTS:gm_backend_cpu> $<TARGET_OBJECTS:gm_backend>
               $<TARGET_OBJECTS:gm_op>)
target_include_directories(bench_kernels PRIVATE ${PROJECT_SOURCE_DIR}/lib ${PROJECT_SOURCE_DIR}/include
                           ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(bench_kernels PRIVATE PkgConfig::cmocka Threads::Threads m ${CMAKE_DL_LIBS})
if(gm_vulkan_built)
  target_sources(bench_kernels PRIVATE $<TARGET_OBJECTS:gm_backend_vulkan>)
  target_compile_definitions(bench_kernels PRIVATE HAVE_VULKAN)
endif()
