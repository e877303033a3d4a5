// What the tests of all operations do not see of the selective scan: groups, a step after a scan,
// sizes that do not fit together, and when tokens are cut into segments.
#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/state_space/selective_scan.h"
#include "kernels/state_space/selective_scan/plan.h"
#include "kernels/state_space/selective_scan_decode.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Calls f(name, device, tolerance, make) for each implementation of an operation that this machine
/// runs; make(values): its case, or null where it cannot run that.
template <class Function>
int for_each_implementation(const std::string& name, Function f) {
  const operation& op = *operations().at(name);
  const auto all = op.implementations();
  int ran = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].device == device_kind::cuda && support::cuda_unavailable()) continue;
    f(all[i],
      [&](const axis_values& values) { return op.make_case(i, values, "", all[i].types.front()); });
    ++ran;
  }
  return ran;
}

axis_values scan_of(std::int64_t batch, std::int64_t d_inner, std::int64_t seqlen,
                    const std::string& options) {
  return {{"batch", batch}, {"d-inner", d_inner}, {"seqlen", seqlen}, {"options", options}};
}

TEST(selective_scan_groups, share_b_and_c) {
  const int ran = for_each_implementation("selective_scan", [](const auto& info, auto make) {
    for (const std::int64_t groups : {2, 3}) {
      axis_values values = scan_of(2, 6 * 50, 200, "softplus+gate");
      values["groups"] = groups;
      const auto solved = make(values);
      for (const auto order : {sequence_order::bhnd, sequence_order::bnhd}) {
        checked_case call(*solved, info.device, order);
        call.run();
        EXPECT_THAT(call.problems(info.tolerance), IsEmpty()) << info.name << ' ' << groups;
      }
    }
  });
  EXPECT_GE(ran, 2);
}

TEST(selective_scan_step, continues_a_scan) {
  constexpr std::int64_t batch = 3, d_inner = 40, tokens = 70, d_state = 16;
  const std::string options = "softplus+bias+skip+gate";
  int compared = 0;
  for_each_implementation("selective_scan", [&](const auto& scan_info, auto make_scan) {
    const auto whole = make_scan(scan_of(batch, d_inner, tokens + 1, options + "+final_state"));
    const auto begin = make_scan(scan_of(batch, d_inner, tokens, options + "+final_state"));
    for_each_implementation("selective_scan_decode", [&](const auto& info, auto make_step) {
      if (info.device != scan_info.device) return;
      const auto step = make_step({{"batch", batch}, {"d-inner", d_inner}, {"options", options}});
      checked_case all(*whole, info.device, sequence_order::bhnd);
      checked_case first(*begin, info.device, sequence_order::bhnd);
      checked_case last(*step, info.device, sequence_order::bhnd);
      /// Tokens [from, from + count) of each row of a tensor of the whole sequence.
      const auto part = [&](std::string_view name, std::int64_t from, std::int64_t count) {
        const std::vector<float> values = all.get(name);
        std::vector<float> some;
        for (std::size_t row = 0; row < values.size(); row += tokens + 1) {
          const auto at = values.begin() + static_cast<std::ptrdiff_t>(row) + from;
          some.insert(some.end(), at, at + count);
        }
        return some;
      };
      for (const std::string_view name : {"u", "delta", "B", "C", "z"}) {
        first.write(name, 0, part(name, 0, tokens));
        last.write(name, 0, part(name, tokens, 1));
      }
      for (const std::string_view name : {"A", "D", "bias"}) {
        first.write(name, 0, all.get(name));
        last.write(name, 0, all.get(name));
      }
      first.run();
      last.write("state", 0, first.get("final_state"));
      last.run();
      // The pieces, put together, are what the whole should be.
      const std::vector<float> y = first.get("y"), last_y = last.get("y");
      std::vector<float> together;
      for (std::size_t row = 0; row < last_y.size(); ++row) {
        const auto at = y.begin() + static_cast<std::ptrdiff_t>(row) * tokens;
        together.insert(together.end(), at, at + tokens);
        together.push_back(last_y[row]);
      }
      all.write("y", 0, together);
      all.write("final_state", 0, last.get("state"));
      EXPECT_EQ(last.get("state").size(), std::size_t{batch * d_inner * d_state});
      EXPECT_THAT(all.problems(info.tolerance), IsEmpty()) << scan_info.name << ' ' << info.name;
      all.write("final_state", 0, first.get("final_state"));
      EXPECT_FALSE(all.problems(info.tolerance).empty()) << "a state that is a token late passes";
      ++compared;
    });
  });
  EXPECT_GE(compared, 4);
}

std::string refusal(const selective_scan_problem& problem) {
  try {
    validate(problem);
  } catch (const invalid_argument& error) {
    return error.what();
  }
  return "nothing";
}

TEST(selective_scan_sizes, are_refused_in_one_line) {
  selective_scan_problem problem;
  problem.d_inner = 64;
  problem.groups = 3;
  EXPECT_THAT(refusal(problem), HasSubstr("d_inner is 64, must be a multiple of groups 3"));
  problem.groups = 1;
  problem.d_state = 257;
  EXPECT_THAT(refusal(problem), HasSubstr("d_state is 257, must be 1 to 256"));
  problem.d_state = 256;
  EXPECT_EQ(refusal(problem), "nothing");
}

TEST(selective_scan_views, have_tokens_side_by_side_and_channels_apart) {
  for_each_implementation("selective_scan", [](const auto& info, auto make) {
    const auto solved = make(scan_of(2, 3, 16, "gate"));
    checked_case call(*solved, info.device, sequence_order::bhnd);
    const auto expect_refused = [&](std::string_view name, std::size_t dimension,
                                    std::int64_t stride, const std::string& why) {
      placed_tensor& placed = call.placed().find(name)->second;
      const placed_tensor good = placed;
      placed.strides[dimension] = stride;
      try {
        call.run();
        ADD_FAILURE() << name << " was not refused";
      } catch (const invalid_argument& error) {
        EXPECT_THAT(error.what(), HasSubstr(std::string(name) + why));
      }
      placed = good;
      EXPECT_TRUE(call.is_untouched());
    };
    for (const std::string_view name : {"u", "delta", "B", "C", "z", "y"}) {
      expect_refused(name, 2, 2, " has a stride of 2 between tokens");
      expect_refused(name, 1, -16, " has strides");
    }
    expect_refused("y", 1, 0, " overlaps itself");
  });
}

std::string chosen(std::int64_t batch, std::int64_t seqlen, const card& on = h200) {
  selective_scan_problem problem;
  problem.batch = batch;
  problem.d_inner = 2048;
  problem.seqlen = seqlen;
  return std::string(choose(scan::scan_rules(), problem, on).rule->name);
}

TEST(selective_scan_plan, spreads_channels_and_cuts_sequences_where_channels_are_few) {
  EXPECT_EQ(chosen(16, 8192), "one_lane");
  EXPECT_EQ(chosen(8, 8192), "two_lanes");
  EXPECT_EQ(chosen(4, 8192), "four_lanes");
  EXPECT_EQ(chosen(1, 8192), "segments");
  EXPECT_EQ(chosen(1, 64), "four_lanes");
  const card rtx_4090 = {128, 8, 9};  // its shared memory holds the tokens of 64 channels, not 128
  EXPECT_EQ(chosen(16, 8192, rtx_4090), "four_lanes");
}

}  // namespace
}  // namespace based
