// The K-state z of the normalisation on mma.sync, as three moments of the keys instead of 153
// features:
//
//   phi_q(q) . z = n + x . (m + M x / 2),   x = scale q,  n = count,  m = sum k,  M = sum k k^T
//
// A warp keeps all three for itself, in fp32. M is symmetric: rounded, its accumulators are the
// right operand of X M with nothing transposed.
#pragma once

#include "kernels/based/features.h"
#include "kernels/tile/mma_sync.cuh"

namespace based::sm80 {

class key_moments {
 public:
  /// Adds keys [64 x 16]; all rows count as tokens, even those of zeros.
  /// Called by: one warp
  template <class Tile>
  __device__ void add(const Tile& k) {
#pragma unroll
    for (int token = 0; token < Tile::rows; token += 16) {
      const operand_slice keys = warp::load_transposed(k, token, 0);  // K^T [16 x 16]
      warp::mma_ABt(second_, 0, keys, warp::as_right(keys));
      ptx::mma_m16n8k16(first_, keys.word, ptx::two_ones, ptx::two_ones);
    }
    add_count(Tile::rows);
  }
  /// Called by: one thread
  __device__ void add_count(int tokens) {
    count_ += static_cast<float>(tokens);
  }

  /// Adds n + x . (m + M x / 2) of rows g and g + 8 of X to `sums`; a row's four lanes a part each.
  /// Called by: one warp
  __device__ void add_weights(float (&sums)[2], const operand_slice& x) const {
    constexpr float lanes_per_row = 4;
    accumulator_tile<16> y;  // 2 m + M x of each row x of X
#pragma unroll
    for (int e = 0; e < y.size; ++e) {
      const int dim_lane = 4 * (2 * (warp::lane() % 4) + e % 2);  // of the column's dim mod 8
      y.value[e] = 2 * __shfl_sync(~0u, first_[e / 4 * 2], dim_lane);
    }
    warp::mma_ABt(y, 0, x, warp::as_right(to_bf16(second_, 0)));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums[i % 2] += 0.5f * (ptx::low_half(x.word[i]) * y.value[2 * i] +
                             ptx::high_half(x.word[i]) * y.value[2 * i + 1]);
    }
    sums[0] += count_ / lanes_per_row;
    sums[1] += count_ / lanes_per_row;
  }

  /// Loads z [153] of one head, in the compact order of features.h. Every warp loads, one stores.
  /// Called by: one warp
  __device__ void load(const float* z) {
    count_ = z[0];
    for_each([&](int row, float& value) { value = z[row]; });
  }
  /// Called by: one warp
  __device__ void store(float* z) {
    z[0] = count_;
    for_each([&](int row, float& value) { z[row] = value; });
  }

 private:
  /// Calls f(row of z, value) for what this lane holds; a value may be in several lanes.
  /// Called by: one thread
  template <class Function>
  __device__ void for_each(Function f) {
#pragma unroll
    for (int e = 0; e < second_.size; ++e) {
      const int i = warp::lane() / 4 + e % 4 / 2 * 8;
      const int j = e / 4 * 8 + 2 * (warp::lane() % 4) + e % 2;
      f(i <= j ? product_row(i, j) : product_row(j, i), second_.value[e]);
      if (e < 4) f(first_linear_row + i, first_[e]);
    }
  }

  accumulator_tile<16> second_ = {};  // M [16 x 16]
  float first_[4] = {};               // m, in each of eight columns [16 x 8]
  float count_ = 0;
};

}  // namespace based::sm80
