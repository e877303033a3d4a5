// A warpgroup: 64 queries against their keys, tile by tile.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/attention/forward_sm90/loader.cuh"
#include "kernels/attention/forward_sm90/softmax.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/ptx/stmatrix.cuh"
#include "kernels/ptx/tma.cuh"

namespace based::attention_sm90 {

/// How a row's maximum is treated. `frozen`: taken in the first tile. `online`: exact.
enum class maximum { frozen, online };

template <class Config, class T>
class consumer {
  static constexpr int stages = Config::stages;
  static constexpr int head_dim = Config::head_dim;
  static constexpr int slices = tile_keys / 16;
  using storage = shared_storage<Config>;
  using tile = typename storage::tile;
  using score_tile = accumulator_tile<tile_keys>;
  using output_accumulator = accumulator_tile<head_dim>;

 public:
  __device__ consumer(storage& shared, const parameters& p, int group, int warp)
      : shared_(shared), p_(p), group_(group), warp_(warp) {}

  /// Works on all items of this CTA: a list of them, then those that have to be redone.
  /// Called by: one warpgroup
  __device__ void run() {
    int first_round = 0;
    while ((listed_ = fill_list(shared_, p_, first_round)) > 0) {
      first_round += listed_;
      begin_list();
      for (int i = 0; i < listed_; ++i) work_on<maximum::frozen>(i);
      __syncthreads();
      begin_list();
      for (int i = 0; i < listed_; ++i) {
        if (uniform(shared_.list[i].todo) != 0) work_on<maximum::online>(i);
      }
      __syncthreads();
    }
  }

 private:
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
    const unsigned todo = uniform(shared_.list[index].todo);
    if (uniform(shared_.list[index].tiles) > 0) {
      shared_.queries_loaded[items_ % 2].wait(items_ / 2 % 2);
    }
    if ((todo >> group_ * warpgroup::warps & ((1u << warpgroup::warps) - 1)) == 0) {
      skip_tiles(uniform(shared_.list[index].tiles));
    } else {
      output_accumulator o;
      row_pair sums = {0, 0}, offsets = {0, 0};
      warpgroup::clear(o);
      {
        const place own = locate(index);
        skip_tiles(own.skipped);
        if (own.walk.tiles > 0) {
          if constexpr (Kind == maximum::frozen) {
            attend_frozen(o, sums, offsets, own.walk);
          } else {
            attend_online(o, sums, offsets, own.walk);
          }
        }
      }
      index = ptx::opaque(index);
      const place own = locate(index);
      if constexpr (Kind == maximum::frozen) {
        for (int t = own.walk.clean + 1; t < own.walk.tiles; ++t) {
          score_tile scores;
          start_scores(scores, stage_);
          warpgroup::mma_wait<0>(scores);
          mask_tile(scores, own.walk, t);
          last_step(o, scores, sums, offsets);
        }
      }
      skip_tiles(own.left);
      finish<Kind>(o, sums, offsets, own.query, index);
    }
    if (uniform(shared_.list[index].tiles) > 0) release_queries();
  }

  /// The first warp fetches.
  __device__ void begin_list() {
    if (group_ == 0 && warp_ == 0) loader<Config>(shared_, p_).begin(listed_, items_);
  }
  __device__ void load_next() {
    if (group_ == 0 && warp_ == 0) loader<Config>(shared_, p_).load_next(listed_, items_);
  }

  __device__ static int uniform(int value) { return __shfl_sync(~0u, value, 0); }

  __device__ void release_queries() {
    shared_.queries_consumed[items_ % 2].warp_arrive();
    ++items_;
  }

  __device__ void release_tile() {
    shared_.consumed[stage_.buffer].warp_arrive();
    stage_.advance();
  }

  /// A phase that is not waited for could pass unseen.
  __device__ void skip_tiles(int count) {
    for (; count > 0; --count) {
      load_next();
      shared_.keys_loaded[stage_.buffer].wait(stage_.parity);
      shared_.values_loaded[stage_.buffer].wait(stage_.parity);
      release_tile();
    }
  }

  /// Starts S = Q K^T of the tile in a stage that is loaded.
  __device__ void start_scores(score_tile& scores, ring_position<stages> at) {
    const tile& q = shared_.q[items_ % 2][group_];
    const tile& keys = shared_.k[at.buffer];
    shared_.keys_loaded[at.buffer].wait(at.parity);
    warpgroup::mma_fence();
#pragma unroll
    for (int i = 0; i < head_dim / 16; ++i) {
      if (i == 0) {
        ptx::wgmma<T, ptx::major::k, ptx::major::k, ptx::mma_mode::overwrite>(
            scores.value, q.template operand<ptx::major::k>(i), keys.template operand<ptx::major::k>(i));
      } else {
        ptx::wgmma<T, ptx::major::k, ptx::major::k, ptx::mma_mode::accumulate>(
            scores.value, q.template operand<ptx::major::k>(i), keys.template operand<ptx::major::k>(i));
      }
    }
    warpgroup::mma_commit();
  }

  /// Starts O += P V of the current tile, as its scores become weights.
  __device__ void start_values(output_accumulator& o, score_tile& scores, row_pair& sums,
                               const row_pair& offsets) {
    const tile& v = shared_.v[stage_.buffer];
    shared_.values_loaded[stage_.buffer].wait(stage_.parity);
#pragma unroll
    for (int i = 0; i < slices; ++i) {
      const operand_slice weights = weigh<T>(scores, i, p_.log2_scale, offsets, sums);
      warpgroup::mma_fence();
      ptx::wgmma<T, ptx::major::mn, ptx::mma_mode::accumulate>(
          o.value, weights.word, v.template operand<ptx::major::mn>(i));
    }
    warpgroup::mma_commit();
  }

  /// Weighs the values of the current tile while the next tile's scores are worked out.
  __device__ void step(output_accumulator& o, score_tile& scores, score_tile& next, row_pair& sums,
                       const row_pair& offsets) {
    start_scores(next, stage_.next());
    start_values(o, scores, sums, offsets);
    load_next();
    warpgroup::mma_wait<0>(next, o);
    release_tile();
  }
  __device__ void last_step(output_accumulator& o, score_tile& scores, row_pair& sums,
                            const row_pair& offsets) {
    start_values(o, scores, sums, offsets);
    load_next();
    warpgroup::mma_wait<0>(o);
    release_tile();
  }

  /// Takes what a query may not see out of tile `t` of a walk.
  __device__ void mask_tile(score_tile& scores, const tile_walk& walk, int t) {
    const int first_key = walk.first_key - t * tile_keys;
    int begin[2], end[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (p_.head.causal) {
        const int diagonal = thread_row(r) + t * tile_keys;  // within the tile
        begin[r] = max(-first_key, diagonal - p_.head.window + 1);
        end[r] = diagonal + 1;
      } else {
        begin[r] = 0;
        end[r] = p_.head.keys - first_key;
      }
    }
    mask(scores, begin, end);
  }

  __device__ void attend_frozen(output_accumulator& o, row_pair& sums, row_pair& offsets,
                                const tile_walk& walk) {
    score_tile scores, other;
    start_scores(scores, stage_);
    warpgroup::mma_wait<0>(scores);
    mask_tile(scores, walk, 0);
    offsets = scaled_offsets(row_maxima(scores, {-INFINITY, -INFINITY}), p_.log2_scale);

    int clean = walk.clean;
    for (; clean >= 2; clean -= 2) {
      step(o, scores, other, sums, offsets);
      step(o, other, scores, sums, offsets);
    }
    if (clean == 1) {
      step(o, scores, other, sums, offsets);
      last_step(o, other, sums, offsets);
    } else {
      last_step(o, scores, sums, offsets);
    }
  }

  __device__ void attend_online(output_accumulator& o, row_pair& sums, row_pair& offsets,
                                const tile_walk& walk) {
    row_pair maxima = {-INFINITY, -INFINITY};
    for (int t = 0; t < walk.tiles; ++t) {
      score_tile scores;
      start_scores(scores, stage_);
      warpgroup::mma_wait<0>(scores);
      if (t == 0 || t > walk.clean) mask_tile(scores, walk, t);
      const row_pair before = maxima;
      maxima = row_maxima(scores, before);
      offsets = scaled_offsets(maxima, p_.log2_scale);
      float factors[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        factors[r] = ptx::ex2(fmaf(before.value[r], p_.log2_scale, -offsets.value[r]));
        sums.value[r] *= factors[r];
      }
      warpgroup::scale_rows(o, factors);
      last_step(o, scores, sums, offsets);
    }
  }

  /// Divides by the sums and stores, unless this warp's rows have to be redone or were done before.
  template <maximum Kind>
  __device__ void finish(output_accumulator& o, row_pair sums, const row_pair& offsets, int query,
                         int index) {
    listed_item& item = shared_.list[index];
    const unsigned own_bit = 1u << (group_ * warpgroup::warps + warp_);
    bool stores = (uniform(item.todo) & own_bit) != 0;
    sums = {sum_of_row(sums.value[0]), sum_of_row(sums.value[1])};
    if constexpr (Kind == maximum::frozen) {
      constexpr float largest_sum = 1e30f;
      float zero = 0;
#pragma unroll
      for (int i = 0; i < o.size; ++i) zero = fmaf(o.value[i], 0.0f, zero);
      const bool good = sums.value[0] < largest_sum && sums.value[1] < largest_sum && zero == 0;
      stores = __all_sync(~0u, good);
      if (stores && warp::lane() == 0) atomicAnd(&item.todo, ~own_bit);
    }
    sync_group();
    if (!stores) return;
    float factors[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = sums.value[r];
      factors[r] = sum == 0 ? 0 : 1 / sum;
      const int row = query + thread_row(r);
      if (p_.lse != nullptr && warp::lane() % 4 == 0 && row < p_.head.queries) {
        constexpr float ln2 = 0.693147180559945309f;
        const std::int64_t head = std::int64_t{item.batch} * p_.order.heads + item.head;
        p_.lse[head * p_.head.queries + row] = (offsets.value[r] + log2f(sum)) * ln2;
      }
    }
    warpgroup::scale_rows(o, factors);
    store(o, {item.batch, item.head, query + warp_ * 16});
  }

  __device__ void sync_group() {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + group_), "n"(warpgroup::threads) : "memory");
  }

  /// Stores this warp's rows, through its part of the queries' tile.
  __device__ void store(const output_accumulator& o, tile_coordinates to) {
    tile& staged = shared_.q[items_ % 2][group_];
    const int row = warp_ * 16 + warp::lane() % 16, col = warp::lane() / 16 * 8;
#pragma unroll
    for (int i = 0; i < head_dim / 16; ++i) {
      const float* const values = o.value + 8 * i;
      const std::uint32_t words[4] = {
          ptx::to_words<T>(values[0], values[1]), ptx::to_words<T>(values[2], values[3]),
          ptx::to_words<T>(values[4], values[5]), ptx::to_words<T>(values[6], values[7])};
      ptx::stmatrix_x4<false>(ptx::shared_address(staged.at(row, 16 * i + col)), words);
    }
    ptx::fence_proxy_async();
    __syncwarp();
    if (ptx::elect_lane()) {
#pragma unroll
      for (int first = 0; first < head_dim; first += tile::layout::panel_cols) {
        ptx::bulk_tensor_store(&p_.o, staged.at(warp_ * 16, first), first, to.token, to.head,
                               to.batch);
      }
      ptx::bulk_commit_group();
      ptx::bulk_wait_group_read<0>();
    }
    __syncwarp();
  }

  storage& shared_;
  const parameters& p_;
  const int group_, warp_;
  ring_position<stages> stage_;
  int items_ = 0;  ///< with tiles, that it is through with
  int listed_ = 0;
};

}  // namespace based::attention_sm90
