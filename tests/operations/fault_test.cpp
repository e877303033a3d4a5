// Proof that the comparison with the reference can fail: calls that are right but for one fault
// each, on the CPU.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <set>
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

/// Those of the CPU, whose tensors a fault can reach: q, v and o, which is [2, 3, 200, 64].
std::vector<candidate> whole_sequences() {
  return candidates([](const candidate& each) {
    return each.info.device == device_kind::cpu && each.type == element_type::f32 &&
           has_axis(*each.op, "seqlen") && has_tensor(*each.op, "q");
  });
}

struct named_fault {
  std::string_view name;
  void (*fault)(const placed_tensors&);
  std::string_view message;
};
std::ostream& operator<<(std::ostream& out, const named_fault& tested) {
  return out << tested.name;
}

class fault : public ::testing::TestWithParam<named_fault> {};

TEST_P(fault, is_found) {
  int tried = 0;
  for (const candidate& tested : whole_sequences()) {
    const auto right = tested.solve(point_of(*tested.op, 2, 3, 200));
    if (cannot_run(tested, *right)) continue;
    const faulty_case faulty(*right, GetParam().fault);
    checked_case call(faulty, device_kind::cpu, sequence_order::bhnd);
    call.run();
    EXPECT_THAT(call.problems(tested.info.tolerance),
                Contains(HasSubstr(std::string(GetParam().message))))
        << tested;
    ++tried;
  }
  EXPECT_GE(tried, 6);
}

constexpr std::int64_t dim = 64;  // of every output's rows
float* row(const placed_tensors& given, std::int64_t n) {
  return given.elements<float>("o").data() + n * dim;
}

INSTANTIATE_TEST_SUITE_P(
    all, fault,
    ::testing::Values(
        named_fault{"wrong_row",
                    [](const placed_tensors& given) {
                      for (int i = 0; i < dim; ++i) row(given, 0)[i] *= 1.01f;
                    },
                    "one row has"},
        named_fault{"wrong_tensor",
                    [](const placed_tensors& given) {
                      for (float& each : given.elements<float>("o")) each *= 1.01f;
                    },
                    "the relative error"},
        named_fault{
            "zero_tile",
            [](const placed_tensors& given) { std::fill_n(row(given, 264), 16 * dim, 0.0f); },
            "the relative error"},
        named_fault{"tile_of_another_head",
                    [](const placed_tensors& given) {
                      std::copy_n(row(given, 64), 16 * dim, row(given, 264));
                    },
                    "the relative error"},
        named_fault{"tile_one_token_late",
                    [](const placed_tensors& given) {
                      std::copy_backward(row(given, 64), row(given, 80), row(given, 81));
                    },
                    "the relative error"},
        named_fault{"look_ahead",
                    [](const placed_tensors& given) {
                      const float* v = given.elements<float>("v").data();
                      for (int c = 0; c < dim; ++c) row(given, 198)[c] += v[199 * dim + c];
                    },
                    "one row has"},
        named_fault{"not_a_number", [](const placed_tensors& given) { row(given, 0)[7] = NAN; },
                    "o: element 7 is not finite"},
        named_fault{
            "past_the_end",
            [](const placed_tensors& given) { *(&given.elements<float>("o").back() + 1) = 1; },
            "o:"},
        named_fault{"changed_input",
                    [](const placed_tensors& given) { given.elements<float>("q")[3] += 1; },
                    "q, an input, has changed"}),
    [](const auto& test) { return std::string(test.param.name); });

/// Whether a call for `other` can be made on the tensors of `right`: it has no others.
bool fits(const operation_case& other, const operation_case& right) {
  const std::vector<tensor_spec> given = right.tensors();
  return std::ranges::all_of(other.tensors(), [&](const tensor_spec& wanted) {
    return std::ranges::any_of(given, [&](const tensor_spec& each) {
      return each.name == wanted.name && each.type == wanted.type && each.shape == wanted.shape;
    });
  });
}

/// A call that does as if a value on an axis had not been asked for.
TEST(ignored_axis, is_found) {
  std::set<std::string> axes;  // ignored and found out
  for (const candidate& tested :
       candidates([](const candidate& each) { return each.info.device == device_kind::cpu; })) {
    const axis_values usual = point_of(*tested.op, 2, 3, 200);
    const auto other = tested.solve(usual);
    for (const axis_values& point : tested_points(*tested.op)) {
      const auto right = tested.solve(point);
      if (right->parameters() == other->parameters() || !fits(*other, *right) ||
          cannot_run(tested, *right) || cannot_run(tested, *other)) {
        continue;
      }
      const faulty_case faulty(*right, *other);
      checked_case call(faulty, device_kind::cpu, sequence_order::bhnd);
      call.run();
      // Some values ask for nothing else: a window of more keys than there are, say.
      if (call.problems(tested.info.tolerance).empty()) continue;
      for (const auto& [flag, value] : point) {
        if (!usual.contains(flag) || usual.at(flag) != value) axes.insert(flag);
      }
    }
  }
  EXPECT_THAT(axes, ::testing::IsSupersetOf({"scale", "options", "causal", "window"}));
}

}  // namespace
}  // namespace based
