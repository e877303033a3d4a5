// A warpgroup that computes: 64 queries against their keys, tile by tile.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/attention/forward_sm90/softmax.cuh"
#include "kernels/ptx/global_flag.cuh"
#include "kernels/ptx/reciprocal.cuh"

namespace based::attention_sm90 {

/// What one warpgroup works with; each member says who calls it.
template <class Config, class Element>
class consumer {
  static constexpr int head_dim = Config::head_dim;
  using storage = shared_storage<Config, Element>;
  using tile = typename storage::tile;
  /// O [64 x Dh], and beside it, if products sum up the weights, their sums [64 x 8].
  using output_accumulator = accumulator_tile<head_dim + 8 * Config::sums_by_product>;

  /// What a thread keeps of its rows.
  struct row_state {
    row_values offsets = {0, 0};                 ///< subtracted from the scaled scores
    row_values maxima = {-INFINITY, -INFINITY};  ///< of the scores
    row_values sums = {0, 0};  ///< of the weights that this thread has seen, if it sums them up
  };

 public:
  /// `warp`: the calling warp's index in the block, known to the compiler as uniform.
  /// Called by: one thread
  __device__ consumer(storage& shared, const parameters& p, int warp)
      : shared_(shared), p_(p), group_(warp / warpgroup::warps) {}

  /// Works on the items of a new list; sets `undone` if some are not done then. Returns whether
  /// there may be another list.
  /// Called by: one warpgroup
  __device__ bool work_on_new_items(bool& undone) {
#pragma unroll 1
    for (int i = 0; i < storage::listed; ++i) {
      shared_.query_ring.wait_full(query_);
      if (uniform(shared_.list[i].groups) == 0) {
        hand_over();
        return false;
      }
      undone |= !work_on<attempt::speculative>(i);
    }
    return true;
  }

  /// Works on those items of the list that the attempt before has not done. Returns whether some
  /// are still not.
  /// Called by: one warpgroup
  template <attempt Kind>
  __device__ bool work_on_undone_items() {
    bool undone = false;
#pragma unroll 1
    for (int i = 0; i < storage::listed && uniform(shared_.list[i].groups) > 0; ++i) {
      if (uniform(shared_.list[i].undone_before(Kind)) == 0) continue;
      shared_.query_ring.wait_full(query_);
      undone |= !work_on<Kind>(i);
    }
    return undone;
  }

 private:
  /// A value that all of a warp's threads have, in a form that the compiler knows to be uniform.
  /// Called by: one warp
  __device__ static int uniform(int value) {
    return __shfl_sync(~0u, value, 0);
  }

  /// The warpgroup's own part of an item.
  struct place {
    int query;    ///< its first
    int skipped;  ///< tiles of the block's that come before the warpgroup's
    int left;     ///< and after them
    tile_walk walk;
  };

  /// The tile of 64 queries of an item's that is the warpgroup's.
  /// Called by: one thread
  __device__ int part_of(int index) const {
    return Config::takes_turns && index % 2 != 0 ? Config::groups - 1 - group_ : group_;
  }

  /// Found anew where it is needed: while a warpgroup walks over tiles it has no registers for it.
  /// Called by: one warp
  __device__ place locate(int index) const {
    const listed_item& item = shared_.list[index];
    const int part = part_of(index);
    place own;
    own.query = uniform(item.query) + part * group_queries;
    const int tiles = uniform(item.tiles);
    own.walk = p_.head.causal ? walk_of(p_.head, own.query)
                              : tile_walk{uniform(item.first_key), tiles, tiles - 1};
    own.skipped = p_.head.causal ? min(uniform(item.groups) - 1 - part, tiles) : 0;
    own.left = tiles - own.skipped - own.walk.tiles;
    return own;
  }

  /// Returns whether it is done.
  /// Called by: one warpgroup
  template <attempt Kind>
  __device__ bool work_on(int index) {
    bool done = true;
    if ((uniform(shared_.list[index].undone_before(Kind)) >> part_of(index) & 1) == 0) {
      skip_tiles(uniform(shared_.list[index].tiles));
    } else {
      output_accumulator o;
      row_state rows;
      clear(o);
      {
        const place own = locate(index);
        skip_tiles(own.skipped);
        if (own.walk.tiles > 0) {
          if constexpr (Kind == attempt::careful) {
            attend_carefully(o, rows, own.walk, part_of(index));
          } else {
            attend<Kind>(o, rows, own.walk, part_of(index));
          }
        }
      }
      index = ptx::opaque(index);
      skip_tiles(locate(index).left);
      done = finish<Kind>(o, rows, index);
    }
    hand_over();
    return done;
  }

  /// The queries have been read, and O is in their place if it is to be stored.
  /// Called by: one warpgroup
  __device__ void hand_over() {
    shared_.output_fills.filled(query_).warp_arrive();
    query_.advance();
  }

  /// The stage of the current tile may be filled again.
  /// Called by: one warp
  __device__ void release_tile() {
    shared_.value_ring.warp_release(stage_);
    stage_.advance();
  }

  /// Passes over tiles that this warpgroup's queries do not see. A phase of a barrier that is not
  /// waited for could pass unseen, so each is.
  /// Called by: one warp
  __device__ void skip_tiles(int count) {
#pragma unroll 1
    for (; count > 0; --count) {
      shared_.key_fills.wait_full(stage_);
      shared_.value_ring.wait_full(stage_);
      release_tile();
    }
  }

  /// The queries [64 x Dh] as an operand: the tile, or a copy in registers.
  /// Called by: one warpgroup
  __device__ decltype(auto) queries(int part) const {
    const tile& q = shared_.q[query_.buffer][part];
    if constexpr (Config::queries_in_registers) {
      return warpgroup::load(q);
    } else {
      return (q);
    }
  }

  /// Starts S = Q K^T [64 x 64].
  /// Called by: one warpgroup
  template <class Queries>
  __device__ void start_scores(score_tile& scores, const Queries& q,
                               ring_position<Config::stages> at) {
    shared_.key_fills.wait_full(at);
    warpgroup::mma_fence();
    warpgroup::mma_ABt<ptx::mma_mode::overwrite>(scores, q, shared_.k[at.buffer]);
    warpgroup::mma_commit();
  }

  /// Sixteen keys of the current tile.
  /// Called by: one warpgroup
  __device__ void multiply_values(output_accumulator& o, const operand_slice& weights, int step) {
    const tile& v = shared_.v[stage_.buffer];
    if constexpr (Config::sums_by_product) {
      warpgroup::mma_AB_beside(o, weights, v, step, shared_.ones);
    } else {
      warpgroup::mma_AB(o, weights, v, step);
    }
  }
  /// Starts O += P V [64 x Dh] of the current tile.
  /// Called by: one warpgroup
  __device__ void start_values(output_accumulator& o, const operand_tile<tile_keys>& weights) {
    shared_.value_ring.wait_full(stage_);
    warpgroup::mma_fence();
#pragma unroll
    for (int i = 0; i < weights.slices; ++i) multiply_values(o, weights.slice[i], i);
    warpgroup::mma_commit();
  }

  /// The weights of a tile from its scores.
  /// Called by: one warp
  template <attempt Kind>
  __device__ void weigh(score_tile& scores, row_state& rows, row_values& factors) {
    if constexpr (Kind == attempt::online) {
      const row_values before = rows.maxima;
      rows.maxima = warp::row_max(fold_max(scores, before));
      rows.offsets = offsets_of(rows.maxima, p_.log2_scale);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        factors.value[r] = ptx::ex2(fmaf(before.value[r], p_.log2_scale, -rows.offsets.value[r]));
        rows.sums.value[r] *= factors.value[r];
      }
    }
    exp2_rows(scores, p_.log2_scale, rows.offsets);
    if constexpr (!Config::sums_by_product) rows.sums = fold_sum(scores, rows.sums);
  }

  /// All tiles of a walk. The weights of one tile are worked out while the tensor cores weigh the
  /// values of the tile before.
  /// Called by: one warpgroup
  template <attempt Kind>
  __device__ void attend(output_accumulator& o, row_state& rows, const tile_walk& walk, int part) {
    score_tile scores;
    decltype(auto) q = queries(part);
    start_scores(scores, q, stage_);
    warpgroup::mma_wait<0>(scores);
    mask(scores, p_.head, walk.first_key, 0);
    rows.maxima = warp::row_max(fold_max(scores, rows.maxima));
    rows.offsets = offsets_of(rows.maxima, p_.log2_scale);
    int t = 0;
    if constexpr (Config::scores_ahead && Kind == attempt::speculative) {
      t = attend_ahead(o, scores, rows, q, walk);
    }
    row_values factors;
    weigh<attempt::speculative>(scores, rows, factors);
    operand_tile<tile_keys> weights = to_operand<Element>(scores);
#pragma unroll 1
    for (++t; t < walk.tiles; ++t) {
      start_scores(scores, q, stage_.next());
      start_values(o, weights);
      warpgroup::mma_wait<1>(scores);
      if (t > walk.clean) mask(scores, p_.head, walk.first_key, t);
      weigh<Kind>(scores, rows, factors);
      warpgroup::mma_wait<0>(o);
      if constexpr (Kind == attempt::online) scale_rows(o, factors);
      release_tile();
      weights = to_operand<Element>(scores);
    }
    start_values(o, weights);
    warpgroup::mma_wait<0>(o);
    release_tile();
  }

  /// Tiles that need no mask, two by two, where there are registers for the scores of two: those of
  /// the next tile are worked out while this one's become weights, sixteen keys at a time. From
  /// the first tile's scores; returns the number of tiles done, leaving the next one's scores.
  /// Called by: one warpgroup
  template <class Queries>
  __device__ int attend_ahead(output_accumulator& o, score_tile& scores, row_state& rows,
                              const Queries& q, const tile_walk& walk) {
    const auto step = [&](score_tile& now, score_tile& next) {
      start_scores(next, q, stage_.next());
      shared_.value_ring.wait_full(stage_);
#pragma unroll
      for (int i = 0; i < tile_keys / 16; ++i) {
        auto& slice = reinterpret_cast<accumulator_tile<16>&>(now.value[8 * i]);
        exp2_rows(slice, p_.log2_scale, rows.offsets);
        if constexpr (!Config::sums_by_product) rows.sums = fold_sum(slice, rows.sums);
        const operand_slice weights = to_operand<Element>(slice, 0);
        warpgroup::mma_fence();
        multiply_values(o, weights, i);
      }
      warpgroup::mma_commit();
      warpgroup::mma_wait<0>(next, o);
      release_tile();
    };
    score_tile other;
    int t = 0;
#pragma unroll 1
    for (; t + 2 <= walk.clean; t += 2) {
      step(scores, other);
      step(other, scores);
    }
    return t;
  }

  /// All tiles of a walk, one after the other.
  /// Called by: one warpgroup
  __device__ void attend_carefully(output_accumulator& o, row_state& rows, const tile_walk& walk,
                                   int part) {
    decltype(auto) q = queries(part);
#pragma unroll 1
    for (int t = 0; t < walk.tiles; ++t) {
      score_tile scores;
      start_scores(scores, q, stage_);
      warpgroup::mma_wait<0>(scores);
      const bool is_masked = t == 0 || t > walk.clean;
      if (is_masked) mask(scores, p_.head, walk.first_key, t);
      row_values factors;
      weigh<attempt::online>(scores, rows, factors);
      scale_rows(o, factors);
      operand_tile<tile_keys> weights = to_operand<Element>(scores);
      shared_.value_ring.wait_full(stage_);
      if (is_masked) {
        add_values_with_weight<Element>(o, weights, shared_.v[stage_.buffer]);
      } else {
        start_values(o, weights);
        warpgroup::mma_wait<0>(o);
      }
      release_tile();
    }
  }

  /// Divides by the sums and stores, unless the warpgroup's rows have to be redone; returns whether
  /// it has stored them.
  /// Called by: one warpgroup
  template <attempt Kind>
  __device__ bool finish(output_accumulator& o, const row_state& rows, int index) {
    listed_item& item = shared_.list[index];
    row_values sums;
    if constexpr (Config::sums_by_product) {
      sums = {o.value[head_dim / 2], o.value[head_dim / 2 + 2]};
    } else {
      sums = warp::row_sum(rows.sums);
    }
    // Also: the queries have been read by all, and O may take their place.
    const bool good = ptx::named_barrier_all<warpgroup::threads>(first_group_barrier + group_,
                                                                 is_finite(o, sums));
    const int part = part_of(index);
    if (Kind != attempt::careful && !uniform(good)) {
      if (warpgroup::thread() == 0) {
        atomicOr(&item.undone[static_cast<int>(Kind)], 1u << part);
        if (Kind == attempt::speculative) atomicAdd(p_.redone, 1ull);
      }
      return false;
    }
    row_values offsets = rows.offsets;
    if (uniform(item.meeting) > 0) {
      const int place = uniform(item.meeting) * Config::groups + part;
      if (!meet(o, offsets, sums, place)) {
        if (warpgroup::thread() == 0) atomicOr(&item.met, 1u << part);
        return true;
      }
    }
    const int query = uniform(item.query) + part * group_queries;
    row_values factors;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = sums.value[r];
      const int row = query + thread_row(r);
      factors.value[r] = p_.head.sees_none(row) ? 0 : ptx::reciprocal(sum);
      if (p_.lse != nullptr && warp::lane() % 4 == 0 && row < p_.head.queries) {
        const std::int64_t head = std::int64_t{item.batch} * p_.order.heads + item.head;
        p_.lse[head * p_.head.queries + row] =
            log_sum_exp(offsets.value[r], sum, p_.head.sees_none(row));
      }
    }
    scale_rows(o, factors);

    tile& staged = shared_.q[query_.buffer][part];
    warpgroup::store(staged, to_operand<Element>(first_columns<head_dim>(o)));
    ptx::fence_proxy_async();
    return true;
  }

  /// a b + c d, of two rounded products: either CTA may come first, and the result is the same.
  /// Called by: one thread
  __device__ static float add_products(float a, float b, float c, float d) {
    return __fadd_rn(__fmul_rn(a, b), __fmul_rn(c, d));
  }

  /// Puts O and the sums together with what another CTA has of the same queries and other keys;
  /// false where this one is the first to be done, and has written its own down for the other.
  /// Called by: one warpgroup
  __device__ bool meet(output_accumulator& o, row_values& offsets, row_values& sums, int place) {
    ptx::wait_for_prior_grid();  // which clears the states
    std::uint32_t* const state = p_.meetings + place;
    const bool may_be_first =
        warpgroup::thread() != 0 || atomicCAS(state, nobody_is_done, one_writes) == nobody_is_done;
    float* const met = p_.met + std::int64_t{place} * met_values(head_dim) * warpgroup::threads +
                       warpgroup::thread();
    float* const extra = met + o.size * warpgroup::threads;
    if (uniform(ptx::named_barrier_all<warpgroup::threads>(first_group_barrier + group_,
                                                           may_be_first))) {
#pragma unroll
      for (int i = 0; i < o.size; ++i) met[i * warpgroup::threads] = o.value[i];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        extra[r * warpgroup::threads] = offsets.value[r];
        extra[(2 + r) * warpgroup::threads] = sums.value[r];
      }
      ptx::named_barrier_sync<warpgroup::threads>(first_group_barrier + group_);
      if (warpgroup::thread() == 0) ptx::store_release(state, one_has_written);
      return false;
    }
    while (ptx::load_acquire(state) != one_has_written) {
    }
    row_values own, other;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // A part in which all of a row's scores are minus infinity has no offset.
      const float sum = extra[(2 + r) * warpgroup::threads];
      const float offset = sum == 0 ? -INFINITY : extra[r * warpgroup::threads];
      const float own_offset = sums.value[r] == 0 ? -INFINITY : offsets.value[r];
      const float larger = fmaxf(offset, own_offset);
      offsets.value[r] = larger == -INFINITY ? 0 : larger;
      own.value[r] = ptx::ex2(own_offset - offsets.value[r]);
      other.value[r] = ptx::ex2(offset - offsets.value[r]);
      sums.value[r] = add_products(sums.value[r], own.value[r], sum, other.value[r]);
    }
#pragma unroll
    for (int i = 0; i < o.size; ++i) {
      o.value[i] = add_products(o.value[i], own.value[i % 4 / 2], met[i * warpgroup::threads],
                                other.value[i % 4 / 2]);
    }
    return true;
  }

  storage& shared_;
  const parameters& p_;
  const int group_;
  ring_position<Config::stages> stage_;
  ring_position<storage::query_buffers> query_;
};

}  // namespace based::attention_sm90
