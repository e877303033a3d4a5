#include "kernels/models/states.h"

#include <fmt/format.h>

#include "kernels/based/features.h"
#include "kernels/core/error.h"

namespace based::models {

std::int64_t cache_slots(const model_configuration& model, mixer_kind mixer, std::int64_t slots) {
  return mixer == mixer_kind::window_attention ? model.window : slots;
}

state_table::state_table(const model_configuration& model, std::int64_t batch, std::int64_t slots) {
  constexpr std::int64_t dim = model_configuration::head_dim;
  std::int64_t layer = 0;
  const auto add = [&](std::string_view name, bool is_recurrent, std::int64_t elements) {
    constexpr std::int64_t alignment = 128;
    std::int64_t& end = is_recurrent ? recurrent_ : cached_;
    tensors_.push_back({layer, name, is_recurrent, elements, end});
    end += (batch * elements + alignment - 1) / alignment * alignment;
  };
  for (const mixer_kind mixer : model.mixers) {
    const std::int64_t kept = model.taps - 1;
    switch (mixer) {
      case mixer_kind::base_conv:
        add("conv", false, kept * model.inner);
        break;
      case mixer_kind::linear_attention:
        add("kv", true, model.heads * compact_features * dim);
        if (!model.head_norm) add("z", true, model.heads * compact_features);
        break;
      case mixer_kind::window_attention:
      case mixer_kind::attention:
        for (const std::string_view name : {"k", "v"}) {
          add(name, false, model.heads * cache_slots(model, mixer, slots) * dim);
        }
        break;
      case mixer_kind::mamba:
        add("conv", false, kept * model.inner);
        add("state", true, model.inner * model.d_state);
        break;
      case mixer_kind::mamba2:
        add("conv", false, kept * (model.inner + 2 * model.d_state));
        add("state", true, model.inner * model.d_state);
        break;
    }
    ++layer;
  }
}

const state_tensor& state_table::at(std::int64_t layer, std::string_view name) const {
  for (const state_tensor& each : tensors_) {
    if (each.layer == layer && each.name == name) return each;
  }
  throw invalid_argument(fmt::format("layer {} keeps no '{}'", layer, name));
}

double state_table::bytes(std::size_t cached_element) const {
  return static_cast<double>(recurrent_) * sizeof(float) +
         static_cast<double>(cached_) * static_cast<double>(cached_element);
}

}  // namespace based::models
