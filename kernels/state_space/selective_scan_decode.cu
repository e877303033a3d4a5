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
//   grid (tiles of 64 channels of a group, groups of sequences, groups of channels)   block 256
//   state [B, d_inner, d_state], A [d_inner, d_state], fp32   u, delta, z, y [B, d_inner],
//   B, C [B, G d_state], bf16
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/core/cuda_check.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/state_space/selective_scan_decode.h"

namespace based {
namespace {

constexpr unsigned threads = 256;
constexpr unsigned channel_threads = 4;
constexpr unsigned tile_channels = threads / channel_threads;
constexpr unsigned thread_states = 4;  // at a time
constexpr unsigned step_states = channel_threads * thread_states;
constexpr float log2e = 1.44269504f;

struct parameters : scan_kernel_operands {
  float* state;
  unsigned batch;
};

/// Called by: one thread
__device__ float value(const sequence_view<const bf16>& view, unsigned batch, unsigned channel) {
  return __uint_as_float(std::uint32_t{view.token(batch, channel, 0)->bits} << 16);
}

/// Four numbers, of which `count` exist: zeros for the others. `Words`: none or all do, in a
/// 16-byte word. Called by: one thread
template <bool Words>
__device__ void load_four(const float* from, unsigned count, float (&values)[thread_states]) {
  if constexpr (Words) {
    unpack(count > 0 ? load_word(from) : uint4{}, values);
  } else {
#pragma unroll
    for (unsigned i = 0; i < thread_states; ++i) values[i] = i < count ? from[i] : 0.0f;
  }
}

/// Called by: one thread
template <bool Words>
__device__ void store_four(float* to, unsigned count, const float (&values)[thread_states]) {
  if constexpr (Words) {
    if (count > 0) {
      *reinterpret_cast<float4*>(to) = {values[0], values[1], values[2], values[3]};
    }
  } else {
#pragma unroll
    for (unsigned i = 0; i < thread_states; ++i) {
      if (i < count) to[i] = values[i];
    }
  }
}

/// B and C of a block's sequences and sixteen states.
template <unsigned Sequences>
struct shared_operands {
  float4 of[Sequences][2][channel_threads];
};

/// The number of them that this thread reads for its block, zero where there is none.
/// Called by: one thread
template <unsigned Sequences>
__device__ float load(const parameters& p, unsigned first_batch, unsigned sequences,
                      unsigned first_row, unsigned rows) {
  static_assert(Sequences * 2 * step_states <= threads);
  const unsigned s = threadIdx.x / (2 * step_states), n = threadIdx.x % step_states;
  if (s >= sequences || n >= rows) return 0;
  const bool is_b = threadIdx.x / step_states % 2 == 0;
  return value(is_b ? p.b : p.c, first_batch + s, first_row + n);
}

/// Called by: one thread
template <unsigned Sequences>
__device__ void store(shared_operands<Sequences>& to, float operand) {
  if (threadIdx.x < Sequences * 2 * step_states) {
    reinterpret_cast<float*>(to.of)[threadIdx.x] = operand;
  }
}

/// `Sequences` of a block; `Words`: d_state is a multiple of four; `Usual`: it is 16. The blocks
/// that a multiprocessor holds, five or four, are what the registers allow without a spill.
template <unsigned Sequences, bool Words, bool Usual>
__global__ void __launch_bounds__(threads, Usual ? 5 : 4)
    selective_scan_decode_kernel(const __grid_constant__ parameters p) {
  static_assert(Sequences <= channel_threads);
  __shared__ shared_operands<Sequences> shared;
  const unsigned d_state = p.d_state;  // a constant 16 has the compiler split stores of words
  const unsigned group_channel = blockIdx.x * tile_channels + threadIdx.x / channel_threads;
  const unsigned channel = blockIdx.z * p.group_channels + group_channel;
  const unsigned lane = threadIdx.x % channel_threads;
  const bool exists = group_channel < p.group_channels;
  const unsigned first_batch = blockIdx.y * Sequences;
  const unsigned sequences = min(Sequences, p.batch - first_batch);
  const bool is_own = exists && lane < sequences;  // u, dt and y of its sequence are this thread's
  const unsigned own_batch = first_batch + lane;

  const float u = is_own ? value(p.u, own_batch, channel) : 0.0f;
  float dt = is_own ? value(p.delta, own_batch, channel) : 0.0f;
  const float bias = p.bias != nullptr && exists ? p.bias[channel] : 0.0f;
  const float d = p.d != nullptr && exists ? p.d[channel] : 0.0f;
  const float z = is_own && p.gate ? value(p.z, own_batch, channel) : 0.0f;
  float y[channel_threads] = {};
#pragma unroll 1
  for (unsigned first = 0; first < (Usual ? step_states : d_state); first += step_states) {
    const unsigned n = first + lane * thread_states;
    const unsigned left = Usual ? thread_states : min(d_state - min(n, d_state), thread_states);
    const unsigned count = exists ? left : 0;
    float x[Sequences][thread_states], a[thread_states];
    const std::int64_t sequence = std::int64_t{p.d_inner} * d_state;
    float* const state = p.state + first_batch * sequence + std::int64_t{channel} * d_state + n;
#pragma unroll
    for (unsigned s = 0; s < Sequences; ++s) {
      load_four<Words>(state + s * sequence, s < sequences ? count : 0, x[s]);
    }
    load_four<Words>(p.a + std::int64_t{channel} * d_state + n, count, a);
    const float operand =
        load<Sequences>(p, first_batch, sequences, blockIdx.z * d_state + first, d_state - first);
    // All has been asked for before anything is waited for.
    if (first == 0) {
      dt += bias;
      if (p.softplus) dt = softplus(dt);
    } else {
      __syncthreads();  // B and C of the states before were read
    }
    store(shared, operand);
    __syncthreads();
#pragma unroll
    for (unsigned s = 0; s < Sequences; ++s) {
      const float step = __shfl_sync(~0u, dt, s, channel_threads);
      const float input = __shfl_sync(~0u, dt * u, s, channel_threads);
      const float4 b = shared.of[s][0][lane], c = shared.of[s][1][lane];
      const float bs[thread_states] = {b.x, b.y, b.z, b.w};
      const float cs[thread_states] = {c.x, c.y, c.z, c.w};
#pragma unroll
      for (unsigned i = 0; i < thread_states; ++i) {
        x[s][i] = fmaf(ptx::ex2(step * (a[i] * log2e)), x[s][i], input * bs[i]);
        y[s] = fmaf(cs[i], x[s][i], y[s]);
      }
      if (s < sequences) store_four<Words>(state + s * sequence, count, x[s]);
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
  if (p.d != nullptr) out = fmaf(d, u, out);
  if (p.gate) out *= z * ptx::reciprocal(1.0f + ptx::ex2(-log2e * z));
  *reinterpret_cast<__nv_bfloat16*>(p.y.token(own_batch, channel, 0)) = __float2bfloat16(out);
}

template <unsigned Sequences>
dim3 grid_of(const selective_scan_decode_problem& problem) {
  const auto rounded_up = [](std::int64_t count, unsigned part) {
    return static_cast<unsigned>((count + part - 1) / part);
  };
  return {rounded_up(problem.group_channels(), tile_channels), rounded_up(problem.batch, Sequences),
          static_cast<unsigned>(problem.groups)};
}

template <unsigned Sequences>
void launch(const selective_scan_decode_problem& problem, const parameters& p, cuda_stream stream) {
  const dim3 grid = grid_of<Sequences>(problem);
  const bool has_words = problem.d_state % thread_states == 0;
  const auto kernel = !has_words ? selective_scan_decode_kernel<Sequences, false, false>
                      : problem.d_state == step_states
                          ? selective_scan_decode_kernel<Sequences, true, true>
                          : selective_scan_decode_kernel<Sequences, true, false>;
  kernel<<<grid, threads, 0, stream>>>(p);
  BASED_CUDA_LAUNCHED();
}

void run(const selective_scan_decode_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const selective_scan_decode_problem& problem = args.problem;
  const parameters p = {
      {problem, args.operands}, args.state.data(), static_cast<unsigned>(problem.batch)};
  constexpr std::int64_t busy = 32;  // sequences that fill the GPU, a block each
  problem.batch < busy ? launch<1>(problem, p, stream) : launch<4>(problem, p, stream);
}

unsupported_reason unsupported(const selective_scan_decode_problem& problem) {
  validate(problem);
  constexpr std::int64_t most = 65535;  // blocks in the second and third dimension of a grid
  if (problem.groups > most || problem.batch > 4 * most) {
    return "more than 65535 groups of channels or of four sequences";
  }
  return {};
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
