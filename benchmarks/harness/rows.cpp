#include "benchmarks/harness/rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "benchmarks/harness/operation_row.h"
#include "benchmarks/harness/sweep.h"
#include "benchmarks/harness/usage_error.h"
#include "kernels/core/operation.h"

namespace based {
namespace {

using nlohmann::ordered_json;

/// Values on axes, variants and types that were asked for: something has to take each of them.
class asked_values {
 public:
  /// Notes that something takes this value of a flag.
  void take(const std::string& flag, const std::string& value) {
    refused_.erase({flag, value});
    taken_.insert({flag, value});
  }
  /// Notes that something does not, and what to tell the user if nothing does.
  void refuse(const std::string& flag, const std::string& value, const std::string& why) {
    if (taken_.count({flag, value}) == 0) refused_.try_emplace({flag, value}, why);
  }
  void throw_if_refused_by_all() const {
    if (!refused_.empty()) throw usage_error(refused_.begin()->second);
  }

 private:
  using asked = std::pair<std::string, std::string>;
  std::set<asked> taken_;
  std::map<asked, std::string> refused_;
};

/// What to tell the user where no operation's axis takes a value; empty: one's does.
std::string refusal_of_all(const std::string& flag, const std::string& value) {
  const std::vector<shared_axis> axes = all_axes();
  const auto found = std::ranges::find(axes, flag, [](const auto& each) { return each.info.flag; });
  try {
    static_cast<void>(found->info.domain.parse(flag, value));
  } catch (const invalid_argument& error) {
    return error.what();
  }
  return {};
}

/// The values of one axis on a device: what the command line names, or the default sweep; empty:
/// the problem's own default.
std::vector<axis_value> values_of(const axis_info& axis, device_kind device,
                                  const suite_options& options, asked_values& asked) {
  const auto given = options.axes.find(axis.flag);
  const std::string text = given != options.axes.end()
                               ? given->second
                               : std::string(device == device_kind::cpu ? axis.cpu : axis.cuda);
  if (text.empty() && given == options.axes.end()) return {};
  std::vector<axis_value> values;
  const std::string flag(axis.flag);
  if (axis.domain.of == axis_domain::kind::whole_number) {
    for (const std::int64_t number : parse_axis("--" + flag, text)) values.emplace_back(number);
    return values;
  }
  std::set<axis_value> added;
  for (const std::string& part : split(text)) {
    try {
      const axis_value value = axis.domain.parse(flag, part);
      if (added.insert(value).second) values.push_back(value);
      refuse_too_many("--" + flag, values.size());
      asked.take(flag, part);
    } catch (const invalid_argument&) {
      asked.refuse(flag, part, refusal_of_all(flag, part));
    }
  }
  return values;
}

/// Calls f(values) for each point of the product of the axes, the last running fastest.
template <class Function>
void for_each_point(const std::vector<axis_info>& axes,
                    const std::vector<std::vector<axis_value>>& values, std::size_t axis,
                    axis_values& point, Function f) {
  if (axis == axes.size()) return f(point);
  if (values[axis].empty()) return for_each_point(axes, values, axis + 1, point, f);
  for (const axis_value& value : values[axis]) {
    point[std::string(axes[axis].flag)] = value;
    for_each_point(axes, values, axis + 1, point, f);
  }
}

/// Of a sweep: what a process lists, keeps and reports without a pause.
constexpr std::size_t most_rows = 100'000;

bool is_selected(std::string_view name, const std::vector<std::string>& names) {
  return names.empty() || std::ranges::find(names, name) != names.end();
}

/// The element types asked for that an implementation has; the usual one where none is asked for.
std::vector<element_type> types_of(const implementation_info& implementation,
                                   const suite_options& options, asked_values& asked) {
  if (options.types.empty()) return {implementation.types.front()};
  std::vector<element_type> types;
  for (const std::string& name : options.types) {
    const auto found = std::ranges::find(implementation.types, name,
                                         [](element_type type) { return to_string(type); });
    if (found != implementation.types.end()) {
      types.push_back(*found);
      asked.take("type", name);
    } else {
      asked.refuse(
          "type", name,
          fmt::format("--type: '{}' is no element type of the selected implementations, which take "
                      "f32, bf16 or fp16",
                      name));
    }
  }
  return types;
}

/// The variants asked for that an implementation has. "": it chooses.
std::vector<std::string_view> variants_of(const implementation_info& implementation,
                                          const suite_options& options, asked_values& asked) {
  if (options.variants.empty()) return {""};
  std::vector<std::string_view> variants;
  for (const std::string& name : options.variants) {
    const auto found = std::ranges::find(implementation.variants, name);
    if (found == implementation.variants.end()) continue;
    variants.push_back(*found);
    asked.take("variant", name);
  }
  return variants;
}

/// Seconds that a row is reckoned to take, good enough to share rows out: set-up and verification,
/// then so many calls as sampling makes, up to the cap. The rates are round numbers of a current
/// device; what counts is that every process reckons with the same ones.
double estimated_seconds(const row_spec& spec, double time_cap_s) {
  if (spec.unsupported) return 0.01;
  constexpr double set_up_s = 0.5, calls = 100;
  const bool on_gpu = spec.device == device_kind::cuda;
  const double flops_per_s = on_gpu ? 3e14 : 1e11, bytes_per_s = on_gpu ? 3e12 : 2e10;
  const double call_s =
      std::max(spec.work.executed_flops / flops_per_s, spec.work.compulsory_bytes / bytes_per_s);
  return set_up_s + std::min(calls * call_s, time_cap_s);
}

}  // namespace

void keep_shard(std::vector<std::unique_ptr<row>>& rows, const shard& part, double time_cap_s) {
  if (part.count == 1) return;
  std::vector<std::pair<double, std::size_t>> longest_first;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    longest_first.emplace_back(-estimated_seconds(rows[i]->spec(), time_cap_s), i);
  }
  std::ranges::sort(longest_first);
  // Every row takes some time, so that the first parts get one each before any gets a second: parts
  // beyond the number of rows stay empty.
  std::vector<double> load(std::min(static_cast<std::size_t>(part.count), rows.size()), 0.0);
  for (const auto& [negative_s, i] : longest_first) {  // each to the part that has the least so far
    const auto least = std::ranges::min_element(load);
    *least -= negative_s;
    if (least - load.begin() != part.index - 1) rows[i].reset();
  }
  std::erase(rows, nullptr);
}

std::vector<std::unique_ptr<row>> make_rows(const std::vector<device_kind>& devices,
                                            const suite_options& options) {
  std::vector<std::unique_ptr<row>> rows;
  asked_values asked;
  std::set<std::string_view> known, known_variants;
  for (const auto& [name, op] : operations()) {
    for (const implementation_info& each : op->implementations()) {
      if (std::ranges::find(devices, each.device) == devices.end()) continue;
      known.insert(each.name);
      known_variants.insert(each.variants.begin(), each.variants.end());
    }
  }
  for (const std::string& name : options.implementations) {
    if (known.count(name) > 0) continue;
    throw usage_error(fmt::format(
        "--implementation: '{}' is not known on {}; there is {}", name,
        devices.size() == 1 ? to_string(devices.front()) : std::string_view("these devices"),
        fmt::join(known, ", ")));
  }
  for (const std::string& variant : options.variants) {
    asked.refuse(
        "variant", variant,
        fmt::format("--variant: '{}' is no variant of this device's implementations, {}", variant,
                    known_variants.empty()
                        ? "none of which has variants"
                        : fmt::format("which have: {}", fmt::join(known_variants, ", "))));
  }

  for (const device_kind device : devices) {
    for (const auto& entry : operations()) {  // clang captures no structured binding
      const std::string_view name = entry.first;
      const operation* op = entry.second.get();
      const std::vector<axis_info> axes = op->axes();
      std::vector<std::vector<axis_value>> values;
      bool none_left = false;
      for (const axis_info& axis : axes) {
        values.push_back(values_of(axis, device, options, asked));
        none_left |= values.back().empty() && options.axes.count(axis.flag) > 0;
      }
      const std::vector<implementation_info> implementations = op->implementations();
      for (std::size_t i = 0; i < implementations.size(); ++i) {
        const implementation_info& each = implementations[i];
        if (each.device != device || !is_selected(each.name, options.implementations)) continue;
        const auto types = types_of(each, options, asked);
        for (const std::string_view variant : variants_of(each, options, asked)) {
          for (const element_type type : types) {
            if (none_left) continue;
            axis_values point;
            for_each_point(axes, values, 0, point, [&](const axis_values& at) {
              if (rows.size() == most_rows) {
                throw usage_error(fmt::format(
                    "the sweep has more than {} rows; at {}/{}: name fewer values on its axes, or "
                    "sweep them in several runs",
                    most_rows, name, each.name));
              }
              rows.push_back(
                  std::make_unique<operation_row>(name, each, op->make_case(i, at, variant, type)));
            });
          }
        }
      }
    }
  }
  asked.throw_if_refused_by_all();
  return rows;
}

std::vector<std::string> unused_axes(const std::vector<std::unique_ptr<row>>& rows,
                                     const suite_options& options) {
  std::set<std::string, std::less<>> used;
  for (const auto& made : rows) {
    for (const axis_info& axis : operations().at(made->spec().operation)->axes()) {
      used.emplace(axis.flag);
    }
  }
  std::vector<std::string> unused;
  for (const auto& [flag, text] : options.axes) {
    if (used.count(flag) == 0) unused.push_back(flag);
  }
  return unused;
}

std::vector<shared_axis> all_axes() {
  std::vector<shared_axis> axes;
  for (const auto& [name, op] : operations()) {
    for (const axis_info& axis : op->axes()) {
      auto found = std::ranges::find(axes, axis.flag,
                                     [](const shared_axis& each) { return each.info.flag; });
      if (found == axes.end()) {
        axes.push_back({axis, {}});
        found = axes.end() - 1;
      }
      for (const std::string& value : axis.domain.names) {
        std::vector<std::string>& values = found->info.domain.names;
        if (std::ranges::find(values, value) == values.end()) values.push_back(value);
      }
      found->operations.emplace_back(name);
    }
  }
  return axes;
}

std::string description() {
  ordered_json all = ordered_json::array();
  for (const auto& [name, op] : operations()) {
    ordered_json axes = ordered_json::array(), implementations = ordered_json::array();
    for (const axis_info& axis : op->axes()) {
      ordered_json described = {{"flag", axis.flag}, {"label", axis.label}, {"help", axis.help}};
      if (!axis.domain.names.empty()) described["values"] = axis.domain.names;
      ordered_json& sweep = described["default"] = ordered_json::object();
      if (!axis.cpu.empty()) sweep["cpu"] = axis.cpu;
      if (!axis.cuda.empty()) sweep["cuda"] = axis.cuda;
      // What a device without a sweep of its own has.
      if (axis.own) std::visit([&](const auto& value) { described["value"] = value; }, *axis.own);
      axes.push_back(described);
    }
    for (const implementation_info& each : op->implementations()) {
      ordered_json types = ordered_json::array();
      for (const element_type type : each.types) types.push_back(to_string(type));
      implementations.push_back(
          {{"name", each.name},
           {"device", to_string(each.device)},
           {"role", to_string(each.role)},
           {"reimplements", each.reimplements},
           {"summary", each.summary},
           {"types", types},
           {"variants", std::vector<std::string_view>(each.variants.begin(), each.variants.end())},
           {"tolerance", each.tolerance},
           {"deterministic", each.deterministic}});
    }
    all.push_back({{"name", name}, {"axes", axes}, {"implementations", implementations}});
  }
  return ordered_json{{"operations", all}}.dump(2);
}

}  // namespace based
