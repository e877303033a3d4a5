// What a CTA of the Hopper attention is made of: its warpgroups, its shared memory, its parameters.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <type_traits>

#include "kernels/attention/forward_sm90/schedule.h"
#include "kernels/core/hopper.h"
#include "kernels/tile/pipeline.cuh"
#include "kernels/tile/shared_tile.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::attention_sm90 {

// How a CTA is cut. `groups`: warpgroups that compute, on 64 queries each. `stages`: key tiles in
// the ring. All threads have equally many registers at launch; the constants are what each keeps
// afterwards. `queries_in_registers`: otherwise the tensor cores read Q from shared memory.
// `sums_by_product`: the sums of the weights are columns of O += P [V 1]; otherwise threads add
// them up. `scores_ahead`: the next tile's scores are worked out while this one's become weights,
// which takes registers for both. `takes_turns`: which of a block's tiles of queries a warpgroup
// has alternates, for where causal the last see most keys.

/// Blocks of 256 queries at head dimension 64. `ExactSums`: the weights are summed before they are
/// rounded, as the log-sum-exp needs it; O / l is as exact with sums of rounded weights, which are
/// faster.
template <bool ExactSums>
struct blocks_256 {
  static constexpr int head_dim = 64;
  static constexpr int groups = 4;
  static constexpr int stages = 9;
  static constexpr int consumer_registers = 112;
  static constexpr int producer_registers = 32;
  static constexpr bool queries_in_registers = false;
  static constexpr bool sums_by_product = sums_in_products(head_dim, ExactSums);
  static constexpr bool scores_ahead = false;
  static constexpr bool takes_turns = true;
};

/// Blocks of 192 queries.
template <int HeadDim, bool ExactSums = true>
struct blocks_192 {
  static constexpr int head_dim = HeadDim;
  static constexpr int groups = 3;
  static constexpr int stages = HeadDim == 64 ? 9 : 4;
  static constexpr int consumer_registers = 160;
  static constexpr int producer_registers = 32;
  static constexpr bool queries_in_registers = HeadDim == 64 && !ExactSums;  // or they are too few
  static constexpr bool sums_by_product = sums_in_products(head_dim, ExactSums);
  static constexpr bool scores_ahead = HeadDim == 64;
  static constexpr bool takes_turns = false;
};

/// Blocks of 128 queries at head dimension 128.
struct blocks_128 {
  static constexpr int head_dim = 128;
  static constexpr int groups = 2;
  static constexpr int stages = 5;
  static constexpr int consumer_registers = 216;
  static constexpr int producer_registers = 72;
  static constexpr bool queries_in_registers = true;
  static constexpr bool sums_by_product = false;
  static constexpr bool scores_ahead = false;
  static constexpr bool takes_turns = true;
};

template <class Config>
constexpr int consumer_threads = Config::groups* warpgroup::threads;
template <class Config>
constexpr int cta_threads = consumer_threads<Config> + warpgroup::threads;
template <class Config>
constexpr int block_queries = Config::groups* group_queries;

/// Named barriers: the first of those that a consumer warpgroup each has for itself.
inline constexpr int first_group_barrier = 1;

struct parameters {
  CUtensorMap q, k, v, o;
  head_shape head;
  block_order order;
  int query_heads_per_key_head;
  float log2_scale;            ///< the softmax's scale times log2(e): exponentials are base 2
  float* lse;                  ///< [B, H, N]; null: not wanted
  unsigned long long* redone;  ///< counts tiles of queries that are worked on again
  int* tickets;  ///< a counter of the blocks that CTAs have taken; null: each knows its own
  /// Of each two neighbouring CTAs that share a block, and each tile of queries of it: how far the
  /// first of them to be done is (meeting_state), and its results, as its threads held them.
  std::uint32_t* meetings;
  float* met;  ///< [CTAs, groups, values of a thread, threads of a warpgroup]
};

/// An item is tried up to three times. `speculative`: a row's maximum is taken in its first tile
/// and then frozen. `online`: maxima are exact. `careful`: also, a value that is not finite is
/// multiplied with no weight that is zero because the query may not see it.
enum class attempt { speculative, online, careful };

/// Of a tile of queries whose keys two CTAs share.
enum meeting_state : std::uint32_t { nobody_is_done, one_writes, one_has_written };

/// A block of queries in a CTA's list, or of its tiles those that are the CTA's.
struct listed_item {
  int batch, head, key_head;
  int query;      ///< the block's first
  int groups;     ///< warpgroups that have queries; 0: there is no such block, nor any after it
  int first_key;  ///< of the block's first tile
  int tiles;
  int meeting;   ///< with which of two CTAs that share the block it is in common; 0: it is not
  unsigned met;  ///< tiles of 64 queries, a bit each, that the other CTA stores
  /// Tiles of 64 queries, a bit each, that the first and the second attempt could not store. Only
  /// the attempt itself writes to its own, so that all warpgroups read the same of the one before.
  unsigned undone[2];

  /// What an attempt has to do. Called by: one thread
  __device__ unsigned undone_before(attempt next) const {
    return next == attempt::speculative ? (1u << groups) - 1 : undone[static_cast<int>(next) - 1];
  }
};

template <class Config, class Element>
struct shared_storage {
  static constexpr int stages = Config::stages;
  static constexpr int query_buffers = 2;
  static constexpr int listed = 64;
  using tile = shared_tile<64, Config::head_dim, swizzle::bytes128, Element>;
  struct nothing {};
  using ones_tile = std::conditional_t<Config::sums_by_product,
                                       shared_tile<16, 64, swizzle::bytes128, Element>, nothing>;

  tile q[query_buffers][Config::groups];  ///< [64 x Dh] of each warpgroup; then its part of O
  tile k[stages];                         ///< [64 x Dh]
  tile v[stages];                         ///< [64 x Dh]
  [[no_unique_address]] ones_tile ones;
  listed_item list[listed];
  ring<query_buffers> query_ring;         ///< full: an item is in the list, too
  fill_ring<query_buffers> output_fills;  ///< O has taken the queries' place, or nothing is stored
  fill_ring<stages> key_fills;            ///< keys and values are released together, by value_ring
  ring<stages> value_ring;
  ballot_box undone;  ///< whether any warpgroup has left an item undone
};
inline constexpr std::size_t most_shared_bytes = hopper::most_cta_bytes;
static_assert(sizeof(shared_storage<blocks_256<false>, bf16>) <= most_shared_bytes);
static_assert(sizeof(shared_storage<blocks_192<64, false>, bf16>) <= most_shared_bytes);
static_assert(sizeof(shared_storage<blocks_192<128>, bf16>) <= most_shared_bytes);
static_assert(sizeof(shared_storage<blocks_128, bf16>) <= most_shared_bytes);

}  // namespace based::attention_sm90
