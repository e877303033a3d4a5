// What the tests of every operation run on: each registered implementation in each of its variants
// and element types, at the points of its operation's axes where something may go wrong.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/harness/implementation_choice.h"
#include "kernels/core/operation.h"

namespace based {

struct candidate : implementation_choice {
  /// As part of a test's name: letters, digits and underscores.
  std::string name() const;
};
std::ostream& operator<<(std::ostream& out, const candidate& tested);

/// All of them, or those that `wanted` says yes to.
std::vector<candidate> candidates(const std::function<bool(const candidate&)>& wanted =
                                      [](const candidate&) { return true; });

bool has_axis(const operation& op, std::string_view flag);
/// Whether a problem of this operation has a tensor of this name.
bool has_tensor(const operation& op, std::string_view name);
/// The names on the axis of options; empty if the operation has none.
std::vector<std::string> options_of(const operation& op);

/// `point` with these of the operation's options, joined by +; `point` itself if it has no options.
axis_values with_options(const operation& op, axis_values point, std::string_view options);

inline constexpr std::array both_orders = {sequence_order::bhnd, sequence_order::bnhd};

/// A problem of these sizes, of which `seqlen` counts only if the operation has a length; other
/// whole numbers are the first of their default sweep.
axis_values point_of(const operation& op, std::int64_t batch, std::int64_t heads,
                     std::int64_t seqlen);

/// The points where implementations are compared with the reference. They vary one axis at a time
/// around two problems, one head and several; each with no options, and again with all of them.
std::vector<axis_values> tested_points(const operation& op);

/// Points so small that a sanitizer gets through them: one token, one past a tile, several tiles
/// with a ragged tail, and more heads than multiprocessors; without options and with all of them.
std::vector<axis_values> small_points(const operation& op);

/// Where a test looks at one problem only: without options and with all of them, 2 x 3 heads of 200
/// tokens; of an implementation that runs neither, more heads than a GPU has multiprocessors.
std::vector<axis_values> typical_points(const candidate& tested);

/// Why this machine or the implementation cannot run a problem; empty: it can.
unsupported_reason cannot_run(const candidate& tested, const operation_case& solved);

/// Labels and values, as in a row's name.
std::string text_of(const operation_case& solved);

/// A test of one candidate.
class candidate_test : public ::testing::TestWithParam<candidate> {
 protected:
  /// Skips where there is no GPU for a candidate that needs one.
  void SetUp() override;
  /// Calls f(case) at each point that can be run. Where there is none it skips with the reason, but
  /// on the CPU it fails: what this machine can run must be tested.
  void for_each_case(const std::vector<axis_values>& points,
                     const std::function<void(const operation_case&)>& f);
};

}  // namespace based

/// Instantiates a suite of tests derived from candidate_test for the candidates of an expression.
#define BASED_FOR_CANDIDATES(suite, ...)                                      \
  INSTANTIATE_TEST_SUITE_P(registry, suite, ::testing::ValuesIn(__VA_ARGS__), \
                           [](const auto& test) { return test.param.name(); })
