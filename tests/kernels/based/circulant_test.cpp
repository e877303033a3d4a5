// The circulant slots against the compact features, exactly.
#include "kernels/based/circulant.h"

#include <gtest/gtest.h>

#include <array>

namespace based {
namespace {

TEST(circulant, holds_each_feature_once_and_the_constant_twice) {
  std::array<int, compact_features> seen = {};
  int empty = 0;
  for (int slot = 0; slot < circulant::slots; ++slot) {
    const int row = circulant::compact_row(slot);
    ASSERT_LT(row, compact_features);
    row < 0 ? ++empty : ++seen[row];
  }
  EXPECT_EQ(empty, circulant::slots - compact_features - 1);
  EXPECT_EQ(seen[0], 2);
  for (int row = 1; row < compact_features; ++row) EXPECT_EQ(seen[row], 1) << "row " << row;
}

TEST(circulant, weighs_as_the_polynomial_does) {
  // Integers: every product and sum is exact, so phi(q) . phi(k) must equal 1 + s + s^2/2 exactly.
  const auto value = [](int i, int seed) {
    return static_cast<double>((i * 7 + seed * 5) % 11 - 5);
  };
  for (int seed = 1; seed < 50; ++seed) {
    double s = 0;
    for (int i = 0; i < feature_dim; ++i) s += value(i, seed) * value(i, 3 * seed + 1);
    double sum = 1;  // the constant: two slots that share one
    for (int slice = 0; slice < circulant::slices; ++slice) {
      for (int j = 0; j < circulant::slice_slots; ++j) {
        const int slot = slice * circulant::slice_slots + j;
        if (slice == circulant::opposite_slice && slot >= circulant::head_slot) continue;
        const int i = (j + slice) % feature_dim;
        const bool linear = slice == circulant::linear_slice;
        const double weight = slice == 0 ? 0.5 : 1;
        const auto feature = [&](int x) {
          return linear ? value(j, x) : value(j, x) * value(i, x);
        };
        sum += weight * feature(seed) * feature(3 * seed + 1);
      }
    }
    EXPECT_EQ(sum, 1 + s + s * s / 2);
  }
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

}  // namespace
}  // namespace based
