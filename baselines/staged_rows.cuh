// What the mma.sync baselines share: rows of bf16 staged in shared memory by cp.async and read back
// as fragments.
#pragma once

#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/ldmatrix.cuh"

namespace based {

inline constexpr int warp_threads = 32;

/// A tile in shared memory. Its rows are an odd number of 16-byte chunks apart, so that ldmatrix,
/// which reads the same chunk of eight neighbouring rows at once, finds them in different banks.
template <int rows, int columns>
struct staged_rows {
  static constexpr int chunk_elements = 8;
  static constexpr int chunks = columns / chunk_elements;
  static constexpr int row_stride = (chunks | 1) * chunk_elements;

  alignas(16) bf16 data[rows * row_stride];

  /// Starts the copy from `source` by the block's first `threads` threads (call it with those
  /// only); rows from `valid_rows` on become zeros and are not read.
  template <int threads>
  __device__ void load_async(const bf16* source, std::int64_t source_stride,
                             std::int64_t valid_rows) {
    constexpr int rows_a_step = threads / chunks;
    const auto valid = static_cast<int>(min(valid_rows, std::int64_t{rows}));
    const int first_row = threadIdx.x / chunks;
    const int column = threadIdx.x % chunks * chunk_elements;
    const bf16* from = source + first_row * source_stride + column;
#pragma unroll
    for (int step = 0; step < (rows + rows_a_step - 1) / rows_a_step; ++step) {
      const int row = step * rows_a_step + first_row;
      if (rows % rows_a_step == 0 || row < rows) {
        ptx::cp_async_16(data + row * row_stride + column, from, row < valid);
      }
      from += rows_a_step * source_stride;
    }
  }

  // Blocks of 16x16 at (row, column), as the operands of mma_m16n8k16. Two B side by side come as
  // {r[0], r[1]} and {r[2], r[3]}.

  /// A: m is a row, k a column.
  __device__ void load_a(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4(r, quarters_by_columns(row, column));
  }
  /// A: m is a column, k a row.
  __device__ void load_a_trans(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4_trans(r, quarters_by_rows(row, column));
  }
  /// Two B: n is a row, k a column.
  __device__ void load_b(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4(r, quarters_by_rows(row, column));
  }
  /// Two B: n is a column, k a row.
  __device__ void load_b_trans(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4_trans(r, quarters_by_columns(row, column));
  }

 private:
  // Each eight lanes address one 8x8 matrix: in which order the block's quarters come.
  __device__ const bf16* quarters_by_columns(int row, int column) const {
    const int lane = threadIdx.x % warp_threads;
    return data + (row + lane % 16) * row_stride + column + lane / 16 * 8;
  }
  __device__ const bf16* quarters_by_rows(int row, int column) const {
    const int lane = threadIdx.x % warp_threads;
    return data + (row + lane / 16 * 8 + lane % 8) * row_stride + column + lane / 8 % 2 * 8;
  }
};

}  // namespace based
