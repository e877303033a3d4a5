// The K-state z of the normalisation, as three moments of the keys instead of 153 features:
//
//   phi_q(q) . z = n + x . (m + M x / 2),   x = scale q,  n = count,  m = sum k,  M = sum k k^T
//
// The state warpgroup keeps m and M in fp32, one accumulator of mma.sync a warp: warps 0 and 1 hold
// the halves of M's columns, warps 2 and 3 both m, as the product with ones. A chunk takes a chain
// of four mma.sync, one ldmatrix serving as both operands of K^T K. They are handed over, rounded,
// beside the state: a tile to be multiplied with [x 1]. M is symmetric, so its accumulators are
// that tile's words with nothing transposed. n is known.
#pragma once

#include <cstdint>

#include "kernels/based/circulant.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/ptx/ldmatrix.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based {

/// Columns 0 to 15: M / 2; columns 16 and 17: m as a bf16 head and its residual; the others are
/// zero. [16 x 32]
using moments_tile = shared_tile<feature_dim, 2 * feature_dim, swizzle::none>;

class key_moments {
 public:
  __device__ void clear() {
#pragma unroll
    for (float& value : sums_) value = 0;
  }

  /// Adds a chunk's keys [64 x 16].
  __device__ void add(const circulant::token_tile& k) {
    const int lane = ptx::opaque(warp::lane());
    const int warp = warpgroup::warp();
    const char* matrices = k.at(lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8);
#pragma unroll
    for (int step = 0; step < k.rows / 16; ++step) {
      std::uint32_t keys[4];  // (tokens, dims) of eight: (0, 0), (0, 1), (1, 0), (1, 1)
      ptx::ldmatrix_x4_trans(keys, matrices + circulant::token_tile::layout::offset(16 * step, 0));
      const std::uint32_t upper = warp == 0 ? keys[0] : warp == 1 ? keys[1] : circulant::two_ones;
      const std::uint32_t lower = warp == 0 ? keys[2] : warp == 1 ? keys[3] : circulant::two_ones;
      ptx::mma_m16n8k16(sums_, keys, upper, lower);
    }
  }

  /// Writes this warp's part of the tile. Without a swizzle a warp's accumulator, eight rows of
  /// eight columns at a time, is in the order of its lanes.
  __device__ void hand_over(moments_tile& tile) const {
    const int warp = warpgroup::warp();
    constexpr int eight_rows = moments_tile::layout::offset(8, 0) / sizeof(std::uint32_t);
    auto* words = reinterpret_cast<std::uint32_t*>(tile.at(0, 0)) +
                  ptx::opaque(warpgroup::thread()) + 32 * warp;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float* row = sums_ + 2 * half;
      if (holds_second()) {
        words[half * eight_rows] = ptx::to_bf16x2(0.5f * row[0], 0.5f * row[1]);
      } else if (writes_first()) {
        const float head = ptx::low_half(ptx::to_bf16x2(row[0], 0));
        words[half * eight_rows] = ptx::to_bf16x2(head, row[0] - head);
      }
    }
  }

  /// From and to z [153] of one head, without the count.
  __device__ void load(const float* z) {
    for_each([&](int i, int j, float& value) {
      value = z[holds_second() ? product_row(min(i, j), max(i, j)) : first_linear_row + i];
    });
  }
  __device__ void store(float* z) {
    for_each([&](int i, int j, float& value) {
      if (holds_second() && i <= j) z[product_row(i, j)] = value;
      if (writes_first() && j % 8 == 0) z[first_linear_row + i] = value;
    });
  }

  /// This warp's part to memory, and from there.
  __device__ void store_part(moment_parts& parts) const {
    parts[warpgroup::warp()][warp::lane()] = {sums_[0], sums_[1], sums_[2], sums_[3]};
  }
  __device__ void add_part(const moment_parts& parts) {
    const float4 part = parts[warpgroup::warp()][warp::lane()];
    sums_[0] += part.x;
    sums_[1] += part.y;
    sums_[2] += part.z;
    sums_[3] += part.w;
  }

 private:
  __device__ static bool holds_second() {
    return warpgroup::warp() < 2;
  }
  /// m is in two warps, the same in every column: one warp's lanes of the first column write it.
  __device__ static bool writes_first() {
    return warpgroup::warp() == 2 && warp::lane() % 4 == 0;
  }

  /// Calls f(row, column, value) for what this lane holds; of m the columns mean nothing.
  template <class Function>
  __device__ void for_each(Function f) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      f(warp::lane() / 4 + e / 2 * 8, 8 * (warpgroup::warp() % 2) + 2 * (warp::lane() % 4) + e % 2,
        sums_[e]);
    }
  }

  float sums_[4];  // rows g and g + 8, columns 2 t and 2 t + 1
};

/// y = m + M x / 2 of a chunk's rows [64 x 16].
__device__ inline void start_moment_products(accumulator_tile<16>& y, const operand_slice& x,
                                             const moments_tile& moments) {
  constexpr operand_slice ones = {
      {circulant::two_ones, circulant::two_ones, circulant::two_ones, circulant::two_ones}};
  warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(y, ones, moments, 1);
  warpgroup::mma_ABt(y, x, moments, 0);
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
