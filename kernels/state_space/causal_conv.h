// The operation "causal_conv": the short depthwise convolution before a state-space layer, and of
// Based's BaseConv. For each channel d:
//
//   y_n = bias_d + sum_k weight_{k,d} x_{n-T+1+k}    k = 0 .. T-1, T taps
//   y_n = silu(y_n)                                  where asked for
//
// Inputs before the first token are the initial state's, or 0. A decoding step is a sequence of one
// token with an initial and a final state, which may be one memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "kernels/core/sequence_operation.h"
#include "kernels/core/tensor_view.h"

namespace based {

struct conv_problem {
  std::int64_t batch = 1;
  std::int64_t seqlen = 1;
  std::int64_t channels = 64;  ///< D, a multiple of 8
  int taps = 4;                ///< T: 3 or 4
  bool bias = false;           ///< a bias is added
  bool silu = false;           ///< of the sum
  bool initial_state = false;  ///< the inputs before the first token are given
  bool final_state = false;    ///< the last inputs are wanted

  /// Elements of all sequences' states [B, T-1, D].
  constexpr std::int64_t state_elements() const { return batch * (taps - 1) * channels; }
};

/// T is float on the CPU, bf16 on CUDA; tensors are on the implementation's device. What an option
/// that is off would read or write is ignored.
template <class T>
struct conv_args {
  conv_problem problem;
  sequence_view<const T> x;               ///< [B, 1, N, D]
  std::span<const float> weight;          ///< [T, D]
  sequence_view<T> y;                     ///< [B, 1, N, D], apart from the others
  std::span<const float> bias = {};       ///< [D]
  std::span<const T> initial_state = {};  ///< [B, T-1, D], contiguous, the latest input last
  std::span<T> final_state = {};          ///< as the initial one, which it may be
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// The operation's one description (operation.h).
struct causal_conv {
  static constexpr std::string_view name = "causal_conv";
  using problem = conv_problem;
  template <class T>
  using args = conv_args<T>;

  static constexpr float stddev = 1.0f;         // of x
  static constexpr float weight_stddev = 0.5f;  // of weights and bias

  static std::vector<axis<problem>> axes() {
    return {batch_axis<problem>(),
            seqlen_axis<problem>(std::identity{}, "1,2,3,63,64,65,1000,4097"),
            number_axis<problem>(
                {.flag = "channels",
                 .label = "D",
                 .help = "Channels of a convolution",
                 .cpu = "64",
                 .cuda = "2304",
                 .tested = "8,24,2304"},
                [](auto& p) -> auto& { return p.channels; }),
            choice_axis<problem, int>(
                {.flag = "taps", .label = "taps", .help = "Taps of a convolution"},
                {{"3", 3}, {"4", 4}}, [](auto& p) -> auto& { return p.taps; }),
            options_axis<problem>(
                {.flag = "options", .label = "options", .help = "What is asked for beyond the sum"},
                {{"bias", [](problem& p) -> bool& { return p.bias; }},
                 {"silu", [](problem& p) -> bool& { return p.silu; }},
                 {"initial_state", [](problem& p) -> bool& { return p.initial_state; }},
                 {"final_state", [](problem& p) -> bool& { return p.final_state; }}})};
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    const std::vector<std::int64_t> sequence = {p.batch, 1, p.seqlen, p.channels};
    const std::vector<std::int64_t> state = {p.batch, p.taps - 1, p.channels};
    std::vector<tensor_spec> all = {
        {"x", input, io, sequence, stddev, true},
        {"weight", input, element_type::f32, {p.taps, p.channels}, weight_stddev},
        {"y", output, io, sequence, 0, true}};
    if (p.bias) all.push_back({"bias", input, element_type::f32, {p.channels}, weight_stddev});
    if (p.initial_state) all.push_back({"initial_state", input, io, state, stddev});
    if (p.final_state) all.push_back({"final_state", output, io, state});
    return all;
  }

  static operation_work work(const problem& p) {
    const auto tokens = static_cast<double>(p.batch * p.seqlen);
    const double flops = tokens * static_cast<double>(p.channels) * 2.0 * p.taps;
    return {.nominal_flops = flops,
            .least_flops = flops,
            .tokens = tokens,
            .state_bytes = static_cast<double>((p.taps - 1) * p.channels) * sizeof(bf16)};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .x = tensors.sequence<const T>("x"),
            .weight = tensors.elements<const float>("weight"),
            .y = tensors.sequence<T>("y"),
            .bias = tensors.elements<const float>("bias"),
            .initial_state = tensors.elements<const T>("initial_state"),
            .final_state = tensors.elements<T>("final_state")};
  }

  static void arrange(const problem& p, tensor_access& tensors);
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of prefill.h.
template <class T>
void validate(const conv_args<T>& args, std::size_t workspace_needed);
void validate(const conv_problem& problem);

}  // namespace based
