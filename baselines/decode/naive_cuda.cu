// The baseline naive of decode.h: one kernel an operation.
//
//   q, k [B, H, 1, 320]   v, o [B, H, 1, 64]   S [B, H, 320, 64]   z [B, H, 320]
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "baselines/decode/decode.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/shuffle.cuh"

namespace based::decode {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * warp_size;

/// `State` is the element of S; a thread moves 16 bytes of it.
template <class State>
struct state_config {
  static constexpr int vector = vector16<State>;
  static constexpr int words_per_row = value_dim / vector;
  static constexpr int rows_per_pass = threads / words_per_row;
  static_assert(padded_features % rows_per_pass == 0);
};

/// z += phi_k. Grid (B*H).
__global__ void add_keys_kernel(decode_args<bf16> args) {
  const std::int64_t heads = args.problem.heads;
  const bf16* k = args.k.token(blockIdx.x / heads, blockIdx.x % heads, 0);
  float* z = args.z + static_cast<std::int64_t>(blockIdx.x) * padded_features;
  for (int row = threadIdx.x; row < padded_features; row += threads) z[row] += to_float(k[row]);
}

/// S += phi_k v^T. Grid (B*H, 320 / rows_per_pass): a word a thread.
template <class State>
__global__ void add_products_kernel(decode_args<bf16> args) {
  constexpr int vector = state_config<State>::vector;
  constexpr int words_per_row = state_config<State>::words_per_row;
  const std::int64_t heads = args.problem.heads;
  const int column = threadIdx.x % words_per_row * vector;
  const int row = blockIdx.y * state_config<State>::rows_per_pass + threadIdx.x / words_per_row;
  const float key = to_float(args.k.token(blockIdx.x / heads, blockIdx.x % heads, 0)[row]);
  const bf16* v = args.v.token(blockIdx.x / heads, blockIdx.x % heads, 0) + column;
  State* word = static_cast<State*>(args.kv) +
                (static_cast<std::int64_t>(blockIdx.x) * padded_features + row) * value_dim +
                column;
  float state[vector];
  unpack(load_word(word), state);
#pragma unroll
  for (int i = 0; i < vector; ++i) state[i] += key * to_float(v[i]);
  store_word(word, pack(state));
}

/// o = phi_q^T S. Grid (B*H).
template <class State>
__global__ void contract_kernel(decode_args<bf16> args) {
  constexpr int vector = state_config<State>::vector;
  constexpr int words_per_row = state_config<State>::words_per_row;
  constexpr int rows_per_pass = state_config<State>::rows_per_pass;
  __shared__ float partial[warps][value_dim];
  const std::int64_t heads = args.problem.heads;
  const bf16* q = args.q.token(blockIdx.x / heads, blockIdx.x % heads, 0);
  const int column = threadIdx.x % words_per_row * vector;
  const int first_row = threadIdx.x / words_per_row;
  const State* kv = static_cast<const State*>(args.kv) +
                    static_cast<std::int64_t>(blockIdx.x) * padded_features * value_dim + column;
  float sum[vector] = {};
#pragma unroll 5
  for (int row = first_row; row < padded_features; row += rows_per_pass) {
    float state[vector];
    unpack(load_word(kv + row * value_dim), state);
    const float query = to_float(q[row]);
#pragma unroll
    for (int i = 0; i < vector; ++i) sum[i] += query * state[i];
  }
#pragma unroll
  for (int i = 0; i < vector; ++i) {
    sum[i] = ptx::sum_over_lanes<words_per_row>(sum[i]);
    if (threadIdx.x % warp_size < words_per_row) {
      partial[threadIdx.x / warp_size][column + i] = sum[i];
    }
  }
  __syncthreads();
  if (threadIdx.x >= value_dim) return;
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < warps; ++w) total += partial[w][threadIdx.x];
  args.o.token(blockIdx.x / heads, blockIdx.x % heads, 0)[threadIdx.x] = to_bf16(total);
}

/// o /= phi_q^T z + eps. A warp a (batch, head).
__global__ void normalize_kernel(decode_args<bf16> args) {
  const std::int64_t batch_head =
      blockIdx.x * static_cast<std::int64_t>(warps) + threadIdx.x / warp_size;
  if (batch_head >= args.problem.batch_heads()) return;
  const std::int64_t batch = batch_head / args.problem.heads;
  const std::int64_t head = batch_head % args.problem.heads;
  const int lane = threadIdx.x % warp_size;
  const bf16* q = args.q.token(batch, head, 0);
  const float* z = args.z + batch_head * padded_features;
  float sum = 0.0f;
  for (int row = lane; row < padded_features; row += warp_size) sum += to_float(q[row]) * z[row];
  sum = ptx::sum_over_lanes(sum);
  bf16* o = args.o.token(batch, head, 0);
  for (int column = lane; column < value_dim; column += warp_size) {
    o[column] = to_bf16(to_float(o[column]) / (sum + args.problem.eps));
  }
}

template <class State>
void launch(const decode_args<bf16>& args, cuda_stream stream) {
  const auto heads = static_cast<unsigned>(args.problem.batch_heads());
  if (args.problem.normalize) {
    add_keys_kernel<<<heads, threads, 0, stream>>>(args);
    BASED_CUDA_LAUNCHED();
  }
  constexpr int passes = padded_features / state_config<State>::rows_per_pass;
  add_products_kernel<State><<<dim3(heads, passes), threads, 0, stream>>>(args);
  BASED_CUDA_LAUNCHED();
  contract_kernel<State><<<heads, threads, 0, stream>>>(args);
  BASED_CUDA_LAUNCHED();
  if (args.problem.normalize) {
    normalize_kernel<<<(heads + warps - 1) / warps, threads, 0, stream>>>(args);
    BASED_CUDA_LAUNCHED();
  }
}

void run(const decode_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  args.problem.state == state_type::f32 ? launch<float>(args, stream) : launch<bf16>(args, stream);
}

unsupported_reason unsupported(const decode_problem& problem) {
  if (problem.layout != decode_layout::padded) return "takes the padded state";
  return unsupported_grid(problem.batch_heads());
}

const registration<based_decode> registered{{
    .name = "naive",
    .summary = "eager PyTorch: state updates and contraction, a kernel each",
    .role = implementation_role::baseline,
    .reimplements = {"torch_bmm"},
    .tolerance = tolerance,
    .adapt = [](decode_problem& problem) { problem.layout = decode_layout::padded; },
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based::decode
