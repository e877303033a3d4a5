// The suite's own command line, beside Google Benchmark's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/harness/measure.h"
#include "benchmarks/harness/sweep.h"

namespace based {

/// Bad usage, as opposed to a row that fails: the process exits with 2.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct suite_options {
  std::vector<device_kind> devices;                  ///< empty: cuda where there is a GPU, else cpu
  std::vector<std::int64_t> batch, heads, seqlen;    ///< empty: the device's default sweep
  std::vector<std::string> implementations;          ///< empty: all
  std::vector<std::string> options = {"none"};       ///< e.g. "normalize+final_state", "all"
  std::vector<std::string> variants = {""};          ///< forced variants; "": dispatched
  std::vector<std::int64_t> head_dim = {64};         ///< of softmax attention
  std::vector<bool> causal = {true};                 ///< of softmax attention
  std::vector<std::int64_t> window = {64, 128};      ///< of the sliding window
  std::vector<bool> append = {true};                 ///< the sliding window appends its token
  std::vector<std::string> state = {"bf16", "f32"};  ///< element types of the decode state
  std::uint64_t seed = 1;
  double time_cap_s = 10;
  double min_time_s = 0;  ///< from --benchmark_min_time
  burst_mode burst = burst_mode::automatic;
  bool profile = false;
  std::optional<std::filesystem::path> resume;  ///< a results file
  std::optional<std::filesystem::path> out;     ///< --benchmark_out, in JSON
  bool console = true;                          ///< --benchmark_format is console
  bool list_only = false;                       ///< --benchmark_list_tests

  /// The sweep of a device: what the command line names, the default for the rest.
  sweep sweep_of(device_kind device, phase of) const;
};

/// What is left for Google Benchmark after the suite's flags are taken out of argv.
struct parsed_command_line {
  suite_options options;
  std::vector<std::string> google_benchmark;  ///< argv[0] first
};

/// Throws usage_error naming the flag, its value and what is allowed. Prints the help of both and
/// returns nothing for --help.
std::optional<parsed_command_line> parse_command_line(int argc, char** argv);

}  // namespace based
