// Flags in global memory by which CTAs hand data to others. PTX ISA, "ld", "st", "Memory
// Consistency Model".
#pragma once

#include <cstdint>

namespace based::ptx {

/// st.release.gpu: a thread of any CTA that loads the value by load_acquire() sees what this thread
/// wrote, or saw written before a barrier.
/// Called by: one thread
__device__ inline void store_release(std::uint32_t* flag, std::uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}

/// ld.acquire.gpu: what was written before the store of the value that it finds is seen after it.
/// Called by: one thread
__device__ inline std::uint32_t load_acquire(const std::uint32_t* flag) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}

}  // namespace based::ptx
