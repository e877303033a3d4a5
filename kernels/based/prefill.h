// The operation "Based prefill": causal linear attention over a whole sequence.
//
//   o_i = sum_{j <= i} (1 + s_ij + s_ij^2 / 2) v_j,   s_ij = scale q_i . k_j
//
// (arXiv 2402.18668, eq. 4), optionally divided by its sum of weights, started from and ended in
// a recurrent state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/based/state_view.h"
#include "kernels/core/sequence_operation.h"
#include "kernels/core/tensor_view.h"

namespace based {

struct prefill_shape {
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  std::int64_t seqlen = 1;

  constexpr std::int64_t batch_heads() const { return batch * heads; }
  constexpr std::int64_t tokens() const { return batch * heads * seqlen; }  ///< token-heads
  bool operator==(const prefill_shape&) const = default;
};

struct prefill_options {
  float scale = 0.25f;     ///< 1/sqrt(16)
  bool normalize = false;  ///< divide o_i by sum_j (1 + s + s^2/2) + eps
  float eps = 1e-6f;
  bool initial_state = false;  ///< continue from args.initial_state instead of zero
  bool final_state = false;    ///< write args.final_state (z too where normalising)
  bool operator==(const prefill_options&) const = default;
};

struct prefill_problem {
  prefill_shape shape = {};
  prefill_options options = {};
  std::string_view variant = {};  ///< forces one variant of an implementation; empty: it chooses
  bool operator==(const prefill_problem&) const = default;
};

/// Tensors are on the implementation's device: T is float on the CPU, bf16 on CUDA.
template <class T>
struct prefill_args {
  prefill_problem problem;
  sequence_view<const T> q;  ///< [B, H, N, 16]
  sequence_view<const T> k;  ///< [B, H, N, 16]
  sequence_view<const T> v;  ///< [B, H, N, 64]
  sequence_view<T> o;        ///< [B, H, N, 64]
  kv_state_view<const float> initial_state = {};
  kv_state_view<float> final_state = {};  ///< no part of initial_state: segments may yet read it
  void* workspace = nullptr;  ///< at least the implementation's workspace_bytes(problem)
  std::size_t workspace_bytes = 0;
};

/// The operation's one description (operation.h).
struct based_prefill {
  static constexpr std::string_view name = "prefill";
  using problem = prefill_problem;
  template <class T>
  using args = prefill_args<T>;

  // Inputs are drawn as the sources' test generators draw them: q and k of deviation 1/4, so that
  // |s| = |q.k|/4 stays below 1, where a Taylor expansion of exp makes sense; v of deviation 1. An
  // initial state is roughly as earlier tokens would leave it: their number in z[0], the rest
  // random. What matters is that it is no special case and keeps the denominator positive.
  static constexpr float qk_stddev = 0.25f;
  static constexpr float v_stddev = 1.0f;
  static constexpr float state_stddev = 0.5f;
  static constexpr float earlier_tokens = 64;

  /// What the quadratic form spends on one (query, key) pair.
  static constexpr double pair_flops = 2 * feature_dim + 2 * value_dim + 3;

  static std::vector<axis<problem>> axes() {
    return sequence_axes<problem>(
        [](auto& p) -> auto& { return p.shape; },
        {real_axis<problem>(
             {.flag = "scale",
              .label = "scale",
              .help = "Scale of q.k",
              .tested = "0.5,-0.25,0",
              .usual = double{prefill_options{}.scale}},
             [](auto& p) -> auto& { return p.options.scale; }),
         real_axis<problem>(
             {.flag = "eps",
              .label = "eps",
              .help = "What is added to the sum of weights",
              .usual = double{prefill_options{}.eps}},
             [](auto& p) -> auto& { return p.options.eps; }),
         options_axis<problem>(
             {.flag = "options", .label = "options", .help = "What is asked for beyond o"},
             {{"final_state", [](problem& p) -> bool& { return p.options.final_state; }},
              {"initial_state", [](problem& p) -> bool& { return p.options.initial_state; }},
              {"normalize", [](problem& p) -> bool& { return p.options.normalize; }}})});
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    // No structured binding: clang 14 lets no lambda capture one.
    const std::int64_t batch = p.shape.batch, heads = p.shape.heads, seqlen = p.shape.seqlen;
    const auto sequence = [&](std::string_view name, tensor_role role, int dim, float stddev) {
      return tensor_spec{name, role, io, {batch, heads, seqlen, dim}, stddev, true};
    };
    std::vector<tensor_spec> all = {
        sequence("q", input, feature_dim, qk_stddev), sequence("k", input, feature_dim, qk_stddev),
        sequence("v", input, value_dim, v_stddev), sequence("o", output, value_dim, 0)};
    const auto add_state = [&](std::string_view kv, std::string_view z, tensor_role role) {
      constexpr element_type f32 = element_type::f32;
      all.push_back({kv, role, f32, {batch, heads, compact_features, value_dim}, state_stddev});
      if (p.options.normalize) {
        all.push_back({z, role, f32, {batch, heads, compact_features}, state_stddev});
      }
    };
    if (p.options.initial_state) add_state("initial_state.kv", "initial_state.z", input);
    if (p.options.final_state) add_state("final_state.kv", "final_state.z", output);
    return all;
  }

  static operation_work work(const problem& p) {
    const auto tokens = static_cast<double>(p.shape.tokens());
    const int state_columns = value_dim + (p.options.normalize ? 1 : 0);
    // A recurrence reads and updates 153 x 64 state elements a token; a short sequence is cheaper
    // in the quadratic form.
    const double recurrent = 4.0 * compact_features * value_dim;
    const double quadratic = static_cast<double>(p.shape.seqlen + 1) / 2 * pair_flops;
    return {.nominal_flops = tokens * expanded_features * (2 + 4 * value_dim),
            .least_flops = tokens * std::min(recurrent, quadratic),
            .tokens = static_cast<double>(p.shape.batch * p.shape.seqlen),
            .state_bytes = static_cast<double>(p.shape.heads) * compact_features * state_columns *
                           sizeof(float)};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    auto call = bind_sequences<args<T>, T>(p, tensors);
    call.initial_state = {tensors.elements<const float>("initial_state.kv"),
                          tensors.elements<const float>("initial_state.z")};
    call.final_state = {tensors.elements<float>("final_state.kv"),
                        tensors.elements<float>("final_state.z")};
    return call;
  }

  static void arrange(const problem& p, tensor_access& tensors);
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// Throws invalid_argument for a shape, pointer, alignment (16 bytes), stride, state's size,
/// overlap of the two states or of the output with itself, or workspace that no implementation
/// takes. `workspace_needed` is the implementation's own figure. Every implementation calls it
/// first.
template <class T>
void validate(const prefill_args<T>& args, std::size_t workspace_needed);

/// Throws invalid_argument for sizes below 1 or a product whose tensors pass int64.
void validate(const prefill_problem& problem);

}  // namespace based
