#include "baselines/reference/selective_scan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "baselines/reference/activations.h"
#include "baselines/reference/comparison.h"
#include "kernels/core/error.h"
#include "kernels/state_space/selective_scan_decode.h"

namespace based::reference {

void scan(const scan_channel& channel, std::span<double> x, std::span<double> y) {
  const scan_channels& options = channel.options;
  const std::size_t tokens = channel.u.size(), states = channel.a.size();
  BASED_REQUIRE(x.size() == states && y.size() == tokens, "x or y has the wrong size");
  for (std::size_t l = 0; l < tokens; ++l) {
    const double u = channel.u[l];
    double dt = channel.delta[l] + channel.bias;
    if (options.softplus) dt = softplus(dt);
    double sum = channel.skip * u;
    for (std::size_t n = 0; n < states; ++n) {
      x[n] = std::exp(dt * channel.a[n]) * x[n] + dt * u * channel.b[n * tokens + l];
      sum += channel.c[n * tokens + l] * x[n];
    }
    if (options.gate) sum *= silu(channel.z[l]);
    y[l] = sum;
  }
}

}  // namespace based::reference

namespace based {
namespace {

/// Of one output, values and what they should be, for all compared channels one after the other.
struct compared_values {
  std::vector<float> values;
  std::vector<double> expected;

  /// A row is some tokens of a channel: a single y may be a small difference of large terms.
  void judge(error_norm& error) const {
    constexpr std::size_t row = 64;
    for (std::size_t at = 0; at < values.size();) {
      const std::size_t left = values.size() - at;
      const std::size_t count = left < 2 * row ? left : row;
      error.add_all(std::span(values).subspan(at, count), std::span(expected).subspan(at, count));
      at += count;
    }
  }
};

/// Compares y and the state called `left`, where it is wanted, of some channels, whole sequences
/// of each: all channels where that is cheap. `start`: reads a channel's state before the first
/// token, or nothing.
template <class Start>
verification compare_scan(const scan_channels& p, std::int64_t seqlen, const tensor_access& tensors,
                          const sampling& sampled, std::string_view left, Start start) {
  constexpr double flops_an_update = 60;  // most of them for an exponential
  constexpr std::int64_t fewest_channels = 16;
  const double channel_flops =
      flops_an_update * static_cast<double>(p.d_state) * static_cast<double>(seqlen);
  const auto affordable = static_cast<std::int64_t>(
      std::min(sampled.flops_budget / channel_flops, static_cast<double>(p.rows())));
  const std::vector<std::int64_t> channels =
      scatter(p.rows(), sampled.row_step > 0 ? p.rows() : std::max(affordable, fewest_channels),
              sampled.seed, {0, p.rows() - 1});

  const std::int64_t shared = p.d_state * seqlen;  // numbers of B and of C, of a group
  std::map<std::int64_t, std::pair<std::vector<float>, std::vector<float>>> groups;
  compared_values y, state;
  for (const std::int64_t row : channels) {
    const std::int64_t batch = row / p.d_inner, channel = row % p.d_inner;
    const std::int64_t group = batch * p.groups + channel / p.group_channels();
    auto& [b, c] = groups[group];
    if (b.empty()) {
      b = tensors.get("B", group * shared, shared);
      c = tensors.get("C", group * shared, shared);
    }
    const auto of_row = [&](std::string_view name) {
      return tensors.get(name, row * seqlen, seqlen);
    };
    const auto of_channel = [&](bool is_given, std::string_view name) {
      return is_given ? double{tensors.get(name, channel, 1).front()} : 0.0;
    };
    const std::vector<float> u = of_row("u"), delta = of_row("delta");
    const std::vector<float> a = tensors.get("A", channel * p.d_state, p.d_state);
    const std::vector<float> z = p.gate ? of_row("z") : std::vector<float>();
    const std::vector<float> from = start(row * p.d_state);
    std::vector<double> x(static_cast<std::size_t>(p.d_state)), expected(u.size());
    std::ranges::copy(from, x.begin());
    reference::scan({.options = p,
                     .u = u,
                     .delta = delta,
                     .a = a,
                     .b = b,
                     .c = c,
                     .z = z,
                     .skip = of_channel(p.skip, "D"),
                     .bias = of_channel(p.bias, "bias")},
                    x, expected);
    const auto append = [](compared_values& to, const std::vector<float>& values,
                           const std::vector<double>& wanted) {
      to.values.insert(to.values.end(), values.begin(), values.end());
      to.expected.insert(to.expected.end(), wanted.begin(), wanted.end());
    };
    append(y, of_row("y"), expected);
    if (!left.empty()) append(state, tensors.get(left, row * p.d_state, p.d_state), x);
  }
  worst_error worst;
  y.judge(worst["y"]);
  if (!left.empty()) state.judge(worst[std::string(left)]);
  return worst.found();
}

}  // namespace

verification selective_scan::compare(const problem& p, const tensor_access& tensors,
                                     const sampling& sampled) {
  return compare_scan(p, p.seqlen, tensors, sampled, p.final_state ? "final_state" : "",
                      [&](std::int64_t offset) {
                        return p.initial_state ? tensors.get("initial_state", offset, p.d_state)
                                               : std::vector<float>();
                      });
}

verification selective_scan_decode::compare(const problem& p, const tensor_access& tensors,
                                            const sampling& sampled) {
  return compare_scan(p, 1, tensors, sampled, "state", [&](std::int64_t offset) {
    return tensors.before("state", offset, p.d_state);
  });
}

namespace {
const operation_registration<selective_scan> registered;
const operation_registration<selective_scan_decode> registered_step;
}  // namespace

}  // namespace based
