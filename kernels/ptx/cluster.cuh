// Clusters: CTAs that run at the same time and reach each other's shared memory. PTX ISA, "mapa",
// "barrier.cluster", "mbarrier.arrive", "cp.async.bulk.tensor".
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/ptx/mbarrier.cuh"

namespace based::ptx {

/// %cluster_ctarank: this CTA's index in its cluster.
/// Called by: one thread
__device__ inline int cluster_rank() {
  std::uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

/// barrier.cluster: until all threads of the cluster are here, whose writes are then seen.
/// Called by: one thread
__device__ inline void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive;\n"
      "barrier.cluster.wait;" ::
          : "memory");
}

/// mapa and mbarrier.arrive: one arrival at the barrier of CTA `rank` that is where `barrier` is in
/// this CTA. The scope is the default one: a release to the cluster would wait for all this
/// thread's writes to memory, and only reads of shared memory have to come before.
/// Called by: one thread
__device__ inline void mbarrier_arrive_at(std::uint64_t* barrier, int rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}\n" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}

/// cp.async.bulk.tensor with .multicast::cluster: the box comes to where `shared` is in each CTA
/// whose bit is set in `ctas`, and completes the barrier of each that is where `barrier` is.
/// Called by: one thread
__device__ inline void bulk_tensor_multicast(void* shared, const CUtensorMap* map,
                                             std::uint64_t* barrier, std::uint16_t ctas, int x,
                                             int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w), "h"(ctas)
      : "memory");
}

}  // namespace based::ptx
