#include "benchmarks/harness/noise.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "benchmarks/harness/measure.h"
#include "benchmarks/harness/statistics.h"

namespace based {
namespace {

namespace fs = std::filesystem;

constexpr double switches_per_s = 20;
constexpr long fewest_switches = 5;  // below that a rate says nothing
constexpr double waiting_share = 0.02;
constexpr double stolen_share = 0.01;
constexpr double clock_spread = 0.1;
constexpr std::size_t fewest_clocks = 5;

void add(std::string& text, const std::string& what) {
  text += (text.empty() ? "" : ", ") + what;
}

}  // namespace

host_counters read_host_counters(const fs::path& root) {
  host_counters found = {.wall_s = steady_seconds()};
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) found.involuntary_switches = usage.ru_nivcsw;

  std::error_code none;
  for (const auto& task : fs::directory_iterator(root / "proc/self/task", none)) {
    double ran_ns = 0, waited_ns = 0;
    if (std::ifstream(task.path() / "schedstat") >> ran_ns >> waited_ns) {
      found.waited_s = found.waited_s.value_or(0) + waited_ns * 1e-9;
    }
  }

  // "cpu  user nice system idle iowait irq softirq steal guest guest_nice", in ticks; a guest's are
  // in user's already.
  constexpr int fields = 8, steal = 7;
  std::ifstream stat(root / "proc/stat");
  std::string name;
  stat >> name;
  const auto ticks_per_s = static_cast<double>(sysconf(_SC_CLK_TCK));
  double ticks = 0;
  for (int field = 0; field < fields && stat >> ticks; ++field) {
    found.machine_s += ticks / ticks_per_s;
    if (field == steal) found.stolen_s = ticks / ticks_per_s;
  }
  return found;
}

std::string host_noise(const host_counters& before, const host_counters& after, int threads) {
  std::string noise;
  const double thread_s = (after.wall_s - before.wall_s) * threads;
  const long switches = after.involuntary_switches - before.involuntary_switches;
  if (thread_s > 0 && switches >= fewest_switches && switches / thread_s > switches_per_s) {
    add(noise, fmt::format("{:.0f} involuntary switches a second and thread", switches / thread_s));
  }
  if (thread_s > 0 && before.waited_s && after.waited_s) {
    const double share = (*after.waited_s - *before.waited_s) / thread_s;
    if (share > waiting_share) add(noise, fmt::format("{:.0f} % waiting for a core", share * 100));
  }
  const double machine_s = after.machine_s - before.machine_s;
  const double stolen_s = after.stolen_s - before.stolen_s;
  if (machine_s > 0 && stolen_s / machine_s > stolen_share) {
    add(noise, fmt::format("{:.0f} % of the machine stolen", stolen_s / machine_s * 100));
  }
  return noise;
}

std::string gpu_noise(const std::vector<double>& clock_mhz, int other_processes) {
  std::string noise;
  if (other_processes > 0) {
    add(noise, fmt::format("{} other process{} on the GPU", other_processes,
                           other_processes == 1 ? "" : "es"));
  }
  if (clock_mhz.size() >= fewest_clocks) {
    std::vector<double> sorted = clock_mhz;
    std::ranges::sort(sorted);
    const std::size_t tail = sorted.size() / 20;
    const double low = sorted[tail], high = sorted[sorted.size() - 1 - tail];
    if (high - low > clock_spread * median(sorted)) {
      add(noise, fmt::format("clock from {:.0f} to {:.0f} MHz", low, high));
    }
  }
  return noise;
}

}  // namespace based
