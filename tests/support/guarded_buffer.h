// Buffers that catch what a comparison of values cannot: elements never written (poisoned with
// NaN) and writes outside (guard bytes on both sides).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/bf16.h"
#include "kernels/core/fp16.h"
#include "kernels/core/implementation.h"
#include "kernels/core/tensor_view.h"
#include "tests/support/device_bytes.h"

namespace based::support {

/// Elements of T (float, bf16 or a byte) on a device, between two guards, poisoned at first: every
/// byte is 0xff, which is a NaN in fp32 and bf16.
template <class T>
class guarded_buffer {
 public:
  guarded_buffer(device_kind device, std::int64_t size);

  T* data() { return reinterpret_cast<T*>(bytes_.data() + guard_size); }
  std::int64_t size() const { return size_; }
  std::span<T> elements() { return {data(), static_cast<std::size_t>(size_)}; }
  device_kind device() const { return bytes_.device(); }

  void poison();
  void write(std::span<const T> values);
  std::vector<T> read() const;
  /// What is wrong with the guards; empty: they are intact.
  std::optional<std::string> guard_damage() const;

 private:
  static constexpr std::size_t guard_size = 1024;  // keeps the alignment of device_bytes

  std::size_t payload() const { return static_cast<std::size_t>(size_) * sizeof(T); }

  std::int64_t size_;
  device_bytes bytes_;
};

/// The two layouts in the wild of a [B, H, N, D] tensor.
enum class layout { bhnd, bnhd };

/// A guarded [B, H, N, D] tensor of T in either layout; outside it is always fp32 in bhnd order.
template <class T>
class sequence_buffer {
 public:
  sequence_buffer(device_kind device, layout order, std::int64_t batch, std::int64_t heads,
                  std::int64_t seqlen, int dim);

  sequence_view<T> view();
  void write(std::span<const float> values);  ///< [B, H, N, D], rounded to T
  std::vector<float> read() const;            ///< [B, H, N, D]
  guarded_buffer<T>& buffer() { return buffer_; }

 private:
  std::int64_t at(std::int64_t b, std::int64_t h, std::int64_t n) const;

  layout order_;
  std::int64_t batch_, heads_, seqlen_;
  int dim_;
  guarded_buffer<T> buffer_;
};

extern template class guarded_buffer<float>;
extern template class guarded_buffer<bf16>;
extern template class guarded_buffer<fp16>;
extern template class guarded_buffer<std::byte>;
extern template class sequence_buffer<float>;
extern template class sequence_buffer<bf16>;
extern template class sequence_buffer<fp16>;

}  // namespace based::support
