if(GEMMA_FUZZ AND NOT CMAKE_C_COMPILER_ID MATCHES Clang)
  message(FATAL_ERROR "GEMMA_FUZZ needs clang: CC=clang cmake …")
endif()

# gm_fuzz(name module...): the target fuzz/fuzz_<name>.c. Always: a program that replays fuzz/corpus/<name>/, run by
# ctest as fuzz.<name>. With GEMMA_FUZZ (clang): the fuzzer bin/fuzz_<name> too, its modules compiled again with
# coverage and sanitizers.
function(gm_fuzz name)
  set(objects "")
  set(sources "")
  foreach(module IN LISTS ARGN)
    if(NOT TARGET gm_${module} OR NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/fuzz_${name}.c)
      message(STATUS "fuzz ${name}: module ${module} or the target is not there yet")
      return()
    endif()
    list(APPEND objects $<TARGET_OBJECTS:gm_${module}>)
    get_target_property(module_sources gm_${module} SOURCES)
    list(APPEND sources ${module_sources})
  endforeach()

  add_executable(replay_${name} fuzz/replay.c fuzz/fuzz_${name}.c ${objects})
  set_target_properties(replay_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set(programs replay_${name})
  add_test(NAME fuzz.${name} COMMAND replay_${name} fuzz/corpus/${name} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 600)

  if(GEMMA_FUZZ)
    set(flags -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -g)
    add_executable(fuzz_${name} fuzz/fuzz_${name}.c ${sources})
    target_compile_options(fuzz_${name} PRIVATE ${flags})
    target_link_options(fuzz_${name} PRIVATE ${flags})
    list(APPEND programs fuzz_${name})
  endif()

  foreach(program IN LISTS programs)
    target_include_directories(${program} PRIVATE ${PROJECT_SOURCE_DIR}/lib ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(${program} PRIVATE Threads::Threads m ${CMAKE_DL_LIBS})
  endforeach()
endfunction()

# One line per target: the modules it is linked to, lowest first.
gm_fuzz(gguf base quant gguf)
gm_fuzz(tokenizer base tokenizer)
gm_fuzz(chat base tokenizer chat)
gm_fuzz(chat_parser base tokenizer chat)
foreach(target IN ITEMS fuzz_chat fuzz_chat_parser) # jsmn
  if(TARGET ${target})
    target_include_directories(${target} SYSTEM PRIVATE $<TARGET_PROPERTY:gm_chat,INCLUDE_DIRECTORIES>)
  endif()
endforeach()
gm_fuzz(session base quant gguf op backend backend_dummy kv sampler tokenizer session support)
foreach(target IN ITEMS replay_session fuzz_session) # the engine of the unit tests
  if(TARGET ${target})
    target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(${target} PRIVATE PkgConfig::cmocka)
  endif()
endforeach()
