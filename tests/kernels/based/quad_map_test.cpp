// The slots of wgmma's feature map against the compact features, exactly.
#include "kernels/based/quad_map.h"

#include <gtest/gtest.h>

#include <array>

namespace based {
namespace {

TEST(quad_map, holds_each_feature_once_and_the_constant_twice) {
  std::array<int, compact_features> seen = {};
  int empty = 0;
  for (int slot = 0; slot < quad::slots; ++slot) {
    const int row = quad::compact_row(slot);
    ASSERT_LT(row, compact_features);
    row < 0 ? ++empty : ++seen[row];
  }
  EXPECT_EQ(empty, quad::slots - compact_features - 1);
  EXPECT_EQ(seen[0], 2);
  for (int row = 1; row < compact_features; ++row) EXPECT_EQ(seen[row], 1) << "row " << row;
}

TEST(quad_map, weighs_as_the_polynomial_does) {
  // Integers: every product and sum is exact, so phi(q) . phi(k) must equal 1 + s + s^2/2 exactly.
  const auto value = [](int i, int seed) {
    return static_cast<double>((i * 7 + seed * 5) % 11 - 5);
  };
  for (int seed = 1; seed < 50; ++seed) {
    double s = 0;
    for (int i = 0; i < feature_dim; ++i) s += value(i, seed) * value(i, 3 * seed + 1);
    double sum = 1;  // the constant: two slots that share one
    for (int slot = 0; slot < quad::slots; ++slot) {
      const quad::word_recipe word = quad::recipe(slot / 8);
      const int lane = slot % 8 / 2, half = slot % 2;
      if (word.kind == quad::word_kind::constant) continue;
      const bool is_second = word.kind == quad::word_kind::diagonal && lane >= 2;
      const quad::pick left = is_second ? quad::pick::second : word.left;
      const quad::pick right = is_second ? quad::pick::second : word.right;
      const auto feature = [&](int x) {
        const double first = value(quad::picked_dim(left, lane, half), x);
        if (word.kind == quad::word_kind::linear) return first;
        return first * value(quad::picked_dim(right, lane + word.distance, half), x);
      };
      sum += quad::weight(slot / 8, 1) * feature(seed) * feature(3 * seed + 1);
    }
    EXPECT_EQ(sum, 1 + s + s * s / 2);
  }
}

TEST(quad_map, slots_are_the_rows_that_features_h_says) {
  const auto slot = [](int word, int lane, int half) { return 8 * word + 2 * lane + half; };
  EXPECT_EQ(quad::compact_row(slot(0, 1, 0)), product_row(2, 2));
  EXPECT_EQ(quad::compact_row(slot(1, 3, 1)), product_row(15, 15));
  EXPECT_EQ(quad::compact_row(slot(2, 2, 1)), first_linear_row + 5);
  EXPECT_EQ(quad::compact_row(slot(3, 2, 1)), first_linear_row + 13);
  EXPECT_EQ(quad::compact_row(slot(6, 0, 1)), product_row(8, 9));
  EXPECT_EQ(quad::compact_row(slot(8, 1, 1)), product_row(10, 15));
  EXPECT_EQ(quad::compact_row(slot(10, 0, 0)), product_row(0, 11));
  EXPECT_EQ(quad::compact_row(slot(13, 0, 1)), product_row(1, 5));
  EXPECT_EQ(quad::compact_row(slot(13, 2, 1)), product_row(9, 13));
  EXPECT_EQ(quad::compact_row(slot(14, 3, 0)), product_row(0, 6));
  EXPECT_EQ(quad::compact_row(quad::head_slot), 0);
  EXPECT_EQ(quad::compact_row(quad::residual_slot), 0);
  EXPECT_EQ(quad::compact_row(quad::residual_slot + 1), -1);
}

TEST(quad_map, undoes_its_weights) {
  for (int word = 0; word < quad::words; ++word) {
    for (const float scale : {0.25f, -2.0f, 0x1p-32f}) {
      EXPECT_EQ(quad::weight(word, scale) * quad::inverse_weight(word, 1 / scale), 1) << word;
    }
  }
}

TEST(quad_map, own_slices_take_no_other_group) {
  for (int word = 0; word < 2 * quad::own_slices; ++word) {
    EXPECT_EQ(quad::recipe(word).distance, 0) << word;
  }
}

}  // namespace
}  // namespace based
