// The whole program: command line, devices, rows, Google Benchmark, exit status.
#pragma once

namespace based {

/// May be called again in one process. Exit status: 0 all rows fine, or skipped for a stated
/// reason; 1 a row failed its verification or ended in an error; 2 bad usage.
int run_suite(int argc, char** argv);

}  // namespace based
