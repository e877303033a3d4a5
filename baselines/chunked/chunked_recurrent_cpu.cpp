// The CPU form of chunked.h's chunked_recurrent, in fp32: one task a (b, h) and slice of columns,
// serial over the chunks of its sequence.
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

constexpr int features = expanded_features;
constexpr int chunk = 32;
constexpr int width = 32;  // columns of V a task: its state of 35 KB and one tile of features stay
                           // in the second level of cache
/// What a task keeps between and within chunks.
struct scratch {
  alignas(64) float state[features][width];
  alignas(64) float phi[features][chunk];
  alignas(64) float q[feature_dim][chunk];  // scaled
  alignas(64) float k[feature_dim][chunk];
  alignas(64) float weights[chunk][chunk];  // [key][query]
  alignas(64) float sums[chunk];            // of weights, a query
  double z[features];
};

/// Columns [column, column + width) of one (b, h).
void prefill_slice(const prefill_args<float>& args, std::int64_t b, std::int64_t h, int column) {
  const prefill_options& options = args.problem.options;
  const std::int64_t seqlen = args.problem.shape.seqlen;
  const std::int64_t head = b * args.problem.shape.heads + h;
  scratch s;
  std::fill_n(s.state[0], features * width, 0.0f);
  std::fill_n(s.z, features, 0.0);
  if (options.initial_state) {
    cpu::expand_state(args.initial_state.kv_head(head) + column, value_dim, width, s.state[0]);
    if (options.normalize) cpu::expand_state(args.initial_state.z_head(head), 1, 1, s.z);
  }

  for (std::int64_t n = 0; n < seqlen; n += chunk) {
    const std::int64_t count = std::min<std::int64_t>(chunk, seqlen - n);
    const float* k = args.k.token(b, h, n);
    const float* v = args.v.token(b, h, n) + column;
    float* o = args.o.token(b, h, n) + column;

    // What earlier chunks contribute, through the state.
    cpu::load_transposed(args.q.token(b, h, n), args.q.token_stride, count, options.scale, s.q);
    cpu::expanded_features_of(s.q, 0.5f, s.phi);
    cpu::multiply(count, width, features, {s.phi[0], 1, chunk}, s.state[0], width, o,
                  args.o.token_stride, false);

    // What the chunk contributes to itself.
    cpu::taylor_weights(k, args.k.token_stride, count, true, s.q, s.weights);
    cpu::multiply(count, width, count, {s.weights[0], 1, chunk}, v, args.v.token_stride, o,
                  args.o.token_stride, true);

    if (options.normalize) {
      std::fill_n(s.sums, chunk, options.eps);
      cpu::add_weighted_rows(s.phi, features, s.z, s.sums);
      cpu::add_rows(s.weights, count, s.sums);
      cpu::divide_rows(o, args.o.token_stride, count, width, s.sums);
    }

    cpu::load_transposed(k, args.k.token_stride, count, 1.0f, s.k);
    cpu::expanded_features_of(s.k, 1.0f, s.phi);
    cpu::multiply(features, width, count, {s.phi[0], chunk, 1}, v, args.v.token_stride, s.state[0],
                  width, true);
    if (options.normalize) cpu::add_tokens(s.phi, features, count, s.z);
  }

  if (options.final_state) {
    cpu::compact_state(s.state[0], width, value_dim, args.final_state.kv_head(head) + column);
    if (options.normalize && column == 0) {
      cpu::compact_state(s.z, 1, 1, args.final_state.z_head(head));
    }
  }
}

void prefill(const prefill_args<float>& args) {
  validate(args, 0);
  const prefill_shape shape = args.problem.shape;
#pragma omp parallel for collapse(3) schedule(dynamic)
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      for (int column = 0; column < value_dim; column += width) {
        prefill_slice(args, b, h, column);
      }
    }
  }
}

double executed_flops(const prefill_problem& problem) {
  constexpr int slices = value_dim / width;
  constexpr double products = 2.0 * 2 * feature_dim * feature_dim;     // of q and of k
  constexpr double weights = 2.0 * chunk * feature_dim + 4.0 * chunk;  // and their polynomial
  constexpr double state = 2.0 * 2 * features * value_dim;             // read and update
  constexpr double values = 2.0 * chunk * value_dim;
  return problem.shape.tokens() * (slices * (products + weights) + state + values);
}

const registration<based_prefill> registered{{
    .name = "chunked_recurrent",
    .summary = "serial over chunks with the state of 273 features carried, after FLA's fused_chunk",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .executed_flops = executed_flops,
    .run = prefill,
}};

}  // namespace
}  // namespace based::chunked
