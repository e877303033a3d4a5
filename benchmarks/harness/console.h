// What a person sees: a table on stdout, a line a row, and a progress line on stderr.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/harness/results.h"

namespace based {

/// "row 12 of 180, 0:41 elapsed, about 7:30 left"; silent where stderr is no terminal.
class progress {
 public:
  explicit progress(std::size_t rows);
  void start_row(const std::string& name);
  /// Removes the line, so that other output starts on a clean one.
  void clear() const;

 private:
  std::size_t rows_;
  std::size_t started_ = 0;
  double start_s_;
  bool terminal_;
};

/// The message of a row that ended without a time, else null; its name differs between Google
/// Benchmark 1.7 and 1.8.
template <class Run>
const std::string* end_message(const Run& run) {
  if constexpr (requires { run.error_occurred; }) {
    return run.error_occurred ? &run.error_message : nullptr;
  } else {
    return run.skipped ? &run.skip_message : nullptr;
  }
}

/// The table: time (cold), hot, TFLOPs, GB/s, roofline, memory, error, and what there is to say.
class table_reporter : public benchmark::BenchmarkReporter {
 public:
  table_reporter(const std::map<std::string, std::string>& context, const progress& shown,
                 const row_log& log)
      : context_(context), progress_(shown), log_(log) {}
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;

 private:
  const std::map<std::string, std::string>& context_;
  const progress& progress_;
  const row_log& log_;
  std::size_t name_width_ = 0;
};

/// Google Benchmark takes one reporter for the terminal; this hands everything to several.
class tee_reporter : public benchmark::BenchmarkReporter {
 public:
  explicit tee_reporter(std::vector<benchmark::BenchmarkReporter*> reporters)
      : reporters_(std::move(reporters)) {}
  bool ReportContext(const Context& context) override {
    bool go_on = true;
    for (auto* reporter : reporters_) go_on &= reporter->ReportContext(context);
    return go_on;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (auto* reporter : reporters_) reporter->ReportRuns(runs);
  }
  void Finalize() override {
    for (auto* reporter : reporters_) reporter->Finalize();
  }

 private:
  std::vector<benchmark::BenchmarkReporter*> reporters_;
};

}  // namespace based
