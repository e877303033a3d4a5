// The suite's own command line, beside Google Benchmark's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "benchmarks/harness/measure.h"

namespace based {

struct suite_options {
  std::vector<device_kind> devices;  ///< empty: cuda where there is a GPU, else cpu
  /// Values of axes as the user typed them, by flag; an axis without has its default sweep.
  std::map<std::string, std::string, std::less<>> axes;
  std::vector<std::string> implementations;  ///< empty: all
  std::vector<std::string> variants;         ///< forced variants; empty: dispatched
  std::vector<std::string> types;            ///< element types; empty: each one's usual one
  std::uint64_t seed = 1;
  double time_cap_s = 10;
  double min_time_s = 0;  ///< from --benchmark_min_time
  burst_mode burst = burst_mode::automatic;
  bool profile = false;
  std::optional<std::filesystem::path> resume;  ///< a results file
  std::optional<std::filesystem::path> out;     ///< --benchmark_out, in JSON
  bool console = true;                          ///< --benchmark_format is console
  bool list_only = false;                       ///< --benchmark_list_tests
};

/// What is left for Google Benchmark after the suite's flags are taken out of argv.
struct parsed_command_line {
  suite_options options;
  std::vector<std::string> google_benchmark;  ///< argv[0] first
};

/// Throws usage_error naming the flag, its value and what is allowed. For --help it prints the help
/// of both, for --describe the operations, and returns nothing.
std::optional<parsed_command_line> parse_command_line(int argc, char** argv);

}  // namespace based
