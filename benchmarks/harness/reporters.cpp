#include "benchmarks/harness/reporters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>

#include "benchmarks/harness/console.h"

namespace based {
namespace {

/// Every counter that a row can have, in the order of the columns.
constexpr const char* counters[] = {
    "TFLOPs",           "exec_TFLOPs",   "GBps",           "roofline_pct",
    "tokens_per_s",     "mem_MiB",       "workspace_MiB",  "state_KiB",
    "rel_err",          "tolerance",     "samples",        "cv_pct",
    "ci_low_us",        "ci_high_us",    "hot_us",         "burst_us",
    "near_timer_floor", "nominal_GFLOP", "executed_GFLOP", "compulsory_MB",
    "sm_MHz",           "power_W",       "temp_C",         "mJ",
    "energy_us",        "tokens_per_J",  "pJ_per_FLOP"};

std::string quoted(const std::string& text) {
  std::string doubled = "\"";
  for (const char each : text) {
    if (each == '"') doubled += '"';
    doubled += each;
  }
  return doubled + '"';
}

}  // namespace

bool csv_reporter::ReportContext(const Context&) {
  GetOutputStream() << "name,iterations,real_time,cpu_time,time_unit,bytes_per_second,"
                    << "items_per_second,label,error_occurred,error_message";
  for (const char* counter : counters) GetOutputStream() << fmt::format(",\"{}\"", counter);
  GetOutputStream() << std::endl;
  return true;
}

void csv_reporter::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    const std::string* message = end_message(run);
    const bool percentage = run.aggregate_unit == benchmark::kPercentage;
    std::string line = quoted(run.benchmark_name());
    if (message != nullptr) {
      line += fmt::format(",,,,,,,,true,{}", quoted(*message));
    } else {
      const bool aggregate = run.run_type == Run::RT_Aggregate;
      line += fmt::format(",{},{},{},{},,,{},,", aggregate ? "" : std::to_string(run.iterations),
                          percentage ? run.real_accumulated_time : run.GetAdjustedRealTime(),
                          percentage ? run.cpu_accumulated_time : run.GetAdjustedCPUTime(),
                          percentage ? "" : benchmark::GetTimeUnitString(run.time_unit),
                          quoted(run.report_label));
    }
    for (const char* counter : counters) {
      const auto found = run.counters.find(counter);
      line += ',';
      if (found != run.counters.end()) line += fmt::format("{}", found->second.value);
    }
    for (const auto& [name, counter] : run.counters) {
      if (std::ranges::find(counters, name) == std::end(counters)) {
        throw std::logic_error(fmt::format("counter {} has no column in CSV", name));
      }
    }
    GetOutputStream() << line << std::endl;
  }
}

bool json_reporter::ReportContext(const Context& context) {
  GetOutputStream() << json_document::opening(context);
  return true;
}

void json_reporter::ReportRuns(const std::vector<Run>& runs) {
  for (const std::string& line : document_.lines(runs)) {
    GetOutputStream() << (std::exchange(any_row_, true) ? ",\n" : "") << line << std::flush;
  }
}

void json_reporter::Finalize() {
  GetOutputStream() << json_document::closing << std::flush;
}

void aggregates_reporter::ReportRuns(const std::vector<Run>& runs) {
  // Google Benchmark aggregates the repetitions of a row where at least two of them have a time.
  const auto timed =
      std::ranges::count_if(runs, [](const Run& run) { return end_message(run) == nullptr; });
  const bool repetitions = !runs.empty() && runs.front().run_type == Run::RT_Iteration;
  if (!repetitions || timed < 2) shown_->ReportRuns(runs);
}

file_reporter::file_reporter(output_file& file, std::unique_ptr<BenchmarkReporter> printing)
    : file_(file), printing_(std::move(printing)) {
  printing_->SetOutputStream(&text_);
}

bool file_reporter::ReportContext(const Context& context) {
  const bool go_on = printing_->ReportContext(context);
  file_.write(text_.str());
  return go_on;
}

void file_reporter::ReportRuns(const std::vector<Run>& runs) {
  printing_->ReportRuns(runs);
  file_.write(text_.str());
}

void file_reporter::Finalize() {
  printing_->Finalize();
  file_.write(text_.str());
  file_.finish();
}

}  // namespace based
