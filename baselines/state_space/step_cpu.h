// What the CPU implementations of ssd share.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/state_space/ssd.h"

namespace based {

/// dt' of token n of head h of sequence b.
inline float ssd_step(const ssd_args<float>& args, std::int64_t b, std::int64_t h, std::int64_t n) {
  constexpr float identity_from = 20;  // where fp32 has no digit for the difference
  float step = *args.dt.token(b, h, n);
  if (args.problem.bias) step += args.dt_bias[static_cast<std::size_t>(h)];
  if (args.problem.softplus && !(step > identity_from)) step = std::log1p(std::exp(step));
  return step;
}

}  // namespace based
