// Every registered implementation of every operation, on every device, in each variant and element
// type that it has: at the values of the operation's axes that it names for tests, in both orders
// of the dimensions, against the float64 reference, on poisoned tensors between guard bytes. A new
// operation or implementation is tested by being registered.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <ostream>
#include <string>
#include <vector>

#include "benchmarks/harness/sweep.h"
#include "kernels/core/error.h"
#include "kernels/core/operation.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using support::checked_case;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// The largest workspace that a test on the host allocates.
constexpr std::size_t host_workspace_limit = std::size_t{512} << 20;

/// An implementation in one of its variants ("": it chooses) and for one of its element types.
struct candidate {
  const operation* op;
  std::size_t index;
  implementation_info info;
  std::string_view variant;
  element_type type;

  std::unique_ptr<operation_case> solve(const axis_values& values) const {
    return op->make_case(index, values, variant, type);
  }
  std::string name() const {
    std::string text = fmt::format("{}_{}_{}_{}{}{}", op->name(), info.name, to_string(info.device),
                                   to_string(type), variant.empty() ? "" : "_", variant);
    std::ranges::replace_if(
        text, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    return text;
  }
};
std::ostream& operator<<(std::ostream& out, const candidate& tested) {
  return out << tested.name();
}

std::vector<candidate> candidates() {
  std::vector<candidate> all;
  for (const auto& [name, op] : operations()) {
    const std::vector<implementation_info> implementations = op->implementations();
    for (std::size_t i = 0; i < implementations.size(); ++i) {
      const implementation_info& info = implementations[i];
      std::vector<std::string_view> variants = {""};
      variants.insert(variants.end(), info.variants.begin(), info.variants.end());
      for (const std::string_view variant : variants) {
        for (const element_type type : info.types) {
          all.push_back({op.get(), i, info, variant, type});
        }
      }
    }
  }
  return all;
}

/// The values that tests try on an axis: those that it names, each choice, each option alone and
/// all together.
std::vector<axis_value> tested_values(const axis_info& axis) {
  const auto parsed = [&](const std::string& text) { return axis.domain.parse(axis.flag, text); };
  std::vector<axis_value> values;
  if (axis.domain.of == axis_domain::kind::whole_number) {
    if (axis.tested.empty()) return {};
    for (const std::int64_t number : parse_axis(axis.flag, axis.tested))
      values.emplace_back(number);
    return values;
  }
  if (!axis.tested.empty()) {
    for (const std::string& part : split(axis.tested)) values.push_back(parsed(part));
    return values;
  }
  for (const std::string& name : axis.domain.names) values.push_back(parsed(name));
  if (axis.domain.of == axis_domain::kind::options) values.push_back(parsed("all"));
  return values;
}

/// Points that vary one axis at a time around two small problems, one head and many, and those with
/// all options at every length.
std::vector<axis_values> points(const operation& op) {
  std::vector<axis_values> all;
  const std::vector<axis_info> axes = op.axes();
  for (const auto& [batch, heads] : {std::pair{1, 1}, std::pair{2, 3}}) {
    axis_values start = {{"batch", std::int64_t{batch}}, {"heads", std::int64_t{heads}}};
    for (const axis_info& axis : axes) {
      if (axis.flag == "seqlen") start["seqlen"] = std::int64_t{200};
    }
    all.push_back(start);
    for (const axis_info& axis : axes) {
      for (const axis_value& value : tested_values(axis)) {
        axis_values point = start;
        point[std::string(axis.flag)] = value;
        all.push_back(point);
        const bool varies_options = axis.domain.of == axis_domain::kind::options;
        const auto options = std::ranges::find(
            axes, axis_domain::kind::options, [](const axis_info& each) { return each.domain.of; });
        if (varies_options || options == axes.end()) continue;
        point[std::string(options->flag)] = options->domain.parse(options->flag, "all");
        all.push_back(point);
      }
    }
  }
  return all;
}

/// Why this machine or the implementation cannot run a problem; empty: it can.
unsupported_reason cannot_run(const candidate& tested, const operation_case& solved) {
  if (tested.info.device == device_kind::cuda) {
    if (auto reason = support::cuda_unavailable()) return reason;
  }
  if (auto reason = solved.unsupported()) return reason;
  if (tested.info.device == device_kind::cpu && solved.workspace_bytes() > host_workspace_limit) {
    return "needs more workspace than a test allocates";
  }
  return std::nullopt;
}

std::string text_of(const operation_case& solved) {
  std::string text;
  for (const auto& [label, value] : solved.parameters()) {
    text += fmt::format("{}{}:{}", text.empty() ? "" : "/", label, to_string(value));
  }
  return text;
}

class operations_of_registry : public ::testing::TestWithParam<candidate> {
 protected:
  void SetUp() override {
    if (GetParam().info.device == device_kind::cuda) {
      if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
    }
  }
  /// Calls f(case) at each point that can be run, or skips where none can.
  template <class Function>
  void for_each_case(const std::vector<axis_values>& at, Function f) {
    std::string reason = "no point";
    int ran = 0;
    for (const axis_values& point : at) {
      const auto solved = GetParam().solve(point);
      if (const auto why = cannot_run(GetParam(), *solved)) {
        reason = *why;
        continue;
      }
      SCOPED_TRACE(text_of(*solved));
      f(*solved);
      ++ran;
    }
    if (ran == 0) GTEST_SKIP() << reason;
  }
  axis_values small() const { return points(*GetParam().op)[points(*GetParam().op).size() / 2]; }
};

TEST_P(operations_of_registry, match_the_reference) {
  const candidate& tested = GetParam();
  for_each_case(points(*tested.op), [&](const operation_case& solved) {
    for (const sequence_order order : {sequence_order::bhnd, sequence_order::bnhd}) {
      checked_case call(solved, tested.info.device, order);
      call.run();
      EXPECT_THAT(call.problems(tested.info.tolerance), IsEmpty());
    }
  });
}

TEST_P(operations_of_registry, stand_large_and_tiny_values) {
  const candidate& tested = GetParam();
  for_each_case({small()}, [&](const operation_case& solved) {
    for (const float factor : {8.0f, 1.0f / 256}) {
      checked_case call(solved, tested.info.device, sequence_order::bhnd, factor);
      call.run();
      EXPECT_THAT(call.problems(tested.info.tolerance), IsEmpty()) << "factor " << factor;
    }
  });
}

TEST_P(operations_of_registry, repeat_themselves_bit_for_bit) {
  const candidate& tested = GetParam();
  if (tested.info.name == "causal_dot_product" && tested.info.device == device_kind::cuda) {
    GTEST_SKIP() << "adds atomically, in an order that varies";
  }
  for_each_case({small()}, [&](const operation_case& solved) {
    checked_case first(solved, tested.info.device, sequence_order::bhnd);
    checked_case second(solved, tested.info.device, sequence_order::bhnd);
    first.run();
    second.run();
    EXPECT_EQ(first.written(), second.written());
  });
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

TEST_P(operations_of_registry, refuse_bad_arguments_before_they_run) {
  const candidate& tested = GetParam();
  for_each_case({small()}, [&](const operation_case& solved) {
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
      if (!spec.is_sequence) continue;
      placed.strides[1] += 1;
      expect_refused(call, workspace, bytes, spec.name);
      placed = good;
      if (spec.role != tensor_role::output) continue;
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

TEST_P(operations_of_registry, describe_themselves) {
  const candidate& tested = GetParam();
  EXPECT_FALSE(tested.info.name.empty());
  EXPECT_FALSE(tested.info.summary.empty());
  EXPECT_GT(tested.info.tolerance, 0);
  for_each_case({small()}, [&](const operation_case& solved) {
    // Never less than one multiply-add an element of the output: work that is not counted would
    // flatter no one.
    for (const tensor_spec& spec : solved.tensors()) {
      if (spec.role != tensor_role::output) continue;
      EXPECT_GE(solved.executed_flops(), 2.0 * static_cast<double>(spec.count())) << spec.name;
    }
    EXPECT_GT(solved.work().nominal_flops, 0);
    EXPECT_GE(solved.work().nominal_flops * 1.0001, solved.work().least_flops);
  });
}

INSTANTIATE_TEST_SUITE_P(registry, operations_of_registry, ::testing::ValuesIn(candidates()),
                         [](const auto& test) { return test.param.name(); });

/// A case that does something wrong after the right call, on the CPU.
class faulty_case final : public operation_case {
 public:
  using fault = void (*)(const placed_tensors&);
  faulty_case(const operation_case& right, fault wrong) : right_(right), wrong_(wrong) {}

  operation_parameters parameters() const override { return right_.parameters(); }
  unsupported_reason unsupported() const override { return right_.unsupported(); }
  std::vector<tensor_spec> tensors() const override { return right_.tensors(); }
  operation_work work() const override { return right_.work(); }
  double executed_flops() const override { return right_.executed_flops(); }
  std::size_t workspace_bytes() const override { return right_.workspace_bytes(); }
  std::string variant() const override { return right_.variant(); }
  void arrange(tensor_access& tensors) const override { right_.arrange(tensors); }
  verification compare(const tensor_access& tensors, const sampling& sampled) const override {
    return right_.compare(tensors, sampled);
  }
  std::function<void(cuda_stream)> bind(const placed_tensors& tensors, void* workspace,
                                        std::size_t workspace_bytes) const override {
    return [call = right_.bind(tensors, workspace, workspace_bytes), wrong = wrong_,
            tensors](cuda_stream stream) {
      call(stream);
      wrong(tensors);
    };
  }

 private:
  const operation_case& right_;
  fault wrong_;
};

struct named_fault {
  std::string_view name;
  faulty_case::fault fault;
  std::string_view message;
};
std::ostream& operator<<(std::ostream& out, const named_fault& tested) {
  return out << tested.name;
}

class operation_fault : public ::testing::TestWithParam<named_fault> {};

TEST_P(operation_fault, is_found) {
  const axis_values point = {
      {"batch", std::int64_t{2}}, {"heads", std::int64_t{3}}, {"seqlen", std::int64_t{200}}};
  int tried = 0;
  for (const candidate& tested : candidates()) {
    if (tested.info.device != device_kind::cpu || tested.op->name() == "decode") continue;
    const auto right = tested.solve(point);
    if (cannot_run(tested, *right)) continue;
    const faulty_case faulty(*right, GetParam().fault);
    checked_case call(faulty, device_kind::cpu, sequence_order::bhnd);
    call.run();
    EXPECT_THAT(call.problems(tested.info.tolerance),
                ::testing::Contains(HasSubstr(std::string(GetParam().message))))
        << tested;
    ++tried;
  }
  EXPECT_GT(tried, 2);
}

INSTANTIATE_TEST_SUITE_P(
    all, operation_fault,
    ::testing::Values(
        named_fault{"wrong_row",
                    [](const placed_tensors& given) {
                      float* o = given.elements<float>("o").data();
                      for (int i = 0; i < 64; ++i) o[i] *= 1.01f;
                    },
                    "one row has"},
        named_fault{"wrong_tensor",
                    [](const placed_tensors& given) {
                      for (float& each : given.elements<float>("o")) each *= 1.01f;
                    },
                    "the relative error"},
        named_fault{"not_a_number",
                    [](const placed_tensors& given) { given.elements<float>("o")[7] = NAN; },
                    "o: element 7 is not finite"},
        named_fault{
            "past_the_end",
            [](const placed_tensors& given) { *(&given.elements<float>("o").back() + 1) = 1; },
            "o:"},
        named_fault{"changed_input",
                    [](const placed_tensors& given) { given.elements<float>("q")[3] += 1; },
                    "q, an input, has changed"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(operation_registry, holds_operations_of_different_names_with_implementations) {
  EXPECT_FALSE(operations().empty());
  for (const auto& [name, op] : operations()) {
    EXPECT_EQ(name, op->name());
    EXPECT_FALSE(op->implementations().empty()) << name;
  }
}

}  // namespace
}  // namespace based
