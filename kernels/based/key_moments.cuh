// The K-state z of the normalisation, as three moments of the keys instead of 153 features:
//
//   phi_q(q) . z = n + x . m + x^T M x / 2,   x = scale q,  n = count,  m = sum k,  M = sum k k^T
//
// Each warp keeps all three in fp32 for itself: M [16 x 16] as two accumulators of mma.sync, built
// from K^T K with one ldmatrix serving as both operands. M is symmetric, so its accumulators are,
// rounded, the B operand of x M with nothing moved; they are rounded twice, to a bf16 head and a
// bf16 residual, which keeps sixteen bits.
#pragma once

#include <cstdint>

#include "kernels/based/circulant.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/ptx/ldmatrix.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based {

class key_moments {
 public:
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 8; ++i) second_[i / 4][i % 4] = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) first_[i / 2][i % 2] = 0;
    count_ = 0;
  }

  /// Adds a chunk's keys, and all its tokens to the count.
  __device__ void add(const circulant::token_tile& k) {
    constexpr std::uint32_t ones[4] = {circulant::two_ones, circulant::two_ones,
                                       circulant::two_ones, circulant::two_ones};
    const int lane = warp::lane();
    const char* matrices = k.at(lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8);
#pragma unroll
    for (int step = 0; step < k.rows / 16; ++step) {
      std::uint32_t keys[4];  // (tokens, dims) of eight: (0, 0), (0, 1), (1, 0), (1, 1)
      ptx::ldmatrix_x4_trans(keys, matrices + circulant::token_tile::layout::offset(16 * step, 0));
#pragma unroll
      for (int block = 0; block < 2; ++block) {
        ptx::mma_m16n8k16(second_[block], keys, keys[block], keys[2 + block]);
        float equal_rows[4] = {first_[block][0], first_[block][1],  //
                               first_[block][0], first_[block][1]};
        ptx::mma_m16n8k16(equal_rows, ones, keys[block], keys[2 + block]);
        first_[block][0] = equal_rows[0];
        first_[block][1] = equal_rows[1];
      }
    }
    add_count(k.rows);
  }

  /// Adds n + x . m + x^T M x / 2 of rows g and g + 8 to `sums`; a row's four lanes a part each.
  __device__ void add_weights(float (&sums)[2], const operand_slice& x) const {
    constexpr float lanes_of_row = 4;
    sums[0] += count_ / lanes_of_row;
    sums[1] += count_ / lanes_of_row;
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      float y[4] = {2 * first_[block][0], 2 * first_[block][1],  //
                    2 * first_[block][0], 2 * first_[block][1]};
      std::uint32_t head[2], residual[2];  // M's rows of `block`, columns 0..7 and 8..15
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float low = second_[half][2 * block], high = second_[half][2 * block + 1];
        head[half] = ptx::to_bf16x2(low, high);
        residual[half] =
            ptx::to_bf16x2(low - ptx::low_half(head[half]), high - ptx::high_half(head[half]));
      }
      ptx::mma_m16n8k16(y, x.word, head[0], head[1]);
      ptx::mma_m16n8k16(y, x.word, residual[0], residual[1]);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const std::uint32_t word = x.word[2 * block + row];
        sums[row] +=
            0.5f * (ptx::low_half(word) * y[2 * row] + ptx::high_half(word) * y[2 * row + 1]);
      }
    }
  }
  __device__ float count() const {
    return count_;
  }

  /// z [153] of one head, in the compact order of features.h.
  __device__ void load(const float* z) {
    for_each_pair([&](int i, int j, float& value) { value = z[pair_row(i, j)]; });
    for_each_first([&](int i, float& value) { value = z[first_linear_row + i]; });
    count_ = z[0];
  }
  __device__ void store(float* z) {
    for_each_pair([&](int i, int j, float& value) {
      if (i <= j) z[pair_row(i, j)] = value;
    });
    if (warp::lane() < 4)
      for_each_first([&](int i, float& value) { z[first_linear_row + i] = value; });
    if (warp::lane() == 0) z[0] = count_;
  }

  /// A segment's part, without the count.
  __device__ void store_partial(segment_partial& partial) const {
    const int lane = warp::lane();
    partial.moments[0][lane] = {second_[0][0], second_[0][1], second_[0][2], second_[0][3]};
    partial.moments[1][lane] = {second_[1][0], second_[1][1], second_[1][2], second_[1][3]};
    partial.moments[2][lane] = {first_[0][0], first_[0][1], first_[1][0], first_[1][1]};
  }
  __device__ void add_partial(const segment_partial& partial) {
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      const float4 second = partial.moments[block][warp::lane()];
      second_[block][0] += second.x;
      second_[block][1] += second.y;
      second_[block][2] += second.z;
      second_[block][3] += second.w;
    }
    const float4 first = partial.moments[2][warp::lane()];
    first_[0][0] += first.x;
    first_[0][1] += first.y;
    first_[1][0] += first.z;
    first_[1][1] += first.w;
  }
  __device__ void add_count(int tokens) {
    count_ += static_cast<float>(tokens);
  }

 private:
  __device__ static int pair_row(int i, int j) {
    return i <= j ? product_row(i, j) : product_row(j, i);
  }
  template <class Function>
  __device__ void for_each_pair(Function f) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int row = warp::lane() / 4 + e % 4 / 2 * 8;
      const int col = e / 4 * 8 + 2 * (warp::lane() % 4) + e % 2;
      f(row, col, second_[e / 4][e % 4]);
    }
  }
  template <class Function>
  __device__ void for_each_first(Function f) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      f(e / 2 * 8 + 2 * (warp::lane() % 4) + e % 2, first_[e / 2][e % 2]);
    }
  }

  float second_[2][4];  // M: accumulators of columns 0..7 and 8..15
  float first_[2][2];   // m, columns 2 t and 2 t + 1 of every eight
  float count_;
};

}  // namespace based
