// Counter-based random inputs: value i of a tensor is a pure function of (seed, tensor, i), with
// the same bits on the CPU and the GPU, so every implementation of a shape sees the same inputs and
// any part of them can be made again for verification.
#pragma once

#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/core/tensor_view.h"

namespace based {

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection that mixes all 64 bits.
BASED_HOST_DEVICE constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// Names one tensor's stream of values: near-normal with mean 0, log-uniform, or uniform indices.
struct random_stream {
  std::uint64_t key;
  float stddev;
  std::uint16_t least = 0, largest = 0;  ///< log-uniform: the bits of both ends in bf16
  std::uint32_t below = 0;               ///< not 0: indices, less than this

  constexpr random_stream(std::uint64_t seed, std::uint64_t tensor, float stddev_)
      : key(mix64(seed ^ mix64(tensor))), stddev(stddev_) {}

  /// Values between two of one sign, least in magnitude first, whose logarithms are near-uniform:
  /// within a power of two the values themselves are uniform.
  static constexpr random_stream log_uniform(std::uint64_t seed, std::uint64_t tensor, float least,
                                             float largest) {
    random_stream stream(seed, tensor, 0);
    stream.least = to_bf16(least).bits;
    stream.largest = to_bf16(largest).bits;
    return stream;
  }

  /// Indices 0 .. below - 1, each as likely; `below` is at most 2^24, so that a float holds them.
  static constexpr random_stream indices(std::uint64_t seed, std::uint64_t tensor,
                                         std::uint32_t below) {
    random_stream stream(seed, tensor, 0);
    stream.below = below;
    return stream;
  }

  /// Value i, rounded to bf16 (but an index), so that fp32 and bf16 implementations read one
  /// number. Integer arithmetic, for normal values (the sum of four uniform 16-bit integers) up to
  /// one exact conversion and one rounded product, hence the same bits everywhere.
  BASED_HOST_DEVICE constexpr float operator()(std::int64_t i) const {
    const std::uint64_t bits = mix64(key + static_cast<std::uint64_t>(i));
    if (below != 0) return static_cast<float>((bits >> 32) * below >> 32);
    if (least != largest) {
      const std::uint64_t steps = largest - least + 1u;
      return to_float(bf16{static_cast<std::uint16_t>(least + ((bits >> 32) * steps >> 32))});
    }
    const std::int32_t sum = static_cast<std::int32_t>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                                       ((bits >> 32) & 0xffff) + (bits >> 48));
    constexpr std::int32_t mean = 2 * 0xffff;
    constexpr float unit = 2.642897e-5f;  // 1 / sqrt(4 (2^32 - 1) / 12), the sum's deviation
    return to_float(to_bf16(static_cast<float>(sum - mean) * (unit * stddev)));
  }
};

}  // namespace based
