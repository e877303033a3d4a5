// A value that the optimiser knows nothing about: what follows from it is computed where it is
// used, not ahead of a loop, where it would occupy a register throughout. No instruction.
#pragma once

namespace based::ptx {

/// Called by: one thread
template <class T>
__device__ inline T opaque(T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (sizeof(T) == 4) {
    asm volatile("" : "+r"(value));
  } else {
    asm volatile("" : "+l"(value));
  }
  return value;
}

/// Keeps what uses an asynchronous instruction's result from being moved ahead of this place.
/// Called by: one thread
__device__ inline void is_written_by_now(float& result) {
  asm volatile("" : "+f"(result)::"memory");
}

}  // namespace based::ptx
