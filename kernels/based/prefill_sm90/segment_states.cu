// The states that the segments of a split sequence contribute, each from zero:
//
//   S_segment = sum over its chunks of phi(K)^T V
//
// The last chunk comes first: what the main kernel starts with is then still in the L2.
//
// Grid: one CTA, of one warpgroup, per segment but the last of each (batch, head).
#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/prefill_sm90/host.h"
#include "kernels/based/quad_features.cuh"
#include "kernels/based/state_pass.cuh"
#include "kernels/core/launch.h"
#include "kernels/tile/pipeline.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm90 {
namespace {

using quad::feature_tile;

constexpr int threads = warpgroup::threads;
constexpr int ctas_per_multiprocessor = 2;

struct shared_storage {
  static constexpr int stages = 5;
  token_tile k[stages];                             // [64 x 16]
  value_tile v[stages];                             // [64 x 64]
  feature_tile key_features[pass_feature_buffers];  // [64 x 160]
  fill_ring<stages> chunk_ring;                     // k and v
};

template <bool Moments>
__global__ void __launch_bounds__(threads, ctas_per_multiprocessor)
    segment_states_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  shared_storage& shared = *reinterpret_cast<shared_storage*>(shared_bytes);
  constexpr int stages = shared_storage::stages;
  const int warp = warp::uniform_index();
  const segment_range range = even_segment(p);
  ptx::launch_dependent_grid();

  if (threadIdx.x == 0) {
    shared.chunk_ring.init(1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const int count = range.last - range.first;
  const auto load = [&](int i, int stage) {
    if (i < count) load_keys_and_values(shared, p, range.chunk(range.last - 1 - i), stage);
  };
  for (int i = 0; warp == 0 && i < stages; ++i) load(i, i);

  state_accumulator s_transposed;  // S^T [64 x 160]
  clear(s_transposed);
  moments_if<Moments> moments;
  moments.clear();
  add_chunks<0, 1>(
      s_transposed, moments, shared, shared.key_features, count, p.scale, warp,
      [&](int i, ring_position<stages> stage_at) { load(i + stages, stage_at.buffer); });

  segment_state& partial = p.partials[std::int64_t{range.index} * (p.segments - 1) + range.segment];
  warpgroup::store_parts(partial.state, s_transposed);
  if constexpr (Moments) moments.store_part(partial.moments);
}

}  // namespace

void launch_segment_states(const parameters& p, std::int64_t batch_heads, bool moments,
                           cuda_stream stream) {
  const auto kernel = moments ? segment_states_kernel<true> : segment_states_kernel<false>;
  const dim3 ctas(static_cast<unsigned>(batch_heads), p.segments - 1);
  launch_kernel(kernel, {.grid = ctas, .block = threads, .shared_bytes = sizeof(shared_storage)},
                stream, p);
}

}  // namespace based::sm90
