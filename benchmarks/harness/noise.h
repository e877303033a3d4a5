// Whether something else ran while a row was sampled. A narrow interval does not show it: where
// every call waits for the same neighbour, the samples agree.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace based {

/// What Linux has counted so far: of this process, and stolen_s and machine_s of all cores.
struct host_counters {
  double wall_s = 0;
  long involuntary_switches = 0;
  /// All threads, ready to run and not running; none where the kernel does not count it.
  std::optional<double> waited_s;
  double stolen_s = 0, machine_s = 0;  ///< by the hypervisor; of all that was counted
};

/// `root`: where proc is.
host_counters read_host_counters(const std::filesystem::path& root = "/");

/// What was noticed between two readings of a process with so many busy threads; empty: nothing.
/// Marked are: over 20 involuntary switches a second and thread, for a slice of a neighbour's is
/// some 3 ms, and so they are 6 % of a core; over 2 % of the time ready and not running; over 1 %
/// of the machine stolen.
std::string host_noise(const host_counters& before, const host_counters& after, int threads);

/// What was noticed of a GPU, from the clock's readings in MHz and the number of other processes
/// that had it open; empty: nothing. Marked are: any other process; a clock of which the middle
/// nine tenths of the readings spread over more than 10 % of their median.
std::string gpu_noise(const std::vector<double>& clock_mhz, int other_processes);

}  // namespace based
