// Google Benchmark's reporters for what it does not report whole: CSV whose columns do not depend
// on the first row, JSON without NaN, aggregates alone, and any of them into a file.
#pragma once

#include <benchmark/benchmark.h>

#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "benchmarks/harness/results.h"

namespace based {

/// A line a run: Google Benchmark's ten columns, then a column for each counter that a row can
/// have.
class csv_reporter final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
};

/// The document of a results file, as the rows come.
class json_reporter final : public benchmark::BenchmarkReporter {
 public:
  explicit json_reporter(const row_log& log) : document_(log) {}
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override;

 private:
  json_document document_;
  bool any_row_ = false;
};

/// Leaves out the repetitions of a row where their aggregates follow.
class aggregates_reporter final : public benchmark::BenchmarkReporter {
 public:
  explicit aggregates_reporter(std::unique_ptr<BenchmarkReporter> shown)
      : shown_(std::move(shown)) {}
  bool ReportContext(const Context& context) override { return shown_->ReportContext(context); }
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override { shown_->Finalize(); }

 private:
  std::unique_ptr<BenchmarkReporter> shown_;
};

/// Writes what another reporter prints to a file, all of it anew after every row.
class file_reporter final : public benchmark::BenchmarkReporter {
 public:
  file_reporter(output_file& file, std::unique_ptr<BenchmarkReporter> printing);
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override;

 private:
  output_file& file_;
  std::unique_ptr<BenchmarkReporter> printing_;
  std::ostringstream text_;
};

}  // namespace based
