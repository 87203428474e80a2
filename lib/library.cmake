# The shared and the static library, from the same objects, and what `cmake --install` puts where.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
# Clear of the folder gemma/ of Google's gemma.cpp; the next soname's headers may lie beside these.
set(gemma_include ${CMAKE_INSTALL_INCLUDEDIR}/libgemma-${PROJECT_VERSION_MAJOR})

add_library(gemma SHARED ${gm_objects})
set_target_properties(gemma PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
target_include_directories(gemma PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                        $<INSTALL_INTERFACE:${gemma_include}>)
target_link_libraries(gemma PRIVATE Threads::Threads m ${CMAKE_DL_LIBS})
if(UNIX AND NOT APPLE)
  target_link_options(gemma PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/gemma.map -Wl,-z,defs)
  set_target_properties(gemma PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/gemma.map)
endif()

add_library(gemma_static STATIC ${gm_objects})
set_target_properties(gemma_static PROPERTIES OUTPUT_NAME gemma)
target_include_directories(gemma_static PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                               $<INSTALL_INTERFACE:${gemma_include}>)
target_compile_definitions(gemma_static INTERFACE GEMMA_STATIC)
target_link_libraries(gemma_static PUBLIC Threads::Threads m ${CMAKE_DL_LIBS})

install(TARGETS gemma gemma_static EXPORT gemma
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${gemma_include} FILES_MATCHING PATTERN "*.h")

# Both packages find the prefix from where they lie, so that an installed tree can be moved.
set(gemma_packaging ${PROJECT_SOURCE_DIR}/bindings)
set(gemma_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gemma)
file(RELATIVE_PATH gemma_prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
set(gemma_private_libs "-lm -ldl -lpthread")
if(WIN32)
  set(gemma_private_libs "")
endif()
configure_file(${gemma_packaging}/pkg-config/gemma.pc.in gemma.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gemma.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
configure_package_config_file(${gemma_packaging}/cmake/gemmaConfig.cmake.in gemmaConfig.cmake
                              INSTALL_DESTINATION ${gemma_cmake_dir})
write_basic_package_version_file(gemmaConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gemmaConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/gemmaConfigVersion.cmake
        DESTINATION ${gemma_cmake_dir})
install(EXPORT gemma NAMESPACE gemma:: FILE gemmaTargets.cmake DESTINATION ${gemma_cmake_dir})
