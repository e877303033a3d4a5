// Fetching: queries of a block, then its keys and values tile by tile, by one thread of a warpgroup
// that computes. Its state is in shared memory, for its warp has no registers to spare.
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

/// Writes the items of a CTA from round `first_round` on to its list, as many as there are and find
/// room; returns their number.
/// Called by: one block
template <class Config>
__device__ int fill_list(shared_storage<Config>& shared, const parameters& p, int first_round) {
  int rounds = p.order.items() / gridDim.x;
  rounds += position_in_round(rounds, blockIdx.x, gridDim.x) < p.order.items();
  const int count = min(rounds - first_round, shared_storage<Config>::listed);
  for (int i = threadIdx.x; i < count; i += cta_threads<Config>) {
    const block_item item =
        p.order.item(position_in_round(first_round + i, blockIdx.x, gridDim.x));
    const int query = item.block * block_queries<Config>;
    const int groups = active_groups<Config>(p.head, query);
    const tile_walk walk = walk_of(p.head, query, groups);
    shared.list[i] = {.batch = item.batch,
                      .head = item.head,
                      .key_head = item.head / p.query_heads_per_key_head,
                      .query = query,
                      .groups = groups,
                      .first_key = walk.first_key,
                      .tiles = walk.tiles,
                      .todo = (1u << groups * warpgroup::warps) - 1};
  }
  __syncthreads();
  return count;
}

/// Called by: one warp, always the same one
template <class Config>
class loader {
  using storage = shared_storage<Config>;

 public:
  __device__ loader(storage& shared, const parameters& p)
      : shared_(shared), state_(shared.loader), p_(p) {}

  /// Starts with a list, whose items with nothing left to do are passed over. `done`: as below.
  __device__ void begin(int listed, int done) {
    if (ptx::elect_lane()) {
      state_.item = 0;
      state_.credit = Config::stages - Config::lag - 1;
    }
    __syncwarp();
    load_next(listed, done);
  }

  /// To be called for each tile that this warp has worked on: fetches the next of a list of `listed`
  /// items, or more where it has been kept from that, and before the first of an item its queries.
  /// It waits for other warps only: `done` items with tiles have left this one, so the buffer of
  /// their queries is free.
  __device__ void load_next(int listed, int done) {
    int tiles = uniform(state_.tiles), credit = uniform(state_.credit) + 1;
#pragma unroll 1
    for (; credit > 0; --credit) {
      bool found = tiles > 0;
      while (!found) {
        const int index = uniform(state_.item), begun = uniform(state_.begun);
        if (index == listed || begun - done == storage::query_buffers) break;
        tiles = begin_item(shared_.list[index], index, begun);
        found = tiles > 0;
      }
      if (!found) break;
      load_keys_and_values();
      --tiles;
    }
    if (ptx::elect_lane()) {
      state_.tiles = tiles;
      state_.credit = credit;
    }
    __syncwarp();
  }

 private:
  __device__ static int uniform(int value) { return __shfl_sync(~0u, value, 0); }

  __device__ void load_keys_and_values() {
    const int stage = uniform(state_.stage), parity = uniform(state_.stage_parity);
    const int first_key = uniform(state_.first_key);
    const tile_coordinates at = {uniform(state_.batch), uniform(state_.key_head), first_key};
    shared_.consumed[stage].wait(parity ^ 1);
    if (ptx::elect_lane()) {
      shared_.keys_loaded[stage].arrive_expect(storage::tile::bytes);
      load_tile(shared_.k[stage], p_.k, shared_.keys_loaded[stage], at);
      shared_.values_loaded[stage].arrive_expect(storage::tile::bytes);
      load_tile(shared_.v[stage], p_.v, shared_.values_loaded[stage], at);
      state_.first_key = first_key - tile_keys;
      state_.stage_parity = parity ^ (stage + 1 == Config::stages);
      state_.stage = stage + 1 == Config::stages ? 0 : stage + 1;
    }
    __syncwarp();
  }

  /// Returns the tiles of an item, if there is anything left to do.
  __device__ int begin_item(const listed_item& item, int index, int begun) {
    const int tiles = uniform(item.todo) == 0 ? 0 : uniform(item.tiles);
    const int buffer = begun % storage::query_buffers;
    if (tiles > 0) {
      const int groups = uniform(item.groups);
      barrier& loaded = shared_.queries_loaded[buffer];
      shared_.queries_consumed[buffer].wait(begun / storage::query_buffers % 2 ^ 1);
      if (ptx::elect_lane()) {
        loaded.arrive_expect(groups * storage::tile::bytes);
        state_.first_key = item.first_key;
        state_.batch = item.batch;
        state_.key_head = item.key_head;
        state_.begun = begun + 1;
      }
#pragma unroll
      for (int g = 0; g < Config::groups; ++g) {
        if (g < groups && ptx::elect_lane()) {
          load_tile(shared_.q[buffer][g], p_.q, loaded,
                    {item.batch, item.head, item.query + g * group_queries});
        }
      }
    }
    if (ptx::elect_lane()) state_.item = index + 1;
    __syncwarp();
    return tiles;
  }

  storage& shared_;
  loader_state& state_;
  const parameters& p_;
};

}  // namespace based::attention_sm90
