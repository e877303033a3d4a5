// The operation "sliding window": softmax attention of the next token over the last W tokens of
// its sequence, whose keys and values lie in a ring buffer.
//
//   o = sum_j softmax_j(scale q . k_j) v_j,   j over the last min(position + 1, W) tokens
//
// Token n of the sequence has slot n mod W; softmax takes the slots in any order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <string_view>

#include "kernels/core/sequence_operation.h"
#include "kernels/core/tensor_view.h"

namespace based {

struct window_problem {
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  int window = 64;    ///< W, the slots of the ring
  int head_dim = 64;  ///< Dh, one of head_dims, of queries, keys and values
  /// The current token's position in its sequence, from 0. Sweeps set it so that the ring is full
  /// and the next slot in its middle.
  std::int64_t position = 0;
  /// Whether the call writes the current token's key and value to their slot; if not, the caller
  /// has done so.
  bool append = true;

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }
  constexpr std::int64_t batch_heads() const { return batch * heads; }
  constexpr int slot() const {
    return static_cast<int>(position % window);
  }                               ///< of the current token
  constexpr int filled() const {  ///< slots 0 .. filled - 1 hold tokens
    return static_cast<int>(std::min<std::int64_t>(position + 1, window));
  }
};

/// Tensors are on the implementation's device: T is float on the CPU, bf16 on CUDA.
template <class T>
struct window_args {
  window_problem problem;
  sequence_view<const T> q;  ///< [B, H, 1, Dh], the current token
  sequence_view<const T> k;  ///< [B, H, 1, Dh]; needed with `append` only
  sequence_view<const T> v;  ///< [B, H, 1, Dh]; needed with `append` only
  sequence_view<T> o;        ///< [B, H, 1, Dh]
  T* k_cache = nullptr;      ///< [B, H, W, Dh], contiguous
  T* v_cache = nullptr;      ///< [B, H, W, Dh], contiguous
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// A call as CUDA kernels take it.
struct window_params {
  sequence_view<const bf16> q, k, v;
  sequence_view<bf16> o;
  bf16* k_cache;
  bf16* v_cache;
  std::uint32_t heads;
  int window;
  int filled;
  int appended;       ///< slot of the current token; -1: it is in the cache
  float score_scale;  ///< scale * log2(e), for 2^x

  explicit window_params(const window_args<bf16>& args)
      : q(args.q),
        k(args.k),
        v(args.v),
        o(args.o),
        k_cache(args.k_cache),
        v_cache(args.v_cache),
        heads(static_cast<std::uint32_t>(args.problem.heads)),
        window(args.problem.window),
        filled(args.problem.filled()),
        appended(args.problem.append ? args.problem.slot() : -1),
        score_scale(args.problem.scale() * std::numbers::log2e_v<float>) {}
};

/// The operation's one description (operation.h).
struct window_decode {
  static constexpr std::string_view name = "sliding_window";
  using problem = window_problem;
  template <class T>
  using args = window_args<T>;

  static constexpr float qkv_stddev = 1.0f;  // scores of deviation 1 after 1/sqrt(Dh)

  static std::vector<axis<problem>> axes() {
    axis<problem> window = number_axis<problem>(
        {.flag = "window",
         .label = "W",
         .help = "Windows of sliding-window attention",
         .cpu = "64,128",
         .cuda = "64,128",
         .tested = "1,16,63,64,65,128"},
        [](auto& p) -> auto& { return p.window; });
    window.set = [](problem& p, const axis_value& value) {
      p.window = static_cast<int>(std::get<std::int64_t>(value));
      p.position = std::int64_t{p.window} + p.window / 2;
    };
    // -1 stands for the position that the window has set, after `window` in the list.
    axis<problem> position = number_axis<problem>(
        {.flag = "position",
         .label = "position",
         .help = "Tokens before the current one; -1: one and a half windows",
         .tested = "1,5",
         .usual = std::int64_t{-1},
         .domain = {.least = -1}},
        [](auto& p) -> auto& { return p.position; });
    position.set = [](problem& p, const axis_value& value) {
      const std::int64_t asked = std::get<std::int64_t>(value);
      if (asked >= 0) p.position = asked;
    };
    position.get = [](const problem& p) {
      const bool usual = p.position == std::int64_t{p.window} + p.window / 2;
      return axis_value(usual ? std::int64_t{-1} : p.position);
    };
    return token_axes<problem>(
        {window, position,
         head_dim_axis<problem>({.flag = "head-dim",
                                 .label = "Dh",
                                 .help = "Head dimensions",
                                 .usual = std::int64_t{64}}),
         choice_axis<problem, bool>(
             {.flag = "append",
              .label = "append",
              .help = "Whether the current token is written to the ring",
              .usual = std::int64_t{1}},
             {{"0", false}, {"1", true}}, [](auto& p) -> auto& { return p.append; })});
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    const auto token = [&](std::string_view name, tensor_role role) {
      return tensor_spec{name, role, io, {p.batch, p.heads, 1, p.head_dim}, qkv_stddev, true};
    };
    const auto ring = [&](std::string_view name) {
      return tensor_spec{name,
                         p.append ? appended : input,
                         io,
                         {p.batch, p.heads, p.window, p.head_dim},
                         qkv_stddev};
    };
    std::vector<tensor_spec> all = {token("q", input), token("o", output), ring("k_cache"),
                                    ring("v_cache")};
    if (p.append) all.insert(all.end(), {token("k", input), token("v", input)});
    return all;
  }

  static operation_work work(const problem& p) {
    const auto token = static_cast<double>(p.batch_heads()) * p.head_dim;
    const double flops = 4.0 * token * p.window;
    return {
        .nominal_flops = flops,
        .least_flops = flops,
        .tokens = static_cast<double>(p.batch),
        .state_bytes = 2.0 * static_cast<double>(p.heads) * p.head_dim * p.window * sizeof(bf16)};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    auto call = bind_sequences<args<T>, T>(p, tensors);
    call.k_cache = tensors.elements<T>("k_cache").data();
    call.v_cache = tensors.elements<T>("v_cache").data();
    return call;
  }

  static void arrange(const problem&, tensor_access&) {}
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of prefill.h; a window below 1 or a negative position is refused too.
template <class T>
void validate(const window_args<T>& args, std::size_t workspace_needed);
void validate(const window_problem& problem);

}  // namespace based
