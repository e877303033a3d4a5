// The products of a decoding step: a few rows with a weight, which is read once, and all that
// stands around them, so that a layer is a handful of kernels. On CUDA, for devices from sm_90 on.
#pragma once

#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/core/implementation.h"

namespace based::models {

/// What becomes of y = x weight^T + bias.
enum class product_output {
  activation,  ///< out = y
  residual,    ///< sums += y
  logits,      ///< sums = y
  swiglu,      ///< out = l silu(r), with y = (l, r)
  /// Based's BaseConv as gated_conv_args has it, of one token whose v are (l, r) = y:
  /// out = silu(sum_k conv_weight_k v_k) r, with the v before from the state, which l joins.
  gated_conv
};

struct step_product_args {
  std::int64_t batch;               ///< rows, most_step_rows at most
  std::int64_t inner, outer;        ///< multiples of 32 and of 8, of 16 with swiglu and gated_conv
  const bf16* x = nullptr;          ///< [batch, inner]; null: the norm of `residual`
  const float* residual = nullptr;  ///< [batch, inner]
  const float* norm_weight = nullptr;  ///< [inner], of normalize_args, as is eps
  float eps = 0;
  const bf16* weight;           ///< [outer, inner]; written by nothing that this call may overlap
  const float* bias = nullptr;  ///< [outer]; null: 0
  product_output output;
  bf16* out = nullptr;    ///< [batch, outer], with swiglu and gated_conv [batch, outer / 2]
  float* sums = nullptr;  ///< [batch, outer]
  const float* conv_weight = nullptr;  ///< [3, outer / 2]
  bf16* state = nullptr;               ///< [batch, 2, outer / 2], the latest last
};

inline constexpr std::int64_t most_step_rows = 16;

/// A norm goes with every output but residual, and x with activation and residual; other pairs, and
/// sizes that are not taken, throw invalid_argument. Reads the weight while what is before it on
/// the stream may still run, and waits for that before it reads or writes anything else.
void step_product(const step_product_args& args, cuda_stream stream);

}  // namespace based::models
