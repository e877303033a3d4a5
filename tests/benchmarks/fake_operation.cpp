// An operation that this one file adds to a program, for the tests of the harness: its description
// with an axis of each kind, its reference and its implementations.
//
//   y_i = decay * y_{i-1} + x_i (or x_i^2),   from y_0 = 0 or a start of its own, forward or
//   backward
#include <algorithm>
#include <cmath>
#include <vector>

#include "baselines/reference/comparison.h"
#include "kernels/core/operation.h"

namespace based {
namespace {

struct leaky_sum_problem {
  std::int64_t rows = 2;
  std::int64_t length = 100;
  float decay = 0.5f;
  bool backward = false;
  bool squares = false;
  bool start = false;
};

template <class T>
struct leaky_sum_args {
  leaky_sum_problem problem;
  std::span<const T> x;          ///< [rows, length]
  std::span<const float> start;  ///< [rows], with problem.start only
  std::span<T> y;                ///< [rows, length]
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// Calls f(place of y_i in its row) in the order of the sum.
template <class Function>
void for_each_step(const leaky_sum_problem& p, Function f) {
  for (std::int64_t i = 0; i < p.length; ++i) f(p.backward ? p.length - 1 - i : i);
}

struct leaky_sum {
  static constexpr std::string_view name = "leaky_sum";
  using problem = leaky_sum_problem;
  template <class T>
  using args = leaky_sum_args<T>;

  static std::vector<axis<problem>> axes() {
    return {
        number_axis<problem>(
            {.flag = "rows", .label = "R", .help = "Rows", .cpu = "1,2"},
            [](auto& p) -> auto& { return p.rows; }),
        number_axis<problem>(
            {.flag = "length", .label = "L", .help = "Elements of a row"},
            [](auto& p) -> auto& { return p.length; }),
        real_axis<problem>(
            {.flag = "decay", .label = "decay", .help = "What stays", .usual = 0.5},
            [](auto& p) -> auto& { return p.decay; }),
        choice_axis<problem, bool>(
            {.flag = "direction",
             .label = "direction",
             .help = "Where the sum goes",
             .usual = std::string("forward")},
            {{"forward", false}, {"backward", true}}, [](auto& p) -> auto& { return p.backward; }),
        options_axis<problem>({.flag = "terms", .label = "terms", .help = "What is added up"},
                              {{"squares", [](problem& p) -> bool& { return p.squares; }},
                               {"start", [](problem& p) -> bool& { return p.start; }}})};
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    std::vector<tensor_spec> all = {{"x", input, io, {p.rows, p.length}, 1.0f},
                                    {"y", output, io, {p.rows, p.length}}};
    if (p.start) all.push_back({"start", input, element_type::f32, {p.rows}, 1.0f});
    return all;
  }

  static operation_work work(const problem& p) {
    const double elements = static_cast<double>(p.rows) * static_cast<double>(p.length);
    return {.nominal_flops = 3 * elements,
            .least_flops = 2 * elements,
            .tokens = elements,
            .state_bytes = 0};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .x = tensors.elements<const T>("x"),
            .start = tensors.elements<const float>("start"),
            .y = tensors.elements<T>("y")};
  }

  /// Row r starts from 100 (r + 1).
  static void arrange(const problem& p, tensor_access& tensors) {
    for (std::int64_t row = 0; p.start && row < p.rows; ++row) {
      const float start = 100 * static_cast<float>(row + 1);
      tensors.put("start", row, {&start, 1});
    }
  }

  static verification compare(const problem& p, const tensor_access& tensors, const sampling&) {
    worst_error worst;
    for (std::int64_t row = 0; row < p.rows; ++row) {
      const std::vector<float> x = tensors.get("x", row * p.length, p.length);
      std::vector<double> y(x.size());
      double sum = p.start ? tensors.get("start", row, 1).front() : 0;
      for_each_step(p, [&](std::int64_t i) {
        const double term = x[static_cast<std::size_t>(i)];
        sum = p.decay * sum + (p.squares ? term * term : term);
        y[static_cast<std::size_t>(i)] = sum;
      });
      worst["y"].add_all(tensors.get("y", row * p.length, p.length), y);
    }
    return worst.found();
  }
};

template <class T>
void step_by_step(const leaky_sum_args<T>& args) {
  const leaky_sum_problem& p = args.problem;
  for (std::int64_t row = 0; row < p.rows; ++row) {
    float sum = p.start ? args.start[static_cast<std::size_t>(row)] : 0;
    for_each_step(p, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(row * p.length + i);
      const float term = to_float(args.x[at]);
      sum = p.decay * sum + (p.squares ? term * term : term);
      args.y[at] = from_float<T>(sum);
    });
  }
}

void from_zero(const leaky_sum_args<float>& args) {
  leaky_sum_args<float> without = args;
  without.problem.start = false;
  step_by_step(without);
}

const operation_registration<leaky_sum> known;
const registration<leaky_sum> registered[] = {
    registration<leaky_sum>(
        {.name = "step_by_step",
         .summary = "has two element types",
         .role = implementation_role::ours,
         .tolerance = 5e-3,
         .executed_flops =
             [](const leaky_sum_problem& p) { return leaky_sum::work(p).nominal_flops; },
         .run = {step_by_step<float>, step_by_step<bf16>}}),
    registration<leaky_sum>(
        {.name = "from_zero",
         .summary = "is wrong with a start",
         .role = implementation_role::baseline,
         .reimplements = {"someone_elses"},
         .tolerance = 5e-3,
         .executed_flops =
             [](const leaky_sum_problem& p) { return leaky_sum::work(p).nominal_flops; },
         .run = from_zero}),
};

}  // namespace
}  // namespace based
