// A step of the selective scan: one pass over the states, each read once and written once.
//
//   x[n] = exp(dt A[n]) x[n] + dt u B[n],   y = (sum_n C[n] x[n] + D u) silu(z)
//
// States are all the work there is, and A is half as large as what one sequence reads and writes.
// So four threads share a channel, 16 bytes of its state each, and take it through up to four
// sequences, whose states they ask for together, while A stays in registers. What a channel has of
// one number a sequence, each of the four threads reads and computes for a sequence of its own, and
// B and C, which all channels of a group share, come from shared memory: were every thread to read
// them, its instructions would take as long as the states' bytes.
//
//   grid (tiles of 64 channels of a group x groups of sequences)   block 256
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
constexpr int step_states = channel_threads * thread_states;
constexpr float log2e = 1.44269504f;

struct parameters : scan_kernel_operands {
  float* state;
  std::int64_t batch;
  int tiles, group_tiles;
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

/// B and C of a block's sequences and sixteen states.
template <int Sequences>
struct shared_operands {
  float4 of[Sequences][2][channel_threads];
};

/// Reads them, a thread a number. Called by: one block
template <int Sequences>
__device__ void load(shared_operands<Sequences>& to, const parameters& p, std::int64_t first_batch,
                     int sequences, std::int64_t first_row, int rows) {
  static_assert(Sequences * 2 * step_states <= threads);
  const int s = static_cast<int>(threadIdx.x) / (2 * step_states);
  const int n = static_cast<int>(threadIdx.x) % step_states;
  if (s >= Sequences) return;
  const sequence_view<const bf16>& from = threadIdx.x / step_states % 2 == 0 ? p.b : p.c;
  reinterpret_cast<float*>(to.of)[threadIdx.x] =
      s < sequences && n < rows ? value(from, first_batch + s, first_row + n) : 0.0f;
}

/// `Sequences` of a block; `Whole`: d_state is a multiple of four.
template <int Sequences, bool Whole>
__global__ void __launch_bounds__(threads)
    selective_scan_decode_kernel(const __grid_constant__ parameters p) {
  static_assert(Sequences <= channel_threads);
  __shared__ shared_operands<Sequences> shared;
  const auto first_batch = static_cast<std::int64_t>(blockIdx.x / p.tiles) * Sequences;
  const int tile = static_cast<int>(blockIdx.x) % p.tiles;
  const int group = tile / p.group_tiles;
  const int group_channel =
      tile % p.group_tiles * tile_channels + static_cast<int>(threadIdx.x) / channel_threads;
  const int channel = group * p.group_channels + group_channel;
  const int lane = static_cast<int>(threadIdx.x) % channel_threads;
  const bool exists = group_channel < p.group_channels;
  const int sequences = static_cast<int>(min(std::int64_t{Sequences}, p.batch - first_batch));
  const bool is_own = exists && lane < sequences;  // u, dt and y of its sequence are this thread's
  const std::int64_t own_batch = first_batch + lane;

  const float u = is_own ? value(p.u, own_batch, channel) : 0.0f;
  float dt = is_own ? value(p.delta, own_batch, channel) : 0.0f;
  const float z = is_own && p.gate ? value(p.z, own_batch, channel) : 0.0f;
  float y[channel_threads] = {};
#pragma unroll 1
  for (int first = 0; first < p.d_state; first += step_states) {
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
      dt += p.bias != nullptr && exists ? p.bias[channel] : 0.0f;
      if (p.softplus) dt = softplus(dt);
    } else {
      __syncthreads();  // B and C of the states before were read
    }
    load(shared, p, first_batch, sequences, static_cast<std::int64_t>(group) * p.d_state + first,
         p.d_state - first);
    __syncthreads();
#pragma unroll
    for (int s = 0; s < Sequences; ++s) {
      const float step = __shfl_sync(~0u, dt, s, channel_threads);
      const float input = __shfl_sync(~0u, dt * u, s, channel_threads);
      if (s >= sequences) break;
      const float4 b = shared.of[s][0][lane], c = shared.of[s][1][lane];
      const float bs[thread_states] = {b.x, b.y, b.z, b.w};
      const float cs[thread_states] = {c.x, c.y, c.z, c.w};
#pragma unroll
      for (int i = 0; i < thread_states; ++i) {
        x[s][i] = fmaf(ptx::ex2(step * (a[i] * log2e)), x[s][i], input * bs[i]);
        y[s] = fmaf(cs[i], x[s][i], y[s]);
      }
      store_four<Whole>(state + s * sequence, count, x[s]);
    }
  }
  // Two steps add up the four threads' sums, and leave each with the sum of its sequence.
  const float low = lane % 2 == 0 ? y[0] : y[1], high = lane % 2 == 0 ? y[2] : y[3];
  const float other_low = lane % 2 == 0 ? y[1] : y[0], other_high = lane % 2 == 0 ? y[3] : y[2];
  const float low_sum = low + __shfl_xor_sync(~0u, other_low, 1);
  const float high_sum = high + __shfl_xor_sync(~0u, other_high, 1);
  float out = lane < 2 ? low_sum : high_sum;
  out += __shfl_xor_sync(~0u, lane < 2 ? high_sum : low_sum, 2);
  if (!is_own) return;
  if (p.d != nullptr) out = fmaf(p.d[channel], u, out);
  if (p.gate) out *= z / (1.0f + __expf(-z));
  *reinterpret_cast<__nv_bfloat16*>(p.y.token(own_batch, channel, 0)) = __float2bfloat16(out);
}

std::int64_t group_tiles(const selective_scan_decode_problem& problem) {
  return (problem.group_channels() + tile_channels - 1) / tile_channels;
}

std::int64_t tiles_of(const selective_scan_decode_problem& problem) {
  return problem.groups * group_tiles(problem);
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
                        static_cast<int>(tiles_of(problem)),
                        static_cast<int>(group_tiles(problem))};
  constexpr std::int64_t busy = 32;  // sequences that fill the GPU, a block each
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
