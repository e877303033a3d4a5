// Loads of 8x8 matrices of 16-bit elements from shared memory into a warp's registers (sm_75).
// PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions: ldmatrix".
//
// Lane 8 i + r passes the address of row r of matrix i: 16 contiguous, 16-byte aligned bytes. Lane
// l receives of matrix i, in r[i], elements 2 (l % 4) and + 1 of row l / 4; with trans, of column
// l / 4.
#pragma once

#include <cstdint>

#include "kernels/core/warp_size.h"

namespace based::ptx {

/// Loads the four matrices whose rows the lanes point at.
/// Called by: one warp
__device__ inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared_row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// Loads the transposes of the four matrices whose rows the lanes point at.
/// Called by: one warp
__device__ inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared_row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// The row that a lane points at for a block [16 x 16] of `tile` (at(row, col)) that starts at (row,
// col): the block's quarters are matrices 0 to 3, one column of quarters after the other, or one
// row of quarters after the other. By columns they are, in order, an A operand of mma.m16n8k16 or,
// with trans, two B operands; by rows two B operands or, with trans, an A operand.

/// Called by: one warp
template <class Tile>
__device__ inline auto* quarters_by_columns(const Tile& tile, int row, int col) {
  const int lane = threadIdx.x % warp_size;
  return tile.at(row + lane % 16, col + lane / 16 * 8);
}
/// Called by: one warp
template <class Tile>
__device__ inline auto* quarters_by_rows(const Tile& tile, int row, int col) {
  const int lane = threadIdx.x % warp_size;
  return tile.at(row + lane / 16 * 8 + lane % 8, col + lane / 8 % 2 * 8);
}

}  // namespace based::ptx
