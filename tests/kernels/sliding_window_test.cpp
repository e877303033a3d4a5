// What of the sliding window no axis varies: how far its ring is filled, and where the next slot
// is.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "kernels/sliding_window/sliding_window.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::IsEmpty;

using solved_case = detail::typed_case<window_decode>;

class sliding_window : public ::testing::TestWithParam<implementation<window_decode>> {
 protected:
  void SetUp() override {
    if (device() == device_kind::cpu) return;
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
  }
  device_kind device() const { return GetParam().device(); }
  solved_case solve(const window_problem& problem) const {
    return {GetParam(), problem, GetParam().run.types().front()};
  }
};

/// The slots of each head that hold no token yet are NaN; what comes out is as if they were not.
void expect_empty_slots_unread(const window_problem& problem, const checked_case& clean,
                               checked_case& call) {
  const auto is_empty = [&](std::int64_t element) {
    return element / problem.head_dim % problem.window >= problem.filled();
  };
  for (const char* cache : {"k_cache", "v_cache"}) {
    std::vector<float> ring = call.get(cache);
    for (std::size_t i = 0; i < ring.size(); ++i) {
      if (is_empty(static_cast<std::int64_t>(i))) ring[i] = std::numeric_limits<float>::quiet_NaN();
    }
    call.write(cache, 0, ring);
  }
  call.run();
  EXPECT_EQ(call.get("o"), clean.get("o"));
  for (const char* cache : {"k_cache", "v_cache"}) {
    const std::vector<float> left = call.get(cache), wanted = clean.get(cache);
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < left.size(); ++i) {
      const bool empty = is_empty(static_cast<std::int64_t>(i));
      wrong += empty ? !std::isnan(left[i]) : left[i] != wanted[i];
    }
    EXPECT_EQ(wrong, 0) << cache;
  }
}

TEST_P(sliding_window, reads_the_slots_that_are_filled) {
  for (const int window : {1, 5, 64, 200}) {
    for (const int dim : {64, 128}) {
      // An empty, a partly filled, a just filled, a wrapped and an old ring.
      for (const std::int64_t position : std::set<std::int64_t>{
               0, window / 2, window - 1, window, 3 * window + 2, std::int64_t{1} << 40}) {
        for (const bool append : {false, true}) {
          const window_problem problem = {1, 3, window, dim, position, append};
          const solved_case solved = solve(problem);
          if (solved.unsupported()) {  // the kernels take the windows of the models
            EXPECT_GT(window, 128);
            continue;
          }
          SCOPED_TRACE(
              fmt::format("W {}, Dh {}, position {}, append {}", window, dim, position, append));
          checked_case clean(solved, device(), sequence_order::bnhd);
          clean.run();
          EXPECT_THAT(clean.problems(GetParam().tolerance), IsEmpty());
          checked_case call(solved, device(), sequence_order::bnhd);
          expect_empty_slots_unread(problem, clean, call);
        }
      }
    }
  }
}

/// A ring that grows token by token and wraps is right after each of them.
TEST_P(sliding_window, appends_token_after_token) {
  constexpr std::int64_t tokens = 150, window = 64;
  window_problem problem = {.batch = 1, .heads = 2, .window = window};
  std::vector<float> rings[2];
  for (problem.position = 0; problem.position < tokens; ++problem.position) {
    const solved_case solved = solve(problem);
    const std::int64_t ring = problem.batch_heads() * window * problem.head_dim;
    const auto factor = static_cast<float>(1 + problem.position % 3);  // no token is the last one's
    checked_case call(solved, device(), sequence_order::bhnd, factor);
    for (int i = 0; i < 2 && !rings[i].empty(); ++i) {
      call.write(i == 0 ? "k_cache" : "v_cache", 0, rings[i]);
    }
    call.run();
    ASSERT_THAT(call.problems(GetParam().tolerance), IsEmpty()) << problem.position;
    rings[0] = call.get("k_cache", 0, ring);
    rings[1] = call.get("v_cache", 0, ring);
  }
}

TEST_P(sliding_window, refuses_positions_before_the_first) {
  const solved_case solved = solve({.position = -1});
  EXPECT_THROW(solved.bind({}, nullptr, 0)(nullptr), invalid_argument);
  window_problem first = {.position = 0};
  EXPECT_NO_THROW(validate(first));
  first.position = -1;
  EXPECT_THROW(validate(first), invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(registry, sliding_window, ::testing::ValuesIn(registry<window_decode>()),
                         [](const auto& test) {
                           return fmt::format("{}_{}", test.param.name,
                                              to_string(test.param.device()));
                         });

}  // namespace
}  // namespace based
