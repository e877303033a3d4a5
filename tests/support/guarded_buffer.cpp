#include "tests/support/guarded_buffer.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"

namespace based::support {
namespace {

constexpr std::byte guard_byte{0xa5};
constexpr std::byte poison_byte{0xff};

}  // namespace

template <class T>
guarded_buffer<T>::guarded_buffer(device_kind device, std::int64_t size)
    : size_(size), bytes_(device, payload() + 2 * guard_size) {
  bytes_.fill(0, guard_size, guard_byte);
  poison();
  bytes_.fill(guard_size + payload(), guard_size, guard_byte);
}

template <class T>
void guarded_buffer<T>::poison() {
  bytes_.fill(guard_size, payload(), poison_byte);
}

template <class T>
void guarded_buffer<T>::write(std::span<const T> values) {
  BASED_REQUIRE(static_cast<std::int64_t>(values.size()) == size_,
                fmt::format("writing {} elements to a buffer of {}", values.size(), size_));
  bytes_.write(guard_size, std::as_bytes(values));
}

template <class T>
std::vector<T> guarded_buffer<T>::read() const {
  std::vector<T> values(size_);
  bytes_.read(guard_size, std::as_writable_bytes(std::span(values)));
  return values;
}

template <class T>
std::optional<std::string> guarded_buffer<T>::guard_damage() const {
  std::vector<std::byte> guard(guard_size);
  const auto damaged = [&](std::size_t offset) {
    bytes_.read(offset, guard);
    return std::count_if(guard.begin(), guard.end(), [](std::byte b) { return b != guard_byte; });
  };
  const auto before = damaged(0);
  const auto after = damaged(guard_size + payload());
  if (before == 0 && after == 0) return std::nullopt;
  return fmt::format("{} bytes overwritten before the buffer, {} after it", before, after);
}

template <class T>
sequence_buffer<T>::sequence_buffer(device_kind device, layout order, std::int64_t batch,
                                    std::int64_t heads, std::int64_t seqlen, int dim)
    : order_(order),
      batch_(batch),
      heads_(heads),
      seqlen_(seqlen),
      dim_(dim),
      buffer_(device, batch * heads * seqlen * dim) {}

template <class T>
sequence_view<T> sequence_buffer<T>::view() {
  return order_ == layout::bhnd ? sequence_view<T>::bhnd(buffer_.data(), heads_, seqlen_, dim_)
                                : sequence_view<T>::bnhd(buffer_.data(), heads_, seqlen_, dim_);
}

template <class T>
std::int64_t sequence_buffer<T>::at(std::int64_t b, std::int64_t h, std::int64_t n) const {
  const std::int64_t row =
      order_ == layout::bhnd ? (b * heads_ + h) * seqlen_ + n : (b * seqlen_ + n) * heads_ + h;
  return row * dim_;
}

template <class T>
void sequence_buffer<T>::write(std::span<const float> values) {
  BASED_REQUIRE(
      static_cast<std::int64_t>(values.size()) == buffer_.size(),
      fmt::format("writing {} elements to a tensor of {}", values.size(), buffer_.size()));
  std::vector<T> stored(values.size());
  auto value = values.begin();
  for (std::int64_t b = 0; b < batch_; ++b) {
    for (std::int64_t h = 0; h < heads_; ++h) {
      for (std::int64_t n = 0; n < seqlen_; ++n) {
        for (int d = 0; d < dim_; ++d) stored[at(b, h, n) + d] = from_float<T>(*value++);
      }
    }
  }
  buffer_.write(stored);
}

template <class T>
std::vector<float> sequence_buffer<T>::read() const {
  const std::vector<T> stored = buffer_.read();
  std::vector<float> values;
  values.reserve(stored.size());
  for (std::int64_t b = 0; b < batch_; ++b) {
    for (std::int64_t h = 0; h < heads_; ++h) {
      for (std::int64_t n = 0; n < seqlen_; ++n) {
        for (int d = 0; d < dim_; ++d) values.push_back(to_float(stored[at(b, h, n) + d]));
      }
    }
  }
  return values;
}

template class guarded_buffer<float>;
template class guarded_buffer<bf16>;
template class guarded_buffer<fp16>;
template class guarded_buffer<std::byte>;
template class sequence_buffer<float>;
template class sequence_buffer<bf16>;
template class sequence_buffer<fp16>;

}  // namespace based::support
