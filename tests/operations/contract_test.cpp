// What a caller of any implementation may count on beside the right result: it repeats itself,
// describes itself, and refuses what it cannot run before it has run anything.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "kernels/core/error.h"
#include "tests/operations/candidates.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsSubsetOf;
using ::testing::IsSupersetOf;
using ::testing::Not;

class contract : public candidate_test {};

TEST_P(contract, repeats_itself_bit_for_bit) {
  const candidate& tested = GetParam();
  if (!tested.info.deterministic) GTEST_SKIP() << "adds atomically, in an order that varies";
  for_each_case(typical_points(tested), [&](const operation_case& solved) {
    checked_case call(solved, tested.info.device, sequence_order::bhnd);
    call.run();
    const auto first = call.written();
    for (int i = 0; i < 3; ++i) {
      call.reset();
      call.run();
      EXPECT_EQ(call.written(), first);
    }
  });
}

/// Ours are, whatever they run on; a baseline may add atomically where its original does.
TEST(determinism, is_promised_by_all_of_ours) {
  int promised = 0;
  for (const candidate& tested : candidates()) {
    if (tested.info.role != implementation_role::ours) continue;
    EXPECT_TRUE(tested.info.deterministic) << tested;
    ++promised;
  }
  EXPECT_GE(promised, 3);
}

/// A call on spoilt arguments is refused with a message that names `name`, and nothing has run.
void expect_refused(checked_case& call, void* workspace, std::size_t workspace_bytes,
                    std::string_view name) {
  try {
    call.run(workspace, workspace_bytes);
    ADD_FAILURE() << "a bad " << name << " was not refused";
  } catch (const invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr(std::string(name)));
  }
  EXPECT_TRUE(call.is_untouched()) << name;
}

TEST_P(contract, refuses_bad_arguments_before_it_runs) {
  const candidate& tested = GetParam();
  for_each_case(typical_points(tested), [&](const operation_case& solved) {
    checked_case call(solved, tested.info.device, sequence_order::bhnd);
    void* const workspace = call.workspace();
    const std::size_t bytes = call.workspace_bytes();
    for (const tensor_spec& spec : solved.tensors()) {
      placed_tensor& placed = call.placed().find(spec.name)->second;
      const placed_tensor good = placed;
      placed.data = nullptr;
      expect_refused(call, workspace, bytes, spec.name);
      placed.data = static_cast<std::byte*>(good.data) + bytes_of(spec.type);
      expect_refused(call, workspace, bytes, spec.name);
      placed = good;
      if (!spec.is_sequence || spec.shape.back() == 1) continue;  // single elements lie anywhere
      placed.strides[1] += 1;
      expect_refused(call, workspace, bytes, spec.name);
      placed = good;
      if (spec.role != tensor_role::output || spec.shape[1] == 1) continue;
      placed.strides[1] = 0;  // all heads in one place
      expect_refused(call, workspace, bytes, spec.name);
      placed = good;
    }
    if (bytes > 0) {
      expect_refused(call, workspace, bytes - 1, "workspace");
      expect_refused(call, nullptr, bytes, "workspace");
    }
  });
}

/// What a call of a problem says before it has looked at any tensor: there is none.
std::string refusal(const operation_case& solved) {
  try {
    solved.bind({}, nullptr, 0)(nullptr);
  } catch (const invalid_argument& error) {
    return error.what();
  }
  return "nothing";
}

/// These need no device: what is refused is refused before anything is launched.
class refusals : public ::testing::TestWithParam<candidate> {};

TEST_P(refusals, give_the_reason) {
  for (const axis_values& point : tested_points(*GetParam().op)) {
    const auto solved = GetParam().solve(point);
    SCOPED_TRACE(text_of(*solved));
    if (const auto reason = solved->unsupported()) {
      EXPECT_THAT(refusal(*solved), HasSubstr(*reason));
    } else {
      EXPECT_THAT(refusal(*solved), HasSubstr("is null"));
    }
  }
}

TEST_P(refusals, are_of_sizes_that_no_problem_has) {
  const std::vector<axis_values> typical = typical_points(GetParam());
  const auto start = std::ranges::find_if(
      typical, [](const axis_values& point) { return !GetParam().solve(point)->unsupported(); });
  if (start == typical.end()) GTEST_SKIP() << "takes none of the typical problems";
  for (const axis_info& axis : GetParam().op->axes()) {
    if (axis.domain.of != axis_domain::kind::whole_number) continue;
    if (axis.domain.least < 1) continue;  // a number that is no size
    std::string name(axis.flag);
    std::ranges::replace(name, '-', '_');
    for (const std::int64_t size : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 62}) {
      if (axis.usual == axis_value(size)) continue;  // it stands for a default
      axis_values point = *start;
      point[std::string(axis.flag)] = size;
      EXPECT_THAT(
          refusal(*GetParam().solve(point)),
          AllOf(AnyOf(HasSubstr(name), HasSubstr("bytes a tensor")), Not(HasSubstr("is null"))))
          << axis.flag << ' ' << size;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(registry, refusals, ::testing::ValuesIn(candidates()),
                         [](const auto& test) { return test.param.name(); });

/// A loop over the refusals of a registry in which nothing is refused would pass. These are known
/// to be: those who have no state to start from or to write, and those whose state is fp32.
TEST(refusals_of_the_registry, are_those_that_are_known) {
  std::set<std::string> refused;
  for (const candidate& tested :
       candidates([](const candidate& each) { return each.info.device == device_kind::cpu; })) {
    for (const axis_values& point : tested_points(*tested.op)) {
      if (const auto reason = tested.solve(point)->unsupported()) {
        refused.insert(fmt::format("{}: {}", tested.name(), *reason));
      }
    }
  }
  EXPECT_THAT(refused, IsSupersetOf({
                           "prefill_chunked_parallel_cpu_f32: has no recurrent state to start from",
                           "prefill_chunked_parallel_cpu_f32: has no recurrent state to write",
                           "decode_based_cpu_f32: keeps its state in fp32",
                           "decode_naive_cpu_f32: keeps its state in fp32",
                       }));
}

TEST(refusals_of_the_registry, are_of_variants_that_nobody_has) {
  int tried = 0;
  for (candidate tested : candidates()) {
    tested.variant = "nonsense";
    const auto solved = tested.solve(point_of(*tested.op, 1, 1, 65));
    if (text_of(*solved).find("variant:nonsense") == std::string::npos) continue;  // has none
    EXPECT_THAT(refusal(*solved), HasSubstr("has no variant 'nonsense'")) << tested;
    ++tried;
  }
  EXPECT_GE(tried, 5);
}

TEST_P(contract, describes_itself) {
  const candidate& tested = GetParam();
  EXPECT_FALSE(tested.info.name.empty());
  EXPECT_FALSE(tested.info.summary.empty());
  EXPECT_GT(tested.info.tolerance, 0);
  for_each_case(typical_points(tested), [&](const operation_case& solved) {
    // Never less than one multiply-add an element of the output: work that is not counted would
    // flatter no one.
    for (const tensor_spec& spec : solved.tensors()) {
      if (spec.role != tensor_role::output) continue;
      EXPECT_GE(solved.executed_flops(), 2.0 * static_cast<double>(spec.count())) << spec.name;
    }
    EXPECT_GT(solved.work().nominal_flops, 0);
    EXPECT_GE(solved.work().nominal_flops * 1.0001, solved.work().least_flops);
  });
  axis_values point = typical_points(tested).front();
  if (tested.solve(point)->unsupported()) return;  // such a variant takes larger problems
  const double once = tested.solve(point)->executed_flops();
  point["batch"] = 2 * std::get<std::int64_t>(point["batch"]);
  EXPECT_GT(tested.solve(point)->executed_flops(), once);
}

BASED_FOR_CANDIDATES(contract, candidates());

// What is tested at all.

std::string value_at(const axis_values& point, std::string_view flag) {
  const auto found = point.find(flag);
  return found == point.end() ? "" : to_string(found->second);
}

class tested_operation : public ::testing::TestWithParam<const operation*> {};

TEST_P(tested_operation, has_implementations_on_each_device_of_this_build) {
  const operation& op = *GetParam();
  std::set<device_kind> devices;
  for (const implementation_info& info : op.implementations()) devices.insert(info.device);
  std::set<device_kind> wanted = {device_kind::cpu};
#ifdef BASED_HAS_CUDA
  wanted.insert(device_kind::cuda);
#endif
  EXPECT_EQ(devices, wanted);
}

TEST_P(tested_operation, is_tested_at_ragged_lengths_with_no_options_and_all) {
  const operation& op = *GetParam();
  if (!has_axis(op, "seqlen")) return;  // one token
  std::set<std::string> lengths[2];
  const std::string all =
      options_of(op).empty() ? "" : fmt::format("{}", fmt::join(options_of(op), "+"));
  for (const axis_values& point : tested_points(op)) {
    const std::string options = value_at(point, "options");
    for (const bool with : {false, true}) {
      if (options == (with ? all : "")) lengths[with].insert(value_at(point, "seqlen"));
    }
  }
  for (const auto& seen : lengths) {
    EXPECT_THAT(seen, IsSupersetOf({"1", "63", "65", "1000", "4097"}));
  }
}

TEST_P(tested_operation, is_tested_with_each_option_alone_and_with_all) {
  const operation& op = *GetParam();
  std::set<std::string> seen;
  for (const axis_values& point : tested_points(op)) seen.insert(value_at(point, "options"));
  std::set<std::string> wanted = {""};
  for (const std::string& option : options_of(op)) wanted.insert(option);
  wanted.insert(fmt::format("{}", fmt::join(options_of(op), "+")));
  EXPECT_THAT(seen, IsSupersetOf(wanted));
}

/// No point is skipped by all, but those of bf16 states, which no CPU implementation keeps.
TEST_P(tested_operation, has_somebody_who_runs_each_point_here) {
  std::set<device_kind> devices = {device_kind::cpu};
  if (!support::cuda_unavailable()) devices.insert(device_kind::cuda);
  for (const device_kind device : devices) {
    const std::vector<candidate> here = candidates(
        [&](const candidate& each) { return each.op == GetParam() && each.info.device == device; });
    std::set<std::string> reasons;
    for (const auto& points : {tested_points(*GetParam()), small_points(*GetParam())}) {
      for (const axis_values& point : points) {
        unsupported_reason reason = "is run by nobody";
        for (const candidate& each : here) {
          if (reason) reason = cannot_run(each, *each.solve(point));
        }
        if (reason) reasons.insert(*reason);
      }
    }
    const std::set<std::string> known = {"keeps its state in fp32"};
    EXPECT_THAT(reasons, IsSubsetOf(device == device_kind::cpu ? known : std::set<std::string>()));
  }
}

std::vector<const operation*> all_operations() {
  std::vector<const operation*> all;
  for (const auto& [name, op] : operations()) all.push_back(op.get());
  return all;
}
INSTANTIATE_TEST_SUITE_P(registry, tested_operation, ::testing::ValuesIn(all_operations()),
                         [](const auto& test) { return std::string(test.param->name()); });

TEST(operation_registry, holds_operations_by_name_with_lengths_and_options) {
  EXPECT_THAT(operations(), ::testing::SizeIs(::testing::Ge(4u)));
  int with_length = 0, with_options = 0;
  for (const auto& [name, op] : operations()) {
    EXPECT_EQ(name, op->name());
    with_length += has_axis(*op, "seqlen") ? 1 : 0;
    with_options += options_of(*op).empty() ? 0 : 1;
  }
  EXPECT_GE(with_length, 2);
  EXPECT_GE(with_options, 2);
}

}  // namespace
}  // namespace based
