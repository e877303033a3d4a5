// phi(q) of the circulant feature map (circulant.h) as operands of mma.sync in registers.
#pragma once

#include <cstdint>

#include "kernels/based/circulant.h"
#include "kernels/based/scale_factor.cuh"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/warp.cuh"

namespace based::circulant {

/// Words `first`, `first` + 1, .. of x rotated by `distance`, from x's words in a circle.
/// Called by: one thread
template <int Words>
__device__ inline std::uint32_t rotated(const std::uint32_t (&x)[Words], int first, int distance) {
  const std::uint32_t word = x[(first + distance / 2) % Words];
  if (distance % 2 == 0) return word;
  return ptx::high_then_low(word, x[(first + distance / 2 + 1) % Words]);
}

inline constexpr int query_words = feature_dim / 2;  ///< of a row of queries

/// Slots of a slice of phi(x) from a thread's rows g and g + 8, upper and lower, of scaled queries:
/// word i holds columns 2 t + 2 i and 2 t + 2 i + 1 (mod 16). `slice` is to be a constant after
/// unrolling. The squares lack their weight 1/2.
/// Called by: one thread
__device__ inline operand_slice query_slice(const std::uint32_t (&upper)[query_words],
                                            const std::uint32_t (&lower)[query_words], int slice) {
  if (slice == linear_slice) return {upper[0], lower[0], upper[4], lower[4]};
  const auto product = [&](const std::uint32_t(&x)[query_words], int first) {
    return ptx::multiply_bf16x2(x[first], rotated(x, first, slice));
  };
  if (slice == opposite_slice) {
    const std::uint32_t constant = warp::lane() % 4 == 0 ? ptx::two_ones : 0;
    return {product(upper, 0), product(lower, 0), constant, constant};
  }
  return {product(upper, 0), product(lower, 0), product(upper, 4), product(lower, 4)};
}

}  // namespace based::circulant
