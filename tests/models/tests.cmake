# Synthetic models of full size: the program that writes them, by hand or for a test, and its own test.
add_library(gm_synth OBJECT models/synth_plan.c models/synth_header.c models/synth_blocks.c)
target_include_directories(gm_synth PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
                           ${PROJECT_SOURCE_DIR}/lib)
add_executable(synth-model models/synth.c $<TARGET_OBJECTS:gm_synth> $<TARGET_OBJECTS:gm_gguf_writer>
               $<TARGET_OBJECTS:gm_gguf> $<TARGET_OBJECTS:gm_quant> $<TARGET_OBJECTS:gm_base>)
target_include_directories(synth-model PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
                           ${PROJECT_SOURCE_DIR}/lib)
target_link_libraries(synth-model PRIVATE Threads::Threads m ${CMAKE_DL_LIBS})
gm_test(models/sizes base quant gguf op model support gguf_writer synth)
