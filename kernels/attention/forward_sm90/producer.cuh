// What a CTA works on, and the warp that fetches it: queries of a block, then its keys and values
// tile by tile.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/tile/warp.cuh"

namespace based::attention_sm90 {

/// What one warp works with; each member says who calls it.
template <class Config, class Element>
class producer {
  using storage = shared_storage<Config, Element>;

 public:
  /// Called by: one thread
  __device__ producer(storage& shared, const parameters& p)
      : shared_(shared),
        p_(p),
        dealt_(dealt_to(blockIdx.x)),
        dealt_end_(dealt_to(blockIdx.x + 1)) {}

  /// Fills the list with this CTA's next items, and fetches what they need, as far ahead as there
  /// is room. Returns whether there may be another list. Called by: one warp
  __device__ bool work_on_new_items(bool&) {
#pragma unroll 1
    for (int i = 0; i < storage::listed; ++i) {
      list_next(shared_.list[i]);
      fetch(shared_.list[i]);
      if (shared_.list[i].groups == 0) return false;
    }
    return true;
  }

  /// Fetches once more what those items of the list need that the attempt before has not done.
  /// Returns false: the warpgroups know what is undone.
  /// Called by: one warp
  template <attempt Kind>
  __device__ bool work_on_undone_items() {
#pragma unroll 1
    for (int i = 0; i < storage::listed && shared_.list[i].groups > 0; ++i) {
      if (shared_.list[i].undone_before(Kind) != 0) fetch(shared_.list[i]);
    }
    return false;
  }

 private:
  /// Called by: one thread
  __device__ int tiles_of_head() const {
    return (p_.head.keys + tile_keys - 1) / tile_keys;
  }
  /// Called by: one thread
  __device__ int dealt_to(int cta) const {
    return first_dealt_tile(p_.order, tiles_of_head(), cta, gridDim.x);
  }

  /// The first item of each CTA is known, the others it takes by its number or by tickets.
  /// Called by: one warp
  __device__ int next_position() {
    const int round = round_++;
    if (round == 0 || p_.tickets == nullptr) {
      return position_in_round(round, blockIdx.x, gridDim.x);
    }
    if (round == 1) ptx::wait_for_prior_grid();  // which clears the tickets
    int ticket = 0;
    if (warp::lane() == 0) ticket = atomicAdd(p_.tickets, 1);
    return gridDim.x + __shfl_sync(~0u, ticket, 0);
  }

  /// The next block, or what is the CTA's of the dealt ones; no groups are the end.
  /// Called by: one warp
  __device__ void list_next(listed_item& entry) {
    listed_item item = {};
    const int whole = p_.order.items() - p_.order.dealt;
    int position = next_position();
    const bool is_dealt = position >= whole && dealt_ < dealt_end_;
    int skipped = 0;
    if (is_dealt) {
      const int tiles = tiles_of_head();
      position = whole + dealt_ / tiles;
      skipped = dealt_ % tiles;
    }
    if (is_dealt || position < whole) {
      const block_item at = p_.order.item(position);
      item.batch = at.batch;
      item.head = at.head;
      item.key_head = at.head / p_.query_heads_per_key_head;
      item.query = at.block * block_queries<Config>;
      item.groups =
          min(Config::groups, (p_.head.queries - item.query + group_queries - 1) / group_queries);
      const tile_walk walk = walk_of(p_.head, item.query, item.groups);
      item.first_key = walk.first_key;
      item.tiles = walk.tiles;
      if (is_dealt) {
        item.first_key -= skipped * tile_keys;
        item.tiles = min(walk.tiles - skipped, dealt_end_ - dealt_);
        if (skipped > 0) item.meeting = blockIdx.x;  // with the CTA before
        if (skipped + item.tiles < walk.tiles) item.meeting = blockIdx.x + 1;
        dealt_ += item.tiles;
      }
    }
    if (warp::lane() == 0) entry = item;
    __syncwarp();
  }

  /// Called by: one warp
  __device__ void fetch(const listed_item& item) {
    fetch_queries(item);
    fetch_keys_and_values(item);
  }

  /// Called by: one warp
  __device__ void fetch_queries(const listed_item& item) {
    barrier& loaded = shared_.query_ring.filled(query_);
    shared_.query_ring.wait_empty(query_);
    if (ptx::elect_lane()) {
      loaded.arrive_expect(item.tiles > 0 ? item.groups * storage::tile::bytes : 0);
#pragma unroll 1
      for (int g = 0; g < item.groups && item.tiles > 0; ++g) {
        load_panels(shared_.q[query_.buffer][g], p_.q, loaded,
                    {item.batch, item.head, item.query + g * group_queries});
      }
    }
    __syncwarp();
    query_.advance();
  }

  /// Called by: one warp
  __device__ void fetch_keys_and_values(const listed_item& item) {
    tile_coordinates at = {item.batch, item.key_head, item.first_key};
#pragma unroll 1
    for (int t = 0; t < item.tiles; ++t, at.token -= tile_keys) {
      const int stage = stage_.buffer;
      shared_.value_ring.wait_empty(stage_);
      warp::load_async(shared_.key_fills.filled(stage), at, tile_copy{shared_.k[stage], p_.k});
      warp::load_async(shared_.value_ring.filled(stage), at, tile_copy{shared_.v[stage], p_.v});
      stage_.advance();
    }
  }

  /// Called by: one thread
  __device__ static void load_panels(typename storage::tile& tile, const CUtensorMap& map,
                                     barrier& loaded, tile_coordinates from) {
#pragma unroll
    for (int col = 0; col < tile.cols; col += tile.panel_cols) {
      ptx::bulk_tensor_load(tile.at(0, col), &map, loaded.word(), col, from.token, from.head,
                            from.batch);
    }
  }

  storage& shared_;
  const parameters& p_;
  ring_position<Config::stages> stage_;
  ring_position<storage::query_buffers> query_;
  int round_ = 0;
  int dealt_, dealt_end_;  ///< tiles of the dealt blocks that are left to the CTA
};

}  // namespace based::attention_sm90
