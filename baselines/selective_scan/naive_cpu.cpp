// "naive" of selective_scan.h: the recurrence in plain loops over tokens and states.
//
//   x[n] = exp(dt A[n]) x[n] + dt u B[n],   y = (sum_n C[n] x[n] + D u) silu(z)
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "baselines/selective_scan/selective_scan.h"
#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"

namespace based {
namespace {

/// All tokens of a channel; x [d_state] is its state.
void scan_channel(const scan_channels& p, const scan_operands<float>& given, std::int64_t batch,
                  std::int64_t channel, std::int64_t seqlen, float* x) {
  const std::int64_t first = channel / p.group_channels() * p.d_state;  // row of B and C
  const float* a = given.a.data() + channel * p.d_state;
  const float bias = p.bias ? given.bias[channel] : 0.0f;
  const float skip = p.skip ? given.d[channel] : 0.0f;
  for (std::int64_t l = 0; l < seqlen; ++l) {
    const float u = *given.u.token(batch, channel, l);
    float dt = *given.delta.token(batch, channel, l) + bias;
    if (p.softplus) dt = softplus(dt);
    float y = skip * u;
    for (std::int64_t n = 0; n < p.d_state; ++n) {
      x[n] = std::exp(dt * a[n]) * x[n] + dt * u * *given.b.token(batch, first + n, l);
      y += *given.c.token(batch, first + n, l) * x[n];
    }
    if (p.gate) {
      const float z = *given.z.token(batch, channel, l);
      y *= z / (1.0f + std::exp(-z));
    }
    *given.y.token(batch, channel, l) = y;
  }
}

void run(const selective_scan_args<float>& args) {
  validate(args, 0);
  const selective_scan_problem& p = args.problem;
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t d = 0; d < p.d_inner; ++d) {
      const std::int64_t state = (b * p.d_inner + d) * p.d_state;
      float x[largest_scan_state] = {};
      if (p.initial_state) std::copy_n(args.initial_state.data() + state, p.d_state, x);
      scan_channel(p, args.operands, b, d, p.seqlen, x);
      if (p.final_state) std::copy_n(x, p.d_state, args.final_state.data() + state);
    }
  }
}

void run_step(const selective_scan_decode_args<float>& args) {
  validate(args, 0);
  const selective_scan_decode_problem& p = args.problem;
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t d = 0; d < p.d_inner; ++d) {
      scan_channel(p, args.operands, b, d, 1, args.state.data() + (b * p.d_inner + d) * p.d_state);
    }
  }
}

const registration<selective_scan> registered{{
    .name = "naive",
    .summary = "the recurrence as it is written",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .executed_flops = [](const selective_scan_problem& p) { return scan_flops(p, p.seqlen); },
    .run = run,
}};

const registration<selective_scan_decode> registered_step{{
    .name = "naive",
    .summary = "the recurrence as it is written",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .executed_flops = [](const selective_scan_decode_problem& p) { return scan_flops(p, 1); },
    .run = run_step,
}};

}  // namespace
}  // namespace based
