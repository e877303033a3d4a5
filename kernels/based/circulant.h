// The feature map as mma.sync wants it: ten slices of sixteen slots.
//
//   slice s = 0..7, slot j   x_j x_{(j + s) mod 16}; s = 0: the squares
//   slice 8, slot j < 8      x_j x_{j + 8}
//   slice 8, slots 8 and 9   1, twice: S is handed over with sum(v) in them as a bf16 head and
//                            a residual; slots 10 to 15 hold nothing
//   slice 9, slot j          x_j
//
// The distances s = 0..8 around a circle of sixteen meet each of the 136 unordered pairs once, and
// a slice is a product of x with its own rotation: with two values a register, rotations by an even
// s are other registers and those by an odd s one byte permutation; where tokens are side by side,
// rows at a constant offset. As in features.h the k side holds plain monomials; the q side holds
// the weights, which are the squares' 1/2 and the scale.
#pragma once

#include <cstdint>

#include "kernels/based/features.h"
#include "kernels/based/slot_rows.h"

namespace based::circulant {

inline constexpr int slice_slots = 16;
static_assert(slice_slots == feature_dim);
inline constexpr int opposite_slice = feature_dim / 2;  ///< the last one of products, half of it
inline constexpr int linear_slice = opposite_slice + 1;
inline constexpr int slices = linear_slice + 1;
inline constexpr int slots = slices * slice_slots;

inline constexpr int head_slot = opposite_slice * slice_slots + feature_dim / 2;
inline constexpr int residual_slot = head_slot + 1;

/// Row of a slot in the compact layout of features.h; -1: the slot holds nothing.
constexpr int compact_row(int slot) {
  const int slice = slot / slice_slots;
  const int i = slot % slice_slots;
  if (slice == linear_slice) return first_linear_row + i;
  if (slot == head_slot || slot == residual_slot) return 0;
  if (slot > residual_slot) return -1;
  const int j = (i + slice) % feature_dim;
  return i < j ? product_row(i, j) : product_row(j, i);
}

/// compact_row() of the slots that the four lanes have in a half of a word; see slot_rows.
constexpr std::uint32_t compact_rows(int word, int half) {
  constexpr slot_rows<slots> all(compact_row);
  return all.rows[word][half];
}

}  // namespace based::circulant
