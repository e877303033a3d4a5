// The slots of both feature maps, wgmma's and mma.sync's, against the compact features, exactly.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/based/circulant.h"
#include "kernels/based/quad_map.h"

namespace based {
namespace {

void expect_each_feature_once_and_the_constant_twice(int slots, int (*compact_row)(int)) {
  std::array<int, compact_features> seen = {};
  int empty = 0;
  for (int slot = 0; slot < slots; ++slot) {
    const int row = compact_row(slot);
    ASSERT_LT(row, compact_features);
    row < 0 ? ++empty : ++seen[row];
  }
  EXPECT_EQ(empty, slots - compact_features - 1);
  EXPECT_EQ(seen[0], 2);
  for (int row = 1; row < compact_features; ++row) EXPECT_EQ(seen[row], 1) << "row " << row;
}

TEST(circulant, holds_each_feature_once_and_the_constant_twice) {
  expect_each_feature_once_and_the_constant_twice(circulant::slots, circulant::compact_row);
}
TEST(quad_map, holds_each_feature_once_and_the_constant_twice) {
  expect_each_feature_once_and_the_constant_twice(quad::slots, quad::compact_row);
}

/// Integers, with which every product and sum is exact.
double value(int i, int seed) {
  return (i * 7 + seed * 5) % 11 - 5;
}

/// That `product(q, k)`, phi(q) . phi(k) without the constant for the values of two seeds, is
/// s + s^2/2 exactly.
template <class Product>
void expect_polynomial(Product product) {
  for (int q = 1; q < 50; ++q) {
    const int k = 3 * q + 1;
    double s = 0;
    for (int i = 0; i < feature_dim; ++i) s += value(i, q) * value(i, k);
    EXPECT_EQ(1 + product(q, k), 1 + s + s * s / 2);
  }
}

TEST(circulant, weighs_as_the_polynomial_does) {
  expect_polynomial([](int q, int k) {
    double sum = 0;
    for (int slot = 0; slot < circulant::slots; ++slot) {
      const int slice = slot / circulant::slice_slots, j = slot % circulant::slice_slots;
      if (slice == circulant::opposite_slice && slot >= circulant::head_slot) continue;
      const int i = (j + slice) % feature_dim;
      const bool linear = slice == circulant::linear_slice;
      const auto feature = [&](int x) { return linear ? value(j, x) : value(j, x) * value(i, x); };
      sum += (slice == 0 ? 0.5 : 1) * feature(q) * feature(k);
    }
    return sum;
  });
}

TEST(circulant, slots_are_the_rows_that_features_h_says) {
  EXPECT_EQ(circulant::compact_row(0), product_row(0, 0));
  EXPECT_EQ(circulant::compact_row(3), product_row(3, 3));
  EXPECT_EQ(circulant::compact_row(2 * 16 + 15), product_row(1, 15));
  EXPECT_EQ(circulant::compact_row(8 * 16 + 7), product_row(7, 15));
  EXPECT_EQ(circulant::compact_row(circulant::head_slot), 0);
  EXPECT_EQ(circulant::compact_row(circulant::residual_slot), 0);
  EXPECT_EQ(circulant::compact_row(circulant::residual_slot + 1), -1);
  EXPECT_EQ(circulant::compact_row(9 * 16 + 4), first_linear_row + 4);
}

TEST(quad_map, weighs_as_the_polynomial_does) {
  expect_polynomial([](int q, int k) {
    double sum = 0;
    for (int slot = 0; slot < quad::slots; ++slot) {
      const int lane = slot % 8 / 2, half = slot % 2;
      const quad::word_recipe word = quad::recipe(slot / 8, lane);
      if (word.kind == quad::word_kind::constant) continue;
      const auto feature = [&](int x) {
        const double first = value(quad::picked_dim(word.left, lane, half), x);
        if (word.kind == quad::word_kind::linear) return first;
        return first * value(quad::picked_dim(word.right, lane + word.distance, half), x);
      };
      sum += quad::weight(slot / 8, 1) * feature(q) * feature(k);
    }
    return sum;
  });
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

void expect_packed_rows(int slots, int (*compact_row)(int),
                        std::uint32_t (*compact_rows)(int word, int half)) {
  for (int slot = 0; slot < slots; ++slot) {
    const std::uint32_t packed = compact_rows(slot / 8, slot % 2);
    const int lane = slot % 8 / 2;
    EXPECT_EQ(packed >> 8 * lane & 0xff, std::max(compact_row(slot), 0)) << "slot " << slot;
  }
}

TEST(circulant, packs_the_rows_of_four_lanes) {
  expect_packed_rows(circulant::slots, circulant::compact_row, circulant::compact_rows);
}
TEST(quad_map, packs_the_rows_of_four_lanes) {
  expect_packed_rows(quad::slots, quad::compact_row, quad::compact_rows);
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
