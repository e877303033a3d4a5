// What the package's models need beside the operations: sizes, and a checkpoint's weights.
#include "python/export/models.h"

#include <tvm/ffi/container/map.h>
#include <tvm/ffi/string.h>

#include <cstdint>
#include <span>
#include <string>

#include "kernels/core/bf16.h"
#include "kernels/core/error.h"
#include "kernels/models/checkpoint.h"
#include "kernels/models/states.h"
#include "kernels/models/weights.h"
#include "kernels/models/work.h"

namespace based::python {
namespace {

namespace ffi = tvm::ffi;

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

}  // namespace

ffi::Map<ffi::String, ffi::Any> model_sizes(const ffi::String& model, std::int64_t batch,
                                            std::int64_t slots) {
  const models::model_configuration& found = model_of(model);
  const models::weight_table& weights = models::weights_of(found);
  const models::state_table states(found, batch, slots);
  return {
      {"name", ffi::String(found.name)},    {"axis", ffi::String(models::model_axis_name(found))},
      {"vocabulary", found.vocabulary},     {"matrices", weights.matrix_elements()},
      {"others", weights.other_elements()}, {"recurrent", states.recurrent_elements()},
      {"cached", states.cached_elements()}};
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

}  // namespace based::python
