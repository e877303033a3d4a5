#include "benchmarks/harness/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "benchmarks/harness/measure.h"

namespace based {
namespace {

/// A time in seconds with four digits and a unit that suits it.
std::string time_text(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.2f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.3f} s", seconds);
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<long>(seconds);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

progress::progress(std::size_t rows)
    : rows_(rows), start_s_(steady_seconds()), terminal_(isatty(STDERR_FILENO) == 1) {}

void progress::start_row(const std::string& name) {
  ++started_;
  if (!terminal_) return;
  const double elapsed = steady_seconds() - start_s_;
  const auto done = static_cast<double>(started_ - 1);
  const std::string left =
      done == 0
          ? ""
          : ", about " + clock_text(elapsed / done * (static_cast<double>(rows_) - done)) + " left";
  std::fputs(fmt::format("\r\033[Krow {} of {}, {} elapsed{}: {}", started_, rows_,
                         clock_text(elapsed), left, name)
                 .c_str(),
             stderr);
}

void progress::clear() const {
  if (terminal_) std::fputs("\r\033[K", stderr);
}

bool table_reporter::ReportContext(const Context& context) {
  name_width_ = context.name_field_width;
  std::ostream& out = GetOutputStream();
  for (const auto* key : {"cpu_name", "gpu_name", "gpu_absent", "l2_policy"}) {
    const auto found = context_.find(key);
    if (found != context_.end()) out << fmt::format("{}: {}\n", key, found->second);
  }
  out << fmt::format("{:<{}} {:>12} {:>12} {:>8} {:>8} {:>6} {:>9} {:>8}  {}\n", "row", name_width_,
                     "time (cold)", "hot", "TFLOPs", "GB/s", "roof%", "MiB", "rel_err", "note");
  return true;
}

void table_reporter::ReportRuns(const std::vector<Run>& runs) {
  progress_.clear();
  std::ostream& out = GetOutputStream();
  for (const Run& run : runs) {
    const std::string name = run.benchmark_name();
    if (const std::string* message = end_message(run)) {
      out << fmt::format("{:<{}} {}\n", name, name_width_, *message);
      continue;
    }
    const auto number = [&](const char* key, const char* format) {
      const auto found = run.counters.find(key);
      return found == run.counters.end() ? std::string("-")
                                         : fmt::format(fmt::runtime(format), found->second.value);
    };
    const auto hot = run.counters.find("hot_us");
    std::string note = run.report_label;
    if (const auto burst = run.counters.find("burst_us");
        burst != run.counters.end() && run.aggregate_unit != benchmark::kPercentage) {
      note += fmt::format(" (burst {})", time_text(burst->second.value / 1e6));
    }
    if (run.counters.count("near_timer_floor") > 0) note += " (near the timer's floor)";
    const bool repetition = run.run_type == Run::RT_Iteration;
    const row_record* record =
        repetition ? log_.find(row_name_of(run.run_name.str()), run.repetition_index) : nullptr;
    if (record != nullptr && !record->noise.empty()) {
      note += fmt::format(" (noise: {})", record->noise);
    }
    const bool percentage = run.aggregate_unit == benchmark::kPercentage;
    const double unit = benchmark::GetTimeUnitMultiplier(run.time_unit);
    out << fmt::format(
        "{:<{}} {:>12} {:>12} {:>8} {:>8} {:>6} {:>9} {:>8}  {}\n", name, name_width_,
        percentage ? fmt::format("{:.2f} %", run.real_accumulated_time * 100)
                   : time_text(run.GetAdjustedRealTime() / unit),
        hot == run.counters.end() || percentage ? "-" : time_text(hot->second.value / 1e6),
        number("TFLOPs", "{:.3f}"), number("GBps", "{:.1f}"), number("roofline_pct", "{:.1f}"),
        number("mem_MiB", "{:.1f}"), number("rel_err", "{:.1e}"), note);
  }
  out.flush();
}

}  // namespace based
