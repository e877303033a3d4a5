// What reaches what: no sequence and no head sees another one's tensors, and where an operation is
// causal no token sees a later one's.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/operations/candidates.h"
#include "tests/operations/faulty_case.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// How many parts a tensor has, one after the other in its elements: sequences, of [B, ...], or
/// heads, of [B, H, ...]. 0: it has other dimensions, all parts share it.
std::int64_t parts_of(const tensor_spec& spec, const std::vector<std::int64_t>& leading) {
  if (spec.shape.size() < leading.size() ||
      !std::equal(leading.begin(), leading.end(), spec.shape.begin())) {
    return 0;
  }
  std::int64_t parts = 1;
  for (const std::int64_t size : leading) parts *= size;
  return parts;
}

/// What is wrong with who sees a part whose tensors are NaN, one of them at a time, a line each:
/// the part itself must, and no other may. `leading`: the sizes of the dimensions that number the
/// parts.
std::vector<std::string> leaks(const operation_case& solved, device_kind device,
                               const std::vector<std::int64_t>& leading) {
  std::vector<std::string> wrong;
  const std::vector<tensor_spec> specs = solved.tensors();
  checked_case clean(solved, device, sequence_order::bhnd);
  clean.run();
  for (const tensor_spec& spoilt : specs) {
    const std::int64_t parts = parts_of(spoilt, leading);
    if (spoilt.role == tensor_role::output || parts == 0) continue;
    const std::int64_t part = parts / 2;  // it has neighbours on both sides
    checked_case call(solved, device, sequence_order::bhnd);
    const std::int64_t size = spoilt.count() / parts;
    call.write(spoilt.name, part * size, std::vector<float>(static_cast<std::size_t>(size), nan));
    call.run();
    bool is_reached = false;
    for (const tensor_spec& seen : specs) {
      if (seen.role == tensor_role::input || parts_of(seen, leading) != parts) continue;
      const std::vector<float> values = call.get(seen.name), wanted = clean.get(seen.name);
      const std::int64_t each = seen.count() / parts;
      for (std::int64_t other = 0; other < parts; ++other) {
        const auto begin = values.begin() + other * each;
        if (other == part) {
          is_reached |= !std::all_of(begin, begin + each, [](float x) { return std::isfinite(x); });
        } else if (!std::equal(begin, begin + each, wanted.begin() + other * each)) {
          wrong.push_back(fmt::format("NaN in {} of part {} changes {} of part {}", spoilt.name,
                                      part, seen.name, other));
        }
      }
    }
    if (!is_reached) wrong.push_back(fmt::format("NaN in {} reaches nothing", spoilt.name));
  }
  return wrong;
}

/// Sizes of the dimensions that number sequences, and heads.
std::vector<std::vector<std::int64_t>> kinds_of_parts(const operation_case& solved) {
  std::int64_t batch = 0, heads = 0;
  for (const auto& [label, value] : solved.parameters()) {
    if (label == "B") batch = std::get<std::int64_t>(value);
    if (label == "H") heads = std::get<std::int64_t>(value);
  }
  std::vector<std::vector<std::int64_t>> kinds = {{batch}};
  if (heads > 0) kinds.push_back({batch, heads});
  return kinds;
}

class isolation : public candidate_test {};

TEST_P(isolation, keeps_sequences_and_heads_apart) {
  const candidate& tested = GetParam();
  if (!tested.is_deterministic()) GTEST_SKIP() << "adds atomically, in an order that varies";
  for_each_case(typical_points(tested), [&](const operation_case& solved) {
    for (const auto& leading : kinds_of_parts(solved)) {
      EXPECT_THAT(leaks(solved, tested.info.device, leading), IsEmpty());
    }
  });
}

BASED_FOR_CANDIDATES(isolation, candidates());

/// An operation with a length is causal, unless it has an axis that says whether it is.
axis_values causal_point(const operation& op, axis_values point, bool causal) {
  if (has_axis(op, "causal")) point["causal"] = std::int64_t{causal};
  return point;
}

/// What is wrong with who sees the tokens from `first_changed` on, a line each, found by giving
/// them other values or NaN in one tensor at a time: tokens before `first_may_differ` must not see
/// them, and some of themselves must.
std::vector<std::string> sees_later_tokens(const operation_case& solved, device_kind device,
                                           std::int64_t first_changed,
                                           std::int64_t first_may_differ, bool with_nan) {
  std::vector<std::string> wrong;
  const std::vector<tensor_spec> specs = solved.tensors();
  checked_case clean(solved, device, sequence_order::bhnd);
  clean.run();
  for (const tensor_spec& changed : specs) {
    if (changed.role != tensor_role::input || !changed.is_sequence) continue;
    const std::int64_t seqlen = changed.shape[2], dim = changed.shape[3];
    checked_case call(solved, device, sequence_order::bhnd);
    std::vector<float> values = call.get(changed.name);
    for (std::int64_t i = 0; i < changed.count(); ++i) {
      if (i / dim % seqlen < first_changed) continue;
      float& value = values[static_cast<std::size_t>(i)];
      value = with_nan ? nan : 1 - 2 * value;
    }
    call.write(changed.name, 0, values);
    call.run();
    bool is_reached = false;
    for (const tensor_spec& seen : specs) {
      if (seen.role != tensor_role::output || !seen.is_sequence) continue;
      const std::vector<float> got = call.get(seen.name), wanted = clean.get(seen.name);
      for (std::int64_t i = 0; i < seen.count(); ++i) {
        const std::int64_t token = i / seen.shape[3] % seqlen;
        const auto at = static_cast<std::size_t>(i);
        if (got[at] == wanted[at]) continue;
        is_reached |= token >= first_changed;
        if (token >= first_may_differ) continue;
        wrong.push_back(
            fmt::format("token {} of {} sees {} of later tokens", token, seen.name, changed.name));
        break;
      }
    }
    if (!is_reached) wrong.push_back(fmt::format("{} reaches no token", changed.name));
  }
  return wrong;
}

constexpr std::int64_t longest_tile = 128;  // of tokens, in any implementation

class causality : public candidate_test {
 protected:
  std::vector<axis_values> causal_points() const {
    std::vector<axis_values> points = typical_points(GetParam());
    for (axis_values& point : points) point = causal_point(*GetParam().op, point, true);
    return points;
  }
};

TEST_P(causality, holds_bit_for_bit) {
  const candidate& tested = GetParam();
  if (!tested.is_deterministic()) GTEST_SKIP() << "adds atomically, in an order that varies";
  for_each_case(causal_points(), [&](const operation_case& solved) {
    constexpr std::int64_t first_changed = 50;  // inside a tile
    EXPECT_THAT(sees_later_tokens(solved, tested.info.device, first_changed, first_changed, false),
                IsEmpty());
  });
}

/// Inside a tile a masked product with NaN is NaN; before it nothing is.
TEST_P(causality, keeps_nan_behind_its_tile) {
  const candidate& tested = GetParam();
  if (!tested.is_deterministic()) GTEST_SKIP() << "adds atomically, in an order that varies";
  std::vector<axis_values> points = causal_points();
  for (axis_values& point : points) point["seqlen"] = std::int64_t{2 * longest_tile + 44};
  for_each_case(points, [&](const operation_case& solved) {
    constexpr std::int64_t last_token = 2 * longest_tile + 43;
    EXPECT_THAT(sees_later_tokens(solved, tested.info.device, last_token, longest_tile, true),
                IsEmpty());
  });
}

BASED_FOR_CANDIDATES(causality, candidates([](const candidate& each) {
                       return has_axis(*each.op, "seqlen");
                     }));

// Proof that these can fail.

/// Those that have this axis, and tensors q, v and o.
std::vector<candidate> runs_on_the_cpu(const std::string& axis) {
  return candidates([&](const candidate& each) {
    return each.info.device == device_kind::cpu && has_axis(*each.op, axis) &&
           has_tensor(*each.op, "q");
  });
}

TEST(isolation_faults, are_found) {
  int tried = 0;
  for (const candidate& tested : runs_on_the_cpu("heads")) {
    const auto right = tested.solve(point_of(*tested.op, 2, 3, 70));
    if (cannot_run(tested, *right)) continue;
    const faulty_case leaking(*right, [](const placed_tensors& given) {
      const auto q = given.elements<float>("q");
      given.elements<float>("o")[0] += q[q.size() / 2];
    });
    for (const auto& leading : kinds_of_parts(*right)) {
      EXPECT_THAT(leaks(leaking, device_kind::cpu, leading),
                  Contains(HasSubstr("changes o of part 0")))
          << tested;
    }
    const faulty_case forgetful(*right, [](const placed_tensors& given) {
      std::ranges::fill(given.elements<float>("o"), 0.0f);
    });
    EXPECT_THAT(leaks(forgetful, device_kind::cpu, {2}), Contains(HasSubstr("q reaches nothing")))
        << tested;
    ++tried;
  }
  EXPECT_GE(tried, 8);
}

TEST(causality_faults, are_found) {
  int tried = 0, not_causal = 0;
  for (const candidate& tested : runs_on_the_cpu("seqlen")) {
    const operation& op = *tested.op;
    const axis_values point = point_of(op, 1, 2, 70);
    const auto right = tested.solve(causal_point(op, point, true));
    if (cannot_run(tested, *right)) continue;
    const faulty_case looking_ahead(*right, [](const placed_tensors& given) {
      given.elements<float>("o")[49 * 64] += given.elements<float>("v")[50 * 64];
    });
    EXPECT_THAT(sees_later_tokens(looking_ahead, device_kind::cpu, 50, 50, false),
                Contains(HasSubstr("token 49 of o sees v of later tokens")))
        << tested;
    ++tried;
    if (!has_axis(op, "causal")) continue;
    EXPECT_THAT(sees_later_tokens(*tested.solve(causal_point(op, point, false)), device_kind::cpu,
                                  50, 50, false),
                Not(IsEmpty()))
        << tested;
    ++not_causal;
  }
  EXPECT_GE(tried, 6);
  EXPECT_GE(not_causal, 1);
}

}  // namespace
}  // namespace based
