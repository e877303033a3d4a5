// The feature map of features.h written out to memory, for the baselines that materialise it.
//
// With x extended by a sixteenth entry of 1, every feature is a weighted product of two entries:
//
//   compact, 153:  1, x_i, x_i x_j with i <= j (the order of features.h)
//   expanded, 273: 1, x_i, x_i x_j for all i, j (the order of the papers' TaylorExp)
//
// The q side carries the weights (1, scale, scale^2 / 2, or scale^2 where a product stands for
// two), the k side none.
#pragma once

#include <cuda_runtime.h>

#include "baselines/token_tiles.cuh"
#include "kernels/based/features.h"
#include "kernels/core/bf16.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/element_type.h"
#include "kernels/core/tensor_view.h"

namespace based {

enum class feature_layout { compact, expanded };
enum class feature_side { query, key };

template <feature_layout layout>
inline constexpr int feature_count =
    layout == feature_layout::compact ? compact_features : expanded_features;

/// Which entries of (x_0, ..., x_15, 1) a feature multiplies.
struct feature_factors {
  int i;
  int j;
};
inline constexpr int unit_entry = feature_dim;

template <feature_layout layout>
constexpr feature_factors factors_of(int row) {
  if (row < first_linear_row) return {unit_entry, unit_entry};
  if (row < first_product_row) return {row - first_linear_row, unit_entry};
  int rest = row - first_product_row;
  if constexpr (layout == feature_layout::expanded) {
    return {rest / feature_dim, rest % feature_dim};
  } else {
    int i = 0;
    for (; rest >= feature_dim - i; ++i) rest -= feature_dim - i;
    return {i, i + rest};
  }
}

template <feature_layout layout>
constexpr float weight_of(feature_factors factors, feature_side side, float scale) {
  if (side == feature_side::key || factors.i == unit_entry) return 1.0f;
  if (factors.j == unit_entry) return scale;
  const bool stands_for_two = layout == feature_layout::compact && factors.i != factors.j;
  return stands_for_two ? scale * scale : 0.5f * scale * scale;
}

inline constexpr int feature_map_tile = 32;  ///< tokens a thread block maps

/// One thread a feature, one block a tile of tokens. features: [B, H, N, count], contiguous.
template <feature_layout layout, class T>
__global__ void feature_map_kernel(sequence_view<const bf16> x, token_tiles tiles,
                                   feature_side side, float scale, T* __restrict__ features) {
  constexpr int count = feature_count<layout>;
  constexpr int entry_count = feature_dim + 1;
  __shared__ float entries[feature_map_tile][entry_count];

  const token_tiles::tile tile = tiles.locate(blockIdx.x);
  for (int e = threadIdx.x; e < tile.tokens * entry_count; e += blockDim.x) {
    const int token = e / entry_count;
    const int i = e % entry_count;
    entries[token][i] =
        i == unit_entry ? 1.0f : to_float(x.token(tile.batch, tile.head, tile.first + token)[i]);
  }
  __syncthreads();

  const int row = threadIdx.x;
  if (row >= count) return;
  const feature_factors factors = factors_of<layout>(row);
  const float weight = weight_of<layout>(factors, side, scale);
  T* out = features + tile.row * count + row;
#pragma unroll 4
  for (int token = 0; token < tile.tokens; ++token, out += count) {
    *out = from_float<T>(weight * (entries[token][factors.i] * entries[token][factors.j]));
  }
}

/// features[B, H, N, count] = phi(x), T float or bf16; `scale` acts on the query side alone.
template <feature_layout layout, class T>
void map_features(const sequence_view<const bf16>& x, const prefill_shape& shape, feature_side side,
                  float scale, T* features, cuda_stream stream) {
  constexpr int warp = 32;
  constexpr int threads = (feature_count<layout> + warp - 1) / warp * warp;
  const token_tiles tiles(shape, feature_map_tile);
  feature_map_kernel<layout><<<tiles.count, threads, 0, stream>>>(x, tiles, side, scale, features);
  BASED_CUDA_LAUNCHED();
}

}  // namespace based
