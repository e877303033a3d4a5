// How many blocks a grid can have.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/core/implementation.h"

namespace based {

/// Why a grid of so many blocks cannot be launched; empty: it can.
inline unsupported_reason unsupported_grid(std::int64_t blocks) {
  if (blocks <= std::numeric_limits<std::int32_t>::max()) return {};
  return "more than 2^31 blocks";
}

}  // namespace based
