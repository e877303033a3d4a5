// Where a model's weights lie: two flat buffers, of which this is the table of contents.
//
// Matrices and the embedding are elements of the implementation's type (bf16 on CUDA), everything
// else is fp32: norms, biases, convolutions, decay rates. A tensor has the name that it has in the
// published checkpoints, and their shape but where `form` says otherwise. Tensors of a layer that
// make one matrix product lie side by side: proj_q, proj_k, proj_v.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/models/configuration.h"

namespace based::models {

/// What a tensor holds of the checkpoint's tensor x.
enum class weight_form {
  as_stored,
  taps_first,           ///< [taps, channels] of a convolution's [channels, 1, taps]
  negative_exponential  ///< -exp(x)
};

/// What a tensor is, which says how it is initialised where there is no checkpoint.
enum class weight_kind {
  matrix,
  norm,
  bias,
  convolution,
  step_bias,
  decay_per_state,
  decay_per_head,
  skip
};

struct weight_tensor {
  std::string key;
  std::vector<std::int64_t> shape;  ///< as it lies in the buffer
  weight_kind kind;
  weight_form form;
  std::int64_t offset;  ///< in elements, into the buffer of matrices or the other one

  bool is_matrix() const { return kind == weight_kind::matrix; }
  std::int64_t count() const;
};

class weight_table {
 public:
  /// Takes a model that validate() accepts.
  explicit weight_table(const model_configuration& model);

  std::span<const weight_tensor> tensors() const { return tensors_; }
  std::int64_t matrix_elements() const { return matrix_elements_; }  ///< of the first buffer
  std::int64_t other_elements() const { return other_elements_; }    ///< of the second buffer
  /// The model's parameters, without gaps between tensors.
  std::int64_t parameters() const;
  /// Throws invalid_argument where there is no such tensor.
  const weight_tensor& at(const std::string& key) const;

  /// What comes before the names of a layer's tensors: "transformer.layers.3.".
  std::string layer(std::int64_t index) const;
  std::string embedding() const;
  std::string final_norm() const;

 private:
  void add(const std::string& key, std::vector<std::int64_t> shape, weight_kind kind,
           weight_form form = weight_form::as_stored);
  void add_mixer(const model_configuration& model, mixer_kind mixer, const std::string& prefix);

  bool is_state_space_;
  std::vector<weight_tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_key_;
  std::int64_t matrix_elements_ = 0, other_elements_ = 0;
};

/// The table of a model, made once for each.
const weight_table& weights_of(const model_configuration& model);

/// The deviation of random matrices: that of the sources, 0.02 at a width of 1024, scaled so that
/// products keep their size in narrower models.
float matrix_stddev(const model_configuration& model);

/// Makes of standard normal numbers, one an element of the second buffer, its initial values: norms
/// near 1, convolutions and biases as layers have them at first, decays as Mamba's and Mamba-2's
/// initialisation draws them.
void initialise(const model_configuration& model, std::span<float> others);

}  // namespace based::models
