// What the kernels of the Hopper prefill share: their parameters, a head's place in the grid, and
// how a head's state and moments begin and end.
#pragma once

#include <cuda.h>

#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/prefill_sm90/segments.h"
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
  /// The first chunks of the segments of `recompute`, and the end.
  int segment_begin[max_recompute_segments + 1];
};

/// The tickets that the CTAs of `balanced` have drawn. They stand in the workspace behind the
/// states.
/// Called by: one thread
__device__ inline std::uint32_t& tickets(const parameters& p) {
  return *reinterpret_cast<std::uint32_t*>(p.handed + p.handed_heads);
}

/// A (batch, head), the `index`-th of all B * H.
struct grid_head {
  int index, batch, head;

  /// Called by: one thread
  __device__ grid_head(const parameters& p, int of_all)
      : index(of_all), batch(of_all / p.heads), head(of_all % p.heads) {}

  /// Called by: one thread
  __device__ tile_coordinates chunk(int number) const {
    return {batch, head, number * chunk_tokens};
  }
  /// The rows of a chunk that belong to warp `warp` of a warpgroup.
  /// Called by: one thread
  __device__ tile_coordinates output(int chunk, int warp) const {
    return {batch, head, chunk * chunk_tokens + warp * output_tile::rows};
  }
};

/// Chunks first .. last - 1 of a head.
struct segment_range : grid_head {
  int segment;  ///< of the head's, where it has several
  int first, last;
};

/// Segment blockIdx.y of head blockIdx.x, where a head's segments are all as long.
/// Called by: one thread
__device__ inline segment_range even_segment(const parameters& p) {
  const int segment = blockIdx.y;
  return {grid_head(p, blockIdx.x), segment,
          static_cast<int>(std::int64_t{p.chunks} * segment / p.segments),
          static_cast<int>(std::int64_t{p.chunks} * (segment + 1) / p.segments)};
}

/// Starts the loads of a chunk's k and v to a stage of a kernel's storage. Called by: one warp
template <class Storage>
__device__ inline void load_keys_and_values(Storage& shared, const parameters& p,
                                            tile_coordinates chunk, int stage) {
  warp::load_async(shared.chunk_ring.filled(stage), chunk, tile_copy{shared.k[stage], p.k},
                   tile_copy{shared.v[stage], p.v});
}

/// The named barriers of these kernels. In a pass over chunks (state_pass.cuh) the state's
/// warpgroup is the first.
enum named_barrier : int {
  state_barrier = first_pass_barrier,  ///< of the state's warpgroup
  second_pass_barrier,                 ///< of the second warpgroup of a pass
  passed_barrier,                      ///< of all that need what was passed
  moments_barrier                      ///< of the warpgroup that keeps the key moments
};

/// The initial state if there is one and it is `wanted`, else zero. The state comes through tiles
/// that its warpgroup has no use for yet. Called by: one warpgroup
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

/// The initial state's moments if there is one and they are `wanted`, else zero. Returns its number
/// of tokens, wanted or not. Called by: one warpgroup
template <bool Stateful>
__device__ inline float start_moments(key_moments& moments, const parameters& p,
                                      const grid_head& head, bool wanted) {
  moments.clear();
  if (!Stateful || p.initial_state.z.empty()) return 0;
  const float* z = p.initial_state.z_head(head.index);
  if (wanted) moments.load(z);
  return z[0];
}

/// Called by: one warpgroup
template <bool Stateful>
__device__ inline float start_moments(no_moments&, const parameters&, const grid_head&, bool) {
  return 0;
}

/// Starts the copy of the initial state. Called by: one warp
template <class Storage>
__device__ inline void load_initial_state(Storage& shared, const parameters& p,
                                          const grid_head& head) {
  const float* kv = p.initial_state.kv_head(head.index);
  warp::load_async(&shared.initial_state(), *reinterpret_cast<const compact_state*>(kv),
                   shared.initial_loaded);
}

/// Stores the moments after all tokens, and the tokens' number, in the final state.
/// Called by: one warpgroup
__device__ inline void store_final_moments(const key_moments& moments, float initial_tokens,
                                           const parameters& p, const grid_head& head) {
  float* z = p.final_state.z_head(head.index);
  moments.store(z);
  if (warpgroup::thread() == 0) z[0] = initial_tokens + static_cast<float>(p.seqlen);
}

/// O (+)= phi(Q) S over `Count` slices of the features. Called by: one warpgroup
template <int First, int Count, warpgroup::mma_mode FirstMode = warpgroup::mma_mode::accumulate>
__device__ inline void add_inter_chunk(output_accumulator& o, const quad::query_features& features,
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

}  // namespace based::sm90
