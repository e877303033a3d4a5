// What Python sees, through TVM-FFI: describe(), make_plan() and abstract(). Tensors are DLPack's,
// of whatever framework; C++ errors arrive as Python's: ValueError, TypeError, MemoryError,
// RuntimeError.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/string.h>

#include <array>
#include <exception>
#include <new>
#include <optional>
#include <string>

#include "python/export/device.h"
#include "python/export/models.h"
#include "python/export/plan.h"

namespace based::python {
namespace {

namespace ffi = tvm::ffi;

/// Calls f, and turns its exceptions into those that Python knows.
template <class Function>
auto translated(Function f) {
  try {
    return f();
  } catch (const wrong_type& error) {
    throw ffi::Error("TypeError", error.what(), "");
  } catch (const std::invalid_argument& error) {
    throw ffi::Error("ValueError", error.what(), "");
  } catch (const std::bad_alloc&) {
    throw ffi::Error("MemoryError", "the host has not enough memory", "");
  } catch (const ffi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw ffi::Error("RuntimeError", error.what(), "");
  }
}

ffi::Array<ffi::String> strings(const auto& names) {
  ffi::Array<ffi::String> all;
  for (const auto& each : names) all.push_back(ffi::String(std::string(each)));
  return all;
}

/// Everything that the registry tells, for people and for based_bench.implementations().
ffi::Map<ffi::String, ffi::Any> describe() {
  using entry = ffi::Map<ffi::String, ffi::Any>;
  ffi::Map<ffi::String, ffi::Any> all;
  for (const auto& [name, op] : operations()) {
    ffi::Array<entry> axes, implementations;
    for (const axis_info& axis : op->axes()) {
      axes.push_back(entry{{"flag", ffi::String(std::string(axis.flag))},
                           {"label", ffi::String(std::string(axis.label))},
                           {"help", ffi::String(std::string(axis.help))},
                           {"values", strings(axis.domain.names)},
                           {"default", ffi::String(axis.own ? to_string(*axis.own) : "")}});
    }
    for (const implementation_info& info : op->implementations()) {
      ffi::Array<ffi::String> types;
      for (const element_type type : info.types) {
        types.push_back(ffi::String(std::string(to_string(type))));
      }
      implementations.push_back(entry{{"name", ffi::String(std::string(info.name))},
                                      {"summary", ffi::String(std::string(info.summary))},
                                      {"role", ffi::String(std::string(to_string(info.role)))},
                                      {"reimplements", strings(info.reimplements)},
                                      {"device", ffi::String(std::string(to_string(info.device)))},
                                      {"types", types},
                                      {"variants", strings(info.variants)},
                                      {"tolerance", info.tolerance}});
    }
    all.Set(ffi::String(std::string(name)),
            entry{{"axes", axes}, {"implementations", implementations}});
  }
  return all;
}

/// Memory for a call from the allocator of the framework that the tensors came from, which knows
/// its streams; nothing where there is none.
std::optional<ffi::Tensor> framework_memory(std::size_t bytes, DLDevice device) {
  if (bytes == 0 || TVMFFIEnvGetDLPackManagedTensorAllocator() == nullptr) return std::nullopt;
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, {static_cast<std::int64_t>(bytes)},
                                   DLDataType{kDLUInt, 8, 1}, device);
}

/// A tensor of this shape and type that has no memory: a plan that is called with such tensors
/// checks the call, and runs nothing.
ffi::Tensor abstract(const ffi::Shape& shape, const ffi::String& type, const ffi::String& device) {
  struct no_memory {
    // TVM-FFI calls them by these names.
    void AllocData(DLTensor* tensor) const { tensor->data = nullptr; }  // NOLINT
    void FreeData(DLTensor* /*tensor*/) const {}                        // NOLINT
  };
  return ffi::Tensor::FromNDAlloc(no_memory{}, shape, ffi::StringToDLDataType(type),
                                  {device == "cuda" ? kDLCUDA : kDLCPU, 0});
}

/// The arguments of a call: the tensors, and then a stream as a number; without one, the
/// framework's current one.
struct planned_call {
  std::shared_ptr<plan> planned;
  std::size_t tensors;

  void operator()(ffi::PackedArgs args, ffi::Any* result) const {
    translated([&] {
      constexpr std::size_t most_arguments = 33;
      const auto count = static_cast<std::size_t>(args.size());
      if (count < tensors || count > tensors + 1 || count > most_arguments) {
        throw invalid_argument("the call has another number of arguments than its plan");
      }
      std::array<const DLTensor*, most_arguments> given;
      for (std::size_t i = 0; i < tensors; ++i) {
        const auto tensor = args[static_cast<int>(i)].try_cast<DLTensor*>();
        if (!tensor) throw wrong_type(planned->name(i) + " is not a tensor");
        given[i] = *tensor;
      }
      std::optional<std::int64_t> stream;
      if (count > tensors) stream = args[static_cast<int>(tensors)].cast<std::int64_t>();
      call({given.data(), tensors}, stream);
      *result = nullptr;
    });
  }

  void call(given_tensors given, std::optional<std::int64_t> stream_number) const {
    const DLDevice device = given[0]->device;
    const device_kind kind = device_of("the first tensor", *given[0]);
    const device_scope current(kind, device.device_id);
    const auto resolved = planned->resolve(given);
    resolved->require(given);
    if (resolved->empty() || given[0]->data == nullptr) return;
    const auto stream = static_cast<cuda_stream>(
        // NOLINTNEXTLINE(performance-no-int-to-ptr): Python knows a stream by its number
        stream_number ? reinterpret_cast<void*>(*stream_number)
                      : TVMFFIEnvGetStream(device.device_type, device.device_id));
    if (const auto memory = framework_memory(resolved->workspace_bytes(), device)) {
      return resolved->run(given, memory->data_ptr(), stream);
    }
    const stream_memory memory(kind, resolved->workspace_bytes(), stream);
    resolved->run(given, memory.data(), stream);
  }
};

/// A function that runs `operation` on tensors of these names. Axes are texts by flag.
ffi::Function make_plan(const ffi::String& operation, const ffi::String& implementation,
                        const ffi::String& variant, const ffi::Map<ffi::String, ffi::String>& axes,
                        const ffi::Array<ffi::String>& tensors, const ffi::String& layout) {
  return translated([&] {
    plan_request request{.operation = operation,
                         .implementation = implementation,
                         .variant = variant,
                         .order = layout == "bnhd" ? sequence_order::bnhd : sequence_order::bhnd};
    for (const auto& [flag, text] : axes) request.axes[flag] = text;
    for (const ffi::String& name : tensors) request.tensors.emplace_back(name);
    const std::size_t count = request.tensors.size();
    return ffi::Function::FromPacked(
        planned_call{std::make_shared<plan>(std::move(request)), count});
  });
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(describe, describe);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(make_plan, make_plan);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(abstract, abstract);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(model_sizes,
                              [](const ffi::String& model, std::int64_t batch, std::int64_t slots) {
                                return translated([&] { return model_sizes(model, batch, slots); });
                              });
TVM_FFI_DLL_EXPORT_TYPED_FUNC(model_weights, [](const ffi::String& model) {
  return translated([&] { return model_weights(model); });
});
TVM_FFI_DLL_EXPORT_TYPED_FUNC(model_configuration, [](const ffi::String& model) {
  return translated([&] { return model_configuration(model); });
});
TVM_FFI_DLL_EXPORT_TYPED_FUNC(read_checkpoint,
                              [](const ffi::String& folder, DLTensor* matrices, DLTensor* others) {
                                translated([&] { read_checkpoint(folder, matrices, others); });
                              });
TVM_FFI_DLL_EXPORT_TYPED_FUNC(choose_tokens, [](DLTensor* logits, DLTensor* positions,
                                                DLTensor* ids, double temperature,
                                                std::int64_t top_k, std::int64_t seed) {
  translated([&] { choose_tokens(logits, positions, ids, temperature, top_k, seed); });
});

}  // namespace based::python
