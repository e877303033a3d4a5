// What a model is: the sizes from which its weights, its activations and its forward pass follow.
// A model is a residual stream of `width` numbers a token that each layer adds to:
//
//   r = embedding[id]
//   each layer:  r += mixer(rms_norm(r));   with an MLP:  r += mlp(rms_norm(r))
//   logits = embedding rms_norm(r)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace based::models {

/// What mixes tokens in a layer.
enum class mixer_kind {
  base_conv,         ///< a short convolution, gated (Based)
  linear_attention,  ///< the second-order Taylor expansion of softmax (Based)
  window_attention,  ///< softmax over the last `window` keys
  attention,         ///< softmax over all keys before
  mamba,             ///< selective scan
  mamba2             ///< SSD
};

struct model_configuration {
  std::string name;
  std::int64_t width = 1024;
  std::int64_t vocabulary = 0;     ///< rows of the embedding, which is also the head
  std::vector<mixer_kind> mixers;  ///< of each layer
  std::int64_t mlp_inner = 0;      ///< of SwiGLU; 0: layers have no MLP

  // Attentions.
  std::int64_t heads = 0;   ///< of queries, keys and values, each of head_dim
  std::int64_t window = 0;  ///< keys that a query of window_attention sees, itself included
  int rotated = 0;          ///< dimensions of a head that rotary embedding turns
  bool head_norm = false;   ///< linear attention has an RMSNorm a head, not a sum of weights
  float rotary_base = 10000;

  // Convolutions and state spaces.
  std::int64_t inner = 0;    ///< channels of base_conv, mamba and mamba2
  int taps = 0;              ///< of the convolutions
  std::int64_t d_state = 0;  ///< of mamba and mamba2
  std::int64_t dt_rank = 0;  ///< of mamba

  static constexpr int head_dim = 64;     ///< of attentions and of mamba2
  static constexpr int feature_dim = 16;  ///< of linear attention's queries and keys
  static constexpr float eps = 1e-5f;     ///< of every RMSNorm

  bool operator==(const model_configuration&) const = default;

  std::int64_t layers() const { return static_cast<std::int64_t>(mixers.size()); }
  bool is_state_space() const {
    return mixers.front() == mixer_kind::mamba || mixers.front() == mixer_kind::mamba2;
  }
  std::int64_t ssd_heads() const { return inner / head_dim; }
  /// Outputs of the product before the mixer, without its bias.
  std::int64_t projected(mixer_kind mixer) const;
};

/// The models that have a name: those of the papers, the next size of each (-1.3b), and for tests
/// tiny ones.
const std::vector<model_configuration>& known_models();
/// Throws invalid_argument, with the names that there are.
const model_configuration& model_named(std::string_view name);

/// Throws invalid_argument where the sizes make no model that the engine runs.
void validate(const model_configuration& model);

}  // namespace based::models
