// The CPU form of causal_dot_product.h, in fp32.
//
//   mapped_q, mapped_k  [B,H,N,273]  the operation's inputs, in the workspace
//   state               [273, 64]    a task's own
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "baselines/causal_dot_product/causal_dot_product.h"
#include "kernels/based/cpu_taylor.h"
#include "kernels/core/cpu_simd.h"

namespace based::causal_dot_product {
namespace {

constexpr int features = expanded_features;

std::size_t workspace_bytes(const prefill_problem& problem) {
  return problem.shape.tokens() * 2 * features * sizeof(float);
}

/// The recurrence of one (b, h) over its mapped queries and keys [N, 273].
void causal_product(const prefill_args<float>& args, std::int64_t b, std::int64_t h,
                    const float* mapped_q, const float* mapped_k) {
  const prefill_options& options = args.problem.options;
  const std::int64_t head = b * args.problem.shape.heads + h;
  alignas(64) float state[features * value_dim] = {};
  double z[features] = {};  // its rounding would grow with the tokens in fp32
  if (options.initial_state) {
    cpu::expand_state(args.initial_state.kv_head(head), value_dim, value_dim, state);
    if (options.normalize) cpu::expand_state(args.initial_state.z_head(head), 1, 1, z);
  }

  for (std::int64_t n = 0; n < args.problem.shape.seqlen; ++n) {
    const float* phi_q = mapped_q + n * features;
    const float* phi_k = mapped_k + n * features;
    const float* v = args.v.token(b, h, n);
    float* o = args.o.token(b, h, n);

    cpu::multiply(features, value_dim, 1, {phi_k, 1, 1}, v, value_dim, state, value_dim, true);
    cpu::multiply(1, value_dim, features, {phi_q, features, 1}, state, value_dim, o, value_dim,
                  false);

    if (options.normalize) {
      float weights = options.eps;
      for (int r = 0; r < features; ++r) {
        z[r] += phi_k[r];
        weights += phi_q[r] * static_cast<float>(z[r]);
      }
      for (int c = 0; c < value_dim; ++c) o[c] /= weights;
    }
  }

  if (options.final_state) {
    cpu::compact_state(state, value_dim, value_dim, args.final_state.kv_head(head));
    if (options.normalize) cpu::compact_state(z, 1, 1, args.final_state.z_head(head));
  }
}

void prefill(const prefill_args<float>& args) {
  validate(args, workspace_bytes(args.problem));
  const prefill_shape shape = args.problem.shape;
  float* mapped_q = static_cast<float*>(args.workspace);
  float* mapped_k = mapped_q + shape.tokens() * features;
#pragma omp parallel for collapse(3)
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      for (std::int64_t n = 0; n < shape.seqlen; ++n) {
        const std::int64_t row = ((b * shape.heads + h) * shape.seqlen + n) * features;
        cpu::expanded_features_of(args.q.token(b, h, n), args.problem.options.scale, 0.5f,
                                  mapped_q + row);
        cpu::expanded_features_of(args.k.token(b, h, n), 1.0f, 1.0f, mapped_k + row);
      }
    }
  }
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const std::int64_t row = (b * shape.heads + h) * shape.seqlen * features;
      causal_product(args, b, h, mapped_q + row, mapped_k + row);
    }
  }
}

const registration<based_prefill> registered{{
    .name = "causal_dot_product",
    .summary = "token-serial recurrence over 273 mapped features, after Fast Transformers",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .workspace_bytes = workspace_bytes,
    .executed_flops =
        [](const prefill_problem& problem) {
          return problem.shape.tokens() * flops_per_token(features);
        },
    .run = prefill,
}};

}  // namespace
}  // namespace based::causal_dot_product
