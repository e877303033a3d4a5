// Bulk copies (the tensor memory accelerator) between global and shared memory: of bytes, and of
// boxes of rank-4 tensors. PTX ISA, "Data Movement and Conversion Instructions: Bulk copy, Tensor
// copy".
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/ptx/mbarrier.cuh"

namespace based::ptx {

/// cp.async.bulk.tensor, global to shared; completes `barrier` by the box's bytes.
/// Called by: one thread
__device__ inline void bulk_tensor_load(void* shared, const CUtensorMap* map,
                                        std::uint64_t* barrier, int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

/// prefetch.tensormap: fetches a map ahead of its first copy.
/// Called by: one thread
__device__ inline void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// cp.async.bulk, global to shared, a multiple of 16 bytes; completes `barrier` by as many.
/// Called by: one thread
__device__ inline void bulk_load(void* shared, const void* global, int bytes,
                                 std::uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

/// cp.async.bulk.tensor, shared to global; joins this thread's open bulk group.
/// Called by: one thread
__device__ inline void bulk_tensor_store(const CUtensorMap* map, const void* shared, int x, int y,
                                         int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::
          "l"(map),
      "r"(shared_address(shared)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

/// cp.async.bulk.commit_group: closes the group of this thread's bulk stores.
/// Called by: one thread
__device__ inline void bulk_commit_group() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/// cp.async.bulk.wait_group.read: until at most `Pending` groups still read shared memory.
/// Called by: one thread
template <int Pending>
__device__ inline void bulk_wait_group_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}

}  // namespace based::ptx
