// The K-state z of the normalisation, as three moments of the keys instead of 153 features:
//
//   phi_q(q) . z = n + q . (2 s m + s^2 M q) / 2
//
//   s = scale,  n = count,  m = sum k,  M = sum k k^T
//
// A warpgroup keeps m and M in fp32, as accumulators of mma.sync: warps 0 and 1 hold the
// halves of M's columns, warp 2 m, as the product with ones, warp 3 nothing. One ldmatrix a block
// of sixteen tokens serves as both operands of K^T K. The accumulators are handed over side by
// side, scaled and rounded, as a tile that is multiplied with [q 1/4]. n is known.
#pragma once

#include <cstdint>

#include "kernels/based/kv_state.cuh"
#include "kernels/based/quad_features.cuh"
#include "kernels/ptx/ldmatrix.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based {

/// Columns 0 to 15: s^2 M; columns 16 to 23: s m, eight times; the others are zero. [16 x 32]
using moments_tile = shared_tile<feature_dim, 2 * feature_dim, swizzle::none>;

class key_moments {
 public:
  /// Starts with moments of no keys.
  /// Called by: one warpgroup
  __device__ void clear() {
    const int lane = warp::lane();
    const int row = lane / 16 * 8 + lane % 8;
    const int col = lane / 8 % 2 * 8;
    from_ = warp::pinned(quad::token_tile::layout::offset(row, col ^ 8 * is_right_half()));
    to_ = warp::pinned(
        moments_tile::layout::offset(this->row(0), 8 * warpgroup::warp() + 2 * (lane % 4)));
#pragma unroll
    for (int e = 0; e < 4; ++e) sums_[0][e] = sums_[1][e] = 0;
  }

  /// Adds a chunk's keys [64 x 16]. By turns to two sums, which are not added up before they are
  /// handed over: nothing waits for a product.
  /// Called by: one warpgroup
  __device__ void add(const quad::token_tile& k) {
    if (!holds_second() && !holds_first()) return;
    const char* matrices = k.at(0, 0) + from_;
#pragma unroll
    for (int i = 0; i < k.rows / 16; ++i) {
      // K^T of a block, this warp's half of M first: (dims, tokens) of eight.
      std::uint32_t keys[4];  // (0, 0), (1, 0), (0, 1), (1, 1)
      ptx::ldmatrix_x4_trans(keys, matrices + quad::token_tile::layout::offset(16 * i, 0));
      const std::uint32_t upper = holds_second() ? keys[0] : ptx::two_ones;
      const std::uint32_t lower = holds_second() ? keys[2] : ptx::two_ones;
      ptx::mma_m16n8k16(sums_[i % 2], keys, upper, lower);
    }
  }

  /// Writes the moments, scaled and rounded, to the tile: each warp its part.
  /// Called by: one warpgroup
  __device__ void hand_over(moments_tile& tile, float scale) const {
    const float weight = holds_second() ? scale * scale : scale;
#pragma unroll
    for (int i = 0; i < 2; ++i) {  // the rows differ in a bit of the address
      char* to = tile.at(0, 0) + (to_ ^ moments_tile::layout::offset(8 * i, 0));
      *reinterpret_cast<std::uint32_t*>(to) =
          ptx::to_bf16x2(weight * sum(2 * i), weight * sum(2 * i + 1));
    }
  }

  /// Loads z [153] of one head, without the count, into moments that are clear().
  /// Called by: one warpgroup
  __device__ void load(const float* z) {
    for_each([&](int i, int j, int e) { sums_[0][e] = z[product_row(min(i, j), max(i, j))]; },
             [&](int i, int, int e) { sums_[0][e] = z[first_linear_row + i]; });
  }
  /// Stores the moments in z [153] of one head, without the count.
  /// Called by: one warpgroup
  __device__ void store(float* z) const {
    for_each(
        [&](int i, int j, int e) {
          if (i <= j) z[product_row(i, j)] = sum(e);
        },
        [&](int i, int column, int e) {
          if (column == 0) z[first_linear_row + i] = sum(e);
        });
  }

  /// Stores each warp's part of the moments.
  /// Called by: one warpgroup
  __device__ void store_part(moment_parts& parts) const {
    parts[warpgroup::warp()][warp::lane()] = {sum(0), sum(1), sum(2), sum(3)};
  }
  /// Adds the parts that store_part() has stored.
  /// Called by: one warpgroup
  __device__ void add_part(const moment_parts& parts) {
    const float4 part = parts[warpgroup::warp()][warp::lane()];
    sums_[0][0] += part.x;
    sums_[0][1] += part.y;
    sums_[0][2] += part.z;
    sums_[0][3] += part.w;
  }

 private:
  /// Called by: one thread
  __device__ static bool holds_second() {
    return warpgroup::warp() < 2;
  }
  /// Called by: one thread
  __device__ static bool holds_first() {
    return warpgroup::warp() == 2;
  }
  /// Called by: one thread
  __device__ static bool is_right_half() {
    return warpgroup::warp() == 1;
  }
  /// The dim that is the row of sums 2 i and 2 i + 1.
  /// Called by: one thread
  __device__ static int row(int i) {
    return warp::lane() / 4 + 8 * i ^ 8 * is_right_half();
  }

  /// What this lane holds: columns 2 t and 2 t + 1 of two rows.
  /// Called by: one thread
  __device__ float sum(int e) const {
    return sums_[0][e] + sums_[1][e];
  }

  /// Calls f(i, j, e) where sum(e) is M_ij, or g(i, column, e) where it is m_i.
  /// Called by: one thread
  template <class F, class G>
  __device__ static void for_each(F f, G g) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int column = 2 * (warp::lane() % 4) + e % 2;
      if (holds_second()) f(row(e / 2), column + 8 * is_right_half(), e);
      if (holds_first()) g(row(e / 2), column, e);
    }
  }

  int from_;  // where this lane reads a block of keys: the offset in their tile
  int to_;    // where it hands over
  float sums_[2][4];
};

/// Starts y = 2 s m + s^2 M q of a chunk's rows [64 x 16].
/// Called by: one warpgroup
__device__ inline void start_moment_products(accumulator_tile<16>& y, const operand_slice& q,
                                             const moments_tile& moments) {
  constexpr std::uint32_t quarters = 0x3e803e80;  // bf16 {1/4, 1/4}: of eight m twice the mean
  warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(y, q, moments, 0);
  warpgroup::mma_ABt(y, {quarters, quarters, quarters, quarters}, moments, 1);
}

/// Sums up the halves of a left operand's rows. [8 x 16]
using halves_tile = shared_tile<8, feature_dim, swizzle::none>;

/// The sums of rows g and g + 8, each twice in every lane. [64 x 8]
using row_sums = accumulator_tile<8>;

/// Starts the sums q . y / 2 of a chunk's rows.
/// Called by: one warpgroup
__device__ inline void start_summing_moments(row_sums& sums, const operand_slice& q,
                                             const accumulator_tile<16>& y,
                                             const halves_tile& halves) {
  operand_slice products = to_bf16(y, 0);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    products.word[i] = ptx::multiply_bf16x2(products.word[i], q.word[i]);
  }
  warpgroup::mma_fence();
  warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(sums, products, halves, 0);
  warpgroup::mma_commit();
}

}  // namespace based
