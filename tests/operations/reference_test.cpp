// Every registered implementation of every operation against the float64 reference, on poisoned
// tensors between guard bytes. A new operation or implementation is tested by being registered.
#include <gmock/gmock.h>

#include "tests/operations/candidates.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::IsEmpty;

class reference : public candidate_test {
 protected:
  /// In both orders of the dimensions, where the implementation takes both.
  void expect_right(const std::vector<axis_values>& points) {
    const implementation_info& info = GetParam().info;
    for_each_case(points, [&](const operation_case& solved) {
      for (const sequence_order order : both_orders) {
        if (info.packed_only && order != sequence_order::bhnd) continue;
        checked_case call(solved, info.device, order);
        call.run();
        EXPECT_THAT(call.problems(info.tolerance), IsEmpty());
      }
    });
  }
};

TEST_P(reference, is_matched) {
  expect_right(tested_points(*GetParam().op));
}

/// What a sanitizer runs.
TEST_P(reference, is_matched_at_small_shapes) {
  expect_right(small_points(*GetParam().op));
}

TEST_P(reference, is_matched_on_large_and_tiny_values) {
  const implementation_info& info = GetParam().info;
  for_each_case(typical_points(GetParam()), [&](const operation_case& solved) {
    for (const float factor : {8.0f, 1.0f / 256}) {
      checked_case call(solved, info.device, sequence_order::bhnd, factor);
      call.run();
      EXPECT_THAT(call.problems(info.tolerance), IsEmpty()) << "factor " << factor;
    }
  });
}

BASED_FOR_CANDIDATES(reference, candidates());

}  // namespace
}  // namespace based
