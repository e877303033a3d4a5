// Operations of one warp on mma.sync: 16x16 operands from and to shared memory, products of them.
//
// All products are A B^T. The left operand is an operand_slice and the result sixteen rows of an
// accumulator_tile (register_tile.cuh); the right operand's rows, the columns of the product, are a
// right_slice. Both hold the same words in another order: results, once rounded, serve as either.
#pragma once

#include <cstdint>

#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/ldmatrix.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/warp.cuh"

namespace based {

/// bf16 [16 x 16]: the right operand of A B^T.
struct right_slice {
  std::uint32_t word[4];  ///< (row, columns) g, 2t..; g, 8 + 2t..; g + 8, 2t..; g + 8, 8 + 2t..
};

namespace warp {

/// A left operand's words as the right operand of the same block.
/// Called by: one thread
__device__ inline right_slice as_right(const operand_slice& x) {
  return {{x.word[0], x.word[2], x.word[1], x.word[3]}};
}

/// Columns 16 slice .. of D [16 x Cols] += A [16 x 16] B^T, B [16 x 16].
/// Called by: one warp
template <class T = bf16, int Cols>
__device__ inline void mma_ABt(accumulator_tile<Cols>& d, int slice, const operand_slice& a,
                               const right_slice& b) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    auto& block = reinterpret_cast<float(&)[4]>(d.value[8 * slice + 4 * half]);
    ptx::mma_m16n8k16<T>(block, a.word, b.word[2 * half], b.word[2 * half + 1]);
  }
}

// Loads of a tile's block [16 x 16].

/// The block that starts at (row, col), as a right operand.
/// Called by: one warp
template <class Tile>
__device__ inline right_slice load_right(const Tile& tile, int row, int col) {
  right_slice block;
  ptx::ldmatrix_x4(block.word, ptx::quarters_by_rows(tile, row, col));
  return block;
}

/// The block that starts at (row, col), as a left operand.
/// Called by: one warp
template <class Tile>
__device__ inline operand_slice load_left(const Tile& tile, int row, int col) {
  operand_slice block;
  ptx::ldmatrix_x4(block.word, ptx::quarters_by_columns(tile, row, col));
  return block;
}

/// The transpose of the block that starts at (row, col), as a left operand.
/// Called by: one warp
template <class Tile>
__device__ inline operand_slice load_transposed(const Tile& tile, int row, int col) {
  operand_slice block;
  ptx::ldmatrix_x4_trans(block.word, ptx::quarters_by_rows(tile, row, col));
  return block;
}
/// The transpose of the block that starts at (row, col), as a right operand.
/// Called by: one warp
template <class Tile>
__device__ inline right_slice load_transposed_right(const Tile& tile, int row, int col) {
  right_slice block;
  ptx::ldmatrix_x4_trans(block.word, ptx::quarters_by_columns(tile, row, col));
  return block;
}

/// Stores a block to where it starts, (row, col).
/// Called by: one warp
template <class Tile>
__device__ inline void store(Tile& tile, int row, int col, const operand_slice& block) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    tile.store(row + i % 2 * 8 + lane() / 4, col + i / 2 * 8 + 2 * (lane() % 4), block.word[i]);
  }
}

/// Copies sixteen rows of a tile from `first_row` on to the same rows of `to`, `row_stride`
/// elements apart; those from `valid_rows` on are not written.
/// Called by: one warp
template <class Tile, class T>
__device__ inline void store_rows(T* to, std::int64_t row_stride, int valid_rows, const Tile& tile,
                                  int first_row) {
  constexpr int unit = 16 / sizeof(T);  // elements of a copy
  constexpr int units_per_row = Tile::cols / unit;
  constexpr int rows_per_step = warp_size / units_per_row;
  const int lane = ptx::opaque(warp::lane());  // addresses are not worth registers
  const int col = lane % units_per_row * unit;
  int row = first_row + lane / units_per_row;
  to += row * row_stride + col;
#pragma unroll
  for (int i = 0; i < 16; i += rows_per_step, row += rows_per_step) {
    const auto words = tile.template load<uint4>(row, col);
    if (row < valid_rows) *reinterpret_cast<uint4*>(to) = words;
    to += rows_per_step * row_stride;
  }
}

/// Word j of lane t becomes word t of lane j, t being a lane's number among the four that share a
/// row. Of the words that they hold of a result's four blocks of eight columns, each lane then has
/// all of one block, 16 bytes.
/// Called by: one warp
__device__ inline void transpose_quads(std::uint32_t (&words)[4]) {
#pragma unroll
  for (int bit = 1; bit < 4; bit *= 2) {
    const bool is_odd = (lane() & bit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      std::uint32_t &low = words[i], &high = words[i + bit];
      const std::uint32_t received = __shfl_xor_sync(~0u, is_odd ? low : high, bit);
      low = is_odd ? received : low;
      high = is_odd ? high : received;
    }
  }
}

/// Adds the elements of rows g and g + 8 that this lane holds.
/// Called by: one thread
__device__ inline void add_rows(float (&sums)[2], const operand_slice& x) {
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i % 2] += ptx::low_half(x.word[i]) + ptx::high_half(x.word[i]);
}

}  // namespace warp
}  // namespace based
