// The two functions of the CUDA driver that ThunderKittens' headers call, by way of the runtime: so
// that a binary with its kernels starts where there is no driver, as it does without them. Hidden,
// for a shared library of this project must not take the place of the driver's own.
#include <cuda.h>
#include <cuda_runtime_api.h>

namespace {

/// The driver's function of this name; null where there is none.
template <class Function>
Function* driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  constexpr unsigned int first_version = 12000;
  const cudaError_t code =
      cudaGetDriverEntryPointByVersion(name, &found, first_version, cudaEnableDefault, &result);
  if (code != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<Function*>(found);
}

}  // namespace

#define BASED_HIDDEN __attribute__((visibility("hidden")))

extern "C" BASED_HIDDEN CUresult CUDAAPI cuTensorMapEncodeTiled(
    CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
    const cuuint64_t* shape, const cuuint64_t* strides, const cuuint32_t* box,
    const cuuint32_t* element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
    CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  static auto* const encode =
      driver_function<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  if (encode == nullptr) return CUDA_ERROR_NOT_FOUND;
  return encode(map, type, rank, data, shape, strides, box, element_strides, interleave, swizzle,
                promotion, fill);
}

extern "C" BASED_HIDDEN CUresult CUDAAPI cuGetErrorString(CUresult error, const char** text) {
  static auto* const describe = driver_function<decltype(cuGetErrorString)>("cuGetErrorString");
  if (describe == nullptr) {
    *text = "there is no CUDA driver";
    return CUDA_ERROR_NOT_FOUND;
  }
  return describe(error, text);
}
