// The compact rows (features.h) of the slots that a lane of a quad holds, 2 t and 2 t + 1 of every
// eight, as constants: constexpr, host-includable.
#pragma once

#include <cstdint>

#include "kernels/based/features.h"

namespace based {

/// The rows of a map with `Slots` slots; a word is eight of them, two a lane.
template <int Slots>
struct slot_rows {
  static_assert(compact_features <= 256, "a row is a byte");

  /// [word][half]: the rows of the slots that the four lanes have in a half of a word, a byte each,
  /// lane 0's the lowest; 0 where a slot holds nothing.
  std::uint32_t rows[Slots / 8][2] = {};

  /// `compact_row`: a slot's row, -1 where it holds nothing.
  template <class Function>
  constexpr explicit slot_rows(Function compact_row) {
    for (int slot = 0; slot < Slots; ++slot) {
      const int row = compact_row(slot), lane = slot % 8 / 2;
      if (row > 0) rows[slot / 8][slot % 2] |= static_cast<std::uint32_t>(row) << 8 * lane;
    }
  }
};

}  // namespace based
