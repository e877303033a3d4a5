// Trained weights: a folder with config.json, which says what the model is, and model.safetensors.
// scripts/convert_checkpoint makes such folders of the published checkpoints.
//
// config.json has the members of model_configuration by their names, `mixers` as a list of the
// names of mixer_kind:
//
//   {"name": "based-360m", "width": 1024, "vocabulary": 50264, "mixers": ["base_conv", ...], ...}
//
// Others are not looked at.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kernels/models/configuration.h"
#include "kernels/models/safetensors.h"

namespace based::models {

/// The mixer's name in config.json.
std::string_view name_of(mixer_kind mixer);

class checkpoint {
 public:
  /// Throws invalid_argument, with one line that names the file, where one is missing or is not
  /// what it should be, and where the weights are not those of the configuration: a tensor that is
  /// missing, has another shape, or belongs to another model.
  explicit checkpoint(const std::filesystem::path& folder);

  const model_configuration& model() const { return model_; }

  /// Writes all weights where weights_of(model()) has them; T is float or bf16. What lies between
  /// tensors stays as it is.
  template <class T>
  void read(std::span<T> matrices, std::span<float> others) const;

 private:
  model_configuration model_;
  safetensors_file file_;
};

/// Opens a folder that holds a config.json, once: its model is then known, for as long as the
/// process lives, by the name that is returned, "trained-" and the model's own. Nothing where
/// `text` is no such folder. Throws as checkpoint() does, and where another folder has a model of
/// that name.
std::optional<std::string> open_checkpoint(std::string_view text);

/// The model of a name, of model_named() or of open_checkpoint().
const model_configuration& known_model(std::string_view name);
/// The checkpoint that open_checkpoint() read this model from; null of all others.
const checkpoint* checkpoint_of(const model_configuration& model);

}  // namespace based::models
