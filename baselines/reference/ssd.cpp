#include "baselines/reference/ssd.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "baselines/reference/activations.h"
#include "baselines/reference/comparison.h"
#include "kernels/core/error.h"

namespace based::reference {

void ssd_steps(const ssd_head& head, std::span<double> steps) {
  for (std::size_t n = 0; n < steps.size(); ++n) {
    double step = head.dt[n];
    if (head.problem.bias) step += head.dt_bias;
    steps[n] = head.problem.softplus ? softplus(step) : step;
  }
}

void ssd_channels(const ssd_head& head, std::span<const std::int64_t> channels, std::span<double> y,
                  std::span<double> state, std::span<double> terms) {
  const ssd_problem& problem = head.problem;
  const std::int64_t seqlen = problem.seqlen, dim = problem.head_dim, width = problem.state_dim;
  const auto count = static_cast<std::int64_t>(channels.size());
  BASED_REQUIRE(static_cast<std::int64_t>(y.size()) == seqlen * count,
                fmt::format("y has {} elements, must have {}", y.size(), seqlen * count));
  BASED_REQUIRE(terms.empty() || terms.size() == y.size(),
                fmt::format("terms has {} elements, must have {}", terms.size(), y.size()));
  BASED_REQUIRE(state.empty() || static_cast<std::int64_t>(state.size()) == count * width,
                fmt::format("state has {} elements, must have {}", state.size(), count * width));
  for (const std::int64_t p : channels) {
    BASED_REQUIRE(p >= 0 && p < dim, fmt::format("channel is {}, must be in 0..{}", p, dim - 1));
  }
  std::vector<double> steps(static_cast<std::size_t>(seqlen));
  ssd_steps(head, steps);

#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t p = channels[static_cast<std::size_t>(i)];
    std::vector<double> s(static_cast<std::size_t>(width));
    if (problem.initial_state) std::copy_n(head.initial_state + p * width, width, s.begin());
    for (std::int64_t n = 0; n < seqlen; ++n) {
      const double x = head.x[n * dim + p], step = steps[static_cast<std::size_t>(n)];
      const double decay = std::exp(step * static_cast<double>(head.a));
      const float *b = head.b + n * width, *c = head.c + n * width;
      double sum = 0, squares = 0;
      for (std::int64_t k = 0; k < width; ++k) {
        double& element = s[static_cast<std::size_t>(k)];
        element = decay * element + step * x * b[k];
        const double term = element * c[k];
        sum += term;
        squares += term * term;
      }
      const double skipped = problem.skip ? head.d * x : 0;
      const double gate = problem.gate ? silu(head.z[n * dim + p]) : 1;
      const auto at = static_cast<std::size_t>(n * count + i);
      y[at] = (sum + skipped) * gate;
      if (!terms.empty()) terms[at] = (squares + skipped * skipped) * gate * gate;
    }
    if (!state.empty()) std::ranges::copy(s, state.begin() + i * width);
  }
}

}  // namespace based::reference

namespace based {
namespace {

/// Heads, and channels of each: everything where that is cheap or asked for, else channels of a few
/// heads.
struct ssd_part {
  std::vector<std::int64_t> heads, channels;
};

ssd_part part_of(const ssd_problem& p, const sampling& sampled) {
  constexpr std::int64_t few_heads = 4;
  const double channel_flops = 5.0 * static_cast<double>(p.seqlen) * p.state_dim;
  const double all = channel_flops * p.head_dim * static_cast<double>(p.batch_heads());
  const bool whole = sampled.row_step > 0 || all <= sampled.flops_budget;
  const std::int64_t heads = whole ? p.batch_heads() : std::min(few_heads, p.batch_heads());
  const auto affordable = static_cast<std::int64_t>(sampled.flops_budget / channel_flops) / heads;
  const std::int64_t channels =
      whole ? p.head_dim : std::clamp<std::int64_t>(affordable, 1, p.head_dim);
  return {scatter(p.batch_heads(), heads, sampled.seed, {0, p.batch_heads() - 1}),
          scatter(p.head_dim, channels, ~sampled.seed, {p.head_dim - 1, 0})};
}

}  // namespace

void ssd::arrange(const ssd_problem&, tensor_access&) {}

verification ssd::compare(const ssd_problem& p, const tensor_access& tensors,
                          const sampling& sampled) {
  const ssd_part part = part_of(p, sampled);
  const std::int64_t of_head = p.seqlen * p.head_dim, of_group = p.seqlen * p.state_dim;
  const std::int64_t of_state = std::int64_t{p.head_dim} * p.state_dim;
  const auto channels = static_cast<std::int64_t>(part.channels.size());
  const bool whole_rows = channels == p.head_dim;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(p.seqlen));
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  worst_error worst;
  std::vector<double> y(static_cast<std::size_t>(p.seqlen * channels)), terms(y.size());
  std::vector<double> state(static_cast<std::size_t>(p.final_state ? channels * p.state_dim : 0));
  for (const std::int64_t head : part.heads) {
    const std::int64_t group = head / p.heads * p.groups + p.group_of(head % p.heads);
    const auto a_head = [&](std::string_view name) {
      const std::vector<float> value = tensors.get(name, head % p.heads, 1);
      return value.empty() ? 0 : value.front();
    };
    const auto x = tensors.get("x", head * of_head, of_head);
    const auto dt = tensors.get("dt", head * p.seqlen, p.seqlen);
    const auto b = tensors.get("b", group * of_group, of_group);
    const auto c = tensors.get("c", group * of_group, of_group);
    const auto z = tensors.get("z", head * of_head, of_head);
    const auto initial = tensors.get("initial_state", head * of_state, of_state);
    reference::ssd_channels({.problem = p,
                             .x = x.data(),
                             .dt = dt.data(),
                             .b = b.data(),
                             .c = c.data(),
                             .a = a_head("a"),
                             .dt_bias = a_head("dt_bias"),
                             .d = a_head("d"),
                             .z = z.data(),
                             .initial_state = initial.data()},
                            part.channels, y, state, terms);
    const auto got = tensors.get("y", head * of_head, of_head);
    if (whole_rows) {
      // The first rows of a chunk show it: a state with one large token in it is rounded before its
      // product with c, which in one row of some thousand is nearly orthogonal to that token's b.
      worst["y"].add_rows(got, y, rows, p.head_dim, terms);
    } else {
      // Of a row's few channels alone no relative error would mean much.
      for (std::int64_t i = 0; i < p.seqlen * channels; ++i) {
        const std::int64_t p_i = part.channels[static_cast<std::size_t>(i % channels)];
        worst["y"].add(got[static_cast<std::size_t>(i / channels * p.head_dim + p_i)],
                       y[static_cast<std::size_t>(i)]);
      }
    }
    if (!p.final_state) continue;
    worst["final_state"].add_rows(tensors.get("final_state", head * of_state, of_state), state,
                                  part.channels, p.state_dim);
  }
  return worst.found();
}

namespace {
const operation_registration<ssd> registered;
}  // namespace

}  // namespace based
