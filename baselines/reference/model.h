// A whole model in float64, the oracle of model_prefill and model_decode: the layers as they are
// written in the models' papers, one after the other over all tokens of a sequence, in plain loops.
// Mixers are those of the other references, which take fp32: what they are given is rounded to it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/models/configuration.h"

namespace based::reference {

/// What the tokens before those of a call left, of one sequence.
struct earlier_tokens {
  std::int64_t count;  ///< tokens
  std::int64_t slots;  ///< of the caches, as state_table has them
  /// The tensor of a layer by its name in states.h.
  std::function<std::vector<float>(std::int64_t layer, std::string_view name)> state;
};

/// The logits [vocabulary] of the token after the last of `ids`. The weights are as weights_of()
/// has them (weights.h). `earlier`: null, or what was before, for one id.
std::vector<double> model_logits(const models::model_configuration& model,
                                 std::span<const std::int32_t> ids, std::span<const float> matrices,
                                 std::span<const float> others,
                                 const earlier_tokens* earlier = nullptr);

}  // namespace based::reference
