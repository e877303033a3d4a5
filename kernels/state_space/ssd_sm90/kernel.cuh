// Mamba-2's SSD on Hopper.
//
// A slice is 64 rows of a head's state, which are as many columns of its x; it is worked on in
// chunks of 64 tokens. With a_i = exp(dt_i A), E_i the product of the a up to token i of the chunk,
// D_ij = E_i / E_j that after token j, S [64 x states] the state before a chunk, and X [64 x 64],
// B, C [64 x states] the chunk,
//
//   Y^T = (S C^T) diag(E_i) + X^T W^T,   W = mask(D_ij dt_j (C B^T)_ij) + d 1
//   S   = E_64 S + (X diag(D_64,j dt_j))^T B
//
// Decays are exponentials of differences of sums of logarithms, in fp32: no quotient overflows.
//
// Grid: one CTA for a few slices of heads that share B and C, and a segment of their chunks.
//
// Roles: two state warpgroups keep S in fp32 registers. S never crosses shared memory: rounded, it
// is the register operand of S C^T (state_role.cuh). One warpgroup makes the scores C B^T, once
// for all slices, and each slice's weights W (score_role.cuh). In the last warpgroup one warp
// loads, two work out decays (decay_role.cuh), and one stores (output_role.cuh). They meet in rings
// of buffers only:
//
//   b_ring, c_ring   [64 x states] of a chunk      copy engine -> scores, state
//   x_ring           [64 x 64] of each slice       copy engine -> state -> output, as y
//   decay_ring       of a chunk, all slices        decays -> scores, state
//   weight_ring      W [64 x 64] of one slice      scores -> state
//   z_loaded         [64 x 64] of one slice        copy engine -> state
//   y_written        y [64 x 64] in x's place      state -> output, which reloads z
#pragma once

#include "kernels/state_space/ssd_sm90/decay_role.cuh"
#include "kernels/state_space/ssd_sm90/output_role.cuh"
#include "kernels/state_space/ssd_sm90/score_role.cuh"
#include "kernels/state_space/ssd_sm90/state_role.cuh"
#include "kernels/tile/block.cuh"

namespace based::ssd_sm90 {

/// Called by: one thread
template <class Config, bool StatesOnly>
__device__ void init_barriers(shared_storage<Config>& shared) {
  constexpr int state_warps = Config::state_groups * warpgroup::warps;
  constexpr int score_warps = StatesOnly ? 0 : warpgroup::warps;
  shared.b_ring.init(1, state_warps + score_warps);
  shared.c_ring.init(1, state_warps + score_warps);
  shared.x_ring.init(1, StatesOnly ? state_warps : 1);
  shared.weight_ring.init(warpgroup::warps, warpgroup::warps);
  // Each thread arrives for itself: compute-sanitizer follows what is read and written that way.
  shared.decay_ring.init(Config::decay_warps * warp_size, (state_warps + score_warps) * warp_size);
  for (barrier& loaded : shared.z_loaded) loaded.init(1);
  for (auto& of_stage : shared.y_written) {
    for (barrier& written : of_stage) written.init(warpgroup::warps);
  }
  ptx::fence_mbarrier_init();
}

/// Starts the copy of a chunk of B or C.
/// Called by: one warp
template <class Tile, int Parts>
__device__ void load_parts(Tile (&to)[Parts], const CUtensorMap& map, barrier& filled,
                           tile_coordinates from) {
  constexpr int panels = Parts * Tile::panels;
  if (ptx::elect_lane()) {
    filled.arrive_expect(Parts * Tile::bytes);
#pragma unroll
    for (int i = 0; i < panels; ++i) {
      ptx::bulk_tensor_load(to[i / Tile::panels].at(0, i % Tile::panels * Tile::panel_cols), &map,
                            filled.word(), i * Tile::panel_cols, from.token, from.head, from.batch);
    }
  }
}

/// Loads all chunks as the rings have room.
/// Called by: one warp
template <class Config, bool StatesOnly>
__device__ void run_producer(shared_storage<Config>& shared, const parameters& p,
                             const block_range& range) {
  ring_position<Config::stages> at;
#pragma unroll 1
  for (int chunk = range.first; chunk < range.last; ++chunk) {
    const tile_coordinates from = {range.batch, range.group, chunk * chunk_tokens};
    if constexpr (!StatesOnly) {
      shared.c_ring.wait_empty(at);
      load_parts(shared.c[at.buffer], p.c, shared.c_ring.filled(at), from);
    }
    shared.b_ring.wait_empty(at);
    load_parts(shared.b[at.buffer], p.b, shared.b_ring.filled(at), from);
    shared.x_ring.wait_empty(at);
    if (ptx::elect_lane()) {
      barrier& filled = shared.x_ring.filled(at);
      auto& x = shared.x[at.buffer];
      filled.arrive_expect(sizeof(x));
#pragma unroll
      for (int i = 0; i < Config::slices; ++i) {
        const slice_place place(p, range, i);
        ptx::bulk_tensor_load(x[i].at(0, 0), &p.x, filled.word(), place.col, from.token, place.head,
                              range.batch);
      }
    }
    at.advance();
  }
}

/// `StatesOnly`: what each segment of a split sequence but the last adds to the state, and its
/// decay; else y, from what is before the segment on.
template <class Config, bool Gated, bool StatesOnly>
__global__ void __launch_bounds__(roles::threads, 1)
    ssd_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = shared_storage<Config>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  const block_range range(p, Config::slices);
  if (StatesOnly) ptx::launch_dependent_grid();
  if constexpr (!StatesOnly) {
    for (auto& tile : shared.weights) block::fill(tile, 0);
    ptx::fence_proxy_async();
    if (threadIdx.x < Config::slices) {
      const slice_place place(p, range, threadIdx.x);
      shared.skip[threadIdx.x] = p.d == nullptr ? 0 : p.d[place.head];
    }
  }
  if (threadIdx.x == 0) {
    shared.range = range;
    init_barriers<Config, StatesOnly>(shared);
  }
  __syncthreads();

  const int warp = warp::uniform_index();
  const int of_group = warp % warpgroup::warps;
  const auto keep_states = [&](int group) {
    state_role<Config, Gated, StatesOnly>(shared, p, group, of_group).run();
  };
  const auto weigh = [&](int) {
    if constexpr (!StatesOnly) {
      score_role<Config>(shared, p, of_group).run(range.last - range.first);
    }
  };
  const auto provide = [&](int) {
    if (of_group == 0) {
      run_producer<Config, StatesOnly>(shared, p, range);
    } else if (of_group <= Config::decay_warps) {
      decay_role<Config> role(shared, p, range, of_group - 1);
      role.run(range);
      if constexpr (StatesOnly) role.store_whole(range);
    } else if constexpr (!StatesOnly) {
      output_role<Config, Gated>(shared, p, range).run();
    }
  };
  roles::run(warp, keep_states, weigh, provide);
}

inline constexpr int pass_threads = 256;

/// The unit of a slice's initial state in the order in which a warpgroup hands states on
/// (state_role.cuh), or zeros.
/// Called by: one thread
template <int StateDim>
__device__ float4 initial_unit(const parameters& p, int unit) {
  if (p.initial_state == nullptr) return {};
  const int thread = unit % warpgroup::threads;
  const int row = thread / warp_size * 16 + thread % warp_size / 4;
  const int col = unit / warpgroup::threads * 8 + thread % 4 * 2;
  const float* const from =
      p.initial_state + (std::int64_t{blockIdx.y} * slice_dim + row) * StateDim + col;
  const auto upper = *reinterpret_cast<const float2*>(from);
  const auto lower = *reinterpret_cast<const float2*>(from + 8 * StateDim);
  return {upper.x, upper.y, lower.x, lower.y};
}

/// Turns what segments add to the state into the states after them: in place, one unit of a slice a
/// thread. Grid: (units of a slice / threads, slices of all batches).
template <int StateDim>
__global__ void __launch_bounds__(pass_threads) pass_kernel(const __grid_constant__ parameters p) {
  constexpr std::int64_t units = slice_dim * StateDim / 4;
  ptx::launch_dependent_grid();
  const int unit = blockIdx.x * pass_threads + threadIdx.x;
  const std::int64_t first = std::int64_t{blockIdx.y} * (p.segments - 1);
  float4* const states = p.partial_states + first * units + unit;
  const float* const decays = p.partial_decays + first;
  float4 sum = initial_unit<StateDim>(p, unit);
  ptx::wait_for_prior_grid();
  constexpr int batch = 8;  // loads on their way at a time
  for (int i = 0; i < p.segments - 1; i += batch) {
    float4 added[batch];
    float decay[batch];
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      if (i + j >= p.segments - 1) break;
      added[j] = states[(i + j) * units];
      decay[j] = decays[i + j];
    }
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      if (i + j >= p.segments - 1) break;
      const float factor = ptx::ex2(decay[j]);
      sum = {fmaf(sum.x, factor, added[j].x), fmaf(sum.y, factor, added[j].y),
             fmaf(sum.z, factor, added[j].z), fmaf(sum.w, factor, added[j].w)};
      states[(i + j) * units] = sum;
    }
  }
}

}  // namespace based::ssd_sm90
