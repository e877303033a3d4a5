// "block_scan" of selective_scan.h: for each state n, over the tokens of a chunk,
//
//   (a_l, b_l) = (exp(dt_l A[n]), dt_l u_l B_l[n]),   x_l = a_l x_{l-1} + b_l
//
// by an inclusive scan with (a, b) o (a', b') = (a a', a' b + b'); y_l += C_l[n] x_l.
//
//   grid (B d_inner)   block: tokens / 16, 32 to 128   u, delta, z, y [B, d_inner, N]
//   B, C [B, G d_state, N], bf16   A [d_inner, d_state], fp32
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "baselines/selective_scan/selective_scan.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/ex2.cuh"

namespace based {
namespace {

constexpr int items = 16;  // tokens of a thread
constexpr float log2e = 1.44269504f;

struct parameters : scan_kernel_operands {
  const float* initial_state;
  float* final_state;
  std::int64_t seqlen;
  bool aligned;
};

/// x -> a x + b.
struct step {
  float a = 1, b = 0;
};

/// First `earlier`, then `later`.
/// Called by: one thread
__device__ step then(const step& earlier, const step& later) {
  return {earlier.a * later.a, fmaf(later.a, earlier.b, later.b)};
}

/// Tokens [token, token + items) of a row, zeros from `end` on.
/// Called by: one thread
__device__ void load(const bf16* row, std::int64_t token, std::int64_t end, bool aligned,
                     float (&values)[items]) {
  constexpr int word = vector16<bf16>;
  if (aligned && token + items <= end) {
#pragma unroll
    for (int i = 0; i < items; i += word) {
      unpack(load_word(row + token + i), reinterpret_cast<float(&)[word]>(values[i]));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < items; ++i) {
    values[i] = token + i < end ? __uint_as_float(std::uint32_t{row[token + i].bits} << 16) : 0.0f;
  }
}

/// Called by: one thread
__device__ void store(bf16* row, std::int64_t token, std::int64_t end, bool aligned,
                      const float (&values)[items]) {
  constexpr int word = vector16<bf16>;
  if (aligned && token + items <= end) {
#pragma unroll
    for (int i = 0; i < items; i += word) {
      store_word(row + token + i, pack(reinterpret_cast<const float(&)[word]>(values[i])));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < items; ++i) {
    if (token + i < end) {
      reinterpret_cast<__nv_bfloat16*>(row)[token + i] = __float2bfloat16(values[i]);
    }
  }
}

/// What the threads before this one do, from the chunk's first token on; `total`: what all do.
/// Called by: one block
template <int Threads>
__device__ step scan_before(const step& own, step (&of_warps)[Threads / warp_size], step& total) {
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  step through = own;
#pragma unroll
  for (int distance = 1; distance < warp_size; distance *= 2) {
    const step earlier = {__shfl_up_sync(~0u, through.a, distance),
                          __shfl_up_sync(~0u, through.b, distance)};
    if (lane >= distance) through = then(earlier, through);
  }
  step before = {__shfl_up_sync(~0u, through.a, 1), __shfl_up_sync(~0u, through.b, 1)};
  if (lane == 0) before = {};
  __syncthreads();  // the last state's have been read
  if (lane == warp_size - 1) of_warps[warp] = through;
  __syncthreads();
  step warps_before;
  total = {};
#pragma unroll
  for (int w = 0; w < Threads / warp_size; ++w) {
    if (w == warp) warps_before = total;
    total = then(total, of_warps[w]);
  }
  return then(warps_before, before);
}

template <int Threads>
__global__ void __launch_bounds__(Threads) block_scan_kernel(const __grid_constant__ parameters p) {
  __shared__ step of_warps[Threads / warp_size];
  __shared__ float x[largest_scan_state];
  const std::int64_t row = blockIdx.x;
  const std::int64_t batch = row / p.d_inner, channel = row % p.d_inner;
  const std::int64_t shared_row = channel / p.group_channels * p.d_state;
  const float bias = p.bias != nullptr ? p.bias[channel] : 0.0f;
  const float skip = p.d != nullptr ? p.d[channel] : 0.0f;
  for (int n = threadIdx.x; n < p.d_state; n += Threads) {
    x[n] = p.initial_state != nullptr ? p.initial_state[row * p.d_state + n] : 0.0f;
  }

  for (std::int64_t chunk = 0; chunk < p.seqlen; chunk += Threads * items) {
    const std::int64_t token = chunk + static_cast<std::int64_t>(threadIdx.x) * items;
    float dt[items], input[items], y[items];
    load(p.u.token(batch, channel, 0), token, p.seqlen, p.aligned, input);
    load(p.delta.token(batch, channel, 0), token, p.seqlen, p.aligned, dt);
#pragma unroll
    for (int i = 0; i < items; ++i) {
      dt[i] += bias;
      if (p.softplus) dt[i] = softplus(dt[i]);
      if (token + i >= p.seqlen) dt[i] = 0.0f;  // x stays as it is
      y[i] = skip * input[i];
      input[i] *= dt[i];
    }
#pragma unroll 1
    for (int n = 0; n < p.d_state; ++n) {
      const float decay = log2e * p.a[channel * p.d_state + n];
      float b[items], c[items], a[items];
      load(p.b.token(batch, shared_row + n, 0), token, p.seqlen, p.aligned, b);
      load(p.c.token(batch, shared_row + n, 0), token, p.seqlen, p.aligned, c);
      step own;
#pragma unroll
      for (int i = 0; i < items; ++i) {
        a[i] = ptx::ex2(dt[i] * decay);
        b[i] *= input[i];
        own = then(own, {a[i], b[i]});
      }
      step total;
      const step before = scan_before<Threads>(own, of_warps, total);
      const float start = x[n];
      float state = fmaf(before.a, start, before.b);
#pragma unroll
      for (int i = 0; i < items; ++i) {
        state = fmaf(a[i], state, b[i]);
        y[i] = fmaf(c[i], state, y[i]);
      }
      __syncthreads();  // all have read x
      if (threadIdx.x == 0) x[n] = fmaf(total.a, start, total.b);
    }
    if (p.gate) {
      float z[items];
      load(p.z.token(batch, channel, 0), token, p.seqlen, p.aligned, z);
#pragma unroll
      for (int i = 0; i < items; ++i) y[i] *= z[i] / (1.0f + __expf(-z[i]));
    }
    store(p.y.token(batch, channel, 0), token, p.seqlen, p.aligned, y);
  }
  __syncthreads();
  for (int n = threadIdx.x; p.final_state != nullptr && n < p.d_state; n += Threads) {
    p.final_state[row * p.d_state + n] = x[n];
  }
}

template <int Threads>
void launch(const parameters& p, std::int64_t rows, cuda_stream stream) {
  block_scan_kernel<Threads><<<static_cast<unsigned>(rows), Threads, 0, stream>>>(p);
  BASED_CUDA_LAUNCHED();
}

/// Threads of a block, as the original chooses them, but for the least numbers of items.
int threads_of(const selective_scan_problem& problem) {
  return problem.seqlen <= 32 * items ? 32 : problem.seqlen <= 64 * items ? 64 : 128;
}

void run(const selective_scan_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const selective_scan_problem& problem = args.problem;
  const scan_operands<bf16>& given = args.operands;
  const auto is_aligned = [](const auto& view) {
    constexpr auto word = static_cast<std::int64_t>(vector16<bf16>);
    return view.batch_stride % word == 0 && view.head_stride % word == 0;
  };
  const bool aligned = is_aligned(given.u) && is_aligned(given.delta) && is_aligned(given.b) &&
                       is_aligned(given.c) && is_aligned(given.y) &&
                       (!problem.gate || is_aligned(given.z));
  const parameters p = {{problem, given},
                        problem.initial_state ? args.initial_state.data() : nullptr,
                        problem.final_state ? args.final_state.data() : nullptr,
                        problem.seqlen,
                        aligned};
  switch (threads_of(problem)) {
    case 32:
      return launch<32>(p, problem.rows(), stream);
    case 64:
      return launch<64>(p, problem.rows(), stream);
    default:
      return launch<128>(p, problem.rows(), stream);
  }
}

unsupported_reason unsupported(const selective_scan_problem& problem) {
  validate(problem);
  return unsupported_grid(problem.rows());
}

double executed_flops(const selective_scan_problem& problem) {
  const std::int64_t chunk = std::int64_t{threads_of(problem)} * items;
  const std::int64_t tokens = (problem.seqlen + chunk - 1) / chunk * chunk;
  constexpr double scan = 3;  // a pair after another: of each token, and a few a thread
  return scan_flops(problem, tokens) +
         scan * static_cast<double>(problem.rows() * problem.d_state) * static_cast<double>(tokens);
}

const registration<selective_scan> registered{{
    .name = "block_scan",
    .summary = "mamba-ssm's algorithm: a block a channel, a parallel scan a state",
    .role = implementation_role::baseline,
    .reimplements = {"mamba"},
    .tolerance = 2.5e-3,
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based
