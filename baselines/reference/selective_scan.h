// The selective scan in float64, token after token, the oracle of scans and of their step:
//
//   x[n] = exp(dt A[n]) x[n] + dt u B[n],   y = (sum_n C[n] x[n] + D u) silu(z)
#pragma once

#include <cstdint>
#include <span>

#include "kernels/state_space/selective_scan.h"

namespace based::reference {

/// The tensors of one channel of one sequence, on the host.
struct scan_channel {
  const scan_channels& options;
  std::span<const float> u;      // [N]
  std::span<const float> delta;  // [N]
  std::span<const float> a;      // [d_state]
  std::span<const float> b;      // [d_state, N]
  std::span<const float> c;      // [d_state, N]
  std::span<const float> z;      // [N]; with a gate
  double skip = 0;               // D
  double bias = 0;
};

/// Writes y [N] and takes x [d_state] from before the first token to after the last.
void scan(const scan_channel& channel, std::span<double> x, std::span<double> y);

}  // namespace based::reference
