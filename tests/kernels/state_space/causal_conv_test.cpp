// Decoding with causal_conv: sequences of one token whose initial and final state are one memory.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/state_space/causal_conv.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;

using solved_case = detail::typed_case<causal_conv>;

class conv_steps : public ::testing::TestWithParam<implementation<causal_conv>> {};

TEST_P(conv_steps, continue_a_state_in_place) {
  const implementation<causal_conv>& tested = GetParam();
  if (tested.device() == device_kind::cuda) {
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
  }
  constexpr std::int64_t tokens = 9;
  for (const int taps : {3, 4}) {
    for (const std::int64_t width : {1, 2, 5}) {  // tokens of a step: fewer than the state and more
      conv_problem problem = {.batch = 3, .seqlen = tokens, .channels = 40, .taps = taps};
      problem.bias = problem.silu = problem.initial_state = problem.final_state = true;
      SCOPED_TRACE(fmt::format("{} taps, steps of {}", taps, width));
      const element_type type = tested.run.types().front();
      const solved_case all(tested, problem, type);
      checked_case whole(all, tested.device(), sequence_order::bhnd);
      whole.run();
      const std::vector<float> x = whole.get("x"), y = whole.get("y");

      std::vector<float> state = whole.get("initial_state");
      for (std::int64_t first = 0; first < tokens; first += width) {
        problem.seqlen = std::min(width, tokens - first);
        const solved_case step(tested, problem, type);
        checked_case call(step, tested.device(), sequence_order::bhnd);
        call.placed()["initial_state"] = call.placed()["final_state"];
        call.write("final_state", 0, state);
        for (const char* parameter : {"weight", "bias"}) {
          call.write(parameter, 0, whole.get(parameter));
        }
        const std::int64_t piece = problem.seqlen * problem.channels;
        const auto place = [&](std::int64_t b) { return (b * tokens + first) * problem.channels; };
        for (std::int64_t b = 0; b < problem.batch; ++b) {
          call.write("x", b * piece,
                     std::vector(x.begin() + place(b), x.begin() + place(b) + piece));
        }
        call.run();
        state = call.get("final_state");
        for (std::int64_t b = 0; b < problem.batch; ++b) {
          EXPECT_EQ(call.get("y", b * piece, piece),
                    std::vector(y.begin() + place(b), y.begin() + place(b) + piece))
              << "token " << first << " of sequence " << b;
        }
      }
      EXPECT_EQ(state, whole.get("final_state"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(registry, conv_steps, ::testing::ValuesIn(registry<causal_conv>()),
                         [](const auto& test) {
                           return fmt::format("{}_{}", test.param.name,
                                              to_string(test.param.device()));
                         });

}  // namespace
}  // namespace based
