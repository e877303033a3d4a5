// shfl.sync.bfly: sums and maxima over lanes of a warp.
// PTX ISA, "Data Movement and Conversion Instructions: shfl.sync".
#pragma once

#include <cuda_runtime.h>

#include "kernels/core/warp_size.h"

namespace based::ptx {

/// The sum over the lanes whose numbers differ in bits First, 2 * First, ... < Last, in each of
/// them. Without bounds: over the warp.
/// Called by: one warp
template <int First = 1, int Last = warp_size>
__device__ inline float sum_over_lanes(float value) {
#pragma unroll
  for (int bit = First; bit < Last; bit *= 2) value += __shfl_xor_sync(~0u, value, bit);
  return value;
}

/// The largest value of these lanes, in each of them.
/// Called by: one warp
template <int First = 1, int Last = warp_size>
__device__ inline float maximum_over_lanes(float value) {
#pragma unroll
  for (int bit = First; bit < Last; bit *= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, bit));
  }
  return value;
}

}  // namespace based::ptx
