// Operations of a warpgroup (four warps) on tiles: asynchronous products, loads and stores.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/ptx/ldmatrix.cuh"
#include "kernels/ptx/opaque.cuh"
#include "kernels/ptx/stmatrix.cuh"
#include "kernels/ptx/sync.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/register_tile.cuh"
#include "kernels/tile/shared_tile.cuh"
#include "kernels/tile/warp.cuh"

namespace based::warpgroup {

inline constexpr int warps = 4;
inline constexpr int threads = warps * warp_size;
inline constexpr int rows = 64;  // of a tile that a warpgroup holds, sixteen a warp

/// This thread's index in the warpgroup.
/// Called by: one thread
__device__ inline int thread() {
  return threadIdx.x % threads;
}
/// This warp's index in the warpgroup.
/// Called by: one thread
__device__ inline int warp() {
  return threadIdx.x / warp_size % warps;
}

/// Waits for all threads of the warpgroup that uses named barrier `Id` (1 to 15).
/// Called by: one warpgroup
template <int Id>
__device__ inline void sync() {
  ptx::named_barrier_sync<Id, threads>();
}

// Products: mma_fence(), any number of mma_*, mma_commit(); then mma_wait() before the results are
// read or the operands overwritten.
//
// D [64 x N] is an accumulator_tile of any width that is a multiple of 8 up to 256. B is a
// shared_tile, and its elements' type is the product's. A is in registers, an operand_slice or an
// operand_tile, or in a shared_tile of 64 rows (mma_A..) or, transposed, of 64 columns (mma_At..).

using ptx::mma_mode;

namespace detail {

/// Called by: one thread
template <int Cols>
__device__ inline void is_written_by_now(accumulator_tile<Cols>& tile) {
#pragma unroll
  for (int i = 0; i < tile.size; ++i) ptx::is_written_by_now(tile.value[i]);
}

}  // namespace detail

/// Comes before the products that use registers written since the last fence. `written`: what the
/// compiler might otherwise write between the products.
/// Called by: one warpgroup
template <int... Cols>
__device__ inline void mma_fence(accumulator_tile<Cols>&... written) {
  (detail::is_written_by_now(written), ...);
  ptx::wgmma_fence();
}
/// Closes the group of the products since the last call.
/// Called by: one warpgroup
__device__ inline void mma_commit() {
  ptx::wgmma_commit_group();
}

/// Waits until at most `Pending` committed groups are in flight; `results` may be read from here
/// on. Called by: one warpgroup
template <int Pending, int... Cols>
__device__ inline void mma_wait(accumulator_tile<Cols>&... results) {
  ptx::wgmma_wait_group<Pending>();
  (detail::is_written_by_now(results), ...);
}

namespace detail {

using ptx::major;

/// Whether a product of N columns takes a tile [. x Cols]: all its panels, the last one at least in
/// part.
template <class Tile, int N>
inline constexpr bool spans_columns = N <= Tile::cols&& Tile::cols - N < Tile::layout::panel_cols;

/// One K step.
/// Called by: one warpgroup
template <major AMajor, major BMajor, mma_mode Mode, int N, class A, class B>
__device__ inline void multiply(accumulator_tile<N>& d, const A& a, const B& b, int step) {
  static_assert(BMajor == major::k ? B::rows == N : spans_columns<B, N>);
  using element = typename B::element;
  if constexpr (std::is_same_v<A, operand_slice>) {
    ptx::wgmma<element, BMajor, Mode>(d.value, a.word, b.template operand<BMajor>(step));
  } else {
    static_assert(std::is_same_v<typename A::element, element>);
    static_assert((AMajor == major::k ? A::rows : A::cols) == rows);
    ptx::wgmma<element, AMajor, BMajor, Mode>(d.value, a.template operand<AMajor>(step),
                                              b.template operand<BMajor>(step));
  }
}

/// What multiply() takes of A in a step.
/// Called by: one thread
template <int Cols>
__device__ inline const operand_slice& part(const operand_tile<Cols>& a, int step) {
  return a.slice[step];
}
/// Called by: one thread
template <class Tile>
__device__ inline const Tile& part(const Tile& a, int) {
  return a;
}

/// All K steps.
/// Called by: one warpgroup
template <major AMajor, major BMajor, mma_mode Mode, int N, class A, class B>
__device__ inline void multiply(accumulator_tile<N>& d, const A& a, const B& b) {
  constexpr int depth = BMajor == major::k ? B::cols : B::rows;
  if constexpr (AMajor == major::k) {
    static_assert(A::cols == depth);
  } else {
    static_assert(A::rows == depth);
  }
  multiply<AMajor, BMajor, Mode>(d, part(a, 0), b, 0);
#pragma unroll
  for (int step = 1; step < depth / 16; ++step) {
    multiply<AMajor, BMajor, mma_mode::accumulate>(d, part(a, step), b, step);
  }
}

}  // namespace detail

/// D (+)= A B^T of one K step: A [64 x 16], an operand_slice or columns 16 step .. 16 step + 15 of
/// a tile [64 x .], B those columns of a tile [N x .]. Row n of B is column n of the product.
/// Called by: one warpgroup
template <mma_mode Mode = mma_mode::accumulate, int N, class A = operand_slice, class B>
__device__ inline void mma_ABt(accumulator_tile<N>& d, const A& a, const B& b, int step) {
  detail::multiply<ptx::major::k, ptx::major::k, Mode>(d, a, b, step);
}
/// D (+)= A B^T, A [64 x K] an operand_tile or a tile, B [N x K].
/// Called by: one warpgroup
template <mma_mode Mode = mma_mode::accumulate, int N, class A, class B>
__device__ inline void mma_ABt(accumulator_tile<N>& d, const A& a, const B& b) {
  detail::multiply<ptx::major::k, ptx::major::k, Mode>(d, a, b);
}

/// D (+)= A B of one K step: A as in mma_ABt, B rows 16 step .. 16 step + 15 of a tile [. x N],
/// whose last panel may be wider than the product. Called by: one warpgroup
template <mma_mode Mode = mma_mode::accumulate, int N, class A = operand_slice, class B>
__device__ inline void mma_AB(accumulator_tile<N>& d, const A& a, const B& b, int step) {
  detail::multiply<ptx::major::k, ptx::major::mn, Mode>(d, a, b, step);
}
/// D (+)= A B, A [64 x K] an operand_tile or a tile, B [K x N].
/// Called by: one warpgroup
template <mma_mode Mode = mma_mode::accumulate, int N, class A, class B>
__device__ inline void mma_AB(accumulator_tile<N>& d, const A& a, const B& b) {
  detail::multiply<ptx::major::k, ptx::major::mn, Mode>(d, a, b);
}

/// D (+)= A^T B, tiles A [K x 64] and B [K x N].
/// Called by: one warpgroup
template <mma_mode Mode = mma_mode::accumulate, int N, class A, class B>
__device__ inline void mma_AtB(accumulator_tile<N>& d, const A& a, const B& b) {
  detail::multiply<ptx::major::mn, ptx::major::mn, Mode>(d, a, b);
}

/// D (+)= A^T B^T, tiles A [K x 64] and B [N x K].
/// Called by: one warpgroup
template <mma_mode Mode = mma_mode::accumulate, int N, class A, class B>
__device__ inline void mma_AtBt(accumulator_tile<N>& d, const A& a, const B& b) {
  detail::multiply<ptx::major::mn, ptx::major::k, Mode>(d, a, b);
}

/// D [64 x N] += A [64 x 16] [B C], B being rows 16 step .. 16 step + 15 of a tile of one panel and
/// C the columns that are left of sixteen rows of a tile behind it. Called by: one warpgroup
template <int N, class Tile, class Next>
__device__ inline void mma_AB_beside(accumulator_tile<N>& d, const operand_slice& a, const Tile& b,
                                     int step, const Next& c) {
  static_assert(Tile::panels == 1 && Next::panels == 1 && Next::rows == 16);
  static_assert(N > Tile::cols && N <= Tile::cols + Next::cols);
  ptx::wgmma<typename Tile::element, ptx::major::mn, mma_mode::accumulate>(
      d.value, a.word, b.operand_beside(c, step));
}

/// Columns 16 step .. 16 step + 15 of a tile [64 x .] as an A operand.
/// Called by: one warpgroup
template <class Tile>
__device__ inline operand_slice load(const Tile& from, int step) {
  static_assert(Tile::rows == rows);
  const int row = 16 * warp() + warp::lane() % 16, col = warp::lane() / 16 * 8;
  operand_slice slice;
  ptx::ldmatrix_x4(slice.word, from.at(row, 16 * step + col));
  return slice;
}
/// A tile [64 x Cols] as an A operand.
/// Called by: one warpgroup
template <class Tile>
__device__ inline operand_tile<Tile::cols> load(const Tile& from) {
  operand_tile<Tile::cols> loaded;
#pragma unroll
  for (int i = 0; i < loaded.slices; ++i) loaded.slice[i] = load(from, i);
  return loaded;
}

/// Stores a tile [64 x Cols].
/// Called by: one warpgroup
template <int Cols, class Tile>
__device__ inline void store(Tile& to, const operand_tile<Cols>& from) {
  static_assert(Tile::rows == rows);
  warp::store(to, from, 16 * warp());
}

/// Stores the transpose of columns 16 step .. of a tile [64 x .] to those rows of a tile [. x 64].
/// Called by: one warpgroup
template <class Tile>
__device__ inline void store_transposed(Tile& to, const operand_slice& from, int step) {
  static_assert(Tile::cols == rows);
  const int at = thread();                               // of the warpgroup
  const int row = at % warp_size / 16 * 8 + at % 8;      // of a slice's sixteen columns
  const int col = at / warp_size * 16 + at / 8 % 2 * 8;  // the first of eight
  ptx::stmatrix_x4<true>(ptx::shared_address(to.at(row, col)) + Tile::layout::offset(16 * step, 0),
                         from.word);
}
/// Stores the transpose of a tile [64 x Cols] to a tile [Cols x 64].
/// Called by: one warpgroup
template <int Cols, class Tile>
__device__ inline void store_transposed(Tile& to, const operand_tile<Cols>& from) {
  static_assert(Tile::rows == Cols);
#pragma unroll
  for (int i = 0; i < from.slices; ++i) store_transposed(to, from.slice[i], i);
}

}  // namespace based::warpgroup
