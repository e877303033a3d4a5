// based_bench: every operation and implementation that is linked, one binary.
#include "benchmarks/harness/suite.h"

int main(int argc, char** argv) {
  return based::run_suite(argc, argv);
}
