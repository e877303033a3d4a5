// The whole program but for its studies: command line, devices, rows, Google Benchmark, exit
// status.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/harness/row.h"
#include "benchmarks/harness/suite_options.h"

namespace based {

/// A study: makes its rows for one device from what the command line asks for.
using study = std::function<std::vector<std::unique_ptr<row>>(device_kind, const suite_options&)>;

/// Exit status: 0 all rows fine, or skipped for a stated reason; 1 a row failed its verification or
/// ended in an error; 2 bad usage.
int run_suite(int argc, char** argv, std::span<const study> studies);

/// If `implementations` is empty or holds `name`.
bool selected(std::string_view name, const std::vector<std::string>& implementations);

}  // namespace based
