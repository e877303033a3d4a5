#include "kernels/models/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <list>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/bf16.h"
#include "kernels/core/error.h"
#include "kernels/models/weights.h"

namespace based::models {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<std::string_view, mixer_kind>, 6> mixer_names = {
    {{"base_conv", mixer_kind::base_conv},
     {"linear_attention", mixer_kind::linear_attention},
     {"window_attention", mixer_kind::window_attention},
     {"attention", mixer_kind::attention},
     {"mamba", mixer_kind::mamba},
     {"mamba2", mixer_kind::mamba2}}};

/// The members of a configuration, read one by one.
class members {
 public:
  explicit members(const std::filesystem::path& path) : path_(path.string()) {
    std::ifstream file(path);
    if (!file) complain("cannot be read; a checkpoint is a folder with it and model.safetensors");
    try {
      document_ = json::parse(file);
    } catch (const json::exception& error) {
      complain(fmt::format("is no JSON ({})", error.what()));
    }
    if (!document_.is_object()) complain("is no JSON object");
  }

  [[noreturn]] void complain(const std::string& message) const {
    throw invalid_argument(path_ + ": " + message);
  }

  /// Leaves `value` as it is where the file does not have the member.
  template <class Number>
  void read(const char* name, Number& value) const {
    if (!document_.contains(name)) return;
    const json& member = document_[name];
    const bool is_kind = std::is_same_v<Number, bool> ? member.is_boolean()
                         : std::is_integral_v<Number> ? member.is_number_unsigned()
                                                      : member.is_number();
    if (!is_kind) refuse(name, member);
    value = member.get<Number>();
  }
  void read(const char* name, std::string& value) const {
    if (!document_.contains(name)) return;
    if (!document_[name].is_string()) refuse(name, document_[name]);
    value = document_[name].get<std::string>();
  }

  std::vector<mixer_kind> mixers() const {
    const json list = document_.value("mixers", json());
    if (!list.is_array()) {
      complain("has no list 'mixers'; scripts/convert_checkpoint writes it for published models");
    }
    std::vector<mixer_kind> found;
    for (const json& name : list) {
      const auto* const known = std::ranges::find_if(
          mixer_names, [&](const auto& each) { return name.is_string() && name == each.first; });
      if (known == mixer_names.end()) {
        std::string all;
        for (const auto& each : mixer_names) {
          all += (all.empty() ? "" : ", ") + std::string(each.first);
        }
        complain(fmt::format("has the mixer {}; there are {}", name.dump(), all));
      }
      found.push_back(known->second);
    }
    return found;
  }

 private:
  [[noreturn]] void refuse(const char* name, const json& value) const {
    complain(fmt::format("its {} is {}", name, value.dump()));
  }

  std::string path_;
  json document_;
};

model_configuration read_configuration(const std::filesystem::path& folder) {
  const members config(folder / "config.json");
  model_configuration model;
  model.name = folder.filename().string();
  config.read("name", model.name);
  model.mixers = config.mixers();
  config.read("width", model.width);
  config.read("vocabulary", model.vocabulary);
  config.read("mlp_inner", model.mlp_inner);
  config.read("heads", model.heads);
  config.read("window", model.window);
  config.read("rotated", model.rotated);
  config.read("head_norm", model.head_norm);
  config.read("rotary_base", model.rotary_base);
  config.read("inner", model.inner);
  config.read("taps", model.taps);
  config.read("d_state", model.d_state);
  config.read("dt_rank", model.dt_rank);
  try {
    validate(model);
  } catch (const invalid_argument& error) {
    config.complain(error.what());
  }
  return model;
}

/// The shape that the checkpoint's tensor has.
std::vector<std::int64_t> stored_shape(const weight_tensor& weight) {
  if (weight.form != weight_form::taps_first) return weight.shape;
  return {weight.shape[1], 1, weight.shape[0]};
}

void require_same_tensors(const model_configuration& model, const safetensors_file& file) {
  const auto complain = [&](const std::string& message) {
    throw invalid_argument(file.path().string() + ": " + message);
  };
  const weight_table& table = weights_of(model);
  for (const weight_tensor& wanted : table.tensors()) {
    const auto found = file.tensors().find(wanted.key);
    if (found == file.tensors().end()) {
      complain(fmt::format("has no tensor '{}', which config.json asks for", wanted.key));
    }
    if (found->second.shape != stored_shape(wanted)) {
      complain(fmt::format("tensor '{}' is {}, config.json asks for {}", wanted.key,
                           to_string(found->second), to_string(stored_shape(wanted))));
    }
  }
  for (const auto& each_stored : file.tensors()) {
    const std::string& name = each_stored.first;
    const bool is_known = std::ranges::any_of(
        table.tensors(), [&](const weight_tensor& each) { return each.key == name; });
    if (!is_known) complain(fmt::format("tensor '{}' is not of the model of config.json", name));
  }
}

/// Brings the checkpoint's elements into the form in which the weight lies in the buffer.
void bring_into_form(const weight_tensor& weight, std::span<float> values) {
  if (weight.form == weight_form::negative_exponential) {
    for (float& value : values) value = -std::exp(value);
  } else if (weight.form == weight_form::taps_first) {
    const std::vector<float> stored(values.begin(), values.end());
    const auto taps = static_cast<std::size_t>(weight.shape[0]);
    const std::size_t channels = values.size() / taps;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i % taps * channels + i / taps] = stored[i];
    }
  }
}

struct opened_checkpoint {
  std::filesystem::path folder;
  std::string name;
  checkpoint read;
};

/// All that were opened. They stay: problems point to their models.
class opened_checkpoints {
 public:
  template <class Wanted>
  const opened_checkpoint* find(Wanted wanted) {
    const std::scoped_lock lock(mutex_);
    for (const opened_checkpoint& each : all_) {
      if (wanted(each)) return &each;
    }
    return nullptr;
  }
  void add(const std::filesystem::path& folder, std::string name, checkpoint read) {
    const std::scoped_lock lock(mutex_);
    all_.push_back({folder, std::move(name), std::move(read)});
  }

 private:
  std::mutex mutex_;
  std::list<opened_checkpoint> all_;
};

opened_checkpoints& opened() {
  static opened_checkpoints all;
  return all;
}

}  // namespace

std::string_view name_of(mixer_kind mixer) {
  return std::ranges::find(mixer_names, mixer, [](const auto& each) { return each.second; })->first;
}

checkpoint::checkpoint(const std::filesystem::path& folder)
    : model_(read_configuration(folder)), file_(folder / "model.safetensors") {
  require_same_tensors(model_, file_);
}

template <class T>
void checkpoint::read(std::span<T> matrices, std::span<float> others) const {
  const weight_table& table = weights_of(model_);
  BASED_REQUIRE(std::cmp_greater_equal(matrices.size(), table.matrix_elements()) &&
                    std::cmp_greater_equal(others.size(), table.other_elements()),
                "the buffers are smaller than the model's weights");
  for (const weight_tensor& each : table.tensors()) {
    const stored_tensor& stored = file_.tensors().find(each.key)->second;
    const auto offset = static_cast<std::size_t>(each.offset);
    const auto count = static_cast<std::size_t>(each.count());
    if (each.is_matrix()) {
      read_elements(stored, matrices.subspan(offset, count));
    } else {
      const std::span<float> values = others.subspan(offset, count);
      read_elements(stored, values);
      bring_into_form(each, values);
    }
  }
}

std::optional<std::string> open_checkpoint(std::string_view text) {
  if (opened().find([&](const auto& each) { return each.name == text; })) return std::string(text);
  std::error_code none;
  const std::filesystem::path folder = std::filesystem::canonical(text, none);
  if (none || !std::filesystem::exists(folder / "config.json", none)) return std::nullopt;
  const auto* const before = opened().find([&](const auto& each) { return each.folder == folder; });
  if (before != nullptr) return before->name;
  checkpoint read(folder);
  std::string name = "trained-" + read.model().name;
  const auto* const other = opened().find([&](const auto& each) { return each.name == name; });
  if (other != nullptr) {
    throw invalid_argument(fmt::format("{} and {} both hold a model named {}", folder.string(),
                                       other->folder.string(), read.model().name));
  }
  opened().add(folder, name, std::move(read));
  return name;
}

const model_configuration& known_model(std::string_view name) {
  const auto* const found = opened().find([&](const auto& each) { return each.name == name; });
  return found != nullptr ? found->read.model() : model_named(name);
}

const checkpoint* checkpoint_of(const model_configuration& model) {
  const auto* const found =
      opened().find([&](const auto& each) { return &each.read.model() == &model; });
  return found != nullptr ? &found->read : nullptr;
}

template void checkpoint::read(std::span<float>, std::span<float>) const;
template void checkpoint::read(std::span<bf16>, std::span<float>) const;

}  // namespace based::models
