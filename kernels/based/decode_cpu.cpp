// Based decode on the CPU, in fp32: one task a (batch, head), one pass over its compact state.
//
//   S += phi_k(k) v^T,   z += phi_k(k),   o = phi_q(q)^T S   (/ (phi_q(q)^T z + eps))
#include <cstddef>
#include <cstdint>

#include "kernels/based/decode.h"
#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"

namespace based {
namespace {

using cpu::lanes;
using cpu::vec;

constexpr int vectors = value_dim / lanes;

/// The 153 features of features.h, weighted.
void map(const float* x, float linear, float square, float product, float* phi) {
  phi[0] = 1.0f;
  for (int i = 0; i < feature_dim; ++i) {
    phi[first_linear_row + i] = linear * x[i];
    phi[product_row(i, i)] = square * x[i] * x[i];
    for (int j = i + 1; j < feature_dim; ++j) phi[product_row(i, j)] = product * x[i] * x[j];
  }
}

void step(const decode_args<float>& args, std::int64_t b, std::int64_t h) {
  const decode_problem& problem = args.problem;
  const std::int64_t head = b * problem.heads + h;
  const float scale = problem.scale;
  float phi_q[compact_features], phi_k[compact_features];
  map(args.q.token(b, h, 0), scale, 0.5f * scale * scale, scale * scale, phi_q);
  map(args.k.token(b, h, 0), 1.0f, 1.0f, 1.0f, phi_k);

  float normalizer = 1.0f;
  if (problem.normalize) {
    float* z = args.z + head * compact_features;
    normalizer = problem.eps;
    for (int r = 0; r < compact_features; ++r) {
      z[r] += phi_k[r];
      normalizer += phi_q[r] * z[r];
    }
  }

  float* kv = static_cast<float*>(args.kv) + head * compact_features * value_dim;
  vec value[vectors], out[vectors] = {};
  for (int i = 0; i < vectors; ++i) value[i] = cpu::load(args.v.token(b, h, 0) + i * lanes);
  for (int r = 0; r < compact_features; ++r) {
    float* row = kv + r * value_dim;
    for (int i = 0; i < vectors; ++i) {
      const vec state = cpu::load(row + i * lanes) + phi_k[r] * value[i];
      cpu::store(row + i * lanes, state);
      out[i] += phi_q[r] * state;
    }
  }
  float* o = args.o.token(b, h, 0);
  for (int i = 0; i < vectors; ++i) cpu::store(o + i * lanes, out[i] / normalizer);
}

void run(const decode_args<float>& args) {
  validate(args, 0);
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < args.problem.batch; ++b) {
    for (std::int64_t h = 0; h < args.problem.heads; ++h) step(args, b, h);
  }
}

unsupported_reason unsupported(const decode_problem& problem) {
  if (problem.layout != decode_layout::compact) return "takes the compact state";
  if (problem.state != state_type::f32) return "keeps its state in fp32";
  return {};
}

double executed_flops(const decode_problem& problem) {
  constexpr int feature_flops = 3;  // two products for q, one for k
  return static_cast<double>(problem.batch_heads()) * compact_features *
         (4.0 * value_dim + feature_flops);
}

const registration<based_decode> registered{{
    .name = "based",
    .summary = "one pass over the compact state, one task a head",
    .role = implementation_role::ours,
    .tolerance = cpu::tolerance,
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based
