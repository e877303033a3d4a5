// Based prefill on Hopper in its quadratic form, without a state: for sequences so short that all
// pairs of tokens cost less than one.
//
//   O = mask(1 + s A + (s A)^2 / 2) V,   A = Q K^T,  s = scale
//
// Grid: one CTA, of one warpgroup, per 64 queries of a (batch, head), those with the most keys
// first. It walks through the keys before them in chunks of 64, held by a ring. The next chunk's
// scores are worked out while V is added up with this one's weights:
//
//   loaded[stage]    k and v of a chunk are in shared memory   copy engine -> warpgroup
//   consumed[stage]  and have been read                        warpgroup -> its first warp
#include "kernels/based/prefill_sm90.cuh"
#include "kernels/based/weights.cuh"
#include "kernels/common/cuda_check.h"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm90 {
namespace {

constexpr int threads = warpgroup::threads;
constexpr int stages = 4;
constexpr int ctas_per_multiprocessor = 4;

/// What the weights are multiplied with before they are rounded. Those of small scores are near 1,
/// where bf16 steps by 1/256 to 1/128 of a value; times this they are near 7/4, where it is 1/224.
constexpr float weight_factor = 1.75f;

struct shared_storage {
  token_tile q;                          // [64 x 16]
  token_tile k[stages];                  // [64 x 16]
  value_tile v[stages];                  // [64 x 64]
  output_tile output[warpgroup::warps];  // [16 x 64]
  ones_tile ones;                        // [16 x 64]
  barrier queries_loaded;
  barrier loaded[stages];
  barrier consumed[stages];
};
static_assert(ctas_per_multiprocessor * (sizeof(shared_storage) + reserved_for_system) <=
              multiprocessor_bytes);

__device__ void start_scores(accumulator_tile<64>& scores, const operand_slice& q,
                             const token_tile& k) {
  warpgroup::mma_fence();
  warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(scores, q, k, 0);
  warpgroup::mma_commit();
}

/// [O sums] += W [V ones], or without the sums. After mma_fence().
template <int Cols>
__device__ void start_output(accumulator_tile<Cols>& o_and_sums, const operand_tile<64>& w,
                             const value_tile& v, const ones_tile& ones) {
#pragma unroll
  for (int i = 0; i < w.slices; ++i) {
    if constexpr (Cols > value_dim) {
      warpgroup::mma_AB_beside(o_and_sums, w.slice[i], v, i, ones);
    } else {
      warpgroup::mma_AB(o_and_sums, w.slice[i], v, i);
    }
  }
  warpgroup::mma_commit();
}

template <bool Normalize>
__global__ void __launch_bounds__(threads, ctas_per_multiprocessor)
    quadratic_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  shared_storage& shared = *reinterpret_cast<shared_storage*>(shared_bytes);
  const grid_head head(p);
  const int own = gridDim.y - 1 - blockIdx.y;  // the chunk of the queries, and the last of the keys

  if constexpr (Normalize) {
    block::fill(shared.ones, ptx::two_ones);
    ptx::fence_proxy_async();
  }
  if (threadIdx.x == 0) {
    shared.queries_loaded.init(1);
    for (int i = 0; i < stages; ++i) {
      shared.loaded[i].init(1);
      shared.consumed[i].init(warpgroup::warps);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  const int warp = warp::uniform_index();
  if (warp == 0) {
    warp::load_async(shared.queries_loaded, head.chunk(own), tile_copy{shared.q, p.q});
  }
  static_assert(stages == warpgroup::warps);
  if (warp <= own) load_keys_and_values(shared, p, head.chunk(warp), warp);

  accumulator_tile<64> scores;                       // A [64 x 64], not yet scaled
  accumulator_tile<Normalize ? 72 : 64> o_and_sums;  // O [64 x 64], the weights' sums [64 x 8]
  accumulator_tile<64>& o = first_columns<64>(o_and_sums);
  warpgroup::clear(o_and_sums);
  const polynomial weight(p.scale, weight_factor);
  const std::uint32_t mask = causal_mask();
  // W [64 x 64] of a chunk. Only that of the queries themselves needs a mask.
  const auto weigh_if_past = [&](int chunk) {
    if (chunk < own) weigh_past(scores, weight);
  };
  const auto rounded_weights = [&](int chunk) {
    return chunk < own ? to_bf16(scores) : weights(scores, weight, mask, warp);
  };

  shared.queries_loaded.wait(0);
  const operand_slice q = warpgroup::load(shared.q, 0);  // [64 x 16]
  ring_position<stages> stage;
  shared.loaded[stage.buffer].wait(stage.parity);
  start_scores(scores, q, shared.k[stage.buffer]);
  warpgroup::mma_wait<0>(scores);
  weigh_if_past(0);
  operand_tile<64> w = rounded_weights(0);

  for (int chunk = 0; chunk < own; ++chunk) {  // whose weights are ready
    const ring_position<stages> next_stage = stage.next();
    shared.loaded[next_stage.buffer].wait(next_stage.parity);
    start_scores(scores, q, shared.k[next_stage.buffer]);
    start_output(o_and_sums, w, shared.v[stage.buffer], shared.ones);
    warpgroup::mma_wait<1>(scores);
    weigh_if_past(chunk + 1);
    warpgroup::mma_wait<0>(o_and_sums, scores);  // not rounded before: the product reads `w`

    shared.consumed[stage.buffer].warp_arrive();
    const int next = chunk + stages;
    if (warp == 0 && next <= own) {
      shared.consumed[stage.buffer].wait(stage.parity);
      load_keys_and_values(shared, p, head.chunk(next), stage.buffer);
    }
    w = rounded_weights(chunk + 1);
    stage = next_stage;
  }
  warpgroup::mma_fence();
  start_output(o_and_sums, w, shared.v[stage.buffer], shared.ones);
  warpgroup::mma_wait<0>(o_and_sums);

  if constexpr (Normalize) {
    const float eps = weight_factor * p.eps;
    const auto sum = [&](int row) { return o_and_sums.value[o.size + 2 * row] + eps; };
    warpgroup::scale_rows(o, {ptx::reciprocal(sum(0)), ptx::reciprocal(sum(1))});
  } else {
    warpgroup::scale_rows(o, {1 / weight_factor, 1 / weight_factor});
  }
  output_tile& output = shared.output[warp];  // this warp's rows of O [16 x 64]
  warp::store(output, to_bf16(o));
  warp::store_async(output, p.o, head.output(own, warp));
  warp::wait_stores_read();
}

}  // namespace

double quadratic_flops(const prefill_shape& shape) {
  constexpr double pair = 2.0 * chunk_tokens * chunk_tokens * (feature_dim + value_dim);
  const double chunks = static_cast<double>(chunks_of(shape));
  return shape.batch_heads() * chunks * (chunks + 1) / 2 * pair;
}

void launch_quadratic(const prefill_args<bf16>& args, cuda_stream stream) {
  const parameters p = make_parameters(args, 1);
  const auto kernel =
      args.problem.options.normalize ? quadratic_kernel<true> : quadratic_kernel<false>;
  BASED_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  sizeof(shared_storage)));
  const dim3 ctas(static_cast<unsigned>(args.problem.shape.batch_heads()), p.chunks);
  kernel<<<ctas, threads, sizeof(shared_storage), stream>>>(p);
  BASED_CUDA_LAUNCHED();
}

}  // namespace based::sm90
