// The suite's own command line, beside Google Benchmark's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "benchmarks/harness/google_flags.h"
#include "benchmarks/harness/measure.h"

namespace based {

/// Which of the parts that a sweep is split into; the first is 1.
struct shard {
  int index = 1, count = 1;
};

struct suite_options {
  std::vector<device_kind> devices;  ///< empty: cuda where there is a GPU, else cpu
  std::optional<int> cuda_device;    ///< which GPU, as CUDA numbers them; none: the current one
  /// Values of axes as the user typed them, by flag; an axis without has its default sweep.
  std::map<std::string, std::string, std::less<>> axes;
  std::vector<std::string> implementations;  ///< empty: all
  std::vector<std::string> variants;         ///< forced variants; empty: dispatched
  std::vector<std::string> types;            ///< element types; empty: each one's usual one
  shard part;                                ///< of the rows
  std::uint64_t seed = 1;
  double time_cap_s = 10;
  burst_mode burst = burst_mode::automatic;
  bool energy = false;
  bool profile = false;
  std::optional<std::filesystem::path> resume;  ///< a results file
  std::optional<std::filesystem::path> out;     ///< the results file, in JSON
  google_flags google;
};

/// Throws usage_error naming the flag, its value and what is allowed. For --help it prints the help
/// of both, for --describe the operations, and returns nothing.
std::optional<suite_options> parse_command_line(int argc, char** argv);

}  // namespace based
