// The operation "attention": softmax attention over a whole sequence, the strongest opponent of
// every linear attention.
//
//   o_i = sum_j softmax_j(scale q_i . k_j) v_j
//
// over the keys j that query i may see. With N queries and Nkv keys, aligned at their ends, these
// are all; where causal, j <= i + Nkv - N; with a window of W keys, of these the last W, itself
// included: j > i + Nkv - N - W. A query that may see no key (causal, and i < N - Nkv) has o = 0
// and a log-sum-exp of -inf.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/core/sequence_operation.h"
#include "kernels/core/tensor_view.h"

namespace based {

/// What a sweep's queries and keys look like beyond being random: inputs on which an implementation
/// that guesses the largest score of a row from some of its keys guesses wrong.
enum class attention_inputs {
  normal,
  sink,    ///< the first key is 40 times as large
  growing  ///< keys grow along the sequence, to 16 times
};

struct attention_problem {
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  std::int64_t seqlen = 1;
  int head_dim = 64;  ///< one of head_dims, of queries, keys and values
  bool causal = true;
  std::int64_t kv_heads = 0;   ///< of keys and values, of which `heads` is a multiple; 0: `heads`
  std::int64_t kv_seqlen = 0;  ///< keys and values; 0: `seqlen`
  std::int64_t window = 0;     ///< keys that a query may see, where causal; 0: no limit
  float scale = 0;             ///< of the scores; 0: 1/sqrt(head_dim)
  bool lse = false;            ///< the log-sum-exp of each query's scaled scores is wanted
  std::string_view variant = {};  ///< forces one of an implementation's; empty: it chooses
  attention_inputs inputs = attention_inputs::normal;  ///< of a sweep; no implementation reads it

  constexpr std::int64_t key_heads() const { return kv_heads == 0 ? heads : kv_heads; }
  constexpr std::int64_t keys() const { return kv_seqlen == 0 ? seqlen : kv_seqlen; }
  float softmax_scale() const {
    return scale == 0 ? 1.0f / std::sqrt(static_cast<float>(head_dim)) : scale;
  }
  /// Query i may see keys first_key(i) .. last_key(i), none where that is empty.
  constexpr std::int64_t last_key(std::int64_t i) const {
    return causal ? i + keys() - seqlen : keys() - 1;
  }
  constexpr std::int64_t first_key(std::int64_t i) const {
    return window == 0 || last_key(i) < window ? 0 : last_key(i) - window + 1;
  }
  /// Pairs of a query and a key that it sees, of one head.
  double pairs() const {
    const auto queries = static_cast<double>(seqlen), all = static_cast<double>(keys());
    if (!causal) return queries * all;
    const auto limit = static_cast<double>(window == 0 ? keys() : std::min(window, keys()));
    // The last queries see `limit` keys each; those before them one fewer each, down to the first.
    const double seen_first = std::max(all - queries + 1, 0.0);
    const double rising =
        std::min(queries - std::max(queries - all, 0.0), std::max(limit - seen_first, 0.0));
    const double start = std::max(seen_first, 1.0);
    const double whole = queries - std::max(queries - all, 0.0) - rising;
    return rising * (2 * start + rising - 1) / 2 + whole * limit;
  }
  bool operator==(const attention_problem&) const = default;
};

/// T is float on the CPU, bf16 or fp16 on CUDA; tensors are on the implementation's device.
template <class T>
struct attention_args {
  attention_problem problem;
  sequence_view<const T> q;  ///< [B, H, N, Dh]
  sequence_view<const T> k;  ///< [B, Hkv, Nkv, Dh]; query head h has key head h / (H / Hkv)
  sequence_view<const T> v;  ///< [B, Hkv, Nkv, Dh]
  sequence_view<T> o;        ///< [B, H, N, Dh], apart from the others
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  std::span<float> lse = {};  ///< [B, H, N], contiguous, natural logarithms; where it is wanted
};

/// The operation's one description (operation.h).
struct attention {
  static constexpr std::string_view name = "attention";
  using problem = attention_problem;
  template <class T>
  using args = attention_args<T>;

  static constexpr float qkv_stddev = 1.0f;  // scores of deviation 1 after 1/sqrt(Dh)

  static std::vector<axis<problem>> axes() {
    return sequence_axes<problem>(
        [](auto& p) -> auto& { return p; },
        {head_dim_axis<problem>({.flag = "head-dim", .label = "Dh", .help = "Head dimensions"}),
         choice_axis<problem, bool>(
             {.flag = "causal", .label = "causal", .help = "Whether attention is causal"},
             {{"0", false}, {"1", true}}, [](auto& p) -> auto& { return p.causal; }),
         number_axis<problem>(
             {.flag = "kv-heads",
              .label = "Hkv",
              .help = "Heads of keys and values",
              .tested = "1",
              .usual = std::int64_t{0}},
             [](auto& p) -> auto& { return p.kv_heads; }),
         number_axis<problem>(
             {.flag = "kv-seqlen",
              .label = "Nkv",
              .help = "Numbers of keys",
              .tested = "1,100,200,321",
              .usual = std::int64_t{0}},
             [](auto& p) -> auto& { return p.kv_seqlen; }),
         number_axis<problem>(
             {.flag = "window",
              .label = "W",
              .help = "Keys that a query sees",
              .tested = "1,64,65,1000",
              .usual = std::int64_t{0}},
             [](auto& p) -> auto& { return p.window; }),
         real_axis<problem>(
             {.flag = "scale",
              .label = "scale",
              .help = "Scale of q.k",
              .tested = "0.5",
              .usual = 0.0},
             [](auto& p) -> auto& { return p.scale; }),
         options_axis<problem>(
             {.flag = "options", .label = "options", .help = "What is asked for beyond o"},
             {{"lse", [](problem& p) -> bool& { return p.lse; }}}),
         choice_axis<problem, attention_inputs>(
             {.flag = "inputs",
              .label = "inputs",
              .help = "What queries and keys look like",
              .usual = std::string("normal")},
             {{"normal", attention_inputs::normal},
              {"sink", attention_inputs::sink},
              {"growing", attention_inputs::growing}},
             [](auto& p) -> auto& { return p.inputs; })});
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    const auto sequence = [&](std::string_view name, tensor_role role, std::int64_t heads,
                              std::int64_t tokens) {
      return tensor_spec{name, role, io, {p.batch, heads, tokens, p.head_dim}, qkv_stddev, true};
    };
    std::vector<tensor_spec> all = {
        sequence("q", input, p.heads, p.seqlen), sequence("k", input, p.key_heads(), p.keys()),
        sequence("v", input, p.key_heads(), p.keys()), sequence("o", output, p.heads, p.seqlen)};
    if (p.lse) {
      all.push_back({.name = "lse",
                     .role = output,
                     .type = element_type::f32,
                     .shape = {p.batch, p.heads, p.seqlen},
                     .may_be_infinite = true});
    }
    return all;
  }

  static operation_work work(const problem& p) {
    const double head_flops = 4.0 * p.pairs() * p.head_dim;
    // The sources halve all pairs where causal, and count no diagonal.
    const double nominal =
        p.causal && p.window == 0 && p.keys() == p.seqlen
            ? 2.0 * static_cast<double>(p.seqlen) * static_cast<double>(p.seqlen) * p.head_dim
            : head_flops;
    const auto heads = static_cast<double>(p.batch * p.heads);
    return {.nominal_flops = heads * nominal,
            .least_flops = heads * std::min(nominal, head_flops),
            .tokens = static_cast<double>(p.batch * p.seqlen),
            // The KV cache, in bf16, that a decoder would keep.
            .state_bytes = 2.0 * static_cast<double>(p.window == 0 ? p.keys() : p.window) *
                           static_cast<double>(p.key_heads()) * p.head_dim * sizeof(bf16)};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    auto call = bind_sequences<args<T>, T>(p, tensors);
    call.lse = tensors.elements<float>("lse");
    return call;
  }

  static void arrange(const problem& p, tensor_access& tensors);
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of prefill.h.
template <class T>
void validate(const attention_args<T>& args, std::size_t workspace_needed);
void validate(const attention_problem& problem);

}  // namespace based
