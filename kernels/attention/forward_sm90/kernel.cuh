// Softmax attention on Hopper.
//
//   O = softmax(scale Q K^T) V,   Q [N x Dh] and K, V [Nkv x Dh] of a head
//
// A block is 64 queries for each of a CTA's warpgroups. They walk over the block's keys in tiles of
// 64, from the last that is seen to the first. Of each row the maximum is taken in its first tile
// and then frozen: later tiles need no maximum, and O is never rescaled,
//
//   P = 2^(s S - m),   S = Q K^T,   O += P V,   l += P 1,   s = scale log2(e)
//
// which is exact, for m cancels in O / l, as long as P, l and O stay in fp32's range. Where they do
// not, the block is redone with online maxima.
//
// Grid: as many CTAs as multiprocessors, or as blocks where these are fewer; each works on one
// block after the other, and lists them. One warp fetches, ahead of the others, one stores, behind
// them, and they meet in barriers:
//
//   query_ring     full: an item is listed, its queries are there   copy engine -> warpgroups
//                  released: O is stored                            storing warp -> fetching warp
//   key_fills      a tile's keys are there                          copy engine -> warpgroups
//   value_ring     full: a tile's values are there                  copy engine -> warpgroups
//                  released: its keys and values have been read     warpgroups -> fetching warp
//   output_fills   O is in the queries' place                       warpgroups -> storing warp
//
// Of a block that is dealt out (schedule.h) two CTAs have some tiles each: whichever is done last
// puts O and l of both together.
//
// When the list is full, or there are no more blocks, those that are not done are tried again. So
// what is redone, and how, depends on the inputs only, not on which CTA was first.
#pragma once

#include "kernels/attention/forward_sm90/consumer.cuh"
#include "kernels/attention/forward_sm90/producer.cuh"
#include "kernels/attention/forward_sm90/storer.cuh"
#include "kernels/ptx/sync.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/pipeline.cuh"

namespace based::attention_sm90 {

template <class Config, class Element>
__global__ void __launch_bounds__(cta_threads<Config>, 1)
    forward_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = shared_storage<Config, Element>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  if (threadIdx.x == 0) {
    for (const CUtensorMap* map : {&p.q, &p.k, &p.v, &p.o}) ptx::prefetch_tensor_map(map);
    shared.query_ring.init(1, 1);
    shared.output_fills.init(Config::groups * warpgroup::warps);
    shared.key_fills.init(1);
    shared.value_ring.init(1, Config::groups * warpgroup::warps);
    shared.undone.init(Config::groups * warpgroup::warps + 2);
    ptx::fence_mbarrier_init();
  }
  if constexpr (Config::sums_by_product) {
    block::fill(shared.ones, two_ones<Element>);
    ptx::fence_proxy_async();
  }
  __syncthreads();

  const int warp = warp::uniform_index();
  // Whether any warpgroup has left an item undone. Also, all have read the list.
  int votes = 0;
  const auto vote = [&](bool undone) { return shared.undone.any(undone, ++votes); };
  const auto work_as = [&](auto role) {
    for (bool more = true; more;) {
      bool undone = false;
      more = role.work_on_new_items(undone);
      if (!vote(undone)) continue;
      if (!vote(role.template work_on_undone_items<attempt::online>())) continue;
      vote(role.template work_on_undone_items<attempt::careful>());
    }
  };
  const auto consume = [&](int) { work_as(consumer<Config, Element>(shared, p, warp)); };
  const auto copy = [&](int) {
    if (warp == Config::groups * warpgroup::warps) work_as(producer<Config, Element>(shared, p));
    if (warp == Config::groups * warpgroup::warps + 1) work_as(storer<Config, Element>(shared, p));
  };
  using roles = role_split<1, warpgroup_role{Config::groups, Config::consumer_registers},
                           warpgroup_role{1, Config::producer_registers}>;
  static_assert(roles::threads == cta_threads<Config>);
  roles::run(warp, consume, copy);
}

}  // namespace based::attention_sm90
