// Fences, named barriers, election, register budgets and dependent launch.
#pragma once

#include <cstdint>

namespace based::ptx {

/// fence.proxy.async: orders ordinary shared-memory accesses before it, this thread's and those
/// that it has waited for, before what wgmma and the copy engine do after it: what this thread
/// starts, or another after a barrier. PTX ISA, "membar / fence" and "Causality Order".
/// Called by: one thread
__device__ inline void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// barrier.cta.sync on named barrier `Id`, among the warps of `Threads` threads. PTX ISA, "bar,
/// barrier".
/// Called by: one warp
template <int Id, int Threads>
__device__ inline void named_barrier_sync() {
  asm volatile("bar.sync %0, %1;" ::"n"(Id), "n"(Threads) : "memory");
}

/// barrier.cta.sync on a barrier whose number is known at run time only: the compiler then takes
/// all sixteen for the block.
/// Called by: one warp
template <int Threads>
__device__ inline void named_barrier_sync(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(Threads) : "memory");
}
/// barrier.cta.red.and: whether `predicate` holds in all of `Threads` threads.
/// Called by: one warp
template <int Threads>
__device__ inline bool named_barrier_all(int id, bool predicate) {
  std::uint32_t all;
  asm volatile(
      "{\n"
      ".reg .pred mine, all;\n"
      "setp.ne.u32 mine, %3, 0;\n"
      "bar.red.and.pred all, %1, %2, mine;\n"
      "selp.u32 %0, 1, 0, all;\n"
      "}\n"
      : "=r"(all)
      : "r"(id), "n"(Threads), "r"(static_cast<std::uint32_t>(predicate))
      : "memory");
  return all != 0;
}

/// elect.sync: true in one lane of a converged warp, always the same one. PTX ISA, "elect.sync".
/// Called by: one warp
__device__ inline bool elect_lane() {
  std::uint32_t elected;
  asm volatile(
      "{\n"
      ".reg .pred elected;\n"
      "elect.sync _|elected, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, elected;\n"
      "}\n"
      : "=r"(elected));
  return elected != 0;
}

/// setmaxnreg.inc: waits until the block has as many registers to spare, and takes them, so that
/// each thread of this warpgroup has `Registers`. PTX ISA, "setmaxnreg".
/// Called by: one warpgroup
template <int Registers>
__device__ inline void increase_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}
/// setmaxnreg.dec: gives all but `Registers` of each thread of this warpgroup back to the block.
/// Called by: one warpgroup
template <int Registers>
__device__ inline void decrease_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

/// griddepcontrol.launch_dependents: the dependent grid may start. PTX ISA, "griddepcontrol".
/// Called by: one thread
__device__ inline void launch_dependent_grid() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
/// griddepcontrol.wait: until the grids that this one depends on are complete, and what they wrote
/// is visible.
/// Called by: one thread
__device__ inline void wait_for_prior_grid() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

}  // namespace based::ptx
