// The feature map of features.h written out to memory, for the baselines that materialise it.
#pragma once

#include <cuda_runtime.h>

#include "baselines/token_tiles.cuh"
#include "kernels/based/features.h"
#include "kernels/core/bf16.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/element_type.h"
#include "kernels/core/tensor_view.h"
#include "kernels/core/warp_size.h"

namespace based {

inline constexpr int feature_map_tile = 32;  ///< tokens a thread block maps

/// One thread a feature, one block a tile of tokens. features: [B, H, N, count], contiguous.
template <feature_layout Layout, class T>
__global__ void feature_map_kernel(sequence_view<const bf16> x, token_tiles tiles,
                                   feature_side side, float scale, T* __restrict__ features) {
  constexpr int count = feature_count<Layout>;
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
  const feature_factors factors = factors_of<Layout>(row);
  const float weight = weight_of<Layout>(factors, side, scale);
  T* out = features + tile.row * count + row;
#pragma unroll 4
  for (int token = 0; token < tile.tokens; ++token, out += count) {
    *out = from_float<T>(weight * (entries[token][factors.i] * entries[token][factors.j]));
  }
}

/// features[B, H, N, count] = phi(x), T float or bf16; `scale` acts on the query side alone.
template <feature_layout Layout, class T>
void map_features(const sequence_view<const bf16>& x, const prefill_shape& shape, feature_side side,
                  float scale, T* features, cuda_stream stream) {
  constexpr int threads = (feature_count<Layout> + warp_size - 1) / warp_size * warp_size;
  const token_tiles tiles(shape, feature_map_tile);
  feature_map_kernel<Layout><<<tiles.count, threads, 0, stream>>>(x, tiles, side, scale, features);
  BASED_CUDA_LAUNCHED();
}

}  // namespace based
