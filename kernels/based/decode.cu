// Based decode: one block a (batch, head), one pass over its state, read once and written once.
//
//   S += phi_k(k) v^T,   z += phi_k(k),   o = phi_q(q)^T S   (/ (phi_q(q)^T z + eps))
//
// Reading and writing 153 x 64 elements is all the work there is. So each thread asks for its whole
// share of S in 16-byte words before it does anything else; while they come, 153 threads form the
// features of q and k, one each. A thread keeps its columns through all its rows, so o needs one
// reduction over the rows that lie side by side: lanes first, then warps.
//
//   grid (B*H)   q, k [B, H, 1, 16]   v, o [B, H, 1, 64], bf16   S [B, H, 153, 64], fp32 or bf16
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/based/decode.h"
#include "kernels/based/features.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/shuffle.cuh"

namespace based {
namespace {

/// `State` is the element of S.
template <class State>
struct decode_config {
  static constexpr int threads = 256;
  static constexpr int warps = threads / warp_size;
  static constexpr int vector = vector16<State>;  // columns a thread
  static constexpr int lanes_per_row = value_dim / vector;
  static constexpr int rows_per_pass = threads / lanes_per_row;
  static constexpr int passes = (compact_features + rows_per_pass - 1) / rows_per_pass;
  static_assert(threads >= compact_features);  // a thread a feature
};

struct decode_params {
  sequence_view<const bf16> q, k, v;
  sequence_view<bf16> o;
  void* kv;
  float* z;  ///< null: no normalisation
  std::uint32_t heads;
  float scale;
  float eps;
};

struct feature_pair {
  float q;
  float k;
};

template <class State>
struct decode_storage {
  using config = decode_config<State>;
  feature_pair features[config::passes * config::rows_per_pass];  // zero beyond the 153rd
  float o[config::warps][value_dim];
  float normalizer[config::warps];
};

/// Which entries of (x, 1) each feature multiplies.
struct factor_table {
  std::uint8_t i[compact_features];
  std::uint8_t j[compact_features];
};
constexpr factor_table make_factor_table() {
  factor_table table = {};
  for (int row = 0; row < compact_features; ++row) {
    const feature_factors factors = factors_of<feature_layout::compact>(row);
    table.i[row] = static_cast<std::uint8_t>(factors.i);
    table.j[row] = static_cast<std::uint8_t>(factors.j);
  }
  return table;
}
__constant__ const factor_table compact_factors = make_factor_table();

/// Called by: one thread
__device__ float entry(const bf16* x, int i) {
  return i == unit_entry ? 1.0f : to_float(x[i]);
}

/// Called by: one thread
__device__ feature_pair features_of(const bf16* q, const bf16* k, int row, float scale) {
  const feature_factors factors{compact_factors.i[row], compact_factors.j[row]};
  constexpr auto compact = feature_layout::compact;
  return {weight_of<compact>(factors, feature_side::query, scale) * entry(q, factors.i) *
              entry(q, factors.j),
          entry(k, factors.i) * entry(k, factors.j)};
}

/// `Count` bf16, as many as a thread has columns.
/// Called by: one thread
template <int Count>
__device__ void load_values(const bf16* from, float (&values)[Count]) {
  struct alignas(Count * sizeof(bf16)) {
    std::uint32_t pairs[Count / 2];
  } word = *reinterpret_cast<const decltype(word)*>(from);
#pragma unroll
  for (int p = 0; p < Count / 2; ++p) {
    values[2 * p] = __uint_as_float(word.pairs[p] << 16);
    values[2 * p + 1] = __uint_as_float(word.pairs[p] & 0xffff0000u);
  }
}

template <class State>
__global__ void __launch_bounds__(decode_config<State>::threads)
    decode_kernel(const __grid_constant__ decode_params params) {
  using config = decode_config<State>;
  constexpr int vector = config::vector;
  __shared__ decode_storage<State> shared;

  const std::uint32_t batch = blockIdx.x / params.heads;
  const std::uint32_t head = blockIdx.x % params.heads;
  const int thread = threadIdx.x;
  const int warp = thread / warp_size;
  const int lane = thread % warp_size;
  const int column = thread % config::lanes_per_row * vector;
  const int first_row = thread / config::lanes_per_row;

  // Load.
  State* kv = static_cast<State*>(params.kv) +
              (static_cast<std::int64_t>(blockIdx.x) * compact_features + first_row) * value_dim +
              column;
  uint4 words[config::passes] = {};
#pragma unroll
  for (int p = 0; p < config::passes; ++p) {
    if (first_row + p * config::rows_per_pass < compact_features) {
      words[p] = load_word(kv + p * config::rows_per_pass * value_dim);
    }
  }

  // Features, and the normaliser with them.
  if (thread < config::passes * config::rows_per_pass) {
    feature_pair features = {};
    if (thread < compact_features) {
      features = features_of(params.q.token(batch, head, 0), params.k.token(batch, head, 0), thread,
                             params.scale);
    }
    shared.features[thread] = features;
  }
  if (params.z != nullptr) {
    float normalizer = 0.0f;
    if (thread < compact_features) {
      float& z = params.z[static_cast<std::int64_t>(blockIdx.x) * compact_features + thread];
      const feature_pair features = shared.features[thread];
      const float updated = z + features.k;
      z = updated;
      normalizer = features.q * updated;
    }
    normalizer = ptx::sum_over_lanes(normalizer);
    if (lane == 0) shared.normalizer[warp] = normalizer;
  }
  float value[vector];
  load_values(params.v.token(batch, head, 0) + column, value);
  __syncthreads();

  // Update, contract, store.
  float out[vector] = {};
#pragma unroll
  for (int p = 0; p < config::passes; ++p) {
    const int row = first_row + p * config::rows_per_pass;
    const feature_pair features = shared.features[row];
    float state[vector];
    unpack(words[p], state);
#pragma unroll
    for (int i = 0; i < vector; ++i) {
      state[i] += features.k * value[i];
      out[i] += features.q * state[i];
    }
    if (row < compact_features) {
      store_word(kv + p * config::rows_per_pass * value_dim, pack(state));
    }
  }

  // Reduce over rows.
#pragma unroll
  for (float& sum : out) sum = ptx::sum_over_lanes<config::lanes_per_row>(sum);
  if (lane < config::lanes_per_row) {
#pragma unroll
    for (int i = 0; i < vector; ++i) shared.o[warp][column + i] = out[i];
  }
  __syncthreads();
  if (thread >= value_dim) return;
  float sum = 0.0f;
#pragma unroll
  for (int w = 0; w < config::warps; ++w) sum += shared.o[w][thread];
  if (params.z != nullptr) {
    float normalizer = params.eps;
#pragma unroll
    for (int w = 0; w < config::warps; ++w) normalizer += shared.normalizer[w];
    sum /= normalizer;
  }
  reinterpret_cast<__nv_bfloat16*>(params.o.token(batch, head, 0))[thread] = __float2bfloat16(sum);
}

template <class State>
void launch(const decode_params& params, std::int64_t blocks, cuda_stream stream) {
  decode_kernel<State>
      <<<static_cast<unsigned>(blocks), decode_config<State>::threads, 0, stream>>>(params);
  BASED_CUDA_LAUNCHED();
}

void run(const decode_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const decode_problem& problem = args.problem;
  const decode_params params{
      .q = args.q,
      .k = args.k,
      .v = args.v,
      .o = args.o,
      .kv = args.kv,
      .z = problem.normalize ? args.z : nullptr,
      .heads = static_cast<std::uint32_t>(problem.heads),
      .scale = problem.scale,
      .eps = problem.eps,
  };
  problem.state == state_type::f32 ? launch<float>(params, problem.batch_heads(), stream)
                                   : launch<bf16>(params, problem.batch_heads(), stream);
}

unsupported_reason unsupported(const decode_problem& problem) {
  if (problem.layout != decode_layout::compact) return "takes the compact state";
  return unsupported_grid(problem.batch_heads());
}

double executed_flops(const decode_problem& problem) {
  constexpr int feature_flops = 3;  // two products for q, one for k
  return static_cast<double>(problem.batch_heads()) *
         (decode_config<float>::passes * decode_config<float>::rows_per_pass * 4.0 * value_dim +
          feature_flops * compact_features);
}

const registration<based_decode> registered{{
    .name = "based",
    .summary = "one pass over the compact state, features formed in the kernel",
    .role = implementation_role::ours,
    .tolerance = 5e-3,
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based
