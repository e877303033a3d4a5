// A warpgroup's scores [64 x 64]: masks, offsets. A thread holds parts of two rows.
#pragma once

#include <cmath>

#include "kernels/attention/forward_sm90/schedule.h"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::attention_sm90 {

using score_tile = accumulator_tile<tile_keys>;

/// The row in the warpgroup's tile of the first or second of the thread's rows.
/// Called by: one thread
__device__ inline int thread_row(int which) {
  return warpgroup::warp() * 16 + warp::lane() / 4 + 8 * which;
}

/// What a query may not see in tile `t` of a walk becomes -inf.
/// Called by: one warpgroup
__device__ inline void mask(score_tile& scores, const head_shape& head, int walk_first_key, int t) {
  const int first_key = walk_first_key - t * tile_keys;
  const int first_col = warp::lane() % 4 * 2;
  int begin[2], end[2];  // of the columns that may be seen, counted from the thread's first
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int diagonal = thread_row(r) + t * tile_keys;
    begin[r] = (head.causal ? max(-first_key, diagonal - head.window + 1) : 0) - first_col;
    end[r] = (head.causal ? diagonal + 1 : head.keys - first_key) - first_col;
  }
#pragma unroll
  for (int i = 0; i < scores.size; ++i) {
    const int col = i / 4 * 8 + i % 2, row = i % 4 / 2;
    if (col < begin[row] || col >= end[row]) scores.value[i] = -INFINITY;
  }
}

/// What is subtracted from scaled scores; a row that sees no key yet must not meet inf - inf.
/// Called by: one thread
__device__ inline row_values offsets_of(const row_values& maxima, float log2_scale) {
  const auto offset = [&](float maximum) {
    return maximum == -INFINITY ? 0.0f : maximum * log2_scale;
  };
  return {offset(maxima.value[0]), offset(maxima.value[1])};
}

}  // namespace based::attention_sm90
