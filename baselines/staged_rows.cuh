// What the mma.sync baselines share: rows of bf16 staged in shared memory by cp.async and read back
// as fragments.
#pragma once

#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/core/padded_tile.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/ldmatrix.cuh"

namespace based {

/// A tile in shared memory, filled by cp.async and read by ldmatrix.
template <int Rows, int Columns>
struct staged_rows : padded_tile<Rows, Columns> {
  using tile = padded_tile<Rows, Columns>;

  /// Starts the copy from `source` by the block's first `Threads` threads (call it with those
  /// only); rows from `valid_rows` on become zeros and are not read.
  /// Called by: `Threads` threads
  template <int Threads>
  __device__ void load_async(const bf16* source, std::int64_t source_stride,
                             std::int64_t valid_rows) {
    constexpr int units = Columns / tile::unit;
    constexpr int rows_a_step = Threads / units;
    const auto valid = static_cast<int>(min(valid_rows, std::int64_t{Rows}));
    const int first_row = threadIdx.x / units;
    const int column = threadIdx.x % units * tile::unit;
    const bf16* from = source + first_row * source_stride + column;
#pragma unroll
    for (int step = 0; step < (Rows + rows_a_step - 1) / rows_a_step; ++step) {
      const int row = step * rows_a_step + first_row;
      if (Rows % rows_a_step == 0 || row < Rows) {
        ptx::cp_async_16(this->at(row, column), from, row < valid);
      }
      from += rows_a_step * source_stride;
    }
  }

  // Blocks of 16x16 at (row, column), as the operands of mma_m16n8k16, by one warp. Two B side by
  // side come as {r[0], r[1]} and {r[2], r[3]}.

  /// A: m is a row, k a column.
  /// Called by: one warp
  __device__ void load_a(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4(r, ptx::quarters_by_columns(*this, row, column));
  }
  /// A: m is a column, k a row.
  /// Called by: one warp
  __device__ void load_a_trans(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4_trans(r, ptx::quarters_by_rows(*this, row, column));
  }
  /// Two B: n is a row, k a column.
  /// Called by: one warp
  __device__ void load_b(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4(r, ptx::quarters_by_rows(*this, row, column));
  }
  /// Two B: n is a column, k a row.
  /// Called by: one warp
  __device__ void load_b_trans(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4_trans(r, ptx::quarters_by_columns(*this, row, column));
  }
};

}  // namespace based
