// Based prefill on the CPU: the chunked form over the 153 distinct features, in fp32.
//
// Per chunk of C tokens, with the state S [153, 64] of all tokens before it:
//
//   O  = phi_q(Q) S + (W V),   W = 1 + s + s^2/2 of the chunk's own pairs, j <= i
//   S += phi_k(K)^T V
//
// so a token costs 2 * 153 * 64 multiply-adds for the state and (C/2) * (16 + 64) for its chunk,
// and everything but the tensors themselves stays in the first two levels of cache. Columns of V, O
// and S are independent: a head is cut into slices of columns, each a task, where there are fewer
// heads than threads. Slices repeat only the features and weights, and the result does not depend
// on their number.
#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/based/cpu_taylor.h"
#include "kernels/based/features.h"
#include "kernels/based/prefill.h"
#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"

namespace based {
namespace {

constexpr int chunk = 48;
constexpr int row_block = cpu::block_rows;  // rows of the causal tile that share one depth
static_assert(chunk % row_block == 0 && chunk % cpu::lanes == 0);

/// What one task keeps between and within chunks: 90 KB at 64 columns.
template <int Width>
struct scratch {
  alignas(64) float state[compact_features][Width];
  alignas(64) float phi[compact_features][chunk];
  alignas(64) float q[feature_dim][chunk];  // scaled
  alignas(64) float k[feature_dim][chunk];
  alignas(64) float weights[chunk][chunk];  // [key][query]
  alignas(64) float sums[chunk];            // of weights, a query
  double z[compact_features];
};

/// Columns [column, column + Width) of one (b, h).
template <int Width>
void prefill_slice(const prefill_args<float>& args, std::int64_t b, std::int64_t h, int column) {
  const prefill_options& options = args.problem.options;
  const std::int64_t seqlen = args.problem.shape.seqlen;
  const std::int64_t head = b * args.problem.shape.heads + h;
  scratch<Width> s;

  if (options.initial_state) {
    const float* kv = args.initial_state.kv_head(head) + column;
    for (int r = 0; r < compact_features; ++r) std::copy_n(kv + r * value_dim, Width, s.state[r]);
  } else {
    std::fill_n(s.state[0], compact_features * Width, 0.0f);
  }
  if (options.normalize && options.initial_state) {
    std::copy_n(args.initial_state.z_head(head), compact_features, s.z);
  } else {
    std::fill_n(s.z, compact_features, 0.0);
  }

  for (std::int64_t n = 0; n < seqlen; n += chunk) {
    const std::int64_t count = std::min<std::int64_t>(chunk, seqlen - n);
    const float* k = args.k.token(b, h, n);
    const float* v = args.v.token(b, h, n) + column;
    float* o = args.o.token(b, h, n) + column;
    const std::int64_t v_stride = args.v.token_stride;
    const std::int64_t o_stride = args.o.token_stride;

    cpu::load_transposed(args.q.token(b, h, n), args.q.token_stride, count, options.scale, s.q);
    cpu::compact_features_of(s.q, 0.5f, s.phi);
    cpu::multiply(count, Width, compact_features, {s.phi[0], 1, chunk}, s.state[0], Width, o,
                  o_stride, false);

    cpu::taylor_weights(k, args.k.token_stride, count, true, s.q, s.weights);
    for (std::int64_t t = 0; t < count; t += row_block) {
      const std::int64_t rows = std::min<std::int64_t>(row_block, count - t);
      cpu::multiply(rows, Width, t + rows, {&s.weights[0][t], 1, chunk}, v, v_stride,
                    o + t * o_stride, o_stride, true);
    }

    if (options.normalize) {
      std::fill_n(s.sums, chunk, options.eps);
      cpu::add_weighted_rows(s.phi, compact_features, s.z, s.sums);
      cpu::add_rows(s.weights, count, s.sums);
      cpu::divide_rows(o, o_stride, count, Width, s.sums);
    }

    const bool last = n + chunk >= seqlen;
    if (last && !options.final_state) break;
    cpu::load_transposed(k, args.k.token_stride, count, 1.0f, s.k);
    cpu::compact_features_of(s.k, 1.0f, s.phi);
    cpu::multiply(compact_features, Width, count, {s.phi[0], chunk, 1}, v, v_stride, s.state[0],
                  Width, true);
    if (options.normalize) cpu::add_tokens(s.phi, compact_features, count, s.z);
  }

  if (options.final_state) {
    float* kv = args.final_state.kv_head(head) + column;
    for (int r = 0; r < compact_features; ++r) std::copy_n(s.state[r], Width, kv + r * value_dim);
    if (options.normalize && column == 0) {
      std::transform(s.z, s.z + compact_features, args.final_state.z_head(head),
                     [](double sum) { return static_cast<float>(sum); });
    }
  }
}

/// Columns a task: as many as leave a task to each thread, at least one register.
int slice_width(const prefill_problem& problem) {
  const std::int64_t heads = problem.shape.batch_heads();
  int width = value_dim;
  while (width > cpu::lanes && heads * (value_dim / width) < omp_get_max_threads()) width /= 2;
  return width;
}

template <int Width>
void prefill_slices(const prefill_args<float>& args) {
  const prefill_shape shape = args.problem.shape;
#pragma omp parallel for collapse(3) schedule(dynamic)
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      for (int column = 0; column < value_dim; column += Width) {
        prefill_slice<Width>(args, b, h, column);
      }
    }
  }
}

void prefill(const prefill_args<float>& args) {
  validate(args, 0);
  switch (slice_width(args.problem)) {
    case 64:
      return prefill_slices<64>(args);
    case 32:
      return prefill_slices<32>(args);
    case 16:
      return prefill_slices<16>(args);
    default:
      return prefill_slices<cpu::lanes>(args);
  }
}

double executed_flops(const prefill_problem& problem) {
  const int slices = value_dim / slice_width(problem);
  const double features = compact_features - first_product_row;
  const double token_state = 2 * 2 * compact_features * value_dim;              // read and update
  const double token_chunk = 2 * (chunk + row_block) / 2.0 * value_dim;         // W V
  const double token_slice = 2 * 2 * features + chunk * (2 * feature_dim + 4);  // phi and W
  return problem.shape.tokens() * (token_state + token_chunk + slices * token_slice);
}

const registration<based_prefill> registered{{
    .name = "based",
    .summary = "chunked over the 153 distinct features, state carried across chunks",
    .role = implementation_role::ours,
    .tolerance = cpu::tolerance,
    .executed_flops = executed_flops,
    .run = prefill,
}};

}  // namespace
}  // namespace based
