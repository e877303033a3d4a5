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
  segment_partial* partials;                 ///< [B * H, segments - 1]
  int heads;
  int chunks;    ///< of a head
  int segments;  ///< of a head
  int seqlen;
  float scale;
  float eps;
};

/// The chunks first .. last - 1 of one head.
struct segment_range {
  int batch, head;
  int batch_head;  ///< of all B * H
  int segment;
  int first, last;

  __device__ segment_range(const parameters& p, int batch_head_index, int segment_index)
      : batch(batch_head_index / p.heads),
        head(batch_head_index % p.heads),
        batch_head(batch_head_index),
        segment(segment_index),
        first(static_cast<int>(static_cast<std::int64_t>(p.chunks) * segment / p.segments)),
        last(static_cast<int>(static_cast<std::int64_t>(p.chunks) * (segment + 1) / p.segments)) {}

  __device__ tile_coordinates chunk(int index) const { return {batch, head, index * chunk_tokens}; }
};

/// Enqueues the kernel that fills p.partials: the state of each segment but a head's last, from
/// zero.
void launch_segment_states(const parameters& p, std::int64_t batch_heads, bool moments,
                           cuda_stream stream);

}  // namespace based::sm90
