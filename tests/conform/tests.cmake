# One program per backend, all with the same table of cases.
gm_test(conform/cpu base quant op backend backend_cpu)
if(TARGET test_cpu)
  target_sources(test_cpu PRIVATE conform/scene.c conform/naive.c conform/cases.c conform/check.c)
endif()
gm_test(conform/dots base quant op backend backend_cpu)
include(bench/bench.cmake OPTIONAL)
