// Sliding-window decode on the CPU, in fp32: one task a (batch, head), two passes over its ring,
//
//   s_j = scale q . k_j,   then   o = sum_j exp(s_j - max s) v_j / sum_j exp(s_j - max s).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "kernels/core/cpu_simd.h"
#include "kernels/core/head_dims.h"
#include "kernels/core/implementation.h"
#include "kernels/sliding_window/sliding_window.h"

namespace based {
namespace {

using cpu::lanes;
using cpu::vec;

/// `weights` has room for the filled slots, rounded up to whole vectors.
template <int Dim>
void attend(const window_args<float>& args, std::int64_t b, std::int64_t h,
            std::vector<float>& weights) {
  constexpr int vectors = Dim / lanes;
  const window_problem& problem = args.problem;
  const std::int64_t ring = (b * problem.heads + h) * problem.window * Dim;
  float* keys = args.k_cache + ring;    // [W, Dh]
  float* values = args.v_cache + ring;  // [W, Dh]
  if (problem.append) {
    std::copy_n(args.k.token(b, h, 0), Dim, keys + problem.slot() * std::int64_t{Dim});
    std::copy_n(args.v.token(b, h, 0), Dim, values + problem.slot() * std::int64_t{Dim});
  }

  const float* q = args.q.token(b, h, 0);
  const float scale = problem.scale() * std::numbers::log2e_v<float>;
  const int filled = problem.filled();
  float maximum = -std::numeric_limits<float>::infinity();
  for (int j = 0; j < filled; ++j) {
    const float* key = keys + j * std::int64_t{Dim};
    vec products = {};
    for (int i = 0; i < vectors; ++i) {
      products += cpu::load(q + i * lanes) * cpu::load(key + i * lanes);
    }
    float score = 0.0f;
    for (int i = 0; i < lanes; ++i) score += products[i];
    weights[j] = score * scale;
    maximum = std::max(maximum, weights[j]);
  }

  float sum = 0.0f;
  vec out[vectors] = {};
  for (int first = 0; first < filled; first += lanes) {
    const vec weight = cpu::exp2_nonpositive(cpu::load(weights.data() + first) - maximum);
    for (int j = first; j < std::min(first + lanes, filled); ++j) {
      const float w = weight[j - first];
      const float* value = values + j * std::int64_t{Dim};
      sum += w;
      for (int i = 0; i < vectors; ++i) out[i] += w * cpu::load(value + i * lanes);
    }
  }
  float* o = args.o.token(b, h, 0);
  for (int i = 0; i < vectors; ++i) cpu::store(o + i * lanes, out[i] / sum);
}

void run(const window_args<float>& args) {
  validate(args, 0);
  const window_problem& problem = args.problem;
#pragma omp parallel
  {
    std::vector<float> weights(problem.filled() + lanes);
#pragma omp for collapse(2)
    for (std::int64_t b = 0; b < problem.batch; ++b) {
      for (std::int64_t h = 0; h < problem.heads; ++h) {
        with_head_dim(problem.head_dim, [&]<int Dim>() { attend<Dim>(args, b, h, weights); });
      }
    }
  }
}

double executed_flops(const window_problem& problem) {
  constexpr double softmax = 20;  // an exponential, a maximum, a sum
  return static_cast<double>(problem.batch_heads()) * problem.filled() *
         (4.0 * problem.head_dim + softmax);
}

const registration<window_decode> registered{{
    .name = "based",
    .summary = "scores, then weighted values, one task a head",
    .role = implementation_role::ours,
    .tolerance = cpu::tolerance,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based
