// What a CTA works on, and the warp that fetches it: queries of a block, then its keys and values
// tile by tile.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/tile/warp.cuh"

namespace based::attention_sm90 {

/// Writes the items of this CTA from round `first_round` on to its list, as many as there are and
/// find room; returns their number.
/// Called by: one block
template <class Config, class Element>
__device__ inline int fill_list(shared_storage<Config, Element>& shared, const parameters& p,
                                int first_round) {
  const int most = shared_storage<Config, Element>::listed;
  int rounds = p.order.items() / gridDim.x;
  rounds += position_in_round(rounds, blockIdx.x, gridDim.x) < p.order.items();
  const int count = min(rounds - first_round, most);
  for (int i = threadIdx.x; i < count; i += cta_threads<Config>) {
    const block_item item =
        p.order.item(position_in_round(first_round + i, blockIdx.x, gridDim.x));
    const int query = item.block * block_queries<Config>;
    const int groups =
        min(Config::groups, (p.head.queries - query + group_queries - 1) / group_queries);
    const tile_walk walk = walk_of(p.head, query, groups);
    shared.list[i] = {.batch = item.batch,
                      .head = item.head,
                      .key_head = item.head / p.query_heads_per_key_head,
                      .query = query,
                      .groups = groups,
                      .first_key = walk.first_key,
                      .tiles = walk.tiles,
                      .todo = (1u << groups) - 1};
  }
  __syncthreads();
  return count;
}

template <class Config, class Element>
class producer {
  using storage = shared_storage<Config, Element>;

 public:
  __device__ producer(storage& shared, const parameters& p) : shared_(shared), p_(p) {}

  /// Fetches what the list's items need that are still to do, as far ahead as there is room.
  /// Called by: one warp
  __device__ void fetch(int listed) {
#pragma unroll 1
    for (int i = 0; i < listed; ++i) {
      const listed_item& item = shared_.list[i];
      if (item.todo == 0 || item.tiles == 0) continue;
      fetch_queries(item);
      fetch_keys_and_values(item);
    }
  }

 private:
  __device__ void fetch_queries(const listed_item& item) {
    barrier& loaded = shared_.queries_loaded[query_.buffer];
    shared_.queries_consumed[query_.buffer].wait(query_.parity ^ 1);
    if (ptx::elect_lane()) {
      loaded.arrive_expect(item.groups * storage::tile::bytes);
#pragma unroll 1
      for (int g = 0; g < item.groups; ++g) {
        load_panels(shared_.q[query_.buffer][g], p_.q, loaded,
                    {item.batch, item.head, item.query + g * group_queries});
      }
    }
    __syncwarp();
    query_.advance();
  }

  __device__ void fetch_keys_and_values(const listed_item& item) {
    tile_coordinates at = {item.batch, item.key_head, item.first_key};
#pragma unroll 1
    for (int t = 0; t < item.tiles; ++t, at.token -= tile_keys) {
      const int stage = stage_.buffer;
      shared_.consumed[stage].wait(stage_.parity ^ 1);
      warp::load_async(shared_.keys_loaded[stage], at, tile_copy{shared_.k[stage], p_.k});
      warp::load_async(shared_.values_loaded[stage], at, tile_copy{shared_.v[stage], p_.v});
      stage_.advance();
    }
  }

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
};

}  // namespace based::attention_sm90
