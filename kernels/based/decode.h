// The operation "Based decode": one token advances the recurrent state of every head and reads it.
//
//   S += phi_k(k) v^T,   z += phi_k(k),   o = phi_q(q)^T S   (optionally / (phi_q(q)^T z + eps))
//
// with phi_q(q) . phi_k(k) = 1 + s + s^2/2, s = scale q . k (arXiv 2402.18668, section 3.1). It
// continues what prefill left: the compact fp32 state is prefill's final state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/based/features.h"
#include "kernels/core/sequence_operation.h"
#include "kernels/core/tensor_view.h"

namespace based {

/// compact: q and k are the 16 raw elements, the state has the 153 rows of features.h. padded: q
/// and k are mapped by the caller, and the state has one row a feature: the 273 of the papers'
/// map, then zeros up to a multiple of 64.
enum class decode_layout { compact, padded };
enum class state_type { f32, bf16 };

inline constexpr int padded_features = 320;

constexpr int state_rows(decode_layout layout) {
  return layout == decode_layout::compact ? compact_features : padded_features;
}
constexpr int query_dim(decode_layout layout) {
  return layout == decode_layout::compact ? feature_dim : padded_features;
}
constexpr std::size_t state_element_bytes(state_type type) {
  return type == state_type::f32 ? sizeof(float) : sizeof(bf16);
}

struct decode_problem {
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  state_type state = state_type::f32;  ///< of S; z is fp32 always, for it counts tokens
  decode_layout layout = decode_layout::compact;
  float scale = 0.25f;     ///< 1/sqrt(16); a padded query carries it
  bool normalize = false;  ///< keep z, and divide o by phi_q(q)^T z + eps
  float eps = 1e-6f;

  constexpr std::int64_t batch_heads() const { return batch * heads; }
  constexpr std::size_t kv_bytes() const {
    return static_cast<std::size_t>(batch_heads()) * state_rows(layout) * value_dim *
           state_element_bytes(state);
  }
  constexpr std::size_t z_bytes() const {
    return normalize ? static_cast<std::size_t>(batch_heads()) * state_rows(layout) * sizeof(float)
                     : 0;
  }
};

/// Tensors are on the implementation's device: T is float on the CPU, bf16 on CUDA.
template <class T>
struct decode_args {
  decode_problem problem;
  sequence_view<const T> q;  ///< [B, H, 1, 16], or [B, H, 1, 320] padded
  sequence_view<const T> k;  ///< as q
  sequence_view<const T> v;  ///< [B, H, 1, 64]
  sequence_view<T> o;        ///< [B, H, 1, 64]
  void* kv = nullptr;        ///< [B, H, rows, 64] of problem.state, contiguous, updated in place
  std::size_t kv_bytes = 0;  ///< what is allocated: problem.kv_bytes()
  float* z = nullptr;        ///< [B, H, rows], with normalisation only, updated in place
  std::size_t z_bytes = 0;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// The operation's one description (operation.h).
struct based_decode {
  static constexpr std::string_view name = "decode";
  using problem = decode_problem;
  template <class T>
  using args = decode_args<T>;

  static constexpr float qk_stddev = 0.25f;  // as prefill's
  static constexpr float v_stddev = 1.0f;
  static constexpr float state_stddev = 0.5f;
  static constexpr float earlier_tokens = 64;  // z[0]: keeps the denominator positive

  static std::vector<axis<problem>> axes() {
    return token_axes<problem>(
        {choice_axis<problem, state_type>(
             {.flag = "state",
              .label = "state",
              .help = "Element types of the state",
              .cpu = "bf16,f32",
              .cuda = "bf16,f32"},
             {{"bf16", state_type::bf16}, {"f32", state_type::f32}},
             [](auto& p) -> auto& { return p.state; }),
         real_axis<problem>(
             {.flag = "scale",
              .label = "scale",
              .help = "Scale of q.k",
              .usual = double{decode_problem{}.scale}},
             [](auto& p) -> auto& { return p.scale; }),
         real_axis<problem>(
             {.flag = "eps",
              .label = "eps",
              .help = "What is added to the sum of weights",
              .usual = double{decode_problem{}.eps}},
             [](auto& p) -> auto& { return p.eps; }),
         options_axis<problem>(
             {.flag = "options", .label = "options", .help = "What is asked for beyond o"},
             {{"normalize", [](problem& p) -> bool& { return p.normalize; }}})});
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    const int rows = state_rows(p.layout), dim = query_dim(p.layout);
    const element_type state = p.state == state_type::bf16 ? element_type::bf16 : element_type::f32;
    const auto token = [&](std::string_view name, tensor_role role, int width, float stddev) {
      return tensor_spec{name, role, io, {p.batch, p.heads, 1, width}, stddev, true};
    };
    std::vector<tensor_spec> all = {
        token("q", input, dim, qk_stddev),
        token("k", input, dim, qk_stddev),
        token("v", input, value_dim, v_stddev),
        token("o", output, value_dim, 0),
        {"kv", updated, state, {p.batch, p.heads, rows, value_dim}, state_stddev}};
    if (p.normalize) {
      all.push_back({"z", updated, element_type::f32, {p.batch, p.heads, rows}, state_stddev});
    }
    return all;
  }

  static operation_work work(const problem& p) {
    const auto heads = static_cast<double>(p.batch_heads());
    return {.nominal_flops = heads * expanded_features * (2 + 4 * value_dim),
            .least_flops = heads * compact_features * 4.0 * value_dim,
            .tokens = static_cast<double>(p.batch),
            .state_bytes =
                static_cast<double>(p.kv_bytes() + p.z_bytes()) / static_cast<double>(p.batch)};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    const auto kv = tensors.elements<std::byte>("kv"), z = tensors.elements<std::byte>("z");
    auto call = bind_sequences<args<T>, T>(p, tensors);
    call.kv = kv.data();
    call.kv_bytes = kv.size();
    call.z = tensors.elements<float>("z").data();
    call.z_bytes = z.size();
    return call;
  }

  /// The q and k of a padded row are features, not random numbers; z counts tokens.
  static void arrange(const problem& p, tensor_access& tensors);
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of prefill.h; a state that is missing or not of the problem's size is refused too.
template <class T>
void validate(const decode_args<T>& args, std::size_t workspace_needed);
void validate(const decode_problem& problem);

}  // namespace based
