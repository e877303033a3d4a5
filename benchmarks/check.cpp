// based_check: runs the registered implementations of Based prefill on a case file
// (benchmarks/case_file.h) and compares with the output that the file holds.
//
// A file may ask for some orders of the polynomial only. No implementation computes these, but each
// computes o(s) = o_0 + s o_1 + s^2 o_2 for any scale s, so that runs at s, -s and 0 give them:
//
//   o_0 = o(0),   s o_1 = (o(s) - o(-s)) / 2,   s^2 o_2 = (o(s) + o(-s)) / 2 - o(0)
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "baselines/reference/prefill.h"
#include "benchmarks/harness/backend.h"
#include "benchmarks/case_file.h"
#include "kernels/core/error.h"

namespace based {
namespace {

constexpr int exit_failed = 1;
constexpr int exit_usage = 2;

/// Half a unit in the last place of bf16: the rounding of an expected output that is bf16 itself.
constexpr double bf16_rounding = 1.0 / 512;

using tested_implementation = implementation<based_prefill>;

struct run_result {
  std::vector<float> o;      ///< [B, H, N, 64]
  std::vector<float> state;  ///< [B, H, 153, 64]; empty: not asked for
};

/// A row of o or of the state may be off by this many times the tolerance of the whole, no more: a
/// wrong row must not hide among right ones.
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

/// Compares rows of value_dim; an expected NaN says that the element is not known.
deviation compare(const std::vector<float>& actual, const std::vector<float>& expected,
                  double least_norm = 0) {
  const auto relative = [](double error_square, double expected_square, double least) {
    return error_square == 0
               ? 0
               : std::sqrt(error_square) / std::max(std::sqrt(expected_square), least);
  };
  const std::size_t rows = expected.size() / value_dim;
  const double least_row_norm = least_norm / std::sqrt(static_cast<double>(rows));
  deviation result;
  double error_square = 0, expected_square = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    double row_error_square = 0, row_expected_square = 0;
    for (std::size_t i = row * value_dim; i < (row + 1) * value_dim; ++i) {
      if (std::isnan(expected[i])) continue;
      const double error = std::abs(double{actual[i]} - double{expected[i]});
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

template <class T>
memory upload(backend& device, const std::vector<float>& values) {
  std::vector<T> converted(values.size());
  std::transform(values.begin(), values.end(), converted.begin(), from_float<T>);
  memory on_device = device.allocate(converted.size() * sizeof(T));
  device.upload(on_device.data(), converted.data(), on_device.bytes());
  return on_device;
}

template <class T>
std::vector<float> download(backend& device, const memory& on_device) {
  std::vector<T> values(on_device.bytes() / sizeof(T));
  device.download(values.data(), on_device.data(), on_device.bytes());
  std::vector<float> converted(values.size());
  std::transform(values.begin(), values.end(), converted.begin(),
                 [](T value) { return to_float(value); });
  return converted;
}

/// One call on `device`, outputs poisoned beforehand.
template <class T>
run_result run(const tested_implementation& tested, backend& device, const case_file& given,
               const prefill_problem& problem) {
  const prefill_shape& shape = problem.shape;
  const memory q = upload<T>(device, given.q), k = upload<T>(device, given.k);
  const memory v = upload<T>(device, given.v);
  const memory o = device.allocate(given.o.size() * sizeof(T));
  const memory state =
      device.allocate(problem.options.final_state ? given.state.size() * sizeof(float) : 0);
  const memory workspace = device.allocate(tested.workspace_bytes(problem));
  for (const memory* output : {&o, &state}) {
    if (output->bytes() > 0) device.poison(output->data(), output->bytes());
  }

  const auto view = [&]<class E>(E* data, int dim) {
    return sequence_view<E>::bhnd(data, shape.heads, shape.seqlen, dim);
  };
  const prefill_args<T> args{.problem = problem,
                             .q = view(q.data<const T>(), feature_dim),
                             .k = view(k.data<const T>(), feature_dim),
                             .v = view(v.data<const T>(), value_dim),
                             .o = view(o.data<T>(), value_dim),
                             .final_state = {.kv = state.elements<float>()},
                             .workspace = workspace.data(),
                             .workspace_bytes = workspace.bytes()};
  if constexpr (std::is_same_v<T, float>) {
    tested(args);
  } else {
    tested(args, device.stream());
  }
  device.synchronize();
  run_result result{.o = download<T>(device, o), .state = {}};
  if (problem.options.final_state) result.state = download<float>(device, state);
  return result;
}

run_result run(const tested_implementation& tested, backend& device, const case_file& given,
               const prefill_problem& problem) {
  return tested.device() == device_kind::cpu ? run<float>(tested, device, given, problem)
                                             : run<bf16>(tested, device, given, problem);
}

/// The orders of o that the case asks for, out of the run at its scale and of runs at others.
std::vector<float> select_terms(const tested_implementation& tested, backend& device,
                                const case_file& given, prefill_problem problem,
                                const std::vector<float>& at_scale) {
  problem.options.final_state = false;
  const auto run_at = [&](float scale) {
    problem.options.scale = scale;
    return run(tested, device, given, problem).o;
  };
  const std::vector<float> at_minus = run_at(-given.layout.scale), at_zero = run_at(0);
  const auto& terms = given.layout.terms;
  std::vector<float> o(at_scale.size());
  for (std::size_t i = 0; i < o.size(); ++i) {
    const float even = (at_scale[i] + at_minus[i]) / 2, odd = (at_scale[i] - at_minus[i]) / 2;
    o[i] = (terms[0] ? at_zero[i] : 0) + (terms[1] ? odd : 0) + (terms[2] ? even - at_zero[i] : 0);
  }
  return o;
}

/// The largest norm that a run of select_terms() truly has: what its errors are relative to.
double norm_of_runs(const case_file& given) {
  const auto& [batch, heads, seqlen] = given.layout.shape;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(seqlen));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<double> o(rows.size() * value_dim);
  double largest_square = 0;
  for (const float scale : {given.layout.scale, -given.layout.scale, 0.0f}) {
    double square = 0;
    for (std::int64_t head = 0; head < batch * heads; ++head) {
      const std::int64_t token = head * seqlen;
      reference::prefill_rows({.seqlen = seqlen,
                               .q = given.q.data() + token * feature_dim,
                               .k = given.k.data() + token * feature_dim,
                               .v = given.v.data() + token * value_dim},
                              {.scale = scale}, rows, o);
      square += std::inner_product(o.begin(), o.end(), o.begin(), 0.0);
    }
    largest_square = std::max(largest_square, square);
  }
  return std::sqrt(largest_square);
}

bool is_bf16(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return to_float(to_bf16(value)) == value; });
}

enum class outcome { pass, fail, skip };

/// As in the lines that are printed.
std::string name_of(const tested_implementation& tested, std::string_view variant) {
  return fmt::format("{}/{}{}{}", tested.name, to_string(tested.device()),
                     variant.empty() ? "" : "/variant:", variant);
}

/// Runs one implementation, in a variant or (empty) the one that it chooses, and prints its line.
outcome check(const tested_implementation& tested, std::string_view variant, backend& device,
              const case_file& given) {
  const std::string name = name_of(tested, variant);
  prefill_problem problem{
      .shape = given.layout.shape,
      .options = {.scale = given.layout.scale, .final_state = !given.state.empty()},
      .variant = variant};
  std::string note;
  unsupported_reason reason = tested.unsupported(problem);
  if (reason && problem.options.final_state) {
    note = fmt::format("; state not checked: {}", *reason);
    problem.options.final_state = false;
    reason = tested.unsupported(problem);
  }
  if (reason) {
    fmt::print("{:<32} SKIP  {}\n", name, *reason);
    return outcome::skip;
  }

  run_result result = run(tested, device, given, problem);
  double least_norm = 0;
  if (!given.layout.all_terms()) {
    result.o = select_terms(tested, device, given, problem, result.o);
    least_norm = norm_of_runs(given);
  }
  const double tolerance = tested.tolerance + (is_bf16(given.o) ? bf16_rounding : 0);
  const deviation error = compare(result.o, given.o, least_norm);
  bool good = error.within(tolerance);
  if (!good) {
    const auto row = static_cast<std::int64_t>(error.worst) / value_dim;
    const auto& shape = given.layout.shape;
    note += fmt::format("; worst row {:.3g}; o[{},{},{},{}] is {}, want {}", error.worst_row_error,
                        row / shape.seqlen / shape.heads, row / shape.seqlen % shape.heads,
                        row % shape.seqlen, error.worst % value_dim, result.o[error.worst],
                        given.o[error.worst]);
  }
  if (!result.state.empty()) {
    const deviation state_error = compare(result.state, given.state);
    good &= state_error.within(tested.tolerance);
    note += fmt::format("; state max_err {:.3g} rel_err {:.3g} (at most {:.3g})",
                        state_error.max_error, state_error.relative_error, tested.tolerance);
  }
  fmt::print("{:<32} {}  max_err {:.3g} rel_err {:.3g} (at most {:.3g}){}\n", name,
             good ? "PASS" : "FAIL", error.max_error, error.relative_error, tolerance, note);
  return good ? outcome::pass : outcome::fail;
}

struct check_options {
  std::string path;
  std::string implementation = {};  ///< empty: all
  std::string device = "all";
  case_layout headerless = {};
};

/// The implementations to check, ordered by name. Throws invalid_argument where there are none.
std::vector<tested_implementation> selected(const check_options& options) {
  std::vector<tested_implementation> all = registry<based_prefill>();
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::pair{a.device(), a.name} < std::pair{b.device(), b.name};
  });
  std::vector<tested_implementation> chosen;
  std::string known;
  for (const tested_implementation& candidate : all) {
    const bool on_device =
        options.device == "all" || options.device == to_string(candidate.device());
    if (!on_device) continue;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", candidate.name);
    if (options.implementation.empty() || options.implementation == candidate.name) {
      chosen.push_back(candidate);
    }
  }
  if (chosen.empty()) {
    throw invalid_argument(
        options.implementation.empty()
            ? fmt::format("this binary holds no implementation for device {}", options.device)
            : fmt::format("unknown implementation '{}', want one of {}", options.implementation,
                          known));
  }
  return chosen;
}

int check_all(const check_options& options) {
  std::vector<std::pair<tested_implementation, std::string_view>> chosen;  // and its variants
  for (const tested_implementation& tested : selected(options)) {
    chosen.emplace_back(tested, "");
    for (const std::string_view variant : tested.variants) chosen.emplace_back(tested, variant);
  }
  const case_file given = read_case(options.path, options.headerless);

  int passed = 0, failed = 0;
  for (const device_kind kind : {device_kind::cpu, device_kind::cuda}) {
    std::unique_ptr<backend> device;
    std::string lost;
    for (const auto& [tested, variant] : chosen) {
      if (tested.device() != kind) continue;
      if (!device && lost.empty()) {
        if (kind == device_kind::cpu) {
          device = make_cpu_backend();
        } else if (auto made = make_cuda_backend(); std::holds_alternative<std::string>(made)) {
          lost = std::get<std::string>(made);
          if (options.device == "cuda")
            throw invalid_argument(fmt::format("--device=cuda: {}", lost));
        } else {
          device = std::get<std::unique_ptr<backend>>(std::move(made));
        }
      }
      if (!lost.empty()) {
        fmt::print("{:<32} SKIP  {}\n", name_of(tested, variant), lost);
        continue;
      }
      try {
        const outcome result = check(tested, variant, *device, given);
        passed += result == outcome::pass;
        failed += result == outcome::fail;
      } catch (const std::exception& error) {
        fmt::print("{:<32} FAIL  {}\n", name_of(tested, variant), error.what());
        ++failed;
        lost = device->lost().value_or("");
      }
    }
  }
  fmt::print("{} passed, {} failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : exit_failed;
}

int main_checked(int argc, char** argv) {
  CLI::App app{
      "Runs implementations of Based prefill, each in all of its variants, on a case file of\n"
      "scripts/generate_vectors, or of ThunderKittens' generator, and compares with the output\n"
      "that the file holds.\n"
      "Exit status: 0 all passed, 1 one failed or none ran, 2 bad usage or a bad file."};
  check_options options;
  std::string terms;
  case_layout& layout = options.headerless;
  app.add_option("FILE", options.path, "The case file")->required();
  app.add_option("--implementation", options.implementation, "Its name; default: all");
  app.add_option("--device", options.device, "cpu, cuda or all (default)")
      ->check(CLI::IsMember({"cpu", "cuda", "all"}));
  const auto headerless = app.add_option_group("Files without a header", "What they do not say");
  headerless->add_option("--batch", layout.shape.batch, "Batch size; default: 1");
  headerless->add_option("--heads", layout.shape.heads, "Heads; default: 1");
  headerless->add_option("--seqlen", layout.shape.seqlen, "Tokens; default: 1024");
  headerless->add_option("--scale", layout.scale, "Scale of q.k; default: 0.25");
  headerless->add_option("--terms", terms, "Orders of 1 + s + s^2/2 that o sums; default: 0,1,2");
  try {
    app.parse(argc, argv);
    if (!terms.empty()) layout.terms = parse_terms(terms);
    return check_all(options);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : exit_usage;
  } catch (const invalid_argument& error) {
    fmt::print(stderr, "based_check: {}\n", error.what());
    return exit_usage;
  }
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) {
  return based::main_checked(argc, argv);
}
