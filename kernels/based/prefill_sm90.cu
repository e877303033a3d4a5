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
constexpr int gather_buffers = 1 + state_buffers;  // of the states of earlier segments
constexpr int threads = 2 * warpgroup::threads;
constexpr int ctas_per_multiprocessor = 2;

struct shared_storage {
  token_tile q[stages];                  // [64 x 16]
  token_tile k[stages];                  // [64 x 16]
  value_tile v[stages];                  // [64 x 64]
  feature_tile key_features;             // [64 x 160]
  state_tile state[state_buffers];       // [160 x 64]
  moments_tile moments[state_buffers];   // [16 x 32]
  output_tile output[warpgroup::warps];  // [16 x 64]
  float initial_tokens;
  barrier loaded[stages];
  barrier consumed[stages];
  barrier state_ready[state_buffers];
  barrier gathered[gather_buffers];
};

constexpr int state_barrier = 1;  // the named barrier of the state warpgroup
constexpr int early_slices = 4;   // of phi(Q) S, before the products with V
constexpr int loading_warps = 3;  // one each for q, k and v
constexpr int consumer_warps = threads / 32;

/// Shared memory: a CTA's is its storage and what the system reserves.
constexpr std::size_t half_multiprocessor = 228 * 1024 / ctas_per_multiprocessor;
constexpr std::size_t reserved_for_system = 1024;
static_assert(sizeof(shared_storage) + reserved_for_system <= half_multiprocessor);

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

/// mask(1 + A + A^2 / 2) of the scores A [64 x 64].
__device__ operand_tile<64> weights(accumulator_tile<64>& scores, std::uint32_t mask) {
#pragma unroll
  for (int i = 0; i < scores.size; ++i) {
    const float s = scores.value[i];
    scores.value[i] = mask & 1u << i ? 1 + s * (1 + s / 2) : 0;
  }
  return to_bf16(scores);
}

/// The factors 1 / (sum + earlier sum + added) of rows g and g + 8: the sum of a chunk's weights
/// W [64 x 64], as they were rounded, and that of earlier tokens, spread over the row's four lanes.
__device__ void invert_sums(float (&factors)[2], const operand_tile<64>& w,
                            const float (&earlier_sums)[2], float added) {
  float sums[4] = {};  // W times ones: rows g, g, g + 8, g + 8
#pragma unroll
  for (int i = 0; i < w.slices; ++i) {
    ptx::mma_m16n8k16(sums, w.slice[i].word, circulant::two_ones, circulant::two_ones);
  }
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float earlier = earlier_sums[row];
    earlier += __shfl_xor_sync(~0u, earlier, 1);
    earlier += __shfl_xor_sync(~0u, earlier, 2);
    factors[row] = __fdividef(1.0f, sums[2 * row] + earlier + added);
  }
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

/// `Normalize`: divides by the sums of the weights. `Stateful`: starts from an initial state or
/// from the segments before, or ends in a final state.
template <bool Normalize, bool Stateful>
__device__ void run_output_warpgroup(shared_storage& shared, const parameters& p,
                                     const segment_range& range, int warp) {
  for (int i = 0; i < stages && range.first + i < range.last; ++i) {
    load_chunk(shared, p, range.chunk(range.first + i), i, warp);
  }
  ptx::increase_registers<launch_registers + moved_registers>();

  float tokens_before = shared.initial_tokens + range.first * chunk_tokens;
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
    accumulator_tile<16> y;                            // m + M x / 2 [64 x 16]
    float earlier_sums[2] = {};                        // of rows g and g + 8
    float factors[2];

    const operand_slice x = features.slice(circulant::linear_slice);
    warpgroup::mma_fence();
    warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(scores, x, k, 0);
    if constexpr (!Normalize) warpgroup::mma_commit();

    shared.state_ready[state.buffer].wait(state.parity);
    if constexpr (Normalize) {
      start_moment_products(y, x, shared.moments[state.buffer]);
      warpgroup::mma_commit();
    }
    add_inter_chunk<0, early_slices, warpgroup::mma_mode::overwrite>(o, features, s);

    if (chunk > range.first) {
      store_output(shared, p, range.chunk(chunk - 1), warp, finished);
      const int next = chunk - 1 + stages;
      if (next < range.last) {
        shared.consumed[previous_stage.buffer].wait(previous_stage.parity);
        load_chunk(shared, p, range.chunk(next), previous_stage.buffer, warp);
      }
    }
    if constexpr (Normalize) {
      warpgroup::mma_wait<1>(scores, y);
      add_moment_weights(earlier_sums, x, y);
    } else {
      warpgroup::mma_wait<1>(scores);
    }
    const operand_tile<64> w = weights(scores, mask);  // [64 x 64]
    warpgroup::mma_fence();
#pragma unroll
    for (int i = 0; i < w.slices; ++i) warpgroup::mma_AB(o, w.slice[i], v, i);
    add_inter_chunk<early_slices, circulant::slices - early_slices>(o, features, s);

    if constexpr (Normalize) {
      invert_sums(factors, w, earlier_sums, tokens_before + p.eps);
      tokens_before += chunk_tokens;
    }

    previous_stage = stage;
    if (chunk + 1 < range.last) stage.advance();  // else the last chunk's queries once more
    shared.loaded[stage.buffer].wait(stage.parity);
    features.fetch(shared.q[stage.buffer]);
    warpgroup::mma_wait<0>(o);
    features.use_fetched(p.scale);
    shared.consumed[previous_stage.buffer].warp_arrive();
    state.advance();

    if constexpr (Normalize) warpgroup::scale_rows(o, factors);
    finished = to_bf16(o);
  }

  store_output(shared, p, range.chunk(range.last - 1), warp, finished);
  warp::wait_stores_read();
}

/// Adds the states of the segments before. They pass through the tiles that the loop has no
/// use for yet, all of one size, as many copies at a time.
__device__ void add_partials(shared_storage& shared, state_accumulator& state,
                             const segment_state* partials, int count) {
  static_assert(sizeof(feature_tile) == sizeof(rounded_parts));
  const auto buffer = [&](int i) -> void* {
    return i == 0 ? static_cast<void*>(&shared.key_features) : &shared.state[i - 1];
  };
  const auto load = [&](int segment, int i) {
    if (warpgroup::warp() == 0) {
      warp::load_async(buffer(i), partials[segment].state, shared.gathered[i]);
    }
  };
  ring_position<gather_buffers> position;
  for (int i = 0; i < min(gather_buffers, count); ++i) load(i, i);
  for (int segment = 0; segment < count; ++segment) {
    shared.gathered[position.buffer].wait(position.parity);
    warpgroup::add_parts(state, *static_cast<const rounded_parts*>(buffer(position.buffer)));
    warpgroup::sync<state_barrier>();
    const int next = segment + gather_buffers;
    if (next < count) load(next, position.buffer);
    position.advance();
  }
}

template <bool Normalize, bool Stateful>
__device__ void run_state_warpgroup(shared_storage& shared, const parameters& p,
                                    const segment_range& range) {
  state_accumulator s_transposed;  // S^T [64 x 160]
  key_moments moments;
  if constexpr (Normalize) {
    for (moments_tile& tile : shared.moments) warpgroup::clear(tile);
    warpgroup::sync<state_barrier>();
  }
  if constexpr (Stateful) {
    const segment_state* partials =
        p.partials + std::int64_t{range.batch_head()} * (p.segments - 1);
    if (range.segment > 0) ptx::wait_for_prior_grid();
    if (p.initial_state.kv != nullptr) {
      warpgroup::load_state(s_transposed, p.initial_state.kv_head(range.batch_head()));
    } else {
      warpgroup::clear(s_transposed);
    }
    add_partials(shared, s_transposed, partials, range.segment);
    if constexpr (Normalize) {
      moments.clear();
      if (p.initial_state.z != nullptr) moments.load(p.initial_state.z_head(range.batch_head()));
      for (int i = 0; i < range.segment; ++i) {
        moments.add_part(partials[i].moments);
      }
    }
  } else {
    warpgroup::clear(s_transposed);
    if constexpr (Normalize) moments.clear();
  }
  ptx::decrease_registers<launch_registers - moved_registers>();

  ring_position<stages> stage;
  ring_position<state_buffers> state;
  for (int chunk = range.first; chunk < range.last; ++chunk) {
    // The chunk that last read this S buffer had the stage that comes next, a phase ago.
    static_assert(stages == state_buffers + 1);
    const ring_position<stages> next_stage = stage.next();
    shared.consumed[next_stage.buffer].wait(next_stage.parity ^ 1);
    warpgroup::store_transposed(shared.state[state.buffer], warpgroup::round_state(s_transposed));
    if constexpr (Normalize) moments.hand_over(shared.moments[state.buffer]);
    ptx::fence_proxy_async();
    shared.state_ready[state.buffer].warp_arrive();
    state.advance();
    if (!Stateful && chunk + 1 == range.last) break;  // nobody reads the last state

    shared.loaded[stage.buffer].wait(stage.parity);
    warpgroup::sync<state_barrier>();  // all warps' products have read the features before
    circulant::store_key_features(shared.key_features, shared.k[stage.buffer]);
    ptx::fence_proxy_async();
    warpgroup::sync<state_barrier>();
    warpgroup::mma_fence();
    warpgroup::mma_AtB(s_transposed, shared.v[stage.buffer], shared.key_features);
    warpgroup::mma_commit();
    if constexpr (Normalize) moments.add(shared.k[stage.buffer]);
    warpgroup::mma_wait<0>(s_transposed);
    shared.consumed[stage.buffer].warp_arrive();
    stage = next_stage;
  }
  if constexpr (Stateful) {
    if (p.final_state.kv != nullptr && range.last == p.chunks) {
      warpgroup::store_state(p.final_state.kv_head(range.batch_head()), s_transposed);
      if constexpr (Normalize) {
        float* z = p.final_state.z_head(range.batch_head());
        moments.store(z);
        if (warpgroup::thread() == 0) z[0] = shared.initial_tokens + static_cast<float>(p.seqlen);
      }
    }
  }
}

template <bool Normalize, bool Stateful>
__global__ void __launch_bounds__(threads, ctas_per_multiprocessor)
    prefill_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  shared_storage& shared = *reinterpret_cast<shared_storage*>(shared_bytes);
  const segment_range range(p);

  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; ++i) {
      shared.loaded[i].init(loading_warps);
      shared.consumed[i].init(consumer_warps);
    }
    for (barrier& gathered : shared.gathered) gathered.init(1);
    for (int i = 0; i < state_buffers; ++i) {
      shared.state_ready[i].init(warpgroup::warps);
    }
    ptx::fence_mbarrier_init();
    const bool continues = Normalize && p.initial_state.z != nullptr;
    shared.initial_tokens = continues ? p.initial_state.z_head(range.batch_head())[0] : 0;
  }
  __syncthreads();

  const int warp = warp::uniform_index();
  if (warp < warpgroup::warps) {
    run_output_warpgroup<Normalize, Stateful>(shared, p, range, warp);
  } else {
    run_state_warpgroup<Normalize, Stateful>(shared, p, range);
  }
}

int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  BASED_CUDA(cudaGetDevice(&device));
  BASED_CUDA(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

void require_device() {
  const int major = device_attribute(cudaDevAttrComputeCapabilityMajor);
  const int minor = device_attribute(cudaDevAttrComputeCapabilityMinor);
  BASED_REQUIRE(major == 9 && minor == 0, "the device has compute capability " +
                                              std::to_string(major) + "." + std::to_string(minor) +
                                              ", this kernel needs 9.0 (Hopper)");
}

}  // namespace

std::size_t workspace_bytes(const prefill_shape& shape, int segments) {
  return shape.batch_heads() * (segments - 1) * sizeof(segment_state);
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
  p.partials = static_cast<segment_state*>(args.workspace);
  p.heads = static_cast<int>(shape.heads);
  p.seqlen = static_cast<int>(shape.seqlen);
  p.chunks = (p.seqlen - 1) / chunk_tokens + 1;
  p.segments = segments;
  p.scale = options.scale;
  p.eps = options.eps;

  BASED_REQUIRE(segments >= 1 && segments <= p.chunks, std::to_string(p.chunks) +
                                                           " chunks cannot be cut into " +
                                                           std::to_string(segments) + " segments");

  const bool is_split = segments > 1;
  if (is_split) launch_segment_states(p, shape.batch_heads(), options.normalize, stream);

  const bool stateful = options.initial_state || options.final_state || is_split;
  const auto kernel = options.normalize
                          ? (stateful ? prefill_kernel<true, true> : prefill_kernel<true, false>)
                          : (stateful ? prefill_kernel<false, true> : prefill_kernel<false, false>);
  cudaLaunchAttribute overlap = {};  // CTAs start while the segments' states are being summed up
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch = {};
  launch.gridDim = dim3(static_cast<unsigned>(shape.batch_heads()), segments);
  launch.blockDim = dim3(threads);
  // Where every CTA of a split can have a multiprocessor to itself it must: those that start early
  // would otherwise double up on the few that are free.
  const std::int64_t ctas = shape.batch_heads() * segments;
  const bool alone = is_split && ctas <= device_attribute(cudaDevAttrMultiProcessorCount);
  launch.dynamicSmemBytes = alone ? half_multiprocessor : sizeof(shared_storage);
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = is_split ? 1 : 0;
  BASED_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  half_multiprocessor));  // never less: threads may share it
  BASED_CUDA(cudaLaunchKernelEx(&launch, kernel, p));
}

}  // namespace based::sm90
