// The warp that fetches: queries of a block, then its keys and values tile by tile.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/ptx/tma.cuh"

namespace based::attention_sm90 {

/// Starts the copy of a tile, 64 columns at a time.
/// Called by: one thread
template <class Tile>
__device__ inline void load_tile(Tile& tile, const CUtensorMap& map, barrier& loaded,
                                 tile_coordinates from) {
#pragma unroll
  for (int col = 0; col < Tile::cols; col += Tile::layout::panel_cols) {
    ptx::bulk_tensor_load(tile.at(0, col), &map, loaded.word(), col, from.token, from.head,
                          from.batch);
  }
}

template <class Config>
class producer {
  static constexpr int stages = Config::stages;
  using storage = shared_storage<Config>;

 public:
  __device__ producer(storage& shared, const parameters& p) : shared_(shared), p_(p) {}

  /// Feeds the consumers with all items of this CTA: a list of them, then those of the list that
  /// have to be redone, then the next.
  /// Called by: one thread
  __device__ void run() {
    std::uint32_t settled_parity = 0;
    for (int round = 0, list = 0;; list ^= 1) {
      int listed = 0;
      bool last = false;
      for (; listed < storage::listed && !last; ++listed, ++round) {
        const int position = position_in_round(round, blockIdx.x, gridDim.x);
        last = position >= p_.order.items();
        listed_item& entry = shared_.list[list][listed];
        entry.at = last ? block_item{0, 0, -1} : p_.order.item(position);
        entry.redo = 0;
        load_item(entry.at);
      }
      shared_.settled.wait(settled_parity);
      settled_parity ^= 1;
      for (int i = 0; i < listed; ++i) {
        if (shared_.list[list][i].redo != 0) load_item(shared_.list[list][i].at);
      }
      if (last) return;
    }
  }

 private:
  __device__ void load_item(const block_item& item) {
    barrier& loaded = shared_.queries_loaded[query_.buffer];
    shared_.queries_consumed[query_.buffer].wait(query_.parity ^ 1);
    if (item.block < 0) {
      loaded.arrive();
      return;
    }
    const int query = item.block * block_queries<Config>;
    const int groups = active_groups<Config>(p_.head, query);
    loaded.arrive_expect(groups * storage::tile::bytes);
    for (int g = 0; g < groups; ++g) {
      load_tile(shared_.q[query_.buffer][g], p_.q, loaded,
                {item.batch, item.head, query + g * group_queries});
    }
    query_.advance();

    const tile_walk walk = walk_of(p_.head, query, groups);
    tile_coordinates at = {item.batch, item.head / p_.query_heads_per_key_head, walk.first_key};
    for (int t = 0; t < walk.tiles; ++t, at.token -= tile_keys) {
      shared_.consumed[stage_.buffer].wait(stage_.parity ^ 1);
      shared_.keys_loaded[stage_.buffer].arrive_expect(storage::tile::bytes);
      load_tile(shared_.k[stage_.buffer], p_.k, shared_.keys_loaded[stage_.buffer], at);
      shared_.values_loaded[stage_.buffer].arrive_expect(storage::tile::bytes);
      load_tile(shared_.v[stage_.buffer], p_.v, shared_.values_loaded[stage_.buffer], at);
      stage_.advance();
    }
  }

  storage& shared_;
  const parameters& p_;
  ring_position<stages> stage_;
  ring_position<storage::query_buffers> query_;
};

}  // namespace based::attention_sm90
