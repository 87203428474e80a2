# gm_api_test(folder/name): a CMocka program that sees gemma.h and the library, and no module of it. (The tiny models
# are packed by the library's own formats, which the static library holds.)
add_library(gm_world OBJECT api/world.c)
target_include_directories(gm_world PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/lib)
target_link_libraries(gm_world PRIVATE gemma_static PkgConfig::cmocka)

function(gm_api_test source)
  get_filename_component(name ${source} NAME)
  get_filename_component(folder ${source} DIRECTORY)
  set(target test_${folder}_${name})
  add_executable(${target} ${source}.c $<TARGET_OBJECTS:gm_world> $<TARGET_OBJECTS:gm_support>
                 $<TARGET_OBJECTS:gm_gguf_writer> $<TARGET_OBJECTS:gm_tiny_model>)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/lib)
  target_link_libraries(${target} PRIVATE gemma_static PkgConfig::cmocka m)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${folder}.${name} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set_tests_properties(${folder}.${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endfunction()

foreach(name IN ITEMS rows memory bad_input nulls threads generation chat gemma bad_values rows_gemma4 save convert
        split park)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/api/${name}.c)
    gm_api_test(api/${name})
  endif()
endforeach()
target_sources(test_api_gemma PRIVATE api/gemma_naive.c)
if(gm_vulkan_built AND GEMMA_VULKAN_DRIVERS)
  add_test(NAME vulkan.lavapipe.rows_gemma4 COMMAND test_api_rows_gemma4 vulkan
           WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set_tests_properties(vulkan.lavapipe.rows_gemma4 PROPERTIES TIMEOUT 1800
                       ENVIRONMENT VK_DRIVER_FILES=${GEMMA_VULKAN_DRIVERS}/lavapipe.json)
endif()
# What the thread sanitizer runs.
set_tests_properties(api.threads PROPERTIES LABELS threads)
if(gm_vulkan_built AND GEMMA_VULKAN_DRIVERS)
  foreach(name IN ITEMS save convert split park)
    add_test(NAME vulkan.lavapipe.${name} COMMAND test_api_${name} vulkan WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    set_tests_properties(vulkan.lavapipe.${name} PROPERTIES TIMEOUT 1800
                         ENVIRONMENT VK_DRIVER_FILES=${GEMMA_VULKAN_DRIVERS}/lavapipe.json)
  endforeach()
endif()
