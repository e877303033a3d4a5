// based_check: runs the registered implementations of an operation on a case file
// (benchmarks/case_file.h) and compares with the output that the file holds.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "benchmarks/based_case.h"
#include "benchmarks/case_file.h"
#include "benchmarks/harness/backend.h"
#include "benchmarks/harness/empty_values.h"
#include "benchmarks/harness/implementation_choice.h"
#include "benchmarks/harness/rows.h"
#include "kernels/core/error.h"

namespace based {
namespace {

constexpr int exit_failed = 1;
constexpr int exit_usage = 2;

/// Half a unit in the last place of bf16: the rounding of an expected output that is bf16 itself.
constexpr double bf16_rounding = 1.0 / 512;

/// A row, the last dimension of a tensor, may be off by this many times the tolerance of the whole,
/// no more: a wrong row must not hide among right ones.
constexpr double row_allowance = 8;

struct deviation {
  double max_error = 0;
  double relative_error = 0;   ///< norm(actual - expected) / max(norm(expected), least_norm)
  double worst_row_error = 0;  ///< the same of one row, least_norm being shared by all
  std::size_t worst = 0;  ///< the element of the largest error, or the first that is not finite

  bool within(double tolerance) const {  // false where an error is NaN
    return relative_error <= tolerance && worst_row_error <= row_allowance * tolerance;
  }
};

/// Compares rows of `width` elements; an expected NaN says that the element is not known.
deviation compare(const std::vector<double>& actual, const std::vector<float>& expected,
                  std::size_t width, double least_norm) {
  const auto relative = [](double error_square, double expected_square, double least) {
    return error_square == 0
               ? 0
               : std::sqrt(error_square) / std::max(std::sqrt(expected_square), least);
  };
  const std::size_t rows = expected.size() / width;
  const double least_row_norm = least_norm / std::sqrt(static_cast<double>(rows));
  deviation result;
  double error_square = 0, expected_square = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    double row_error_square = 0, row_expected_square = 0;
    for (std::size_t i = row * width; i < (row + 1) * width; ++i) {
      if (std::isnan(expected[i])) continue;
      const double error = std::abs(actual[i] - double{expected[i]});
      if (!std::isfinite(error)) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        return {.max_error = nan, .relative_error = nan, .worst_row_error = nan, .worst = i};
      }
      if (error > result.max_error) {
        result.max_error = error;
        result.worst = i;
      }
      row_error_square += error * error;
      row_expected_square += double{expected[i]} * double{expected[i]};
    }
    error_square += row_error_square;
    expected_square += row_expected_square;
    result.worst_row_error = std::max(
        result.worst_row_error, relative(row_error_square, row_expected_square, least_row_norm));
  }
  result.relative_error = relative(error_square, expected_square, least_norm);
  return result;
}

bool is_bf16(const std::vector<float>& values) {
  return std::ranges::all_of(values, [](float value) { return to_float(to_bf16(value)) == value; });
}

/// Where an element of a packed tensor stands, e.g. "0,2,64,5" for [b, h, n, d].
std::string place_of(std::size_t element, const tensor_spec& spec, sequence_order order) {
  const auto strides = packed_strides(spec, order);
  std::string text;
  for (std::size_t d = 0; d < spec.shape.size(); ++d) {
    const auto index = static_cast<std::int64_t>(element) / strides[d] % spec.shape[d];
    text += fmt::format("{}{}", d == 0 ? "" : ",", index);
  }
  return text;
}

/// As in the lines that are printed.
std::string name_of(const implementation_choice& tested) {
  const implementation_info& info = tested.info;
  std::string text = fmt::format("{}/{}", info.name, to_string(info.device));
  if (!tested.variant.empty()) text += fmt::format("/variant:{}", tested.variant);
  if (tested.type != info.types.front()) text += fmt::format("/type:{}", to_string(tested.type));
  return text;
}

/// Why an implementation cannot make the runs of a part; empty: it can.
unsupported_reason cannot_make(const implementation_choice& tested, const case_part& part,
                               const case_file& given) {
  if (tested.info.packed_only && given.order != sequence_order::bhnd) {
    return "takes [B, H, N, D] without gaps alone";
  }
  for (const case_run& each : part.runs) {
    const auto solved = tested.solve(each.values);
    if (auto reason = solved->unsupported()) return reason;
    for (const tensor_spec& spec : solved->tensors()) {
      const tensor_numbers& numbers = is_read(spec.role) ? given.given : part.expected;
      const auto found = numbers.find(spec.name);
      if (found != numbers.end() && found->second.size() != static_cast<std::size_t>(spec.count()))
        return fmt::format("its {} has a shape of its own", spec.name);
    }
  }
  return std::nullopt;
}

/// One call on the device, with outputs and workspace poisoned beforehand; adds what it wrote to
/// `sums`, times `weight`.
void add_run(const operation_case& solved, backend& device, const case_file& given, double weight,
             std::map<std::string, std::vector<double>, std::less<>>& sums) {
  const std::vector<tensor_spec> specs = solved.tensors();
  const memory workspace = device.allocate(solved.workspace_bytes());
  if (workspace.bytes() > 0) device.poison(workspace.data(), workspace.bytes());
  std::vector<memory> tensors;
  placed_tensors placed;
  for (const tensor_spec& spec : specs) {
    const memory& tensor = tensors.emplace_back(device.allocate(spec.bytes()));
    placed.place(spec.name, {tensor.data(), tensor.bytes(), packed_strides(spec, given.order)});
    if (!is_read(spec.role)) {
      device.poison(tensor.data(), tensor.bytes());
      continue;
    }
    with_type_of(spec.type, [&]<class T>(std::type_identity<T>) {
      const std::vector<float>& numbers = given.given.at(std::string(spec.name));
      std::vector<T> converted(numbers.size());
      std::ranges::transform(numbers, converted.begin(), from_float<T>);
      device.upload(tensor.data(), converted.data(), tensor.bytes());
    });
  }
  solved.bind(placed, workspace.data(), workspace.bytes())(device.stream());
  device.synchronize();
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (!is_written(specs[i].role)) continue;
    with_type_of(specs[i].type, [&]<class T>(std::type_identity<T>) {
      std::vector<T> values(static_cast<std::size_t>(specs[i].count()));
      device.download(values.data(), tensors[i].data(), tensors[i].bytes());
      std::vector<double>& sum = sums[std::string(specs[i].name)];
      sum.resize(values.size());
      for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += weight * double{to_float(values[e])};
    });
  }
}

struct judgement {
  bool good = true;
  std::string text = {};
};

/// Runs one part of a case and compares each of its outputs.
judgement judge(const implementation_choice& tested, backend& device, const case_file& given,
                const case_part& part) {
  std::map<std::string, std::vector<double>, std::less<>> sums;
  for (const case_run& each : part.runs) {
    add_run(*tested.solve(each.values), device, given, each.weight, sums);
  }
  judgement made;
  for (const tensor_spec& spec : tested.solve(part.runs.front().values)->tensors()) {
    const auto found = part.expected.find(spec.name);
    if (!is_written(spec.role) || found == part.expected.end()) continue;
    const auto& [name, expected] = *found;
    const std::vector<double>& actual = sums.at(name);
    const double tolerance = tested.info.tolerance + (is_bf16(expected) ? bf16_rounding : 0);
    const deviation error =
        compare(actual, expected, static_cast<std::size_t>(spec.shape.back()), part.least_norm);
    made.text += fmt::format("; {} max_err {:.3g} rel_err {:.3g} (at most {:.3g})", name,
                             error.max_error, error.relative_error, tolerance);
    if (error.within(tolerance)) continue;
    made.good = false;
    made.text += fmt::format(", worst row {:.3g}, {}[{}] is {:.9g}, want {}", error.worst_row_error,
                             name, place_of(error.worst, spec, given.order), actual[error.worst],
                             expected[error.worst]);
  }
  return made;
}

enum class outcome { pass, fail, skip };

/// Runs one implementation and prints its line. The first part of a case decides whether it is
/// skipped; another part that it cannot run is named as not checked.
outcome check(const implementation_choice& tested, backend& device, const case_file& given) {
  bool good = true;
  std::string text;
  for (const case_part& part : given.parts) {
    if (const unsupported_reason reason = cannot_make(tested, part, given)) {
      if (&part == &given.parts.front()) {
        fmt::print("{:<32} SKIP  {}\n", name_of(tested), *reason);
        return outcome::skip;
      }
      text += fmt::format("; {} not checked: {}", part.expected.begin()->first, *reason);
      continue;
    }
    const judgement made = judge(tested, device, given, part);
    good &= made.good;
    text += made.text;
  }
  fmt::print("{:<32} {}  {}\n", name_of(tested), good ? "PASS" : "FAIL", text.substr(2));
  return good ? outcome::pass : outcome::fail;
}

struct check_options {
  std::string path;
  std::string implementation = {};  ///< empty: all
  std::string device = "all";
  case_header headerless = {};
};

/// What is to be checked: ordered by device, then name. Throws invalid_argument where there is
/// nothing.
std::vector<implementation_choice> selected(const check_options& options,
                                            std::string_view operation) {
  const auto& op = operation_named(operation);
  std::vector<implementation_choice> chosen;
  std::set<std::string_view> known;
  for (const implementation_choice& each : choices_of(op)) {
    if (options.device != "all" && options.device != to_string(each.info.device)) continue;
    known.insert(each.info.name);
    if (options.implementation.empty() || options.implementation == each.info.name) {
      chosen.push_back(each);
    }
  }
  std::ranges::stable_sort(chosen, {}, [](const implementation_choice& each) {
    return std::pair(each.info.device, each.info.name);
  });
  if (!chosen.empty()) return chosen;
  throw invalid_argument(
      known.empty() ? fmt::format("this binary holds no implementation of {} for device {}",
                                  operation, options.device)
                    : fmt::format("unknown implementation '{}' of {}, want one of {}",
                                  options.implementation, operation, fmt::join(known, ", ")));
}

/// The device's backend; throws invalid_argument where it cannot be had and was asked for.
std::variant<std::unique_ptr<backend>, std::string> make_backend(device_kind kind, bool asked_for) {
  if (kind == device_kind::cpu) return make_cpu_backend();
  auto made = make_cuda_backend();
  if (const auto* lost = std::get_if<std::string>(&made); lost != nullptr && asked_for) {
    throw invalid_argument(fmt::format("--device=cuda: {}", *lost));
  }
  return made;
}

int check_all(const check_options& options) {
  const case_file given = read_case(options.path, options.headerless);
  int passed = 0, failed = 0;
  std::map<device_kind, std::variant<std::unique_ptr<backend>, std::string>> backends;
  for (const implementation_choice& tested : selected(options, given.operation)) {
    const device_kind kind = tested.info.device;
    if (backends.count(kind) == 0) {
      backends.emplace(kind, make_backend(kind, options.device == to_string(kind)));
    }
    auto& device = backends.at(kind);
    if (const auto* lost = std::get_if<std::string>(&device)) {
      fmt::print("{:<32} SKIP  {}\n", name_of(tested), *lost);
      continue;
    }
    backend& running = *std::get<std::unique_ptr<backend>>(device);
    try {
      const outcome result = check(tested, running, given);
      passed += result == outcome::pass;
      failed += result == outcome::fail;
    } catch (const std::exception& error) {
      fmt::print("{:<32} FAIL  {}\n", name_of(tested), error.what());
      ++failed;
      if (auto lost = running.lost()) device = std::move(*lost);
    }
  }
  fmt::print("{} passed, {} failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : exit_failed;
}

/// What the command line says of files without a header. Throws invalid_argument for an axis that
/// the operation lacks.
case_header headerless_of(const std::string& operation, const std::string& layout,
                          const std::string& terms,
                          const std::map<std::string, std::string, std::less<>>& axis_texts) {
  case_header headerless = {.order = parse_order(layout), .terms = terms};
  if (operation != based_case_operation) headerless.operation = operation;
  const std::vector<axis_info> axes = operation_named(operation).axes();
  for (const auto& [flag, text] : axis_texts) {
    if (text.empty()) continue;
    const auto axis = std::ranges::find(axes, flag, &axis_info::flag);
    if (axis == axes.end()) {
      throw invalid_argument(fmt::format("--{}: {} has no such axis", flag, operation));
    }
    headerless.values[flag] = axis->domain.parse(flag, text);
  }
  if (!terms.empty()) {
    parse_terms(terms);
    if (!headerless.operation.empty()) {
      throw invalid_argument(fmt::format("--terms: {} has none", operation));
    }
  }
  return headerless;
}

int main_checked(int argc, char** argv) {
  CLI::App app{
      "Runs the implementations of an operation, each in all of its variants, on a case file of\n"
      "scripts/generate_vectors or of ThunderKittens' generators, and compares with the outputs\n"
      "that the file holds.\n"
      "Exit status: 0 all passed, 1 one failed, none ran or the report cannot be written,\n"
      "2 bad usage or a bad file."};
  check_options options;
  std::string operation(based_case_operation), layout = "bhnd", terms;
  std::map<std::string, std::string, std::less<>> axis_texts;
  app.add_option("FILE", options.path, "The case file")->required();
  app.add_option("--implementation", options.implementation, "Its name; default: all");
  app.add_option("--device", options.device, "cpu, cuda or all (default)")
      ->check(CLI::IsMember({"cpu", "cuda", "all"}));
  const auto headerless = app.add_option_group("Files without a header", "What they do not say");
  headerless->add_option("--operation", operation, "Default: " + operation);
  headerless->add_option("--layout", layout,
                         "Order of a sequence's dimensions, bhnd (default) or bnhd");
  for (const shared_axis& axis : all_axes()) {
    const std::string flag(axis.info.flag);
    headerless->add_option(
        "--" + flag, axis_texts[flag],
        fmt::format("{} ({})", axis.info.help, fmt::join(axis.operations, ", ")));
  }
  headerless->add_option("--terms", terms, "Orders of 1 + s + s^2/2 that prefill's o sums");
  try {
    refuse_empty_values(app, argc, argv);
    app.parse(argc, argv);
    options.headerless = headerless_of(operation, layout, terms, axis_texts);
    for (const CLI::Option* option : headerless->get_options()) {
      if (option->count() > 0) options.headerless.given_by = option->get_name();
    }
    return check_all(options);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "based_check: {}\n", error.what());
    return exit_usage;
  } catch (const std::exception& error) {
    fmt::print(stderr, "based_check: {}\n", error.what());
    return exit_usage;
  }
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) {
  const int status = based::main_checked(argc, argv);
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  fmt::print(stderr, "based_check: cannot write standard output\n");
  return std::max(status, based::exit_failed);
}
