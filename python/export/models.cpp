// What the package's models need beside the operations: sizes, and a checkpoint's weights.
#include "python/export/models.h"

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/string.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>

#include "kernels/core/bf16.h"
#include "kernels/core/error.h"
#include "kernels/models/checkpoint.h"
#include "kernels/models/glue/decode.h"
#include "kernels/models/states.h"
#include "kernels/models/weights.h"
#include "kernels/models/work.h"
#include "python/export/device.h"
#include "python/export/plan.h"

namespace based::python {
namespace {

namespace ffi = tvm::ffi;
using object = ffi::Map<ffi::String, ffi::Any>;

const models::model_configuration& model_of(const std::string& name) {
  return models::known_model(models::open_checkpoint(name).value_or(name));
}

/// The elements of an array on the host without gaps; of `count` at least.
template <class T>
std::span<T> elements(const DLTensor& tensor, const char* name, std::int64_t count) {
  const bool is_flat = tensor.ndim == 1 && (tensor.strides == nullptr || tensor.strides[0] == 1);
  if (tensor.device.device_type != kDLCPU || !is_flat || tensor.shape[0] < count) {
    throw invalid_argument(std::string(name) + " is no flat array on the CPU of at least " +
                           std::to_string(count) + " elements");
  }
  auto* const data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  return {reinterpret_cast<T*>(data), static_cast<std::size_t>(tensor.shape[0])};
}

/// The elements of a tensor of a step, which lie side by side on the device of `beside`.
template <class T>
T* step_elements(const DLTensor& tensor, const char* name,
                 std::initializer_list<std::int64_t> shape, const DLTensor& beside) {
  constexpr auto code = std::is_integral_v<T> ? kDLInt : kDLFloat;
  bool is_fit =
      tensor.dtype.code == code && tensor.dtype.bits == 8 * sizeof(T) && tensor.dtype.lanes == 1 &&
      tensor.device.device_type == beside.device.device_type &&
      tensor.device.device_id == beside.device.device_id &&
      std::ranges::equal(std::span(tensor.shape, static_cast<std::size_t>(tensor.ndim)), shape);
  std::int64_t packed = 1;
  for (int i = tensor.ndim - 1; is_fit && i >= 0; packed *= tensor.shape[i--]) {
    is_fit = tensor.strides == nullptr || tensor.shape[i] == 1 || tensor.strides[i] == packed;
  }
  if (!is_fit) {
    throw invalid_argument(std::string(name) + " is not " + (code == kDLInt ? "int32" : "float32") +
                           " of the batch's sizes, without gaps, on the device of the logits");
  }
  return reinterpret_cast<T*>(static_cast<char*>(tensor.data) + tensor.byte_offset);
}

}  // namespace

object model_sizes(const ffi::String& model, std::int64_t batch, std::int64_t slots) {
  const models::model_configuration& found = model_of(model);
  const models::weight_table& weights = models::weights_of(found);
  const models::state_table states(found, batch, slots);
  return {
      {"name", ffi::String(found.name)},    {"axis", ffi::String(models::model_axis_name(found))},
      {"vocabulary", found.vocabulary},     {"matrices", weights.matrix_elements()},
      {"others", weights.other_elements()}, {"recurrent", states.recurrent_elements()},
      {"cached", states.cached_elements()}};
}

ffi::Array<object> model_weights(const ffi::String& model) {
  const auto name = [](models::weight_form form) {
    using enum models::weight_form;
    return form == as_stored    ? "as_stored"
           : form == taps_first ? "taps_first"
                                : "negative_exponential";
  };
  ffi::Array<object> all;
  for (const models::weight_tensor& each : models::weights_of(model_of(model)).tensors()) {
    all.push_back({{"key", ffi::String(each.key)},
                   {"shape", ffi::Shape(each.shape)},
                   {"buffer", ffi::String(each.is_matrix() ? "matrices" : "others")},
                   {"offset", each.offset},
                   {"form", ffi::String(name(each.form))}});
  }
  return all;
}

object model_configuration(const ffi::String& model) {
  const models::model_configuration& found = model_of(model);
  ffi::Array<ffi::String> mixers;
  for (const models::mixer_kind mixer : found.mixers) {
    mixers.push_back(ffi::String(std::string(models::name_of(mixer))));
  }
  return {{"name", ffi::String(found.name)},
          {"width", found.width},
          {"vocabulary", found.vocabulary},
          {"mixers", mixers},
          {"mlp_inner", found.mlp_inner},
          {"heads", found.heads},
          {"window", found.window},
          {"rotated", found.rotated},
          {"head_norm", found.head_norm},
          {"rotary_base", found.rotary_base},
          {"inner", found.inner},
          {"taps", found.taps},
          {"d_state", found.d_state},
          {"dt_rank", found.dt_rank}};
}

void read_checkpoint(const ffi::String& folder, DLTensor* matrices, DLTensor* others) {
  const models::checkpoint* const trained = models::checkpoint_of(model_of(folder));
  if (trained == nullptr) throw invalid_argument(std::string(folder) + " is no checkpoint");
  const models::weight_table& weights = models::weights_of(trained->model());
  const auto other_values = elements<float>(*others, "others", weights.other_elements());
  const std::int64_t count = weights.matrix_elements();
  if (matrices->dtype.code == kDLBfloat) {
    trained->read(elements<bf16>(*matrices, "matrices", count), other_values);
  } else {
    trained->read(elements<float>(*matrices, "matrices", count), other_values);
  }
}

void choose_tokens(DLTensor* logits, DLTensor* positions, DLTensor* ids, double temperature,
                   std::int64_t top_k, std::int64_t seed) {
  if (logits->ndim != 2) throw invalid_argument("logits are no matrix");
  const std::int64_t batch = logits->shape[0], vocabulary = logits->shape[1];
  if (top_k < 0 || top_k > vocabulary) {
    throw invalid_argument("top_k is " + std::to_string(top_k) + ", must be from 0 to " +
                           std::to_string(vocabulary));
  }
  const models::choose_args choice = {
      .logits = step_elements<float>(*logits, "logits", {batch, vocabulary}, *logits),
      .row_stride = vocabulary,
      .batch = batch,
      .vocabulary = vocabulary,
      .temperature = static_cast<float>(temperature),
      .top_k = static_cast<int>(top_k),
      .seed = static_cast<std::uint64_t>(seed),
      .position = step_elements<std::int32_t>(*positions, "positions", {batch}, *logits),
      .ids = step_elements<std::int32_t>(*ids, "ids", {batch}, *logits)};
  const device_kind kind = device_of("logits", *logits);
  if (kind == device_kind::cpu) return models::choose_on_cpu(choice);
#ifdef BASED_HAS_CUDA
  const device_scope current(kind, logits->device.device_id);
  models::choose(choice, static_cast<cuda_stream>(TVMFFIEnvGetStream(logits->device.device_type,
                                                                     logits->device.device_id)));
#endif
}

}  // namespace based::python
