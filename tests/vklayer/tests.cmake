# Described machines, and the layer that poses as them.
if(gm_vulkan_built AND CMAKE_SYSTEM_NAME STREQUAL Linux)
  pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson)
  add_library(gm_vklayer OBJECT vklayer/vklayer.c vklayer/physical.c vklayer/speed.c ${PROJECT_SOURCE_DIR}/examples/common/machine.c
                                ${PROJECT_SOURCE_DIR}/examples/common/machine_answers.c
                                ${PROJECT_SOURCE_DIR}/examples/common/machine_host.c)
  target_include_directories(gm_vklayer PUBLIC ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
                                               ${PROJECT_SOURCE_DIR}/examples)
  target_include_directories(gm_vklayer SYSTEM PUBLIC
                             $<TARGET_PROPERTY:gm_backend_vulkan,INTERFACE_SYSTEM_INCLUDE_DIRECTORIES>)
  target_compile_definitions(gm_vklayer PUBLIC VK_NO_PROTOTYPES)
  target_link_libraries(gm_vklayer PUBLIC PkgConfig::jansson)
endif()
