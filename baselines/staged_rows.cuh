// What the mma.sync baselines share: rows of bf16 staged in shared memory by cp.async and read back
// as fragments.
#pragma once

#include <cstdint>

#include "kernels/common/bf16.h"
#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/ldmatrix.cuh"

namespace based {

inline constexpr int warp_threads = 32;

/// Rows of `columns` elements. Their 16-byte chunks are permuted (xor) so that ldmatrix, which
/// reads the same chunk of eight neighbouring rows at once, finds them in different banks.
template <int columns>
struct staged_rows {
  static constexpr int chunk_elements = 8;
  static constexpr int chunks = columns / chunk_elements;
  static constexpr int bank_chunks = 8;  // 128 bytes: all banks once
  static constexpr int rows_a_line = chunks < bank_chunks ? bank_chunks / chunks : 1;
  static constexpr int permuted_chunks = chunks < bank_chunks ? chunks : bank_chunks;

  bf16* data;  // 16-byte aligned

  __device__ bf16* chunk(int row, int index) const {
    const int permuted = index ^ (row / rows_a_line % permuted_chunks);
    return data + row * columns + permuted * chunk_elements;
  }

  /// Starts the copy of `rows` rows by the block's first `threads` threads (call it with those
  /// only); rows from `valid_rows` on become zeros and are not read.
  template <int rows, int threads>
  __device__ void load_async(const bf16* source, std::int64_t row_stride,
                             std::int64_t valid_rows) const {
    constexpr int rows_a_step = threads / chunks;
    const int index = threadIdx.x % chunks;
    const bf16* from = source + threadIdx.x / chunks * row_stride + index * chunk_elements;
#pragma unroll
    for (int step = 0; step < (rows + rows_a_step - 1) / rows_a_step; ++step) {
      const int row = step * rows_a_step + threadIdx.x / chunks;
      if (rows % rows_a_step == 0 || row < rows) {
        ptx::cp_async_16(chunk(row, index), from, row < valid_rows);
      }
      from += rows_a_step * row_stride;
    }
  }

  /// The 16x16 block at (row, column), both multiples of 16: r[0] and r[1] hold columns 0..7 of its
  /// upper and lower half, r[2] and r[3] columns 8..15. An A as it is; as B, K-major, the upper
  /// half is {r[0], r[2]}, the lower {r[1], r[3]}.
  __device__ void load_block(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4(r, lane_chunk(row, column));
  }

  /// The same with each 8x8 matrix transposed. As B, the left half is {r[0], r[1]}, the right
  /// {r[2], r[3]}; {r[0], r[2], r[1], r[3]} is the transposed block as A.
  __device__ void load_block_trans(std::uint32_t (&r)[4], int row, int column) const {
    ptx::ldmatrix_x4_trans(r, lane_chunk(row, column));
  }

 private:
  __device__ bf16* lane_chunk(int row, int column) const {
    const int lane = threadIdx.x % warp_threads;
    return chunk(row + lane % 16, column / chunk_elements + lane / 16);
  }
};

}  // namespace based
