// The results file: Google Benchmark's JSON, one line a row, complete and valid at every moment,
// with the fields that its counters cannot carry.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "benchmarks/harness/row.h"

namespace based {

inline constexpr std::string_view results_schema = "based-bench/1";

enum class row_status { ok, skipped, out_of_memory, error };
std::string_view to_string(row_status status);

/// What became of one pass over a row, beside its Google Benchmark counters.
struct row_record {
  row_status status = row_status::ok;
  std::string reason;                 ///< of anything but ok
  std::vector<double> samples;        ///< cold, in seconds
  std::vector<double> burst_samples;  ///< likewise; empty where no burst was taken
  bool rotated = false;
  std::size_t needs_bytes = 0;  ///< of a row out of memory
  std::string throttle_reasons;
};

/// The records of this process, by row name; a row has one per repetition.
class row_log {
 public:
  void add(const row_spec& spec, row_record record);
  /// The row's fields for repetition `index` (an aggregate passes -1: the row's identity alone).
  nlohmann::ordered_json fields(const std::string& row_name, std::int64_t index) const;
  const row_record* last(const std::string& row_name) const;
  bool any_error() const { return any_error_; }

 private:
  struct entry {
    nlohmann::ordered_json identity;
    std::vector<row_record> records;
  };
  std::map<std::string, entry> entries_;
  bool any_error_ = false;
};

/// Rows kept from an earlier, interrupted run.
struct earlier_results {
  std::set<std::string> rows;      ///< names of the rows that need no measuring
  std::vector<std::string> lines;  ///< their JSON, one object each
};

/// Reads a results file for --resume by a run of the rows `selected`. Of these, rows that ended in
/// an error are left out, to be measured again. Throws usage_error where the file is missing,
/// truncated, foreign, or of another device, seed or revision than `context`.
earlier_results read_earlier(const std::filesystem::path& path,
                             const std::map<std::string, std::string>& context,
                             const std::set<std::string>& selected);

/// Writes the results file anew, under a temporary name then renamed, after every row.
class results_reporter : public benchmark::BenchmarkReporter {
 public:
  /// Throws usage_error if nothing can be written at `path`.
  results_reporter(std::filesystem::path path, const row_log& log, earlier_results earlier);
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;

 private:
  void write() const;

  std::filesystem::path path_;
  const row_log& log_;
  nlohmann::ordered_json context_;
  std::vector<std::string> lines_;
};

}  // namespace based
