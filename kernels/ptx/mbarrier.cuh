// mbarrier: arrive/wait barriers in shared memory that also count bytes of bulk copies.
// PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier".
#pragma once

#include <cstdint>

namespace based::ptx {

/// The 32-bit address of a pointer into shared memory.
/// Called by: one thread
__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// mbarrier.init: a phase is over after `arrivals`, and the bytes that they announce.
/// Called by: one thread
__device__ inline void mbarrier_init(std::uint64_t* barrier, std::uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
}

/// fence.mbarrier_init: makes the inits visible to the copy engine.
/// Called by: one thread
__device__ inline void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// mbarrier.arrive: one arrival.
/// Called by: one thread
__device__ inline void mbarrier_arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
/// mbarrier.arrive: `count` arrivals.
/// Called by: one thread
__device__ inline void mbarrier_arrive(std::uint64_t* barrier, std::uint32_t count) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(count)
               : "memory");
}

/// mbarrier.arrive.expect_tx: one arrival, and `bytes` more for the phase to wait for.
/// Called by: one thread
__device__ inline void mbarrier_arrive_expect(std::uint64_t* barrier, std::uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

/// mbarrier.try_wait.parity: blocks for a bounded time; true when the phase of `parity` is over.
/// Before sm_90 mbarrier.test_wait.parity, which does not block.
/// Called by: one thread
__device__ inline bool mbarrier_try_wait(std::uint64_t* barrier, std::uint32_t parity) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define BASED_MBARRIER_WAIT "mbarrier.try_wait"
#else
#define BASED_MBARRIER_WAIT "mbarrier.test_wait"
#endif
  std::uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred done;\n" BASED_MBARRIER_WAIT
      ".parity.shared::cta.b64 done, [%1], %2;\n"
      "selp.u32 %0, 1, 0, done;\n"
      "}\n"
      : "=r"(done)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
#undef BASED_MBARRIER_WAIT
  return done != 0;
}

}  // namespace based::ptx
