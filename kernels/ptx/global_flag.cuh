// Flags in global memory by which CTAs hand data to others. PTX ISA, "ld", "st", "Memory
// Consistency Model".
#pragma once

#include <cstdint>

namespace based::ptx {

/// st.release.gpu: what this thread wrote, or saw written before a barrier, is there for who loads
/// the value.
__device__ inline void store_release(std::uint32_t* flag, std::uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}

/// ld.acquire.gpu
__device__ inline std::uint32_t load_acquire(const std::uint32_t* flag) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}

}  // namespace based::ptx
