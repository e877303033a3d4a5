# Libraries come from the system. Google Benchmark alone may be fetched where a system lacks it: set
# BASED_BENCHMARK_REPOSITORY to a git repository of it.
set(BASED_BENCHMARK_TAG v1.7.1)
set(BASED_BENCHMARK_REPOSITORY "" CACHE STRING
    "Git repository of Google Benchmark, fetched at ${BASED_BENCHMARK_TAG} where no package is installed")

function(based_require package debian_name)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${package} was not found: install ${debian_name}, or run scripts/bench, which "
                        "installs all that is missing")
  endif()
endfunction()

if(BASED_BENCHMARKS)
  find_package(benchmark QUIET)
  if(NOT benchmark_FOUND)
    if(NOT BASED_BENCHMARK_REPOSITORY)
      message(FATAL_ERROR "Google Benchmark was not found: install libbenchmark-dev, or set "
                          "BASED_BENCHMARK_REPOSITORY to a git repository of it (${BASED_BENCHMARK_TAG} "
                          "is fetched)")
    endif()
    include(FetchContent)
    set(BENCHMARK_ENABLE_TESTING OFF)
    set(BENCHMARK_ENABLE_WERROR OFF)
    FetchContent_Declare(benchmark GIT_REPOSITORY ${BASED_BENCHMARK_REPOSITORY}
                         GIT_TAG ${BASED_BENCHMARK_TAG} GIT_SHALLOW TRUE SYSTEM)
    FetchContent_MakeAvailable(benchmark)
    string(SUBSTRING ${BASED_BENCHMARK_TAG} 1 -1 benchmark_VERSION)
  endif()
  based_require(CLI11 libcli11-dev)
endif()

based_require(fmt libfmt-dev)
based_require(nlohmann_json nlohmann-json3-dev)  # header-only
if(BASED_PYTHON)  # a wheel brings no library of the system's
  set_property(TARGET fmt::fmt PROPERTY INTERFACE_COMPILE_DEFINITIONS FMT_HEADER_ONLY=1)
endif()
based_require(OpenMP "a compiler with OpenMP (g++ has it)" COMPONENTS CXX)
find_package(Threads REQUIRED)
if(BASED_TESTS)
  based_require(GTest "libgtest-dev and libgmock-dev")
  include(GoogleTest)
endif()
