// The operation "softmax attention" over a whole sequence, the baseline of every linear attention:
//
//   o_i = sum_j softmax_j(scale q_i . k_j) v_j,   j <= i where causal
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
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
