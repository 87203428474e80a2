# One entry per program or script that uses the whole library.
if(TARGET gemma)
  add_test(NAME e2e.install COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/e2e/install.sh ${CMAKE_BINARY_DIR})
  set_tests_properties(e2e.install PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300
                       ENVIRONMENT "CC=${CMAKE_C_COMPILER};CMAKE=${CMAKE_COMMAND};SANITIZE=${GEMMA_SANITIZE}")
endif()
gm_api_test(e2e/gemma4_tiny)
gm_api_test(e2e/real)
if(TEST e2e.real)
  set_tests_properties(e2e.real PROPERTIES LABELS plain) # minutes under sanitizers, which the tiny models serve as well
endif()
gm_api_test(e2e/chat)
if(TARGET gemma-chat)
  add_test(NAME e2e.tools COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/e2e/tools.sh $<TARGET_FILE_DIR:gemma-chat>)
  add_test(NAME e2e.bench COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/e2e/bench.sh $<TARGET_FILE_DIR:gemma-chat>)
  # plain: most of a minute of measuring, which means nothing under sanitizers
  set_tests_properties(e2e.bench PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300 LABELS plain)
  add_test(NAME e2e.names COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/e2e/names.sh $<TARGET_FILE_DIR:gemma-chat>)
  set_tests_properties(e2e.names PROPERTIES TIMEOUT 300)
  add_test(NAME e2e.hardware COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/generate/hardware_table.py
           $<TARGET_FILE_DIR:gemma-plan> --check)
  set_tests_properties(e2e.hardware PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
  if(GEMMA_VULKAN_DRIVERS)
    add_test(NAME vulkan.e2e COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/e2e/vulkan.sh $<TARGET_FILE_DIR:gemma-chat>
             ${GEMMA_VULKAN_DRIVERS})
    set_tests_properties(vulkan.e2e PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900)
  endif()
  set_tests_properties(e2e.tools PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()
