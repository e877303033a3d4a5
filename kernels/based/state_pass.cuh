// A pass over chunks for their state only:
//
//   S += phi(K)^T V
//
// by one warpgroup, or by several side by side that take the chunks by turns, each to a sum of its
// own: they need not wait for each other. The features of a chunk are built while the tensor cores
// work on the chunk before.
#pragma once

#include <type_traits>

#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based {

inline constexpr int pass_feature_buffers = 2;  // tiles of phi(K) of a warpgroup
inline constexpr int first_pass_barrier = 1;    // of the named barriers, one a warpgroup

/// In place of key_moments, where none are wanted or they are kept elsewhere.
struct no_moments {
  /// Called by: one warpgroup
  __device__ void clear() {}
  /// Called by: one warpgroup
  __device__ void add(const quad::token_tile&) {}
};
template <bool Wanted>
using moments_if = std::conditional_t<Wanted, key_moments, no_moments>;

/// Adds those of the first `count` chunks that are warpgroup `Group`'s of `Groups`. Chunk i is
/// loaded to stage i mod Storage::stages of `shared` (k, v, chunk_ring). `release(i, stage)`:
/// called by the warpgroup's first warp when chunk i has been read. Called by: one warpgroup
template <int Group, int Groups, class Moments, class Storage, class Release>
__device__ inline void add_chunks(state_accumulator& s_transposed, Moments&& moments,
                                  Storage& shared,
                                  quad::feature_tile (&features)[pass_feature_buffers], int count,
                                  float scale, int warp, Release release) {
  constexpr int named_barrier = first_pass_barrier + Group;
  using stage_position = ring_position<Storage::stages>;
  static_assert(Storage::stages % Groups == 0);
  ring_position<Storage::stages / Groups> position;  // among this warpgroup's stages
  ring_position<pass_feature_buffers> buffer;
  const auto stage = [&] {
    return stage_position{Groups * position.buffer + Group, position.parity};
  };
  const auto build_features = [&] {
    const int present = stage().buffer;
    shared.chunk_ring.wait_full(stage());
    quad::store_key_features(features[buffer.buffer], shared.k[present], scale, warp);
    moments.add(shared.k[present]);
  };

  if (Group < count) build_features();
  stage_position previous;
  int chunk = Group;
  for (; chunk < count; chunk += Groups) {
    ptx::fence_proxy_async();
    warpgroup::sync<named_barrier>();  // features are written, the previous chunk is read
    const value_tile& v = shared.v[stage().buffer];                    // [64 x 64]
    const quad::feature_tile& key_features = features[buffer.buffer];  // [64 x 160]
    warpgroup::mma_fence();
    warpgroup::mma_AtB(s_transposed, v, key_features);
    warpgroup::mma_commit();
    if (warp == 0 && chunk > Group) release(chunk - Groups, previous);
    previous = stage();
    position.advance();
    buffer.advance();
    if (chunk + Groups < count) build_features();
    warpgroup::mma_wait<0>(s_transposed);
  }
  warpgroup::sync<named_barrier>();
  if (warp == 0 && chunk > Group) release(chunk - Groups, previous);
}

}  // namespace based
