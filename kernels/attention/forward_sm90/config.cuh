// What a CTA of the Hopper attention is made of: its warpgroups, its shared memory, its parameters.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/attention/forward_sm90/schedule.h"
#include "wgmma_shim.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/shared_tile.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::attention_sm90 {

/// By head dimension: warpgroups, each on 64 queries; key tiles in the ring, and of these how many
/// are not refilled before the slowest warpgroup has had time to be done with them.
template <int HeadDim>
struct config;
template <>
struct config<64> {
  static constexpr int head_dim = 64;
  static constexpr int groups = 4;
  static constexpr int stages = 10;
  static constexpr int lag = 2;
};
template <>
struct config<128> {
  static constexpr int head_dim = 128;
  static constexpr int groups = 2;
  static constexpr int stages = 5;
  static constexpr int lag = 1;
};

template <class Config>
constexpr int cta_threads = Config::groups * warpgroup::threads;
template <class Config>
constexpr int block_queries = Config::groups * group_queries;

/// Warpgroups of a block that starts at `query` which have queries.
template <class Config>
__device__ inline int active_groups(const head_shape& head, int query) {
  return min(Config::groups, (head.queries - query + group_queries - 1) / group_queries);
}

struct parameters {
  CUtensorMap q, k, v, o;
  head_shape head;
  block_order order;
  int query_heads_per_key_head;
  float log2_scale;  ///< the softmax's scale times log2(e): exponentials are base 2
  float* lse;        ///< [B, H, N]; null: not wanted
};

/// A block of queries in a CTA's list.
struct listed_item {
  int batch, head, key_head;
  int query;      ///< the block's first
  int groups;     ///< warpgroups that have queries
  int first_key;  ///< of the block's first tile
  int tiles;
  unsigned todo;  ///< warps, a bit each, that have not stored their rows yet
};

/// Where the warp that fetches has got to.
struct loader_state {
  int item;    ///< of the list: the next one
  int begun;   ///< items with tiles, of all lists
  int tiles;   ///< of the item before `item`: those still to be fetched
  int credit;  ///< tiles that may be fetched now
  int batch, key_head, first_key;
  int stage, stage_parity;
};

template <class Config>
struct shared_storage {
  static constexpr int stages = Config::stages;
  static constexpr int query_buffers = 2;
  static constexpr int listed = 64;
  using tile = shared_tile<64, Config::head_dim, swizzle::bytes128>;

  tile q[query_buffers][Config::groups];  ///< [64 x Dh] of each warpgroup; then its part of O
  tile k[stages];                         ///< [64 x Dh]
  tile v[stages];                         ///< [64 x Dh]
  listed_item list[listed];
  loader_state loader;
  barrier queries_loaded[query_buffers];
  barrier queries_consumed[query_buffers];
  barrier keys_loaded[stages];
  barrier values_loaded[stages];
  barrier consumed[stages];
};
inline constexpr std::size_t most_shared_bytes = 227 * 1024;
static_assert(sizeof(shared_storage<config<64>>) <= most_shared_bytes);
static_assert(sizeof(shared_storage<config<128>>) <= most_shared_bytes);

}  // namespace based::attention_sm90
