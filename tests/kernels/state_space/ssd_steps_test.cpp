// Prefill, then decode: ssd over the first tokens and ssd_decode for each of the others, from the
// state that the one before it left, are ssd over all.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/state_space/ssd.h"
#include "kernels/state_space/ssd_decode.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::int64_t prefilled = 70, decoded = 9;

/// Copies `count` tokens of a tensor [heads, N, width] from one call to another.
struct token_copy {
  std::string name;
  std::int64_t heads, width;

  void operator()(const checked_case& from, std::int64_t from_seqlen, std::int64_t first,
                  checked_case& to, std::int64_t to_seqlen, std::int64_t at,
                  std::int64_t count) const {
    for (std::int64_t head = 0; head < heads; ++head) {
      to.write(name, (head * to_seqlen + at) * width,
               from.get(name, (head * from_seqlen + first) * width, count * width));
    }
  }
};

/// What is wrong with the results of prefill and decode as an answer to `whole`, of which
/// `continued` says whether decode starts from prefill's state.
std::vector<std::string> problems_of_steps(const implementation<ssd>& prefill,
                                           const implementation<ssd_decode>& decode,
                                           const ssd_problem& problem, bool continued) {
  const device_kind device = prefill.device();
  const detail::typed_case<ssd> all(prefill, problem, prefill.run.types().front());
  checked_case whole(all, device, sequence_order::bhnd);
  const std::int64_t heads = problem.batch_heads(), groups = problem.batch * problem.groups;
  const std::vector<token_copy> inputs = {{"x", heads, problem.head_dim},
                                          {"dt", heads, 1},
                                          {"b", groups, problem.state_dim},
                                          {"c", groups, problem.state_dim},
                                          {"z", heads, problem.head_dim}};
  const token_copy output = {"y", heads, problem.head_dim};
  const auto give_parameters = [&](checked_case& call) {
    for (const char* name : {"a", "dt_bias", "d"}) call.write(name, 0, whole.get(name));
  };

  ssd_problem beginning = problem;
  beginning.seqlen = prefilled;
  const detail::typed_case<ssd> begin(prefill, beginning, prefill.run.types().front());
  checked_case first(begin, device, sequence_order::bhnd);
  give_parameters(first);
  first.write("initial_state", 0, whole.get("initial_state"));
  for (const token_copy& copy : inputs) {
    copy(whole, problem.seqlen, 0, first, prefilled, 0, prefilled);
  }
  first.run();
  output(first, prefilled, 0, whole, problem.seqlen, 0, prefilled);

  const ssd_decode_problem step = {.batch = problem.batch,
                                   .heads = problem.heads,
                                   .head_dim = problem.head_dim,
                                   .state_dim = problem.state_dim,
                                   .groups = problem.groups,
                                   .softplus = true,
                                   .bias = true,
                                   .skip = true,
                                   .gate = true};
  const detail::typed_case<ssd_decode> one(decode, step, decode.run.types().front());
  checked_case token(one, device, sequence_order::bhnd);
  give_parameters(token);
  if (continued) token.write("state", 0, first.get("final_state"));
  for (std::int64_t n = prefilled; n < problem.seqlen; ++n) {
    for (const token_copy& copy : inputs) copy(whole, problem.seqlen, n, token, 1, 0, 1);
    token.run();
    output(token, 1, 0, whole, problem.seqlen, n, 1);
  }
  whole.write("final_state", 0, token.get("state"));
  return whole.problems(prefill.tolerance);
}

TEST(ssd_steps, continue_a_prefill) {
  ssd_problem problem = {.batch = 2, .heads = 4, .seqlen = prefilled + decoded, .groups = 2};
  problem.softplus = problem.bias = problem.skip = problem.gate = true;
  problem.initial_state = problem.final_state = true;
  int ran = 0;
  for (const auto& prefill : registry<ssd>()) {
    for (const auto& decode : registry<ssd_decode>()) {
      if (prefill.device() != decode.device()) continue;
      if (prefill.device() == device_kind::cuda && support::cuda_unavailable()) continue;
      if (prefill.unsupported(problem) || decode.unsupported({})) continue;
      SCOPED_TRACE(
          fmt::format("{} and {} on {}", prefill.name, decode.name, to_string(prefill.device())));
      EXPECT_THAT(problems_of_steps(prefill, decode, problem, true), IsEmpty());
      EXPECT_THAT(problems_of_steps(prefill, decode, problem, false), Not(IsEmpty()));
      ++ran;
    }
  }
  EXPECT_GE(ran, 2);
}

// How a step is cut depends on how many states there are.
TEST(ssd_steps, of_any_size_match_the_reference) {
  for (const auto& decode : registry<ssd_decode>()) {
    if (decode.device() == device_kind::cuda && support::cuda_unavailable()) continue;
    for (const int state_dim : {64, 128, 256}) {
      for (const std::int64_t heads : {1, 600}) {
        SCOPED_TRACE(fmt::format("{} on {}, {} heads of {}", decode.name,
                                 to_string(decode.device()), heads, state_dim));
        const ssd_decode_problem problem = {.heads = heads, .state_dim = state_dim};
        const detail::typed_case<ssd_decode> one(decode, problem, decode.run.types().front());
        checked_case step(one, decode.device(), sequence_order::bhnd);
        step.run();
        EXPECT_THAT(step.problems(decode.tolerance), IsEmpty());
      }
    }
  }
}

}  // namespace
}  // namespace based
