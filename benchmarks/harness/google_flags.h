// Google Benchmark's command line (of 1.7, and what 1.8 and 1.9 added), as the suite understands
// it: each flag works, or is refused by name with its counterpart.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace based {

enum class output_format { console, json, csv };

struct google_flags {
  bool list_only = false;  ///< --benchmark_list_tests
  std::string filter;      ///< empty: all rows
  double min_time_s = 0;   ///< the least sum of a row's cold samples
  int repetitions = 1;
  bool interleave = false;       ///< --benchmark_enable_random_interleaving
  bool aggregates_only = false;  ///< on standard output; a file keeps every repetition
  output_format format = output_format::console;
  std::optional<std::string> out;
  output_format out_format = output_format::json;
  std::map<std::string, std::string> context;
  int verbosity = 0;
};

/// Reads the flags that the environment sets (BENCHMARK_OUT for --benchmark_out), then `arguments`.
/// Throws usage_error naming the flag for a bad value, for a flag that is refused unless it has its
/// default value, and for an argument that is no flag of Google Benchmark's.
google_flags parse_google_flags(const std::vector<std::string>& arguments);

/// The flags that work, a line each.
std::string google_flags_help();

/// The command line for benchmark::Initialize. It sets every flag that works, so that none of them
/// is taken from the environment, and leaves filter, formats, files and aggregates to the suite.
std::vector<std::string> google_command_line(const std::string& program, const google_flags& flags);

}  // namespace based
