// Based prefill on Hopper.
//
// A head's tokens are worked on in chunks of 64. With phi of quad_map.h, S the state before a
// chunk and Q, K, V [64 x 16, 16, 64] the chunk,
//
//   O  = phi(Q) S + mask(1 + s A + (s A)^2 / 2) V,   A = Q K^T,  s = scale
//   S += phi(K)^T V
//
// Grid: one CTA a segment of a (batch, head); a sequence that is not split is one segment. Which
// segment a CTA works on, where it has the state before it from, and what becomes of the state
// after it is what the variants differ in (variants.cuh). Two CTAs share a multiprocessor where
// there are enough.
//
// Roles: the state warpgroup keeps S^T [64 x 160] in fp32 registers for the whole sequence and
// hands it over, rounded, through shared memory, and the key moments of the normalisation with it
// (state_role.cuh); the output warpgroup does the rest (output_role.cuh). Where a CTA has its
// multiprocessor to itself two output warpgroups take the chunks by turns, and the moments have a
// warpgroup of their own (config.cuh). They meet in barriers only:
//
//   chunk_ring        full: q, k and v of a chunk are in shared memory   copy engine -> all
//                     released: they and the S before them are read     all -> all
//   state_ready[b]    S and the moments before a chunk are there        state, moments -> output
#pragma once

#include "kernels/based/prefill_sm90/output_role.cuh"
#include "kernels/based/prefill_sm90/state_role.cuh"
#include "kernels/based/prefill_sm90/variants.cuh"
#include "kernels/tile/block.cuh"

namespace based::sm90 {

/// Makes the barriers ready for the copy engine too. Called by: one thread
template <bool Normalize, class Variant>
__device__ void init_barriers(shared_storage<Variant>& shared) {
  constexpr int moments_warps = has_moments_group<Variant, Normalize>() ? warpgroup::warps : 0;
  shared.chunk_ring.init(1, consumer_warps + moments_warps);
  for (barrier& gathered : shared.gathered) gathered.init(1);
  shared.initial_loaded.init(1);
  for (barrier& ready : shared.state_ready) ready.init(warpgroup::warps + moments_warps);
  ptx::fence_mbarrier_init();
}

/// `Normalize`: O is divided by the sums of the weights. `Stateful`: the head has an initial or a
/// final state, or its segments have states before them.
template <bool Normalize, bool Stateful, class Variant>
__global__ void __launch_bounds__(cta_threads<Variant, Normalize>(), Variant::ctas)
    prefill_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = shared_storage<Variant>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);

  segment_range range = Variant::own_chunks(p);
  // The last thread draws, for it is idle while the first one makes the barriers.
  const bool is_last = threadIdx.x == cta_threads<Variant, Normalize>() - 1;
  if (is_last) Variant::draw_ticket(shared, p);
  if constexpr (Normalize) {
    block::fill(shared.ones, ptx::two_ones);
    block::fill(shared.halves, ptx::two_halves);
    ptx::fence_proxy_async();
  }
  if (threadIdx.x == 0) init_barriers<Normalize>(shared);
  __syncthreads();
  Variant::redeem_ticket(range, p, shared.ticket);

  const int warp = warp::uniform_index();
  if constexpr (Stateful) {
    const bool begins = Variant::begins(range);
    if (warp == 0 && begins && !p.initial_state.kv.empty()) load_initial_state(shared, p, range);
  }
  const int first_loaded = Variant::first_loaded(range);
  for (int i = 0; warp == 0 && i < Variant::stages && first_loaded + i < range.last; ++i) {
    Variant::load(shared, p, range, first_loaded + i, i);
  }

  constexpr int output_warps = Variant::output_groups * warpgroup::warps;
  constexpr int moments_begin = output_warps + warpgroup::warps;
  if constexpr (has_moments_group<Variant, Normalize>()) {
    if (warp >= moments_begin) {
      take_registers<Variant, Normalize, role::moments>();
      run_moments_warpgroup<Stateful>(shared, p, range);
      return;
    }
  }
  Variant::template pass<Stateful>(shared, p, range, warp);
  if (warp < output_warps) {
    const int group = Variant::output_groups > 1 ? warp / warpgroup::warps : 0;
    run_output_warpgroup<Normalize>(shared, p, range, group, warp % warpgroup::warps);
  } else {
    run_state_warpgroup<Normalize, Stateful>(shared, p, range, warp - output_warps);
  }
}

}  // namespace based::sm90
