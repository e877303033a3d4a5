// The causal convolution on the CPU, in fp32: a task is a block of tokens of one sequence.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/core/cpu_simd.h"
#include "kernels/core/implementation.h"
#include "kernels/state_space/causal_conv.h"

namespace based::conv {
namespace {

constexpr std::int64_t block = 32;  // tokens

float silu(float x) {
  return x / (1 + std::exp(-x));
}

/// The inputs [D] of token n, the state's where n < 0; null: they are 0.
const float* input(const conv_args<float>& args, std::int64_t b, std::int64_t n) {
  const conv_problem& p = args.problem;
  if (n >= 0) return args.x.token(b, 0, n);
  if (!p.initial_state) return nullptr;
  return args.initial_state.data() + (b * (p.taps - 1) + n + p.taps - 1) * p.channels;
}

void convolve(const conv_args<float>& args, std::int64_t b, std::int64_t n) {
  const conv_problem& p = args.problem;
  float* const y = args.y.token(b, 0, n);
  if (p.bias) {
    std::copy_n(args.bias.data(), p.channels, y);
  } else {
    std::fill_n(y, p.channels, 0.0f);
  }
  for (int k = 0; k < p.taps; ++k) {
    const float* const x = input(args, b, n - p.taps + 1 + k);
    const float* const weight = args.weight.data() + k * p.channels;
    if (x == nullptr) continue;
    for (std::int64_t d = 0; d < p.channels; ++d) y[d] += weight[d] * x[d];
  }
  if (!p.silu) return;
  for (std::int64_t d = 0; d < p.channels; ++d) y[d] = silu(y[d]);
}

/// The last inputs of sequence b, once all tokens have been read, for it may be the initial state.
void keep_inputs(const conv_args<float>& args, std::int64_t b) {
  const conv_problem& p = args.problem;
  const std::int64_t kept = p.taps - 1;
  for (std::int64_t k = 0; k < kept; ++k) {  // each slot's input is its own or a later one
    float* const slot = args.final_state.data() + (b * kept + k) * p.channels;
    const float* const x = input(args, b, p.seqlen - kept + k);
    if (x == nullptr) {
      std::fill_n(slot, p.channels, 0.0f);
    } else {
      std::copy_n(x, p.channels, slot);
    }
  }
}

void run(const conv_args<float>& args) {
  validate(args, 0);
  const conv_problem& p = args.problem;
#pragma omp parallel for collapse(2)
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t first = 0; first < p.seqlen; first += block) {
      for (std::int64_t n = first; n < std::min(first + block, p.seqlen); ++n) {
        convolve(args, b, n);
      }
    }
  }
  if (!p.final_state) return;
  for (std::int64_t b = 0; b < p.batch; ++b) keep_inputs(args, b);
}

const registration<causal_conv> registered{
    {.name = "direct",
     .summary = "one pass over the tokens",
     .role = implementation_role::ours,
     .tolerance = cpu::tolerance,
     .executed_flops = [](const conv_problem& p) { return causal_conv::work(p).nominal_flops; },
     .run = run}};

}  // namespace
}  // namespace based::conv
