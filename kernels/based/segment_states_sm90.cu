// The states that the segments of a split sequence contribute, each from zero:
//
//   S_segment = sum over its chunks of phi(K)^T V
//
// Grid: one CTA, of one warpgroup, per segment but the last of each (batch, head). The features of
// a chunk are built while the tensor cores work on the chunk before.
#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/prefill_sm90.cuh"
#include "kernels/based/quad_features.cuh"
#include "kernels/common/cuda_check.h"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm90 {
namespace {

using quad::feature_tile;

constexpr int stages = 5;
constexpr int feature_buffers = 2;
constexpr int threads = warpgroup::threads;
constexpr int ctas_per_multiprocessor = 2;

struct shared_storage {
  token_tile k[stages];                        // [64 x 16]
  value_tile v[stages];                        // [64 x 64]
  feature_tile key_features[feature_buffers];  // [64 x 160]
  barrier loaded[stages];
};

template <bool Moments>
__global__ void __launch_bounds__(threads, ctas_per_multiprocessor)
    segment_states_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  shared_storage& shared = *reinterpret_cast<shared_storage*>(shared_bytes);
  constexpr int named_barrier = 1;
  const int warp = warp::uniform_index();
  const segment_range range(p);
  ptx::launch_dependent_grid();

  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; ++i) shared.loaded[i].init(1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const bool loads = warp == 0;
  for (int i = 0; loads && i < stages && range.first + i < range.last; ++i) {
    load_keys_and_values(shared, p, range.chunk(range.first + i), i);
  }

  state_accumulator s_transposed;  // S^T [64 x 160]
  warpgroup::clear(s_transposed);
  key_moments moments;
  moments.clear();
  ring_position<stages> stage;
  ring_position<feature_buffers> features;

  const auto build_features = [&](int stage_buffer, int feature_buffer) {
    quad::store_key_features(shared.key_features[feature_buffer], shared.k[stage_buffer], p.scale,
                             warp);
    if constexpr (Moments) moments.add(shared.k[stage_buffer]);
  };
  shared.loaded[0].wait(0);
  build_features(0, 0);

  int previous = 0;
  for (int chunk = range.first; chunk < range.last; ++chunk) {
    ptx::fence_proxy_async();
    warpgroup::sync<named_barrier>();  // the features are there, the previous chunk is read
    const value_tile& v = shared.v[stage.buffer];                             // [64 x 64]
    const feature_tile& key_features = shared.key_features[features.buffer];  // [64 x 160]
    warpgroup::mma_fence();
    warpgroup::mma_AtB(s_transposed, v, key_features);
    warpgroup::mma_commit();

    const int next = chunk - 1 + stages;
    if (loads && chunk > range.first && next < range.last) {
      load_keys_and_values(shared, p, range.chunk(next), previous);
    }
    previous = stage.buffer;
    stage.advance();
    features.advance();
    if (chunk + 1 < range.last) {
      shared.loaded[stage.buffer].wait(stage.parity);
      build_features(stage.buffer, features.buffer);
    }
    warpgroup::mma_wait<0>(s_transposed);
  }

  segment_state& partial =
      p.partials[std::int64_t{range.batch_head()} * (p.segments - 1) + range.segment];
  warpgroup::store_parts(partial.state, s_transposed);
  if constexpr (Moments) moments.store_part(partial.moments);
}

}  // namespace

void launch_segment_states(const parameters& p, std::int64_t batch_heads, bool moments,
                           cuda_stream stream) {
  const auto kernel = moments ? segment_states_kernel<true> : segment_states_kernel<false>;
  BASED_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  sizeof(shared_storage)));
  const dim3 ctas(static_cast<unsigned>(batch_heads), p.segments - 1);
  kernel<<<ctas, threads, sizeof(shared_storage), stream>>>(p);
  BASED_CUDA_LAUNCHED();
}

}  // namespace based::sm90
