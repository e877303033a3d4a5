// Softmax attention on Hopper where there are too few queries for all multiprocessors, or sequences
// are so short that a block of queries is done before it is under way: the warpgroups of a CTA have
// one block of 64 queries in common and split its keys.
//
//   of the tiles of 64 keys that the block sees, warpgroup g has the tiles g, g + G, g + 2 G, ...
//   P = 2^(s S - m_g),   S = Q K^T,   O_g += P V,   l_g += P 1,   s = scale log2(e)
//   O = sum_g 2^(m_g - m) O_g / sum_g 2^(m_g - m) l_g,   m = max_g m_g
//
// m_g is the largest score so far: with a few tiles each, an exact maximum costs next to nothing.
// Where O_g is not finite, the warpgroup starts again and keeps values that are no number to the
// rows that see them.
//
// Grid: a CTA a block of queries, in the order of block_order. Each warpgroup fetches its own
// tiles.
#pragma once

#include "kernels/attention/forward_sm90/config.cuh"
#include "kernels/attention/forward_sm90/softmax.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/ptx/sync.cuh"
#include "kernels/tile/warp.cuh"

namespace based::attention_sm90 {

template <int HeadDim>
struct split_keys {
  static constexpr int head_dim = HeadDim;
  static constexpr int groups = 4;
  static constexpr int stages = HeadDim == 64 ? 2 : 1;  ///< key tiles that a warpgroup has fetched
  static constexpr int threads = groups * warpgroup::threads;
};

template <class Config, class Element>
struct split_storage {
  using tile = shared_tile<64, Config::head_dim, swizzle::bytes128, Element>;
  /// Keys and values; when the warpgroup has no more tiles, its O_g.
  struct key_tile {
    tile k, v;
  };

  tile q;                                          ///< [64 x Dh]
  key_tile tiles[Config::groups][Config::stages];  ///< [64 x Dh] each
  float maxima[Config::groups][group_queries];     ///< m_g
  float sums[Config::groups][group_queries];       ///< l_g
  barrier queries_loaded;
  fill_ring<Config::stages> key_fills[Config::groups];
  fill_ring<Config::stages> value_fills[Config::groups];

  /// Eight elements of a row of O_g [64 x Dh], fp32. Rows are as long as all banks or twice that,
  /// so their eights change places. Called by: one thread
  __device__ float* partial(int group, int row, int eight) {
    static_assert(sizeof(key_tile) == group_queries * Config::head_dim * sizeof(float));
    auto* const rows = reinterpret_cast<float*>(&tiles[group][0]);
    return rows + row * Config::head_dim + (eight ^ row % 8) * 8;
  }
};

/// What one warpgroup works with; each member says who calls it.
template <class Config, class Element>
class key_part {
  static constexpr int head_dim = Config::head_dim;
  using storage = split_storage<Config, Element>;

 public:
  /// `warp`: the calling warp's index in the block, known to the compiler as uniform.
  /// Called by: one warp
  __device__ key_part(storage& shared, const parameters& p, int warp)
      : shared_(shared),
        p_(p),
        item_(p.order.item(static_cast<int>(blockIdx.x))),
        key_head_(item_.head / p.query_heads_per_key_head),
        query_(item_.block * group_queries),
        walk_(walk_of(p.head, query_)),
        group_(warp / warpgroup::warps),
        is_first_warp_(warp % warpgroup::warps == 0) {}

  /// Called by: one warpgroup
  __device__ void attend() {
    if (is_first_warp_ && group_ == 0) {
      warp::load_async(shared_.queries_loaded, {item_.batch, item_.head, query_},
                       tile_copy{shared_.q, p_.q});
    }
    start_fetching();
    shared_.queries_loaded.wait(0);
    walk<attempt::online>();
    const bool good = ptx::named_barrier_all<warpgroup::threads>(
        first_group_barrier + group_, is_finite(o_, warp::row_sum(sums_)));
    if (!__shfl_sync(~0u, good, 0)) {
      start_fetching();
      walk<attempt::careful>();
      synchronize();
    }
    hand_over();
  }

  /// When all warpgroups have attended: a share of O.
  /// Called by: one block
  __device__ void combine(const sequence_view<Element>& to) {
    constexpr int eights = head_dim / 8;
#pragma unroll
    for (int i = threadIdx.x; i < group_queries * eights; i += Config::threads) {
      const int row = i / eights, eight = i % eights, query = query_ + row;
      if (query >= p_.head.queries) return;
      float largest = -INFINITY;
#pragma unroll
      for (int g = 0; g < Config::groups; ++g) largest = fmaxf(largest, shared_.maxima[g][row]);
      if (largest == -INFINITY) largest = 0;
      float sum = 0, o[8] = {};
#pragma unroll
      for (int g = 0; g < Config::groups; ++g) {
        const float factor = ptx::ex2(shared_.maxima[g][row] - largest);
        sum = fmaf(factor, shared_.sums[g][row], sum);
        const float* const part = shared_.partial(g, row, eight);
#pragma unroll
        for (int e = 0; e < 8; ++e) o[e] = fmaf(factor, part[e], o[e]);
      }
      const bool sees_none = p_.head.sees_none(query);
      const float inverse = sees_none ? 0 : ptx::reciprocal(sum);
      uint4 words;
      words.x = to_word<Element>(o[0] * inverse, o[1] * inverse);
      words.y = to_word<Element>(o[2] * inverse, o[3] * inverse);
      words.z = to_word<Element>(o[4] * inverse, o[5] * inverse);
      words.w = to_word<Element>(o[6] * inverse, o[7] * inverse);
      *reinterpret_cast<uint4*>(to.token(item_.batch, item_.head, query) + 8 * eight) = words;
      if (p_.lse != nullptr && eight == 0) {
        const std::int64_t head = std::int64_t{item_.batch} * p_.order.heads + item_.head;
        p_.lse[head * p_.head.queries + query] = log_sum_exp(largest, sum, sees_none);
      }
    }
  }

 private:
  /// Until all warps of the warpgroup are here.
  /// Called by: one warpgroup
  __device__ void synchronize() {
    ptx::named_barrier_sync<warpgroup::threads>(first_group_barrier + group_);
  }

  /// The tokens of tile `t` of the walk. Called by: one thread
  __device__ tile_coordinates keys_of(int t) const {
    return {item_.batch, key_head_, walk_.first_key - t * tile_keys};
  }
  /// Called by: one warpgroup
  __device__ void fetch_keys(int t, ring_position<Config::stages> to) {
    if (!is_first_warp_ || t >= walk_.tiles) return;
    warp::load_async(shared_.key_fills[group_].filled(to), keys_of(t),
                     tile_copy{shared_.tiles[group_][to.buffer].k, p_.k});
  }
  /// Called by: one warpgroup
  __device__ void fetch_values(int t, ring_position<Config::stages> to) {
    if (!is_first_warp_ || t >= walk_.tiles) return;
    warp::load_async(shared_.value_fills[group_].filled(to), keys_of(t),
                     tile_copy{shared_.tiles[group_][to.buffer].v, p_.v});
  }

  /// As many tiles as there is room for. Called by: one warpgroup
  __device__ void start_fetching() {
#pragma unroll
    for (int i = 0; i < Config::stages; ++i) {
      fetch_keys(group_ + i * Config::groups, stage_.next(i));
      fetch_values(group_ + i * Config::groups, stage_.next(i));
    }
  }

  /// The warpgroup's tiles. Called by: one warpgroup
  template <attempt Kind>
  __device__ void walk() {
    clear(o_);
    maxima_ = {-INFINITY, -INFINITY};
    sums_ = {0, 0};
#pragma unroll 1
    for (int t = group_; t < walk_.tiles; t += Config::groups) {
      auto& own = shared_.tiles[group_][stage_.buffer];
      score_tile scores;
      shared_.key_fills[group_].wait_full(stage_);
      warpgroup::mma_fence();
      warpgroup::mma_ABt<ptx::mma_mode::overwrite>(scores, shared_.q, own.k);
      warpgroup::mma_commit();
      warpgroup::mma_wait<0>(scores);
      const int next = t + Config::stages * Config::groups;  // tile for this one's place
      if (next < walk_.tiles) {
        synchronize();  // the keys have been read
        fetch_keys(next, stage_);
      }
      const bool is_masked = t == 0 || t > walk_.clean;
      if (is_masked) mask(scores, p_.head, walk_.first_key, t);
      weigh_online(scores, o_, maxima_, sums_, p_.log2_scale);
      const operand_tile<tile_keys> weights = to_operand<Element>(scores);
      shared_.value_fills[group_].wait_full(stage_);
      if (Kind == attempt::careful && is_masked) {
        add_values_with_weight<Element>(o_, weights, own.v);
      } else {
        warpgroup::mma_fence();
#pragma unroll
        for (int i = 0; i < weights.slices; ++i) {
          warpgroup::mma_AB(o_, weights.slice[i], own.v, i);
        }
        warpgroup::mma_commit();
        warpgroup::mma_wait<0>(o_);
      }
      if (next < walk_.tiles) {
        synchronize();  // the values have been read
        fetch_values(next, stage_);
      }
      stage_.advance();
    }
  }

  /// Puts O_g, m_g and l_g where all can read them. Called by: one warpgroup
  __device__ void hand_over() {
    sums_ = warp::row_sum(sums_);
    const int pair = warp::lane() % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = thread_row(r);
#pragma unroll
      for (int i = 0; i < head_dim / 8; ++i) {
        const float* const own = o_.value + 4 * i + 2 * r;
        *reinterpret_cast<float2*>(shared_.partial(group_, row, i) + pair) =
            make_float2(own[0], own[1]);
      }
      if (pair == 0) {
        shared_.maxima[group_][row] = maxima_.value[r] * p_.log2_scale;
        shared_.sums[group_][row] = sums_.value[r];
      }
    }
  }

  storage& shared_;
  const parameters& p_;
  const block_item item_;
  const int key_head_;
  const int query_;  ///< the block's first
  const tile_walk walk_;
  const int group_;
  const bool is_first_warp_;
  ring_position<Config::stages> stage_;
  accumulator_tile<head_dim> o_;
  row_values maxima_, sums_;
};

template <class Config, class Element>
__global__ void __launch_bounds__(Config::threads, 1)
    split_keys_kernel(const __grid_constant__ parameters p,
                      const __grid_constant__ sequence_view<Element> o) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = split_storage<Config, Element>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  if (threadIdx.x == 0) {
    for (const CUtensorMap* map : {&p.q, &p.k, &p.v}) ptx::prefetch_tensor_map(map);
    shared.queries_loaded.init(1);
    for (int g = 0; g < Config::groups; ++g) {
      shared.key_fills[g].init(1);
      shared.value_fills[g].init(1);
    }
    ptx::fence_mbarrier_init();
  }
  key_part<Config, Element> part(shared, p, warp::uniform_index());
  __syncthreads();
  part.attend();
  __syncthreads();  // all O_g, m_g and l_g are there
  part.combine(o);
}

}  // namespace based::attention_sm90
