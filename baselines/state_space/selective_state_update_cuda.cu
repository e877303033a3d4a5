// The baseline selective_state_update of ssd_decode.h.
//
// Grid (P / rows, H, B), a thread a 16-byte word of the rows' state:
//
//   x, z, y [B, H, 1, P]   dt [B, H, 1, 1]   b, c [B, G, 1, S], bf16   state [B, H, P, S], fp32
#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "baselines/state_space/ssd_decode.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"

namespace based::ssd_decode_baselines {
namespace {

constexpr int vector = vector16<float>;

template <int StateDim>
struct config {
  static constexpr int rows = StateDim == 64 ? 8 : 4;
  static constexpr int words_per_row = StateDim / vector;
  static constexpr int threads = rows * words_per_row;
  static constexpr int lanes_per_row = words_per_row < warp_size ? words_per_row : warp_size;
  static constexpr int warps_per_row = words_per_row / lanes_per_row;
};

template <int StateDim>
__global__ void __launch_bounds__(config<StateDim>::threads)
    selective_state_update_kernel(const __grid_constant__ ssd_decode_args<bf16> args) {
  using config = config<StateDim>;
  __shared__ float partial[config::rows][config::warps_per_row];
  const ssd_decode_problem& problem = args.problem;
  const std::int64_t batch = blockIdx.z, head = blockIdx.y;
  const int row = threadIdx.x / config::words_per_row;
  const int p = static_cast<int>(blockIdx.x) * config::rows + row;
  const int column = threadIdx.x % config::words_per_row * vector;
  float* const word = args.state.data() + (batch * problem.heads + head) * problem.head_state() +
                      p * StateDim + column;
  float state[vector];
  unpack(load_word(word), state);

  const float x = to_float(args.x.token(batch, head, 0)[p]);
  const float dt = args.step_size(batch, head);
  const float decay = expf(dt * args.a[head]);
  const bf16* const b = args.b.token(batch, problem.group_of(head), 0) + column;
  const bf16* const c = args.c.token(batch, problem.group_of(head), 0) + column;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < vector; ++i) {
    state[i] = state[i] * decay + to_float(b[i]) * dt * x;
    sum += state[i] * to_float(c[i]);
  }
  store_word(word, pack(state));

#pragma unroll
  for (int bit = 1; bit < config::lanes_per_row; bit *= 2) {
    sum += __shfl_xor_sync(~0u, sum, bit);
  }
  if constexpr (config::warps_per_row > 1) {
    partial[row][threadIdx.x / warp_size % config::warps_per_row] = sum;
    __syncthreads();
    sum = 0;
#pragma unroll
    for (const float each : partial[row]) sum += each;
  }
  if (column > 0) return;
  args.y.token(batch, head, 0)[p] = to_bf16(args.output(batch, head, p, sum, x));
}

template <int StateDim>
void launch(const ssd_decode_args<bf16>& args, cuda_stream stream) {
  const ssd_decode_problem& problem = args.problem;
  const dim3 grid(static_cast<unsigned>(problem.head_dim / config<StateDim>::rows),
                  static_cast<unsigned>(problem.heads), static_cast<unsigned>(problem.batch));
  selective_state_update_kernel<StateDim><<<grid, config<StateDim>::threads, 0, stream>>>(args);
  BASED_CUDA_LAUNCHED();
}

void run(const ssd_decode_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  switch (args.problem.state_dim) {
    case 64:
      return launch<64>(args, stream);
    case 128:
      return launch<128>(args, stream);
    default:
      return launch<256>(args, stream);
  }
}

unsupported_reason unsupported(const ssd_decode_problem& problem) {
  validate(problem);
  constexpr std::int64_t largest_grid = std::numeric_limits<std::uint16_t>::max();
  if (problem.heads > largest_grid || problem.batch > largest_grid) {
    return "more than 65535 heads or sequences, as the original's grid allows";
  }
  return std::nullopt;
}

const registration<ssd_decode> registered{{
    .name = "selective_state_update",
    .summary = "Mamba's Triton step: a block a few rows of a head's state",
    .role = implementation_role::baseline,
    .reimplements = {"mamba2_step"},
    .tolerance = tolerance,
    .unsupported = unsupported,
    .executed_flops = [](const ssd_decode_problem& p) { return ssd_decode::work(p).least_flops; },
    .run = run,
}};

}  // namespace
}  // namespace based::ssd_decode_baselines
