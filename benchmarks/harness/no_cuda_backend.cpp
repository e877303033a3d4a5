// Stands in for cuda_backend.cu in a build without nvcc.
#include "benchmarks/harness/backend.h"

namespace based {

std::variant<std::unique_ptr<backend>, std::string> make_cuda_backend(std::optional<int>) {
  return "this binary was built without CUDA (no nvcc was found)";
}

}  // namespace based
