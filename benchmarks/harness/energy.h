// The energy of a call, from a counter that moves in steps far longer than most calls.
//
// After it was timed, a row's calls run back to back, on the data sets of its rotation where it has
// one, without evictions: an eviction writes hundreds of megabytes, whose energy is not the call's.
// The counter is read between batches of an eighth of a step, and counted from one of its moves to
// another, at least energy_steps later. So an end is known to an eighth of a step, and the quotient
// to about 1 %; of a call longer than a step, to a step in energy_steps, 5 %. It is all that the
// device draws, what it would draw idle included.
//
// Calls without evictions give a card at its power cap no rest. Its clock is lower then, and a call
// takes longer than in the row's other times: by the hot time the energy would be a power that no
// card can draw. So the time of a call is taken over the window of its energy.
#pragma once

#include <string>
#include <variant>

#include "benchmarks/harness/measure.h"

namespace based {

inline constexpr int energy_steps = 20;

/// Of a call, while its energy was counted.
struct call_energy {
  double joules;
  double seconds;  ///< joules / seconds is the mean power
};

/// The energy of a call, after measure() gave `steady`; or why it has none.
std::variant<call_energy, std::string> measure_energy(backend& device, const backend::launch& call,
                                                      const timing& steady,
                                                      const wall_clock& now = steady_seconds);

}  // namespace based
