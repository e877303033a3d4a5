// Sums over all tokens on the CPU, in fp32: their rounding must not grow with the tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/core/operation.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

/// z summed in fp32 is off by 1.2e-5. causal_dot_product adds the tokens to its state one by one,
/// as its original does, and is off by 3.2e-6; the others reach 2e-6 or less.
constexpr double tolerance = 4e-6;
constexpr std::size_t workspace_limit = std::size_t{512} << 20;

class LongSums : public ::testing::TestWithParam<std::string_view> {};

TEST_P(LongSums, AreAsGoodAsShortOnes) {
  const operation& summed = *operations().at(GetParam());
  axis_values values = {
      {"batch", std::int64_t{1}}, {"heads", std::int64_t{1}}, {"seqlen", std::int64_t{65536}}};
  for (const axis_info& axis : summed.axes()) {
    if (axis.flag == "options") values["options"] = axis.domain.parse("options", "all");
  }
  int tested = 0;
  const auto implementations = summed.implementations();
  for (std::size_t i = 0; i < implementations.size(); ++i) {
    const implementation_info& info = implementations[i];
    if (info.device != device_kind::cpu) continue;
    const auto solved = summed.make_case(i, values, "", info.types.front());
    if (solved->unsupported() || solved->workspace_bytes() > workspace_limit) continue;
    support::checked_case checked(*solved, info.device, sequence_order::bhnd);
    checked.run();
    EXPECT_THAT(checked.problems(tolerance), testing::IsEmpty()) << info.name;
    ++tested;
  }
  EXPECT_GE(tested, 2);
}

INSTANTIATE_TEST_SUITE_P(operations, LongSums, ::testing::Values("prefill", "ssd"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace based
