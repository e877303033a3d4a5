// What a pass of a model over sequences costs whoever runs it, and what its tensors are.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/core/operation.h"
#include "kernels/models/configuration.h"
#include "kernels/models/sequences.h"
#include "kernels/models/states.h"

namespace based::models {

/// FLOPs of the products of all layers.
double product_flops(const model_configuration& model, const sequences& on);
/// FLOPs of the head, on one token of each sequence.
double head_flops(const model_configuration& model, std::int64_t batch);
/// FLOPs of attention over caches of which `filled` slots are, at most, of one token a sequence.
double cached_attention_flops(const model_configuration& model, std::int64_t batch,
                              std::int64_t filled);

/// Products, head and mixers together. `filled`: slots of caches that a step reads.
operation_work model_work(const model_configuration& model, const sequences& on,
                          std::int64_t filled);

/// The tensors "matrices" and "others" of a model's weights.
std::vector<tensor_spec> weight_tensors(const model_configuration& model, element_type io);
/// Gives "others" their initial values.
void arrange_weights(const model_configuration& model, tensor_access& tensors);

/// The tensors "recurrent", of that role, and "cached", to which a call appends; those that hold
/// anything.
std::vector<tensor_spec> state_tensors(const state_table& states, element_type io,
                                       tensor_role recurrent);

std::string names_of_models(bool tiny);

/// The axis of models; those of the papers are swept on GPUs, the tiny ones tested.
template <class Problem>
axis<Problem> model_axis() {
  static const std::string papers = names_of_models(false), tiny = names_of_models(true);
  std::vector<std::pair<std::string, const model_configuration*>> all;
  for (const model_configuration& each : known_models()) all.emplace_back(each.name, &each);
  return choice_axis<Problem, const model_configuration*>(
      {.flag = "model",
       .label = "model",
       .help = "Models",
       .cpu = tiny,
       .cuda = papers,
       .tested = tiny},
      all, [](auto& p) -> auto& { return p.model; });
}

}  // namespace based::models
