// A whole model in float64, the oracle of model_prefill: the layers as they are written in the
// models' papers, one after the other over all tokens of a sequence, in plain loops. Mixers are
// those of the other references, which take fp32: what they are given is rounded to it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/models/configuration.h"

namespace based::reference {

/// The logits [vocabulary] of the token after the last of `ids`. The weights are as weights_of()
/// has them (weights.h).
std::vector<double> model_logits(const models::model_configuration& model,
                                 std::span<const std::int32_t> ids, std::span<const float> matrices,
                                 std::span<const float> others);

}  // namespace based::reference
