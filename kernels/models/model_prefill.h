// The operation "model_prefill": one forward pass of a whole model over a prompt, for the logits of
// the next token (models: configuration.h).
//
// Matrices are random or a checkpoint's (weights.h). The logits of an early token are wanted too:
// the models are causal, so that a float64 reference can afford to verify those of a large model.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/operation.h"
#include "kernels/models/configuration.h"
#include "kernels/models/sequences.h"
#include "kernels/models/states.h"
#include "kernels/models/weights.h"
#include "kernels/models/work.h"

namespace based {

struct model_prefill_problem {
  const models::model_configuration* model = &models::model_named("tiny-based");
  std::int64_t batch = 1;
  std::int64_t seqlen = 1;
  /// Not 0: the call also leaves the sequences' states, with caches of so many slots (states.h).
  std::int64_t slots = 0;

  /// The token whose logits are wanted beside the last one's.
  std::int64_t early_token() const { return std::min<std::int64_t>(seqlen - 1, 6); }
  std::int64_t tokens() const { return batch * seqlen; }
  models::sequences on() const { return {batch, seqlen, slots > 0, false}; }
};

/// T is float on the CPU, bf16 on CUDA; tensors are on the implementation's device.
template <class T>
struct model_prefill_args {
  model_prefill_problem problem;
  /// [B, N]. One outside the vocabulary gives logits that are NaN to all tokens that see it.
  std::span<const std::int32_t> ids;
  std::span<const T> matrices;    ///< as weights_of(model) has them
  std::span<const float> others;  ///< the weights that are no matrices
  std::span<float> logits;        ///< [B, vocabulary], of the last token
  std::span<float> early_logits;  ///< [B, vocabulary], of the token early_token()
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  /// Where states are wanted, as state_table(model, batch, slots) has them.
  std::span<float> recurrent = {};
  std::span<T> cached = {};
};

/// The operation's one description (operation.h).
struct model_prefill {
  static constexpr std::string_view name = "model_prefill";
  using problem = model_prefill_problem;
  template <class T>
  using args = model_prefill_args<T>;

  static std::vector<axis<problem>> axes();
  static std::vector<tensor_spec> tensors(const problem& p, element_type io);
  static operation_work work(const problem& p);

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .ids = tensors.elements<const std::int32_t>("ids"),
            .matrices = tensors.elements<const T>("matrices"),
            .others = tensors.elements<const float>("others"),
            .logits = tensors.elements<float>("logits"),
            .early_logits = tensors.elements<float>("early_logits"),
            .recurrent = tensors.elements<float>("recurrent"),
            .cached = tensors.elements<T>("cached")};
  }

  static void arrange(const problem& p, tensor_access& tensors);
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of prefill.h. The ids are not looked at: they are on the device.
template <class T>
void validate(const model_prefill_args<T>& args, std::size_t workspace_needed);
void validate(const model_prefill_problem& problem);

}  // namespace based
