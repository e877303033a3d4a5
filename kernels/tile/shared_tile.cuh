// A swizzled tile in shared memory.
#pragma once

#include <cstdint>

#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/shared_layout.h"

namespace based {

template <int Rows, int Cols, swizzle Swizzle>
struct alignas(1024) shared_tile {
  using layout = shared_layout<Rows, Cols, Swizzle>;
  static constexpr int rows = Rows;
  static constexpr int cols = Cols;
  static constexpr int bytes = layout::bytes;

  std::uint16_t elements[Rows * Cols];

  /// The address of an element, and at multiples of eight columns of the 16 bytes that start there.
  __device__ char* at(int row, int col) {
    return reinterpret_cast<char*>(elements) + layout::offset(row, col);
  }
  __device__ const char* at(int row, int col) const {
    return reinterpret_cast<const char*>(elements) + layout::offset(row, col);
  }
  template <class T>
  __device__ T load(int row, int col) const {
    return *reinterpret_cast<const T*>(at(row, col));
  }
  template <class T>
  __device__ void store(int row, int col, T value) {
    *reinterpret_cast<T*>(at(row, col)) = value;
  }

  /// The wgmma operand of K indices 16 step .. 16 step + 15, which are columns (K-major) or rows.
  template <ptx::major Major>
  __device__ std::uint64_t operand(int step) const {
    constexpr std::uint64_t fields = descriptor_template<layout>();
    const int start =
        Major == ptx::major::k ? layout::offset(0, 16 * step) : layout::offset(16 * step, 0);
    // One descriptor a tile; its steps add a constant to the lower word, in units of 16 bytes.
    const std::uint32_t tile =
        static_cast<std::uint32_t>(fields) | (ptx::shared_address(elements) & 0x3ffff) >> 4;
    return fields >> 32 << 32 | (tile + start / 16);
  }

  /// The MN-major operand of rows 16 step .. 16 step + 15 and, as its next panel, of the first rows
  /// of `next`, which lies behind this tile.
  template <class Next>
  __device__ std::uint64_t operand_beside(const Next& next, int step) const {
    static_assert(cols == layout::panel_cols && Next::layout::row_bytes == layout::row_bytes);
    constexpr std::uint64_t fields = descriptor_template<layout, 0>();
    const std::uint32_t tile = ptx::shared_address(elements) >> 4;
    const std::uint32_t distance = (ptx::shared_address(next.elements) >> 4) - tile;
    const int start = layout::offset(16 * step, 0) / 16;  // also that much nearer to `next`
    return fields >> 32 << 32 | ((tile | distance << 16) + start - (start << 16));
  }
};

}  // namespace based
