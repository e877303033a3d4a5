#include "benchmarks/case_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <string>

#include "benchmarks/based_case.h"
#include "kernels/core/error.h"

namespace based {
namespace {

using testing::HasSubstr;

const case_header one_token = {.values = {{"seqlen", std::int64_t{1}}}};
constexpr int numbers_a_token = 2 * (feature_dim + value_dim);
constexpr int numbers_a_state = (1 + feature_dim) * feature_dim * value_dim;

/// The numbers 1, 2, ... count.
std::string counting(int count) {
  std::string text;
  for (int i = 1; i <= count; ++i) text += fmt::format("{} ", i);
  return text;
}

std::string error_of(const std::string& text, const case_header& header = one_token) {
  try {
    parse_case(text, header);
  } catch (const invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(case_file, splits_the_numbers_into_tensors) {
  const case_file parsed = parse_case(counting(numbers_a_token), one_token);
  EXPECT_EQ(parsed.operation, "prefill");
  EXPECT_THAT(parsed.given.at("q"), testing::SizeIs(feature_dim));
  EXPECT_EQ(parsed.given.at("q").front(), 1);
  EXPECT_EQ(parsed.given.at("k").front(), feature_dim + 1);
  EXPECT_EQ(parsed.given.at("v").front(), 2 * feature_dim + 1);
  ASSERT_THAT(parsed.parts, testing::SizeIs(1));  // no state
  EXPECT_THAT(parsed.parts[0].runs, testing::SizeIs(1));
  EXPECT_EQ(parsed.parts[0].expected.at("o").front(), 2 * feature_dim + value_dim + 1);
  EXPECT_EQ(parsed.parts[0].expected.at("o").back(), numbers_a_token);
}

TEST(case_file, has_the_generators_shape_without_a_header) {
  const case_file parsed = parse_case(counting(1024 * numbers_a_token));
  EXPECT_THAT(parsed.given.at("q"), testing::SizeIs(1024 * feature_dim));
  ASSERT_THAT(parsed.parts, testing::SizeIs(1));
  EXPECT_THAT(parsed.parts[0].runs, testing::SizeIs(1));
  EXPECT_EQ(parsed.parts[0].runs[0].weight, 1);
  EXPECT_EQ(parsed.parts[0].runs[0].values.count("scale"), 0u);
}

TEST(case_file, reads_any_white_space_and_notation) {
  std::string text = "\t1e-3\r\n-2.5E+1\n\n 0.0 -0";
  for (int i = 4; i < numbers_a_token; ++i) text += "\n7";
  const case_file parsed = parse_case(text, one_token);
  EXPECT_FLOAT_EQ(parsed.given.at("q")[0], 1e-3f);
  EXPECT_FLOAT_EQ(parsed.given.at("q")[1], -25.0f);
}

/// With terms 0 and 2, o is the sum of runs at s, -s and 0 with weights 1/2, 1/2 and 0.
TEST(case_file, takes_shape_scale_and_terms_from_the_header) {
  const case_file parsed = parse_case("# based-case B=2 H=3 N=5 scale=0.5 terms=0,2\n" +
                                      counting(2 * 3 * 5 * numbers_a_token));
  ASSERT_THAT(parsed.parts, testing::SizeIs(1));
  const case_part& part = parsed.parts[0];
  EXPECT_EQ(part.expected.at("o").size(), 2u * 3 * 5 * value_dim);
  EXPECT_GT(part.least_norm, 0);
  ASSERT_THAT(part.runs, testing::SizeIs(3));
  const double scales[] = {0.5, -0.5, 0}, weights[] = {0.5, 0.5, 0};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(part.runs[i].values.at("batch"), axis_value(std::int64_t{2}));
    EXPECT_EQ(part.runs[i].values.at("heads"), axis_value(std::int64_t{3}));
    EXPECT_EQ(part.runs[i].values.at("seqlen"), axis_value(std::int64_t{5}));
    EXPECT_EQ(part.runs[i].values.at("scale"), axis_value(scales[i]));
    EXPECT_EQ(part.runs[i].weight, weights[i]);
  }
}

TEST(case_file, reorders_the_states_and_takes_out_their_divisors) {
  const int before = numbers_a_token;  // the count just before the states
  const int linear_size = feature_dim * value_dim;
  const case_file parsed = parse_case(counting(before + numbers_a_state), one_token);
  ASSERT_THAT(parsed.parts, testing::SizeIs(2));
  EXPECT_EQ(parsed.parts[1].runs.at(0).values.at("options"),
            axis_value(std::string("final_state")));
  const std::vector<float>& state = parsed.parts[1].expected.at("final_state.kv");
  ASSERT_EQ(state.size(), std::size_t{compact_features} * value_dim);

  const int i = 3, j = 7, c = 41;
  const auto row = [&](int r) { return state.data() + r * value_dim; };
  EXPECT_TRUE(std::isnan(row(0)[c]));
  EXPECT_FLOAT_EQ(row(first_linear_row + i)[c], 2.0f * (before + 1 + c * feature_dim + i));
  EXPECT_FLOAT_EQ(row(product_row(i, j))[c],
                  4 * std::numbers::sqrt2_v<float> *
                      (before + linear_size + 1 + (i * feature_dim + j) * value_dim + c));
}

/// What is read comes first, then what is written; an updated tensor stands in both.
TEST(case_file, takes_the_tensors_of_any_operation_in_the_order_of_its_description) {
  const int state = compact_features * value_dim;
  const int read = 2 * feature_dim + value_dim + state, written = value_dim + state;
  const case_file parsed = parse_case("# based-case operation=decode state=f32 layout=bnhd\n" +
                                      counting(read + written));
  EXPECT_EQ(parsed.operation, "decode");
  EXPECT_EQ(parsed.order, sequence_order::bnhd);
  EXPECT_EQ(parsed.given.size(), 4u);
  EXPECT_EQ(parsed.given.at("kv").front(), 2 * feature_dim + value_dim + 1);
  ASSERT_THAT(parsed.parts, testing::SizeIs(1));
  EXPECT_EQ(parsed.parts[0].expected.at("o").front(), read + 1);
  EXPECT_EQ(parsed.parts[0].expected.at("kv").front(), read + value_dim + 1);
  EXPECT_EQ(parsed.parts[0].expected.at("kv").back(), read + written);
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
  EXPECT_THAT(error_of("# based-case B=x" + numbers), HasSubstr("header's B: --batch: 'x' is not"));
  EXPECT_THAT(error_of("# based-case N" + numbers), HasSubstr("header's N: --seqlen: '' is not"));
  EXPECT_THAT(error_of("# based-case D=16" + numbers), HasSubstr("'D=16', want operation, layout"));
  EXPECT_THAT(error_of("# based-case N=0" + numbers), HasSubstr("'0' is outside 1 to"));
  EXPECT_THAT(error_of("# based-case N=9000000000000000000" + numbers),
              HasSubstr("is outside 1 to"));
  EXPECT_THAT(error_of("# based-case B=2000000000 H=2000000000 N=2000000000" + numbers),
              HasSubstr("want 12800000000000"));
  EXPECT_THAT(error_of("# based-case layout=hbnd" + numbers), HasSubstr("want bhnd or bnhd"));
  EXPECT_THAT(error_of("# based-case operation=x" + numbers), HasSubstr("'x' is no operation"));
  EXPECT_THAT(error_of("# based-case operation=attention terms=0" + numbers),
              HasSubstr("'terms=0', want operation, layout, B"));
  EXPECT_THAT(error_of("# based-case options=normalize" + numbers), HasSubstr("operation=prefill"));
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
  EXPECT_THROW(read_case(testing::TempDir()), invalid_argument);  // a folder
}

}  // namespace
}  // namespace based
