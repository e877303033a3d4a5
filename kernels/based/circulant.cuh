// Building the circulant feature map (circulant.h) on the device: phi(q) as operands in registers,
// phi(k) as a tile in shared memory.
#pragma once

#include <cstdint>

#include "kernels/based/circulant.h"
#include "kernels/ptx/opaque.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::circulant {

using token_tile = shared_tile<64, feature_dim, swizzle::bytes32>;  // q or k of a chunk [64 x 16]
using feature_tile = shared_tile<64, slots, swizzle::bytes32>;      // phi(k)            [64 x 160]

inline constexpr std::uint32_t two_halves = 0x3f003f00;  // bf16 {0.5, 0.5}
inline constexpr std::uint32_t two_ones = 0x3f803f80;    // bf16 {1, 1}

using ptx::multiply_bf16x2;

/// Words `first`, `first` + 1, .. of x rotated by `distance`, from x's words in a circle.
template <int Words>
__device__ inline std::uint32_t rotated(const std::uint32_t (&x)[Words], int first, int distance) {
  const std::uint32_t word = x[(first + distance / 2) % Words];
  if (distance % 2 == 0) return word;
  constexpr std::uint32_t high_then_low = 0x5432;
  return __byte_perm(word, x[(first + distance / 2 + 1) % Words], high_then_low);
}

/// A factor of bf16 values. One that is no bf16 is a head and a residual, so that a product is
/// rounded once, as if it had been made in fp32; one that is, such as 1/4, costs one product a
/// word.
class scale_factor {
 public:
  __device__ explicit scale_factor(float scale) {
    head_ = ptx::to_bf16x2(scale, scale);
    const float rest = scale - ptx::low_half(head_);
    residual_ = ptx::to_bf16x2(rest, rest);
  }

  /// Two products, whatever the factor.
  __device__ std::uint32_t operator()(std::uint32_t word) const {
    return ptx::fma_bf16x2(word, head_, multiply_bf16x2(word, residual_));
  }

  template <int Words>
  __device__ void multiply(std::uint32_t (&to)[Words], const std::uint32_t (&from)[Words]) const {
    if (residual_ == 0) {
#pragma unroll
      for (int i = 0; i < Words; ++i) to[i] = multiply_bf16x2(from[i], head_);
    } else {
#pragma unroll
      for (int i = 0; i < Words; ++i) to[i] = (*this)(from[i]);
    }
  }

 private:
  std::uint32_t head_, residual_;
};

inline constexpr int query_words = feature_dim / 2;  ///< of a row of queries

/// Slots of a slice of phi(x) from a thread's rows g and g + 8, upper and lower, of scaled queries:
/// word i holds columns 2 t + 2 i and 2 t + 2 i + 1 (mod 16). `slice` is to be a constant after
/// unrolling. The squares have their weight 1/2 where `WeighsSquares`.
template <bool WeighsSquares>
__device__ inline operand_slice query_slice(const std::uint32_t (&upper)[query_words],
                                            const std::uint32_t (&lower)[query_words], int slice) {
  if (slice == linear_slice) return {upper[0], lower[0], upper[4], lower[4]};
  const auto product = [&](const std::uint32_t(&x)[query_words], int first) {
    const bool halves = WeighsSquares && slice == 0;
    const std::uint32_t weighted = halves ? multiply_bf16x2(x[first], two_halves) : x[first];
    return multiply_bf16x2(weighted, rotated(x, first, slice));
  };
  if (slice == opposite_slice) {
    const std::uint32_t constant = warp::lane() % 4 == 0 ? two_ones : 0;
    return {product(upper, 0), product(lower, 0), constant, constant};
  }
  return {product(upper, 0), product(lower, 0), product(upper, 4), product(lower, 4)};
}

/// phi(scale q) of a chunk [64 x 160]: a thread keeps the sixteen scaled values of its rows g and
/// g + 8, rotated by its own column 2 t, and multiplies a slice out when it is asked for.
class query_features {
 public:
  static constexpr int words = query_words;

  __device__ query_features() {
    const int row = 16 * warpgroup::warp() + warp::lane() / 4;
    const int col = 2 * (warp::lane() % 4);
#pragma unroll
    for (int i = 0; i < words / 2; ++i) {
      offsets_[i] = warp::pinned(token_tile::layout::offset(row, (col + 2 * i) % feature_dim));
    }
  }

  /// Reads a chunk's queries; the slices stay those of the chunk before until use_fetched().
  __device__ void fetch(const token_tile& q) {
    constexpr int eight_rows = token_tile::layout::offset(8, 0);
    const auto load = [&](int offset) {
      return *reinterpret_cast<const std::uint32_t*>(q.at(0, 0) + offset);
    };
#pragma unroll
    for (int i = 0; i < words / 2; ++i) {
      // The columns' bits are XORed into those of the row; eight columns on is one more bit.
      const int near = offsets_[i];
      const int far = near ^ token_tile::layout::offset(0, feature_dim / 2);
      fetched_upper_[i] = load(near);
      fetched_lower_[i] = load(near + eight_rows);
      fetched_upper_[i + words / 2] = load(far);
      fetched_lower_[i + words / 2] = load(far + eight_rows);
    }
  }

  /// Moves on to the fetched queries: no product that reads a slice may be in flight.
  __device__ void use_fetched(const scale_factor& scale) {
    scale.multiply(upper_, fetched_upper_);
    scale.multiply(lower_, fetched_lower_);
  }

  __device__ operand_slice slice(int slice) const {
    return query_slice<true>(upper_, lower_, slice);
  }

 private:
  int offsets_[words / 2];
  std::uint32_t fetched_upper_[words];  // not yet scaled
  std::uint32_t fetched_lower_[words];
  std::uint32_t upper_[words];  // as query_slice() takes them
  std::uint32_t lower_[words];
};

/// phi(k): each thread of a warpgroup writes half a token's slots of every slice.
__device__ inline void store_key_features(feature_tile& features, const token_tile& k) {
  constexpr int half_words = feature_dim / 4;
  const int token = warpgroup::thread() / 2;
  const int half = warpgroup::thread() % 2;
  // Of this thread's half of the token in k, and of its eight slots in each slice: tiles alike.
  const int offset = ptx::opaque(token_tile::layout::offset(token, half * slice_slots / 2));

  const uint4 own = *reinterpret_cast<const uint4*>(k.at(0, 0) + offset);
  const uint4 other = *reinterpret_cast<const uint4*>(
      k.at(0, 0) + (offset ^ token_tile::layout::offset(0, slice_slots / 2)));
  const std::uint32_t x[2 * half_words] = {own.x,   own.y,   own.z,   own.w,
                                           other.x, other.y, other.z, other.w};
  const auto store = [&](int slice, uint4 words) {
    *reinterpret_cast<uint4*>(features.at(0, slice * slice_slots) + offset) = words;
  };
#pragma unroll
  for (int s = 0; s < opposite_slice; ++s) {
    store(s,
          uint4{multiply_bf16x2(x[0], rotated(x, 0, s)), multiply_bf16x2(x[1], rotated(x, 1, s)),
                multiply_bf16x2(x[2], rotated(x, 2, s)), multiply_bf16x2(x[3], rotated(x, 3, s))});
  }
  const uint4 opposite = {multiply_bf16x2(x[0], x[4]), multiply_bf16x2(x[1], x[5]),
                          multiply_bf16x2(x[2], x[6]), multiply_bf16x2(x[3], x[7])};
  const uint4 constant = {two_ones, 0, 0, 0};
  store(opposite_slice, half == 0 ? opposite : constant);
  store(linear_slice, own);
}

}  // namespace based::circulant
