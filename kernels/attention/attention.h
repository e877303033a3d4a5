// The operation "softmax attention" over a whole sequence, the baseline of every linear attention:
//
//   o_i = sum_j softmax_j(scale q_i . k_j) v_j,   j <= i where causal
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/core/operation.h"
#include "kernels/core/tensor_view.h"

namespace based {

struct attention_problem {
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  std::int64_t seqlen = 1;
  int head_dim = 64;  ///< 64 or 128, of queries, keys and values
  bool causal = true;

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }
};

/// Tensors are on the implementation's device: T is float on the CPU, bf16 on CUDA.
template <class T>
struct attention_args {
  attention_problem problem;
  sequence_view<const T> q;  ///< [B, H, N, Dh]
  sequence_view<const T> k;  ///< [B, H, N, Dh]
  sequence_view<const T> v;  ///< [B, H, N, Dh]
  sequence_view<T> o;        ///< [B, H, N, Dh]
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// The operation's one description (operation.h).
struct attention {
  static constexpr std::string_view name = "attention";
  using problem = attention_problem;
  template <class T>
  using args = attention_args<T>;

  static constexpr float qkv_stddev = 1.0f;  // scores of deviation 1 after 1/sqrt(Dh)

  static std::vector<axis<problem>> axes() {
    return {
        number_axis<problem>(
            {.flag = "batch", .label = "B", .help = "Batch sizes", .cpu = "1", .cuda = "1,4,16"},
            [](auto& p) -> auto& { return p.batch; }),
        number_axis<problem>(
            {.flag = "heads", .label = "H", .help = "Numbers of heads", .cpu = "4", .cuda = "16"},
            [](auto& p) -> auto& { return p.heads; }),
        number_axis<problem>(
            {.flag = "seqlen",
             .label = "N",
             .help = "Sequence lengths",
             .cpu = "256:4096:*2",
             .cuda = "1024:32768:*2",
             .tested = "1,63,64,65,1000,4097"},
            [](auto& p) -> auto& { return p.seqlen; }),
        choice_axis<problem, int>(
            {.flag = "head-dim", .label = "Dh", .help = "Head dimensions"},
            {{"64", 64}, {"128", 128}}, [](auto& p) -> auto& { return p.head_dim; }),
        choice_axis<problem, bool>(
            {.flag = "causal", .label = "causal", .help = "Whether attention is causal"},
            {{"0", false}, {"1", true}}, [](auto& p) -> auto& { return p.causal; })};
  }

  static std::vector<tensor_spec> tensors(const problem& p, element_type io) {
    using enum tensor_role;
    const auto sequence = [&](std::string_view name, tensor_role role) {
      return tensor_spec{name,       role, io, {p.batch, p.heads, p.seqlen, p.head_dim},
                         qkv_stddev, true};
    };
    return {sequence("q", input), sequence("k", input), sequence("v", input),
            sequence("o", output)};
  }

  static operation_work work(const problem& p) {
    const auto per_token = static_cast<double>(p.heads) * p.head_dim;
    const auto tokens = static_cast<double>(p.batch * p.seqlen);
    const double all_pairs = 4.0 * tokens * static_cast<double>(p.seqlen) * per_token;
    const double flops = p.causal ? all_pairs / 2 : all_pairs;
    return {.nominal_flops = flops,
            .least_flops = flops,
            .tokens = tokens,
            // The KV cache, in bf16, that a decoder would keep.
            .state_bytes = 2.0 * static_cast<double>(p.seqlen) * per_token * sizeof(bf16)};
  }

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .q = tensors.sequence<const T>("q"),
            .k = tensors.sequence<const T>("k"),
            .v = tensors.sequence<const T>("v"),
            .o = tensors.sequence<T>("o")};
  }

  static void arrange(const problem&, tensor_access&) {}
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of prefill.h.
template <class T>
void validate(const attention_args<T>& args, std::size_t workspace_needed);
void validate(const attention_problem& problem);

}  // namespace based
