// What the kernels of the Hopper prefill share: parameters, tiles, and a head's place in the grid.
#pragma once

#include <cuda.h>

#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/prefill_sm90.h"
#include "kernels/based/state_pass.cuh"
#include "kernels/tile/barrier.cuh"

namespace based::sm90 {

using quad::token_tile;
using output_tile = shared_tile<16, value_dim, swizzle::bytes128>;  // a warp's part of O [16 x 64]

struct parameters {
  CUtensorMap q, k, v, o;
  kv_state_view<const float> initial_state;  ///< kv empty: zero
  kv_state_view<float> final_state;          ///< kv empty: not wanted
  segment_state* partials;                   ///< [B * H, segments - 1]
  handed_state* handed;                      ///< [handed_heads]
  int heads;
  int chunks;        ///< of a head
  int segments;      ///< of a head
  int handed_heads;  ///< the first ones, which one CTA begins and another goes on with
  int seqlen;
  float scale;
  float eps;
  /// Of uneven segments: the first chunks, and the end.
  int segment_begin[max_recompute_segments + 1];
};

/// A (batch, head), the `index`-th of all B * H.
struct grid_head {
  int index, batch, head;

  __device__ grid_head(const parameters& p, int of_all)
      : index(of_all), batch(of_all / p.heads), head(of_all % p.heads) {}

  __device__ tile_coordinates chunk(int number) const {
    return {batch, head, number * chunk_tokens};
  }
  /// Of a chunk's rows those that are warp `warp`'s of a warpgroup.
  __device__ tile_coordinates output(int chunk, int warp) const {
    return {batch, head, chunk * chunk_tokens + warp * output_tile::rows};
  }
};

/// Of a head segment blockIdx.y, or a part by a ticket, which is chunks first .. last - 1.
struct segment_range : grid_head {
  int segment;
  int first, last;

  __device__ explicit segment_range(const parameters& p)
      : grid_head(p, blockIdx.x),
        segment(blockIdx.y),
        first(static_cast<int>(std::int64_t{p.chunks} * segment / p.segments)),
        last(static_cast<int>(std::int64_t{p.chunks} * (segment + 1) / p.segments)) {}
  __device__ static segment_range uneven(const parameters& p) {
    segment_range range(p);
    range.first = p.segment_begin[range.segment];
    range.last = p.segment_begin[range.segment + 1];
    return range;
  }

  /// Of a grid that begins each head, then goes on with those that are handed over, in the order in
  /// which CTAs start. The first parts are of all lengths, the shortest first: if all CTAs are as
  /// fast, they end at even distances from then on. When no head is left to begin, the first that
  /// ends makes room for the longest of the second parts, the next for the next: all of these end
  /// at the same time.
  __device__ static segment_range balanced(const parameters& p, int ticket) {
    const int heads = static_cast<int>(gridDim.x) - p.handed_heads;
    const bool goes_on = ticket >= heads;
    segment_range range(p, goes_on ? ticket - heads : ticket, p.chunks);
    if (range.index < p.handed_heads) {
      (goes_on ? range.first : range.last) = handed_over_at(p.chunks, p.handed_heads, range.index);
    }
    return range;
  }

 private:
  __device__ segment_range(const parameters& p, int of_all, int chunks)
      : grid_head(p, of_all), segment(0), first(0), last(chunks) {}
};

/// Starts the loads of a chunk's k and v to a stage of a kernel's storage. By one warp.
template <class Storage>
__device__ inline void load_keys_and_values(Storage& shared, const parameters& p,
                                            tile_coordinates chunk, int stage) {
  warp::load_async(shared.loaded[stage], chunk, tile_copy{shared.k[stage], p.k},
                   tile_copy{shared.v[stage], p.v});
}

/// The named barrier of a state's warpgroup, which in a pass over chunks is warpgroup 0.
inline constexpr int state_barrier = first_pass_barrier;

/// The initial state if there is one and it is `wanted`, else zero. By the state's warpgroup, which
/// has no use yet for the tiles that the state comes through.
template <bool Stateful, class Storage>
__device__ inline void start_state(state_accumulator& s_transposed, Storage& shared,
                                   const parameters& p, const grid_head& head, bool wanted) {
  if (Stateful && wanted && !p.initial_state.kv.empty()) {
    shared.initial_loaded.wait(0);
    warpgroup::load_state(s_transposed, shared.initial_state(), p.scale);
    warpgroup::sync<state_barrier>();
  } else {
    clear(s_transposed);
  }
}

/// The initial state's moments, likewise. Returns its number of tokens, wanted or not. By a
/// warpgroup.
template <bool Stateful>
__device__ inline float start_moments(key_moments& moments, const parameters& p,
                                      const grid_head& head, bool wanted) {
  moments.clear();
  if (!Stateful || p.initial_state.z.empty()) return 0;
  const float* z = p.initial_state.z_head(head.index);
  if (wanted) moments.load(z);
  return z[0];
}

template <bool Stateful>
__device__ inline float start_moments(no_moments&, const parameters&, const grid_head&, bool) {
  return 0;
}

/// Starts the copy of the initial state. By one warp.
template <class Storage>
__device__ inline void load_initial_state(Storage& shared, const parameters& p,
                                          const grid_head& head) {
  const float* kv = p.initial_state.kv_head(head.index);
  warp::load_async(&shared.initial_state(), *reinterpret_cast<const compact_state*>(kv),
                   shared.initial_loaded);
}

/// The moments after all tokens, and their number, to where they are wanted.
__device__ inline void store_final_moments(const key_moments& moments, float initial_tokens,
                                           const parameters& p, const grid_head& head) {
  float* z = p.final_state.z_head(head.index);
  moments.store(z);
  if (warpgroup::thread() == 0) z[0] = initial_tokens + static_cast<float>(p.seqlen);
}

/// O (+)= phi(Q) S over `Count` slices of the features.
template <int First, int Count, warpgroup::mma_mode FirstMode = warpgroup::mma_mode::accumulate>
__device__ inline void add_inter_chunk(accumulator_tile<64>& o,
                                       const quad::query_features& features,
                                       const state_tile& state) {
  operand_slice slice[Count];  // [64 x 16]
#pragma unroll
  for (int i = 0; i < Count; ++i) slice[i] = features.slice(First + i);
  warpgroup::mma_fence();
  warpgroup::mma_AB<FirstMode>(o, slice[0], state, First);
#pragma unroll
  for (int i = 1; i < Count; ++i) warpgroup::mma_AB(o, slice[i], state, First + i);
  warpgroup::mma_commit();
}

/// Floating-point operations of a chunk on the tensor cores, padding included.
struct chunk_flops {
  double within;   ///< Q K^T, W V; normalised, the sums of W's rows
  double earlier;  ///< phi(Q) S; normalised, [Q 1/4] moments and the sums of its rows
  double state;    ///< phi(K)^T V
  double moments;  ///< normalised: K^T [K 1]
};
constexpr chunk_flops flops_of_chunk(bool normalize) {
  constexpr int sums = 8;  // columns that hold the sums of rows
  const auto product = [](int m, int n, int k) { return 2.0 * m * n * k; };
  chunk_flops flops = {.within = product(chunk_tokens, chunk_tokens, feature_dim) +
                                 product(chunk_tokens, value_dim, chunk_tokens),
                       .earlier = product(chunk_tokens, value_dim, quad::slots),
                       .state = product(quad::slots, value_dim, chunk_tokens)};
  if (normalize) {
    flops.within += product(chunk_tokens, sums, chunk_tokens);
    flops.earlier += product(chunk_tokens, feature_dim, 2 * feature_dim) +
                     product(chunk_tokens, sums, feature_dim);
    flops.moments = product(feature_dim, feature_dim + sums, chunk_tokens);
  }
  return flops;
}

/// Shared memory: of a multiprocessor, and what the system takes of each CTA's.
inline constexpr std::size_t multiprocessor_bytes = 228 * 1024;
inline constexpr std::size_t reserved_for_system = 1024;

/// Of a validated call. Throws invalid_argument on a device that is no Hopper.
parameters make_parameters(const prefill_args<bf16>& args, int segments);

/// Enqueues the kernel that fills p.partials: the state, from zero, of each segment but a head's
/// last.
void launch_segment_states(const parameters& p, std::int64_t batch_heads, bool moments,
                           cuda_stream stream);

}  // namespace based::sm90
