// The operation "ssd_decode": one token advances the recurrent state of every head of Mamba-2 and
// reads it.
//
//   S = exp(dt A) S + dt x B^T,   y = S C   (+ D x)   (times silu(z))
//
// with dt as it is given, or dt + bias, or softplus of either; arXiv 2405.21060, section 3. S is
// fp32, [head_dim, state_dim] a head, as the final state of the operation "ssd" is: this continues
// it. Heads share B and C by groups: head h has those of group h / (H / G).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/core/sequence_operation.h"
#include "kernels/core/tensor_view.h"
#include "kernels/state_space/softplus.h"

namespace based {

struct ssd_decode_problem {
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  int head_dim = 64;        ///< 64 or 128
  int state_dim = 128;      ///< 64, 128 or 256
  std::int64_t groups = 1;  ///< of B and C, of which `heads` is a multiple
  bool softplus = false;    ///< dt becomes log(1 + exp(dt)), after the bias
  bool bias = false;        ///< a head's bias is added to dt
  bool skip = false;        ///< y has the term D x
  bool gate = false;        ///< y is multiplied by silu(z)

  constexpr std::int64_t batch_heads() const { return batch * heads; }
  constexpr std::int64_t group_of(std::int64_t head) const { return head / (heads / groups); }
  constexpr std::int64_t head_state() const { return std::int64_t{head_dim} * state_dim; }
};

/// Tensors are on the implementation's device: T is float on the CPU, bf16 on CUDA.
template <class T>
struct ssd_decode_args {
  ssd_decode_problem problem;
  sequence_view<const T> x;        ///< [B, H, 1, head_dim]
  sequence_view<const T> dt;       ///< [B, H, 1, 1]; any strides: it may lie in a larger row
  sequence_view<const T> b;        ///< [B, G, 1, state_dim]
  sequence_view<const T> c;        ///< [B, G, 1, state_dim]
  sequence_view<const T> z;        ///< [B, H, 1, head_dim], with a gate
  sequence_view<T> y;              ///< [B, H, 1, head_dim]
  std::span<const float> a;        ///< [H], negative
  std::span<const float> dt_bias;  ///< [H], with a bias
  std::span<const float> d;        ///< [H], with a skip
  std::span<float> state;          ///< [B, H, head_dim, state_dim], contiguous, updated in place
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;

  /// The step that a head of a sequence takes.
  BASED_HOST_DEVICE float step_size(std::int64_t batch, std::int64_t head) const {
    const float raw = to_float(*dt.token(batch, head, 0));
    const float step = problem.bias ? raw + dt_bias.data()[head] : raw;
    return problem.softplus ? softplus(step) : step;
  }
  /// Element p of a head's y, from what S C is and from its x.
  BASED_HOST_DEVICE float output(std::int64_t batch, std::int64_t head, int p, float sum,
                                 float own_x) const {
    if (problem.skip) sum += d.data()[head] * own_x;
    if (!problem.gate) return sum;
    const float gate = to_float(z.token(batch, head, 0)[p]);
    return sum * (gate / (1 + ::expf(-gate)));
  }
};

/// The operation's one description (operation.h).
struct ssd_decode {
  static constexpr std::string_view name = "ssd_decode";
  using problem = ssd_decode_problem;
  template <class T>
  using args = ssd_decode_args<T>;

  static constexpr float token_stddev = 1.0f, state_stddev = 0.5f;
  // As trained models have them: dt, what softplus makes such dt of, and A.
  static constexpr log_uniform_range steps = {1e-3f, 0.1f};
  static constexpr log_uniform_range before_softplus = {-2.25f, -6.9f};
  static constexpr log_uniform_range rates = {-1, -16};

  static std::vector<axis<problem>> axes() {
    return token_axes<problem>(
        {choice_axis<problem, int>(
             {.flag = "head-dim", .label = "P", .help = "Head dimensions"},
             {{"64", 64}, {"128", 128}}, [](auto& p) -> auto& { return p.head_dim; }),
         choice_axis<problem, int>(
             {.flag = "state-dim", .label = "S", .help = "State dimensions"},
             {{"64", 64}, {"128", 128}, {"256", 256}},
             [](auto& p) -> auto& { return p.state_dim; }),
         number_axis<problem>(
             {.flag = "groups",
              .label = "G",
              .help = "Groups of heads that share B and C",
              .usual = std::int64_t{1}},
             [](auto& p) -> auto& { return p.groups; }),
         options_axis<problem>(
             {.flag = "options", .label = "options", .help = "What is asked for beyond y = S C"},
             {{"softplus", [](problem& p) -> bool& { return p.softplus; }},
              {"bias", [](problem& p) -> bool& { return p.bias; }},
              {"skip", [](problem& p) -> bool& { return p.skip; }},
              {"gate", [](problem& p) -> bool& { return p.gate; }}})},
        "32");
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    const auto token = [&](std::string_view name, tensor_role role, std::int64_t heads, int dim) {
      return tensor_spec{name, role, io, {p.batch, heads, 1, dim}, token_stddev, true};
    };
    const auto of_head = [&](std::string_view name, float stddev, log_uniform_range range) {
      return tensor_spec{.name = name,
                         .role = input,
                         .type = element_type::f32,
                         .shape = {p.heads},
                         .stddev = stddev,
                         .log_uniform = range};
    };
    // What becomes a dt of usual size: with a bias before softplus, normal around it.
    const log_uniform_range step = p.softplus ? before_softplus : steps;
    std::vector<tensor_spec> all = {
        token("x", input, p.heads, p.head_dim),
        {.name = "dt",
         .role = input,
         .type = io,
         .shape = {p.batch, p.heads, 1, 1},
         .stddev = token_stddev,
         .is_sequence = true,
         .log_uniform = p.softplus && p.bias ? log_uniform_range{} : step},
        token("b", input, p.groups, p.state_dim),
        token("c", input, p.groups, p.state_dim),
        of_head("a", 0, rates)};
    if (p.bias) all.push_back(of_head("dt_bias", 0, step));
    if (p.skip) all.push_back(of_head("d", token_stddev, {}));
    if (p.gate) all.push_back(token("z", input, p.heads, p.head_dim));
    all.push_back(token("y", output, p.heads, p.head_dim));
    all.push_back({.name = "state",
                   .role = updated,
                   .type = element_type::f32,
                   .shape = {p.batch, p.heads, p.head_dim, p.state_dim},
                   .stddev = state_stddev});
    return all;
  }

  static operation_work work(const problem& p) {
    const double elements =
        static_cast<double>(p.batch_heads()) * static_cast<double>(p.head_state());
    constexpr double flops_per_element = 5;  // decay, product and sum, and two of the contraction
    return {.nominal_flops = elements * flops_per_element,
            .least_flops = elements * flops_per_element,
            .tokens = static_cast<double>(p.batch),
            .state_bytes = elements / static_cast<double>(p.batch) * sizeof(float)};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .x = tensors.sequence<const T>("x"),
            .dt = tensors.sequence<const T>("dt"),
            .b = tensors.sequence<const T>("b"),
            .c = tensors.sequence<const T>("c"),
            .z = tensors.sequence<const T>("z"),
            .y = tensors.sequence<T>("y"),
            .a = tensors.elements<const float>("a"),
            .dt_bias = tensors.elements<const float>("dt_bias"),
            .d = tensors.elements<const float>("d"),
            .state = tensors.elements<float>("state")};
  }

  static void arrange(const problem&, tensor_access&) {}  // all plain random
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// Throws invalid_argument for sizes, pointers, strides or a workspace that no implementation
/// takes.
template <class T>
void validate(const ssd_decode_args<T>& args, std::size_t workspace_needed);
void validate(const ssd_decode_problem& problem);

}  // namespace based
