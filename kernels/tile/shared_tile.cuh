// A swizzled tile in shared memory.
#pragma once

#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/shared_layout.h"

namespace based {

/// [Rows x Cols] of `Element`, bf16 or fp16, in panels as wide as the swizzle (shared_layout.h).
template <int Rows, int Cols, swizzle Swizzle, class Element = bf16>
struct alignas(1024) shared_tile {
  using layout = shared_layout<Rows, Cols, Swizzle>;
  using element = Element;
  static_assert(sizeof(Element) == layout::element_bytes);
  static constexpr int rows = Rows;
  static constexpr int cols = Cols;
  static constexpr int bytes = layout::bytes;
  static constexpr int panel_cols = layout::panel_cols;
  static constexpr int panels = Cols / panel_cols;

  std::uint16_t elements[Rows * Cols];

  /// The address of an element, and at multiples of eight columns of the 16 bytes that start there.
  /// Called by: one thread
  __device__ char* at(int row, int col) {
    return reinterpret_cast<char*>(elements) + layout::offset(row, col);
  }
  /// Called by: one thread
  __device__ const char* at(int row, int col) const {
    return reinterpret_cast<const char*>(elements) + layout::offset(row, col);
  }
  /// Reads or writes what `at` is the address of: an element, or several of 16 bytes at most.
  /// Called by: one thread
  template <class T>
  __device__ T load(int row, int col) const {
    return *reinterpret_cast<const T*>(at(row, col));
  }
  /// Called by: one thread
  template <class T>
  __device__ void store(int row, int col, T value) {
    *reinterpret_cast<T*>(at(row, col)) = value;
  }

  /// The descriptor of the wgmma operand of K indices 16 step .. 16 step + 15, which are columns
  /// (K-major) or rows.
  /// Called by: one thread
  template <ptx::major Major>
  __device__ std::uint64_t operand(int step) const {
    constexpr std::uint64_t fields = descriptor_template<layout, Major>();
    const int start = layout::operand_offset(Major, step);
    // One descriptor a tile; its steps add a constant to the lower word, in units of 16 bytes.
    const std::uint32_t tile =
        static_cast<std::uint32_t>(fields) | (ptx::shared_address(elements) & 0x3ffff) >> 4;
    return fields >> 32 << 32 | (tile + start / 16);
  }

  /// The MN-major operand of rows 16 step .. 16 step + 15 and, as its next panel, of the first rows
  /// of `next`, which lies behind this tile.
  /// Called by: one thread
  template <class Next>
  __device__ std::uint64_t operand_beside(const Next& next, int step) const {
    static_assert(panels == 1 && Next::layout::row_bytes == layout::row_bytes);
    static_assert(layout::row_bytes > 16, "without a swizzle the strides have other places");
    constexpr std::uint64_t fields = descriptor_template<layout, ptx::major::mn, 0>();
    const std::uint32_t tile = ptx::shared_address(elements) >> 4;
    const std::uint32_t distance = (ptx::shared_address(next.elements) >> 4) - tile;
    const int start = layout::offset(16 * step, 0) / 16;  // also that much nearer to `next`
    return fields >> 32 << 32 | ((tile | distance << 16) + start - (start << 16));
  }
};

}  // namespace based
