// What the rules of variants (variants.h) ask about a GPU. Host-includable, without a CUDA header.
#pragma once

#include "kernels/core/hopper.h"

namespace based {

struct card {
  int multiprocessors;
  int major;  ///< of the compute capability
  int minor;

  constexpr bool is_hopper() const { return major == 9 && minor == 0; }
  bool operator==(const card&) const = default;
};

/// The card that is assumed where there is none, so that shapes can be asked about.
inline constexpr card h200 = {hopper::h200_multiprocessors, 9, 0};

}  // namespace based
