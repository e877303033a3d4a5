#include "benchmarks/harness/energy.h"

#include <fmt/format.h>

#include <algorithm>

namespace based {
namespace {

constexpr double batches_a_step = 8;
constexpr int most_rotations = 10'000;  // in a batch: what a driver queues without trouble
constexpr double warm_up_s = 0.2;       // back in the state that a burst's rest has ended
constexpr double patience = 3;          // times what it takes where the counter moves as it did

}  // namespace

std::variant<call_energy, std::string> measure_energy(backend& device, const backend::launch& call,
                                                      const timing& steady, const wall_clock& now) {
  const auto step = device.measured_energy_step();
  if (const auto* absent = std::get_if<std::string>(&step)) return *absent;
  const double step_s = std::get<energy_step>(step).seconds;

  const int sets = steady.rotated ? rotation_calls : 1;
  const double rotation_s = steady.cold.median * sets;
  const auto batch = static_cast<int>(
      std::clamp(step_s / batches_a_step / rotation_s, 1.0, double{most_rotations}));
  const auto run = device.back_to_back(call, sets);
  const double start = now();
  do {
    run(batch);
  } while (now() - start < warm_up_s);

  struct moment {
    double seconds, joules, calls;
  };
  const double begin = now();
  const double window_s = energy_steps * step_s;
  // A batch is always in flight while the counter is read, which takes milliseconds: in differences
  // of calls it cancels.
  moment last = {begin, device.energy_j(), 0}, first = {};
  int moves = 0;
  double calls = 0;
  for (;;) {
    run(batch);
    calls += static_cast<double>(batch) * sets;
    const moment here = {now(), device.energy_j(), calls};
    if (here.joules != last.joules) {
      if (moves++ == 0) first = here;
      last = here;
      if (moves > 1 && here.seconds - first.seconds >= window_s) {
        const double counted = here.calls - first.calls;
        return call_energy{(here.joules - first.joules) / counted,
                           (here.seconds - first.seconds) / counted};
      }
    }
    if (here.seconds - begin > patience * (window_s + step_s) + 2 * rotation_s) {
      return fmt::format("the energy counter moved {} times in {:.1f} s", moves,
                         here.seconds - begin);
    }
  }
}

}  // namespace based
