# The shared and the static library, from the same objects.
add_library(gemma SHARED ${gm_objects})
set_target_properties(gemma PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
target_include_directories(gemma PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                        $<INSTALL_INTERFACE:include/libgemma-${PROJECT_VERSION_MAJOR}>)
target_link_libraries(gemma PRIVATE Threads::Threads m ${CMAKE_DL_LIBS})
if(UNIX AND NOT APPLE)
  target_link_options(gemma PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/gemma.map -Wl,-z,defs)
  set_target_properties(gemma PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/gemma.map)
endif()

add_library(gemma_static STATIC ${gm_objects})
set_target_properties(gemma_static PROPERTIES OUTPUT_NAME gemma)
target_include_directories(gemma_static PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                               $<INSTALL_INTERFACE:include/libgemma-${PROJECT_VERSION_MAJOR}>)
target_compile_definitions(gemma_static INTERFACE GEMMA_STATIC)
target_link_libraries(gemma_static PUBLIC Threads::Threads m ${CMAKE_DL_LIBS})
