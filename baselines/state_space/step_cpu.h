// What the CPU implementations of ssd share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/state_space/ssd.h"

namespace based {

/// dt' of token n of head h of sequence b.
inline float ssd_step(const ssd_args<float>& args, std::int64_t b, std::int64_t h, std::int64_t n) {
  float step = *args.dt.token(b, h, n);
  if (args.problem.bias) step += args.dt_bias[static_cast<std::size_t>(h)];
  return args.problem.softplus ? softplus(step) : step;
}

}  // namespace based
