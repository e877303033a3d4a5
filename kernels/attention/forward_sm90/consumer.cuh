// A warpgroup that computes: 64 queries against their keys, tile by tile.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/attention/forward_sm90/softmax.cuh"
#include "kernels/ptx/reciprocal.cuh"

namespace based::attention_sm90 {

/// How a row's maximum is treated. `frozen`: taken in the first tile. `online`: exact.
enum class maximum { frozen, online };

template <class Config, class Element>
class consumer {
  static constexpr int head_dim = Config::head_dim;
  using storage = shared_storage<Config, Element>;
  using tile = typename storage::tile;
  using output_accumulator = accumulator_tile<head_dim>;

  /// What a thread keeps of its rows.
  struct row_state {
    row_values offsets = {0, 0};  ///< subtracted from the scaled scores
    row_values sums = {0, 0};     ///< of the weights that this thread has seen
  };

 public:
  /// `warp`: the calling warp's index in the block, known to the compiler as uniform.
  __device__ consumer(storage& shared, const parameters& p, int warp)
      : shared_(shared),
        p_(p),
        group_(warp / warpgroup::warps),
        is_first_warp_(warp % warpgroup::warps == 0) {}

  /// Works on the list's items that are still to do.
  /// Called by: one warpgroup
  template <maximum Kind>
  __device__ void work_on_list(int listed) {
#pragma unroll 1
    for (int i = 0; i < listed; ++i) {
      const unsigned todo = uniform(shared_.list[i].todo);
      if (todo == 0) continue;
      const bool has_tiles = uniform(shared_.list[i].tiles) > 0;
      if (has_tiles) shared_.queries_loaded[query_.buffer].wait(query_.parity);
      if ((todo >> group_ & 1) == 0) {
        skip_tiles(uniform(shared_.list[i].tiles));
        if (has_tiles) release_queries();
      } else {
        work_on<Kind>(i);
      }
      if (has_tiles) query_.advance();
    }
  }

 private:
  __device__ static int uniform(int value) { return __shfl_sync(~0u, value, 0); }

  /// The warpgroup's own part of an item.
  struct place {
    int query;    ///< its first
    int skipped;  ///< tiles of the block's that come before the warpgroup's
    int left;     ///< and after them
    tile_walk walk;
  };

  /// Found anew where it is needed: while a warpgroup walks over tiles it has no registers for it.
  __device__ place locate(int index) const {
    const listed_item& item = shared_.list[index];
    place own;
    own.query = uniform(item.query) + group_ * group_queries;
    own.walk = walk_of(p_.head, own.query);
    const int tiles = uniform(item.tiles);
    own.skipped = p_.head.causal ? min(uniform(item.groups) - 1 - group_, tiles) : 0;
    own.left = tiles - own.skipped - own.walk.tiles;
    return own;
  }

  template <maximum Kind>
  __device__ void work_on(int index) {
    output_accumulator o;
    row_state rows;
    clear(o);
    {
      const place own = locate(index);
      skip_tiles(own.skipped);
      if (own.walk.tiles > 0) attend<Kind>(o, rows, own.walk);
    }
    index = ptx::opaque(index);
    skip_tiles(locate(index).left);
    finish<Kind>(o, rows, index);
  }

  __device__ void release_queries() {
    if (warpgroup::thread() == 0) shared_.queries_consumed[query_.buffer].arrive();
  }

  __device__ void release_tile() {
    shared_.consumed[stage_.buffer].warp_arrive();
    stage_.advance();
  }

  /// A phase that is not waited for could pass unseen.
  __device__ void skip_tiles(int count) {
#pragma unroll 1
    for (; count > 0; --count) {
      shared_.keys_loaded[stage_.buffer].wait(stage_.parity);
      shared_.values_loaded[stage_.buffer].wait(stage_.parity);
      release_tile();
    }
  }

  /// The queries [64 x Dh] as an operand: the tile, or a copy in registers.
  __device__ decltype(auto) queries() const {
    const tile& q = shared_.q[query_.buffer][group_];
    if constexpr (Config::queries_in_registers) {
      return warpgroup::load(q);
    } else {
      return (q);
    }
  }

  /// Starts S = Q K^T [64 x 64].
  template <class Queries>
  __device__ void start_scores(score_tile& scores, const Queries& q,
                               ring_position<Config::stages> at) {
    shared_.keys_loaded[at.buffer].wait(at.parity);
    warpgroup::mma_fence();
    warpgroup::mma_ABt<ptx::mma_mode::overwrite>(scores, q, shared_.k[at.buffer]);
    warpgroup::mma_commit();
  }

  /// Starts O += P V [64 x Dh] of the current tile.
  __device__ void start_values(output_accumulator& o, const operand_tile<tile_keys>& weights) {
    shared_.values_loaded[stage_.buffer].wait(stage_.parity);
    warpgroup::mma_fence();
    warpgroup::mma_AB(o, weights, shared_.v[stage_.buffer]);
    warpgroup::mma_commit();
  }

  /// All tiles of a walk. The weights of one tile are worked out while the tensor cores weigh the
  /// values of the tile before.
  template <maximum Kind>
  __device__ void attend(output_accumulator& o, row_state& rows, const tile_walk& walk) {
    row_values maxima = {-INFINITY, -INFINITY};
    score_tile scores;
    decltype(auto) q = queries();
    start_scores(scores, q, stage_);
    warpgroup::mma_wait<0>(scores);
    mask(scores, p_.head, walk.first_key, 0);
    maxima = warp::row_max(fold_max(scores, maxima));
    rows.offsets = offsets_of(maxima, p_.log2_scale);
    exp2_rows(scores, p_.log2_scale, rows.offsets);
    rows.sums = fold_sum(scores, rows.sums);
    operand_tile<tile_keys> weights = to_operand<Element>(scores);

#pragma unroll 1
    for (int t = 1; t < walk.tiles; ++t) {
      start_scores(scores, q, stage_.next());
      start_values(o, weights);
      warpgroup::mma_wait<1>(scores);
      if (t > walk.clean) mask(scores, p_.head, walk.first_key, t);
      row_values factors;
      if constexpr (Kind == maximum::online) {
        const row_values before = maxima;
        maxima = warp::row_max(fold_max(scores, before));
        rows.offsets = offsets_of(maxima, p_.log2_scale);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          factors.value[r] = ptx::ex2(fmaf(before.value[r], p_.log2_scale, -rows.offsets.value[r]));
          rows.sums.value[r] *= factors.value[r];
        }
      }
      exp2_rows(scores, p_.log2_scale, rows.offsets);
      rows.sums = fold_sum(scores, rows.sums);
      warpgroup::mma_wait<0>(o);
      if constexpr (Kind == maximum::online) scale_rows(o, factors);
      release_tile();
      weights = to_operand<Element>(scores);
    }
    start_values(o, weights);
    warpgroup::mma_wait<0>(o);
    release_tile();
  }

  /// Divides by the sums and stores, unless the warpgroup's rows have to be redone.
  template <maximum Kind>
  __device__ void finish(output_accumulator& o, const row_state& rows, int index) {
    listed_item& item = shared_.list[index];
    const row_values sums = warp::row_sum(rows.sums);
    if constexpr (Kind == maximum::frozen) {
      const bool good = ptx::named_barrier_all<warpgroup::threads>(first_group_barrier + group_,
                                                                   is_finite(o, sums));
      if (!uniform(good)) {
        if (uniform(item.tiles) > 0) release_queries();
        return;
      }
      if (warpgroup::thread() == 0) atomicAnd(&item.todo, ~(1u << group_));
    } else {
      ptx::named_barrier_sync<warpgroup::threads>(first_group_barrier + group_);
    }
    const int query = uniform(item.query) + group_ * group_queries;
    row_values factors;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = sums.value[r];
      factors.value[r] = sum == 0 ? 0 : ptx::reciprocal(sum);
      const int row = query + thread_row(r);
      if (p_.lse != nullptr && warp::lane() % 4 == 0 && row < p_.head.queries) {
        constexpr float ln2 = 0.693147180559945309f;
        const std::int64_t head = std::int64_t{item.batch} * p_.order.heads + item.head;
        p_.lse[head * p_.head.queries + row] = (rows.offsets.value[r] + log2f(sum)) * ln2;
      }
    }
    scale_rows(o, factors);

    tile& staged = shared_.q[query_.buffer][group_];
    warpgroup::store(staged, to_operand<Element>(o));
    ptx::fence_proxy_async();
    ptx::named_barrier_sync<warpgroup::threads>(first_group_barrier + group_);
    if (is_first_warp_) {
      warp::store_async(staged, p_.o, {item.batch, item.head, query});
      warp::wait_stores_read();
    }
    if (uniform(item.tiles) > 0) release_queries();
  }

  /// Whether nothing of this thread's has left fp32's range.
  __device__ static bool is_finite(const output_accumulator& o, const row_values& sums) {
    constexpr float largest_sum = 1e30f;
    float zero = 0;  // or NaN
#pragma unroll
    for (int i = 0; i < o.size; ++i) zero = fmaf(o.value[i], 0.0f, zero);
    return sums.value[0] < largest_sum && sums.value[1] < largest_sum && zero == 0;
  }

  storage& shared_;
  const parameters& p_;
  const int group_;
  const bool is_first_warp_;  ///< of the warpgroup
  ring_position<Config::stages> stage_;
  ring_position<storage::query_buffers> query_;
};

}  // namespace based::attention_sm90
