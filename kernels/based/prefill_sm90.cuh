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
  piece_state* partials;                     ///< [B * H, pieces_before_last()]
  int heads;
  int chunks;    ///< of a head
  int segments;  ///< of a head: each is one CTA's work
  int pieces;    ///< of a segment: each is one CTA's work in the pass that sums up states
  int seqlen;
  float scale;
  float eps;

  __host__ __device__ int pieces_before_last() const { return (segments - 1) * pieces; }
};

/// The work of a CTA: of head blockIdx.x of all B * H, cut into `parts`, part blockIdx.y, which is
/// chunks first .. last - 1.
struct chunk_range {
  int batch, head;
  int part;
  int first, last;

  __device__ chunk_range(const parameters& p, int parts)
      : batch(blockIdx.x / p.heads),
        head(blockIdx.x % p.heads),
        part(blockIdx.y),
        first(static_cast<int>(std::int64_t{p.chunks} * part / parts)),
        last(static_cast<int>(std::int64_t{p.chunks} * (part + 1) / parts)) {}

  __device__ static int batch_head() { return blockIdx.x; }
  __device__ tile_coordinates chunk(int index) const { return {batch, head, index * chunk_tokens}; }
};

/// Enqueues the kernel that fills p.partials: the state, from zero, of each piece before a head's
/// last segment.
void launch_piece_states(const parameters& p, std::int64_t batch_heads, bool moments,
                         cuda_stream stream);

}  // namespace based::sm90
