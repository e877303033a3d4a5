// Stands in for cuda_backend.cu in a build without nvcc.
#include "benchmarks/harness/backend.h"

namespace based {

std::variant<std::unique_ptr<backend>, std::string> make_cuda_backend() {
  return "this binary was built without CUDA (no nvcc was found)";
}

}  // namespace based
