// The KV state as the tensor cores accumulate it, S^T [64 values x 160 slots of quad_map.h] in a
// warpgroup's registers, and its ways in and out: rounded for the output's products, the compact
// fp32 rows of features.h, and the partial states of a split sequence.
#pragma once

#include <cstdint>

#include "kernels/based/quad_features.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based {

using value_tile = shared_tile<64, value_dim, swizzle::bytes128>;           // V  [64 x 64]
using state_tile = shared_tile<quad::slots, value_dim, swizzle::bytes128>;  // S  [160 x 64]
using state_accumulator = accumulator_tile<quad::slots>;                    // S^T [64 x 160]
using rounded_state = operand_tile<quad::slots>;                            // S^T [64 x 160]

/// The warps' parts of the moments of keys, lane by lane; see key_moments.cuh.
using moment_parts = float4[warpgroup::warps][32];

/// A rounded_state, thread by thread: as large as a state_tile.
using rounded_parts = uint4[rounded_state::slices][warpgroup::threads];
static_assert(sizeof(rounded_parts) == state_tile::bytes);

/// What a split sequence keeps of a segment: its own tokens' state, and the moments of their keys.
struct segment_state {
  rounded_parts state;
  moment_parts moments;
};

/// In constant memory, for lanes to look up.
static __constant__ const quad::row_table compact_rows = {};

namespace warpgroup {

/// Whether this thread holds the slots of the constant, as elements 0 and 1 (and 2 and 3, eight
/// rows down) of the block of eight columns that starts with them.
__device__ inline bool holds_constant() {
  return warp::lane() % 4 == 0;
}
inline constexpr int constant_element = quad::head_slot / 2;

/// S^T in bf16. sum(v), the largest of the rows, keeps sixteen bits: a head and its residual.
__device__ inline rounded_state round_state(const state_accumulator& state) {
  rounded_state rounded = to_bf16(state);
  if (holds_constant()) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      std::uint32_t& word = rounded.slice[quad::constant_slice].word[2 + row];
      const float sum = state.value[constant_element + 2 * row];
      word = ptx::to_bf16x2(sum, sum - ptx::low_half(word));
    }
  }
  return rounded;
}

/// The state from the compact rows kv [153, 64] of one head, which lack the weights.
__device__ inline void load_state(state_accumulator& state, const float* kv, float scale) {
  for_each(state, [&](int dim, int slot, float& value) {
    const int row = compact_rows.row[slot];
    value = row < 0 ? 0.0f : kv[row * value_dim + dim] * quad::weight(slot / 8, scale);
  });
}

/// The state to the compact rows kv [153, 64] of one head.
__device__ inline void store_state(float* kv, state_accumulator& state, float scale) {
  const float inverse_scale = 1 / scale;
  for_each(state, [&](int dim, int slot, float& value) {
    const int row = compact_rows.row[slot];
    if (row < 0 || slot == quad::residual_slot) return;
    kv[row * value_dim + dim] = value * quad::inverse_weight(slot / 8, inverse_scale);
  });
}

__device__ inline void store_parts(rounded_parts& parts, const state_accumulator& state) {
  const rounded_state rounded = round_state(state);
#pragma unroll
  for (int i = 0; i < rounded.slices; ++i) {
    const auto& word = rounded.slice[i].word;
    parts[i][thread()] = {word[0], word[1], word[2], word[3]};
  }
}

__device__ inline void add_parts(state_accumulator& state, const rounded_parts& parts) {
  float constant[2] = {state.value[constant_element], state.value[constant_element + 2]};
#pragma unroll
  for (int i = 0; i < rounded_state::slices; ++i) {
    const uint4 words = parts[i][thread()];
    const std::uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      state.value[8 * i + 2 * j] += ptx::low_half(word[j]);
      state.value[8 * i + 2 * j + 1] += ptx::high_half(word[j]);
    }
    if (i == quad::constant_slice) {
      constant[0] += ptx::low_half(word[2]) + ptx::high_half(word[2]);
      constant[1] += ptx::low_half(word[3]) + ptx::high_half(word[3]);
    }
  }
  if (holds_constant()) {
#pragma unroll
    for (int i = 0; i < 4; ++i) state.value[constant_element + i] = constant[i / 2];
  }
}

}  // namespace warpgroup
}  // namespace based
