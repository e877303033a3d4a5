// What sequences leave for their next tokens: two flat buffers, of which this is the table of
// contents. Recurrent states are fp32; the last inputs of convolutions, and keys and values, are
// elements of the implementation's type. Each tensor holds all sequences, one after the other.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/models/configuration.h"

namespace based::models {

struct state_tensor {
  std::int64_t layer;
  std::string_view name;  ///< "conv", "kv" and "z" of linear attention, "k", "v", "state"
  bool is_recurrent;      ///< in the buffer of fp32 states, not of the others
  std::int64_t elements;  ///< of one sequence
  std::int64_t offset;    ///< in elements, into its buffer
};

class state_table {
 public:
  /// `slots`: the tokens that a cache of softmax attention has room for, after which a token takes
  /// the place of the oldest one.
  state_table(const model_configuration& model, std::int64_t batch, std::int64_t slots);

  const std::vector<state_tensor>& tensors() const { return tensors_; }
  std::int64_t recurrent_elements() const { return recurrent_; }
  std::int64_t cached_elements() const { return cached_; }
  /// Null where the layer keeps no tensor of that name.
  const state_tensor* find(std::int64_t layer, std::string_view name) const;

 private:
  std::vector<state_tensor> tensors_;
  std::int64_t recurrent_ = 0, cached_ = 0;
};

/// The slots of a layer's cache.
std::int64_t cache_slots(const model_configuration& model, mixer_kind mixer, std::int64_t slots);

}  // namespace based::models
