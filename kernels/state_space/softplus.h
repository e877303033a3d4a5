// What makes step sizes positive, on the host and on the device.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/core/tensor_view.h"
#ifdef __CUDACC__
#include "kernels/ptx/ex2.cuh"
#endif

namespace based {

/// log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|). On the device the logarithm is e times
/// a polynomial, for in 1 + e a small e would lose its digits: the relative error is 1.3e-6.
/// Called by: one thread
BASED_HOST_DEVICE inline float softplus(float x) {
#ifdef __CUDA_ARCH__
  constexpr float log2e = 1.44269504f;
  const float e = ptx::ex2(-log2e * fabsf(x));
  float p = 1.414102145e-02f;
  p = fmaf(p, e, -6.640179287e-02f);
  p = fmaf(p, e, 1.492238666e-01f);
  p = fmaf(p, e, -2.350385993e-01f);
  p = fmaf(p, e, 3.310944887e-01f);
  p = fmaf(p, e, -4.998696563e-01f);
  p = fmaf(p, e, 9.999987315e-01f);
  return fmaf(p, e, fmaxf(x, 0.0f));
#else
  return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x)));
#endif
}

}  // namespace based
