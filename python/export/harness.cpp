// The harness for Python: add_implementation() makes a Python callable an implementation of an
// operation, and run_suite() is the program based_bench.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/optional.h>
#include <tvm/ffi/string.h>

#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "benchmarks/harness/suite.h"
#include "kernels/core/operation.h"
#ifdef BASED_HAS_CUDA
#include "kernels/core/cuda_check.h"
#endif

namespace based::python {
namespace {

namespace ffi = tvm::ffi;
using object = ffi::Map<ffi::String, ffi::Any>;

/// What harness.py begins an error's message with where memory was short.
constexpr std::string_view out_of_memory = "out of memory";

/// Calls into Python, and turns its exceptions into the harness's.
template <class Function>
auto from_python(Function f) {
  try {
    return f();
  } catch (const ffi::Error& error) {
    if (error.message().starts_with(out_of_memory)) throw std::bad_alloc();
    throw std::runtime_error(error.message());
  }
}

/// Where a backend's memory is.
int current_device(device_kind device) {
  int number = 0;
#ifdef BASED_HAS_CUDA
  if (device == device_kind::cuda) BASED_CUDA(cudaGetDevice(&number));
#endif
  static_cast<void>(device);
  return number;
}

// Before CUDA 13, what tells of a capture has other arguments.
#if defined(BASED_HAS_CUDA) && CUDART_VERSION >= 13000
constexpr bool nests_graphs = true;

/// Adds a graph (a cudaGraph_t as a number, 0 for none) to what is being captured on a stream;
/// false where nothing is captured, or there is no graph. A graph's launch cannot be captured.
bool added_to_capture(std::int64_t number, cuda_stream stream) {
  if (number == 0) return false;
  cudaStreamCaptureStatus status = {};
  cudaGraph_t captured = nullptr;
  const cudaGraphNode_t* before = nullptr;
  std::size_t count = 0;
  BASED_CUDA(
      cudaStreamGetCaptureInfo(stream, &status, nullptr, &captured, &before, nullptr, &count));
  if (status != cudaStreamCaptureStatusActive) return false;
  cudaGraphNode_t node = nullptr;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): Python knows a graph by its number
  auto* const graph = reinterpret_cast<cudaGraph_t>(number);
  BASED_CUDA(cudaGraphAddChildGraphNode(&node, captured, before, count, graph));
  BASED_CUDA(cudaStreamUpdateCaptureDependencies(stream, &node, nullptr, 1,
                                                 cudaStreamSetCaptureDependencies));
  return true;
}
#else
constexpr bool nests_graphs = false;
bool added_to_capture(std::int64_t /*number*/, cuda_stream /*stream*/) {
  return false;
}
#endif

/// Memory of the harness's as a tensor, which owns nothing.
struct lent_memory {
  void* data;
  // TVM-FFI calls them by these names.
  void AllocData(DLTensor* tensor) const { tensor->data = data; }  // NOLINT
  void FreeData(DLTensor* /*tensor*/) const {}                     // NOLINT
};

ffi::Tensor lent(const foreign_tensor& given, device_kind device) {
  const auto code = static_cast<std::uint8_t>(given.spec.type == element_type::bf16  ? kDLBfloat
                                              : given.spec.type == element_type::i32 ? kDLInt
                                                                                     : kDLFloat);
  const auto bits = static_cast<std::uint8_t>(8 * bytes_of(given.spec.type));
  const DLDataType type = {code, bits, 1};
  const DLDevice place = {device == device_kind::cuda ? kDLCUDA : kDLCPU, current_device(device)};
  return ffi::Tensor::FromNDAlloc(lent_memory{given.place.data},
                                  ffi::ShapeView(given.spec.shape.data(), given.spec.shape.size()),
                                  type, place);
}

ffi::Any any_of(const axis_value& value) {
  return std::visit(
      [](const auto& each) -> ffi::Any {
        if constexpr (std::is_same_v<std::decay_t<decltype(each)>, std::string>) {
          return ffi::String(each);
        } else {
          return each;
        }
      },
      value);
}

object values_of(const foreign_problem& asked) {
  object all;
  for (const auto& [flag, value] : asked.values) all.Set(ffi::String(flag), any_of(value));
  return all;
}

ffi::Array<ffi::String> strings(const std::vector<std::string>& texts) {
  ffi::Array<ffi::String> all;
  for (const std::string& text : texts) all.push_back(ffi::String(text));
  return all;
}

/// What Python's bind returned. It is released when the last of its calls is gone.
class python_call {
 public:
  explicit python_call(object made) : made_(std::move(made)) {}
  ~python_call() {
    try {
      made_.at("release").cast<ffi::Function>()();
    } catch (...) {  // a row has ended by now: there is nothing to say it to
    }
  }
  python_call(const python_call&) = delete;
  python_call& operator=(const python_call&) = delete;

  bound_call bound(const std::shared_ptr<python_call>& self) const {
    const auto function = [&](const char* name) { return made_.at(name).cast<ffi::Function>(); };
    const auto graph = made_.at("graph").cast<std::int64_t>();
    return {.launch =
                [self, f = function("launch"), graph](cuda_stream stream) {
                  if (!added_to_capture(graph, stream)) from_python([&] { f(); });
                },
            .deliver = [self, f = function("deliver")](cuda_stream) { from_python([&] { f(); }); },
            .own_bytes = static_cast<std::size_t>(made_.at("own_bytes").cast<std::int64_t>()),
            .queued = made_.at("queued").cast<ffi::String>(),
            .capturable = nests_graphs && graph != 0};
  }

 private:
  object made_;
};

/// `about`: name, summary, version, device, type, tolerance, form.
/// `unsupported(values, unusual)`: why it cannot run a problem, or None.
/// `bind(values, names, roles, tensors, stream)`: a dict of the functions launch(), deliver() and
/// release(), of own_bytes and queued, as bound_call has them, and of graph: a cudaGraph_t that
/// does what launch() does, as a number, or 0.
void add_implementation(const ffi::String& operation, const object& about,
                        const ffi::Function& unsupported, const ffi::Function& bind) {
  const auto text = [&](const char* name) {
    return std::string(about.at(name).cast<ffi::String>());
  };
  const auto found = operations().find(std::string(operation));
  if (found == operations().end()) {
    throw ffi::Error("ValueError", "there is no operation '" + std::string(operation) + "'", "");
  }
  const device_kind device = text("device") == "cuda" ? device_kind::cuda : device_kind::cpu;
  const element_type type = text("type") == "f32"    ? element_type::f32
                            : text("type") == "bf16" ? element_type::bf16
                                                     : element_type::fp16;
  try {
    found->second->add(
        {.name = text("name"),
         .summary = text("summary"),
         .version = text("version"),
         .device = device,
         .type = type,
         .tolerance = about.at("tolerance").cast<double>(),
         .form = text("form"),
         .unsupported = [unsupported](const foreign_problem& asked) -> unsupported_reason {
           return from_python([&]() -> unsupported_reason {
             const auto reason = unsupported(values_of(asked), strings(asked.unusual))
                                     .cast<ffi::Optional<ffi::String>>();
             if (!reason.has_value()) return std::nullopt;
             return std::string(reason.value());
           });
         },
         .bind =
             [bind, device](const foreign_problem& asked, const std::vector<foreign_tensor>& given,
                            cuda_stream stream) {
               return from_python([&] {
                 ffi::Array<ffi::String> names, roles;
                 ffi::Array<ffi::Tensor> tensors;
                 for (const foreign_tensor& each : given) {
                   names.push_back(ffi::String(std::string(each.spec.name)));
                   roles.push_back(ffi::String(std::string(to_string(each.spec.role))));
                   tensors.push_back(lent(each, device));
                 }
                 const auto made =
                     std::make_shared<python_call>(bind(values_of(asked), names, roles, tensors,
                                                        reinterpret_cast<std::int64_t>(stream))
                                                       .cast<object>());
                 return made->bound(made);
               });
             }});
  } catch (const std::invalid_argument& error) {
    throw ffi::Error("ValueError", error.what(), "");
  }
}

/// Drops what was added: Python ends before this library does.
void forget_implementations() {
  for (const auto& entry : operations()) entry.second->forget_added();
}

/// The program based_bench, with these arguments; its exit status.
std::int64_t run_based_bench(const ffi::Array<ffi::String>& arguments) {
  std::vector<std::string> texts = {"based_bench"};
  for (const ffi::String& each : arguments) texts.emplace_back(each);
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return run_suite(static_cast<int>(texts.size()), pointers.data());
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(add_implementation, add_implementation);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(forget_implementations, forget_implementations);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(run_suite, run_based_bench);

}  // namespace
}  // namespace based::python
