// The functions of single numbers that several references apply, in float64.
#pragma once

#include <algorithm>
#include <cmath>

namespace based::reference {

/// log(1 + exp(x)).
inline double softplus(double x) {
  return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}

inline double silu(double x) {
  return x / (1 + std::exp(-x));
}

}  // namespace based::reference
