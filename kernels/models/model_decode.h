// The operation "model_decode": one forward pass of a whole model over one token of each sequence,
// from the states that the tokens before left: a step of generation. Which token is the most likely
// one to follow is found on the device too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/core/operation.h"
#include "kernels/models/configuration.h"
#include "kernels/models/sequences.h"
#include "kernels/models/states.h"
#include "kernels/models/weights.h"
#include "kernels/models/work.h"

namespace based {

struct model_decode_problem {
  const models::model_configuration* model = &models::model_named("tiny-based");
  std::int64_t batch = 1;
  /// Tokens of each sequence, the step's own included. A sweep's positions are `context` - 1.
  std::int64_t context = 1;
  std::int64_t slots = 0;  ///< of the caches (states.h); 0: `context`

  std::int64_t cache_slots() const { return slots == 0 ? context : slots; }
  models::sequences on() const { return {batch, 1, false, true}; }
};

/// T is float on the CPU, bf16 on CUDA; tensors are on the implementation's device.
template <class T>
struct model_decode_args {
  model_decode_problem problem;
  std::span<const std::int32_t> ids;        ///< [B], as those of model_prefill
  std::span<const std::int32_t> positions;  ///< [B], from 0: tokens of the sequence before it
  std::span<const T> matrices;              ///< as weights_of(model) has them
  std::span<const float> others;            ///< the weights that are no matrices
  std::span<float> logits;                  ///< [B, vocabulary]
  std::span<std::int32_t> next;             ///< [B], the largest logits; the first of several
  /// As state_table(model, batch, cache_slots()) has them; updated.
  std::span<float> recurrent = {};
  std::span<T> cached = {};
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// The operation's one description (operation.h).
struct model_decode {
  static constexpr std::string_view name = "model_decode";
  static constexpr bool is_replayed = true;
  using problem = model_decode_problem;
  template <class T>
  using args = model_decode_args<T>;

  static std::vector<axis<problem>> axes();
  static std::vector<tensor_spec> tensors(const problem& p, element_type io);
  static operation_work work(const problem& p);

  template <class T>
  static args<T> bind(const problem& p, const placed_tensors& tensors) {
    return {.problem = p,
            .ids = tensors.elements<const std::int32_t>("ids"),
            .positions = tensors.elements<const std::int32_t>("positions"),
            .matrices = tensors.elements<const T>("matrices"),
            .others = tensors.elements<const float>("others"),
            .logits = tensors.elements<float>("logits"),
            .next = tensors.elements<std::int32_t>("next"),
            .recurrent = tensors.elements<float>("recurrent"),
            .cached = tensors.elements<T>("cached")};
  }

  static void arrange(const problem& p, tensor_access& tensors);
  static verification compare(const problem& p, const tensor_access& tensors,
                              const sampling& sampled);
};

/// As validate() of model_prefill.h. Positions are not looked at either.
template <class T>
void validate(const model_decode_args<T>& args, std::size_t workspace_needed);
void validate(const model_decode_problem& problem);

}  // namespace based
