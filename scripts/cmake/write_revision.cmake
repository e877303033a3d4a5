# Writes harness/revision.h from the sources' state at build time; untouched where nothing changed.
execute_process(COMMAND sh ${SOURCE_DIR}/scripts/lib/revision.sh ${SOURCE_DIR}
                OUTPUT_VARIABLE BASED_REVISION OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
configure_file(${SOURCE_DIR}/benchmarks/harness/revision.h.in ${OUTPUT} @ONLY)
