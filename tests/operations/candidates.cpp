#include "tests/operations/candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "benchmarks/harness/sweep.h"
#include "tests/support/device_bytes.h"

namespace based {
namespace {

/// The largest workspace that a test on the host allocates.
constexpr std::size_t host_workspace_limit = std::size_t{512} << 20;

constexpr std::int64_t few_batch = 2, few_heads = 3, usual_seqlen = 200;
constexpr std::int64_t many_batch = 20, many_heads = 16;  // more than twice the multiprocessors
constexpr std::int64_t many_seqlen = 65;                  // short, and more than a tile

std::vector<axis_info> axes_of(const operation& op, axis_domain::kind kind) {
  std::vector<axis_info> axes = op.axes();
  std::erase_if(axes, [&](const axis_info& axis) { return axis.domain.of != kind; });
  return axes;
}

/// The values that tests try on an axis: those that it names, each choice, each option alone and
/// all together.
std::vector<axis_value> tested_values(const axis_info& axis) {
  const auto parsed = [&](const std::string& text) { return axis.domain.parse(axis.flag, text); };
  std::vector<axis_value> values;
  if (!axis.tested.empty()) {
    if (axis.domain.of == axis_domain::kind::whole_number) {
      for (const std::int64_t number : parse_axis(axis.flag, axis.tested)) {
        values.emplace_back(number);
      }
    } else {
      for (const std::string& part : split(axis.tested)) values.push_back(parsed(part));
    }
    return values;
  }
  for (const std::string& name : axis.domain.names) values.push_back(parsed(name));
  if (axis.domain.of == axis_domain::kind::options) values.push_back(parsed("all"));
  return values;
}

/// Adds a point, and the same one with all options where there are any.
void add_with_options(std::vector<axis_values>& points, const operation& op,
                      const axis_values& point) {
  points.push_back(point);
  const axis_values all = with_options(op, point, "all");
  if (all != point) points.push_back(all);
}

}  // namespace

std::string candidate::name() const {
  std::string text = fmt::format("{}_{}_{}_{}{}{}", op->name(), info.name, to_string(info.device),
                                 to_string(type), variant.empty() ? "" : "_", variant);
  std::ranges::replace_if(
      text, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return text;
}

std::ostream& operator<<(std::ostream& out, const candidate& tested) {
  return out << tested.name();
}

std::vector<candidate> candidates(const std::function<bool(const candidate&)>& wanted) {
  std::vector<candidate> all;
  for (const auto& [name, op] : operations()) {
    for (const implementation_choice& each : choices_of(*op)) {
      if (wanted({each})) all.push_back({each});
    }
  }
  return all;
}

bool has_axis(const operation& op, std::string_view flag) {
  return std::ranges::any_of(op.axes(), [&](const axis_info& axis) { return axis.flag == flag; });
}

bool has_tensor(const operation& op, std::string_view name) {
  return std::ranges::any_of(op.tensors({}, element_type::f32),
                             [&](const tensor_spec& spec) { return spec.name == name; });
}

std::vector<std::string> options_of(const operation& op) {
  std::vector<std::string> names;
  for (const axis_info& axis : axes_of(op, axis_domain::kind::options)) {
    names.insert(names.end(), axis.domain.names.begin(), axis.domain.names.end());
  }
  return names;
}

axis_values with_options(const operation& op, axis_values point, std::string_view options) {
  for (const axis_info& axis : axes_of(op, axis_domain::kind::options)) {
    point[std::string(axis.flag)] = axis.domain.parse(axis.flag, options);
  }
  return point;
}

axis_values point_of(const operation& op, std::int64_t batch, std::int64_t heads,
                     std::int64_t seqlen) {
  axis_values point;
  for (const axis_info& axis : axes_of(op, axis_domain::kind::whole_number)) {
    if (!axis.cpu.empty()) {
      point[std::string(axis.flag)] = parse_axis(axis.flag, axis.cpu).front();
    }
  }
  for (const auto& [flag, value] :
       {std::pair{"batch", batch}, {"heads", heads}, {"seqlen", seqlen}}) {
    if (has_axis(op, flag)) point[flag] = value;
  }
  return point;
}

std::vector<axis_values> tested_points(const operation& op) {
  std::vector<axis_values> points;
  for (const axis_values& start :
       {point_of(op, 1, 1, usual_seqlen), point_of(op, few_batch, few_heads, usual_seqlen)}) {
    add_with_options(points, op, start);
    for (const axis_info& axis : op.axes()) {
      for (const axis_value& value : tested_values(axis)) {
        axis_values point = start;
        point[std::string(axis.flag)] = value;
        if (axis.domain.of == axis_domain::kind::options) {
          points.push_back(point);
        } else {
          add_with_options(points, op, point);
        }
      }
    }
  }
  return points;
}

std::vector<axis_values> small_points(const operation& op) {
  std::vector<axis_values> points;
  for (const axis_values& point :
       {point_of(op, 1, 2, 1), point_of(op, few_batch, few_heads, 65),
        point_of(op, 1, 1, usual_seqlen), point_of(op, many_batch, many_heads, many_seqlen)}) {
    add_with_options(points, op, point);
  }
  return points;
}

std::vector<axis_values> typical_points(const candidate& tested) {
  std::vector<axis_values> points;
  for (const axis_values& point : {point_of(*tested.op, few_batch, few_heads, usual_seqlen),
                                   point_of(*tested.op, many_batch, many_heads, many_seqlen)}) {
    add_with_options(points, *tested.op, point);
    if (std::ranges::any_of(points, [&](const axis_values& each) {
          return !cannot_run(tested, *tested.solve(each));
        })) {
      break;
    }
  }
  return points;
}

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

void candidate_test::SetUp() {
  if (GetParam().info.device == device_kind::cuda) {
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
  }
}

void candidate_test::for_each_case(const std::vector<axis_values>& points,
                                   const std::function<void(const operation_case&)>& f) {
  std::string reason = "there is no point to run it at";
  int ran = 0;
  for (const axis_values& point : points) {
    const auto solved = GetParam().solve(point);
    if (const auto why = cannot_run(GetParam(), *solved)) {
      reason = *why;
      continue;
    }
    SCOPED_TRACE(text_of(*solved));
    f(*solved);
    ++ran;
  }
  if (ran > 0) return;
  if (GetParam().info.device == device_kind::cpu) FAIL() << "ran at no point: " << reason;
  GTEST_SKIP() << reason;
}

}  // namespace based
