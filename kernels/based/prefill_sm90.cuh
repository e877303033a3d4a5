// What the two kernels of the Hopper prefill share: parameters, and a head's place in the grid.
#pragma once

#include <cuda.h>

#include "kernels/based/kv_state.cuh"
#include "kernels/based/prefill_sm90.h"

namespace based::sm90 {

struct parameters {
  CUtensorMap q, k, v, o;
  kv_state_view<const float> initial_state;  ///< kv null: zero
  kv_state_view<float> final_state;          ///< kv null: not wanted
  segment_state* partials;                   ///< [B * H, segments - 1]
  int heads;
  int chunks;    ///< of a head
  int segments;  ///< of a head
  int seqlen;
  float scale;
  float eps;
};

/// The work of a CTA: of head blockIdx.x of all B * H segment blockIdx.y, which is chunks
/// first .. last - 1.
struct segment_range {
  int batch, head;
  int segment;
  int first, last;

  __device__ explicit segment_range(const parameters& p)
      : batch(blockIdx.x / p.heads),
        head(blockIdx.x % p.heads),
        segment(blockIdx.y),
        first(static_cast<int>(std::int64_t{p.chunks} * segment / p.segments)),
        last(static_cast<int>(std::int64_t{p.chunks} * (segment + 1) / p.segments)) {}

  __device__ static int batch_head() { return blockIdx.x; }
  __device__ tile_coordinates chunk(int index) const { return {batch, head, index * chunk_tokens}; }
};

/// Enqueues the kernel that fills p.partials: the state, from zero, of each segment but a head's
/// last.
void launch_segment_states(const parameters& p, std::int64_t batch_heads, bool moments,
                           cuda_stream stream);

}  // namespace based::sm90
