// What the two chunked CUDA baselines share: the fp32 outputs in the workspace, and the second
// kernel that normalises and rounds them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "baselines/staged_rows.cuh"
#include "kernels/based/prefill.h"
#include "kernels/core/cuda_check.h"
#include "kernels/ptx/bf16x2.cuh"

namespace based::chunked {

/// The fp32 results of a first kernel, in the workspace.
struct fp32_output {
  float* o;  ///< [B*H, N, 64], not normalised
  float* z;  ///< [B*H, N], the sum of the weights; null without normalisation
};

inline std::size_t fp32_output_bytes(const prefill_problem& problem) {
  const int floats = value_dim + (problem.options.normalize ? 1 : 0);  // a token-head
  return static_cast<std::size_t>(problem.shape.tokens()) * floats * sizeof(float);
}

inline fp32_output place_output(const prefill_args<bf16>& args) {
  auto* const o = static_cast<float*>(args.workspace);
  float* const z = o + args.problem.shape.tokens() * value_dim;
  return {o, args.problem.options.normalize ? z : nullptr};
}

inline unsupported_reason no_states(const prefill_problem& problem) {
  if (problem.options.initial_state) return "the original starts from no state";
  if (problem.options.final_state) return "the original returns no state";
  return {};
}

/// Inputs and fp32 outputs of a first kernel.
struct kernel_params {
  sequence_view<const bf16> q;  // [B, H, N, 16]
  sequence_view<const bf16> k;  // [B, H, N, 16]
  sequence_view<const bf16> v;  // [B, H, N, 64]
  fp32_output out;
  std::int64_t seqlen;
  int heads;
  float scale;
};

inline kernel_params make_params(const prefill_args<bf16>& args) {
  const prefill_shape& shape = args.problem.shape;
  return {args.q,
          args.k,
          args.v,
          place_output(args),
          shape.seqlen,
          static_cast<int>(shape.heads),
          args.problem.options.scale};
}

/// The queries' fragment times the scale, rounded to bf16 again.
__device__ inline void scale_fragment(std::uint32_t (&q)[4], float scale) {
#pragma unroll
  for (std::uint32_t& word : q) {
    word = ptx::to_bf16x2(ptx::low_half(word) * scale, ptx::high_half(word) * scale);
  }
}

/// 1 + s + s^2/2.
__device__ inline float taylor_weight(float s) {
  return fmaf(fmaf(0.5f, s, 1.0f), s, 1.0f);
}

/// Enqueues the second kernel: args.o = bf16(o), or bf16(o / (z + eps)).
void cast_output(const prefill_args<bf16>& args, cuda_stream stream);

}  // namespace based::chunked
