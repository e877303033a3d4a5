// The CPU form of chunked.h's chunked_parallel, in fp32: one task a tile of queries, all tasks
// independent.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "baselines/chunked/chunked.h"
#include "kernels/based/cpu_taylor.h"
#include "kernels/based/prefill.h"
#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"

namespace based::chunked {
namespace {

constexpr int tile = 64;  // queries, and keys

/// Queries [n, n + tile) of one (b, h) against all keys up to their own.
void prefill_tile(const prefill_args<float>& args, std::int64_t b, std::int64_t h, std::int64_t n) {
  const prefill_options& options = args.problem.options;
  const std::int64_t count = std::min<std::int64_t>(tile, args.problem.shape.seqlen - n);
  alignas(64) float q[feature_dim][tile];  // scaled
  alignas(64) float weights[tile][tile];   // [key][query]
  alignas(64) float sums[tile];            // of weights, a query
  float* o = args.o.token(b, h, n);
  cpu::load_transposed(args.q.token(b, h, n), args.q.token_stride, count, options.scale, q);
  std::fill_n(sums, tile, options.eps);

  for (std::int64_t m = 0; m <= n; m += tile) {
    const bool diagonal = m == n;
    const std::int64_t keys = diagonal ? count : tile;
    cpu::taylor_weights(args.k.token(b, h, m), args.k.token_stride, keys, diagonal, q, weights);
    cpu::multiply(count, value_dim, keys, {weights[0], 1, tile}, args.v.token(b, h, m),
                  args.v.token_stride, o, args.o.token_stride, m > 0);
    if (options.normalize) cpu::add_rows(weights, keys, sums);
  }
  if (options.normalize) cpu::divide_rows(o, args.o.token_stride, count, value_dim, sums);
}

void prefill(const prefill_args<float>& args) {
  validate(args, 0);
  const prefill_shape shape = args.problem.shape;
  const std::int64_t tiles = (shape.seqlen + tile - 1) / tile;
#pragma omp parallel for collapse(3) schedule(dynamic)
  for (std::int64_t t = tiles - 1; t >= 0; --t) {  // the longest first
    for (std::int64_t b = 0; b < shape.batch; ++b) {
      for (std::int64_t h = 0; h < shape.heads; ++h) prefill_tile(args, b, h, t * tile);
    }
  }
}

unsupported_reason unsupported(const prefill_problem& problem) {
  if (problem.options.initial_state) return "has no recurrent state to start from";
  if (problem.options.final_state) return "has no recurrent state to write";
  return std::nullopt;
}

double executed_flops(const prefill_problem& problem) {
  const std::int64_t tiles = (problem.shape.seqlen + tile - 1) / tile;
  const std::int64_t tile_pairs = tiles * (tiles + 1) / 2;
  const double pair = 2 * (feature_dim + value_dim) + 4;  // s, its polynomial, times v
  return static_cast<double>(problem.shape.batch_heads() * tile_pairs) * tile * tile * pair;
}

const registration<based_prefill> registered{{
    .name = "chunked_parallel",
    .summary = "quadratic tiles of weights, parallel over queries, after FLA's parallel form",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = prefill,
}};

}  // namespace
}  // namespace based::chunked
