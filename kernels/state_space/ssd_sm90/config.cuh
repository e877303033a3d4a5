// What a CTA of the Hopper SSD is made of: its warpgroups, its shared memory, its parameters.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/core/bf16.h"
#include "kernels/core/tensor_view.h"
#include "kernels/tile/pipeline.cuh"
#include "kernels/tile/shared_tile.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::ssd_sm90 {

inline constexpr int chunk_tokens = 64;
inline constexpr int slice_dim = 64;   ///< rows of a state that a warpgroup holds: a head's slice
inline constexpr int part_cols = 128;  ///< of a state: an accumulator
inline constexpr int parts = 2;        ///< accumulators of a warpgroup, of one slice or of two

/// How a CTA is cut. `slices`: what it works on, of heads that share B and C. `stages`: chunks
/// whose B, C, x and decays are in the rings, which have a position in common.
template <int StateDim>
struct config {
  static constexpr int state_dim = StateDim;
  static constexpr int parts_of_slice = StateDim / part_cols;
  static constexpr int slices_of_group = parts / parts_of_slice;
  static constexpr int state_groups = 2;
  static constexpr int slices = state_groups * slices_of_group;
  static constexpr int stages = 2;
  static constexpr int weight_buffers = 4;
  static_assert(weight_buffers == slices || weight_buffers == stages * slices);

  using chunk_position = ring_position<stages>;
  using weight_position = ring_position<weight_buffers>;

  /// The parity of a chunk's phase where each chunk has a phase of the one buffer.
  /// Called by: one thread
  __device__ static std::uint32_t parity_of(chunk_position chunk) {
    static_assert(stages == 2, "a chunk's buffer is then whether its number is odd");
    return static_cast<std::uint32_t>(chunk.buffer);
  }
  /// The position of a slice's weights, which follows from the chunk's: a register less.
  /// Called by: one thread
  __device__ static weight_position weights_at(chunk_position chunk, int slice) {
    if constexpr (weight_buffers == slices) {
      return {slice, parity_of(chunk)};
    } else {
      return {chunk.buffer * slices + slice, chunk.parity};
    }
  }
  static constexpr int decay_warps = 2;
};

/// The roles, in the order of their warpgroups, and the registers of a thread.
using roles = role_split<1, warpgroup_role{2, 208}, warpgroup_role{1, 64}, warpgroup_role{1, 32}>;

struct parameters {
  CUtensorMap x, b, c, z, y;
  sequence_view<const bf16> dt;  ///< [B, H, N, 1]
  const float* a;                ///< [H]
  const float* dt_bias;          ///< [H]; null: none
  const float* d;                ///< [H]; null: none
  const float* initial_state;    ///< [B, H, P, S]; null: zero
  float* final_state;            ///< [B, H, P, S]; null: not wanted
  float4* partial_states;        ///< [B, slices of all heads, segments - 1] of partial_state
  float* partial_decays;         ///< [B, slices of all heads, segments - 1], base-2 logarithms
  int groups;
  int slices_of_head;   ///< P / 64
  int slices_of_group;  ///< of the heads that share B and C
  int blocks_of_group;  ///< CTAs that these take
  int seqlen;
  int chunks;
  int segments;
  bool softplus;
};

/// What a CTA keeps of the decays of a chunk. Logarithms are base 2, sums run from the chunk's
/// first token. The state is kept without the decays since it was last multiplied by them all,
/// which it is before they are less than `least_log2_scale`: this saves most of the
/// multiplications, and no number overflows.
template <int Slices>
struct chunk_decays {
  float sum[Slices][chunk_tokens];      ///< of log2 exp(dt A), the token's own included
  float pair[Slices][chunk_tokens];     ///< log2 dt - sum: exp2(sum_i + pair_j) is a pair's weight
  float earlier[Slices][chunk_tokens];  ///< what is left of the kept state before the chunk
  float later[Slices][chunk_tokens];    ///< what a token adds to the kept state, dt included
  float kept[Slices];                   ///< factor of the kept state; mostly 1
  float after[Slices];                  ///< the state after the chunk is this times the kept one
};

/// What a CTA works on: slices of heads of a (batch, group), and chunks of theirs.
struct block_range {
  int batch, group;
  int first_slice;  ///< of the group's
  int segment;
  int first, last;  ///< chunks first .. last - 1

  block_range() = default;
  /// The range of CTA (blockIdx.x, blockIdx.y).
  /// Called by: one thread
  __device__ block_range(const parameters& p, int slices) {
    const int of_batches = blockIdx.x / p.blocks_of_group;
    batch = of_batches / p.groups;
    group = of_batches % p.groups;
    first_slice = blockIdx.x % p.blocks_of_group * slices;
    segment = blockIdx.y;
    first = static_cast<int>(std::int64_t{p.chunks} * segment / p.segments);
    last = static_cast<int>(std::int64_t{p.chunks} * (segment + 1) / p.segments);
  }
};

template <class Config>
struct shared_storage {
  using part_tile = shared_tile<chunk_tokens, part_cols, swizzle::bytes128>;
  using token_tile = shared_tile<chunk_tokens, slice_dim, swizzle::bytes128>;
  using weight_tile = shared_tile<chunk_tokens, chunk_tokens, swizzle::bytes128>;

  part_tile b[Config::stages][Config::parts_of_slice];  ///< [64 x S]
  part_tile c[Config::stages][Config::parts_of_slice];  ///< [64 x S]
  token_tile x[Config::stages][Config::slices];         ///< x, then y [64 x 64]
  token_tile z[Config::slices];                         ///< [64 x 64]
  weight_tile weights[Config::weight_buffers];          ///< [64 x 64], zero above the diagonal
  chunk_decays<Config::slices> decays[Config::stages];
  float skip[Config::slices];  ///< D
  /// What the rows of the weights are divided by, in a sequence of one chunk.
  float divisors[Config::slices][chunk_tokens], inverse_divisors[Config::slices][chunk_tokens];
  ring<Config::stages> b_ring, c_ring, x_ring, decay_ring;
  ring<Config::weight_buffers> weight_ring;
  barrier z_loaded[Config::slices], y_written[Config::stages][Config::slices];
  block_range range;
};

/// A slice: 64 rows of a head's state, or columns of its x. Where a group has no more, a CTA works
/// on its last one once more and stores nothing.
struct slice_place {
  std::int64_t index;  ///< of all slices of all batches
  int head, col;
  bool is_own;

  /// Called by: one thread
  __device__ slice_place(const parameters& p, const block_range& range, int slice) {
    const int wanted = range.first_slice + slice;
    is_own = wanted < p.slices_of_group;
    const int of_batch =
        range.group * p.slices_of_group + (is_own ? wanted : p.slices_of_group - 1);
    head = of_batch / p.slices_of_head;
    col = of_batch % p.slices_of_head * slice_dim;
    index = std::int64_t{range.batch} * p.groups * p.slices_of_group + of_batch;
  }
};

}  // namespace based::ssd_sm90
