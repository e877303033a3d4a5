// Mamba-2's decode step: one pass over the state, read once and written once.
//
//   S = exp(dt A) S + dt x B^T,   y = S C   (+ D x)   (times silu(z))
//
// Reading and writing the state is all the work there is. So a block takes 16 KB of one head's and
// every thread asks for its whole share, eight 16-byte words, before it does anything else. A lane
// keeps its columns through all of its rows: B and C are read once, and y needs one sum over the
// lanes of a row. Where there are few states a thread has one or two words, for latency is all
// there is then.
//
//   grid (B * H * P S / 4096), or up to eight times as many
//   x, z, y [B, H, 1, P]   dt [B, H, 1, 1]   b, c [B, G, 1, S], bf16   state [B, H, P, S], fp32
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/core/cuda_check.h"
#include "kernels/core/device_attribute.h"
#include "kernels/core/grid.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/state_space/ssd_decode.h"

namespace based {
namespace {

constexpr int vector = vector16<float>;  // columns of a word

constexpr int block_warps = 4;
constexpr int block_threads = block_warps * warp_size;

template <int StateDim, int ThreadWords>
struct decode_config {
  static constexpr int words_per_row = StateDim / vector;
  static constexpr int lanes_per_row = words_per_row < warp_size ? words_per_row : warp_size;
  static constexpr int lane_words = words_per_row / lanes_per_row;
  static constexpr int row_words = lane_words < ThreadWords ? lane_words : ThreadWords;
  static constexpr int warps_per_row = lane_words / row_words;
  static constexpr int rows_at_once = warp_size / lanes_per_row;  // of a warp
  static constexpr int passes = ThreadWords / row_words;
  static constexpr int warp_rows = passes * rows_at_once;
  static constexpr int block_rows = warp_rows * block_warps / warps_per_row;
};

/// The columns of a word, as fp32.
/// Called by: one thread
__device__ void load_columns(const bf16* from, float (&values)[vector]) {
  const uint2 word = *reinterpret_cast<const uint2*>(from);
  values[0] = __uint_as_float(word.x << 16);
  values[1] = __uint_as_float(word.x & 0xffff0000u);
  values[2] = __uint_as_float(word.y << 16);
  values[3] = __uint_as_float(word.y & 0xffff0000u);
}

struct kernel_params {
  ssd_decode_args<bf16> given;
  unsigned log2_head_blocks;  ///< blocks of a head
  unsigned group_heads;       ///< heads that share B and C
};
constexpr int most_batches = 65535;  // of a grid's second dimension

template <int StateDim, int ThreadWords>
__global__ void __launch_bounds__(block_threads)
    ssd_decode_kernel(const __grid_constant__ kernel_params p) {
  using config = decode_config<StateDim, ThreadWords>;
  constexpr int lanes_per_row = config::lanes_per_row;
  const ssd_decode_args<bf16>& args = p.given;
  const ssd_decode_problem& problem = args.problem;
  // No division: with few states their latency counts.
  const std::int64_t batch = blockIdx.z * std::int64_t{most_batches} + blockIdx.y;
  if (batch >= problem.batch) return;
  const unsigned head = blockIdx.x >> p.log2_head_blocks;
  const unsigned block = blockIdx.x & ((1u << p.log2_head_blocks) - 1);
  const unsigned group = head / p.group_heads;
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  const int column =
      (warp % config::warps_per_row * config::row_words * warp_size + lane % lanes_per_row) *
      vector;
  const int first_row = static_cast<int>(block) * config::block_rows +
                        warp / config::warps_per_row * config::warp_rows +
                        lane / lanes_per_row;  // then every rows_at_once-th

  // Load.
  float* const state = args.state.data() + (batch * problem.heads + head) * problem.head_state() +
                       first_row * StateDim + column;
  const auto word_of = [&](int pass, int i) {
    return state + pass * config::rows_at_once * StateDim + i * lanes_per_row * vector;
  };
  uint4 words[config::passes][config::row_words];
#pragma unroll
  for (int pass = 0; pass < config::passes; ++pass) {
#pragma unroll
    for (int i = 0; i < config::row_words; ++i) words[pass][i] = load_word(word_of(pass, i));
  }
  float b[config::row_words][vector], c[config::row_words][vector];
#pragma unroll
  for (int i = 0; i < config::row_words; ++i) {
    const int from = column + i * lanes_per_row * vector;
    load_columns(args.b.token(batch, group, 0) + from, b[i]);
    load_columns(args.c.token(batch, group, 0) + from, c[i]);
  }
  float x[config::passes];
#pragma unroll
  for (int pass = 0; pass < config::passes; ++pass) {
    x[pass] = to_float(args.x.token(batch, head, 0)[first_row + pass * config::rows_at_once]);
  }
  const float dt = args.step_size(batch, head);
  const float decay = expf(dt * args.a[head]);

  // Update, store, contract. The lane whose number within its row is a pass's keeps that pass's y.
  float own_y = 0, own_x = 0;
  const int own_pass = lane % lanes_per_row;
#pragma unroll
  for (int pass = 0; pass < config::passes; ++pass) {
    const float added = dt * x[pass];
    float sum = 0;
#pragma unroll
    for (int i = 0; i < config::row_words; ++i) {
      float element[vector];
      unpack(words[pass][i], element);
#pragma unroll
      for (int j = 0; j < vector; ++j) {
        element[j] = decay * element[j] + added * b[i][j];
        sum += element[j] * c[i][j];
      }
      store_word(word_of(pass, i), pack(element));
    }
#pragma unroll
    for (int bit = 1; bit < lanes_per_row; bit *= 2) sum += __shfl_xor_sync(~0u, sum, bit);
    if (pass == own_pass) {
      own_y = sum;
      own_x = x[pass];
    }
  }
  if constexpr (config::warps_per_row > 1) {  // one row each, which several warps share
    __shared__ float parts[block_warps];
    if (lane == 0) parts[warp] = own_y;
    __syncthreads();
    if (warp % config::warps_per_row > 0) return;
    own_y = 0;
#pragma unroll
    for (int i = 0; i < config::warps_per_row; ++i) own_y += parts[warp + i];
  }
  if (own_pass >= config::passes) return;
  const int row = first_row + own_pass * config::rows_at_once;
  args.y.token(batch, head, 0)[row] = to_bf16(args.output(batch, head, row, own_y, own_x));
}

std::int64_t blocks_of_batch(const ssd_decode_problem& problem, int thread_words) {
  return problem.heads * (problem.head_state() / (block_threads * thread_words * vector));
}

template <int StateDim, int ThreadWords>
void launch(const ssd_decode_args<bf16>& args, cuda_stream stream) {
  const ssd_decode_problem& problem = args.problem;
  const auto head_blocks =
      static_cast<unsigned>(problem.head_dim / decode_config<StateDim, ThreadWords>::block_rows);
  const kernel_params p = {args, static_cast<unsigned>(std::countr_zero(head_blocks)),
                           static_cast<unsigned>(problem.heads / problem.groups)};
  const std::int64_t batches = std::min<std::int64_t>(problem.batch, most_batches);
  const dim3 grid(static_cast<unsigned>(blocks_of_batch(problem, ThreadWords)),
                  static_cast<unsigned>(batches),
                  static_cast<unsigned>((problem.batch + batches - 1) / batches));
  ssd_decode_kernel<StateDim, ThreadWords><<<grid, block_threads, 0, stream>>>(p);
  BASED_CUDA_LAUNCHED();
}

/// Eight words a thread where that fills the GPU, else two of a narrow row and one of a wide one.
template <int StateDim>
void launch(const ssd_decode_args<bf16>& args, cuda_stream stream) {
  static const int multiprocessors = current_card().multiprocessors;
  if (args.problem.batch * blocks_of_batch(args.problem, 8) < std::int64_t{4} * multiprocessors) {
    launch<StateDim, StateDim == 256 ? 1 : 2>(args, stream);
  } else {
    launch<StateDim, 8>(args, stream);
  }
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
  return unsupported_grid(blocks_of_batch(problem, 1));
}

const registration<ssd_decode> registered{{
    .name = "ssd_decode",
    .summary = "one pass over the state, a block 16 KB of it",
    .role = implementation_role::ours,
    .tolerance = 5e-3,
    .unsupported = unsupported,
    .executed_flops = [](const ssd_decode_problem& p) { return ssd_decode::work(p).least_flops; },
    .run = run,
}};

}  // namespace
}  // namespace based
