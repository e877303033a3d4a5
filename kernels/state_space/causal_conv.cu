// The causal convolution on the GPU, bf16 in and out, fp32 within.
//
//   y_n = bias + sum_k weight_k x_{n-T+1+k},   optionally silu(y_n)
//
// Grid: a thread has eight neighbouring channels, one 16-byte word a token, and walks along a run
// of tokens with the last T - 1 inputs in registers; neighbouring threads have neighbouring
// channels, and then the next run. It is bound by memory: words are read `ahead` at a time, before
// the first of them is used. The thread of a sequence's first run also writes the final state,
// after it has read the initial one, so that both may be one memory.
//
//   x, y [B, 1, N, D]   weight [T, D]   bias [D]   initial_state, final_state [B, T-1, D]
#include <cstdint>
#include <limits>

#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/state_space/causal_conv.h"
#include "kernels/tile/silu.cuh"

namespace based::conv {
namespace {

constexpr int threads = 128;
constexpr int width = vector16<bf16>;  // channels of a thread
constexpr int ahead = 8;               // tokens whose words are on their way together
constexpr int longest_run = 64;        // tokens of a thread

struct kernel_params {
  conv_args<bf16> given;
  std::int64_t runs;  ///< of a sequence
  int run;            ///< tokens of each, a multiple of `ahead`
};

/// The word of the kept input k of a sequence, 0 the earliest.
/// Called by: one thread
template <int Taps>
__device__ uint4 initial_word(const conv_args<bf16>& args, std::int64_t b, int k,
                              std::int64_t channel) {
  if (!args.problem.initial_state) return {};
  return load_word(args.initial_state.data() + (b * (Taps - 1) + k) * args.problem.channels +
                   channel);
}

/// Called by: one thread
template <int Taps>
__device__ void write_final_state(const conv_args<bf16>& args, std::int64_t b,
                                  std::int64_t channel) {
  constexpr int kept = Taps - 1;
  const std::int64_t seqlen = args.problem.seqlen;
#pragma unroll
  for (int k = 0; k < kept; ++k) {  // each slot's input is its own or a later one
    const std::int64_t n = seqlen - kept + k;
    const uint4 word = n >= 0 ? load_word(args.x.token(b, 0, n) + channel)
                              : initial_word<Taps>(args, b, static_cast<int>(n) + kept, channel);
    store_word(args.final_state.data() + (b * kept + k) * args.problem.channels + channel, word);
  }
}

template <int Taps>
__global__ __launch_bounds__(threads) void causal_conv_kernel(
    const __grid_constant__ kernel_params p) {
  const conv_args<bf16>& args = p.given;
  const conv_problem& problem = args.problem;
  constexpr int kept = Taps - 1;
  const std::int64_t words = problem.channels / width;
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const std::int64_t channel = at % words * width, run = at / words % p.runs;
  const std::int64_t b = at / words / p.runs, first = run * p.run;
  if (b >= problem.batch) return;

  float weight[Taps][width], bias[width] = {};
  const auto read = [&](const float* from, float(&to)[width]) {
#pragma unroll
    for (int i = 0; i < width; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + channel + i);
      to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
  };
#pragma unroll
  for (int k = 0; k < Taps; ++k) read(args.weight.data() + k * problem.channels, weight[k]);
  if (problem.bias) read(args.bias.data(), bias);

  uint4 before[kept];  // the inputs of the tokens before the next one, the latest last
#pragma unroll
  for (int k = 0; k < kept; ++k) {
    before[k] = first == 0 ? initial_word<Taps>(args, b, k, channel)
                           : load_word(args.x.token(b, 0, first - kept + k) + channel);
  }
  if (first == 0 && problem.final_state) write_final_state<Taps>(args, b, channel);

  const std::int64_t end = min(first + p.run, problem.seqlen);
  for (std::int64_t n = first; n < end; n += ahead) {
    uint4 word[kept + ahead];
#pragma unroll
    for (int k = 0; k < kept; ++k) word[k] = before[k];
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      if (n + i < end) word[kept + i] = load_word(args.x.token(b, 0, n + i) + channel);
    }
    float window[Taps][width];  // input i of the run's in place i % Taps
#pragma unroll
    for (int k = 0; k < kept; ++k) unpack(word[k], window[k]);
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      if (n + i >= end) break;
      unpack(word[kept + i], window[(kept + i) % Taps]);
      float y[width];
#pragma unroll
      for (int c = 0; c < width; ++c) {
        y[c] = bias[c];
#pragma unroll
        for (int k = 0; k < Taps; ++k) y[c] += weight[k][c] * window[(i + k) % Taps][c];
        if (problem.silu) y[c] = silu(y[c]);
      }
      store_word(args.y.token(b, 0, n + i) + channel, pack(y));
    }
#pragma unroll
    for (int k = 0; k < kept; ++k) before[k] = word[ahead + k];
  }
}

/// The longest run with which the threads still fill a large GPU.
int tokens_of_a_run(const conv_problem& problem) {
  constexpr std::int64_t enough_threads = 132 * 1024;
  const std::int64_t words = problem.batch * problem.seqlen * (problem.channels / width);
  int run = longest_run;
  while (run > ahead && words / run < enough_threads) run /= 2;
  return run;
}

std::int64_t blocks(const conv_problem& problem) {
  const std::int64_t run = tokens_of_a_run(problem);
  const std::int64_t runs = (problem.seqlen + run - 1) / run;
  return (problem.batch * runs * (problem.channels / width) + threads - 1) / threads;
}

unsupported_reason unsupported(const conv_problem& problem) {
  validate(problem);
  if (blocks(problem) > std::numeric_limits<std::int32_t>::max()) {
    return "too many tokens for one grid";
  }
  return std::nullopt;
}

void run(const conv_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const conv_problem& problem = args.problem;
  const int tokens = tokens_of_a_run(problem);
  const kernel_params p = {args, (problem.seqlen + tokens - 1) / tokens, tokens};
  const launch_shape shape = {static_cast<unsigned>(blocks(problem)), threads};
  launch_kernel(problem.taps == 3 ? causal_conv_kernel<3> : causal_conv_kernel<4>, shape, stream,
                p);
}

const registration<causal_conv> registered{
    {.name = "direct",
     .summary = "one pass over the tokens, the last inputs in registers",
     .role = implementation_role::ours,
     .tolerance = 4e-3,
     .unsupported = unsupported,
     .executed_flops = [](const conv_problem& p) { return causal_conv::work(p).nominal_flops; },
     .run = run}};

}  // namespace
}  // namespace based::conv
