gm_api_test(fault/whole)
if(gm_vulkan_built AND CMAKE_SYSTEM_NAME STREQUAL Linux)
  pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson)
  # Described machines, and the layer that poses as them.
  add_library(gm_vklayer OBJECT vklayer/vklayer.c vklayer/physical.c ${PROJECT_SOURCE_DIR}/examples/common/machine.c
                                ${PROJECT_SOURCE_DIR}/examples/common/machine_answers.c)
  target_include_directories(gm_vklayer PUBLIC ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
                                               ${PROJECT_SOURCE_DIR}/examples)
  target_include_directories(gm_vklayer SYSTEM PUBLIC
                             $<TARGET_PROPERTY:gm_backend_vulkan,INTERFACE_SYSTEM_INCLUDE_DIRECTORIES>)
  target_compile_definitions(gm_vklayer PUBLIC VK_NO_PROTOTYPES)
  target_link_libraries(gm_vklayer PUBLIC PkgConfig::jansson)

  # gm_vklayer_test(folder/name): on the system's drivers, and on each of GEMMA_VULKAN_DRIVERS that is named.
  function(gm_vklayer_test source)
    gm_api_test(${source})
    get_filename_component(name ${source} NAME)
    get_filename_component(folder ${source} DIRECTORY)
    set(target test_${folder}_${name})
    target_link_libraries(${target} PRIVATE gm_vklayer)
    target_sources(${target} PRIVATE fault/run.c $<TARGET_OBJECTS:gm_vklayer>)
    set(test ${folder})
    if(NOT name STREQUAL vulkan)
      set(test ${name})
    endif()
    foreach(driver IN LISTS ARGN)
      if(GEMMA_VULKAN_DRIVERS)
        add_test(NAME vulkan.${driver}.${test} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
        set_tests_properties(vulkan.${driver}.${test} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1800
                             ENVIRONMENT VK_DRIVER_FILES=${GEMMA_VULKAN_DRIVERS}/${driver}.json)
      endif()
    endforeach()
  endfunction()
  gm_vklayer_test(fault/kernels lavapipe swiftshader)
  target_sources(test_fault_kernels PRIVATE ${PROJECT_SOURCE_DIR}/examples/common/kernels.c
                                            ${PROJECT_SOURCE_DIR}/examples/common/cli.c)
  target_compile_definitions(test_fault_kernels PRIVATE _GNU_SOURCE)
  gm_vklayer_test(fault/vulkan lavapipe swiftshader)
  gm_vklayer_test(fault/machines lavapipe)
  target_link_options(test_fault_vulkan PRIVATE -Wl,--wrap=dlopen)
endif()
