// The baseline naive of ssd_decode.h: a pass over all heads for each operation, in fp32.
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "baselines/state_space/ssd_decode.h"
#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"

namespace based::ssd_decode_baselines {
namespace {

/// Calls pass(batch, head, row, state row) for each row of each head's state.
template <class Pass>
void for_each_row(const ssd_decode_args<float>& args, Pass pass) {
  const ssd_decode_problem& problem = args.problem;
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < problem.batch; ++b) {
    for (std::int64_t h = 0; h < problem.heads; ++h) {
      float* state = args.state.data() + (b * problem.heads + h) * problem.head_state();
      for (int p = 0; p < problem.head_dim; ++p) pass(b, h, p, state + p * problem.state_dim);
    }
  }
}

void run(const ssd_decode_args<float>& args) {
  validate(args, 0);
  const ssd_decode_problem& problem = args.problem;
  for_each_row(args, [&](std::int64_t b, std::int64_t h, int p, float* row) {
    const float dt = args.step_size(b, h);
    const float decay = std::exp(dt * args.a[static_cast<std::size_t>(h)]);
    const float x = args.x.token(b, h, 0)[p];
    const float* input = args.b.token(b, problem.group_of(h), 0);
    for (int s = 0; s < problem.state_dim; ++s) row[s] = decay * row[s] + dt * x * input[s];
  });
  for_each_row(args, [&](std::int64_t b, std::int64_t h, int p, const float* row) {
    const float* output = args.c.token(b, problem.group_of(h), 0);
    float& y = args.y.token(b, h, 0)[p];
    y = 0;
    for (int s = 0; s < problem.state_dim; ++s) y += row[s] * output[s];
  });
  for_each_row(args, [&](std::int64_t b, std::int64_t h, int p, const float*) {
    float& y = args.y.token(b, h, 0)[p];
    y = args.output(b, h, p, y, args.x.token(b, h, 0)[p]);
  });
}

const registration<ssd_decode> registered{{
    .name = "naive",
    .summary = "state update, contraction and output, a pass each",
    .role = implementation_role::baseline,
    .tolerance = cpu::tolerance,
    .unsupported = [](const ssd_decode_problem& problem) -> unsupported_reason {
      validate(problem);
      return std::nullopt;
    },
    .executed_flops = [](const ssd_decode_problem& p) { return ssd_decode::work(p).least_flops; },
    .run = run,
}};

}  // namespace
}  // namespace based::ssd_decode_baselines
