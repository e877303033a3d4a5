// The device's clock on the wall. PTX ISA, "%globaltimer".
#pragma once

#include <cstdint>

namespace based::ptx {

/// Nanoseconds since a moment that all multiprocessors share.
/// Called by: one thread
__device__ inline std::uint64_t global_nanoseconds() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

}  // namespace based::ptx
