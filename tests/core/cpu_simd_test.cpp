#include "kernels/core/cpu_simd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/inputs.h"

namespace based::cpu {
namespace {

/// Every remainder of the row blocks, one panel and two, both orders of a, adding or not.
TEST(multiply, matches_the_definition_for_every_shape) {
  for (int rows = 1; rows <= 2 * block_rows + 1; ++rows) {
    for (const int columns : {lanes, 2 * lanes, 3 * lanes}) {
      for (const int depth : {1, 7}) {
        for (const bool transposed : {false, true}) {
          for (const bool accumulate : {false, true}) {
            const auto a = support::normal_values(rows * depth, 1);
            const auto b = support::normal_values(depth * columns, 2);
            const auto initial = support::normal_values(rows * columns, 3);
            std::vector<float> c = initial;
            const strided_matrix view =
                transposed ? strided_matrix{a.data(), 1, rows} : strided_matrix{a.data(), depth, 1};
            multiply(rows, columns, depth, view, b.data(), columns, c.data(), columns, accumulate);
            std::vector<double> expected(c.size());
            for (int i = 0; i < rows; ++i) {
              for (int j = 0; j < columns; ++j) {
                double sum = accumulate ? initial[i * columns + j] : 0;
                for (int l = 0; l < depth; ++l) {
                  const float a_il = transposed ? a[l * rows + i] : a[i * depth + l];
                  sum += static_cast<double>(a_il) * b[l * columns + j];
                }
                expected[i * columns + j] = sum;
              }
            }
            const auto result = support::compare(c, expected, columns);
            ASSERT_TRUE(result.within(1e-6))
                << rows << " x " << columns << " x " << depth << ": " << result.message();
          }
        }
      }
    }
  }
}

TEST(multiply, adds_up_many_values_of_one_sign_without_losing_them) {
  constexpr int depth = 64, calls = 64;
  const std::vector<float> a(depth, 0.1f), b(depth * lanes, 1.0f);
  std::vector<float> c(lanes);
  for (int call = 0; call < calls; ++call) {
    multiply(1, lanes, depth, {a.data(), depth, 1}, b.data(), lanes, c.data(), lanes, call > 0);
  }
  const double expected = static_cast<double>(0.1f) * depth * calls;
  for (const float sum : c) EXPECT_NEAR(sum / expected, 1, 4e-6);
}

TEST(multiply, leaves_rows_and_columns_outside_alone) {
  constexpr int stride = 2 * lanes + 1;
  std::vector<float> c(3 * stride, -1.0f);
  const std::vector<float> a(2, 1.0f);
  const std::vector<float> b(2 * lanes, 1.0f);
  multiply(2, 2 * lanes, 1, {a.data(), 1, 1}, b.data(), 2 * lanes, c.data(), stride, false);
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < stride; ++j) {
      EXPECT_EQ(c[i * stride + j], i < 2 && j < 2 * lanes ? 1.0f : -1.0f);
    }
  }
}

float exp2_of(float x) {
  float result[lanes];
  store(result, exp2_nonpositive(vec{} + x));
  return result[0];
}

TEST(exp2_nonpositive, is_accurate_to_two_units_in_the_last_place) {
  for (int step = 0; step <= 126 * 257; ++step) {
    const float x = static_cast<float>(-step) / 257;
    const double exact = std::exp2(static_cast<double>(x));
    ASSERT_NEAR(exp2_of(x) / exact, 1, 2 * 0x1p-23) << x;
  }
}

TEST(exp2_nonpositive, is_exact_at_integers_and_zero_below_normal_numbers) {
  EXPECT_EQ(exp2_of(0), 1);
  EXPECT_EQ(exp2_of(-1), 0.5f);
  EXPECT_EQ(exp2_of(-126), 0x1p-126f);
  EXPECT_EQ(exp2_of(-126.5f), 0);
  EXPECT_EQ(exp2_of(-1e30f), 0);
  EXPECT_EQ(exp2_of(-std::numeric_limits<float>::infinity()), 0);
}

}  // namespace
}  // namespace based::cpu
