// The CPU form of naive in decode.h: a pass over all heads for each operation, in fp32.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "baselines/decode/decode.h"
#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"

namespace based::decode {
namespace {

/// Calls pass(b, h, row), `row` the head's first row of all states.
template <class Pass>
void for_each_head(const decode_problem& problem, Pass pass) {
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < problem.batch; ++b) {
    for (std::int64_t h = 0; h < problem.heads; ++h) {
      pass(b, h, (b * problem.heads + h) * padded_features);
    }
  }
}

void run(const decode_args<float>& args) {
  validate(args, 0);
  const decode_problem& problem = args.problem;
  auto* kv = static_cast<float*>(args.kv);
  if (problem.normalize) {
    for_each_head(problem, [&](std::int64_t b, std::int64_t h, std::int64_t row) {
      const float* k = args.k.token(b, h, 0);
      for (int r = 0; r < padded_features; ++r) args.z[row + r] += k[r];
    });
  }
  for_each_head(problem, [&](std::int64_t b, std::int64_t h, std::int64_t row) {
    const float* k = args.k.token(b, h, 0);
    const float* v = args.v.token(b, h, 0);
    for (int r = 0; r < padded_features; ++r) {
      for (int c = 0; c < value_dim; ++c) kv[(row + r) * value_dim + c] += k[r] * v[c];
    }
  });
  for_each_head(problem, [&](std::int64_t b, std::int64_t h, std::int64_t row) {
    const float* q = args.q.token(b, h, 0);
    float* o = args.o.token(b, h, 0);
    std::fill_n(o, value_dim, 0.0f);
    for (int r = 0; r < padded_features; ++r) {
      for (int c = 0; c < value_dim; ++c) o[c] += q[r] * kv[(row + r) * value_dim + c];
    }
  });
  if (problem.normalize) {
    for_each_head(problem, [&](std::int64_t b, std::int64_t h, std::int64_t row) {
      const float* q = args.q.token(b, h, 0);
      float* o = args.o.token(b, h, 0);
      float sum = problem.eps;
      for (int r = 0; r < padded_features; ++r) sum += q[r] * args.z[row + r];
      for (int c = 0; c < value_dim; ++c) o[c] /= sum;
    });
  }
}

unsupported_reason unsupported(const decode_problem& problem) {
  if (problem.layout != decode_layout::padded) return "takes the padded state";
  if (problem.state != state_type::f32) return "keeps its state in fp32";
  return {};
}

const registration<based_decode> registered{{
    .name = "naive",
    .summary = "state updates and contraction, a pass each",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .adapt = [](decode_problem& problem) { problem.layout = decode_layout::padded; },
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based::decode
