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
#include "kernels/core/implementation.h"
#include "kernels/core/tensor_view.h"

namespace based {

struct prefill_shape {
  std::int64_t batch;
  std::int64_t heads;
  std::int64_t seqlen;

  constexpr std::int64_t batch_heads() const { return batch * heads; }
  constexpr std::int64_t tokens() const { return batch * heads * seqlen; }  ///< token-heads
};

struct prefill_options {
  float scale = 0.25f;     ///< 1/sqrt(16)
  bool normalize = false;  ///< divide o_i by sum_j (1 + s + s^2/2) + eps
  float eps = 1e-6f;
  bool initial_state = false;  ///< continue from args.initial_state instead of zero
  bool final_state = false;    ///< write args.final_state (z too where normalising)
};

struct prefill_problem {
  prefill_shape shape;
  prefill_options options = {};
  std::string_view variant = {};  ///< forces one variant of an implementation; empty: it chooses
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

struct based_prefill {
  static constexpr std::string_view name = "prefill";
  using problem = prefill_problem;
  template <class T>
  using args = prefill_args<T>;
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
