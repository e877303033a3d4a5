#include "kernels/models/configuration.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"

namespace based::models {
namespace {

using enum mixer_kind;

constexpr std::int64_t based_window = 129;  // keys i - 128 .. i

std::vector<mixer_kind> all_layers(std::int64_t layers, mixer_kind mixer) {
  return {static_cast<std::size_t>(layers), mixer};
}

/// Each fifth layer from the second on is linear attention, the one after it a sliding window.
std::vector<mixer_kind> based_layers() {
  std::vector<mixer_kind> mixers = all_layers(27, base_conv);
  for (std::size_t layer = 1; layer < 22; layer += 5) {
    mixers[layer] = linear_attention;
    mixers[layer + 1] = window_attention;
  }
  return mixers;
}

std::vector<model_configuration> make_models() {
  const model_configuration based = {.name = "based-360m",
                                     .vocabulary = 50264,
                                     .mixers = based_layers(),
                                     .mlp_inner = 2048,
                                     .heads = 16,
                                     .window = based_window,
                                     .rotated = 64,
                                     .inner = 2048,
                                     .taps = 3};
  const model_configuration attention_model = {.name = "attention-360m",
                                               .vocabulary = 50272,
                                               .mixers = all_layers(24, attention),
                                               .mlp_inner = 2816,
                                               .heads = 16,
                                               .rotated = 32};
  const model_configuration mamba_model = {.name = "mamba-360m",
                                           .vocabulary = 50288,
                                           .mixers = all_layers(46, mamba),
                                           .inner = 2048,
                                           .taps = 4,
                                           .d_state = 16,
                                           .dt_rank = 64};
  const model_configuration mamba2_model = {.name = "mamba2-370m",
                                            .vocabulary = 50288,
                                            .mixers = all_layers(48, mamba2),
                                            .inner = 2048,
                                            .taps = 4,
                                            .d_state = 128};
  std::vector<model_configuration> all = {based, based, attention_model, mamba_model, mamba2_model};
  all[1].name = "based-gnorm-360m";
  all[1].head_norm = true;

  // Tiny ones differ in their sizes alone: no two sizes of a kind are equal.
  constexpr std::int64_t width = 256, heads = 4, vocabulary = 104;
  const std::size_t papers = all.size();
  for (std::size_t i = 0; i < papers; ++i) {
    model_configuration tiny = all[i];
    tiny.name = "tiny-" + tiny.name.substr(0, tiny.name.rfind('-'));
    tiny.width = width;
    tiny.vocabulary = vocabulary;
    if (tiny.heads > 0) tiny.heads = heads;
    if (tiny.window > 0) tiny.window = 40;
    if (tiny.mlp_inner > 0) tiny.mlp_inner = 192;
    if (tiny.inner > 0) tiny.inner = tiny.mixers[0] == mamba2 ? 512 : 320;
    if (tiny.d_state > 0) tiny.d_state = tiny.mixers[0] == mamba ? 16 : 64;
    if (tiny.dt_rank > 0) tiny.dt_rank = 8;
    tiny.mixers.resize(3);
    all.push_back(tiny);
  }

  // The next size: Mamba's as published; the others are the small ones at twice the width, with as
  // many layers.
  for (std::size_t i = 0; i < papers; ++i) {
    model_configuration large = all[i];
    large.name = large.name.substr(0, large.name.rfind('-')) + "-1.3b";
    large.width *= 2;
    large.heads *= 2;
    large.mlp_inner *= 2;
    large.inner *= 2;
    large.dt_rank *= 2;
    if (large.is_state_space()) large.mixers = all_layers(48, large.mixers[0]);
    all.push_back(large);
  }
  return all;
}

}  // namespace

std::int64_t model_configuration::projected(mixer_kind mixer) const {
  switch (mixer) {
    case base_conv:
    case mamba:
      return 2 * inner;
    case linear_attention:
      return heads * (2 * feature_dim + head_dim);
    case window_attention:
    case attention:
      return 3 * heads * head_dim;
    case mamba2:
      break;
  }
  return 2 * inner + 2 * d_state + ssd_heads();
}

const std::vector<model_configuration>& known_models() {
  static const std::vector<model_configuration> all = make_models();
  return all;
}

const model_configuration& model_named(std::string_view name) {
  std::string names;
  for (const model_configuration& each : known_models()) {
    if (each.name == name) return each;
    names += (names.empty() ? "" : ", ") + each.name;
  }
  throw invalid_argument(fmt::format("there is no model '{}'; there are {}", name, names));
}

void validate(const model_configuration& model) {
  const auto require = [&](bool good, const std::string& message) {
    if (!good) throw invalid_argument(fmt::format("model {}: {}", model.name, message));
  };
  const auto require_multiple = [&](const char* name, std::int64_t value, std::int64_t of) {
    require(value >= of && value % of == 0,
            fmt::format("{} is {}, must be a multiple of {}", name, value, of));
  };
  constexpr std::int64_t word = 8;  // elements of a 16-byte word
  require_multiple("width", model.width, word);
  require_multiple("vocabulary", model.vocabulary, word);
  require(!model.mixers.empty(), "has no layers");
  if (model.mlp_inner != 0) require_multiple("mlp_inner", model.mlp_inner, word);
  for (const mixer_kind mixer : model.mixers) {
    const bool is_first = mixer == model.mixers.front();
    require(is_first || !model.is_state_space(), "mixes state spaces with other layers");
    require(is_first || (mixer != mamba && mixer != mamba2),
            "mixes state spaces with other layers");
    if (mixer == base_conv || mixer == mamba) require_multiple("inner", model.inner, word);
    if (mixer == mamba2) require_multiple("inner", model.inner, model_configuration::head_dim * 8);
    if (mixer == linear_attention || mixer == window_attention || mixer == attention) {
      require(model.heads * model_configuration::head_dim == model.width,
              fmt::format("{} heads of {} are not the width {}", model.heads,
                          model_configuration::head_dim, model.width));
    }
    if (mixer == linear_attention) require_multiple("heads", model.heads, 4);
    if (mixer == window_attention || mixer == attention) {
      require_multiple("rotated", model.rotated, 2 * word);
      require(model.rotated <= model_configuration::head_dim, "rotates more than a head has");
    }
    if (mixer == window_attention) require(model.window >= 1, "has a window of no keys");
    if (mixer == base_conv) require(model.taps == 3, "a convolution before a gate has 3 taps");
    if (mixer == mamba || mixer == mamba2) require(model.taps == 4, "its convolution has 4 taps");
    if (mixer == mamba) {
      require_multiple("dt_rank", model.dt_rank, word);
      require_multiple("d_state", model.d_state, word);
    }
    if (mixer == mamba2) {
      require(model.d_state == 64 || model.d_state == 128 || model.d_state == 256,
              fmt::format("d_state is {}, must be 64, 128 or 256", model.d_state));
    }
  }
}

}  // namespace based::models
