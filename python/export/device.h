// What a call needs of a CUDA device beside its tensors; nothing of it without CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/core/implementation.h"

namespace based::python {

/// Makes a CUDA device the current one, and the earlier one again when it ends.
class device_scope {
 public:
  device_scope(device_kind kind, int device);
  ~device_scope();
  device_scope(const device_scope&) = delete;
  device_scope& operator=(const device_scope&) = delete;

 private:
  int earlier_ = -1;
};

/// Memory of the current device for one call: its bytes belong to the call from its place in the
/// stream to where the workspace ends in it. On CUDA it comes from a pool of our own by the
/// stream's order, which neither synchronises nor keeps a graph from being captured.
class stream_memory {
 public:
  stream_memory(device_kind kind, std::size_t bytes, cuda_stream stream);
  ~stream_memory();
  stream_memory(const stream_memory&) = delete;
  stream_memory& operator=(const stream_memory&) = delete;

  void* data() const { return data_; }

 private:
  device_kind kind_;
  cuda_stream stream_;
  void* data_ = nullptr;
};

}  // namespace based::python
