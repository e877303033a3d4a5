// Memory of either device under one interface; a build without CUDA has the same one.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "kernels/core/implementation.h"

namespace based::support {

/// Why the CUDA implementations cannot run here (no CUDA in this build, no driver, no device);
/// empty: they can. Tests skip with it.
std::optional<std::string> cuda_unavailable();

/// Waits for all work on the device and throws what went wrong there.
void synchronize(device_kind device);

/// Owns bytes on a device, aligned to at least 256.
class device_bytes {
 public:
  device_bytes(device_kind device, std::size_t size);
  ~device_bytes();
  device_bytes(const device_bytes&) = delete;
  device_bytes& operator=(const device_bytes&) = delete;

  std::byte* data() { return data_; }
  std::size_t size() const { return size_; }
  device_kind device() const { return device_; }

  void fill(std::size_t offset, std::size_t count, std::byte value);
  void write(std::size_t offset, std::span<const std::byte> source);
  void read(std::size_t offset, std::span<std::byte> destination) const;

 private:
  device_kind device_;
  std::size_t size_;
  std::byte* data_ = nullptr;
};

}  // namespace based::support
