// Mamba-2's decode step on the CPU, in fp32: one task a (batch, head), one pass over its state.
//
//   S = exp(dt A) S + dt x B^T,   y = S C   (+ D x)   (times silu(z))
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"
#include "kernels/state_space/ssd_decode.h"

namespace based {
namespace {

using cpu::lanes;
using cpu::vec;

float sum_of(vec values) {
  float sum = 0;
  for (int i = 0; i < lanes; ++i) sum += values[i];
  return sum;
}

void step(const ssd_decode_args<float>& args, std::int64_t batch, std::int64_t head) {
  const ssd_decode_problem& problem = args.problem;
  const std::int64_t group = problem.group_of(head);
  const float* x = args.x.token(batch, head, 0);
  const float* b = args.b.token(batch, group, 0);
  const float* c = args.c.token(batch, group, 0);
  float* y = args.y.token(batch, head, 0);
  float* row = args.state.data() + (batch * problem.heads + head) * problem.head_state();
  const float dt = args.step_size(batch, head);
  const float decay = std::exp(dt * args.a[static_cast<std::size_t>(head)]);
  for (int p = 0; p < problem.head_dim; ++p, row += problem.state_dim) {
    const float added = dt * x[p];
    vec sums = {};
    for (int s = 0; s < problem.state_dim; s += lanes) {
      const vec state = decay * cpu::load(row + s) + added * cpu::load(b + s);
      cpu::store(row + s, state);
      sums += state * cpu::load(c + s);
    }
    y[p] = args.output(batch, head, p, sum_of(sums), x[p]);
  }
}

void run(const ssd_decode_args<float>& args) {
  validate(args, 0);
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < args.problem.batch; ++b) {
    for (std::int64_t h = 0; h < args.problem.heads; ++h) step(args, b, h);
  }
}

const registration<ssd_decode> registered{{
    .name = "ssd_decode",
    .summary = "one pass over the state, one task a head",
    .role = implementation_role::ours,
    .tolerance = cpu::tolerance,
    .unsupported = [](const ssd_decode_problem& problem) -> unsupported_reason {
      validate(problem);
      return std::nullopt;
    },
    .executed_flops = [](const ssd_decode_problem& p) { return ssd_decode::work(p).least_flops; },
    .run = run,
}};

}  // namespace
}  // namespace based
