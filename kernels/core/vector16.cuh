// 16-byte words of bf16 or fp32 in global or shared memory, as fp32 in registers.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/core/bf16.h"

namespace based {

/// Elements of T in a 16-byte word.
template <class T>
inline constexpr int vector16 = sizeof(uint4) / sizeof(T);

/// Called by: one thread
__device__ inline void unpack(const uint4& word, float (&values)[vector16<bf16>]) {
  const std::uint32_t pairs[] = {word.x, word.y, word.z, word.w};
#pragma unroll
  for (int p = 0; p < vector16<bf16> / 2; ++p) {
    values[2 * p] = __uint_as_float(pairs[p] << 16);
    values[2 * p + 1] = __uint_as_float(pairs[p] & 0xffff0000u);
  }
}
/// Called by: one thread
__device__ inline void unpack(const uint4& word, float (&values)[vector16<float>]) {
  values[0] = __uint_as_float(word.x);
  values[1] = __uint_as_float(word.y);
  values[2] = __uint_as_float(word.z);
  values[3] = __uint_as_float(word.w);
}

/// Called by: one thread
__device__ inline uint4 pack(const float (&values)[vector16<bf16>]) {
  uint4 word;
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(&word);
#pragma unroll
  for (int p = 0; p < vector16<bf16> / 2; ++p) {
    pairs[p] = __floats2bfloat162_rn(values[2 * p], values[2 * p + 1]);
  }
  return word;
}
/// Called by: one thread
__device__ inline uint4 pack(const float (&values)[vector16<float>]) {
  return {__float_as_uint(values[0]), __float_as_uint(values[1]), __float_as_uint(values[2]),
          __float_as_uint(values[3])};
}

/// The word at `from`, which is 16-byte aligned.
/// Called by: one thread
template <class T>
__device__ uint4 load_word(const T* from) {
  return *reinterpret_cast<const uint4*>(from);
}
/// Called by: one thread
template <class T>
__device__ void store_word(T* to, const uint4& word) {
  *reinterpret_cast<uint4*>(to) = word;
}

}  // namespace based
