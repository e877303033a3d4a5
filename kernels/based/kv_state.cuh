// The KV state as the tensor cores accumulate it, S^T [64 values x 160 slots of quad_map.h] in a
// warpgroup's registers, and its ways in and out: rounded for the output's products, the compact
// fp32 rows of features.h, and the partial states of a split sequence.
#pragma once

#include <cstdint>

#include "kernels/based/quad_features.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based {

// S^T has a row a value, and an accumulator has the 64 rows of a warpgroup: more values take more
// of them, in more registers than a warpgroup has.
static_assert(value_dim == 64);

using value_tile = shared_tile<64, value_dim, swizzle::bytes128>;           // V  [64 x 64]
using state_tile = shared_tile<quad::slots, value_dim, swizzle::bytes128>;  // S  [160 x 64]
using state_accumulator = accumulator_tile<quad::slots>;                    // S^T [64 x 160]
using rounded_state = operand_tile<quad::slots>;                            // S^T [64 x 160]
using output_accumulator = accumulator_tile<value_dim>;                     // O [64 x 64]
/// O [64 x 64] and, normalised, beside it the sums of its weights [64 x 8].
template <bool Normalize>
using summed_output = accumulator_tile<value_dim + (Normalize ? 8 : 0)>;
static_assert(value_dim == warpgroup::rows, "S^T is the rows of one warpgroup's accumulator");

/// The warps' parts of the moments of keys, lane by lane; see key_moments.cuh.
using moment_parts = float4[warpgroup::warps][32];

/// A rounded_state, thread by thread: as large as a state_tile.
using rounded_parts = uint4[rounded_state::slices][warpgroup::threads];
static_assert(sizeof(rounded_parts) == state_tile::bytes);

/// A state_accumulator, thread by thread.
using exact_parts = float4[state_accumulator::size / 4][warpgroup::threads];

/// The compact rows of one head (features.h).
using compact_state = float[compact_features][value_dim];

/// What a split sequence keeps of a segment: its own tokens' state, and the moments of their keys.
struct segment_state {
  rounded_parts state;
  moment_parts moments;
};

/// A state, exactly, on its way from the CTA that has begun a head to the one that goes on with it.
struct handed_state {
  exact_parts state;
  moment_parts moments;
  std::uint32_t is_there, moments_are_there;
};

namespace warpgroup {

/// Whether this thread holds the slots of the constant, as elements 0 and 1 (and 2 and 3, eight
/// rows down) of the block of eight columns that starts with them.
/// Called by: one thread
__device__ inline bool holds_constant() {
  return warp::lane() % 4 == 0;
}
inline constexpr int constant_element = quad::head_slot / 2;

/// S^T in bf16. sum(v), the largest of the rows, keeps sixteen bits: a head and its residual.
/// Called by: one thread
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

/// Whether a word's slots of this lane hold nothing.
/// Called by: one thread
__device__ inline bool is_empty(int word) {
  return quad::recipe(word).kind == quad::word_kind::constant && !holds_constant();
}

/// Calls f(word, half, offset, value) for each element that this thread holds: its slot's word and
/// half (quad_map.h), and its place in the compact rows kv [153, 64] of a head, in bytes.
/// Called by: one thread
template <class Function>
__device__ inline void for_each_compact(state_accumulator& state, Function f) {
  const std::uint32_t lane_byte = 4 + warp::lane() % quad::lanes;  // of the second word, then zeros
  const std::uint32_t dim = 16 * warp() + warp::lane() / 4;
#pragma unroll
  for (int i = 0; i < state.size; ++i) {
    const int word = i / 4, half = i % 2;
    const std::uint32_t row = __byte_perm(0, quad::compact_rows(word, half), lane_byte);
    const std::uint32_t offset = row * value_dim + dim + i % 4 / 2 * 8;
    f(word, half, offset * sizeof(float), state.value[i]);
  }
}

/// The state from the compact rows of one head, which lack the weights. All loads are on their way
/// before the first is needed.
/// Called by: one warpgroup
__device__ inline void load_state(state_accumulator& state, const compact_state& kv, float scale) {
  for_each_compact(state, [&](int, int, std::uint32_t offset, float& value) {
    value = *reinterpret_cast<const float*>(reinterpret_cast<const char*>(&kv) + offset);
  });
  for_each_compact(state, [&](int word, int, std::uint32_t, float& value) {
    value = is_empty(word) ? 0 : value * quad::weight(word, scale);
  });
}

/// The state to the compact rows kv [153, 64] of one head.
/// Called by: one warpgroup
__device__ inline void store_state(float* kv, state_accumulator& state, float scale) {
  const float inverse_scale = 1 / scale;
  for_each_compact(state, [&](int word, int half, std::uint32_t offset, float value) {
    const bool is_residual = quad::recipe(word).kind == quad::word_kind::constant && half == 1;
    if (is_residual || is_empty(word)) return;
    *reinterpret_cast<float*>(reinterpret_cast<char*>(kv) + offset) =
        value * quad::inverse_weight(word, inverse_scale);
  });
}

/// Called by: one warpgroup
__device__ inline void store_parts(rounded_parts& parts, const state_accumulator& state) {
  const rounded_state rounded = round_state(state);
#pragma unroll
  for (int i = 0; i < rounded.slices; ++i) {
    const auto& word = rounded.slice[i].word;
    parts[i][thread()] = {word[0], word[1], word[2], word[3]};
  }
}

/// Called by: one warpgroup
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

/// Called by: one warpgroup
__device__ inline void store_exact(exact_parts& parts, const state_accumulator& state) {
#pragma unroll
  for (int i = 0; i < state.size / 4; ++i) {
    const float* value = state.value + 4 * i;
    parts[i][thread()] = {value[0], value[1], value[2], value[3]};
  }
}

/// Calls f(element, value) for each element of the state and its value in `parts`.
/// Called by: one thread
template <class Function>
__device__ inline void for_each_exact(state_accumulator& state, const exact_parts& parts,
                                      Function f) {
#pragma unroll
  for (int i = 0; i < state.size / 4; ++i) {
    const float4 part = parts[i][thread()];
    f(state.value[4 * i], part.x);
    f(state.value[4 * i + 1], part.y);
    f(state.value[4 * i + 2], part.z);
    f(state.value[4 * i + 3], part.w);
  }
}

/// Called by: one warpgroup
__device__ inline void load_exact(state_accumulator& state, const exact_parts& parts) {
  for_each_exact(state, parts, [](float& element, float value) { element = value; });
}

/// Called by: one warpgroup
__device__ inline void add_exact(state_accumulator& state, const exact_parts& parts) {
  for_each_exact(state, parts, [](float& element, float value) { element += value; });
}

}  // namespace warpgroup
}  // namespace based
