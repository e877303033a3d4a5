// The angles of rotary positions: pair i of R/2 turns by position base^(-2i/R).
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

#include "kernels/core/error.h"
#include "kernels/models/glue/word.cuh"

namespace based::models {

/// Angles are kept as fractions of a whole turn and in fp64 until what is left of them is less than
/// one, so that they are as exact at position 10^6 as at 1.
class rotation {
 public:
  /// `rotated` elements of a head, a multiple of 16 up to 128, or 0.
  rotation(int rotated, double base) {
    BASED_REQUIRE(rotated >= 0 && rotated % (2 * unit) == 0 && rotated <= 2 * most_pairs,
                  std::to_string(rotated) + " dimensions turn, not a multiple of 16 up to 128");
    for (int i = 0; i < rotated / 2; ++i) {
      turns_[i] = std::pow(base, -2.0 * i / rotated) / (2 * std::numbers::pi);
    }
  }

  /// The angles of the pairs first, first + 1, ...
  /// Called by: one thread
  __device__ void angles(std::int64_t position, int first, float (&sines)[unit],
                         float (&cosines)[unit]) const {
#pragma unroll
    for (int e = 0; e < unit; ++e) {
      const double turn = static_cast<double>(position) * turns_[first + e];
      sincospif(2 * static_cast<float>(turn - rint(turn)), &sines[e], &cosines[e]);
    }
  }

 private:
  static constexpr int most_pairs = 64;
  double turns_[most_pairs] = {};  // of a position
};

}  // namespace based::models
