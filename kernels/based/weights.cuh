// The weights of the pairs within a chunk's reach, W = mask(1 + s A + (s A)^2 / 2) with A = Q K^T
// and s = scale, and what sums up their rows.
#pragma once

#include <cstdint>

#include "kernels/based/features.h"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/shared_tile.cuh"
#include "kernels/tile/warp.cuh"

namespace based {

using score_accumulator = accumulator_tile<64>;  // A [64 x 64], of a chunk's queries and keys
using weight_tile = operand_tile<64>;            // W [64 x 64]

/// In a block [16 x 16] on the diagonal of A, the bits of a word's two elements (operand_slice:
/// word 0, and word 3 alike) that are not in the future of their row.
/// Called by: one thread
__device__ inline std::uint32_t causal_mask() {
  const int row = warp::lane() / 4;
  const int col = 2 * (warp::lane() % 4);
  return (col <= row ? 0x0000ffffu : 0) | (col + 1 <= row ? 0xffff0000u : 0);
}

/// `factor` times 1 + s + s^2 / 2 of s = scale a.
struct polynomial {
  float constant, linear, quadratic;
  /// Called by: one thread
  __device__ explicit polynomial(float scale, float factor = 1)
      : constant(factor), linear(factor * scale), quadratic(factor * scale * scale / 2) {}
  /// Called by: one thread
  __device__ float operator()(float a) const { return constant + a * (linear + a * quadratic); }
};

/// W = mask(polynomial(A)) of warp `Warp`'s sixteen rows of the scores A [64 x 64]: the blocks
/// [16 x 16] left of the diagonal are whole, those right of it zero and not worked out.
/// Called by: one warp
template <int Warp>
__device__ inline void weigh(weight_tile& w, const score_accumulator& scores,
                             const polynomial& weight, std::uint32_t mask) {
#pragma unroll
  for (int i = 0; i < w.slices; ++i) {
    accumulator_tile<16> block;
#pragma unroll
    for (int e = 0; e < block.size; ++e) {
      block.value[e] = weight(scores.value[block.size * i + e]);
    }
    const auto [upper_left, lower_left, upper_right, lower_right] = to_bf16(block, 0).word;
    if (i < Warp) w.slice[i] = {upper_left, lower_left, upper_right, lower_right};
    if (i == Warp) w.slice[i] = {upper_left & mask, lower_left, 0, lower_right & mask};
    if (i > Warp) w.slice[i] = {0, 0, 0, 0};
  }
}

/// W in place of A, not yet rounded, where no column is in the future of a row.
/// Called by: one thread
__device__ inline void weigh_past(score_accumulator& scores, const polynomial& weight) {
#pragma unroll
  for (float& score : scores.value) score = weight(score);
}

/// W of warp `warp`'s rows, the chunk of the columns being that of the rows.
/// Called by: one warp
__device__ inline weight_tile weights(const score_accumulator& scores, const polynomial& weight,
                                      std::uint32_t mask, int warp) {
  weight_tile w;
  if (warp == 0) weigh<0>(w, scores, weight, mask);
  if (warp == 1) weigh<1>(w, scores, weight, mask);
  if (warp == 2) weigh<2>(w, scores, weight, mask);
  if (warp == 3) weigh<3>(w, scores, weight, mask);
  return w;
}

/// Ones beside V, of which eight columns are used: they sum up the rows of the weights by wgmma,
/// for mma.sync would queue behind the wgmmas of all warps. [16 x 64]
using ones_tile = shared_tile<16, value_dim, swizzle::bytes128>;

}  // namespace based
