// Operations of a whole block: filling tiles, and copies by cp.async where there is no copy engine.
#pragma once

#include <cstdint>

#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/opaque.cuh"

namespace based::block {

/// Fills a tile with a word of two elements.
/// Called by: one block
template <class Tile>
__device__ inline void fill(Tile& tile, std::uint32_t word) {
  auto* words = reinterpret_cast<std::uint32_t*>(tile.elements);
  for (int i = threadIdx.x; i < Tile::bytes / 4; i += blockDim.x) words[i] = word;
}

/// Starts the copy of a tile's rows from `source`, `row_stride` elements apart, by the
/// block's first `Threads` threads. Rows from `valid_rows` on become 0 and are not read.
/// Called by: one block
template <int Threads, class Tile, class T>
__device__ inline void load_async(Tile& tile, const T* source, std::int64_t row_stride,
                                  int valid_rows) {
  constexpr int unit = 16 / sizeof(T);  // elements of a copy
  constexpr int units_per_row = Tile::cols / unit;
  constexpr int rows_per_step = Threads / units_per_row;
  static_assert(Threads % units_per_row == 0 && Tile::rows % rows_per_step == 0);
  const int thread = ptx::opaque<int>(threadIdx.x);  // addresses are not worth registers
  const int first_row = thread / units_per_row;
  const int col = thread % units_per_row * unit;
  const T* from = source + first_row * row_stride + col;
#pragma unroll
  for (int row = first_row, i = 0; i < Tile::rows / rows_per_step; ++i, row += rows_per_step) {
    ptx::cp_async_16(tile.at(row, col), from, first_row < valid_rows - i * rows_per_step);
    from += rows_per_step * row_stride;
  }
}

/// Closes the group of copies started since the last call; it may be empty.
/// Called by: one thread
__device__ inline void commit_loads() {
  ptx::cp_async_commit();
}

/// Waits until at most `Pending` of this thread's latest groups are in flight. Other threads see
/// the tiles after a barrier. Called by: one thread
template <int Pending>
__device__ inline void wait_loads() {
  ptx::cp_async_wait<Pending>();
}

}  // namespace based::block
