// What every operation on whole models asks of its arguments. Each function throws invalid_argument
// with the name of what is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/core/validate.h"
#include "kernels/models/configuration.h"
#include "kernels/models/sequences.h"
#include "kernels/models/states.h"
#include "kernels/models/weights.h"

namespace based::models {

inline void require_model(const model_configuration* model, const sequences& on,
                          std::int64_t slots) {
  BASED_REQUIRE(model != nullptr, "model is null");
  validate(*model);
  require_size("batch", on.batch);
  require_size("seqlen", on.seqlen);
  BASED_REQUIRE(slots >= 0, "slots is " + std::to_string(slots) + ", must not be negative");
  constexpr std::int64_t widest = 8;  // activations of a token, in widths
  const auto row = static_cast<int>(widest * (model->width + model->inner));
  require_addressable(on.batch, 1, on.seqlen, row);
  require_addressable(on.batch, model->layers(), slots, row);
}

/// As many elements as that, no more and no fewer.
template <class T>
void require_elements(const char* name, std::span<T> given, std::int64_t elements) {
  require_state(name, given.data(), given.size_bytes(),
                static_cast<std::size_t>(elements) * sizeof(T));
}

template <class T>
void require_weights(const model_configuration& model, std::span<const T> matrices,
                     std::span<const float> others) {
  require_elements("matrices", matrices, weights_of(model).matrix_elements());
  require_elements("others", others, weights_of(model).other_elements());
}

template <class T>
void require_states(const state_table& states, std::span<float> recurrent, std::span<T> cached) {
  if (states.recurrent_elements() > 0) {
    require_elements("recurrent", recurrent, states.recurrent_elements());
  }
  if (states.cached_elements() > 0) require_elements("cached", cached, states.cached_elements());
}

}  // namespace based::models
