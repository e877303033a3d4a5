// The CPU form of softmax_attention.h, in fp32: one task a tile of queries, which walks the tiles
// of keys with the online softmax (arXiv 2205.14135, algorithm 1):
//
//   m' = max(m, max_j s_j)   p_j = exp(s_j - m')   a = exp(m - m')
//   l' = a l + sum_j p_j     o'  = a o + sum_j p_j v_j
//
// Tiles of scores are kept transposed, [key][query]: maxima and sums over keys are then vertical.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>

#include "baselines/softmax_attention/softmax_attention.h"
#include "kernels/core/cpu_simd.h"
#include "kernels/core/head_dims.h"

namespace based::softmax {
namespace {

using cpu::lanes;
using cpu::vec;

constexpr int tile = 64;  // queries, and keys
static_assert(tile % lanes == 0);
constexpr float infinity = std::numeric_limits<float>::infinity();

/// What a task keeps between and within tiles of keys: 80 KB at Dh = 128.
template <int Dim>
struct scratch {
  alignas(64) float q[Dim][tile];         // scaled by log2(e), for 2^x
  alignas(64) float weights[tile][tile];  // s, then p: [key][query]
  alignas(64) float o[tile][Dim];
  alignas(64) float maximum[tile];  // a query
  alignas(64) float sum[tile];
  alignas(64) float correction[tile];
};

/// Replaces the tile's scores by weights, and brings maximum, sum and correction up to date.
template <int Dim>
void online_softmax(std::int64_t keys, scratch<Dim>& s) {
  for (int t = 0; t < tile; t += lanes) {
    vec maximum = cpu::load(s.maximum + t);
    for (std::int64_t j = 0; j < keys; ++j) {
      const vec score = cpu::load(&s.weights[j][t]);
      maximum = score > maximum ? score : maximum;
    }
    // A query that has seen no key yet must not meet inf - inf.
    const vec offset = maximum > -infinity ? maximum : vec{} + 0.0f;
    const vec correction = cpu::exp2_nonpositive(cpu::load(s.maximum + t) - offset);
    vec sum = cpu::load(s.sum + t) * correction;
    for (std::int64_t j = 0; j < keys; ++j) {
      const vec weight = cpu::exp2_nonpositive(cpu::load(&s.weights[j][t]) - offset);
      cpu::store(&s.weights[j][t], weight);
      sum += weight;
    }
    cpu::store(s.maximum + t, maximum);
    cpu::store(s.sum + t, sum);
    cpu::store(s.correction + t, correction);
  }
}

/// Takes the scores of the keys [m, m + keys) that queries [n, n + count) may not see away.
template <int Dim>
void mask(const attention_problem& problem, std::int64_t n, std::int64_t count, std::int64_t m,
          std::int64_t keys, scratch<Dim>& s) {
  const std::int64_t all_see_from = problem.first_key(n + count - 1);
  if (m >= all_see_from && m + keys - 1 <= problem.last_key(n)) return;
  for (std::int64_t j = 0; j < keys; ++j) {
    for (std::int64_t t = 0; t < count; ++t) {
      const bool visible = m + j >= problem.first_key(n + t) && m + j <= problem.last_key(n + t);
      if (!visible) s.weights[j][t] = -infinity;
    }
  }
}

/// Queries [n, n + tile) of one (b, h).
template <int Dim>
void attend_tile(const attention_args<float>& args, std::int64_t b, std::int64_t h,
                 std::int64_t n) {
  const attention_problem& problem = args.problem;
  const std::int64_t count = std::min<std::int64_t>(tile, problem.seqlen - n);
  const std::int64_t key_head = h / (problem.heads / problem.key_heads());
  const std::int64_t end = problem.last_key(n + count - 1) + 1;
  constexpr auto log2e = std::numbers::log2e_v<float>;
  scratch<Dim> s;
  cpu::load_transposed(args.q.token(b, h, n), args.q.token_stride, count,
                       problem.softmax_scale() * log2e, s.q);
  std::fill_n(s.o[0], tile * Dim, 0.0f);
  std::fill_n(s.maximum, tile, -infinity);
  std::fill_n(s.sum, tile, 0.0f);

  for (std::int64_t m = problem.first_key(n); m < end; m += tile) {
    const std::int64_t keys = std::min<std::int64_t>(tile, end - m);
    cpu::multiply(keys, tile, Dim, {args.k.token(b, key_head, m), args.k.token_stride, 1}, s.q[0],
                  tile, s.weights[0], tile, false);
    mask(problem, n, count, m, keys, s);
    online_softmax(keys, s);
    for (std::int64_t t = 0; t < count; ++t) {
      if (s.correction[t] == 1.0f) continue;
      for (int c = 0; c < Dim; ++c) s.o[t][c] *= s.correction[t];
    }
    cpu::multiply(count, Dim, keys, {s.weights[0], 1, tile}, args.v.token(b, key_head, m),
                  args.v.token_stride, s.o[0], Dim, true);
  }

  for (std::int64_t t = 0; t < count; ++t) {
    float* o = args.o.token(b, h, n + t);
    const float divisor = s.sum[t] > 0 ? s.sum[t] : 1.0f;  // no key: o is 0
    for (int c = 0; c < Dim; ++c) o[c] = s.o[t][c] / divisor;
    if (problem.lse) {
      args.lse[(b * problem.heads + h) * problem.seqlen + n + t] =
          (s.maximum[t] + std::log2(s.sum[t])) / log2e;
    }
  }
}

template <int Dim>
void attend(const attention_args<float>& args) {
  const std::int64_t tiles = (args.problem.seqlen + tile - 1) / tile;
#pragma omp parallel for collapse(3) schedule(dynamic)
  for (std::int64_t t = tiles - 1; t >= 0; --t) {  // the longest first
    for (std::int64_t b = 0; b < args.problem.batch; ++b) {
      for (std::int64_t h = 0; h < args.problem.heads; ++h) attend_tile<Dim>(args, b, h, t * tile);
    }
  }
}

void run(const attention_args<float>& args) {
  validate(args, 0);
  with_head_dim(args.problem.head_dim, [&]<int Dim>() { attend<Dim>(args); });
}

double executed_flops(const attention_problem& problem) {
  double pairs = 0;
  for (std::int64_t n = 0; n < problem.seqlen; n += tile) {
    const std::int64_t last = std::min<std::int64_t>(n + tile, problem.seqlen) - 1;
    const std::int64_t keys = problem.last_key(last) + 1 - problem.first_key(n);
    if (keys > 0) pairs += static_cast<double>((keys + tile - 1) / tile * tile) * tile;
  }
  constexpr double softmax = 20;  // an exponential, a maximum, a sum
  return static_cast<double>(problem.batch * problem.heads) * pairs *
         (4.0 * problem.head_dim + softmax);
}

const registration<attention> registered{{
    .name = "softmax_attention",
    .summary = "tiled with online softmax",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based::softmax
