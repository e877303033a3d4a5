# The compilers: is CUDA there, which flags does everything share.
include(CheckLanguage)

if(BASED_CUDA STREQUAL "OFF")
  set(BASED_HAS_CUDA FALSE)
else()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(BASED_HAS_CUDA TRUE)
  elseif(BASED_CUDA STREQUAL "AUTO")
    set(BASED_HAS_CUDA FALSE)
    message(STATUS "No nvcc found: building the CPU implementations only")
  else()
    message(FATAL_ERROR "BASED_CUDA is ${BASED_CUDA}, but no nvcc was found: put it on PATH or set "
                        "CMAKE_CUDA_COMPILER")
  endif()
endif()

if(BASED_HAS_CUDA)
  # Each implementation names its own architectures; this is the default of the harness's kernels.
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 knows nvcc's flags up to C++17
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)  # the binary starts where no CUDA is installed
endif()

# Everything of ours links this: include root, warnings, the CPU's instruction set.
add_library(based_options INTERFACE)
target_include_directories(based_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(based_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wno-missing-field-initializers -march=${BASED_CPU_ARCH}>
  $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo --expt-relaxed-constexpr -Xcompiler=-Wall>)
if(BASED_WERROR)
  target_compile_options(based_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror>
    $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()
if(BASED_SANITIZE)
  target_compile_options(based_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined -fno-omit-frame-pointer>)
  target_link_options(based_options INTERFACE -fsanitize=address,undefined)
endif()
