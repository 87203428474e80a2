# Programs that measure: built with the tests, run by hand.
add_executable(bench_dots bench/dots.c $<TARGET_OBJECTS:gm_base> $<TARGET_OBJECTS:gm_quant>
               $<TARGET_OBJECTS:gm_backend_cpu> $<TARGET_OBJECTS:gm_backend> $<TARGET_OBJECTS:gm_op>)
target_include_directories(bench_dots PRIVATE ${PROJECT_SOURCE_DIR}/lib ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(bench_dots PRIVATE Threads::Threads m ${CMAKE_DL_LIBS})
