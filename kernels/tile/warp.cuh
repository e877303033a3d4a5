// Operations of one warp: bulk copies of tiles, and its place in the block.
#pragma once

#include "kernels/ptx/sync.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/shared_tile.cuh"

namespace based {

/// The first token of a tile of a [B, H, N, D] tensor.
struct tile_coordinates {
  int batch, head, token;
};

/// A tile, and the tensor that it is copied from.
template <class Tile>
struct tile_copy {
  Tile& to;
  const CUtensorMap& from;
};

namespace warp {

/// This warp's index in the block, known to the compiler as uniform. Costs a shuffle: ask once.
__device__ inline int uniform_index() {
  return __shfl_sync(~0u, threadIdx.x / 32, 0);
}
__device__ inline int lane() {
  return threadIdx.x % 32;
}

/// A value per lane that the compiler has to keep in a register, for it cannot work it out again.
/// It would else spread an address over several registers, one for each of its parts.
__device__ inline int pinned(int value) {
  return __shfl_sync(~0u, value, threadIdx.x % 32);
}

/// Starts the copies of tiles and lets `arrived` expect them: one arrival. Tokens past the end are
/// zeros.
template <class... Tiles>
__device__ inline void load_async(barrier& arrived, tile_coordinates from,
                                  const tile_copy<Tiles>&... copies) {
  if (ptx::elect_lane()) {
    arrived.arrive_expect((Tiles::bytes + ...));
    (ptx::bulk_tensor_load(copies.to.elements, &copies.from, arrived.word(), 0, from.token,
                           from.head, from.batch),
     ...);
  }
}

/// Starts the copy of an object in global memory to `to` and lets `arrived` expect it: one arrival.
template <class T>
__device__ inline void load_async(void* to, const T& from, barrier& arrived) {
  static_assert(sizeof(T) % 16 == 0);
  if (ptx::elect_lane()) {
    arrived.arrive_expect(sizeof(T));
    ptx::bulk_load(to, &from, sizeof(T), arrived.word());
  }
}

/// Starts the copy of a tile that this warp wrote, whose lanes have fenced that since. Tokens past
/// the end are not written.
template <class Tile>
__device__ inline void store_async(const Tile& tile, const CUtensorMap& map, tile_coordinates to) {
  __syncwarp();
  if (ptx::elect_lane()) {
    ptx::bulk_tensor_store(&map, tile.elements, 0, to.token, to.head, to.batch);
    ptx::bulk_commit_group();
  }
}

/// Until this warp's stores have read their tiles.
__device__ inline void wait_stores_read() {
  if (ptx::elect_lane()) ptx::bulk_wait_group_read<0>();
  __syncwarp();
}

}  // namespace warp
}  // namespace based
