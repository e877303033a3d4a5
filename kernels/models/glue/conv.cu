// The short convolutions of models that are no operation by themselves: Based's, between its gate,
// and Mamba's, where time is contiguous. Bound by memory, so words are asked for several at a time.
#include <cstdint>
#include <string>

#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/models/glue.h"
#include "kernels/models/glue/word.cuh"
#include "kernels/tile/silu.cuh"

namespace based::models {
namespace {

constexpr int threads = 128;

// Based's: v = u + bias,   out_n = silu(sum_k weight_k v_{n-2+k}) v'_n
//
// Grid: a thread has eight neighbouring channels and walks along a run of tokens with the last two
// v in registers; neighbouring threads have neighbouring channels, and then the next run. The
// thread of a sequence's first run also writes the final state, after it has read the initial one,
// so that both may be one memory.
//
//   u [B, N, 2 C]   bias [2 C]   weight [3, C]   out [B, N, C]   states [B, 2, C]

constexpr int gated_taps = 3, gated_kept = gated_taps - 1;
constexpr int ahead = 4;         // tokens whose words are on their way together
constexpr int longest_run = 64;  // tokens of a thread

struct gated_conv_params {
  gated_conv_args<bf16> given;
  std::int64_t runs;  ///< of a sequence
  int run;            ///< tokens of each, a multiple of `ahead`
};

/// Adds a bias to what is in a word.
/// Called by: one thread
__device__ void unpack_biased(const uint4& word, const float (&bias)[unit], float (&v)[unit]) {
  unpack(word, v);
#pragma unroll
  for (int e = 0; e < unit; ++e) v[e] += bias[e];
}

/// The v of a token of sequence b, of which those before token 0 are in the initial state.
/// Called by: one thread
__device__ void load_v(const gated_conv_args<bf16>& args, std::int64_t b, std::int64_t n,
                       std::int64_t channel, const float (&bias)[unit], float (&v)[unit]) {
  if (n >= 0) {
    unpack_biased(load_word(args.u + (b * args.seqlen + n) * 2 * args.channels + channel), bias, v);
  } else if (args.initial_state != nullptr) {
    const std::int64_t slot = b * gated_kept + n + gated_kept;
    unpack(load_word(args.initial_state + slot * args.channels + channel), v);
  } else {
#pragma unroll
    for (float& each : v) each = 0;
  }
}

__global__ __launch_bounds__(threads) void gated_conv_kernel(
    const __grid_constant__ gated_conv_params p) {
  const gated_conv_args<bf16>& args = p.given;
  const std::int64_t words = args.channels / unit;
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const std::int64_t channel = at % words * unit, run = at / words % p.runs;
  const std::int64_t b = at / words / p.runs, first = run * p.run;
  if (b >= args.batch) return;

  float weight[gated_taps][unit], bias[unit], factor_bias[unit];
#pragma unroll
  for (int k = 0; k < gated_taps; ++k) {
    load_unit(args.weight + k * args.channels + channel, weight[k]);
  }
  load_unit(args.bias + channel, bias);
  load_unit(args.bias + args.channels + channel, factor_bias);

  float window[gated_taps][unit];  // the v of the run's token i in place (i + 2) % 3
#pragma unroll
  for (int k = 0; k < gated_kept; ++k) {
    load_v(args, b, first - gated_kept + k, channel, bias, window[k]);
  }
  if (first == 0 && args.final_state != nullptr) {
#pragma unroll
    for (int k = 0; k < gated_kept; ++k) {  // each slot's token is its own or a later one
      float v[unit];
      load_v(args, b, args.seqlen - gated_kept + k, channel, bias, v);
      store_word(args.final_state + (b * gated_kept + k) * args.channels + channel, pack(v));
    }
  }

  const std::int64_t end = min(first + p.run, args.seqlen);
  for (std::int64_t n = first; n < end; n += ahead) {
    uint4 left[ahead], right[ahead];
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      if (n + i >= end) break;
      const bf16* const u = args.u + (b * args.seqlen + n + i) * 2 * args.channels + channel;
      left[i] = load_word(u);
      right[i] = load_word(u + args.channels);
    }
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      if (n + i >= end) break;
      float out[unit], v[unit];
      unpack_biased(left[i], bias, v);
      unpack_biased(right[i], factor_bias, out);
#pragma unroll
      for (int e = 0; e < unit; ++e) {
        out[e] *=
            silu(weight[0][e] * window[0][e] + weight[1][e] * window[1][e] + weight[2][e] * v[e]);
        window[0][e] = window[1][e];
        window[1][e] = v[e];
      }
      store_word(args.out + (b * args.seqlen + n + i) * args.channels + channel, pack(out));
    }
  }
}

/// The longest run with which the threads still fill a large GPU.
int tokens_of_a_run(const gated_conv_args<bf16>& args) {
  constexpr std::int64_t enough_threads = 132 * 1024;
  const std::int64_t words = args.batch * args.seqlen * (args.channels / unit);
  int run = longest_run;
  while (run > ahead && words / run < enough_threads) run /= 2;
  return run;
}

// Mamba's: out_n = silu(bias + sum_k weight_k x_{n-3+k})
//
// Grid: a block has `together` words a thread of one channel's row, whose sequences follow one
// another without a gap: a word may hold tokens of several.
//
//   x, out [C, B N]   weight [4, C]   bias [C]   final_state [B, 3, C]

constexpr int time_taps = 4, time_kept = time_taps - 1;
constexpr int together = 4;

/// A thread's word and the three inputs before it.
struct time_window {
  float x[time_kept + unit];

  /// Called by: one thread
  __device__ void read(const uint2& before, const uint4& word) {
    x[0] = __uint_as_float(before.x & 0xffff0000u);
    x[1] = __uint_as_float(before.y << 16);
    x[2] = __uint_as_float(before.y & 0xffff0000u);
    float own[unit];
    unpack(word, own);
#pragma unroll
    for (int e = 0; e < unit; ++e) x[time_kept + e] = own[e];
  }
};

struct time_conv {
  float weight[time_taps], bias;

  /// The output of element e of a window; `seen` inputs before it belong to its sequence.
  /// Called by: one thread
  __device__ float operator()(const time_window& window, int e, std::int64_t seen) const {
    float sum = bias + weight[time_kept] * window.x[e + time_kept];
#pragma unroll
    for (int k = 0; k < time_kept; ++k) {
      if (seen >= time_kept - k) sum += weight[k] * window.x[e + k];
    }
    return silu(sum);
  }
};

__global__ __launch_bounds__(threads) void conv_along_time_kernel(
    const __grid_constant__ conv_along_time_args<bf16> p, std::int64_t row_blocks) {
  const std::int64_t channel = blockIdx.x / row_blocks, tokens = p.batch * p.seqlen;
  const std::int64_t first = (blockIdx.x % row_blocks * (together * threads) + threadIdx.x) * unit;
  const bf16* const x = p.x + channel * p.channel_stride;
  bf16* const out = p.out + channel * p.channel_stride;

  uint4 word[together] = {};
  uint2 before[together] = {};
#pragma unroll
  for (int i = 0; i < together; ++i) {
    const std::int64_t t = first + i * (threads * unit);
    if (t + unit <= tokens) {
      word[i] = load_word(x + t);
    } else if (t < tokens) {
      auto* const elements = reinterpret_cast<bf16*>(&word[i]);
#pragma unroll
      for (int e = 0; e < unit; ++e) {
        if (t + e < tokens) elements[e] = x[t + e];
      }
    }
    if (t > 0 && t < tokens) before[i] = *reinterpret_cast<const uint2*>(x + t - 4);
  }
  time_conv conv;
#pragma unroll
  for (int k = 0; k < time_taps; ++k) conv.weight[k] = p.weight[k * p.channels + channel];
  conv.bias = p.bias[channel];

#pragma unroll
  for (int i = 0; i < together; ++i) {
    const std::int64_t t = first + i * (threads * unit);
    if (t >= tokens) break;
    time_window window;
    window.read(before[i], word[i]);
    std::int64_t b = t / p.seqlen, n = t - b * p.seqlen;
    float y[unit];
    if (n >= time_kept && n + unit + time_kept <= p.seqlen) {
#pragma unroll
      for (int e = 0; e < unit; ++e) y[e] = conv(window, e, time_kept);
      store_word(out + t, pack(y));
      continue;
    }
    // A word with a sequence's first or last tokens.
#pragma unroll
    for (int e = 0; e < unit; ++e) {
      if (t + e >= tokens) break;
      out[t + e] = to_bf16(conv(window, e, n));
      if (p.final_state != nullptr) {
        bf16* const state = p.final_state + b * time_kept * p.channels + channel;
        const auto slot = n - p.seqlen + time_kept;
        if (slot >= 0) state[slot * p.channels] = to_bf16(window.x[e + time_kept]);
        for (std::int64_t k = 0; n == 0 && k < slot; ++k) state[k * p.channels] = bf16{};
      }
      if (++n == p.seqlen) n = 0, ++b;
    }
  }
}

}  // namespace

template <>
void gated_conv<bf16>(const gated_conv_args<bf16>& args, cuda_stream stream) {
  BASED_REQUIRE(args.taps == gated_taps, std::to_string(args.taps) + " taps, of 3");
  const int run = tokens_of_a_run(args);
  const gated_conv_params p = {args, (args.seqlen + run - 1) / run, run};
  const std::int64_t items = args.batch * p.runs * (args.channels / unit);
  launch_kernel(gated_conv_kernel, {blocks_for(items, threads), threads}, stream, p);
}

template <>
void conv_along_time<bf16>(const conv_along_time_args<bf16>& args, cuda_stream stream) {
  BASED_REQUIRE(args.taps == time_taps, std::to_string(args.taps) + " taps, of 4");
  constexpr std::int64_t of_block = std::int64_t{together} * threads * unit;
  const std::int64_t row_blocks = (args.batch * args.seqlen + of_block - 1) / of_block;
  launch_kernel(conv_along_time_kernel, {blocks_for(args.channels * row_blocks, 1), threads},
                stream, args, row_blocks);
}

}  // namespace based::models
