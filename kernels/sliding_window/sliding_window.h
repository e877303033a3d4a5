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
#include <string_view>

#include "kernels/core/implementation.h"
#include "kernels/core/tensor_view.h"

namespace based {

struct window_problem {
  std::int64_t batch;
  std::int64_t heads;
  int window = 64;            ///< W, the slots of the ring
  int head_dim = 64;          ///< Dh, 64 or 128, of queries, keys and values
  std::int64_t position = 0;  ///< of the current token in its sequence, from 0
  bool append = true;         ///< write its key and value to their slot; else they are there

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

struct window_decode {
  static constexpr std::string_view name = "sliding_window";
  using problem = window_problem;
  template <class T>
  using args = window_args<T>;
};

/// As validate() of prefill.h; a window below 1 or a negative position is refused too.
template <class T>
void validate(const window_args<T>& args, std::size_t workspace_needed);
void validate(const window_problem& problem);

}  // namespace based
