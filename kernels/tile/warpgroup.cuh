// Operations of a warpgroup (four warps) on tiles: asynchronous products, stores.
#pragma once

#include "kernels/ptx/ldmatrix.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/ptx/stmatrix.cuh"
#include "kernels/ptx/sync.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/shared_tile.cuh"
#include "kernels/tile/warp.cuh"

namespace based::warpgroup {

inline constexpr int threads = 128;
inline constexpr int warps = 4;

/// This thread's and this warp's index in the warpgroup.
__device__ inline int thread() {
  return threadIdx.x % threads;
}
__device__ inline int warp() {
  return threadIdx.x / 32 % warps;
}

/// Waits for all threads of the warpgroup that uses named barrier `Id` (1 to 15).
template <int Id>
__device__ inline void sync() {
  ptx::named_barrier_sync<Id, threads>();
}

// Products: mma_fence(), any number of mma_*, mma_commit(); then mma_wait() before the results are
// read or the operands overwritten.

/// Before the products that use registers written since the last fence.
__device__ inline void mma_fence() {
  ptx::wgmma_fence();
}
__device__ inline void mma_commit() {
  ptx::wgmma_commit_group();
}

/// Until at most `Pending` committed groups are in flight; `results` may be read from here on.
template <int Pending, int... Cols>
__device__ inline void mma_wait(accumulator_tile<Cols>&... results) {
  ptx::wgmma_wait_group<Pending>();
  const auto use = [](auto& tile) {
#pragma unroll
    for (int i = 0; i < tile.size; ++i) ptx::is_written_by_now(tile.value[i]);
  };
  (use(results), ...);
}

enum class mma_mode { overwrite, accumulate };

/// D [64 x N] (+)= A [64 x 16] B^T, B being columns 16 step .. 16 step + 15 of a tile [N x .]: row
/// n of the tile is column n of the product.
template <mma_mode Mode = mma_mode::accumulate, int N, class Tile>
__device__ inline void mma_ABt(accumulator_tile<N>& d, const operand_slice& a, const Tile& b,
                               int step) {
  static_assert(Tile::rows == N && (N == 8 || N == 16 || N == 64));
  constexpr bool accumulate = Mode == mma_mode::accumulate;
  const std::uint64_t operand = b.template operand<ptx::major::k>(step);
  if constexpr (N == 8) ptx::wgmma_m64n8k16<ptx::major::k, accumulate>(d.value, a.word, operand);
  if constexpr (N == 16) ptx::wgmma_m64n16k16<ptx::major::k, accumulate>(d.value, a.word, operand);
  if constexpr (N == 64) ptx::wgmma_m64n64k16<ptx::major::k, accumulate>(d.value, a.word, operand);
}

/// D [64 x 64] (+)= A [64 x 16] B, B being rows 16 step .. 16 step + 15 of a tile [. x 64].
template <mma_mode Mode = mma_mode::accumulate, class Tile>
__device__ inline void mma_AB(accumulator_tile<64>& d, const operand_slice& a, const Tile& b,
                              int step) {
  static_assert(Tile::cols == 64);
  ptx::wgmma_m64n64k16<ptx::major::mn, Mode == mma_mode::accumulate>(
      d.value, a.word, b.template operand<ptx::major::mn>(step));
}

/// D [64 x 72] += A [64 x 16] [B C], B being rows 16 step .. 16 step + 15 of a tile [. x 64] and C
/// eight columns of a tile [16 x 64] behind it.
template <class Tile, class Next>
__device__ inline void mma_AB_beside(accumulator_tile<72>& d, const operand_slice& a, const Tile& b,
                                     int step, const Next& c) {
  static_assert(Tile::cols == 64 && Next::rows == 16);
  ptx::wgmma_m64n72k16<ptx::major::mn>(d.value, a.word, b.operand_beside(c, step));
}

/// D [64 x 160] += A^T B over all rows of A [K x 64] and B [K x 160].
template <class TileA, class TileB>
__device__ inline void mma_AtB(accumulator_tile<160>& d, const TileA& a, const TileB& b) {
  static_assert(TileA::cols == 64 && TileB::cols == 160 && TileA::rows == TileB::rows);
#pragma unroll
  for (int step = 0; step < TileA::rows / 16; ++step) {
    ptx::wgmma_m64n160k16<ptx::major::mn, ptx::major::mn>(d.value,
                                                          a.template operand<ptx::major::mn>(step),
                                                          b.template operand<ptx::major::mn>(step));
  }
}

/// Columns 16 step .. 16 step + 15 of a tile [64 x .] as an A operand.
template <class Tile>
__device__ inline operand_slice load(const Tile& from, int step) {
  static_assert(Tile::rows == 64);
  const int row = 16 * warp() + warp::lane() % 16, col = warp::lane() / 16 * 8;
  operand_slice slice;
  ptx::ldmatrix_x4(slice.word, from.at(row, 16 * step + col));
  return slice;
}

/// Stores the transpose of a tile [64 x Cols] to a tile [Cols x 64].
template <int Cols, class Tile>
__device__ inline void store_transposed(Tile& to, const operand_tile<Cols>& from) {
  static_assert(Tile::rows == Cols && Tile::cols == 64);
  const int at = thread();                        // of the warpgroup
  const int row = at % 32 / 16 * 8 + at % 8;      // of a slice's sixteen columns
  const int col = at / 32 * 16 + at / 8 % 2 * 8;  // the first of eight
  const std::uint32_t address = ptx::shared_address(to.at(row, col));
#pragma unroll
  for (int i = 0; i < from.slices; ++i) {
    ptx::stmatrix_x4<true>(address + Tile::layout::offset(16 * i, 0), from.slice[i].word);
  }
}

template <int Cols>
__device__ inline void clear(accumulator_tile<Cols>& tile) {
#pragma unroll
  for (int i = 0; i < tile.size; ++i) tile.value[i] = 0;
}

/// Multiplies rows g and g + 8 of each warp, by lane, with factors[0] and [1].
template <int Cols>
__device__ inline void scale_rows(accumulator_tile<Cols>& tile, const float (&factors)[2]) {
#pragma unroll
  for (int i = 0; i < tile.size; ++i) tile.value[i] *= factors[i % 4 / 2];
}

}  // namespace based::warpgroup

namespace based::warp {

/// Stores this warp's sixteen rows of a warpgroup's tile to a tile of its own.
template <int Cols, class Tile>
__device__ inline void store(Tile& to, const operand_tile<Cols>& from) {
  static_assert(Tile::rows == 16 && Tile::cols == Cols && Cols == Tile::layout::panel_cols);
  // A step of 16 columns flips address bits that the tile's alignment leaves to the column.
  const int lane = warp::lane();
  const std::uint32_t address = ptx::shared_address(to.at(lane % 16, lane / 16 * 8));
#pragma unroll
  for (int i = 0; i < from.slices; ++i) {
    ptx::stmatrix_x4<false>(address ^ Tile::layout::offset(0, 16 * i), from.slice[i].word);
  }
}

}  // namespace based::warp
