#include "benchmarks/case_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <string>

#include "kernels/core/error.h"

namespace based {
namespace {

using testing::HasSubstr;

constexpr case_layout one_token{.shape = {.batch = 1, .heads = 1, .seqlen = 1}};
constexpr int numbers_a_token = 2 * (feature_dim + value_dim);
constexpr int numbers_a_state = (1 + feature_dim) * feature_dim * value_dim;

/// The numbers 1, 2, ... count.
std::string counting(int count) {
  std::string text;
  for (int i = 1; i <= count; ++i) text += fmt::format("{} ", i);
  return text;
}

std::string error_of(const std::string& text, const case_layout& layout = one_token) {
  try {
    parse_case(text, layout);
  } catch (const invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(case_file, splits_the_numbers_into_tensors) {
  const case_file parsed = parse_case(counting(numbers_a_token), one_token);
  EXPECT_THAT(parsed.q, testing::SizeIs(feature_dim));
  EXPECT_EQ(parsed.q.front(), 1);
  EXPECT_EQ(parsed.k.front(), feature_dim + 1);
  EXPECT_EQ(parsed.v.front(), 2 * feature_dim + 1);
  EXPECT_EQ(parsed.o.front(), 2 * feature_dim + value_dim + 1);
  EXPECT_EQ(parsed.o.back(), numbers_a_token);
  EXPECT_TRUE(parsed.state.empty());
}

TEST(case_file, has_the_generators_shape_without_a_header) {
  const case_file parsed = parse_case(counting(1024 * numbers_a_token));
  EXPECT_EQ(parsed.layout.shape.seqlen, 1024);
  EXPECT_EQ(parsed.layout.shape.batch_heads(), 1);
  EXPECT_TRUE(parsed.layout.all_terms());
  EXPECT_FLOAT_EQ(parsed.layout.scale, 0.25f);
}

TEST(case_file, reads_any_white_space_and_notation) {
  std::string text = "\t1e-3\r\n-2.5E+1\n\n 0.0 -0";
  for (int i = 4; i < numbers_a_token; ++i) text += "\n7";
  const case_file parsed = parse_case(text, one_token);
  EXPECT_FLOAT_EQ(parsed.q[0], 1e-3f);
  EXPECT_FLOAT_EQ(parsed.q[1], -25.0f);
}

TEST(case_file, takes_shape_scale_and_terms_from_the_header) {
  const case_file parsed = parse_case("# based-case B=2 H=3 N=5 scale=0.5 terms=0,2\n" +
                                      counting(2 * 3 * 5 * numbers_a_token));
  EXPECT_EQ(parsed.layout.shape.batch, 2);
  EXPECT_EQ(parsed.layout.shape.heads, 3);
  EXPECT_EQ(parsed.layout.shape.seqlen, 5);
  EXPECT_EQ(parsed.layout.scale, 0.5f);
  EXPECT_THAT(parsed.layout.terms, testing::ElementsAre(true, false, true));
  EXPECT_EQ(parsed.o.size(), 2u * 3 * 5 * value_dim);
}

TEST(case_file, reorders_the_states_and_takes_out_their_divisors) {
  const int before = numbers_a_token;  // the count just before the states
  const int linear_size = feature_dim * value_dim;
  const case_file parsed = parse_case(counting(before + numbers_a_state), one_token);
  ASSERT_EQ(parsed.state.size(), std::size_t{compact_features} * value_dim);

  const int i = 3, j = 7, c = 41;
  const auto row = [&](int r) { return parsed.state.data() + r * value_dim; };
  EXPECT_TRUE(std::isnan(row(0)[c]));
  EXPECT_FLOAT_EQ(row(first_linear_row + i)[c], 2.0f * (before + 1 + c * feature_dim + i));
  EXPECT_FLOAT_EQ(row(product_row(i, j))[c],
                  4 * std::numbers::sqrt2_v<float> *
                      (before + linear_size + 1 + (i * feature_dim + j) * value_dim + c));
}

TEST(case_file, names_what_a_wrong_count_should_have_been) {
  for (const int count :
       {0, numbers_a_token - 1, numbers_a_token + 1, numbers_a_token + numbers_a_state - 1,
        numbers_a_token + numbers_a_state + 1}) {
    const std::string error = error_of(counting(count));
    EXPECT_THAT(error, HasSubstr(fmt::format("has {} numbers", count)));
    EXPECT_THAT(error, HasSubstr(fmt::format("want {}", numbers_a_token)));
    EXPECT_THAT(error, HasSubstr("B=1 H=1 N=1"));
    EXPECT_THAT(error, testing::Not(HasSubstr("\n")));
  }
}

TEST(case_file, refuses_what_is_no_finite_number) {
  const std::string rest = counting(numbers_a_token - 2);
  EXPECT_THAT(error_of("1 nan " + rest), HasSubstr("number 2 is nan"));
  EXPECT_THAT(error_of("inf 1 " + rest), HasSubstr("number 1 is inf"));
  EXPECT_THAT(error_of("1 -NaN " + rest), HasSubstr("number 2 is -NaN"));
  EXPECT_THAT(error_of("1 0x10 " + rest), HasSubstr("number 2 is '0x10'"));
  EXPECT_THAT(error_of("1 2,5 " + rest), HasSubstr("number 2 is '2,5'"));
}

TEST(case_file, refuses_a_bad_header) {
  const std::string numbers = "\n" + counting(numbers_a_token);
  EXPECT_THAT(error_of("# something else" + numbers), HasSubstr("# based-case"));
  EXPECT_THAT(error_of("# based-case B=x" + numbers), HasSubstr("header's B is 'x'"));
  EXPECT_THAT(error_of("# based-case N" + numbers), HasSubstr("header's N is ''"));
  EXPECT_THAT(error_of("# based-case D=16" + numbers), HasSubstr("'D=16'"));
  EXPECT_THAT(error_of("# based-case N=0" + numbers), HasSubstr("seqlen is 0"));
  EXPECT_THAT(error_of("# based-case N=9000000000000000000" + numbers), HasSubstr("2^63"));
  EXPECT_THAT(error_of("# based-case N=1000000000000" + numbers),
              HasSubstr("want 160000000000000"));
  for (const char* terms : {"", "3", "0,", "01", "a"}) {
    EXPECT_THAT(error_of(fmt::format("# based-case terms={}{}", terms, numbers)),
                HasSubstr(fmt::format("terms is '{}'", terms)));
  }
}

TEST(case_file, names_the_file_in_its_errors) {
  const auto path = std::filesystem::path(testing::TempDir()) / "case_file_test.txt";
  std::ofstream(path) << "1 2 3";
  try {
    read_case(path);
    FAIL() << "three numbers were taken for a case";
  } catch (const invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr(path.string() + ": has 3 numbers"));
  }
  std::filesystem::remove(path);
  EXPECT_THROW(read_case(path), invalid_argument);
}

}  // namespace
}  // namespace based
