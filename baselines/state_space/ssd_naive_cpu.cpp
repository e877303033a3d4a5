// Baseline "naive" of ssd on the CPU, in fp32: the recurrence of kernels/state_space/ssd.h as it is
// written, token after token, one task a row p of a head's state.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "baselines/state_space/step_cpu.h"
#include "kernels/core/cpu_simd.h"
#include "kernels/state_space/ssd.h"

namespace based::ssd_naive {
namespace {

float silu(float x) {
  return x / (1 + std::exp(-x));
}

/// Channel p of head h of sequence b.
void scan(const ssd_args<float>& args, std::int64_t b, std::int64_t h, std::int64_t p) {
  const ssd_problem& problem = args.problem;
  const std::int64_t width = problem.state_dim, group = problem.group_of(h);
  const std::int64_t of_state = ((b * problem.heads + h) * problem.head_dim + p) * width;
  std::vector<float> state(static_cast<std::size_t>(width));
  if (problem.initial_state) {
    std::copy_n(args.initial_state.data() + of_state, width, state.begin());
  }
  for (std::int64_t n = 0; n < problem.seqlen; ++n) {
    const float step = ssd_step(args, b, h, n);
    const float decay = std::exp(step * args.a[static_cast<std::size_t>(h)]);
    const float x = args.x.token(b, h, n)[p];
    const float *in = args.b.token(b, group, n), *out = args.c.token(b, group, n);
    float y = 0;
    for (std::int64_t k = 0; k < width; ++k) {
      float& element = state[static_cast<std::size_t>(k)];
      element = decay * element + step * x * in[k];
      y += element * out[k];
    }
    if (problem.skip) y += args.d[static_cast<std::size_t>(h)] * x;
    if (problem.gate) y *= silu(args.z.token(b, h, n)[p]);
    args.y.token(b, h, n)[p] = y;
  }
  if (problem.final_state) std::ranges::copy(state, args.final_state.data() + of_state);
}

void run(const ssd_args<float>& args) {
  validate(args, 0);
  const ssd_problem& problem = args.problem;
#pragma omp parallel for collapse(3)
  for (std::int64_t b = 0; b < problem.batch; ++b) {
    for (std::int64_t h = 0; h < problem.heads; ++h) {
      for (std::int64_t p = 0; p < problem.head_dim; ++p) scan(args, b, h, p);
    }
  }
}

double executed_flops(const ssd_problem& problem) {
  constexpr double a_channel = 24;  // an exponential for the decay, and one each for the options
  return static_cast<double>(problem.batch_heads() * problem.seqlen) * problem.head_dim *
         (5.0 * problem.state_dim + a_channel);
}

const registration<ssd> registered{{.name = "naive",
                                    .summary = "the recurrence, token after token",
                                    .role = implementation_role::baseline,
                                    .tolerance = cpu::tolerance,
                                    .executed_flops = executed_flops,
                                    .run = run}};

}  // namespace
}  // namespace based::ssd_naive
