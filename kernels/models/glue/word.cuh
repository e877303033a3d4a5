// What the kernels between products and mixers share: a thread's unit of work is eight neighbouring
// elements, a 16-byte word of bf16 or two of fp32.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/core/error.h"
#include "kernels/core/vector16.cuh"

namespace based::models {

inline constexpr int unit = vector16<bf16>;

/// Called by: one thread
__device__ inline void load_unit(const float* from, float (&to)[unit]) {
  const float4 left = *reinterpret_cast<const float4*>(from);
  const float4 right = *reinterpret_cast<const float4*>(from + 4);
  to[0] = left.x, to[1] = left.y, to[2] = left.z, to[3] = left.w;
  to[4] = right.x, to[5] = right.y, to[6] = right.z, to[7] = right.w;
}

/// The grid in which each block has as many of the items.
inline unsigned blocks_for(std::int64_t items, std::int64_t of_block) {
  const std::int64_t blocks = (items + of_block - 1) / of_block;
  BASED_REQUIRE(blocks <= std::numeric_limits<std::int32_t>::max(), "too many rows for one grid");
  return static_cast<unsigned>(blocks);
}

}  // namespace based::models
