// Matrix products on CUDA: cuBLASLt, loaded when the first product is asked for, so that a machine
// without the library runs everything else.
//
// cuBLASLt's matrices are column-major: a token-major activation [tokens, channels] is its matrix
// channels x tokens, a channel-major one tokens x channels, and W [outputs, inputs] inputs x
// outputs. So y^T = W x^T is asked for where y is token-major, and y = x W^T where it is
// channel-major.
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <tuple>
#include <type_traits>

#include "kernels/core/bf16.h"
#include "kernels/core/cuda_check.h"
#include "kernels/models/products.h"

namespace based::models {
namespace {

constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

// The major version whose interface the header declares; the plain name is a development link.
constexpr int library_version = CUBLAS_VER_MAJOR;

/// The library's functions, by their own names.
struct cublaslt {
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtMatmul) matmul;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&::cublasLtMatmulDescCreate) create_operation;
  decltype(&::cublasLtMatmulDescDestroy) destroy_operation;
  decltype(&::cublasLtMatmulDescSetAttribute) set_operation;
  decltype(&::cublasLtMatrixLayoutCreate) create_layout;
  decltype(&::cublasLtMatrixLayoutDestroy) destroy_layout;
  decltype(&::cublasLtMatmulPreferenceCreate) create_preference;
  decltype(&::cublasLtMatmulPreferenceDestroy) destroy_preference;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) set_preference;

  bool load() {
    const std::string name = fmt::format("libcublasLt.so.{}", library_version);
    void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return false;
    const auto find = [&](auto& function, const char* symbol) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
      return function != nullptr;
    };
    return find(create, "cublasLtCreate") && find(matmul, "cublasLtMatmul") &&
           find(get_heuristic, "cublasLtMatmulAlgoGetHeuristic") &&
           find(create_operation, "cublasLtMatmulDescCreate") &&
           find(destroy_operation, "cublasLtMatmulDescDestroy") &&
           find(set_operation, "cublasLtMatmulDescSetAttribute") &&
           find(create_layout, "cublasLtMatrixLayoutCreate") &&
           find(destroy_layout, "cublasLtMatrixLayoutDestroy") &&
           find(create_preference, "cublasLtMatmulPreferenceCreate") &&
           find(destroy_preference, "cublasLtMatmulPreferenceDestroy") &&
           find(set_preference, "cublasLtMatmulPreferenceSetAttribute");
  }
};

/// Null where the library is missing.
const cublaslt* library() {
  static const auto loaded = [] {
    auto functions = std::make_unique<cublaslt>();
    if (!functions->load()) functions.reset();
    return functions;
  }();
  return loaded.get();
}

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(
      fmt::format("cuBLASLt: {} failed with status {}", what, static_cast<int>(status)));
}

/// A library's object, which `destroy` ends.
template <class Handle>
using owned = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;

/// How one kind of product is made. Descriptions hold no pointers but the bias's, which is set at
/// each call.
struct prepared_product {
  owned<cublasLtMatmulDesc_t> operation;
  owned<cublasLtMatrixLayout_t> a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

owned<cublasLtMatrixLayout_t> layout(const cublaslt& lt, cudaDataType_t type, std::int64_t rows,
                                     std::int64_t columns, std::int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check(lt.create_layout(&made, type, static_cast<std::uint64_t>(rows),
                         static_cast<std::uint64_t>(columns), stride),
        "describing a matrix");
  return {made, lt.destroy_layout};
}

template <class T>
owned<cublasLtMatrixLayout_t> layout(const cublaslt& lt, const activation<T>& of,
                                     std::int64_t tokens, std::int64_t channels) {
  const bool token_major = of.order == activation_order::token_major;
  return layout(lt, CUDA_R_16BF, token_major ? channels : tokens, token_major ? tokens : channels,
                of.stride);
}

/// The largest power of two, 256 at most, that the address is a multiple of.
std::uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer) | 256;
  return static_cast<std::uint32_t>(address & -address);
}

bool is_token_major(const product_args<bf16>& args) {
  return args.sum != nullptr || args.y.order == activation_order::token_major;
}

/// The matrices in the library's order: A B = D.
struct operands {
  const void *a, *b;
  void* d;
};
operands operands_of(const product_args<bf16>& args) {
  void* const d = args.sum != nullptr ? static_cast<void*>(args.sum) : args.y.data;
  if (is_token_major(args)) return {args.weight, args.x.data, d};
  return {args.x.data, args.weight, d};
}

prepared_product prepare(const cublaslt& lt, cublasLtHandle_t handle,
                         const product_args<bf16>& args) {
  cublasLtMatmulDesc_t made = nullptr;
  check(lt.create_operation(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  prepared_product product = {
      {made, lt.destroy_operation},
      layout(lt, CUDA_R_16BF, args.inputs, args.outputs, args.inputs),
      layout(lt, args.x, args.tokens, args.inputs),
      args.sum != nullptr ? layout(lt, CUDA_R_32F, args.outputs, args.tokens, args.sum_stride)
                          : layout(lt, args.y, args.tokens, args.outputs),
      {}};
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(lt.set_operation(made, attribute, &value, sizeof value), "describing a product");
  };
  const bool x_token_major = args.x.order == activation_order::token_major;
  if (is_token_major(args)) {  // W^T as it lies, times x^T
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    set(CUBLASLT_MATMUL_DESC_TRANSB, x_token_major ? CUBLAS_OP_N : CUBLAS_OP_T);
  } else {  // x times W^T
    std::swap(product.a, product.b);
    set(CUBLASLT_MATMUL_DESC_TRANSA, x_token_major ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  }
  if (args.bias != nullptr) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias);
  }

  cublasLtMatmulPreference_t preference = nullptr;
  check(lt.create_preference(&preference), "describing a preference");
  const owned<cublasLtMatmulPreference_t> owner(preference, lt.destroy_preference);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(lt.set_preference(preference, attribute, &value, sizeof value),
          "describing a preference");
  };
  const operands at = operands_of(args);
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(at.a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(at.b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(at.d));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(at.d));

  cublasLtMatmulHeuristicResult_t best = {};
  int found = 0;
  check(lt.get_heuristic(handle, made, product.a.get(), product.b.get(), product.c.get(),
                         product.c.get(), preference, 1, &best, &found),
        fmt::format("a product of {} x {} by {}", args.tokens, args.inputs, args.outputs).c_str());
  if (found == 0) throw std::runtime_error("cuBLASLt: knows no way to make a product");
  product.algorithm = best.algo;
  return product;
}

/// What the way to make a product depends on.
using product_key =
    std::tuple<int, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool,
               bool, bool, bool, std::uint32_t, std::uint32_t, std::uint32_t>;

product_key key_of(int device, const product_args<bf16>& args) {
  const operands at = operands_of(args);
  return {device,
          args.tokens,
          args.inputs,
          args.outputs,
          args.x.stride,
          args.sum != nullptr ? args.sum_stride : args.y.stride,
          args.x.order == activation_order::token_major,
          is_token_major(args),
          args.sum != nullptr,
          args.bias != nullptr,
          alignment_of(at.a),
          alignment_of(at.b),
          alignment_of(at.d)};
}

/// The library's handles, one a device, and the products that were asked for before. They live as
/// long as the process.
class product_cache {
 public:
  /// Calls f(handle, product) with no other thread in it.
  template <class Function>
  void use(const cublaslt& lt, const product_args<bf16>& args, Function f) {
    int device = 0;
    BASED_CUDA(cudaGetDevice(&device));
    const std::scoped_lock lock(mutex_);
    cublasLtHandle_t& handle = handles_[device];
    if (handle == nullptr) check(lt.create(&handle), "starting");
    const product_key key = key_of(device, args);
    auto found = products_.find(key);
    if (found == products_.end()) {
      found = products_.emplace(key, prepare(lt, handle, args)).first;
    }
    f(handle, found->second);
  }

 private:
  std::mutex mutex_;
  std::map<int, cublasLtHandle_t> handles_;
  std::map<product_key, prepared_product> products_;
};

}  // namespace

template <>
std::size_t product_workspace_bytes<bf16>() {
  return workspace_bytes;
}

template <>
unsupported_reason products_unavailable<bf16>() {
  if (library() != nullptr) return std::nullopt;
  return fmt::format("libcublasLt.so.{} was not found", library_version);
}

template <>
void multiply(const product_args<bf16>& args, void* workspace, cuda_stream stream) {
  const cublaslt* const lt = library();
  if (lt == nullptr) throw std::runtime_error(*products_unavailable<bf16>());
  static product_cache cache;
  cache.use(*lt, args, [&](cublasLtHandle_t handle, const prepared_product& product) {
    const float one = 1, kept = args.accumulates ? 1 : 0;
    if (args.bias != nullptr) {
      check(lt->set_operation(product.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                              &args.bias, sizeof args.bias),
            "setting a bias");
    }
    const operands at = operands_of(args);
    check(lt->matmul(handle, product.operation.get(), &one, at.a, product.a.get(), at.b,
                     product.b.get(), &kept, at.d, product.c.get(), at.d, product.c.get(),
                     &product.algorithm, workspace, workspace_bytes, stream),
          "a product");
  });
}

}  // namespace based::models
