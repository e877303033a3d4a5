// Asynchronous 16-byte copies from global to shared memory, and their groups (sm_80).
// PTX ISA, "Data Movement and Conversion Instructions: cp.async", "cp.async.commit_group" and
// "cp.async.wait_group".
#pragma once

#include <cstdint>

namespace based::ptx {

/// Copies 16 bytes past L1; where `!valid`, fills them with zeros and does not read `global`.
/// Called by: one thread
__device__ inline void cp_async_16(void* shared, const void* global, bool valid) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}

/// Closes the group of this thread's copies since the last commit; it may be empty.
/// Called by: one thread
__device__ inline void cp_async_commit() {
  asm volatile("cp.async.commit_group;" : : : "memory");
}

/// Waits until at most the `Pending` latest groups of this thread are unfinished.
/// Called by: one thread
template <int Pending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(Pending) : "memory");
}

}  // namespace based::ptx
