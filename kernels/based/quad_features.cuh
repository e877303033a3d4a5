// Building the feature map of quad_map.h on the device: phi(q) as operands in registers, phi(k) as
// a tile in shared memory.
#pragma once

#include <cstdint>

#include "kernels/based/quad_map.h"
#include "kernels/based/scale_factor.cuh"
#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::quad {

using token_tile = shared_tile<64, feature_dim, swizzle::bytes32>;  // q or k of a chunk [64 x 16]
using feature_tile = shared_tile<64, slots, swizzle::bytes32>;      // phi(k)            [64 x 160]

/// The four dims of a group in two words.
struct group_words {
  std::uint32_t first, second;
};

/// Called by: one thread
__device__ inline std::uint32_t picked(pick which, const group_words& group) {
  switch (which) {
    case pick::first:
      return group.first;
    case pick::second:
      return group.second;
    case pick::swapped_first:
      return ptx::swapped_halves(group.first);
    case pick::swapped_second:
      return ptx::swapped_halves(group.second);
    case pick::lows:
      return ptx::low_halves(group.first, group.second);
    case pick::highs:
      return ptx::high_halves(group.first, group.second);
  }
  return 0;
}

/// phi(q) of a chunk [64 x 160]: a thread reads the dims of its own group in rows g and g + 8,
/// later those of the next and the opposite one, and multiplies a slice out when it is asked for.
class query_features {
 public:
  /// Called by: one warp
  __device__ query_features() {
    const int row = 16 * warpgroup::warp() + warp::lane() / 4;
#pragma unroll
    for (int distance = 0; distance < groups; ++distance) {
      const int dim = picked_dim(pick::first, warp::lane() + distance, 0);
      offsets_[distance] = warp::pinned(token_tile::layout::offset(row, dim));
    }
  }

  /// Moves on to a chunk and reads its own groups, all that the first `own_slices` need. No product
  /// that reads them may be in flight.
  /// Called by: one thread
  __device__ void start(const token_tile& q) {
    own_ = load(q, 0);
  }

  /// Reads the other groups of the chunk that start() has begun.
  /// Called by: one thread
  __device__ void finish(const token_tile& q) {
    next_ = load(q, 1);
    opposite_ = load(q, 2);
  }

  /// The chunk's q [64 x 16] as an operand.
  /// Called by: one thread
  __device__ const operand_slice& q() const {
    return own_;
  }

  /// A slice of phi(q); `slice` is to be a constant after unrolling.
  /// Called by: one thread
  __device__ operand_slice slice(int slice) const {
    return {word(2 * slice, 0), word(2 * slice, 1), word(2 * slice + 1, 0), word(2 * slice + 1, 1)};
  }

 private:
  static constexpr int groups = 3;

  /// A group's words of rows g and g + 8, in the order of an operand.
  /// Called by: one thread
  __device__ operand_slice load(const token_tile& q, int distance) const {
    constexpr int eight_rows = token_tile::layout::offset(8, 0);
    const auto at = [&](int offset) {
      return *reinterpret_cast<const std::uint32_t*>(q.at(0, 0) + offset);
    };
    // Eight columns on is one more bit.
    const int first = offsets_[distance], second = first ^ token_tile::layout::offset(0, 8);
    return {at(first), at(first + eight_rows), at(second), at(second + eight_rows)};
  }

  /// Word `index` of phi(q) in row g (`row` 0) or row g + 8 (`row` 1).
  /// Called by: one thread
  __device__ std::uint32_t word(int index, int row) const {
    const auto group = [&](int distance) -> group_words {
      const operand_slice& words = distance == 0 ? own_ : distance == 1 ? next_ : opposite_;
      return {words.word[row], words.word[2 + row]};
    };
    const word_recipe word = recipe(index);
    const group_words own = group(0), other = group(word.distance);
    switch (word.kind) {
      case word_kind::linear:
        return picked(word.left, own);
      case word_kind::constant:
        return warp::lane() % lanes == 0 ? ptx::two_ones : 0;
      case word_kind::diagonal: {
        const bool is_first = warp::lane() % lanes < lanes / 2;
        return ptx::multiply_bf16x2(is_first ? own.first : own.second,
                                    is_first ? other.first : other.second);
      }
      case word_kind::product:
        break;
    }
    return ptx::multiply_bf16x2(picked(word.left, own), picked(word.right, other));
  }

  int offsets_[groups];
  operand_slice own_, next_, opposite_;
};

/// Stores phi(k) with its weights. A thread works on one token: the first two warps write
/// eight slots of each slice, the other two the other eight.
/// Called by: one warpgroup
__device__ inline void store_key_features(feature_tile& features, const token_tile& k, float scale,
                                          int warp) {
  constexpr int eight_columns = token_tile::layout::offset(0, 8);
  const int token = warpgroup::thread() % token_tile::rows;
  // The offsets of a token's left and right eight columns, in k and in each slice of the features:
  // both tiles are laid out alike.
  const int left = ptx::opaque(token_tile::layout::offset(token, 0));
  const int right = left ^ eight_columns;
  const auto load = [&](int offset) {
    return *reinterpret_cast<const uint4*>(k.at(0, 0) + offset);
  };
  const uint4 firsts = load(left), seconds = load(right);
  const scale_factor scaled(scale);
  const group_words groups[lanes] = {{scaled(firsts.x), scaled(seconds.x)},
                                     {scaled(firsts.y), scaled(seconds.y)},
                                     {scaled(firsts.z), scaled(seconds.z)},
                                     {scaled(firsts.w), scaled(seconds.w)}};
  const auto word = [&](int index, int lane) -> std::uint32_t {
    const word_recipe word = recipe(index, lane);
    const group_words &own = groups[lane], &other = groups[(lane + word.distance) % lanes];
    if (word.kind == word_kind::linear) return picked(word.left, own);
    if (word.kind == word_kind::constant) return lane == 0 ? ptx::two_ones : 0;
    const std::uint32_t product =
        ptx::multiply_bf16x2(picked(word.left, own), picked(word.right, other));
    return word.is_square() ? ptx::multiply_bf16x2(product, ptx::two_halves) : product;
  };
  const auto store_half = [&](int half, int offset) {
#pragma unroll
    for (int slice = 0; slice < slices; ++slice) {
      const int index = 2 * slice + half;
      *reinterpret_cast<uint4*>(features.at(0, slice * slice_slots) + offset) = {
          word(index, 0), word(index, 1), word(index, 2), word(index, 3)};
    }
  };
  if (warp < warpgroup::warps / 2) {
    store_half(0, left);
  } else {
    store_half(1, right);
  }
}

}  // namespace based::quad
