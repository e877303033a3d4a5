#include "kernels/models/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <list>
#include <mutex>
#include <utility>

#include "kernels/core/error.h"

namespace based::models {
namespace {

using enum weight_kind;

/// In elements, and at least the alignment in bytes that the fastest matrix products want.
constexpr std::int64_t alignment = 128;

std::int64_t aligned(std::int64_t elements) {
  return (elements + alignment - 1) / alignment * alignment;
}

}  // namespace

std::int64_t weight_tensor::count() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

weight_table::weight_table(const model_configuration& model)
    : is_state_space_(model.is_state_space()) {
  const std::int64_t width = model.width;
  add(embedding(), {model.vocabulary, width}, matrix);
  for (std::int64_t index = 0; index < model.layers(); ++index) {
    const std::string prefix = layer(index);
    add(prefix + (is_state_space_ ? "norm.weight" : "norm1.weight"), {width}, norm);
    add_mixer(model, model.mixers[static_cast<std::size_t>(index)], prefix + "mixer.");
    if (model.mlp_inner == 0) continue;
    add(prefix + "norm2.weight", {width}, norm);
    add(prefix + "mlp.fc1.weight", {2 * model.mlp_inner, width}, matrix);
    add(prefix + "mlp.fc2.weight", {width, model.mlp_inner}, matrix);
  }
  add(final_norm(), {width}, norm);
}

void weight_table::add_mixer(const model_configuration& model, mixer_kind mixer,
                             const std::string& prefix) {
  const std::int64_t width = model.width, inner = model.inner;
  const auto projections = [&](std::int64_t channels) {
    add(prefix + "in_proj.weight", {model.projected(mixer), width}, matrix);
    add(prefix + "out_proj.weight", {width, channels}, matrix);
  };
  switch (mixer) {
    case mixer_kind::base_conv:
      projections(inner);
      add(prefix + "in_proj.bias", {2 * inner}, bias);
      add(prefix + "out_proj.bias", {width}, bias);
      add(prefix + "conv.conv.weight", {model.taps, inner}, convolution, weight_form::taps_first);
      return;
    case mixer_kind::linear_attention: {
      const std::int64_t features = model.heads * model_configuration::feature_dim;
      add(prefix + "proj_q.weight", {features, width}, matrix);
      add(prefix + "proj_k.weight", {features, width}, matrix);
      add(prefix + "proj_v.weight", {width, width}, matrix);
      add(prefix + "out_proj.weight", {width, width}, matrix);
      if (model.head_norm) add(prefix + "g_norm.weight", {model_configuration::head_dim}, norm);
      return;
    }
    case mixer_kind::window_attention:
    case mixer_kind::attention:
      add(prefix + "Wqkv.weight", {3 * width, width}, matrix);
      add(prefix + "out_proj.weight", {width, width}, matrix);
      return;
    case mixer_kind::mamba:
      projections(inner);
      add(prefix + "conv1d.weight", {model.taps, inner}, convolution, weight_form::taps_first);
      add(prefix + "conv1d.bias", {inner}, bias);
      add(prefix + "x_proj.weight", {model.dt_rank + 2 * model.d_state, inner}, matrix);
      add(prefix + "dt_proj.weight", {inner, model.dt_rank}, matrix);
      add(prefix + "dt_proj.bias", {inner}, step_bias);
      add(prefix + "A_log", {inner, model.d_state}, decay_per_state,
          weight_form::negative_exponential);
      add(prefix + "D", {inner}, skip);
      return;
    case mixer_kind::mamba2: {
      const std::int64_t convolved = inner + 2 * model.d_state;
      projections(inner);
      add(prefix + "conv1d.weight", {model.taps, convolved}, convolution, weight_form::taps_first);
      add(prefix + "conv1d.bias", {convolved}, bias);
      add(prefix + "dt_bias", {model.ssd_heads()}, step_bias);
      add(prefix + "A_log", {model.ssd_heads()}, decay_per_head, weight_form::negative_exponential);
      add(prefix + "D", {model.ssd_heads()}, skip);
      add(prefix + "norm.weight", {inner}, norm);
      return;
    }
  }
}

void weight_table::add(const std::string& key, std::vector<std::int64_t> shape, weight_kind kind,
                       weight_form form) {
  std::int64_t& end = kind == matrix ? matrix_elements_ : other_elements_;
  by_key_.emplace(key, tensors_.size());
  tensors_.push_back({key, std::move(shape), kind, form, end});
  end += aligned(tensors_.back().count());
}

std::int64_t weight_table::parameters() const {
  std::int64_t sum = 0;
  for (const weight_tensor& each : tensors_) sum += each.count();
  return sum;
}

const weight_tensor& weight_table::at(const std::string& key) const {
  const auto found = by_key_.find(key);
  BASED_REQUIRE(found != by_key_.end(), "the model has no tensor '" + key + "'");
  return tensors_[found->second];
}

std::string weight_table::layer(std::int64_t index) const {
  return fmt::format("{}.layers.{}.", is_state_space_ ? "backbone" : "transformer", index);
}

std::string weight_table::embedding() const {
  return is_state_space_ ? "backbone.embedding.weight"
                         : "transformer.embeddings.word_embeddings.weight";
}

std::string weight_table::final_norm() const {
  return is_state_space_ ? "backbone.norm_f.weight" : "transformer.ln_f.weight";
}

const weight_table& weights_of(const model_configuration& model) {
  static std::mutex mutex;
  static std::list<std::pair<const model_configuration, const weight_table>> tables;
  const std::scoped_lock lock(mutex);
  for (const auto& [of, table] : tables) {
    if (of == model) return table;
  }
  return tables.emplace_back(model, weight_table(model)).second;
}

float matrix_stddev(const model_configuration& model) {
  return 0.64f / std::sqrt(static_cast<float>(model.width));
}

void initialise(const model_configuration& model, std::span<float> others) {
  const auto set = [](weight_kind kind, std::int64_t index, std::int64_t row_size, float normal) {
    switch (kind) {
      case norm:
      case skip:
        return 1 + 0.1f * normal;
      case bias:
        return 0.1f * normal;
      case convolution:
        return 0.35f * normal;  // as deviates a uniform number in 1 / sqrt(3) or 1 / sqrt(4)
      case step_bias:
        return std::clamp(-4.6f + normal, -6.9f, -2.25f);  // softplus gives 1e-3 to 0.1
      case decay_per_state:
        return -static_cast<float>(1 + index % row_size);
      case decay_per_head:
        return -(1 + 15 * std::min(std::abs(normal) / 2, 1.0f));  // -1 to -16
      case matrix:
        break;
    }
    return normal;
  };
  for (const weight_tensor& each : weights_of(model).tensors()) {
    if (each.is_matrix()) continue;
    for (std::int64_t i = 0; i < each.count(); ++i) {
      float& value = others[static_cast<std::size_t>(each.offset + i)];
      value = set(each.kind, i, each.shape.back(), value);
    }
  }
}

}  // namespace based::models
