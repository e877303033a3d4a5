// Error checks around CUDA runtime calls. Host-includable wherever the CUDA headers are.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace based {

/// A failed CUDA call; `code` tells a sticky error (the context is lost) from a passing one.
class cuda_error : public std::runtime_error {
 public:
  cuda_error(cudaError_t code, const char* file, int line, const char* expression)
      : std::runtime_error(std::string(cudaGetErrorName(code)) + ": " + cudaGetErrorString(code) +
                           " [" + file + ":" + std::to_string(line) + ": " + expression + "]"),
        code_(code) {}
  cudaError_t code() const { return code_; }

 private:
  cudaError_t code_;
};

inline void check_cuda(cudaError_t code, const char* file, int line, const char* expression) {
  if (code != cudaSuccess) throw cuda_error(code, file, line, expression);
}

}  // namespace based

/// Throws based::cuda_error unless the call succeeds. Not for destructors.
#define BASED_CUDA(expression) ::based::check_cuda((expression), __FILE__, __LINE__, #expression)

/// Checks the launch just made (configuration errors), without synchronising.
#define BASED_CUDA_LAUNCHED() \
  ::based::check_cuda(cudaGetLastError(), __FILE__, __LINE__, "kernel launch")
