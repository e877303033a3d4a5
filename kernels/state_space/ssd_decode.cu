// Mamba-2's decode step: one pass over the state, read once and written once.
//
//   S = exp(dt A) S + dt x B^T,   y = S C   (+ D x)   (times silu(z))
//
// Reading and writing the state is all the work there is. So a block takes 16 KB of one head's and
// every thread asks for its whole share, eight 16-byte words, before it does anything else. A lane
// keeps its columns through all of its rows: B and C are read once, and y needs one sum over the
// lanes of a row.
//
//   grid (B * H * P S / 4096)   x, z, y [B, H, 1, P]   dt [B, H, 1, 1]   b, c [B, G, 1, S], bf16
//                               state [B, H, P, S], fp32
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/state_space/ssd_decode.h"

namespace based {
namespace {

constexpr int vector = vector16<float>;  // columns of a word

template <int StateDim>
struct decode_config {
  static constexpr int threads = 128;
  static constexpr int thread_words = 8;
  static constexpr int words_per_row = StateDim / vector;
  static constexpr int lanes_per_row = words_per_row < warp_size ? words_per_row : warp_size;
  static constexpr int row_words = words_per_row / lanes_per_row;  // of a thread
  static constexpr int rows_at_once = warp_size / lanes_per_row;   // of a warp
  static constexpr int passes = thread_words / row_words;
  static constexpr int warp_rows = passes * rows_at_once;
  static constexpr int block_rows = warp_rows * threads / warp_size;
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

template <int StateDim>
__global__ void __launch_bounds__(decode_config<StateDim>::threads)
    ssd_decode_kernel(const __grid_constant__ ssd_decode_args<bf16> args) {
  using config = decode_config<StateDim>;
  constexpr int lanes_per_row = config::lanes_per_row;
  const ssd_decode_problem& problem = args.problem;
  const auto blocks_per_head = static_cast<unsigned>(problem.head_dim / config::block_rows);
  const unsigned batch_head = blockIdx.x / blocks_per_head;
  const unsigned batch = batch_head / static_cast<unsigned>(problem.heads);
  const unsigned head = batch_head % static_cast<unsigned>(problem.heads);
  const unsigned group = head / static_cast<unsigned>(problem.heads / problem.groups);
  const int lane = threadIdx.x % warp_size;
  const int column = lane % lanes_per_row * vector;
  const int first_row = static_cast<int>(blockIdx.x % blocks_per_head) * config::block_rows +
                        static_cast<int>(threadIdx.x) / warp_size * config::warp_rows +
                        lane / lanes_per_row;  // then every rows_at_once-th

  // Load.
  float* const state =
      args.state.data() + batch_head * problem.head_state() + first_row * StateDim + column;
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
  if (own_pass >= config::passes) return;
  const int row = first_row + own_pass * config::rows_at_once;
  args.y.token(batch, head, 0)[row] = to_bf16(args.output(batch, head, row, own_y, own_x));
}

std::int64_t blocks_of(const ssd_decode_problem& problem) {
  constexpr int block_elements = decode_config<64>::block_rows * 64;
  static_assert(block_elements == decode_config<128>::block_rows * 128 &&
                block_elements == decode_config<256>::block_rows * 256);
  return problem.batch_heads() * (problem.head_state() / block_elements);
}

void run(const ssd_decode_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const auto launch = [&]<int StateDim>(std::integral_constant<int, StateDim>) {
    ssd_decode_kernel<StateDim><<<static_cast<unsigned>(blocks_of(args.problem)),
                                  decode_config<StateDim>::threads, 0, stream>>>(args);
    BASED_CUDA_LAUNCHED();
  };
  switch (args.problem.state_dim) {
    case 64:
      return launch(std::integral_constant<int, 64>());
    case 128:
      return launch(std::integral_constant<int, 128>());
    default:
      return launch(std::integral_constant<int, 256>());
  }
}

unsupported_reason unsupported(const ssd_decode_problem& problem) {
  validate(problem);
  return unsupported_grid(blocks_of(problem));
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
