// The CPU form of naive.h: three passes in fp32, each over all tokens.
//
//   sums      [B,H,N,273,64]   kv_n = kv_{n-1} + phi(k_n) v_n^T   (a user of the running sum reads
//   mapped_q  [B,H,N,273]                                          it back from memory, N * 70 KB)
//   mapped_k  [B,H,N,273]
//   sum_z     [B,H,N,273]      z_n = z_{n-1} + phi(k_n), with normalisation
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "baselines/naive/naive.h"
#include "kernels/based/cpu_taylor.h"
#include "kernels/core/cpu_simd.h"

namespace based::naive {
namespace {

constexpr int features = expanded_features;
constexpr int state_size = features * value_dim;
constexpr int row_block = 39;  // features summed by one task: 10 KB of state, 7 tasks a head
static_assert(features % row_block == 0);

/// The workspace's tensors.
struct tensors {
  float* sums;
  float* mapped_q;
  float* mapped_k;
  float* sum_z;

  explicit tensors(const prefill_args<float>& args)
      : sums(static_cast<float*>(args.workspace)),
        mapped_q(sums + args.problem.shape.tokens() * state_size),
        mapped_k(mapped_q + args.problem.shape.tokens() * features),
        sum_z(mapped_k + args.problem.shape.tokens() * features) {}
};

std::size_t workspace_bytes(const prefill_problem& problem) {
  const int maps = problem.options.normalize ? 3 : 2;
  return problem.shape.tokens() * (state_size + maps * features) * sizeof(float);
}

void map_features(const prefill_args<float>& args, const tensors& to) {
  const prefill_shape shape = args.problem.shape;
#pragma omp parallel for collapse(3)
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      for (std::int64_t n = 0; n < shape.seqlen; ++n) {
        const std::int64_t row = ((b * shape.heads + h) * shape.seqlen + n) * features;
        cpu::expanded_features_of(args.q.token(b, h, n), args.problem.options.scale, 0.5f,
                                  to.mapped_q + row);
        cpu::expanded_features_of(args.k.token(b, h, n), 1.0f, 1.0f, to.mapped_k + row);
      }
    }
  }
}

/// Rows [first, first + row_block) of the running sum of one (b, h).
void sum_rows(const prefill_args<float>& args, const tensors& to, std::int64_t b, std::int64_t h,
              int first) {
  const prefill_options& options = args.problem.options;
  const std::int64_t seqlen = args.problem.shape.seqlen;
  const std::int64_t head = b * args.problem.shape.heads + h;

  // The sum before the first token stands in for that of a previous one.
  float initial[row_block * value_dim] = {};
  double running_z[row_block] = {};  // its rounding would grow with the tokens in fp32
  if (options.initial_state) {
    for (int r = 0; r < row_block; ++r) {
      const int compact = cpu::compact_row(first + r);
      std::copy_n(args.initial_state.kv_head(head) + compact * value_dim, value_dim,
                  initial + r * value_dim);
      if (options.normalize) running_z[r] = args.initial_state.z_head(head)[compact];
    }
  }

  const float* previous = initial;
  for (std::int64_t n = 0; n < seqlen; ++n) {
    const std::int64_t token = head * seqlen + n;
    const float* v = args.v.token(b, h, n);
    const float* phi = to.mapped_k + token * features + first;
    float* sum = to.sums + token * state_size + first * value_dim;
    for (int r = 0; r < row_block; ++r) {
#pragma omp simd
      for (int c = 0; c < value_dim; ++c) {
        sum[r * value_dim + c] = previous[r * value_dim + c] + phi[r] * v[c];
      }
    }
    previous = sum;
    if (options.normalize) {
      float* z = to.sum_z + token * features + first;
      for (int r = 0; r < row_block; ++r) z[r] = static_cast<float>(running_z[r] += phi[r]);
    }
  }

  if (options.final_state) {
    for (int r = 0; r < row_block; ++r) {
      if (!cpu::is_first_of_its_monomial(first + r)) continue;  // the other task's row is the same
      const int compact = cpu::compact_row(first + r);
      std::copy_n(previous + r * value_dim, value_dim,
                  args.final_state.kv_head(head) + compact * value_dim);
      if (options.normalize) {
        args.final_state.z_head(head)[compact] = static_cast<float>(running_z[r]);
      }
    }
  }
}

void apply_queries(const prefill_args<float>& args, const tensors& from) {
  const prefill_options& options = args.problem.options;
  const prefill_shape shape = args.problem.shape;
#pragma omp parallel for collapse(3)
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      for (std::int64_t n = 0; n < shape.seqlen; ++n) {
        const std::int64_t token = (b * shape.heads + h) * shape.seqlen + n;
        const float* phi = from.mapped_q + token * features;
        float* o = args.o.token(b, h, n);
        cpu::multiply(1, value_dim, features, {phi, features, 1}, from.sums + token * state_size,
                      value_dim, o, value_dim, false);
        if (options.normalize) {
          const float* z = from.sum_z + token * features;
          float weights = options.eps;
          for (int r = 0; r < features; ++r) weights += phi[r] * z[r];
          for (int c = 0; c < value_dim; ++c) o[c] /= weights;
        }
      }
    }
  }
}

void prefill(const prefill_args<float>& args) {
  validate(args, workspace_bytes(args.problem));
  const tensors intermediates(args);
  const prefill_shape shape = args.problem.shape;
  map_features(args, intermediates);
#pragma omp parallel for collapse(3) schedule(dynamic)
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      for (int first = 0; first < features; first += row_block) {
        sum_rows(args, intermediates, b, h, first);
      }
    }
  }
  apply_queries(args, intermediates);
}

const registration<based_prefill> registered{{
    .name = "naive",
    .summary = "feature maps and the running sum of the KV state materialised, 273 features",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .workspace_bytes = workspace_bytes,
    .executed_flops = executed_flops,
    .run = prefill,
}};

}  // namespace
}  // namespace based::naive
