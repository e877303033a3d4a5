// The K-state z of the normalisation, as three moments of the keys instead of 153 features:
//
//   phi_q(q) . z = n + x . (m + M x / 2),   x = scale q,  n = count,  m = sum k,  M = sum k k^T
//
// The state warpgroup keeps m and M in fp32, spread over its warps: warp w has one half (w % 2) of
// M's columns, and m, over one half (w / 2) of every chunk's tokens. A chunk takes four mma.sync a
// warp, one ldmatrix serving as both operands of K^T K. M and m are handed over, rounded, beside
// the state: a tile whose product with [x x 1 1] sums up the parts. M is symmetric, so its
// accumulators are that tile's words with nothing transposed. n is known.
#pragma once

#include <cstdint>

#include "kernels/based/circulant.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/ptx/ldmatrix.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based {

/// [16 x 64]: columns 16 h + i are row i of M / 2 over tokens of half h; columns 32 + 8 w and + 1
/// are m / 2 of warp w (two warps have the same m) as a bf16 head and residual; the others are
/// zero.
using moments_tile = shared_tile<feature_dim, 4 * feature_dim, swizzle::none>;
inline constexpr int token_halves = 2;

class key_moments {
 public:
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 4; ++i) second_[i] = 0;
    first_[0] = first_[1] = 0;
  }

  /// Adds this warp's part of a chunk's keys [64 x 16].
  __device__ void add(const circulant::token_tile& k) {
    const int lane = ptx::opaque(warp::lane());
    const int first_token = 32 * token_half() + lane / 16 * 8 + lane % 8;
    const char* matrices = k.at(first_token, lane / 8 % 2 * 8);
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      std::uint32_t keys[4];  // (tokens, dims) of eight: (0, 0), (0, 1), (1, 0), (1, 1)
      ptx::ldmatrix_x4_trans(keys, matrices + circulant::token_tile::layout::offset(16 * step, 0));
      const bool left = column_half() == 0;
      ptx::mma_m16n8k16(second_, keys, left ? keys[0] : keys[1], left ? keys[2] : keys[3]);
      float sums[4] = {first_[0], first_[0], first_[1], first_[1]};  // the same in every column
      ptx::mma_m16n8k16(sums, keys, circulant::two_ones, circulant::two_ones);
      first_[0] = sums[0];
      first_[1] = sums[2];
    }
  }

  /// Writes this warp's part of the tile. Without a swizzle a warp's accumulator, eight rows of
  /// eight columns at a time, is in the order of its lanes.
  __device__ void hand_over(moments_tile& tile) const {
    using layout = moments_tile::layout;
    constexpr int word_bytes = sizeof(std::uint32_t);
    constexpr int eight_rows = layout::offset(8, 0) / word_bytes;
    constexpr int to_sums = layout::offset(0, feature_dim * token_halves) / word_bytes;
    auto* words =
        reinterpret_cast<std::uint32_t*>(tile.at(0, 8 * warpgroup::warp())) + warp::lane();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      words[half * eight_rows] =
          ptx::to_bf16x2(0.5f * second_[2 * half], 0.5f * second_[2 * half + 1]);
      const float sum = 0.5f * first_[half];
      const float head = ptx::low_half(ptx::to_bf16x2(sum, 0));
      if (warp::lane() % 4 == 0) {
        words[to_sums + half * eight_rows] = ptx::to_bf16x2(head, sum - head);
      }
    }
  }

  /// From z [153] of one head, into the warps of the first half of the tokens.
  __device__ void load(const float* z) {
    if (token_half() > 0) return;
    for_each([&](int row, float& value) { value = z[row]; });
  }

  /// This warp's part to memory, and the part of another warp from there.
  __device__ void store_part(moment_parts& parts) const {
    float4* part = parts[warpgroup::warp()][warp::lane()];
    part[0] = {second_[0], second_[1], second_[2], second_[3]};
    part[1] = {first_[0], first_[1], 0, 0};
  }
  __device__ void add_part(const moment_parts& parts, int warp) {
    const float4* part = parts[warp][warp::lane()];
    second_[0] += part[0].x;
    second_[1] += part[0].y;
    second_[2] += part[0].z;
    second_[3] += part[0].w;
    first_[0] += part[1].x;
    first_[1] += part[1].y;
  }

  /// To z [153] of one head, without the count, through `parts`, memory of the warpgroup's own.
  template <int Barrier>
  __device__ void store(float* z, moment_parts& parts) {
    warpgroup::sync<Barrier>();
    store_part(parts);
    warpgroup::sync<Barrier>();
    if (token_half() > 0) return;
    add_part(parts, warpgroup::warp() + 2);
    for_each([&](int row, float& value) { z[row] = value; });
  }

 private:
  __device__ static int token_half() {
    return warpgroup::warp() / 2;
  }
  __device__ static int column_half() {
    return warpgroup::warp() % 2;
  }

  /// Calls f(row of z, value) for what this lane holds; some rows come up twice, M being symmetric.
  template <class Function>
  __device__ void for_each(Function f) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int i = warp::lane() / 4 + e / 2 * 8;
      const int j = 8 * column_half() + 2 * (warp::lane() % 4) + e % 2;
      f(i <= j ? product_row(i, j) : product_row(j, i), second_[e]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      f(first_linear_row + warp::lane() / 4 + 8 * half, first_[half]);
    }
  }

  float second_[4];  // an accumulator of mma.sync: M's columns 8 c .. 8 c + 7, c the column half
  float first_[2];   // m: rows g and g + 8
};

/// y = m + M x / 2 of a chunk's rows [64 x 16].
__device__ inline void start_moment_products(accumulator_tile<16>& y, const operand_slice& x,
                                             const moments_tile& moments) {
  constexpr operand_slice ones = {
      {circulant::two_ones, circulant::two_ones, circulant::two_ones, circulant::two_ones}};
  warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(y, ones, moments, token_halves);
  warpgroup::mma_ABt(y, ones, moments, token_halves + 1);
#pragma unroll
  for (int half = 0; half < token_halves; ++half) warpgroup::mma_ABt(y, x, moments, half);
}

/// Adds x . y of rows g and g + 8 to `sums`, each of a row's four lanes its own columns' part.
__device__ inline void add_moment_weights(float (&sums)[2], const operand_slice& x,
                                          const accumulator_tile<16>& y) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sums[i % 2] += ptx::low_half(x.word[i]) * y.value[2 * i];
    sums[i % 2] += ptx::high_half(x.word[i]) * y.value[2 * i + 1];
  }
}

}  // namespace based
