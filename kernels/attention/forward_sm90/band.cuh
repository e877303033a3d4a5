// Softmax attention on Hopper with a short window: a CTA walks along heads, from one block of 64
// queries to the next, and its keys and values stay in shared memory for as long as blocks see
// them.
//
//   S = Q K^T [64 x 192],    P = 2^(s S - m),   O = P V / P 1,   s = scale log2(e)
//
// Queries that see at most 128 keys see three tiles of 64 at most, aligned to the diagonal, of
// which the next block sees two again. Of the first and the last of the three a query sees
// different columns, so that their scores fill one tile together, and become weights together. All
// of a block's scores are in registers at once, m is exact, and nothing is done twice. Where O is
// not finite, a block is worked out again from what is still in shared memory, so that values that
// are no number reach the rows that see them only.
//
// Grid: as many CTAs as multiprocessors; each has equally many of the blocks, counted through all
// heads. One warp fetches, one stores, and of G warpgroups the g-th has the CTA's blocks g, g + G,
// g + 2 G, ... The barriers are those of kernel.cuh, in rings of the CTA's blocks and of its tiles.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/attention/forward_sm90/softmax.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/ptx/sync.cuh"
#include "kernels/tile/warp.cuh"

namespace based::attention_sm90 {

template <int HeadDim>
struct band {
  static constexpr int head_dim = HeadDim;
  static constexpr int groups = HeadDim == 64 ? 3 : 2;
  static constexpr int stages = HeadDim == 64 ? 11 : 5;
  static constexpr int query_buffers = 2 * groups;
  static constexpr int consumer_registers = HeadDim == 64 ? 160 : 216;
  static constexpr int producer_registers = HeadDim == 64 ? 32 : 72;
};

/// A block of a CTA's run.
struct band_block {
  int batch, head;
  int query;  ///< the block's first; negative: there are no more blocks
  tile_walk walk;
  int seen;  ///< tiles that have been fetched for the run's blocks up to this one
};

template <class Config, class Element>
struct band_storage {
  using tile = shared_tile<64, Config::head_dim, swizzle::bytes128, Element>;

  tile q[Config::query_buffers];  ///< [64 x Dh] of a block; then its O
  tile k[Config::stages];         ///< [64 x Dh]
  tile v[Config::stages];         ///< [64 x Dh]
  band_block blocks[Config::query_buffers];
  ring<Config::query_buffers> query_ring;  ///< full: a block is listed, its queries are there
  fill_ring<Config::query_buffers> output_fills;
  fill_ring<Config::stages> key_fills;
  ring<Config::stages> value_ring;
};
static_assert(sizeof(band_storage<band<64>, bf16>) <= most_shared_bytes);
static_assert(sizeof(band_storage<band<128>, bf16>) <= most_shared_bytes);

/// The warp that lists and fetches. Called by: one warp
template <class Config, class Element>
__device__ void fetch_band(band_storage<Config, Element>& shared, const parameters& p) {
  ring_position<Config::stages> stage;
  ring_position<Config::query_buffers> query;
  const auto list = [&](const band_block& block) {
    shared.query_ring.wait_empty(query);
    if (warp::lane() == 0) shared.blocks[query.buffer] = block;
    __syncwarp();
  };
  const std::int64_t all = p.order.items();
  const auto first = static_cast<int>(all * blockIdx.x / gridDim.x);
  const auto end = static_cast<int>(all * (blockIdx.x + 1) / gridDim.x);
  band_block block = {};
#pragma unroll 1
  for (int i = first; i < end; ++i) {
    const int head = i / p.order.blocks, in_head = i % p.order.blocks;
    block.batch = head / p.order.heads;
    block.head = head % p.order.heads;
    block.query = in_head * group_queries;
    block.walk = band_walk(p.head, block.query);
    // The last tiles of its walk are those of the block before it.
    const bool is_first = i == first || in_head == 0;
    const int fresh = is_first ? block.walk.tiles : min(block.walk.tiles, 1);
    block.seen += fresh;
    list(block);
    warp::load_async(shared.query_ring.filled(query), {block.batch, block.head, block.query},
                     tile_copy{shared.q[query.buffer], p.q});
    query.advance();
    // All keys come before the values: scores are worked out first.
    const tile_coordinates newest = {block.batch, block.head / p.query_heads_per_key_head,
                                     block.walk.first_key};
    const auto load = [&](auto& fills, auto& tiles, const CUtensorMap& from, auto at) {
#pragma unroll 1
      for (int t = fresh - 1; t >= 0; --t, at.advance()) {
        shared.value_ring.wait_empty(at);
        warp::load_async(fills.filled(at),
                         tile_coordinates{newest.batch, newest.head, newest.token - t * tile_keys},
                         tile_copy{tiles[at.buffer], from});
      }
    };
    load(shared.key_fills, shared.k, p.k, stage);
    load(shared.value_ring, shared.v, p.v, stage);
    stage.advance(fresh);
  }
  block.query = -1;
#pragma unroll 1
  for (int g = 0; g < Config::groups; ++g, query.advance()) {
    list(block);
    if (ptx::elect_lane()) shared.query_ring.filled(query).arrive();
  }
}

/// The warp that stores. Called by: one warp
template <class Config, class Element>
__device__ void store_band(band_storage<Config, Element>& shared, const parameters& p) {
  ring_position<Config::query_buffers> at;
#pragma unroll 1
  while (true) {
    shared.output_fills.wait_full(at);
    const band_block& block = shared.blocks[at.buffer];
    if (block.query < 0) return;
    warp::store_async(shared.q[at.buffer], p.o, {block.batch, block.head, block.query});
    warp::wait_stores_read();
    shared.query_ring.warp_release(at);
    at.advance();
  }
}

/// What one warpgroup that computes works with; each member says who calls it.
template <class Config, class Element>
class band_consumer {
  static constexpr int head_dim = Config::head_dim;
  using storage = band_storage<Config, Element>;

 public:
  /// Called by: one thread
  __device__ band_consumer(storage& shared, const parameters& p, int group)
      : shared_(shared), p_(p), group_(group), query_{group, 0} {}

  /// Called by: one warpgroup
  __device__ void work() {
#pragma unroll 1
    while (true) {
      shared_.query_ring.wait_full(query_);
      const int tiles = uniform(block().walk.tiles);
      const bool is_end = uniform(block().query) < 0;
      // Of the tiles up to this block's all but its own.
      release_up_to(uniform(block().seen) - (is_end ? 0 : tiles));
      if (!is_end) attend(tiles);
      shared_.output_fills.filled(query_).warp_arrive();
      query_.advance(Config::groups);
      if (is_end) return;
    }
  }

 private:
  using output_accumulator = accumulator_tile<head_dim>;

  /// The CTA's tiles before number `end` may make room for others. A phase of a barrier that is not
  /// waited for could pass unseen, so each is, also where another warpgroup's block alone sees it.
  /// Called by: one warp
  __device__ void release_up_to(int end) {
#pragma unroll 1
    for (; released_ < end; ++released_) {
      shared_.key_fills.wait_full(stage_);
      shared_.value_ring.wait_full(stage_);
      shared_.value_ring.warp_release(stage_);
      stage_.advance();
    }
  }

  /// The block that is worked on. Read anew where it is needed: scores and O leave few registers.
  /// Called by: one thread
  __device__ const band_block& block() const {
    return shared_.blocks[query_.buffer];
  }

  /// A value that all of a warp's threads have, in a form that the compiler knows to be uniform.
  /// Called by: one warp
  __device__ static int uniform(int value) {
    return __shfl_sync(~0u, value, 0);
  }

  /// Called by: one warpgroup
  __device__ void attend(int tiles) {
    output_accumulator o;
    row_values maxima = {-INFINITY, -INFINITY}, sums = {0, 0};
    const int reach = band_reach(p_.head);
    if (tiles <= reach) {
      weigh_few_values(o, maxima, sums, tiles);
    } else if (reach == 2) {
      weigh_values<2>(o, maxima, sums);
    } else {
      weigh_values<1>(o, maxima, sums);
    }
    // Also: the queries have been read by all, and O may take their place.
    const bool good = ptx::named_barrier_all<warpgroup::threads>(first_group_barrier + group_,
                                                                 is_finite(o, sums));
    if (!uniform(good)) {
      weigh_values_carefully(o, maxima, sums);
      ptx::named_barrier_sync<warpgroup::threads>(first_group_barrier + group_);
    }
    finish(o, offsets_of(maxima, p_.log2_scale), sums);
  }

  /// Called by: one warpgroup
  __device__ void start_scores(score_tile& scores, ring_position<Config::stages> at) {
    shared_.key_fills.wait_full(at);
    warpgroup::mma_fence();
    warpgroup::mma_ABt<ptx::mma_mode::overwrite>(scores, shared_.q[query_.buffer],
                                                 shared_.k[at.buffer]);
    warpgroup::mma_commit();
  }
  /// Called by: one warpgroup
  __device__ void start_values(output_accumulator& o, const operand_tile<tile_keys>& weights,
                               ring_position<Config::stages> at) {
    shared_.value_ring.wait_full(at);
    warpgroup::mma_fence();
#pragma unroll
    for (int i = 0; i < weights.slices; ++i) {
      warpgroup::mma_AB(o, weights.slice[i], shared_.v[at.buffer], i);
    }
    warpgroup::mma_commit();
  }

  /// O and the sums that it is divided by, where the window reaches into `Reach` tiles before the
  /// diagonal one. What a query sees of the first and of the last of them fills one tile of scores.
  /// The ring has the last tile of the walk first.
  /// Called by: one warpgroup
  template <int Reach>
  __device__ void weigh_values(output_accumulator& o, row_values& maxima, row_values& sums) {
    score_tile scores[Reach + 1];
#pragma unroll
    for (int i = 0; i <= Reach; ++i) start_scores(scores[i], stage_.next(i));
    const int gap = Reach * tile_keys - p_.head.window;
    score_tile& merged = scores[Reach];
    if constexpr (Reach == 2) {
      warpgroup::mma_wait<1>(scores[1]);
      if (gap > 0) mask_gap(scores[1], gap);
      maxima = fold_max(scores[1], maxima);
    }
    warpgroup::mma_wait<0>(scores[0], merged);
    merge(merged, scores[0], gap, Reach * tile_keys - uniform(block().walk.first_key));
    if (Reach == 1 && gap > 0) mask_gap(merged, gap);
    maxima = warp::row_max(fold_max(merged, maxima));
    const row_values offsets = offsets_of(maxima, p_.log2_scale);
    clear(o);
    if constexpr (Reach == 2) {
      exp2_rows(scores[1], p_.log2_scale, offsets);
      sums = fold_sum(scores[1], sums);
      start_values(o, to_operand<Element>(scores[1]), stage_.next(1));
    }
    exp2_rows(merged, p_.log2_scale, offsets);
    sums = fold_sum(merged, sums);
    operand_tile<tile_keys> before = to_operand<Element>(merged);
    const operand_tile<tile_keys> diagonal = split_merged(before);
    start_values(o, before, stage_);
    start_values(o, diagonal, stage_.next(Reach));
    warpgroup::mma_wait<0>(o);
    sums = warp::row_sum(sums);
  }

  /// As weigh_values(), of the first blocks of a head, which have fewer tiles than the window
  /// reaches into.
  /// Called by: one warpgroup
  __device__ void weigh_few_values(output_accumulator& o, row_values& maxima, row_values& sums,
                                   int tiles) {
    clear(o);
#pragma unroll 1
    for (int i = 0; i < tiles; ++i) {
      score_tile scores;
      start_scores(scores, stage_.next(i));
      warpgroup::mma_wait<0>(scores);
      mask(scores, p_.head, uniform(block().walk.first_key), tiles - 1 - i);
      weigh_online(scores, o, maxima, sums, p_.log2_scale);
      start_values(o, to_operand<Element>(scores), stage_.next(i));
      warpgroup::mma_wait<0>(o);
    }
    sums = warp::row_sum(sums);
  }

  /// As weigh_values(), but a value is multiplied with no weight that is zero because the query may
  /// not see it. Slow.
  /// Called by: one warpgroup
  __device__ void weigh_values_carefully(output_accumulator& o, row_values& maxima,
                                         row_values& sums) {
    const tile_walk walk = block().walk;
    clear(o);
    maxima = {-INFINITY, -INFINITY};
    sums = {0, 0};
#pragma unroll 1
    for (int i = 0; i < walk.tiles; ++i) {
      const int t = walk.tiles - 1 - i;
      const auto at = stage_.next(i);
      score_tile scores;
      start_scores(scores, at);
      warpgroup::mma_wait<0>(scores);
      mask(scores, p_.head, walk.first_key, t);
      weigh_online(scores, o, maxima, sums, p_.log2_scale);
      add_values_with_weight<Element>(o, to_operand<Element>(scores), shared_.v[at.buffer]);
    }
    sums = warp::row_sum(sums);
  }

  /// Divides by the sums, and puts O where it is stored from.
  /// Called by: one warpgroup
  __device__ void finish(output_accumulator& o, const row_values& offsets, const row_values& sums) {
    row_values factors;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = block().query + thread_row(r);
      factors.value[r] = p_.head.sees_none(row) ? 0 : ptx::reciprocal(sums.value[r]);
      if (p_.lse != nullptr && warp::lane() % 4 == 0 && row < p_.head.queries) {
        const std::int64_t head = std::int64_t{block().batch} * p_.order.heads + block().head;
        p_.lse[head * p_.head.queries + row] =
            log_sum_exp(offsets.value[r], sums.value[r], p_.head.sees_none(row));
      }
    }
    scale_rows(o, factors);
    warpgroup::store(shared_.q[query_.buffer], to_operand<Element>(o));
    ptx::fence_proxy_async();
  }

  storage& shared_;
  const parameters& p_;
  const int group_;
  int released_ = 0;
  ring_position<Config::stages> stage_;  ///< of tile number `released_`
  ring_position<Config::query_buffers> query_;
};

template <class Config, class Element>
__global__ void __launch_bounds__(cta_threads<Config>, 1)
    band_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = band_storage<Config, Element>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  constexpr int computing_warps = Config::groups * warpgroup::warps;
  if (threadIdx.x == 0) {
    for (const CUtensorMap* map : {&p.q, &p.k, &p.v, &p.o}) ptx::prefetch_tensor_map(map);
    shared.query_ring.init(1, 1);
    shared.output_fills.init(warpgroup::warps);
    shared.key_fills.init(1);
    shared.value_ring.init(1, computing_warps);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  const int warp = warp::uniform_index();
  const auto compute = [&](int group) { band_consumer<Config, Element>(shared, p, group).work(); };
  const auto copy = [&](int) {
    if (warp == computing_warps) fetch_band(shared, p);
    if (warp == computing_warps + 1) store_band(shared, p);
  };
  using roles = role_split<1, warpgroup_role{Config::groups, Config::consumer_registers},
                           warpgroup_role{1, Config::producer_registers}>;
  static_assert(roles::threads == cta_threads<Config>);
  roles::run(warp, compute, copy);
}

}  // namespace based::attention_sm90
