// The operation "selective_scan": Mamba's recurrence over a whole sequence (arXiv 2312.00752,
// section 3.3), a state of d_state numbers for each of d_inner channels:
//
//   dt = delta + bias                            softplus: dt = log(1 + exp(delta + bias))
//   x_l[n] = exp(dt_l A[n]) x_{l-1}[n] + dt_l u_l B_l[n]
//   y_l = sum_n C_l[n] x_l[n] + D u_l            gate: y_l *= z_l / (1 + exp(-z_l))
//
// A, D and bias belong to a channel, u, delta, z and y to a channel and token; B and C are shared
// by the channels of a group.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/sequence_operation.h"
#include "kernels/core/tensor_view.h"
#include "kernels/state_space/softplus.h"

namespace based {

/// How fast the states of a sweep decay.
enum class scan_inputs {
  normal,  ///< dt from 1e-3 to 0.1 and A from -1 to -16, as trained models have them
  strong   ///< dt from 0.1 to 4.3: exp(dt A) down to 1e-30
};

inline constexpr std::int64_t largest_scan_state = 256;  ///< d_state

/// What a scan over a sequence and a single step of it have in common.
struct scan_channels {
  std::int64_t batch = 1;
  std::int64_t d_inner = 1;  ///< channels
  std::int64_t d_state = 16;
  std::int64_t groups = 1;  ///< of B and C; d_inner is a multiple, channel d has group
                            ///< d / (d_inner / groups)
  bool softplus = false;
  bool bias = false;                         ///< added to delta
  bool skip = false;                         ///< y has the term D u
  bool gate = false;                         ///< y is multiplied by silu(z)
  scan_inputs inputs = scan_inputs::normal;  ///< of a sweep; no implementation reads it

  constexpr std::int64_t rows() const { return batch * d_inner; }  ///< channels of all sequences
  constexpr std::int64_t group_channels() const { return d_inner / groups; }
  bool operator==(const scan_channels&) const = default;
};

/// Tensors of a scan or step. A view's "heads" are channels and its tokens are one element each,
/// contiguous: token_stride is 1. The other strides are free, for u, B and the others are slices of
/// larger tensors where models use them.
template <class T>
struct scan_operands {
  sequence_view<const T> u, delta;  ///< [B, d_inner, N]
  std::span<const float> a;         ///< [d_inner, d_state], negative
  sequence_view<const T> b, c;      ///< [B, groups * d_state, N]
  std::span<const float> d;         ///< [d_inner]; with the option "skip"
  std::span<const float> bias;      ///< [d_inner]; with the option "bias"
  sequence_view<const T> z;         ///< [B, d_inner, N]; with the option "gate"
  sequence_view<T> y;               ///< [B, d_inner, N], apart from the others
};

/// A scan or step as a CUDA kernel takes it.
struct scan_kernel_operands {
  sequence_view<const bf16> u, delta, b, c, z;
  sequence_view<bf16> y;
  const float *a, *d, *bias;  ///< d, bias: null without
  int d_inner, d_state, group_channels;
  bool softplus, gate;

  scan_kernel_operands(const scan_channels& p, const scan_operands<bf16>& given)
      : u(given.u),
        delta(given.delta),
        b(given.b),
        c(given.c),
        z(given.z),
        y(given.y),
        a(given.a.data()),
        d(p.skip ? given.d.data() : nullptr),
        bias(p.bias ? given.bias.data() : nullptr),
        d_inner(static_cast<int>(p.d_inner)),
        d_state(static_cast<int>(p.d_state)),
        group_channels(static_cast<int>(p.group_channels())),
        softplus(p.softplus),
        gate(p.gate) {}
};

struct selective_scan_problem : scan_channels {
  std::int64_t seqlen = 1;
  bool initial_state = false;     ///< x before the first token is given, not zero
  bool final_state = false;       ///< x after the last token is wanted
  std::string_view variant = {};  ///< forces one of an implementation's; empty: it chooses
  bool operator==(const selective_scan_problem&) const = default;
};

/// T is float on the CPU, bf16 on CUDA; tensors are on the implementation's device.
template <class T>
struct selective_scan_args {
  selective_scan_problem problem;
  scan_operands<T> operands;
  std::span<const float> initial_state = {};  ///< [B, d_inner, d_state]
  std::span<float> final_state = {};          ///< [B, d_inner, d_state], apart from the others
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// What the recurrence itself executes on so many tokens, an exponential or a logarithm counted as
/// one.
double scan_flops(const scan_channels& p, std::int64_t seqlen);

namespace detail {

template <class Problem>
std::vector<std::pair<std::string, std::function<bool&(Problem&)>>> scan_switches() {
  return {{"softplus", [](Problem& p) -> bool& { return p.softplus; }},
          {"bias", [](Problem& p) -> bool& { return p.bias; }},
          {"skip", [](Problem& p) -> bool& { return p.skip; }},
          {"gate", [](Problem& p) -> bool& { return p.gate; }}};
}

/// The axes of scan_channels, without batch sizes and options.
template <class Problem>
std::vector<axis<Problem>> scan_axes() {
  return {number_axis<Problem>(
              {.flag = "d-inner",
               .label = "d_inner",
               .help = "Numbers of channels",
               .cpu = "64",
               .cuda = "2048",
               .tested = "1,16,100,257"},
              [](auto& p) -> auto& { return p.d_inner; }),
          number_axis<Problem>(
              {.flag = "d-state",
               .label = "d_state",
               .help = "States of a channel",
               .cpu = "16",
               .cuda = "16",
               .tested = "1,5,64"},
              [](auto& p) -> auto& { return p.d_state; }),
          number_axis<Problem>(
              {.flag = "groups",
               .label = "G",
               .help = "Groups of channels that share B and C",
               .tested = "1",
               .usual = std::int64_t{1}},
              [](auto& p) -> auto& { return p.groups; }),
          choice_axis<Problem, scan_inputs>(
              {.flag = "inputs",
               .label = "inputs",
               .help = "How fast states decay",
               .usual = std::string("normal")},
              {{"normal", scan_inputs::normal}, {"strong", scan_inputs::strong}},
              [](auto& p) -> auto& { return p.inputs; })};
}

std::vector<tensor_spec> scan_tensors(const scan_channels& p, std::int64_t seqlen, element_type io);
operation_work scan_work(const scan_channels& p, std::int64_t seqlen);

template <class T>
scan_operands<T> bind_scan(const placed_tensors& tensors) {
  return {.u = tensors.sequence<const T>("u"),
          .delta = tensors.sequence<const T>("delta"),
          .a = tensors.elements<const float>("A"),
          .b = tensors.sequence<const T>("B"),
          .c = tensors.sequence<const T>("C"),
          .d = tensors.elements<const float>("D"),
          .bias = tensors.elements<const float>("bias"),
          .z = tensors.sequence<const T>("z"),
          .y = tensors.sequence<T>("y")};
}

}  // namespace detail

/// The operation's one description (operation.h).
struct selective_scan {
  static constexpr std::string_view name = "selective_scan";
  using problem = selective_scan_problem;
  template <class T>
  using args = selective_scan_args<T>;

  static std::vector<axis<problem>> axes() {
    std::vector<axis<problem>> all = {batch_axis<problem>(), seqlen_axis<problem>()};
    std::ranges::move(detail::scan_axes<problem>(), std::back_inserter(all));
    auto switches = detail::scan_switches<problem>();
    switches.emplace_back("initial_state", [](problem& p) -> bool& { return p.initial_state; });
    switches.emplace_back("final_state", [](problem& p) -> bool& { return p.final_state; });
    all.push_back(options_axis<problem>(
        {.flag = "options", .label = "options", .help = "What the recurrence has beyond A, B, C"},
        switches));
    return all;
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io);
  static operation_work work(const problem& p) { return detail::scan_work(p, p.seqlen); }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .operands = detail::bind_scan<T>(tensors),
            .initial_state = tensors.elements<const float>("initial_state"),
            .final_state = tensors.elements<float>("final_state")};
  }

  static void arrange(const problem&, tensor_access&) {}
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of prefill.h. The values of A are not looked at: they are on the device.
template <class T>
void validate(const selective_scan_args<T>& args, std::size_t workspace_needed);
void validate(const selective_scan_problem& problem);

}  // namespace based
