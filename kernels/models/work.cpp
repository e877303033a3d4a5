#include "kernels/models/work.h"

#include <algorithm>

#include "kernels/models/checkpoint.h"
#include "kernels/models/mixers.h"
#include "kernels/models/weights.h"

namespace based::models {

namespace {

std::string names_of_models(bool tiny) {
  std::string names;
  for (const model_configuration& each : known_models()) {
    if (each.name.starts_with("tiny-") != tiny) continue;
    names += (names.empty() ? "" : ",") + each.name;
  }
  return names;
}

}  // namespace

axis_info model_axis_info() {
  static const std::string papers = names_of_models(false), tiny = names_of_models(true);
  axis_info info = {.flag = "model",
                    .label = "model",
                    .help = "Models, or a folder that scripts/convert_checkpoint wrote",
                    .cpu = tiny,
                    .cuda = papers,
                    .tested = tiny};
  info.domain.of = axis_domain::kind::choice;
  for (const model_configuration& each : known_models()) info.domain.names.push_back(each.name);
  info.domain.open = open_checkpoint;
  return info;
}

std::string model_axis_name(const model_configuration& model) {
  return (checkpoint_of(model) != nullptr ? "trained-" : "") + model.name;
}

double product_flops(const model_configuration& model, const sequences& on) {
  double weights = -static_cast<double>(model.vocabulary * model.width);  // no product: a look-up
  for (const weight_tensor& each : weights_of(model).tensors()) {
    if (each.is_matrix()) weights += static_cast<double>(each.count());
  }
  return 2 * weights * static_cast<double>(on.tokens());
}

double head_flops(const model_configuration& model, std::int64_t batch) {
  return 2.0 * static_cast<double>(batch) * static_cast<double>(model.vocabulary * model.width);
}

double cached_attention_flops(const model_configuration& model, std::int64_t batch,
                              std::int64_t filled) {
  double slots = 0;
  for (const mixer_kind mixer : model.mixers) {
    if (mixer != mixer_kind::window_attention && mixer != mixer_kind::attention) continue;
    slots += static_cast<double>(std::min(filled, cache_slots(model, mixer, filled)));
  }
  return 4.0 * static_cast<double>(batch * model.width) * slots;
}

operation_work model_work(const model_configuration& model, const sequences& on,
                          std::int64_t filled) {
  const double products = product_flops(model, on) + head_flops(model, on.batch) +
                          (on.continues ? cached_attention_flops(model, on.batch, filled) : 0);
  const state_table of_one(model, 1, filled);
  operation_work all = {
      .nominal_flops = products,
      .least_flops = products,
      .tokens = static_cast<double>(on.tokens()),
      .state_bytes = static_cast<double>(of_one.recurrent_elements()) * sizeof(float) +
                     static_cast<double>(of_one.cached_elements()) * sizeof(bf16)};
  for (const mixer_kind mixer : model.mixers) {
    for_each_operation(model, mixer, on, [&]<class Op>(const typename Op::problem& of_mixer) {
      const operation_work one = Op::work(of_mixer);
      all.nominal_flops += one.nominal_flops;
      all.least_flops += one.least_flops;
    });
  }
  return all;
}

std::vector<tensor_spec> weight_tensors(const model_configuration& model, element_type io) {
  const weight_table& weights = weights_of(model);
  return {{.name = "matrices",
           .role = tensor_role::input,
           .type = io,
           .shape = {weights.matrix_elements()},
           .stddev = matrix_stddev(model)},
          {.name = "others",
           .role = tensor_role::input,
           .type = element_type::f32,
           .shape = {weights.other_elements()},
           .stddev = 1}};
}

std::vector<tensor_spec> state_tensors(const state_table& states, element_type io,
                                       tensor_role recurrent) {
  constexpr float stddev = 0.5f;
  std::vector<tensor_spec> all = {
      {"recurrent", recurrent, element_type::f32, {states.recurrent_elements()}, stddev},
      {"cached", tensor_role::appended, io, {states.cached_elements()}, stddev}};
  std::erase_if(all, [](const tensor_spec& each) { return each.count() == 0; });
  return all;
}

void arrange_weights(const model_configuration& model, tensor_access& tensors) {
  const weight_table& weights = weights_of(model);
  std::vector<float> others = tensors.get("others", 0, weights.other_elements());
  if (const checkpoint* const trained = checkpoint_of(model)) {
    std::vector<float> matrices(static_cast<std::size_t>(weights.matrix_elements()));
    trained->read(std::span(matrices), std::span(others));
    tensors.put("matrices", 0, matrices);
  } else {
    initialise(model, others);
  }
  tensors.put("others", 0, others);
}

}  // namespace based::models
