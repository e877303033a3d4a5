// Operations that can start from a recurrent state and end in one: a sequence in two pieces, the
// second from the first one's final state, is the sequence in one.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "tests/operations/candidates.h"
#include "tests/operations/faulty_case.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::string_view initial = "initial_state", final = "final_state";

/// Whether an operation's tensors initial_state.* continue what final_state.* of another call left.
bool has_states(const operation& op) {
  const std::vector<std::string> options = options_of(op);
  return std::ranges::find(options, initial) != options.end() &&
         std::ranges::find(options, final) != options.end() && has_axis(op, "seqlen");
}

/// Calls f(place in the whole, place in the piece, elements) for each head of a tensor of tokens,
/// of which the piece holds those from `first_token` on.
template <class Function>
void for_each_head(const tensor_spec& piece, std::size_t whole_size, std::int64_t first_token,
                   Function f) {
  const std::int64_t heads = piece.shape[0] * piece.shape[1];
  const std::int64_t size = static_cast<std::int64_t>(whole_size) / heads;
  const std::int64_t piece_size = piece.count() / heads;
  for (std::int64_t head = 0; head < heads; ++head) {
    f(head * size + first_token * piece.shape[3], head * piece_size, piece_size);
  }
}

/// What is wrong with the result of two pieces, as an answer to the whole problem, which has a
/// final state and no initial one.
std::vector<std::string> problems_of_two_pieces(const operation_case& whole,
                                                const operation_case& first,
                                                const operation_case& second,
                                                const implementation_info& info) {
  checked_case one(whole, info.device, sequence_order::bhnd);
  checked_case pieces[] = {{first, info.device, sequence_order::bnhd},
                           {second, info.device, sequence_order::bnhd}};
  const operation_case* const solved[] = {&first, &second};
  std::int64_t first_token = 0;
  for (int i = 0; i < 2; ++i) {
    std::int64_t tokens = 0;
    for (const tensor_spec& spec : solved[i]->tensors()) {
      if (spec.role != tensor_role::input) continue;
      std::vector<float> values = pieces[i].get(spec.name);
      if (spec.name.starts_with(initial)) {
        values = pieces[0].get(std::string(final) + std::string(spec.name.substr(initial.size())));
      } else if (spec.is_sequence) {
        tokens = spec.shape[2];
        const std::vector<float> all = one.get(spec.name);
        for_each_head(spec, all.size(), first_token, [&](auto from, auto to, auto count) {
          std::copy_n(all.begin() + from, count, values.begin() + to);
        });
      } else {
        values = one.get(spec.name);
      }
      pieces[i].write(spec.name, 0, values);
    }
    pieces[i].run();
    for (const tensor_spec& spec : solved[i]->tensors()) {
      if (spec.role == tensor_role::input) continue;
      std::vector<float> values = pieces[i].get(spec.name);
      if (spec.is_sequence) {
        std::vector<float> all = one.get(spec.name);
        for_each_head(spec, all.size(), first_token, [&](auto to, auto from, auto count) {
          std::copy_n(values.begin() + from, count, all.begin() + to);
        });
        values = std::move(all);
      }
      one.write(spec.name, 0, values);
    }
    first_token += tokens;
  }
  return one.problems(info.tolerance);
}

class states : public candidate_test {};

TEST_P(states, carry_a_sequence_over) {
  const candidate& tested = GetParam();
  int ran = 0;
  std::string why;
  // The first piece ends inside a tile; many heads, for what runs no few.
  for (const auto& [batch, heads, first, second] :
       {std::array{2, 3, 100, 200}, std::array{20, 16, 70, 80}}) {
    for (const bool with_others : {false, true}) {
      std::string options(final);
      for (const std::string& other : options_of(*tested.op)) {
        if (with_others && other != initial && other != final) options += "+" + other;
      }
      const auto solve = [&](std::int64_t seqlen, const std::string& asked) {
        return tested.solve(
            with_options(*tested.op, point_of(*tested.op, batch, heads, seqlen), asked));
      };
      const auto whole = solve(first + second, options), begin = solve(first, options);
      const auto end = solve(second, options + "+" + std::string(initial));
      unsupported_reason reason;
      for (const auto* each : {&whole, &begin, &end}) {
        if (!reason) reason = cannot_run(tested, **each);
      }
      if (reason) {
        why = *reason;
        continue;
      }
      SCOPED_TRACE(text_of(*whole));
      EXPECT_THAT(problems_of_two_pieces(*whole, *begin, *end, tested.info), IsEmpty());
      const auto forgetful = solve(second, options);
      const faulty_case forgets(*end, *forgetful);
      EXPECT_THAT(problems_of_two_pieces(*whole, *begin, forgets, tested.info), Not(IsEmpty()));
      ++ran;
    }
    if (ran > 0) return;
  }
  GTEST_SKIP() << why;
}

BASED_FOR_CANDIDATES(states,
                     candidates([](const candidate& each) { return has_states(*each.op); }));

TEST(states_of_the_registry, are_carried_over_by_some_on_the_cpu) {
  int able = 0;
  for (const candidate& tested : candidates()) {
    if (tested.info.device != device_kind::cpu || !has_states(*tested.op)) continue;
    able +=
        cannot_run(tested,
                   *tested.solve(with_options(*tested.op, point_of(*tested.op, 2, 3, 200), "all")))
            ? 0
            : 1;
  }
  EXPECT_GE(able, 3);
}

}  // namespace
}  // namespace based
