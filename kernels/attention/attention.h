// The operation "softmax attention" over a whole sequence, the baseline of every linear attention:
//
//   o_i = sum_j softmax_j(scale q_i . k_j) v_j
//
// over the keys j that query i may see. With N queries and Nkv keys, aligned at their ends, these
// are all; where causal, j <= i + Nkv - N; with a window of W keys, of these the last W, itself
// included: j > i + Nkv - N - W. A query that may see no key (causal, and i < N - Nkv) has o = 0 and
// a log-sum-exp of -inf.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/core/implementation.h"
#include "kernels/core/tensor_view.h"

namespace based {

struct attention_problem {
  std::int64_t batch;
  std::int64_t heads;
  std::int64_t seqlen;
  int head_dim = 64;  ///< 64 or 128, of queries, keys and values
  bool causal = true;
  std::int64_t kv_heads = 0;   ///< of keys and values, of which `heads` is a multiple; 0: `heads`
  std::int64_t kv_seqlen = 0;  ///< keys and values; 0: `seqlen`
  std::int64_t window = 0;     ///< keys that a query may see, where causal; 0: no limit
  float scale = 0;             ///< of the scores; 0: 1/sqrt(head_dim)
  bool lse = false;            ///< the log-sum-exp of each query's scaled scores is wanted
  std::string_view variant{};  ///< to force one of an implementation's; empty: it chooses

  std::int64_t key_heads() const { return kv_heads == 0 ? heads : kv_heads; }
  std::int64_t keys() const { return kv_seqlen == 0 ? seqlen : kv_seqlen; }
  float softmax_scale() const {
    return scale == 0 ? 1.0f / std::sqrt(static_cast<float>(head_dim)) : scale;
  }
  /// Of a query at i: it may see keys first_key(i) .. last_key(i), none where that is empty.
  std::int64_t last_key(std::int64_t i) const {
    return causal ? i + keys() - seqlen : keys() - 1;
  }
  std::int64_t first_key(std::int64_t i) const {
    return window == 0 || last_key(i) < window ? 0 : last_key(i) - window + 1;
  }
};

/// Tensors are on the implementation's device: T is float on the CPU, bf16 or fp16 on CUDA.
template <class T>
struct attention_args {
  attention_problem problem;
  sequence_view<const T> q;  ///< [B, H, N, Dh]
  sequence_view<const T> k;  ///< [B, Hkv, Nkv, Dh]; query head h has key head h / (H / Hkv)
  sequence_view<const T> v;  ///< [B, Hkv, Nkv, Dh]
  sequence_view<T> o;        ///< [B, H, N, Dh], apart from the others
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  std::span<float> lse{};  ///< [B, H, N], contiguous, natural logarithms; unused where not wanted
};

struct softmax_attention {
  static constexpr std::string_view name = "prefill";  // its rows stand beside Based's
  using problem = attention_problem;
  template <class T>
  using args = attention_args<T>;
};

/// As validate() of prefill.h.
template <class T>
void validate(const attention_args<T>& args, std::size_t workspace_needed);
void validate(const attention_problem& problem);

}  // namespace based
