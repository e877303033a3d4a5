// The table of variants, of an operation that adds up numbers on a card of so many lanes.
#include "kernels/core/variants.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace based {
namespace {

struct sum_problem {
  int numbers;
  std::string_view variant = {};
  bool operator==(const sum_problem&) const = default;
};
template <class T>
struct sum_args {
  sum_problem problem;
  std::string* ran;
  std::size_t workspace_bytes;
};
struct sum_operation {
  static constexpr std::string_view name = "sum";
  using problem = sum_problem;
  template <class T>
  using args = sum_args<T>;
};
struct card {
  int lanes;
  bool operator==(const card&) const = default;
};
int current_lanes = 32;
struct sum_plan {
  int parts = 1;
  std::string label() const { return parts > 1 ? "in " + std::to_string(parts) : ""; }
};

void validate(const sum_problem& problem) {
  if (problem.numbers < 1) throw invalid_argument("no numbers");
}
template <class T>
void validate(const sum_args<T>& args, std::size_t needed) {
  validate(args.problem);
  if (args.workspace_bytes < needed) throw invalid_argument("workspace");
}

using rule = variant_rule<sum_operation, card, sum_plan>;
const rule serial = {"serial", [](const sum_problem&, const card&) { return unsupported_reason{}; },
                     [](const sum_problem& problem, const card&) {
                       return rule::planned{{}, 1.0 * problem.numbers};
                     }};
const rule parallel = {
    "parallel",
    [](const sum_problem& problem, const card& device) -> unsupported_reason {
      if (problem.numbers >= device.lanes) return std::nullopt;
      return "fewer numbers than lanes";
    },
    [](const sum_problem& problem, const card& device) {
      return rule::planned{{device.lanes}, 100.0 + problem.numbers / device.lanes};
    }};

template <class T>
void add_serially(const sum_args<T>& args, const sum_plan&, cuda_stream) {
  *args.ran = "serial " + std::string(to_string(element_of<T>));
}
template <class T>
void add_in_parallel(const sum_args<T>& args, const sum_plan& plan, cuda_stream) {
  *args.ran =
      "parallel " + std::string(to_string(element_of<T>)) + " in " + std::to_string(plan.parts);
}

using sum_variant = variant<sum_operation, card, sum_plan, bf16, fp16>;
const std::array table = {
    sum_variant{serial,
                [](const sum_problem&, const sum_plan&) { return std::size_t{0}; },
                [](const sum_problem& problem, const sum_plan&) { return 1.0 * problem.numbers; },
                {add_serially<bf16>, add_serially<fp16>}},
    sum_variant{
        parallel,
        [](const sum_problem&, const sum_plan& plan) { return std::size_t(4 * plan.parts); },
        [](const sum_problem& problem, const sum_plan& plan) {
          return 1.0 * problem.numbers + plan.parts;
        },
        {add_in_parallel<bf16>, add_in_parallel<fp16>}},
};
struct sum_dispatch {
  using operation = sum_operation;
  static card current_device() { return {current_lanes}; }
  static std::span<const sum_variant> table() { return based::table; }
};
using sums = dispatcher<sum_dispatch>;

TEST(variants, the_one_expected_to_take_least_is_chosen) {
  EXPECT_EQ(sums::label({16}), "serial");
  EXPECT_EQ(sums::label({64}), "serial");
  EXPECT_EQ(sums::label({1000}), "parallel in 32");
}

TEST(variants, an_answer_is_kept_for_its_problem_device_and_variant_alone) {
  EXPECT_EQ(sums::label({1000}), "parallel in 32");
  EXPECT_EQ(sums::label({1000, "serial"}), "serial");
  EXPECT_EQ(sums::label({1000}), "parallel in 32");
  current_lanes = 500;
  EXPECT_EQ(sums::label({1000}), "parallel in 500");
  EXPECT_EQ(sums::unsupported({400, "parallel"}), "fewer numbers than lanes");
  current_lanes = 32;
  EXPECT_EQ(sums::label({1000}), "parallel in 32");
  std::string overwritten = "serial";
  EXPECT_EQ(sums::label({1000, overwritten}), "serial");
  overwritten = "xxxxxx";
  EXPECT_EQ(sums::label({1000, "serial"}), "serial");
}

TEST(variants, a_forced_one_is_obeyed_or_says_why_not) {
  EXPECT_EQ(sums::label({1000, "serial"}), "serial");
  EXPECT_EQ(sums::label({64, "parallel"}), "parallel in 32");
  EXPECT_EQ(sums::unsupported({16, "parallel"}), "fewer numbers than lanes");
  EXPECT_EQ(sums::unsupported({16}), std::nullopt);
  EXPECT_THROW(sums::label({16, "parallel"}), invalid_argument);
  EXPECT_THROW(sums::unsupported({16, "quantum"}), invalid_argument);
  EXPECT_THROW(sums::unsupported({0}), invalid_argument);
}

TEST(variants, the_chosen_one_gives_workspace_flops_and_launch) {
  EXPECT_EQ(sums::workspace_bytes({16}), 0u);
  EXPECT_EQ(sums::workspace_bytes({1000}), 128u);
  EXPECT_EQ(sums::executed_flops({16}), 16);
  EXPECT_EQ(sums::executed_flops({1000}), 1032);
  std::string ran;
  sums::run<bf16>({{1000}, &ran, 128}, nullptr);
  EXPECT_EQ(ran, "parallel bf16 in 32");
  sums::run<fp16>({{1000}, &ran, 128}, nullptr);
  EXPECT_EQ(ran, "parallel fp16 in 32");
  sums::run<bf16>({{1000, "serial"}, &ran, 0}, nullptr);
  EXPECT_EQ(ran, "serial bf16");
  EXPECT_THROW(sums::run<bf16>({{1000}, &ran, 127}, nullptr), invalid_argument);
}

TEST(variants, all_are_named_in_order) {
  ASSERT_EQ(sums::names().size(), 2u);
  EXPECT_EQ(sums::names()[0], "serial");
  EXPECT_EQ(sums::names()[1], "parallel");
}

}  // namespace
}  // namespace based
