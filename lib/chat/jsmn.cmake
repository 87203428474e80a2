# jsmn, the JSON tokenizer: one header, copied out of the system's include folder so that a cross compiler sees it too.
find_file(JSMN_HEADER jsmn.h PATHS /usr/include /usr/local/include PATH_SUFFIXES include NO_CMAKE_FIND_ROOT_PATH
          DOC "jsmn.h (Debian: libjsmn-dev)")
if(NOT JSMN_HEADER)
  message(FATAL_ERROR "jsmn.h was not found: install libjsmn-dev, or give -DJSMN_HEADER=/path/to/jsmn.h")
endif()
configure_file(${JSMN_HEADER} ${CMAKE_CURRENT_BINARY_DIR}/jsmn/jsmn.h COPYONLY)
target_include_directories(gm_chat SYSTEM PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/jsmn)
