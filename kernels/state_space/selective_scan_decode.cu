// A step of the selective scan: one pass over the states, each read once and written once.
//
//   x[n] = exp(dt A[n]) x[n] + dt u B[n],   y = (sum_n C[n] x[n] + D u) silu(z)
//
// States are all the work there is, and A is half as large as what one sequence reads and writes.
// So four threads share a channel, 16 bytes of its state each, and take it through several
// sequences, whose states they ask for together, while A stays in registers.
//
//   grid (tiles of 64 channels x groups of sequences)   block 256
//   state [B, d_inner, d_state], A [d_inner, d_state], fp32   u, delta, z, y [B, d_inner],
//   B, C [B, G d_state], bf16
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/implementation.h"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/ex2.cuh"
#include "kernels/state_space/selective_scan_decode.h"

namespace based {
namespace {

constexpr int threads = 256;
constexpr int channel_threads = 4;
constexpr int tile_channels = threads / channel_threads;
constexpr int thread_states = 4;  // at a time
constexpr float log2e = 1.44269504f;

struct parameters : scan_kernel_operands {
  float* state;
  std::int64_t batch;
  int tiles;
};

/// Called by: one thread
__device__ float value(const sequence_view<const bf16>& view, std::int64_t batch,
                       std::int64_t channel) {
  return __uint_as_float(std::uint32_t{view.token(batch, channel, 0)->bits} << 16);
}

/// `count` of four numbers, zeros for the others; all at once where the address allows it.
/// Called by: one thread
template <bool Whole>
__device__ void load_four(const float* from, int count, float (&values)[thread_states]) {
  if constexpr (Whole) {
    const float4 word = count > 0 ? *reinterpret_cast<const float4*>(from) : float4{};
    values[0] = word.x;
    values[1] = word.y;
    values[2] = word.z;
    values[3] = word.w;
  } else {
#pragma unroll
    for (int i = 0; i < thread_states; ++i) values[i] = i < count ? from[i] : 0.0f;
  }
}

/// Called by: one thread
template <bool Whole>
__device__ void store_four(float* to, int count, const float (&values)[thread_states]) {
  if constexpr (Whole) {
    if (count > 0) {
      *reinterpret_cast<float4*>(to) = {values[0], values[1], values[2], values[3]};
    }
  } else {
#pragma unroll
    for (int i = 0; i < thread_states; ++i) {
      if (i < count) to[i] = values[i];
    }
  }
}

/// `Sequences` of a block; `Whole`: d_state is a multiple of four.
template <int Sequences, bool Whole>
__global__ void __launch_bounds__(threads)
    selective_scan_decode_kernel(const __grid_constant__ parameters p) {
  const std::int64_t first_batch = static_cast<std::int64_t>(blockIdx.x / p.tiles) * Sequences;
  const int channel =
      static_cast<int>(blockIdx.x % p.tiles) * tile_channels + threadIdx.x / channel_threads;
  const int lane = threadIdx.x % channel_threads;
  const bool exists = channel < p.d_inner;
  const std::int64_t shared_row = channel / p.group_channels * p.d_state;
  const auto sequences =
      static_cast<int>(min(static_cast<std::int64_t>(Sequences), p.batch - first_batch));

  float u[Sequences], dt[Sequences], y[Sequences] = {};
#pragma unroll
  for (int s = 0; s < Sequences; ++s) {
    const bool is_one = exists && s < sequences;
    u[s] = is_one ? value(p.u, first_batch + s, channel) : 0.0f;
    dt[s] = is_one ? value(p.delta, first_batch + s, channel) : 0.0f;
  }
#pragma unroll 1
  for (int first = 0; first < p.d_state; first += channel_threads * thread_states) {
    const int n = first + lane * thread_states;
    const int count = exists ? min(p.d_state - n, thread_states) : 0;
    float x[Sequences][thread_states], a[thread_states];
    float* state = p.state + (first_batch * p.d_inner + channel) * p.d_state + n;
    const std::int64_t sequence = static_cast<std::int64_t>(p.d_inner) * p.d_state;
#pragma unroll
    for (int s = 0; s < Sequences; ++s) {
      load_four<Whole>(state + s * sequence, s < sequences ? count : 0, x[s]);
    }
    load_four<Whole>(p.a + static_cast<std::int64_t>(channel) * p.d_state + n, count, a);
    if (first == 0) {
      const float bias = p.bias != nullptr && exists ? p.bias[channel] : 0.0f;
#pragma unroll
      for (int s = 0; s < Sequences; ++s) {
        dt[s] += bias;
        if (p.softplus) dt[s] = softplus(dt[s]);
      }
    }
#pragma unroll
    for (int s = 0; s < Sequences; ++s) {
      if (s >= sequences) break;
#pragma unroll
      for (int i = 0; i < thread_states; ++i) {
        if (i >= count) continue;
        const float b = value(p.b, first_batch + s, shared_row + n + i);
        const float c = value(p.c, first_batch + s, shared_row + n + i);
        x[s][i] = fmaf(ptx::ex2(dt[s] * a[i] * log2e), x[s][i], dt[s] * u[s] * b);
        y[s] = fmaf(c, x[s][i], y[s]);
      }
      store_four<Whole>(state + s * sequence, count, x[s]);
    }
  }
#pragma unroll
  for (int s = 0; s < Sequences; ++s) {
#pragma unroll
    for (int bit = 1; bit < channel_threads; bit *= 2) y[s] += __shfl_xor_sync(~0u, y[s], bit);
    if (!exists || s >= sequences || lane != s % channel_threads) continue;
    float out = y[s];
    if (p.d != nullptr) out = fmaf(p.d[channel], u[s], out);
    if (p.gate) {
      const float z = value(p.z, first_batch + s, channel);
      out *= z / (1.0f + __expf(-z));
    }
    *reinterpret_cast<__nv_bfloat16*>(p.y.token(first_batch + s, channel, 0)) =
        __float2bfloat16(out);
  }
}

std::int64_t tiles_of(const selective_scan_decode_problem& problem) {
  return (problem.d_inner + tile_channels - 1) / tile_channels;
}

template <int Sequences>
void launch(const parameters& p, cuda_stream stream) {
  const std::int64_t groups = (p.batch + Sequences - 1) / Sequences;
  const auto blocks = static_cast<unsigned>(p.tiles * groups);
  if (p.d_state % thread_states == 0) {
    selective_scan_decode_kernel<Sequences, true><<<blocks, threads, 0, stream>>>(p);
  } else {
    selective_scan_decode_kernel<Sequences, false><<<blocks, threads, 0, stream>>>(p);
  }
  BASED_CUDA_LAUNCHED();
}

void run(const selective_scan_decode_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const selective_scan_decode_problem& problem = args.problem;
  const parameters p = {{problem, args.operands},
                        args.state.data(),
                        problem.batch,
                        static_cast<int>(tiles_of(problem))};
  constexpr std::int64_t busy = 16;  // sequences that fill the GPU, a block each
  problem.batch < busy ? launch<1>(p, stream) : launch<4>(p, stream);
}

unsupported_reason unsupported(const selective_scan_decode_problem& problem) {
  validate(problem);
  return unsupported_grid(tiles_of(problem) * problem.batch);
}

const registration<selective_scan_decode> registered{{
    .name = "register_scan",
    .summary = "one pass over the states, A kept for several sequences",
    .role = implementation_role::ours,
    .tolerance = 4e-3,  // a y by itself is rounded by so much
    .unsupported = unsupported,
    .executed_flops = [](const selective_scan_decode_problem& p) { return scan_flops(p, 1); },
    .run = run,
}};

}  // namespace
}  // namespace based
