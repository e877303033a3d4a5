# Writes harness/revision.h from git's state at build time; untouched where nothing changed.
execute_process(COMMAND git describe --always --dirty --abbrev=12 --exclude=*
                WORKING_DIRECTORY ${SOURCE_DIR} OUTPUT_VARIABLE BASED_REVISION
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT BASED_REVISION)
  set(BASED_REVISION unknown)
endif()
configure_file(${SOURCE_DIR}/benchmarks/harness/revision.h.in ${OUTPUT} @ONLY)
