// How one row is timed: warm up, sample cold until the median is known, sample hot beside it; and
// once more in a burst where the steady state is not what the device can do for a short while.
//
// The samples are of a steady state, many calls in a row. A long kernel then runs into a GPU's
// power limit, which holds the clock down: it reads up to a seventh longer than in the few launches
// of the sources' own benchmark scripts, of which the published figures and
// plots/data/peers_h200.json (11 to 20 launches each) are made. To stand beside those, such a row
// is timed as they were too: the GPU idles, then the first burst_calls calls are timed cold, and
// their median is the burst.
#pragma once

#include <functional>
#include <vector>

#include "benchmarks/harness/backend.h"
#include "benchmarks/harness/statistics.h"

namespace based {

/// Which of the rows that can be are timed in a burst too.
enum class burst_mode {
  automatic,  ///< those of which the driver does not say that nothing held the clock down
  always,
  never
};

struct sampling_rule {
  /// Wall-clock bound of warm-up and sampling together, a burst's calls included; its rest, in
  /// which nothing is measured, comes on top.
  double cap_s = 10;
  double min_time_s = 0;  ///< sum of the cold samples to reach at least
  double half_width =
      0.005;  ///< of the median's 95 % interval, relative: stop when it is this tight
  int min_samples = 11;
  int max_samples = 2001;
  burst_mode burst = burst_mode::automatic;
};

struct timing {
  std::vector<double> samples;  ///< cold, in seconds, in the order measured
  summary cold;
  std::vector<double> hot_samples;    ///< empty where the cap left no time for them
  std::vector<double> burst_samples;  ///< cold, after a rest; empty where no burst was taken
  bool rotated = false;               ///< back-to-back rotation instead of single calls
  double floor = 0;                   ///< what timing nothing reads by the same way
  double cold_cost_s = 0;             ///< of the wall clock, a cold sample with its eviction
  double left_s = 0;                  ///< what warm-up and sampling left of the cap
};

/// What measure() needs of a row.
struct measured_call {
  backend::launch launch;
  /// Makes data sets 1 .. sets-1, equal to set 0; false: they do not fit.
  std::function<bool(int sets)> replicate;
  bool capturable = true;  ///< into a graph, as a rotation is
};

/// Calls shorter than this, as timed one by one, are timed by rotation where the backend can.
inline constexpr double rotation_below_s = 25e-6;

/// Calls in a rotation, each on a data set of its own: the one launch of all is shared by so many.
inline constexpr int rotation_calls = 50;

/// A burst: so long a rest, then so many calls. The calls are the fewest of the peers' method; the
/// rest is a round number, not a derived one.
inline constexpr double burst_rest_s = 0.5;
inline constexpr int burst_calls = 11;

/// Seconds since some start; replaceable for tests.
using wall_clock = std::function<double()>;
double steady_seconds();

timing measure(backend& device, const measured_call& call, const sampling_rule& rule,
               const wall_clock& now = steady_seconds);

/// Whether a row with these readings is to be timed in a burst; where the driver does not say what
/// held the clock down, it may have been.
bool wants_burst(burst_mode mode, const telemetry& steady_readings);

/// The burst's samples, after measure() gave `steady`. Empty where the device has no rest, calls
/// are so short that they are timed by rotation, or the cap has no time left for burst_calls calls.
std::vector<double> measure_burst(backend& device, const backend::launch& call,
                                  const timing& steady);

}  // namespace based
