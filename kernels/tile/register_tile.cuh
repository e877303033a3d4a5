// Tiles of 64 rows held in the registers of a warpgroup, warp w holding rows 16 w .. 16 w + 15:
// fp32 accumulators, and bf16 or fp16 words that are an A operand of wgmma. One warp's sixteen rows
// are as well the operands and results of mma.sync.
//
// With g = lane / 4 and t = lane % 4, a thread holds rows g and g + 8 of its warp's sixteen, and of
// every eight columns 2 t and 2 t + 1. Two neighbouring blocks of eight fp32 columns, rounded in
// place, are one 16-column operand.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/core/bf16.h"
#include "kernels/core/fp16.h"
#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/fp16x2.cuh"

namespace based {

/// fp32 [64 x Cols]; value[4 i + e] is row g + 8 (e / 2), column 8 i + 2 t + e % 2.
template <int Cols>
struct accumulator_tile {
  static_assert(Cols % 8 == 0);
  static constexpr int cols = Cols;
  static constexpr int size = Cols / 2;
  float value[size];
};

/// The first columns of a tile.
/// Called by: one thread
template <int Cols, int All>
__device__ inline accumulator_tile<Cols>& first_columns(accumulator_tile<All>& tile) {
  static_assert(Cols <= All);
  return reinterpret_cast<accumulator_tile<Cols>&>(tile);
}

/// A value for each row that a thread holds part of: value[0] is row g's, value[1] row g + 8's.
struct row_values {
  float value[2];
};

/// bf16 or fp16 [64 x 16]: one K step of an A operand.
struct operand_slice {
  std::uint32_t word[4];  ///< (row, columns) g, 2t..; g + 8, 2t..; g, 8 + 2t..; g + 8, 8 + 2t..
};

/// bf16 or fp16 [64 x Cols].
template <int Cols>
struct operand_tile {
  static_assert(Cols % 16 == 0);
  static constexpr int cols = Cols;
  static constexpr int slices = Cols / 16;
  operand_slice slice[slices];
};

/// Two fp32 as a word of two `Element`, `low` in the lower half, rounded to nearest even.
/// Called by: one thread
template <class Element>
__device__ inline std::uint32_t to_word(float low, float high) {
  static_assert(std::is_same_v<Element, bf16> || std::is_same_v<Element, fp16>);
  if constexpr (std::is_same_v<Element, bf16>) {
    return ptx::to_bf16x2(low, high);
  } else {
    return ptx::to_fp16x2(low, high);
  }
}

/// The lower element of a word.
/// Called by: one thread
template <class Element>
__device__ inline float low_element(std::uint32_t word) {
  return std::is_same_v<Element, bf16> ? ptx::low_half(word) : ptx::fp16_low_half(word);
}
/// The upper element of a word.
/// Called by: one thread
template <class Element>
__device__ inline float high_element(std::uint32_t word) {
  return std::is_same_v<Element, bf16> ? ptx::high_half(word) : ptx::fp16_high_half(word);
}

/// A word of two ones.
template <class Element>
inline constexpr std::uint32_t two_ones =
    std::is_same_v<Element, bf16> ? ptx::two_ones : ptx::two_fp16_ones;

/// Columns 16 slice .. 16 slice + 15 of a tile, rounded to `Element`.
/// Called by: one thread
template <class Element, int Cols>
__device__ inline operand_slice to_operand(const accumulator_tile<Cols>& tile, int slice) {
  const float* left = tile.value + 8 * slice;
  const float* right = left + 4;
  return {{to_word<Element>(left[0], left[1]), to_word<Element>(left[2], left[3]),  //
           to_word<Element>(right[0], right[1]), to_word<Element>(right[2], right[3])}};
}

/// A tile, rounded to `Element`.
/// Called by: one thread
template <class Element, int Cols>
__device__ inline operand_tile<Cols> to_operand(const accumulator_tile<Cols>& tile) {
  operand_tile<Cols> rounded;
#pragma unroll
  for (int i = 0; i < rounded.slices; ++i) rounded.slice[i] = to_operand<Element>(tile, i);
  return rounded;
}

/// One slice of a tile, or all of it, rounded to bf16.
/// Called by: one thread
template <int Cols>
__device__ inline operand_slice to_bf16(const accumulator_tile<Cols>& tile, int slice) {
  return to_operand<bf16>(tile, slice);
}
/// Called by: one thread
template <int Cols>
__device__ inline operand_tile<Cols> to_bf16(const accumulator_tile<Cols>& tile) {
  return to_operand<bf16>(tile);
}

/// Sets this thread's elements of a tile to zero.
/// Called by: one thread
template <int Cols>
__device__ inline void clear(accumulator_tile<Cols>& tile) {
#pragma unroll
  for (int i = 0; i < tile.size; ++i) tile.value[i] = 0;
}

/// Multiplies each row of a tile with its factor.
/// Called by: one thread
template <int Cols>
__device__ inline void scale_rows(accumulator_tile<Cols>& tile, const row_values& factors) {
#pragma unroll
  for (int i = 0; i < tile.size; ++i) tile.value[i] *= factors.value[i % 4 / 2];
}

// Rows as a softmax needs them. A thread folds the elements that it holds; warp::row_max and
// warp::row_sum (warp.cuh) combine the four threads that share a row.

/// The largest of `so_far` and the elements that this thread holds of each row.
/// Called by: one thread
template <int Cols>
__device__ inline row_values fold_max(const accumulator_tile<Cols>& tile, row_values so_far) {
#pragma unroll
  for (int i = 0; i < tile.size; ++i) {
    float& largest = so_far.value[i % 4 / 2];
    largest = fmaxf(largest, tile.value[i]);
  }
  return so_far;
}

/// The sum of `so_far` and the elements that this thread holds of each row.
/// Called by: one thread
template <int Cols>
__device__ inline row_values fold_sum(const accumulator_tile<Cols>& tile, row_values so_far) {
#pragma unroll
  for (int i = 0; i < tile.size; ++i) so_far.value[i % 4 / 2] += tile.value[i];
  return so_far;
}

/// 2^(scale x - offset) of each element x, with its row's offset: one FMA and one exponential each.
/// Called by: one thread
template <int Cols>
__device__ inline void exp2_rows(accumulator_tile<Cols>& tile, float scale,
                                 const row_values& offsets) {
#pragma unroll
  for (int i = 0; i < tile.size; ++i) {
    tile.value[i] = ptx::ex2(fmaf(tile.value[i], scale, -offsets.value[i % 4 / 2]));
  }
}

}  // namespace based
