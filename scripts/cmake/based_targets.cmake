# The two functions by which the tree grows.

# All registered implementations, as objects: a static library would drop their registrations.
add_library(based_implementations INTERFACE)
target_link_libraries(based_implementations INTERFACE based_operations OpenMP::OpenMP_CXX)
if(BASED_HAS_CUDA)
  target_link_libraries(based_implementations INTERFACE CUDA::cudart_static)
endif()

# based_add_implementation(name [CPU source...] [CUDA source...] [ARCHITECTURES arch...])
#
# Adds one implementation folder: its CPU sources everywhere, its CUDA sources where there is nvcc,
# built for ARCHITECTURES (80 and 90 unless said otherwise). Sources are relative to the caller.
function(based_add_implementation name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "CPU;CUDA;ARCHITECTURES")
  if(arg_UNPARSED_ARGUMENTS OR NOT (arg_CPU OR arg_CUDA))
    message(FATAL_ERROR "based_add_implementation(${name}): want CPU or CUDA sources, got '${ARGN}'")
  endif()
  if(arg_CPU)
    add_library(${name}_cpu OBJECT ${arg_CPU})
    target_link_libraries(${name}_cpu PRIVATE based_operations OpenMP::OpenMP_CXX)
    target_sources(based_implementations INTERFACE $<TARGET_OBJECTS:${name}_cpu>)
  endif()
  if(arg_CUDA AND BASED_HAS_CUDA)
    add_library(${name}_cuda OBJECT ${arg_CUDA})
    target_link_libraries(${name}_cuda PRIVATE based_operations CUDA::cudart_static)
    if(arg_ARCHITECTURES)
      set_target_properties(${name}_cuda PROPERTIES CUDA_ARCHITECTURES "${arg_ARCHITECTURES}")
    endif()
    target_sources(based_implementations INTERFACE $<TARGET_OBJECTS:${name}_cuda>)
  endif()
endfunction()

# based_add_test(name source... [LIBRARIES library...] [LABELS label...])
#
# One GoogleTest executable; its tests appear in ctest one by one.
function(based_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LIBRARIES;LABELS")
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE based_operations ${arg_LIBRARIES} GTest::gmock GTest::gtest_main)
  # Tests run at the same time: threads that wait must not spin where others could work.
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS "${arg_LABELS}" ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()
