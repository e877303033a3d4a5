// Where the elements of a shared-memory tile are, and how wgmma is told: constexpr,
// host-includable.
//
// A tile [Rows x Cols] of 16-bit elements is cut into panels as wide as its swizzle (16, 32, 64 or
// 128 bytes). A panel is Rows rows of that width, contiguous; panels follow one another. Within a
// panel the 16-byte units of a row are permuted by the row, so that eight rows of a column, or a
// row, meet every bank once: the pattern of the copy engine and of wgmma. PTX ISA, "Swizzling
// modes", "Asynchronous Warpgroup Level Matrix Shared Memory Layout" and "Strides".
#pragma once

#include <cstdint>

#include "kernels/ptx/major.h"

namespace based {

/// Width of a swizzled row in bytes; `none`: panels of one 16-byte unit, nothing to permute.
enum class swizzle : int { none = 16, bytes32 = 32, bytes64 = 64, bytes128 = 128 };

/// The address bits of a 16-byte unit within its row, XORed with those of the row.
constexpr int swizzled(swizzle width, int byte) {
  const int units = static_cast<int>(width) / 16;
  return byte ^ ((byte >> 3) & ((units - 1) << 4));
}

template <int Rows, int Cols, swizzle Swizzle>
struct shared_layout {
  static constexpr int element_bytes = 2;
  static constexpr int rows = Rows;
  static constexpr int cols = Cols;
  static constexpr int row_bytes = static_cast<int>(Swizzle);
  static constexpr int panel_cols = row_bytes / element_bytes;
  static constexpr int panel_bytes = Rows * row_bytes;
  static constexpr int bytes = Rows * Cols * element_bytes;
  static_assert(Cols % panel_cols == 0, "a tile is whole panels");
  static_assert(Rows % 8 == 0, "the swizzle repeats every eight rows");

  /// Byte offset of an element; the tile starts at a multiple of 8 rows' bytes.
  static constexpr int offset(int row, int col) {
    return col / panel_cols * panel_bytes +
           swizzled(Swizzle, row * row_bytes + col % panel_cols * element_bytes);
  }

  /// The next eight rows of a panel are this much further on.
  static constexpr int group_bytes = 8 * row_bytes;

  /// Byte offset of the wgmma operand of K indices 16 step .. 16 step + 15. K-major: a row of the
  /// tile is an M or N index, a column a K index; MN-major: the other way round.
  static constexpr int operand_offset(ptx::major major, int step) {
    return major == ptx::major::k ? offset(0, 16 * step) : offset(16 * step, 0);
  }
};

/// A wgmma matrix descriptor is 64 bits: in the lowest 14 the tile's address / 16, above them two
/// strides and the swizzle's mode. This is all but the address.
///
/// wgmma reads eight rows of a panel at a time, one "core matrix" or several side by side. Where
/// the others are:
///
///   K-major, swizzled   eight rows on: stride; a K step lies within one panel
///   K-major             eight rows on: stride; the next panel, eight K indices on: leading
///   MN-major, swizzled  eight rows, K indices, on: stride; the next panel: leading
///   MN-major            the next panel, eight M or N indices on: stride; eight rows on: leading
///
/// The next panel is `PanelStride` bytes on.
template <class Layout, ptx::major Major, int PanelStride = Layout::panel_bytes>
constexpr std::uint64_t descriptor_template() {
  constexpr auto encoded = [](int bytes) { return static_cast<std::uint64_t>(bytes) >> 4; };
  constexpr std::uint64_t modes[] = {1, 2, 3, 0};  // of 128, 64, 32 and 16 bytes
  std::uint64_t mode = 0;
  for (int i = 0; i < 4; ++i) {
    if (Layout::row_bytes == 128 >> i) mode = modes[i];
  }
  constexpr bool exchanged = Major == ptx::major::mn && Layout::row_bytes == 16;
  const std::uint64_t leading = encoded(exchanged ? Layout::group_bytes : PanelStride);
  const std::uint64_t stride = encoded(exchanged ? PanelStride : Layout::group_bytes);
  return leading << 16 | stride << 32 | mode << 62;
}

}  // namespace based
