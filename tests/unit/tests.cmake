# What tests of all folders may name as a module: the failing allocator.
add_library(gm_support OBJECT support/fault.c)
target_include_directories(gm_support PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
# GGUF files built in memory: needs base and quant.
add_library(gm_gguf_writer OBJECT support/gguf_writer.c)
target_include_directories(gm_gguf_writer PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
                           ${PROJECT_SOURCE_DIR}/lib)
# Random models of both families, built in memory: needs gguf_writer.
add_library(gm_tiny_model OBJECT support/tiny_model.c)
target_include_directories(gm_tiny_model PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
                           ${PROJECT_SOURCE_DIR}/lib)

# One line per program: the modules it is linked to, lowest first.
foreach(name IN ITEMS bits mem text error pool source)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/unit/${name}.c)
    gm_test(unit/${name} base support)
  endif()
endforeach()
gm_test(unit/quant base quant)
gm_test(unit/gguf base quant gguf support gguf_writer)
gm_test(unit/gguf_damage base quant gguf support gguf_writer)
gm_test(unit/sampler base sampler support)
gm_test(unit/tokenizer base tokenizer)
gm_test(unit/tokenizer_rules base tokenizer support)
gm_test(unit/kv base kv support)
gm_test(unit/op base quant op support)
gm_test(unit/model base quant gguf op model support gguf_writer tiny_model)
gm_test(unit/model_files base quant gguf op model support gguf_writer tiny_model)
gm_test(unit/session base quant gguf op backend backend_dummy kv sampler tokenizer session support)
gm_test(unit/step base quant gguf op backend backend_dummy kv sampler tokenizer session support)
gm_test(unit/plan base quant gguf op backend backend_dummy kv model plan support gguf_writer tiny_model)
gm_test(unit/plan_fit base quant gguf op backend backend_dummy kv model plan support gguf_writer tiny_model)
gm_test(unit/generation base quant gguf op backend backend_dummy kv sampler tokenizer session support)
gm_test(unit/weights base quant gguf op backend backend_dummy kv model plan weights support gguf_writer tiny_model)
if(gm_vulkan_built)
  gm_test(unit/vulkan_caps base backend backend_vulkan quant op)
  gm_test(unit/vulkan_device base backend backend_vulkan quant op support)
endif()
