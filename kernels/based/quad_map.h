// The feature map as wgmma wants it: words of two slots, twenty for each lane of a quad.
//
// A row of an operand in registers is spread over a quad, four lanes. Lane t has group t of the
// row's sixteen dims, {2t, 2t+1, 2t+8, 2t+9}: those that it holds of x itself. The groups of a
// circle of four meet each unordered pair of dims once in the products
//
//   within a group        10   four squares, six others
//   with the next one     16
//   with the one opposite  8   of the sixteen, which are in the reach of both
//
// and with the four dims themselves and a word for the constant that is forty slots a lane, ten
// slices of sixteen. A lane reads twelve values to make its forty features.
//
// The q side holds plain monomials, for the warps that build it have the least time; the k side,
// and with it the state, holds the weights, which are the squares' 1/2 and the scale.
#pragma once

#include <cstdint>

#include "kernels/based/features.h"
#include "kernels/based/slot_rows.h"

namespace based::quad {

inline constexpr int lanes = 4;
inline constexpr int slice_slots = 16;
inline constexpr int slices = 10;
inline constexpr int slots = slices * slice_slots;
inline constexpr int words = 2 * slices;  ///< of a lane, two in each slice
inline constexpr int own_slices = 4;      ///< the first ones, which take no other group's dims

/// Two of a group's four dims, in the order of a word's halves.
enum class pick { first, second, swapped_first, swapped_second, lows, highs };

/// What a word holds. Product: `left` of the lane's own group by `right` of the group `distance`
/// further. Linear: `left` itself. Diagonal: the products of like dims of opposite groups, the
/// first two in lanes 0 and 1, the second two in lanes 2 and 3.
enum class word_kind { product, linear, constant, diagonal };
struct word_recipe {
  word_kind kind;
  pick left = pick::first;
  int distance = 0;
  pick right = pick::first;

  constexpr bool is_square() const {
    return kind == word_kind::product && distance == 0 && left == right;
  }
};

/// Words that pick alike are neighbours, evens and odds apart: who builds all of them keeps fewer
/// picks at a time.
constexpr word_recipe recipe(int word) {
  using enum pick;
  using enum word_kind;
  constexpr int next = 1, opposite = 2;
  constexpr word_recipe recipes[words] = {
      {product, first, 0, first},
      {product, second, 0, second},
      {linear, first},
      {linear, second},
      {product, first, 0, second},
      {constant},
      {product, lows, 0, highs},
      {product, first, 0, swapped_second},
      {product, lows, opposite, highs},
      {product, first, opposite, swapped_second},
      {product, first, next, swapped_second},
      {product, second, next, swapped_second},
      {product, first, opposite, second},
      {diagonal, first, opposite, first},
      {product, first, next, first},
      {product, second, next, first},
      {product, first, next, swapped_first},
      {product, second, next, swapped_first},
      {product, first, next, second},
      {product, second, next, second},
  };
  return recipes[word];
}

/// The recipe of a word in one lane, where the word's diagonal is a product.
constexpr word_recipe recipe(int word, int lane) {
  const word_recipe any = recipe(word);
  if (any.kind != word_kind::diagonal) return any;
  const pick like = lane < lanes / 2 ? pick::first : pick::second;
  return {word_kind::product, like, any.distance, like};
}

/// Slots of the constant: in them the state keeps sum(v) as a bf16 head and its residual. The other
/// lanes' slots of that word hold nothing.
inline constexpr int constant_slice = 2;
inline constexpr int head_slot = constant_slice * slice_slots + 8;
inline constexpr int residual_slot = head_slot + 1;
static_assert(recipe(head_slot / 8).kind == word_kind::constant);

/// The dim that a pick of group `group` (mod 4) has in half `half` of its word.
constexpr int picked_dim(pick which, int group, int half) {
  int index = 0;  // in the group
  switch (which) {
    case pick::first:
      index = half;
      break;
    case pick::second:
      index = 2 + half;
      break;
    case pick::swapped_first:
      index = 1 - half;
      break;
    case pick::swapped_second:
      index = 3 - half;
      break;
    case pick::lows:
      index = 2 * half;
      break;
    case pick::highs:
      index = 2 * half + 1;
      break;
  }
  return index / 2 * 8 + 2 * (group % lanes) + index % 2;
}

/// Row of a slot in the compact layout of features.h; -1: the slot holds nothing. Slot 16 s + c:
/// words 2 s and 2 s + 1 of the four lanes are columns 0 to 7 and 8 to 15 of slice s.
constexpr int compact_row(int slot) {
  const int lane = slot % 8 / 2;
  const int half = slot % 2;
  const word_recipe word = recipe(slot / 8, lane);
  if (word.kind == word_kind::constant) return lane == 0 ? 0 : -1;
  const int i = picked_dim(word.left, lane, half);
  if (word.kind == word_kind::linear) return first_linear_row + i;
  const int j = picked_dim(word.right, lane + word.distance, half);
  return i < j ? product_row(i, j) : product_row(j, i);
}

/// What the k side's slots of a word hold is the monomial by this.
constexpr float weight(int word, float scale) {
  switch (recipe(word).kind) {
    case word_kind::constant:
      return 1;
    case word_kind::linear:
      return scale;
    case word_kind::product:
      return recipe(word).is_square() ? scale * scale / 2 : scale * scale;
    case word_kind::diagonal:
      return scale * scale;
  }
  return 0;
}

constexpr float inverse_weight(int word, float inverse_scale) {
  return (recipe(word).is_square() ? 4 : 1) * weight(word, inverse_scale);
}

/// The least scale whose weights can be undone with room for the monomials in a float's range: what
/// a state that is given out needs.
inline constexpr float least_scale_of_state = 0x1p-32f;

/// compact_row() of the slots that the four lanes have in a half of a word; see slot_rows.
constexpr std::uint32_t compact_rows(int word, int half) {
  constexpr slot_rows<slots> all(static_cast<int (*)(int)>(compact_row));
  return all.rows[word][half];
}

}  // namespace based::quad
