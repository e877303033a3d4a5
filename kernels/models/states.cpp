#include "kernels/models/states.h"

#include "kernels/based/features.h"

namespace based::models {

std::int64_t cache_slots(const model_configuration& model, mixer_kind mixer, std::int64_t slots) {
  return mixer == mixer_kind::window_attention ? model.window : slots;
}

state_table::state_table(const model_configuration& model, std::int64_t batch, std::int64_t slots) {
  constexpr std::int64_t dim = model_configuration::head_dim;
  std::int64_t layer = 0;
  const auto add = [&](std::string_view name, bool is_recurrent, std::int64_t elements) {
    std::int64_t& end = is_recurrent ? recurrent_ : cached_;
    tensors_.push_back({layer, name, is_recurrent, elements, end});
    end += batch * elements;  // whole 16-byte words, for validate() knows
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

const state_tensor* state_table::find(std::int64_t layer, std::string_view name) const {
  for (const state_tensor& each : tensors_) {
    if (each.layer == layer && each.name == name) return &each;
  }
  return nullptr;
}

}  // namespace based::models
