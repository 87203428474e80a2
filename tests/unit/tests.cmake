# One line per program: the modules it is linked to, lowest first.
foreach(name IN ITEMS bits mem text error pool source)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/unit/${name}.c)
    gm_test(unit/${name} base)
  endif()
endforeach()
gm_test(unit/quant base quant)
