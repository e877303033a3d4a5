// Mamba-2's decode step in float64, by its definition, in plain loops:
//
//   S = exp(dt A) S + dt x B^T,   y = S C   (+ D x)   (times silu(z))
#pragma once

#include <vector>

#include "kernels/state_space/ssd_decode.h"

namespace based::reference {

/// The tensors of one (batch, head), on the host. What the problem's options do not name is not
/// read.
struct ssd_decode_head {
  const float* x;  // [P]
  float dt;
  const float* b;  // [S]
  const float* c;  // [S]
  const float* z;  // [P]
  float a;
  float dt_bias;
  float d;
  const float* state;  // [P, S], before the step
};

struct ssd_decode_result {
  std::vector<double> y;      // [P]
  std::vector<double> state;  // [P, S], after the step
};

ssd_decode_result ssd_decode_step(const ssd_decode_problem& problem, const ssd_decode_head& head);

}  // namespace based::reference
