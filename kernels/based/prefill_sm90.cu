// Based prefill on Hopper.
//
// A head's tokens are worked on in chunks of 64. With phi of circulant.h, S the state before a
// chunk and Q, K, V [64 x 16, 16, 64] the chunk,
//
//   O  = phi(Q) S + mask(1 + A + A^2 / 2) V,   A = scale Q K^T
//   S += phi(K)^T V
//
// Grid: one CTA per segment of a (batch, head); a sequence that is not split is one segment. Two
// CTAs share a multiprocessor. In each, the state warpgroup keeps S^T [64 x 160] in fp32 registers
// for the whole sequence and hands it over, rounded, through shared memory; the output warpgroup
// does the rest. They meet in barriers only:
//
//   loaded[stage]    q, k and v of a chunk are in shared memory      copy engine -> both
//   state_ready[b]   S before a chunk is in shared memory            state -> output
//   consumed[stage]  a chunk's q, k, v and the S before it are read  both -> both
#include "kernels/based/prefill_sm90.h"

#include "kernels/based/circulant.cuh"
#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/prefill_sm90.cuh"
#include "kernels/common/cuda_check.h"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/tensor_map.h"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm90 {
namespace {

using circulant::feature_tile;
using circulant::query_features;
using circulant::token_tile;
using output_tile = shared_tile<16, value_dim, swizzle::bytes128>;  // a warp's part of O [16 x 64]

constexpr int stages = 3;
constexpr int state_buffers = 2;
constexpr int threads = 2 * warpgroup::threads;
constexpr int ctas_per_multiprocessor = 2;

struct shared_storage {
  token_tile q[stages];                  // [64 x 16]
  token_tile k[stages];                  // [64 x 16]
  value_tile v[stages];                  // [64 x 64]
  feature_tile key_features;             // [64 x 160]
  state_tile state[state_buffers];       // [160 x 64]
  output_tile output[warpgroup::warps];  // [16 x 64]
  barrier loaded[stages];
  barrier consumed[stages];
  barrier state_ready[state_buffers];
};

constexpr int loading_warps = 3;  // one each for q, k and v
constexpr int consumer_warps = threads / 32;

/// Registers of a thread: two CTAs leave 128 at launch, of which the state's warpgroup then gives
/// some to the output's.
constexpr int launch_registers = 65536 / (ctas_per_multiprocessor * threads);
constexpr int moved_registers = 16;

/// The output warpgroup's warps load q, k and v of a chunk, one each.
__device__ void load_chunk(shared_storage& shared, const parameters& p, tile_coordinates chunk,
                           int stage, int warp) {
  barrier& loaded = shared.loaded[stage];
  if (warp == 0) warp::load_async(shared.q[stage], p.q, chunk, loaded);
  if (warp == 1) warp::load_async(shared.k[stage], p.k, chunk, loaded);
  if (warp == 2) warp::load_async(shared.v[stage], p.v, chunk, loaded);
}

/// Which of this thread's elements of A [64 x 64] are not in the future of their row.
__device__ std::uint32_t causal_mask() {
  accumulator_tile<64> tile;
  std::uint32_t mask = 0;
  int element = 0;
  warpgroup::for_each(tile, [&](int query, int key, float&) {
    mask |= static_cast<std::uint32_t>(key <= query) << element++;
  });
  return ptx::opaque(mask);  // else the comparisons are made again for every chunk
}

/// mask(1 + A + A^2 / 2) of the scores A [64 x 64], and its row sums where `Sums` are wanted.
template <bool Sums>
__device__ operand_tile<64> weights(accumulator_tile<64>& scores, std::uint32_t mask,
                                    float (&sums)[2]) {
#pragma unroll
  for (int i = 0; i < scores.size; ++i) {
    const float s = scores.value[i];
    scores.value[i] = mask & 1u << i ? 1 + s * (1 + s / 2) : 0;
    if constexpr (Sums) sums[i % 4 / 2] += scores.value[i];
  }
  return to_bf16(scores);
}

/// O / (row sums + eps), the sums being spread over the four lanes that share a row.
__device__ void normalize(accumulator_tile<64>& o, const float (&partial_sums)[2], float eps) {
  float inverse[2];
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float sum = partial_sums[row];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    inverse[row] = 1 / (sum + eps);
  }
#pragma unroll
  for (int i = 0; i < o.size; ++i) o.value[i] *= inverse[i % 4 / 2];
}

/// O (+)= phi(Q) S over `Count` slices of the features.
template <int First, int Count, warpgroup::mma_mode FirstMode = warpgroup::mma_mode::accumulate>
__device__ void add_inter_chunk(accumulator_tile<64>& o, const query_features& features,
                                const state_tile& state) {
  operand_slice slice[Count];  // [64 x 16]
#pragma unroll
  for (int i = 0; i < Count; ++i) slice[i] = features.slice(First + i);
  warpgroup::mma_fence();
  warpgroup::mma_AB<FirstMode>(o, slice[0], state, First);
#pragma unroll
  for (int i = 1; i < Count; ++i) warpgroup::mma_AB(o, slice[i], state, First + i);
  warpgroup::mma_commit();
}

__device__ void store_output(shared_storage& shared, const parameters& p, tile_coordinates chunk,
                             int warp, const operand_tile<64>& o) {
  output_tile& staging = shared.output[warp];
  warp::wait_stores_read();
  warp::store(staging, o);
  chunk.token += warp * output_tile::rows;
  warp::store_async(staging, p.o, chunk);
}

/// Whether this segment's last state is to be written.
__device__ bool hands_on_state(const parameters& p, const segment_range& range) {
  return p.final_state.kv != nullptr && range.last == p.chunks;
}

/// `Normalize`: divides by the sums of the weights. `Stateful`: starts from an initial state or
/// from the segments before, or ends in a final state.
template <bool Normalize, bool Stateful>
__device__ void run_output_warpgroup(shared_storage& shared, const parameters& p,
                                     const segment_range& range, int warp) {
  for (int i = 0; i < stages && range.first + i < range.last; ++i) {
    load_chunk(shared, p, range.chunk(range.first + i), i, warp);
  }
  ptx::increase_registers<launch_registers + moved_registers>();

  key_moments moments;
  if constexpr (Normalize) {
    moments.clear();
    if constexpr (Stateful) {
      if (p.initial_state.z != nullptr) moments.load(p.initial_state.z_head(range.batch_head));
      if (range.segment > 0) {
        ptx::wait_for_prior_grid();
        const segment_partial* partials =
            p.partials + static_cast<std::int64_t>(range.batch_head) * (p.segments - 1);
        for (int i = 0; i < range.segment; ++i) moments.add_partial(partials[i]);
        moments.add_count(range.first * chunk_tokens);
      }
    }
  }

  ring_position<stages> stage, previous_stage;
  ring_position<state_buffers> state;
  query_features features;  // phi(Q)                   [64 x 160]
  const std::uint32_t mask = causal_mask();
  operand_tile<64> finished;  // O of the previous chunk  [64 x 64]

  shared.loaded[0].wait(0);
  features.fetch(shared.q[0]);
  features.use_fetched(p.scale);

  for (int chunk = range.first; chunk < range.last; ++chunk) {
    const token_tile& k = shared.k[stage.buffer];      // [64 x 16]
    const value_tile& v = shared.v[stage.buffer];      // [64 x 64]
    const state_tile& s = shared.state[state.buffer];  // [160 x 64]
    accumulator_tile<64> scores;                       // A [64 x 64]
    accumulator_tile<64> o;                            // O [64 x 64]
    float weight_sums[2] = {0, 0};                     // of rows g and g + 8

    const operand_slice x = features.slice(circulant::linear_slice);
    warpgroup::mma_fence();
    warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(scores, x, k);
    warpgroup::mma_commit();

    shared.state_ready[state.buffer].wait(state.parity);
    add_inter_chunk<0, 4, warpgroup::mma_mode::overwrite>(o, features, s);

    if (chunk > range.first) {
      store_output(shared, p, range.chunk(chunk - 1), warp, finished);
      const int next = chunk - 1 + stages;
      if (next < range.last) {
        shared.consumed[previous_stage.buffer].wait(previous_stage.parity);
        load_chunk(shared, p, range.chunk(next), previous_stage.buffer, warp);
      }
    }
    if constexpr (Normalize) {
      moments.add_weights(weight_sums, x);
      moments.add(k);
    }
    warpgroup::mma_wait<1>(scores);
    const operand_tile<64> w = weights<Normalize>(scores, mask, weight_sums);  // [64 x 64]
    warpgroup::mma_fence();
#pragma unroll
    for (int i = 0; i < w.slices; ++i) warpgroup::mma_AB(o, w.slice[i], v, i);
    add_inter_chunk<4, circulant::slices - 4>(o, features, s);

    previous_stage = stage;
    if (chunk + 1 < range.last) stage.advance();  // else the last chunk's queries once more
    shared.loaded[stage.buffer].wait(stage.parity);
    features.fetch(shared.q[stage.buffer]);
    warpgroup::mma_wait<0>(o);
    features.use_fetched(p.scale);
    shared.consumed[previous_stage.buffer].warp_arrive();
    state.advance();

    if constexpr (Normalize) normalize(o, weight_sums, p.eps);
    finished = to_bf16(o);
  }

  store_output(shared, p, range.chunk(range.last - 1), warp, finished);
  warp::wait_stores_read();
  if constexpr (Normalize && Stateful) {
    if (hands_on_state(p, range) && warp == 0) {
      moments.add_count(p.seqlen - p.chunks * chunk_tokens);  // tokens past the end were none
      moments.store(p.final_state.z_head(range.batch_head));
    }
  }
}

template <bool Normalize, bool Stateful>
__device__ void run_state_warpgroup(shared_storage& shared, const parameters& p,
                                    const segment_range& range) {
  constexpr int named_barrier = 1;
  state_accumulator s_transposed;  // S^T [64 x 160]
  warpgroup::clear(s_transposed);
  if constexpr (Stateful) {
    if (p.initial_state.kv != nullptr) {
      warpgroup::load_state(s_transposed, p.initial_state.kv_head(range.batch_head));
    }
    if (range.segment > 0) {
      ptx::wait_for_prior_grid();
      const segment_partial* partials =
          p.partials + static_cast<std::int64_t>(range.batch_head) * (p.segments - 1);
      for (int i = 0; i < range.segment; ++i) warpgroup::add_partial(s_transposed, partials[i]);
    }
  }

  ptx::decrease_registers<launch_registers - moved_registers>();

  ring_position<stages> stage;
  ring_position<state_buffers> state;
  // The chunk that read the S whose buffer is next: two before the first, so a phase already over.
  ring_position<stages> last_reader = {stages - state_buffers, 1};
  const bool last_is_wanted = Stateful && hands_on_state(p, range);
  for (int chunk = range.first; chunk < range.last; ++chunk) {
    shared.consumed[last_reader.buffer].wait(last_reader.parity);
    last_reader.advance();
    warpgroup::store_transposed(shared.state[state.buffer], warpgroup::round_state(s_transposed));
    ptx::fence_proxy_async();
    shared.state_ready[state.buffer].warp_arrive();
    state.advance();
    if (chunk + 1 == range.last && !last_is_wanted) break;

    shared.loaded[stage.buffer].wait(stage.parity);
    warpgroup::sync<named_barrier>();  // all warps' products have read the features before
    circulant::store_key_features(shared.key_features, shared.k[stage.buffer]);
    ptx::fence_proxy_async();
    warpgroup::sync<named_barrier>();
    warpgroup::mma_fence();
    warpgroup::mma_AtB(s_transposed, shared.v[stage.buffer], shared.key_features);
    warpgroup::mma_commit();
    warpgroup::mma_wait<0>(s_transposed);
    shared.consumed[stage.buffer].warp_arrive();
    stage.advance();
  }
  if constexpr (Stateful) {
    if (last_is_wanted)
      warpgroup::store_state(p.final_state.kv_head(range.batch_head), s_transposed);
  }
}

template <bool Normalize, bool Stateful>
__global__ void __launch_bounds__(threads, ctas_per_multiprocessor)
    prefill_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  shared_storage& shared = *reinterpret_cast<shared_storage*>(shared_bytes);
  const segment_range range(p, blockIdx.x / p.segments, blockIdx.x % p.segments);

  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; ++i) {
      shared.loaded[i].init(loading_warps);
      shared.consumed[i].init(consumer_warps);
    }
    for (int i = 0; i < state_buffers; ++i) {
      shared.state_ready[i].init(warpgroup::warps);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  const int warp = warp::uniform_index();
  if (warp < warpgroup::warps) {
    run_output_warpgroup<Normalize, Stateful>(shared, p, range, warp);
  } else {
    run_state_warpgroup<Normalize, Stateful>(shared, p, range);
  }
}

void require_device() {
  int device = 0, major = 0, minor = 0;
  BASED_CUDA(cudaGetDevice(&device));
  BASED_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  BASED_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  BASED_REQUIRE(major == 9 && minor == 0, "device " + std::to_string(device) +
                                              " has compute capability " + std::to_string(major) +
                                              "." + std::to_string(minor) +
                                              ", this kernel needs 9.0 (Hopper)");
}

}  // namespace

std::size_t workspace_bytes(const prefill_shape& shape, int segments) {
  return shape.batch_heads() * (segments - 1) * sizeof(segment_partial);
}

double executed_flops(const prefill_shape& shape, int segments) {
  constexpr double scores = 2.0 * chunk_tokens * chunk_tokens * feature_dim;
  constexpr double intra_chunk = 2.0 * chunk_tokens * chunk_tokens * value_dim;
  constexpr double state_product = 2.0 * chunk_tokens * circulant::slots * value_dim;
  const double chunks = static_cast<double>((shape.seqlen - 1) / chunk_tokens + 1);
  const double first_pass = chunks * (segments - 1) / segments;
  return shape.batch_heads() *
         (chunks * (scores + intra_chunk + 2 * state_product) + first_pass * state_product);
}

void launch_prefill(const prefill_args<bf16>& args, int segments, cuda_stream stream) {
  require_device();
  const prefill_shape& shape = args.problem.shape;
  const prefill_options& options = args.problem.options;
  const auto map = [&]<class Tile, class T>(const Tile*, const sequence_view<T>& view) {
    return make_tensor_map<typename Tile::layout>(view, shape.batch, shape.heads, shape.seqlen);
  };
  constexpr const token_tile* tokens = nullptr;
  constexpr const value_tile* values = nullptr;
  constexpr const output_tile* outputs = nullptr;

  parameters p = {};
  p.q = map(tokens, args.q);
  p.k = map(tokens, args.k);
  p.v = map(values, args.v);
  p.o = map(outputs, args.o);
  if (options.initial_state) p.initial_state = args.initial_state;
  if (options.final_state) p.final_state = args.final_state;
  p.partials = static_cast<segment_partial*>(args.workspace);
  p.heads = static_cast<int>(shape.heads);
  p.seqlen = static_cast<int>(shape.seqlen);
  p.chunks = (p.seqlen - 1) / chunk_tokens + 1;
  p.segments = segments;
  p.scale = options.scale;
  p.eps = options.eps;

  const bool split = segments > 1;
  if (split) launch_segment_states(p, shape.batch_heads(), options.normalize, stream);

  const bool stateful = options.initial_state || options.final_state || split;
  const auto kernel = options.normalize
                          ? (stateful ? prefill_kernel<true, true> : prefill_kernel<true, false>)
                          : (stateful ? prefill_kernel<false, true> : prefill_kernel<false, false>);
  BASED_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  sizeof(shared_storage)));
  cudaLaunchAttribute overlap = {};  // with the segments' states: both grids' CTAs start together
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch = {};
  launch.gridDim = dim3(static_cast<unsigned>(shape.batch_heads() * segments));
  launch.blockDim = dim3(threads);
  launch.dynamicSmemBytes = sizeof(shared_storage);
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = split ? 1 : 0;
  BASED_CUDA(cudaLaunchKernelEx(&launch, kernel, p));
}

}  // namespace based::sm90
