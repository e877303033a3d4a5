// Conversion between the compact KV state (features.h) and the 273-feature states of the sources.
//
// The sources split the scale between both sides of phi_q . phi_k, and so their k side, and with it
// their state, holds weighted features (arXiv 2402.18668, the code's TaylorExp):
//
//   1,   sqrt(scale) k_i,   scale/sqrt(2) k_i k_j  for all i, j         (scale = 1/sqrt(16))
//
// where the compact state holds 1, k_i, and k_i k_j for i <= j.
#pragma once

#include <span>

#include "kernels/based/features.h"

namespace based {

/// How one head's 273 x 64 elements lie in memory; r counts features, c value columns.
enum class source_layout {
  based,           ///< the inference cache of Based's code: [64, 273]
  thunderkittens,  ///< ThunderKittens' kv_a0 [64], kv_a1 [64, 16] and kv_a2 [256, 64], one after
                   ///< another
};

/// Writes the source's form of one head's state: compact [153, 64], expanded 273 * 64 elements.
/// Throws invalid_argument for another size or a scale that is not positive.
void to_source_layout(std::span<const float> compact, source_layout layout, float scale,
                      std::span<float> expanded);

/// Writes the compact form of a source's state. The two rows of a product, equal in a state made of
/// tokens, are averaged.
void from_source_layout(std::span<const float> expanded, source_layout layout, float scale,
                        std::span<float> compact);

/// Converts the normaliser z as to_source_layout() does a state: compact [153], expanded
/// [273] (ThunderKittens has none).
void to_source_normalizer(std::span<const float> compact, float scale, std::span<float> expanded);
/// Converts the normaliser z back as from_source_layout() does a state.
void from_source_normalizer(std::span<const float> expanded, float scale, std::span<float> compact);

}  // namespace based
