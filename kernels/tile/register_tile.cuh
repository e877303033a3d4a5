// Tiles of 64 rows held in the registers of a warpgroup, warp w holding rows 16 w .. 16 w + 15:
// fp32 accumulators, and bf16 words that are an A operand of wgmma.
//
// With g = lane / 4 and t = lane % 4, a thread holds rows g and g + 8 of its warp's sixteen, and of
// every eight columns 2 t and 2 t + 1. Two neighbouring blocks of eight fp32 columns, rounded in
// place, are one 16-column operand.
#pragma once

#include <cstdint>

#include "kernels/ptx/bf16x2.cuh"

namespace based {

/// fp32 [64 x Cols]; value[4 i + e] is row g + 8 (e / 2), column 8 i + 2 t + e % 2.
template <int Cols>
struct accumulator_tile {
  static constexpr int size = Cols / 2;
  float value[size];
};

/// The first columns of a tile.
template <int Cols, int All>
__device__ inline accumulator_tile<Cols>& first_columns(accumulator_tile<All>& tile) {
  static_assert(Cols <= All);
  return reinterpret_cast<accumulator_tile<Cols>&>(tile);
}

/// bf16 [64 x 16]: one K step of an A operand.
struct operand_slice {
  std::uint32_t word[4];  ///< (row, columns) g, 2t..; g + 8, 2t..; g, 8 + 2t..; g + 8, 8 + 2t..
};

/// bf16 [64 x Cols].
template <int Cols>
struct operand_tile {
  static constexpr int slices = Cols / 16;
  operand_slice slice[slices];
};

template <int Cols>
__device__ inline operand_slice to_bf16(const accumulator_tile<Cols>& tile, int slice) {
  const float* left = tile.value + 8 * slice;
  const float* right = left + 4;
  return {{ptx::to_bf16x2(left[0], left[1]), ptx::to_bf16x2(left[2], left[3]),  //
           ptx::to_bf16x2(right[0], right[1]), ptx::to_bf16x2(right[2], right[3])}};
}

template <int Cols>
__device__ inline operand_tile<Cols> to_bf16(const accumulator_tile<Cols>& tile) {
  operand_tile<Cols> rounded;
#pragma unroll
  for (int i = 0; i < rounded.slices; ++i) rounded.slice[i] = to_bf16(tile, i);
  return rounded;
}

}  // namespace based
