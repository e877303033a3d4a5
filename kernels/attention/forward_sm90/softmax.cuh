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

/// The scores of a diagonal tile and, where a query does not see its keys, those of the tile
/// `reach` tiles before it: a window of at most 64 `reach` keys never has both. -inf where it has
/// neither; `first_col`: of the keys that there are, in the tile before. Called by: one warpgroup
__device__ inline void merge(score_tile& diagonal, const score_tile& before, int gap,
                             int first_col) {
  const int own_col = warp::lane() % 4 * 2;
#pragma unroll
  for (int i = 0; i < diagonal.size; ++i) {
    const int col = i / 4 * 8 + i % 2, row = thread_row(i % 4 / 2) - own_col;
    if (col > row) diagonal.value[i] = before.value[i];
  }
  if (gap == 0 && first_col <= 0) return;
#pragma unroll
  for (int i = 0; i < diagonal.size; ++i) {
    const int col = i / 4 * 8 + i % 2, row = thread_row(i % 4 / 2) - own_col;
    if (col > row && (col <= row + gap || col < first_col - own_col)) {
      diagonal.value[i] = -INFINITY;
    }
  }
}

/// A window that is `gap` keys short of whole tiles leaves off each query's first ones: those of
/// its columns become -inf that lie so far before the diagonal that they are in the tile after the
/// first. Called by: one warpgroup
__device__ inline void mask_gap(score_tile& scores, int gap) {
  const int own_col = warp::lane() % 4 * 2;
#pragma unroll
  for (int i = 0; i < scores.size; ++i) {
    const int col = i / 4 * 8 + i % 2, row = thread_row(i % 4 / 2) - own_col;
    if (col <= row + gap - tile_keys) scores.value[i] = -INFINITY;
  }
}

/// The part of the weights of merged tiles, as an operand, that is the diagonal tile's; leaves that
/// of the other tile.
/// Called by: one warpgroup
__device__ inline operand_tile<tile_keys> split_merged(operand_tile<tile_keys>& weights) {
  operand_tile<tile_keys> diagonal;
  const int first_col = warp::lane() % 4 * 2;
#pragma unroll
  for (int s = 0; s < weights.slices; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int col = 16 * s + i / 2 * 8, row = thread_row(i % 2) - first_col;
      const std::uint32_t seen = col < row ? ~0u : col == row ? 0xffffu : 0u;  // of two columns
      diagonal.slice[s].word[i] = weights.slice[s].word[i] & seen;
      weights.slice[s].word[i] &= ~seen;
    }
  }
  return diagonal;
}

/// What is subtracted from scaled scores; a row that sees no key yet must not meet inf - inf.
/// Called by: one thread
__device__ inline row_values offsets_of(const row_values& maxima, float log2_scale) {
  const auto offset = [&](float maximum) {
    return maximum == -INFINITY ? 0.0f : maximum * log2_scale;
  };
  return {offset(maxima.value[0]), offset(maxima.value[1])};
}

/// The weights of a tile from its scores, by maxima that follow the scores: O and the sums so far
/// are scaled to them.
/// Called by: one warpgroup
template <int Cols>
__device__ inline void weigh_online(score_tile& scores, accumulator_tile<Cols>& o,
                                    row_values& maxima, row_values& sums, float log2_scale) {
  const row_values before = maxima;
  maxima = warp::row_max(fold_max(scores, before));
  const row_values offsets = offsets_of(maxima, log2_scale);
  row_values factors;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    factors.value[r] = ptx::ex2(fmaf(before.value[r], log2_scale, -offsets.value[r]));
    sums.value[r] *= factors.value[r];
  }
  scale_rows(o, factors);
  exp2_rows(scores, log2_scale, offsets);
  sums = fold_sum(scores, sums);
}

/// O += P V [64 x Dh] without the products of weights that are zero, which would be NaN where V is
/// not finite. Columns of O past those of V add up the weights. Slow.
/// Called by: one warpgroup
template <class Element, int Cols, class Tile>
__device__ inline void add_values_with_weight(accumulator_tile<Cols>& o,
                                              operand_tile<tile_keys> weights, const Tile& v) {
  const int lane = warp::lane();
#pragma unroll 1
  for (int first_key = 0; first_key < tile_keys; first_key += 16) {
#pragma unroll
    for (int key = 0; key < 16; ++key) {
      float weight[2];  // of the thread's rows
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const std::uint32_t word =
            __shfl_sync(~0u, weights.slice[0].word[key / 8 * 2 + r], lane / 4 * 4 + key % 8 / 2);
        weight[r] = key % 2 == 0 ? low_element<Element>(word) : high_element<Element>(word);
      }
#pragma unroll
      for (int i = 0; i < Tile::cols / 8; ++i) {
        const auto values = v.template load<std::uint32_t>(first_key + key, 8 * i + lane % 4 * 2);
        const float value[2] = {low_element<Element>(values), high_element<Element>(values)};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (weight[e / 2] == 0) continue;
          o.value[4 * i + e] = fmaf(weight[e / 2], value[e % 2], o.value[4 * i + e]);
        }
      }
#pragma unroll
      for (int i = Tile::cols / 2; i < o.size; ++i) o.value[i] += weight[i % 4 / 2];
    }
#pragma unroll
    for (int i = 0; i + 1 < weights.slices; ++i) weights.slice[i] = weights.slice[i + 1];
  }
}

/// Whether nothing of this thread's has left fp32's range.
/// Called by: one thread
template <int Cols>
__device__ inline bool is_finite(const accumulator_tile<Cols>& o, const row_values& sums) {
  constexpr float largest_sum = 1e30f;
  float zero = 0;  // or NaN
#pragma unroll
  for (int i = 0; i < o.size; ++i) zero = fmaf(o.value[i], 0.0f, zero);
  return sums.value[0] < largest_sum && sums.value[1] < largest_sum && zero == 0;
}

/// The natural logarithm of a row's sum of exponentials, which is 2^offset times `sum`; NaN where
/// the row sees keys and all its scores are minus infinity, as its output.
/// Called by: one thread
__device__ inline float log_sum_exp(float offset, float sum, bool sees_none) {
  constexpr float ln2 = 0.693147180559945309f;
  return sum == 0 && !sees_none ? NAN : (offset + log2f(sum)) * ln2;
}

}  // namespace based::attention_sm90
