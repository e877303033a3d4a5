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

/// Calls f(first element in the whole, first element in the piece, elements) for each head of a
/// tensor of tokens, of which the piece holds those from `first_token`.
template <class Function>
void for_each_head(const tensor_spec& whole, const tensor_spec& piece, std::int64_t first_token,
                   Function f) {
  const std::int64_t dim = whole.shape[3];
  const std::int64_t size = whole.shape[2] * dim, piece_size = piece.shape[2] * dim;
  for (std::int64_t head = 0; head < whole.shape[0] * whole.shape[1]; ++head) {
    f(head * size + first_token * dim, head * piece_size, piece_size);
  }
}

const tensor_spec& find(const std::vector<tensor_spec>& specs, std::string_view name) {
  return *std::ranges::find(specs, name, &tensor_spec::name);
}

/// What is wrong with the result of two pieces, as an answer to the whole problem; `whole` has a
/// final state and no initial one.
std::vector<std::string> problems_of_two_pieces(const operation_case& whole,
                                                const operation_case& first,
                                                const operation_case& second,
                                                const implementation_info& info) {
  checked_case one(whole, info.device, sequence_order::bhnd);
  checked_case pieces[] = {{first, info.device, sequence_order::bnhd},
                           {second, info.device, sequence_order::bnhd}};
  const operation_case* const solved[] = {&first, &second};
  const std::vector<tensor_spec> specs = whole.tensors();
  std::int64_t first_token = 0;
  for (int i = 0; i < 2; ++i) {
    for (const tensor_spec& piece : solved[i]->tensors()) {
      if (piece.role != tensor_role::input) continue;
      if (piece.name.starts_with(initial)) {
        const std::string left =
            std::string(final) + std::string(piece.name.substr(initial.size()));
        pieces[i].write(piece.name, 0, pieces[0].get(left, 0, piece.count()));
      } else if (piece.is_sequence) {
        for_each_head(find(specs, piece.name), piece, first_token,
                      [&](std::int64_t from, std::int64_t to, std::int64_t count) {
                        pieces[i].write(piece.name, to, one.get(piece.name, from, count));
                      });
      } else {
        pieces[i].write(piece.name, 0, one.get(piece.name, 0, piece.count()));
      }
    }
    pieces[i].run();
    for (const tensor_spec& piece : solved[i]->tensors()) {
      if (piece.role == tensor_role::input) continue;
      if (piece.is_sequence) {
        for_each_head(find(specs, piece.name), piece, first_token,
                      [&](std::int64_t to, std::int64_t from, std::int64_t count) {
                        one.write(piece.name, to, pieces[i].get(piece.name, from, count));
                      });
      } else {
        one.write(piece.name, 0, pieces[i].get(piece.name, 0, piece.count()));
      }
    }
    first_token += find(first.tensors(), "o").shape[2];
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
