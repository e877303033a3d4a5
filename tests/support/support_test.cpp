// Proof that the checks can fail: corrupted results must be detected, whatever their size.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <set>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/guarded_buffer.h"
#include "tests/support/inputs.h"

namespace based::support {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t rows = 4096;
constexpr std::int64_t row_size = 64;
constexpr double tolerance = 4e-3;  // of bf16: the loosest in use
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// A result and a reference whose rows grow as those of an unnormalised causal sum do.
class corrupted_result : public ::testing::Test {
 protected:
  corrupted_result() : actual(normal_values(rows * row_size, 1)) {
    for (std::int64_t i = 0; i < rows * row_size; ++i) {
      const std::int64_t row = i / row_size;
      actual[i] *= std::sqrt(static_cast<float>(row + 1));
    }
    expected.assign(actual.begin(), actual.end());
  }
  comparison compared() const { return compare(actual, expected, row_size); }

  std::vector<float> actual;
  std::vector<double> expected;
};

TEST_F(corrupted_result, untouched_is_exact) {
  EXPECT_TRUE(compared().within(0));
  EXPECT_EQ(compared().relative_error, 0);
}

TEST_F(corrupted_result, wrong_tile_is_detected) {
  std::fill_n(actual.begin() + 1024 * row_size, 16 * row_size, 0.0f);
  EXPECT_FALSE(compared().within(tolerance)) << compared().message();
}

TEST_F(corrupted_result, one_wrong_small_row_is_detected) {
  std::fill_n(actual.begin(), row_size, 0.0f);  // the row that weighs least of all
  EXPECT_LT(compared().relative_error, tolerance) << "the total must not be what detects it";
  EXPECT_FALSE(compared().within(tolerance)) << compared().message();
  EXPECT_EQ(compared().worst_row, 0);
}

TEST_F(corrupted_result, swapped_rows_are_detected) {
  std::swap_ranges(actual.begin(), actual.begin() + row_size, actual.begin() + row_size);
  EXPECT_FALSE(compared().within(tolerance)) << compared().message();
}

TEST_F(corrupted_result, scaled_result_is_detected) {
  for (float& value : actual) value *= 1.01f;
  EXPECT_NEAR(compared().relative_error, 0.01, 1e-4);
  EXPECT_FALSE(compared().within(tolerance)) << compared().message();
}

TEST_F(corrupted_result, nan_is_detected_and_located) {
  actual[12345] = nan;
  EXPECT_FALSE(compared().within(infinity));
  EXPECT_EQ(compared().first_misplaced, 12345);
  EXPECT_THAT(compared().message(), HasSubstr("12345"));
}

TEST_F(corrupted_result, infinity_is_detected) {
  actual[7] = infinity;
  EXPECT_FALSE(compared().within(infinity));
}

TEST_F(corrupted_result, missing_nan_is_detected) {
  expected[7] = nan;
  EXPECT_FALSE(compared().within(infinity));
  actual[7] = nan;
  EXPECT_TRUE(compared().within(0));
}

TEST_F(corrupted_result, infinity_of_the_other_sign_is_detected) {
  expected[7] = infinity;
  actual[7] = -infinity;
  EXPECT_FALSE(compared().within(infinity));
}

TEST_F(corrupted_result, something_where_zero_is_expected_is_detected) {
  std::fill(expected.begin(), expected.end(), 0.0);
  EXPECT_FALSE(compared().within(tolerance));
}

class guarded : public ::testing::TestWithParam<device_kind> {
 protected:
  void SetUp() override {
    if (GetParam() == device_kind::cpu) return;
    if (const auto reason = cuda_unavailable()) GTEST_SKIP() << *reason;
  }
};

TEST_P(guarded, unwritten_elements_are_nan) {
  EXPECT_TRUE(std::ranges::all_of(guarded_buffer<float>(GetParam(), 100).read(),
                                  [](float value) { return std::isnan(value); }));
  EXPECT_TRUE(std::ranges::all_of(guarded_buffer<bf16>(GetParam(), 100).read(),
                                  [](bf16 value) { return std::isnan(to_float(value)); }));
}

TEST_P(guarded, contents_survive_and_guards_stay) {
  const std::vector<float> values = normal_values(1001, 2);
  guarded_buffer<float> buffer(GetParam(), 1001);
  buffer.write(values);
  EXPECT_EQ(buffer.read(), values);
  EXPECT_EQ(buffer.guard_damage(), std::nullopt);
}

TEST_P(guarded, both_layouts_keep_every_element) {
  const std::vector<float> values = normal_values(2 * 3 * 5 * 16, 3);
  for (const layout order : {layout::bhnd, layout::bnhd}) {
    sequence_buffer<bf16> tensor(GetParam(), order, 2, 3, 5, 16);
    tensor.write(values);
    EXPECT_EQ(tensor.read(), values);
  }
}

INSTANTIATE_TEST_SUITE_P(devices, guarded, ::testing::Values(device_kind::cpu, device_kind::cuda),
                         [](const auto& device) { return std::string(to_string(device.param)); });

TEST(guarded_buffer, overwritten_guards_are_detected) {
  for (const std::int64_t at : {std::int64_t{-1}, std::int64_t{100}}) {
    guarded_buffer<float> buffer(device_kind::cpu, 100);
    buffer.data()[at] = 0;
    EXPECT_NE(buffer.guard_damage(), std::nullopt) << "element " << at;
  }
}

TEST(sequence_buffer, layouts_place_tokens_where_they_say) {
  sequence_buffer<float> tensor(device_kind::cpu, layout::bnhd, 2, 3, 5, 16);
  const std::vector<float> values = normal_values(2 * 3 * 5 * 16, 4);
  tensor.write(values);
  EXPECT_EQ(*tensor.view().token(1, 2, 4), values[((1 * 3 + 2) * 5 + 4) * 16]);
  EXPECT_EQ(tensor.view().token_stride, 3 * 16);
}

TEST(normal_values, are_normal_reproducible_and_exact_in_bf16) {
  const std::vector<float> values = normal_values(100000, 5);
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    EXPECT_EQ(value, to_float(to_bf16(value)));
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  EXPECT_NEAR(sum / 1e5, 0, 0.02);
  EXPECT_NEAR(squares / 1e5, 1, 0.02);
  EXPECT_EQ(values, normal_values(100000, 5));
  EXPECT_NE(values, normal_values(100000, 6));
  EXPECT_GT(std::set<float>(values.begin(), values.end()).size(), 1000u);
}

}  // namespace
}  // namespace based::support
