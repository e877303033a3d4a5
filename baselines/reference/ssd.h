// Mamba-2's layer in float64, the oracle of every implementation of ssd: the recurrence as it is
// written in kernels/state_space/ssd.h, token after token, with no chunks and no sums of decays.
// The channels p of a head do not meet: the state's rows [P, S] are computed one by one, any of
// them.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/state_space/ssd.h"

namespace based::reference {

/// The tensors of one (batch, head): contiguous, on the host. Those of options that are off are
/// not read.
struct ssd_head {
  ssd_problem problem;
  const float* x;   ///< [N, P]
  const float* dt;  ///< [N]
  const float* b;   ///< [N, S]
  const float* c;   ///< [N, S]
  float a;
  float dt_bias = 0;
  float d = 0;
  const float* z = nullptr;              ///< [N, P]
  const float* initial_state = nullptr;  ///< [P, S]
};

/// dt' of every token; `steps` is [N].
void ssd_steps(const ssd_head& head, std::span<double> steps);

/// Of the channels p = channels[i]: y[n, i] and, unless they are empty, the final state[i, :] and
/// terms[n, i], the sum of the squares of what y[n, i] is the sum of: S c element by element, and
/// d x. Throws invalid_argument for a channel or size out of range.
void ssd_channels(const ssd_head& head, std::span<const std::int64_t> channels, std::span<double> y,
                  std::span<double> state, std::span<double> terms = {});

}  // namespace based::reference
