// The operation "ssd": Mamba-2's state-space layer (arXiv 2405.21060), a linear attention whose
// state decays by a factor that each token sets. One head, with its state S of [head_dim,
// state_dim] numbers, computes (README.md has a table of the letters):
//
//   dt' = softplus(dt + bias)               the bias and softplus where asked for
//   S_l = exp(dt'_l a) S_{l-1} + dt'_l x_l b_l^T,   S_{-1} the initial state, or 0
//   y_l = S_l c_l + d x_l                   d where asked for
//   y_l = y_l silu(z_l)                     where gated
//
// b and c are shared by the heads of a group.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "kernels/core/sequence_operation.h"
#include "kernels/core/tensor_view.h"
#include "kernels/state_space/softplus.h"

namespace based {

/// What a sweep's step sizes dt look like.
enum class ssd_inputs {
  normal,  ///< as trained models have them: dt' from 1e-3 to 0.1
  strong,  ///< dt' to 4.3 and more: decays exp(dt' a) down to 1e-30
  weak     ///< dt' from 1e-7 to 1e-4: hardly any decay
};

struct ssd_problem {
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  std::int64_t seqlen = 1;
  int head_dim = 64;                       ///< 64 or 128
  int state_dim = 128;                     ///< 64, 128 or 256
  std::int64_t groups = 1;                 ///< of b and c, of which `heads` is a multiple
  bool softplus = false;                   ///< dt' = softplus(dt), not dt
  bool bias = false;                       ///< dt_bias is added to dt, before softplus
  bool skip = false;                       ///< d x is added to y
  bool gate = false;                       ///< y is multiplied by silu(z), after the skip
  bool initial_state = false;              ///< the state before the first token is given
  bool final_state = false;                ///< the state after the last token is wanted
  std::string_view variant = {};           ///< forces one of an implementation's; empty: it chooses
  ssd_inputs inputs = ssd_inputs::normal;  ///< of a sweep; no implementation reads it

  constexpr std::int64_t batch_heads() const { return batch * heads; }
  constexpr std::int64_t group_of(std::int64_t head) const { return head / (heads / groups); }
  /// Bytes of all heads' states [B, H, head_dim, state_dim].
  constexpr std::size_t state_bytes() const {
    return static_cast<std::size_t>(batch_heads()) * head_dim * state_dim * sizeof(float);
  }
  bool operator==(const ssd_problem&) const = default;
};

/// T is float on the CPU, bf16 on CUDA; tensors are on the implementation's device. What an option
/// that is off would read or write is ignored.
template <class T>
struct ssd_args {
  ssd_problem problem;
  sequence_view<const T> x;   ///< [B, H, N, head_dim]
  sequence_view<const T> dt;  ///< [B, H, N, 1], with any strides; positive without softplus
  std::span<const float> a;   ///< [H], negative
  sequence_view<const T> b;   ///< [B, G, N, state_dim]; head h has group h / (H / G)
  sequence_view<const T> c;   ///< [B, G, N, state_dim]
  sequence_view<T> y;         ///< [B, H, N, head_dim], apart from the others
  std::span<const float> dt_bias = {};        ///< [H], with bias
  std::span<const float> d = {};              ///< [H], with skip
  sequence_view<const T> z = {};              ///< [B, H, N, head_dim], with gate
  std::span<const float> initial_state = {};  ///< [B, H, head_dim, state_dim], contiguous
  std::span<float> final_state = {};          ///< as the initial one, and apart from it
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// The operation's one description (operation.h).
struct ssd {
  static constexpr std::string_view name = "ssd";
  using problem = ssd_problem;
  template <class T>
  using args = ssd_args<T>;

  static constexpr float stddev = 1.0f;                            // of x, b, c, z and d
  static constexpr float state_stddev = 0.5f;                      // of the initial state
  static constexpr log_uniform_range rates = {-1, -16};            // of a, as a trained model's
  static constexpr log_uniform_range steps = {1e-3f, 0.1f};        // of dt'
  static constexpr log_uniform_range raw_steps = {-2.25f, -6.9f};  // whose softplus these are
  static constexpr log_uniform_range strong_steps = {1e-3f, 4.3f};
  static constexpr log_uniform_range weak_steps = {1e-7f, 1e-4f}, weak_raw_steps = {-9.2f, -16.1f};
  static constexpr float raw_step_stddev = 0.5f;  // of dt, where its mean is in the bias
  static constexpr float strong_raw_stddev = 1.25f, strong_biased_stddev = 2.5f;

  static std::vector<axis<problem>> axes() {
    using choices = std::vector<std::pair<std::string, int>>;
    return sequence_axes<problem>(
        std::identity{},
        {choice_axis<problem, int>(
             {.flag = "head-dim", .label = "P", .help = "Head dimensions"},
             choices{{"64", 64}, {"128", 128}}, [](auto& p) -> auto& { return p.head_dim; }),
         choice_axis<problem, int>(
             {.flag = "state-dim", .label = "S", .help = "State dimensions", .cuda = "256"},
             choices{{"64", 64}, {"128", 128}, {"256", 256}},
             [](auto& p) -> auto& { return p.state_dim; }),
         number_axis<problem>(
             {.flag = "groups",
              .label = "G",
              .help = "Groups of heads that share B and C",
              .tested = "1",
              .usual = std::int64_t{1}},
             [](auto& p) -> auto& { return p.groups; }),
         options_axis<problem>(
             {.flag = "options", .label = "options", .help = "What is asked for beyond y = S c"},
             {{"softplus", [](problem& p) -> bool& { return p.softplus; }},
              {"bias", [](problem& p) -> bool& { return p.bias; }},
              {"skip", [](problem& p) -> bool& { return p.skip; }},
              {"gate", [](problem& p) -> bool& { return p.gate; }},
              {"initial_state", [](problem& p) -> bool& { return p.initial_state; }},
              {"final_state", [](problem& p) -> bool& { return p.final_state; }}}),
         choice_axis<problem, ssd_inputs>(
             {.flag = "inputs",
              .label = "inputs",
              .help = "How strongly states decay",
              .usual = std::string("normal")},
             {{"normal", ssd_inputs::normal},
              {"strong", ssd_inputs::strong},
              {"weak", ssd_inputs::weak}},
             [](auto& p) -> auto& { return p.inputs; })});
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    const auto sequence = [&](std::string_view name, tensor_role role, std::int64_t heads,
                              std::int64_t width) {
      return tensor_spec{name, role, io, {p.batch, heads, p.seqlen, width}, stddev, true};
    };
    const auto a_head = [&](std::string_view name) {
      return tensor_spec{name, input, element_type::f32, {p.heads}, stddev};
    };
    const auto state = [&](std::string_view name, tensor_role role) {
      return tensor_spec{
          name, role, element_type::f32, {p.batch, p.heads, p.head_dim, p.state_dim}, state_stddev};
    };
    std::vector<tensor_spec> all = {sequence("x", input, p.heads, p.head_dim),
                                    dt(p, io),
                                    a_head("a"),
                                    sequence("b", input, p.groups, p.state_dim),
                                    sequence("c", input, p.groups, p.state_dim),
                                    sequence("y", output, p.heads, p.head_dim)};
    all[2].log_uniform = rates;
    if (p.bias) {
      all.push_back(a_head("dt_bias"));
      all.back().log_uniform = steps_of(p);
    }
    if (p.skip) all.push_back(a_head("d"));
    if (p.gate) all.push_back(sequence("z", input, p.heads, p.head_dim));
    if (p.initial_state) all.push_back(state("initial_state", input));
    if (p.final_state) all.push_back(state("final_state", output));
    return all;
  }

  static operation_work work(const problem& p) {
    const auto tokens = static_cast<double>(p.batch_heads() * p.seqlen);
    // A token adds to the state and reads it.
    const double recurrent = 4.0 * p.head_dim * p.state_dim;
    // Without a state to carry, a short sequence costs less by its pairs of tokens, whose scores
    // c_i b_j the heads of a group share.
    const double pairs = static_cast<double>(p.seqlen + 1) / 2;
    const double scores =
        2.0 * p.state_dim * static_cast<double>(p.groups) / static_cast<double>(p.heads);
    const double quadratic = pairs * (scores + 2.0 * p.head_dim);
    return {.nominal_flops = tokens * recurrent,
            .least_flops =
                tokens *
                (p.initial_state || p.final_state ? recurrent : std::min(recurrent, quadratic)),
            .tokens = static_cast<double>(p.batch * p.seqlen),
            .state_bytes = static_cast<double>(p.state_bytes()) / static_cast<double>(p.batch)};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .x = tensors.sequence<const T>("x"),
            .dt = tensors.sequence<const T>("dt"),
            .a = tensors.elements<const float>("a"),
            .b = tensors.sequence<const T>("b"),
            .c = tensors.sequence<const T>("c"),
            .y = tensors.sequence<T>("y"),
            .dt_bias = tensors.elements<const float>("dt_bias"),
            .d = tensors.elements<const float>("d"),
            .z = tensors.sequence<const T>("z"),
            .initial_state = tensors.elements<const float>("initial_state"),
            .final_state = tensors.elements<float>("final_state")};
  }

  static void arrange(const problem& p, tensor_access& tensors);
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);

 private:
  /// The range of dt, or of its bias, where decays are not strong.
  static constexpr log_uniform_range steps_of(const problem& p) {
    if (p.inputs == ssd_inputs::weak) return p.softplus ? weak_raw_steps : weak_steps;
    return p.softplus ? raw_steps : steps;
  }
  static tensor_spec dt(const problem& p, element_type io) {
    tensor_spec spec = {"dt", tensor_role::input, io, {p.batch, p.heads, p.seqlen, 1}, 0, true};
    const bool is_strong = p.inputs == ssd_inputs::strong;
    if (p.softplus && p.bias) {
      spec.stddev = is_strong ? strong_biased_stddev : raw_step_stddev;
    } else if (p.softplus && is_strong) {
      spec.stddev = strong_raw_stddev;
    } else {
      spec.log_uniform = is_strong ? strong_steps : steps_of(p);
    }
    return spec;
  }
};

/// As validate() of prefill.h. dt may have any strides that are not negative; the values of a are
/// not read.
template <class T>
void validate(const ssd_args<T>& args, std::size_t workspace_needed);
void validate(const ssd_problem& problem);

}  // namespace based
