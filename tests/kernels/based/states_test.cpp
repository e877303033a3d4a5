// Prefill and decode of Based, whose states are one and the same; and what of them no axis varies.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "baselines/reference/prefill.h"
#include "kernels/based/decode.h"
#include "kernels/based/prefill.h"
#include "kernels/core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <class Op>
using solved_case = detail::typed_case<Op>;

template <class Op>
std::string name_of(const implementation<Op>& tested) {
  return fmt::format("{}_{}", tested.name, to_string(tested.device()));
}

template <class Op>
unsupported_reason cannot_run(const implementation<Op>& tested, const operation_case& solved) {
  if (tested.device() == device_kind::cuda) {
    if (auto reason = support::cuda_unavailable()) return reason;
  }
  return solved.unsupported();
}

const implementation<based_prefill>& best_prefill(device_kind device) {
  for (const auto& each : registry<based_prefill>()) {
    if (each.name == "based" && each.device() == device) return each;
  }
  throw std::logic_error("no prefill is registered");
}

class decode_implementation : public ::testing::TestWithParam<implementation<based_decode>> {};

/// Prefill of N tokens, then decode of M, is prefill of N + M: the state is prefill's own. With it
/// goes the drift of a state that is rounded at every step: its bound here is what a bf16 state of
/// these inputs costs after 1,000 steps.
TEST_P(decode_implementation, continues_a_prefill_for_a_thousand_steps) {
  const implementation<based_decode>& tested = GetParam();
  const element_type io = tested.run.types().front();
  constexpr std::int64_t prefilled = 77, decoded = 1000, tokens = prefilled + decoded;
  constexpr double bf16_drift = 5e-2;
  int ran = 0;
  std::string why;
  for (const state_type state : {state_type::f32, state_type::bf16}) {
    const solved_case<based_decode> step(tested, {.state = state, .normalize = true}, io);
    unsupported_reason reason = cannot_run(tested, step);
    if (!reason && step.tensors().front().shape.back() != feature_dim) {
      reason = "its state is not that of prefill";
    }
    if (reason) {
      why = *reason;
      continue;
    }
    const prefill_options options = {.normalize = true, .final_state = true};
    const solved_case<based_prefill> all(best_prefill(tested.device()), {{1, 1, tokens}, options},
                                         io);
    const solved_case<based_prefill> first(best_prefill(tested.device()),
                                           {{1, 1, prefilled}, options}, io);
    checked_case inputs(all, tested.device(), sequence_order::bhnd, 4);
    checked_case prefill(first, tested.device(), sequence_order::bhnd);
    checked_case decode(step, tested.device(), sequence_order::bhnd);
    const auto copy_tokens = [&](checked_case& to, std::int64_t token, std::int64_t count) {
      for (const auto& [name, dim] :
           {std::pair{"q", feature_dim}, {"k", feature_dim}, {"v", value_dim}}) {
        to.write(name, 0, inputs.get(name, token * dim, count * dim));
      }
    };
    copy_tokens(prefill, 0, prefilled);
    prefill.run();
    std::vector<float> kv =
        prefill.get("final_state.kv", 0, std::int64_t{compact_features} * value_dim);
    std::vector<float> z = prefill.get("final_state.z", 0, compact_features);
    decode.write("kv", 0, kv);
    decode.write("z", 0, z);
    std::vector<float> actual;
    const auto call = decode.bound();
    for (std::int64_t token = prefilled; token < tokens; ++token) {
      copy_tokens(decode, token, 1);
      call(nullptr);
      support::synchronize(tested.device());
      const std::vector<float> o = decode.get("o", 0, value_dim);
      actual.insert(actual.end(), o.begin(), o.end());
    }

    std::vector<std::int64_t> rows(decoded);
    std::iota(rows.begin(), rows.end(), prefilled);
    std::vector<double> expected(rows.size() * value_dim);
    const auto q = inputs.get("q", 0, tokens * feature_dim);
    const auto k = inputs.get("k", 0, tokens * feature_dim);
    const auto v = inputs.get("v", 0, tokens * value_dim);
    reference::prefill_rows({.seqlen = tokens, .q = q.data(), .k = k.data(), .v = v.data()},
                            options, rows, expected);
    const auto result = support::compare(actual, expected, value_dim);
    const double bound = state == state_type::f32 ? tested.tolerance : bf16_drift;
    RecordProperty(state == state_type::f32 ? "f32_drift" : "bf16_drift",
                   fmt::format("{:.3g}", result.relative_error));
    EXPECT_LT(result.relative_error, bound) << result.message();
    EXPECT_EQ(result.misplaced, 0);
    ++ran;
  }
  if (ran == 0) GTEST_SKIP() << why;
}

INSTANTIATE_TEST_SUITE_P(registry, decode_implementation,
                         ::testing::ValuesIn(registry<based_decode>()),
                         [](const auto& test) { return name_of(test.param); });

TEST(decode_implementations, one_of_the_cpu_has_the_state_of_prefill) {
  int able = 0;
  for (const auto& each : registry<based_decode>()) {
    if (each.device() == device_kind::cuda) continue;
    const solved_case<based_decode> step(each, {.normalize = true}, element_type::f32);
    able += !cannot_run(each, step) && step.tensors().front().shape.back() == feature_dim ? 1 : 0;
  }
  EXPECT_GE(able, 1);
}

/// Runs f(implementation, case) for each implementation of an operation that can run the problem.
template <class Op, class Function>
void for_each_that_runs(const typename Op::problem& problem, Function f) {
  int ran = 0;
  for (const implementation<Op>& each : registry<Op>()) {
    const solved_case<Op> solved(each, problem, each.run.types().front());
    if (cannot_run(each, solved)) continue;
    SCOPED_TRACE(name_of(each));
    f(each, solved);
    ++ran;
  }
  EXPECT_GE(ran, 2);
}

/// No axis varies eps: here it weighs as much as the weights do.
TEST(eps, is_added_to_the_weights) {
  const auto check = [](const auto& tested, const operation_case& solved) {
    checked_case call(solved, tested.device(), sequence_order::bhnd);
    call.run();
    EXPECT_THAT(call.problems(tested.tolerance), IsEmpty());
  };
  for_each_that_runs<based_prefill>({{2, 3, 70}, {.normalize = true, .eps = 30.0f}}, check);
  for_each_that_runs<based_decode>({.batch = 2, .heads = 3, .normalize = true, .eps = 30.0f},
                                   check);
}

/// A state whose size the caller has wrong would be read or written past its end.
TEST(state_sizes, are_refused_when_they_are_not_the_problems) {
  const auto check = [](const auto& tested, const operation_case& solved) {
    checked_case call(solved, tested.device(), sequence_order::bhnd);
    int spoilt = 0;
    for (const tensor_spec& spec : solved.tensors()) {
      if (spec.is_sequence) continue;
      placed_tensor& placed = call.placed().find(spec.name)->second;
      for (const std::size_t bytes : {spec.bytes() - 16, spec.bytes() + 16}) {
        placed.bytes = bytes;
        try {
          call.run();
          ADD_FAILURE() << spec.name << " of " << bytes << " bytes was not refused";
        } catch (const invalid_argument& error) {
          EXPECT_THAT(error.what(), HasSubstr(std::string(spec.name)));
        }
        ++spoilt;
      }
      placed.bytes = spec.bytes();
    }
    EXPECT_TRUE(call.is_untouched());
    EXPECT_GE(spoilt, 4);
  };
  for_each_that_runs<based_prefill>(
      {{1, 2, 65}, {.normalize = true, .initial_state = true, .final_state = true}}, check);
  for_each_that_runs<based_decode>({.batch = 1, .heads = 2, .normalize = true}, check);
}

}  // namespace
}  // namespace based
