#include "benchmarks/harness/gemm_ceiling.h"

#include <cublas_v2.h>
#include <dlfcn.h>

#include "benchmarks/harness/statistics.h"

namespace based {
namespace {

constexpr int edge = 8192;
constexpr int warm_ups = 5, samples = 15;

// The major version whose interface the header declares; the plain name is a development link.
#define BASED_TEXT_(x) #x
#define BASED_TEXT(x) BASED_TEXT_(x)
constexpr const char* library_name = "libcublas.so." BASED_TEXT(CUBLAS_VER_MAJOR);

struct cublas {
  decltype(&cublasCreate_v2) create;
  decltype(&cublasDestroy_v2) destroy;
  decltype(&cublasSetStream_v2) set_stream;
  // cublasGemmEx: the header overloads it, so that its type has no name.
  cublasStatus_t (*gemm)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                         const void*, const void*, cudaDataType, int, const void*, cudaDataType,
                         int, const void*, void*, cudaDataType, int, cublasComputeType_t,
                         cublasGemmAlgo_t);

  bool load() {
    void* handle = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return false;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
      return function != nullptr;
    };
    return find(create, "cublasCreate_v2") && find(destroy, "cublasDestroy_v2") &&
           find(set_stream, "cublasSetStream_v2") && find(gemm, "cublasGemmEx");
  }
};

}  // namespace

std::variant<double, std::string> measure_gemm(backend& device) {
  cublas calls{};
  if (!calls.load()) return std::string(library_name) + " was not found: no bf16 GEMM ceiling";
  cublasHandle_t handle = nullptr;
  if (calls.create(&handle) != CUBLAS_STATUS_SUCCESS) return "cuBLAS could not be initialised";

  constexpr std::int64_t elements = std::int64_t{edge} * edge;
  const memory a = device.allocate(elements * sizeof(bf16));
  const memory b = device.allocate(elements * sizeof(bf16));
  const memory c = device.allocate(elements * sizeof(bf16));
  device.fill(a.data(), element_type::bf16, elements, random_stream(1, 1, 1.0f));
  device.fill(b.data(), element_type::bf16, elements, random_stream(1, 2, 1.0f));

  calls.set_stream(handle, device.stream());
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  const auto product = [&](int) {
    const float one = 1, zero = 0;
    const cublasStatus_t made =
        calls.gemm(handle, CUBLAS_OP_T, CUBLAS_OP_N, edge, edge, edge, &one, a.data(), CUDA_R_16BF,
                   edge, b.data(), CUDA_R_16BF, edge, &zero, c.data(), CUDA_R_16BF, edge,
                   CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    if (made != CUBLAS_STATUS_SUCCESS) status = made;
  };
  device.time_calls(product, cache_state::hot, warm_ups);
  const double seconds = median(device.time_calls(product, cache_state::hot, samples));
  device.synchronize();
  calls.destroy(handle);
  if (status != CUBLAS_STATUS_SUCCESS) {
    return "cuBLAS failed with status " + std::to_string(static_cast<int>(status));
  }
  return 2.0 * edge * edge * edge / seconds;
}

}  // namespace based
