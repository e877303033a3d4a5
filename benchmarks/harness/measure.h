// How one row is timed: warm up, sample cold until the median is known, sample hot beside it.
#pragma once

#include <functional>
#include <vector>

#include "benchmarks/harness/backend.h"
#include "benchmarks/harness/statistics.h"

namespace based {

struct sampling_rule {
  double cap_s = 10;      ///< wall-clock bound of warm-up and sampling together
  double min_time_s = 0;  ///< sum of the cold samples to reach at least
  double half_width =
      0.005;  ///< of the median's 95 % interval, relative: stop when it is this tight
  int min_samples = 11;
  int max_samples = 2001;
};

struct timing {
  std::vector<double> samples;  ///< cold, in seconds, in the order measured
  summary cold;
  std::vector<double> hot_samples;  ///< empty where the cap left no time for them
  bool rotated = false;             ///< back-to-back rotation instead of single calls
  double floor = 0;                 ///< what timing nothing reads by the same way
};

/// What measure() needs of a row.
struct measured_call {
  backend::launch launch;
  /// Makes data sets 1 .. sets-1, equal to set 0; false: they do not fit.
  std::function<bool(int sets)> replicate;
};

/// Calls shorter than this, as timed one by one, are timed by rotation where the backend can.
inline constexpr double rotation_below_s = 25e-6;

/// Calls in a rotation, each on a data set of its own: the one launch of all is shared by so many.
inline constexpr int rotation_calls = 50;

/// Seconds since some start; replaceable for tests.
using wall_clock = std::function<double()>;
double steady_seconds();

timing measure(backend& device, const measured_call& call, const sampling_rule& rule,
               const wall_clock& now = steady_seconds);

}  // namespace based
