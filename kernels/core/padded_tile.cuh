// A tile in shared memory with plain rows, an odd number of 16-byte units apart: ldmatrix, which
// reads one unit of eight rows at once, finds them in different banks. Addresses are linear in row
// and column, so that constant steps cost nothing. It is what mma.sync and cp.async work on; what
// the copy engine or wgmma read is a shared_tile.
#pragma once

#include <cstdint>

namespace based {

/// [Rows x Cols] of 16-bit elements.
template <int Rows, int Cols>
struct alignas(16) padded_tile {
  static constexpr int rows = Rows;
  static constexpr int cols = Cols;
  static constexpr int unit = 8;  ///< elements of 16 bytes
  static constexpr int row_stride = (Cols / unit | 1) * unit;

  std::uint16_t elements[Rows * row_stride];

  /// The address of an element.
  /// Called by: one thread
  __device__ std::uint16_t* at(int row, int col) { return elements + row * row_stride + col; }
  /// Called by: one thread
  __device__ const std::uint16_t* at(int row, int col) const {
    return elements + row * row_stride + col;
  }
  /// Reads or writes what `at` is the address of: an element, or several that are aligned.
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
};

}  // namespace based
