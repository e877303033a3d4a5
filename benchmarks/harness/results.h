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

#include "benchmarks/harness/output_file.h"
#include "benchmarks/harness/row.h"

namespace based {

inline constexpr std::string_view results_schema = "based-bench/1";

enum class row_status { ok, profiled, skipped, out_of_memory, error };
std::string_view to_string(row_status status);
/// Whether the row was called: measured, or once for a profiler.
constexpr bool ran(row_status status) {
  return status == row_status::ok || status == row_status::profiled;
}

/// What became of one pass over a row, beside its Google Benchmark counters.
struct row_record {
  row_status status = row_status::ok;
  std::string reason;                 ///< of anything but ok
  std::vector<double> samples;        ///< cold, in seconds
  std::vector<double> burst_samples;  ///< likewise; empty where no burst was taken
  bool rotated = false;
  double needs_bytes = 0;  ///< of a row out of memory
  std::string throttle_reasons;
  std::string noise;          ///< what else ran while it was sampled
  std::string queued;         ///< as bound_call has it
  std::string energy_absent;  ///< why there is no energy, where it was asked for
};

/// The row's name in what Google Benchmark calls its run.
std::string row_name_of(const std::string& run_name);

/// The records of this process, by row name; a row has one per repetition.
class row_log {
 public:
  void add(const row_spec& spec, row_record record);
  /// The row's fields for repetition `index` (an aggregate passes -1: the row's identity alone).
  nlohmann::ordered_json fields(const std::string& row_name, std::int64_t index) const;
  const row_record* last(const std::string& row_name) const;
  /// The record of repetition `index`; null if the row has no such repetition.
  const row_record* find(const std::string& row_name, std::int64_t index) const;
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
/// an error or were only profiled are left out, to be measured again. Throws usage_error where the
/// file is missing, truncated, foreign, holds a row that is malformed or is there twice, of an
/// unknown revision, or differs from `context` in what makes two rows comparable: device, threads,
/// cache policy, build, seed, revision.
earlier_results read_earlier(const std::filesystem::path& path,
                             const std::map<std::string, std::string>& context,
                             const std::set<std::string>& selected);

/// The results in JSON: an object of the context and the rows, one line a row.
class json_document {
 public:
  explicit json_document(const row_log& log) : log_(log) {}
  /// The text up to the first row.
  static std::string opening(const benchmark::BenchmarkReporter::Context& context);
  /// What follows the last row.
  static constexpr std::string_view closing = "\n]\n}\n";
  /// A line for each of these runs.
  std::vector<std::string> lines(const std::vector<benchmark::BenchmarkReporter::Run>& runs) const;

 private:
  const row_log& log_;
};

/// Writes the results file anew after every row.
class results_reporter : public benchmark::BenchmarkReporter {
 public:
  results_reporter(output_file& file, const row_log& log, earlier_results earlier)
      : file_(file), document_(log), lines_(std::move(earlier.lines)) {}
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override { file_.finish(); }

 private:
  void write() const;

  output_file& file_;
  json_document document_;
  std::string opening_;
  std::vector<std::string> lines_;
};

/// `text` with each byte that is no UTF-8 as \xNN, as JSON can hold it.
std::string utf8_text(const std::string& text);

}  // namespace based
