// A warpgroup's scores [64 x 64]: masks, maxima, weights. A thread holds parts of two rows.
#pragma once

#include <cmath>

#include "kernels/ptx/ex2.cuh"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::attention_sm90 {

/// Of rows g and g + 8 of a warp's sixteen.
struct row_pair {
  float value[2];
};

/// The row in the warpgroup's tile of the first or second of the thread's rows.
/// Called by: one thread
__device__ inline int thread_row(int which) {
  return warpgroup::warp() * 16 + warp::lane() / 4 + 8 * which;
}

/// Scores of columns before `begin` or from `end` on, by row, become -inf.
/// Called by: one warpgroup
__device__ inline void mask(accumulator_tile<64>& scores, const int (&begin)[2],
                            const int (&end)[2]) {
  const int first_col = warp::lane() % 4 * 2;
#pragma unroll
  for (int i = 0; i < scores.size; ++i) {
    const int col = first_col + i / 4 * 8 + i % 2, row = i / 2 % 2;
    if (col < begin[row] || col >= end[row]) scores.value[i] = -INFINITY;
  }
}

/// Over the four threads that share a row.
/// Called by: one warp
template <class Combine>
__device__ inline float combine_row(float value, Combine combine) {
  value = combine(value, __shfl_xor_sync(~0u, value, 1));
  return combine(value, __shfl_xor_sync(~0u, value, 2));
}
__device__ inline float largest_of_row(float value) {
  return combine_row(value, [](float a, float b) { return fmaxf(a, b); });
}
__device__ inline float sum_of_row(float value) {
  return combine_row(value, [](float a, float b) { return a + b; });
}

/// The largest score of each row, and of `least`.
/// Called by: one warpgroup
__device__ inline row_pair row_maxima(const accumulator_tile<64>& scores, row_pair least) {
#pragma unroll
  for (int i = 0; i < scores.size; ++i) {
    float& largest = least.value[i / 2 % 2];
    largest = fmaxf(largest, scores.value[i]);
  }
  return {largest_of_row(least.value[0]), largest_of_row(least.value[1])};
}

/// What is subtracted from scaled scores; a row that sees no key yet must not meet inf - inf.
/// Called by: one thread
__device__ inline row_pair scaled_offsets(row_pair maxima, float log2_scale) {
  const auto offset = [&](float maximum) {
    return maximum == -INFINITY ? 0.0f : maximum * log2_scale;
  };
  return {offset(maxima.value[0]), offset(maxima.value[1])};
}

/// The weights 2^(log2_scale s - offset) of 16 columns, rounded; their sums are added to `sums`.
/// Called by: one warpgroup
template <class T>
__device__ inline operand_slice weigh(accumulator_tile<64>& scores, int slice, float log2_scale,
                                      const row_pair& offsets, row_pair& sums) {
  float* const s = scores.value + 8 * slice;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    s[i] = ptx::ex2(fmaf(s[i], log2_scale, -offsets.value[i / 2 % 2]));
    sums.value[i / 2 % 2] += s[i];
  }
  return {{ptx::to_words<T>(s[0], s[1]), ptx::to_words<T>(s[2], s[3]),  //
           ptx::to_words<T>(s[4], s[5]), ptx::to_words<T>(s[6], s[7])}};
}

}  // namespace based::attention_sm90
