// The K-state z of the normalisation on mma.sync, as three moments of the keys instead of 153
// features:
//
//   phi_q(q) . z = n + x . (m + M x / 2),   x = scale q,  n = count,  m = sum k,  M = sum k k^T
//
// A warp keeps all three for itself, in fp32. M is symmetric: rounded, its accumulators are the
// right operand of X M with nothing transposed; twice, to a bf16 head and residual.
#pragma once

#include "kernels/common/features.h"
#include "kernels/tile/mma_sync.cuh"

namespace based::sm80 {

class key_moments {
 public:
  /// Adds keys [64 x 16]; all rows count as tokens, even those of zeros.
  template <class Tile>
  __device__ void add(const Tile& k) {
    constexpr std::uint32_t two_ones = 0x3f803f80;  // bf16 {1, 1}
    constexpr operand_slice ones = {{two_ones, two_ones, two_ones, two_ones}};
#pragma unroll
    for (int token = 0; token < Tile::rows; token += 16) {
      const right_slice keys = warp::load_transposed_right(k, token, 0);  // K^T [16 x 16]
      warp::mma_ABt(second_, 0, warp::load_transposed(k, token, 0), keys);
      warp::mma_ABt(first_, 0, ones, keys);
    }
    add_count(Tile::rows);
  }
  __device__ void add_count(int tokens) {
    count_ += static_cast<float>(tokens);
  }

  /// Adds n + x . (m + M x / 2) of rows g and g + 8 of X to `sums`; a row's four lanes a part each.
  __device__ void add_weights(float (&sums)[2], const operand_slice& x) const {
    constexpr float lanes_per_row = 4;
    const operand_slice head = to_bf16(second_, 0);
    accumulator_tile<16> residual;
    accumulator_tile<16> y;  // 2 m + M x of each row x of X
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      residual.value[2 * i] = second_.value[2 * i] - ptx::low_half(head.word[i]);
      residual.value[2 * i + 1] = second_.value[2 * i + 1] - ptx::high_half(head.word[i]);
    }
#pragma unroll
    for (int e = 0; e < y.size; ++e) y.value[e] = 2 * first_.value[e];
    warp::mma_ABt(y, 0, x, warp::as_right(head));
    warp::mma_ABt(y, 0, x, warp::as_right(to_bf16(residual, 0)));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums[i % 2] += 0.5f * (ptx::low_half(x.word[i]) * y.value[2 * i] +
                             ptx::high_half(x.word[i]) * y.value[2 * i + 1]);
    }
    sums[0] += count_ / lanes_per_row;
    sums[1] += count_ / lanes_per_row;
  }

  /// z [153] of one head, in the compact order of features.h. Every warp loads, one stores.
  __device__ void load(const float* z) {
    count_ = z[0];
    for_each([&](int row, float& value) { value = z[row]; });
  }
  __device__ void store(float* z) {
    z[0] = count_;
    for_each([&](int row, float& value) { z[row] = value; });
  }

 private:
  /// Calls f(row of z, value) for what this lane holds; several lanes hold the same.
  template <class Function>
  __device__ void for_each(Function f) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int i = warp::lane() / 4 + e % 4 / 2 * 8;
      const int j = e / 4 * 8 + 2 * (warp::lane() % 4) + e % 2;
      f(i <= j ? product_row(i, j) : product_row(j, i), second_.value[e]);
      f(first_linear_row + j, first_.value[e]);
    }
  }

  accumulator_tile<16> second_ = {};  // M
  accumulator_tile<16> first_ = {};   // m, in every row
  float count_ = 0;
};

}  // namespace based::sm80
