// The warp that stores what the warpgroups have worked out.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/tile/warp.cuh"

namespace based::attention_sm90 {

/// What one warp works with; each member says who calls it.
template <class Config, class Element>
class storer {
  using storage = shared_storage<Config, Element>;

 public:
  /// Called by: one thread
  __device__ storer(storage& shared, const parameters& p) : shared_(shared), p_(p) {}

  /// Stores what is done of the items of a new list. Returns whether there may be another list.
  /// Called by: one warp
  __device__ bool work_on_new_items(bool&) {
#pragma unroll 1
    for (int i = 0; i < storage::listed; ++i) {
      if (!store<attempt::speculative>(shared_.list[i])) return false;
    }
    return true;
  }

  /// Stores what is done at last of those items of the list that the attempt before has not done.
  /// Returns false: the warpgroups know what is undone.
  /// Called by: one warp
  template <attempt Kind>
  __device__ bool work_on_undone_items() {
#pragma unroll 1
    for (int i = 0; i < storage::listed && shared_.list[i].groups > 0; ++i) {
      if (shared_.list[i].undone_before(Kind) != 0) store<Kind>(shared_.list[i]);
    }
    return false;
  }

 private:
  /// Stores what the attempt has done of an item; false where there is no item.
  /// Called by: one warp
  template <attempt Kind>
  __device__ bool store(const listed_item& item) {
    shared_.output_fills.wait_full(query_);
    unsigned done = item.undone_before(Kind) & ~item.met;
    if constexpr (Kind != attempt::careful) done &= ~item.undone[static_cast<int>(Kind)];
#pragma unroll 1
    for (int part = 0; done >> part != 0; ++part) {
      if ((done >> part & 1) == 0) continue;
      warp::store_async(shared_.q[query_.buffer][part], p_.o,
                        {item.batch, item.head, item.query + part * group_queries});
    }
    warp::wait_stores_read();
    shared_.query_ring.warp_release(query_);
    query_.advance();
    return item.groups > 0;
  }

  storage& shared_;
  const parameters& p_;
  ring_position<storage::query_buffers> query_;
};

}  // namespace based::attention_sm90
