#pragma once

#include "kernels/attention/forward_sm90/consumer.cuh"

namespace based::attention_sm90 {

template <class Config, class T>
__global__ void __launch_bounds__(cta_threads<Config>, 1)
    forward_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = shared_storage<Config>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  constexpr int warps = Config::groups * warpgroup::warps;
  const int warp = warp::uniform_index();
  if (warp == 0 && ptx::elect_lane()) {
    for (int i = 0; i < storage::query_buffers; ++i) {
      shared.queries_loaded[i].init(1);
      shared.queries_consumed[i].init(warps);
    }
    for (int i = 0; i < storage::stages; ++i) {
      shared.keys_loaded[i].init(1);
      shared.values_loaded[i].init(1);
      shared.consumed[i].init(warps);
    }
    ptx::fence_mbarrier_init();
    shared.loader = {};
  }
  __syncthreads();
  consumer<Config, T>(shared, p, warp / warpgroup::warps, warp % warpgroup::warps).run();
}

}  // namespace based::attention_sm90
