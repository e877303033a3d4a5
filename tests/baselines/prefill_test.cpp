// Every registered implementation of Based prefill, on every device, against the float64 reference.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/baselines/prefill_check.h"
#include "tests/baselines/sampling.h"

namespace based {

/// An implementation, or one variant of a dispatching one.
struct prefill_candidate {
  implementation<based_prefill> entry;
  std::string_view variant = {};
};
std::ostream& operator<<(std::ostream& out, const prefill_candidate& candidate) {
  return out << candidate.entry.name << " " << candidate.variant;
}

namespace {

using ::testing::IsEmpty;

std::vector<prefill_candidate> candidates() {
  std::vector<prefill_candidate> all;
  for (const auto& entry : registry<based_prefill>()) {
    all.push_back({entry});
    for (const std::string_view variant : entry.variants) {
      all.push_back({entry, variant});
    }
  }
  return all;
}

std::string name_of(const prefill_candidate& candidate) {
  std::string name =
      fmt::format("{}_{}{}{}", candidate.entry.name, to_string(candidate.entry.device()),
                  candidate.variant.empty() ? "" : "_", candidate.variant);
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

constexpr prefill_options all_options = {
    .scale = 0.2f, .normalize = true, .eps = 1e-3f, .initial_state = true, .final_state = true};

std::vector<prefill_case> cases() {
  using support::layout;
  std::vector<prefill_case> all;
  // Lengths below, at and above tiles and chunks; one head and many.
  for (const std::int64_t n : {1, 63, 64, 65, 1000, 4097}) {
    for (const auto& [batch, heads] : {std::pair{1, 1}, std::pair{2, 3}}) {
      const prefill_shape shape{batch, heads, n};
      const std::string name = fmt::format("B{}H{}N{}", batch, heads, n);
      all.push_back({name, shape});
      all.push_back({fmt::format("{}_normalized", name),
                     shape,
                     {.scale = 0.2f, .normalize = true},
                     layout::bnhd});
      all.push_back({fmt::format("{}_all_options", name), shape, all_options, layout::bnhd});
    }
  }
  // Each option alone, in both layouts.
  constexpr prefill_shape shape{2, 3, 200};
  const std::pair<std::string, prefill_options> options[] = {
      {"scale", {.scale = 0.5f}},
      {"normalize", {.normalize = true}},
      {"eps", {.normalize = true, .eps = 10.0f}},
      {"initial_state", {.initial_state = true}},
      {"final_state", {.final_state = true}},
      {"normalized_states", {.normalize = true, .initial_state = true, .final_state = true}},
  };
  for (const auto& [name, chosen] : options) {
    all.push_back({fmt::format("{}_bhnd", name), shape, chosen, layout::bhnd});
    all.push_back({fmt::format("{}_bnhd", name), shape, chosen, layout::bnhd});
  }
  // Scores far from zero, where 1 + s + s^2/2 reaches the hundreds, and next to zero.
  for (const bool normalize : {false, true}) {
    const prefill_options chosen{.normalize = normalize};
    const char* suffix = normalize ? "_normalized" : "";
    all.push_back(
        {fmt::format("large_values{}", suffix), {1, 2, 1000}, chosen, layout::bhnd, 2.0f});
    all.push_back(
        {fmt::format("tiny_values{}", suffix), {1, 2, 1000}, chosen, layout::bhnd, 1e-3f});
  }
  return all;
}

class prefill : public ::testing::TestWithParam<std::tuple<prefill_candidate, prefill_case>> {};

TEST_P(prefill, matches_reference) {
  auto [candidate, test] = GetParam();
  test.variant = candidate.variant;
  if (const auto reason = cannot_run_problem(candidate.entry, test.problem())) {
    GTEST_SKIP() << *reason;
  }
  EXPECT_THAT(verify(candidate.entry, test), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(registry, prefill,
                         ::testing::Combine(::testing::ValuesIn(candidates()),
                                            ::testing::ValuesIn(cases())),
                         [](const auto& test) {
                           return fmt::format("{}_{}", name_of(std::get<0>(test.param)),
                                              std::get<1>(test.param).name);
                         });

class prefill_implementation : public ::testing::TestWithParam<prefill_candidate> {
 protected:
  prefill_case with(prefill_shape shape, prefill_options options) const {
    prefill_case test{"", shape, options};
    test.variant = GetParam().variant;
    return test;
  }
  unsupported_reason cannot_run(const prefill_case& test) const {
    return cannot_run_problem(GetParam().entry, test.problem());
  }
};

TEST_P(prefill_implementation, continues_from_its_own_state) {
  for (const bool normalize : {false, true}) {
    const prefill_case test = with({2, 3, 300}, {.normalize = normalize, .final_state = true});
    prefill_case second_piece = test;
    second_piece.options.initial_state = true;
    if (const auto reason = cannot_run(second_piece)) GTEST_SKIP() << *reason;
    constexpr std::int64_t first_piece = 100;  // ends inside a tile
    EXPECT_THAT(verify_in_two_pieces(GetParam().entry, test, first_piece), IsEmpty());
  }
}

TEST_P(prefill_implementation, repeats_itself_bit_for_bit) {
  const implementation<based_prefill>& candidate = GetParam().entry;
  if (candidate.name == "causal_dot_product" && candidate.device() == device_kind::cuda) {
    GTEST_SKIP() << "adds atomically, in an order that varies";
  }
  const prefill_case test = with({2, 3, 500}, {.normalize = true});
  if (const auto reason = cannot_run(test)) GTEST_SKIP() << *reason;
  EXPECT_TRUE(repeats_itself(candidate, test));
}

TEST_P(prefill_implementation, describes_itself) {
  const implementation<based_prefill>& candidate = GetParam().entry;
  EXPECT_FALSE(candidate.name.empty());
  EXPECT_FALSE(candidate.summary.empty());
  EXPECT_GT(candidate.tolerance, 0);
  const prefill_case test = with({1, 1, 64}, {});
  if (const auto reason = cannot_run(test)) GTEST_SKIP() << *reason;
  const prefill_problem problem = test.problem();
  const prefill_problem longer = with({1, 1, 6400}, {}).problem();
  // Never less than the products of one feature: work that is not counted would flatter no one.
  EXPECT_GT(candidate.executed_flops(problem), 64.0 * 4 * value_dim);
  EXPECT_GT(candidate.executed_flops(longer), candidate.executed_flops(problem));
  EXPECT_GE(candidate.workspace_bytes(longer), candidate.workspace_bytes(problem));
}

TEST_P(prefill_implementation, refuses_bad_arguments) {
  const prefill_case test = with({1, 1, 64}, {});
  if (const auto reason = cannot_run(test)) GTEST_SKIP() << *reason;
  EXPECT_TRUE(refuses_bad_arguments(GetParam().entry, test));
}

INSTANTIATE_TEST_SUITE_P(registry, prefill_implementation, ::testing::ValuesIn(candidates()),
                         [](const auto& test) { return name_of(test.param); });

TEST(prefill_registry, holds_every_cpu_implementation) {
  std::vector<std::string_view> names;
  for (const auto& entry : registry<based_prefill>()) {
    if (entry.device() == device_kind::cpu) names.push_back(entry.name);
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({"based", "naive", "causal_dot_product",
                                              "chunked_recurrent", "chunked_parallel"}));
}

/// What calling an implementation on a problem says, before it has looked at any pointer.
std::string refusal(const implementation<based_prefill>& candidate,
                    const prefill_problem& problem) {
  try {
    if (candidate.device() == device_kind::cpu) {
      candidate(prefill_args<float>{.problem = problem});
    } else {
      candidate(prefill_args<bf16>{.problem = problem}, nullptr);
    }
  } catch (const invalid_argument& error) {
    return error.what();
  }
  return "nothing";
}

TEST(prefill_registry, refuses_what_it_does_not_support_with_the_reason) {
  const prefill_options each[] = {
      {.normalize = true}, {.initial_state = true}, {.final_state = true}};
  for (const auto& candidate : registry<based_prefill>()) {
    for (const prefill_options& options : each) {
      const prefill_problem problem{{1, 1, 64}, options};
      if (const auto reason = candidate.unsupported(problem)) {
        EXPECT_THAT(refusal(candidate, problem), testing::HasSubstr(*reason)) << candidate.name;
      }
    }
  }
}

TEST(prefill_registry, refuses_a_variant_that_it_does_not_have) {
  for (const auto& candidate : registry<based_prefill>()) {
    EXPECT_THAT(refusal(candidate, {{1, 1, 64}, {}, "nonsense"}),
                testing::HasSubstr("has no variant 'nonsense'"))
        << candidate.name;
  }
}

}  // namespace
}  // namespace based
