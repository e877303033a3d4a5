// The CPU form of naive in sliding_window.h: a pass over all heads for each operation, in fp32.
//
//   scores [B, H, W]   scale q K^T, then their softmax (the workspace)
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "baselines/sliding_window/sliding_window.h"
#include "kernels/core/cpu_simd.h"

namespace based::sliding_window {
namespace {

/// Calls pass(b, h, ring) for all heads, `ring` the offset of their slots in a cache.
template <class Pass>
void for_each_head(const window_problem& problem, Pass pass) {
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < problem.batch; ++b) {
    for (std::int64_t h = 0; h < problem.heads; ++h) {
      pass(b, h, (b * problem.heads + h) * problem.window * problem.head_dim);
    }
  }
}

std::size_t workspace_bytes(const window_problem& problem) {
  return static_cast<std::size_t>(problem.batch_heads()) * problem.window * sizeof(float);
}

void run(const window_args<float>& args) {
  validate(args, workspace_bytes(args.problem));
  const window_problem& problem = args.problem;
  const std::int64_t dim = problem.head_dim;
  const int filled = problem.filled();
  const float scale = problem.scale();
  const auto scores_of = [&](std::int64_t ring) {
    return static_cast<float*>(args.workspace) + ring / dim;
  };

  if (problem.append) {
    for_each_head(problem, [&](std::int64_t b, std::int64_t h, std::int64_t ring) {
      std::copy_n(args.k.token(b, h, 0), dim, args.k_cache + ring + problem.slot() * dim);
      std::copy_n(args.v.token(b, h, 0), dim, args.v_cache + ring + problem.slot() * dim);
    });
  }
  for_each_head(problem, [&](std::int64_t b, std::int64_t h, std::int64_t ring) {
    const float* q = args.q.token(b, h, 0);
    for (int j = 0; j < filled; ++j) {
      const float* key = args.k_cache + ring + j * dim;
      float dot = 0.0f;
      for (std::int64_t i = 0; i < dim; ++i) dot += q[i] * key[i];
      scores_of(ring)[j] = scale * dot;
    }
  });
  for_each_head(problem, [&](std::int64_t, std::int64_t, std::int64_t ring) {
    float* scores = scores_of(ring);
    const float maximum = *std::max_element(scores, scores + filled);
    float sum = 0.0f;
    for (int j = 0; j < filled; ++j) sum += scores[j] = std::exp(scores[j] - maximum);
    for (int j = 0; j < filled; ++j) scores[j] /= sum;
  });
  for_each_head(problem, [&](std::int64_t b, std::int64_t h, std::int64_t ring) {
    float* o = args.o.token(b, h, 0);
    std::fill_n(o, dim, 0.0f);
    for (int j = 0; j < filled; ++j) {
      const float* value = args.v_cache + ring + j * dim;
      for (std::int64_t i = 0; i < dim; ++i) o[i] += scores_of(ring)[j] * value[i];
    }
  });
}

const registration<window_decode> registered{{
    .name = "naive",
    .summary = "append, scores, softmax and weighted sum, a pass each",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .workspace_bytes = workspace_bytes,
    .executed_flops =
        [](const window_problem& problem) { return flops(problem, problem.filled()); },
    .run = run,
}};

}  // namespace
}  // namespace based::sliding_window
