// Operations of one warp: its place in the block, bulk copies of tiles, stores of its rows, and
// what its lanes have in common.
#pragma once

#include <cstdint>

#include "kernels/core/warp_size.h"
#include "kernels/ptx/stmatrix.cuh"
#include "kernels/ptx/sync.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/register_tile.cuh"
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

/// This warp's index in the block, which the compiler knows to be uniform. It costs a shuffle: ask
/// once.
/// Called by: one warp
__device__ inline int uniform_index() {
  return __shfl_sync(~0u, threadIdx.x / warp_size, 0);
}
/// This thread's index in its warp.
/// Called by: one thread
__device__ inline int lane() {
  return threadIdx.x % warp_size;
}

/// A value per lane that the compiler has to keep in a register, for it cannot work it out again.
/// It would else spread an address over several registers, one for each of its parts.
/// Called by: one warp
__device__ inline int pinned(int value) {
  return __shfl_sync(~0u, value, threadIdx.x % warp_size);
}

namespace detail {

/// Called by: one thread
template <class Tile>
__device__ inline void start_load(Tile& tile, const CUtensorMap& map, barrier& arrived,
                                  const tile_coordinates& from) {
#pragma unroll
  for (int i = 0; i < Tile::panels; ++i) {
    const int col = i * Tile::panel_cols;
    ptx::bulk_tensor_load(tile.at(0, col), &map, arrived.word(), col, from.token, from.head,
                          from.batch);
  }
}

}  // namespace detail

/// Starts the copies of tiles, one a panel, and lets `arrived` expect them: one arrival. Tokens
/// past the end are zeros. Called by: one warp
template <class... Tiles>
__device__ inline void load_async(barrier& arrived, tile_coordinates from,
                                  const tile_copy<Tiles>&... copies) {
  if (ptx::elect_lane()) {
    arrived.arrive_expect((Tiles::bytes + ...));
    (detail::start_load(copies.to, copies.from, arrived, from), ...);
  }
}

/// Starts the copy of an object in global memory to `to` and lets `arrived` expect it: one arrival.
/// Called by: one warp
template <class T>
__device__ inline void load_async(void* to, const T& from, barrier& arrived) {
  static_assert(sizeof(T) % 16 == 0);
  if (ptx::elect_lane()) {
    arrived.arrive_expect(sizeof(T));
    ptx::bulk_load(to, &from, sizeof(T), arrived.word());
  }
}

/// Starts the copies of a tile, one a panel. Whoever wrote the tile has called
/// ptx::fence_proxy_async() since, and this warp has waited for them. Tokens past the end are not
/// written.
/// Called by: one warp
template <class Tile>
__device__ inline void store_async(const Tile& tile, const CUtensorMap& map, tile_coordinates to) {
  __syncwarp();
  if (ptx::elect_lane()) {
#pragma unroll
    for (int i = 0; i < Tile::panels; ++i) {
      const int col = i * Tile::panel_cols;
      ptx::bulk_tensor_store(&map, tile.at(0, col), col, to.token, to.head, to.batch);
    }
    ptx::bulk_commit_group();
  }
}

/// Waits until this warp's stores have read their tiles.
/// Called by: one warp
__device__ inline void wait_stores_read() {
  if (ptx::elect_lane()) ptx::bulk_wait_group_read<0>();
  __syncwarp();
}

/// Stores columns 16 step .. of this warp's sixteen rows of a warpgroup's tile to rows `first_row`
/// .. of a shared tile.
/// Called by: one warp
template <class Tile>
__device__ inline void store(Tile& to, const operand_slice& from, int first_row, int step) {
  using layout = typename Tile::layout;
  static_assert(Tile::rows % 16 == 0);
  // Within a panel a step of 16 columns flips address bits that the tile's alignment leaves to the
  // column.
  const std::uint32_t address =
      ptx::shared_address(to.at(first_row + lane() % 16, lane() / 16 * 8));
  const int panel = 16 * step / layout::panel_cols * layout::panel_bytes;
  const int within = layout::offset(0, 16 * step) - panel;
  ptx::stmatrix_x4<false>((address ^ within) + panel, from.word);
}
/// All columns.
/// Called by: one warp
template <int Cols, class Tile>
__device__ inline void store(Tile& to, const operand_tile<Cols>& from, int first_row = 0) {
  static_assert(Tile::cols == Cols);
#pragma unroll
  for (int i = 0; i < from.slices; ++i) store(to, from.slice[i], first_row, i);
}

/// The largest or the sum of the values of the four lanes that share a row, in all four.
/// Called by: one warp
__device__ inline float row_max(float part) {
  part = fmaxf(part, __shfl_xor_sync(~0u, part, 1));
  return fmaxf(part, __shfl_xor_sync(~0u, part, 2));
}
/// Called by: one warp
__device__ inline float row_sum(float part) {
  part += __shfl_xor_sync(~0u, part, 1);
  return part + __shfl_xor_sync(~0u, part, 2);
}
/// Called by: one warp
__device__ inline row_values row_max(const row_values& parts) {
  return {row_max(parts.value[0]), row_max(parts.value[1])};
}
/// Called by: one warp
__device__ inline row_values row_sum(const row_values& parts) {
  return {row_sum(parts.value[0]), row_sum(parts.value[1])};
}

}  // namespace warp
}  // namespace based
