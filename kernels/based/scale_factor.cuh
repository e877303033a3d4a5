// Scaling of bf16 words.
#pragma once

#include <cstdint>

#include "kernels/ptx/bf16x2.cuh"

namespace based {

/// A factor of bf16 values: a head and its residual, so that a product is rounded once, as if it
/// had been made in fp32.
class scale_factor {
 public:
  /// Called by: one thread
  __device__ explicit scale_factor(float scale) {
    head_ = ptx::to_bf16x2(scale, scale);
    const float rest = scale - ptx::low_half(head_);
    residual_ = ptx::to_bf16x2(rest, rest);
  }

  /// Called by: one thread
  __device__ std::uint32_t operator()(std::uint32_t word) const {
    return ptx::fma_bf16x2(word, head_, ptx::multiply_bf16x2(word, residual_));
  }

 private:
  std::uint32_t head_, residual_;
};

}  // namespace based
