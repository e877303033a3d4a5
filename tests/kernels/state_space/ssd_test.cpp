// What of ssd no axis varies, or only beside others: groups of heads, parameters of one head that
// are not numbers, what is refused.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/state_space/ssd.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using solved_case = detail::typed_case<ssd>;

class ssd_layer : public ::testing::TestWithParam<implementation<ssd>> {
 protected:
  void SetUp() override {
    if (device() == device_kind::cpu) return;
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
  }
  device_kind device() const { return GetParam().device(); }
  solved_case solve(const ssd_problem& problem) const {
    return {GetParam(), problem, GetParam().run.types().front()};
  }
};

ssd_problem with_all_options(ssd_problem problem) {
  problem.softplus = problem.bias = problem.skip = problem.gate = true;
  problem.initial_state = problem.final_state = true;
  return problem;
}

TEST_P(ssd_layer, shares_b_and_c_by_groups) {
  int ran = 0;
  for (const std::int64_t groups : {1, 2, 3, 6}) {
    for (const auto& [state_dim, head_dim] :
         {std::pair{64, 64}, std::pair{128, 128}, std::pair{256, 64}}) {
      const ssd_problem plain = {.batch = 2,
                                 .heads = 6,
                                 .seqlen = 130,
                                 .head_dim = head_dim,
                                 .state_dim = state_dim,
                                 .groups = groups};
      for (const ssd_problem& problem : {plain, with_all_options(plain)}) {
        const solved_case solved = solve(problem);
        if (solved.unsupported()) continue;
        SCOPED_TRACE(fmt::format("G {}, S {}, P {}", groups, state_dim, head_dim));
        checked_case call(solved, device(), sequence_order::bnhd);
        call.run();
        EXPECT_THAT(call.problems(GetParam().tolerance), IsEmpty());
        ++ran;
      }
    }
  }
  EXPECT_GT(ran, 0);
}

/// Of each parameter [H] one head's value is no number: y and the state of that head alone change.
TEST_P(ssd_layer, keeps_a_bad_parameter_in_its_head) {
  const ssd_problem problem =
      with_all_options({.batch = 2, .heads = 4, .seqlen = 100, .groups = 2});
  const solved_case solved = solve(problem);
  if (const auto reason = solved.unsupported()) GTEST_SKIP() << *reason;
  constexpr std::int64_t bad_head = 2;
  checked_case clean(solved, device(), sequence_order::bhnd);
  clean.run();
  for (const char* parameter : {"a", "dt_bias", "d"}) {
    checked_case call(solved, device(), sequence_order::bhnd);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    call.write(parameter, bad_head, {&nan, 1});
    call.run();
    for (const char* name : {"y", "final_state"}) {
      const std::vector<float> got = call.get(name), wanted = clean.get(name);
      const std::size_t a_head = got.size() / static_cast<std::size_t>(problem.batch_heads());
      std::int64_t bad = 0, changed = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (static_cast<std::int64_t>(i / a_head) % problem.heads == bad_head) {
          bad += std::isnan(got[i]) ? 1 : 0;
        } else {
          changed += got[i] != wanted[i] ? 1 : 0;
        }
      }
      EXPECT_EQ(changed, 0) << parameter << ' ' << name;
      const bool is_of_state = std::string(parameter) != "d";  // d x is no part of the state
      EXPECT_EQ(bad > 0, is_of_state || std::string(name) == "y") << parameter << ' ' << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(registry, ssd_layer, ::testing::ValuesIn(registry<ssd>()),
                         [](const auto& test) {
                           return fmt::format("{}_{}", test.param.name,
                                              to_string(test.param.device()));
                         });

std::string refusal(const ssd_problem& problem) {
  try {
    validate(problem);
  } catch (const invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(ssd_problems, are_refused_with_what_is_wrong) {
  EXPECT_THAT(refusal({.heads = 6, .groups = 3}), IsEmpty());
  EXPECT_THAT(refusal({.heads = 6, .groups = 4}),
              HasSubstr("heads is 6, must be a multiple of groups 4"));
  EXPECT_THAT(refusal({.head_dim = 96}), HasSubstr("head_dim is 96"));
  EXPECT_THAT(refusal({.state_dim = 16}), HasSubstr("state_dim is 16"));
  EXPECT_THAT(refusal({.batch = std::int64_t{1} << 40, .seqlen = std::int64_t{1} << 31}),
              Not(IsEmpty()));
}

}  // namespace
}  // namespace based
