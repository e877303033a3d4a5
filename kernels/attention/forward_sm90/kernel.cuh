// Softmax attention on Hopper.
#pragma once

#include "kernels/attention/forward_sm90/consumer.cuh"
#include "kernels/attention/forward_sm90/producer.cuh"

namespace based::attention_sm90 {

template <class Config, class Element>
__global__ void __launch_bounds__(cta_threads<Config>, 1)
    forward_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = shared_storage<Config, Element>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  if (threadIdx.x == 0) {
    for (int i = 0; i < storage::query_buffers; ++i) {
      shared.queries_loaded[i].init(1);
      shared.queries_consumed[i].init(Config::groups);
    }
    for (int i = 0; i < storage::stages; ++i) {
      shared.keys_loaded[i].init(1);
      shared.values_loaded[i].init(1);
      shared.consumed[i].init(Config::groups * warpgroup::warps);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  const int warp = warp::uniform_index();
  const int group = warp / warpgroup::warps;
  if (group == Config::groups) {
    ptx::decrease_registers<Config::producer_registers>();
    producer<Config, Element> role(shared, p);
    for (int round = 0, listed; (listed = fill_list(shared, p, round)) > 0; round += listed) {
      if (warp % warpgroup::warps == 0) role.fetch(listed);
      __syncthreads();
      if (warp % warpgroup::warps == 0) role.fetch(listed);
      __syncthreads();
    }
  } else {
    ptx::increase_registers<Config::consumer_registers>();
    consumer<Config, Element> role(shared, p, warp);
    for (int round = 0, listed; (listed = fill_list(shared, p, round)) > 0; round += listed) {
      role.template work_on_list<maximum::frozen>(listed);
      __syncthreads();
      role.template work_on_list<maximum::online>(listed);
      __syncthreads();
    }
  }
}

}  // namespace based::attention_sm90
