// "state_update" of selective_scan.h: a thread has four states of a channel of one sequence at a
// time; four threads add up to a y.
//
//   x[n] = exp(dt A[n]) x[n] + dt u B[n],   y = (sum_n C[n] x[n] + D u) silu(z)
//
//   grid (tiles of 32 channels x B)   block 128   state [B, d_inner, d_state], A [d_inner,
//   d_state], fp32   u, delta, z, y [B, d_inner], B, C [B, G d_state], bf16
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "baselines/selective_scan/selective_scan.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/implementation.h"
#include "kernels/core/warp_size.h"

namespace based {
namespace {

constexpr int threads = 128;
constexpr int channel_threads = 4;
constexpr int tile_channels = threads / channel_threads;

struct parameters : scan_kernel_operands {
  float* state;
  int tiles;
};

/// Called by: one thread
__device__ float value(const sequence_view<const bf16>& view, std::int64_t batch,
                       std::int64_t channel) {
  return __uint_as_float(std::uint32_t{view.token(batch, channel, 0)->bits} << 16);
}

__global__ void __launch_bounds__(threads)
    state_update_kernel(const __grid_constant__ parameters p) {
  const std::int64_t batch = blockIdx.x / p.tiles;
  const int channel =
      static_cast<int>(blockIdx.x % p.tiles) * tile_channels + threadIdx.x / channel_threads;
  if (channel - channel % (warp_size / channel_threads) >= p.d_inner) return;  // the whole warp
  const bool exists = channel < p.d_inner;
  const int lane = threadIdx.x % channel_threads;
  float y = 0, u = 0;
  if (exists) {
    u = value(p.u, batch, channel);
    float dt = value(p.delta, batch, channel) + (p.bias != nullptr ? p.bias[channel] : 0.0f);
    if (p.softplus) dt = softplus(dt);
    float* x = p.state + (batch * p.d_inner + channel) * p.d_state;
    const float* a = p.a + static_cast<std::int64_t>(channel) * p.d_state;
    const std::int64_t shared_row =
        static_cast<std::int64_t>(channel) / p.group_channels * p.d_state;
    constexpr int thread_states = 4;
    for (int first = lane * thread_states; first < p.d_state;
         first += channel_threads * thread_states) {
#pragma unroll
      for (int i = 0; i < thread_states; ++i) {
        const int n = first + i;
        if (n >= p.d_state) break;
        x[n] = __expf(dt * a[n]) * x[n] + dt * u * value(p.b, batch, shared_row + n);
        y += value(p.c, batch, shared_row + n) * x[n];
      }
    }
  }
#pragma unroll
  for (int bit = 1; bit < channel_threads; bit *= 2) y += __shfl_xor_sync(~0u, y, bit);
  if (!exists || lane != 0) return;
  if (p.d != nullptr) y += p.d[channel] * u;
  if (p.gate) {
    const float z = value(p.z, batch, channel);
    y *= z / (1.0f + __expf(-z));
  }
  *reinterpret_cast<__nv_bfloat16*>(p.y.token(batch, channel, 0)) = __float2bfloat16(y);
}

std::int64_t tiles_of(const selective_scan_decode_problem& problem) {
  return (problem.d_inner + tile_channels - 1) / tile_channels;
}

void run(const selective_scan_decode_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const selective_scan_decode_problem& problem = args.problem;
  const parameters p = {
      {problem, args.operands}, args.state.data(), static_cast<int>(tiles_of(problem))};
  const auto blocks = static_cast<unsigned>(tiles_of(problem) * problem.batch);
  state_update_kernel<<<blocks, threads, 0, stream>>>(p);
  BASED_CUDA_LAUNCHED();
}

unsupported_reason unsupported(const selective_scan_decode_problem& problem) {
  validate(problem);
  return unsupported_grid(tiles_of(problem) * problem.batch);
}

const registration<selective_scan_decode> registered{{
    .name = "state_update",
    .summary = "mamba-ssm's Triton step: a block has 32 channels of a sequence",
    .role = implementation_role::baseline,
    .reimplements = {"mamba_step"},
    .tolerance = 4e-3,  // a y by itself is rounded by so much
    .unsupported = unsupported,
    .executed_flops = [](const selective_scan_decode_problem& p) { return scan_flops(p, 1); },
    .run = run,
}};

}  // namespace
}  // namespace based
