// What a pass of a model over sequences costs, whichever implementation runs it, and what its
// tensors are.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/core/operation.h"
#include "kernels/models/checkpoint.h"
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
/// Gives "others" their initial values; where the model is a checkpoint, gives both buffers its
/// weights.
void arrange_weights(const model_configuration& model, tensor_access& tensors);

/// The tensors "recurrent", of that role, and "cached", to which a call appends; those that hold
/// anything.
std::vector<tensor_spec> state_tensors(const state_table& states, element_type io,
                                       tensor_role recurrent);

/// The axis of models; those of the papers are swept on GPUs, the tiny ones tested. A folder of
/// checkpoint.h is a model too.
axis_info model_axis_info();
std::string model_axis_name(const model_configuration& model);
template <class Problem>
axis<Problem> model_axis() {
  return {
      model_axis_info(),
      [](Problem& p, const axis_value& value) { p.model = &known_model(based::to_string(value)); },
      [](const Problem& p) { return axis_value(model_axis_name(*p.model)); }};
}

}  // namespace based::models
