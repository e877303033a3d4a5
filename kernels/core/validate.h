// The checks of which every operation's validate() is made. Each throws invalid_argument with the
// name and value of what is wrong, and what is allowed. Host code only.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/core/error.h"
#include "kernels/core/tensor_view.h"

namespace based {

/// The alignment of every tensor, workspace and stride, in bytes: the widest load that
/// implementations use.
inline constexpr std::uintptr_t tensor_alignment = 16;

/// `value` >= 1.
void require_size(const char* name, std::int64_t value);
/// 64 or 128.
void require_head_dim(int head_dim);
/// The largest tensor, [batch, heads, seqlen, dim], is addressable with 64-bit byte offsets.
void require_addressable(std::int64_t batch, std::int64_t heads, std::int64_t seqlen, int dim);
/// Not null, and aligned.
void require_pointer(const char* name, const void* pointer);
/// At least `needed` bytes, and a good pointer where any are needed.
void require_workspace(const void* workspace, std::size_t bytes, std::size_t needed);
/// A good pointer to `needed` bytes, no more and no fewer.
void require_state(const char* name, const void* state, std::size_t bytes, std::size_t needed);
void require_state(const char* name, std::span<const float> state, std::size_t needed);
/// No byte belongs to both.
void require_apart(const char* name, std::span<const std::byte> memory, const char* other_name,
                   std::span<const std::byte> other);
inline void require_apart(const char* name, std::span<const float> memory, const char* other_name,
                          std::span<const float> other) {
  require_apart(name, std::as_bytes(memory), other_name, std::as_bytes(other));
}

/// The strides of a [B, H, N, dim] view, in elements.
struct view_strides {
  std::int64_t batch, head, token;
};
/// A good pointer, and strides that are aligned, not negative, and at least `dim` between tokens.
void require_view(const char* name, const void* data, const view_strides& strides, int dim,
                  std::size_t element_bytes);
/// A view [B, H, N, 1], whose rows are single elements: a good pointer, and strides that are not
/// negative, of any multiple.
void require_scalars(const char* name, const void* data, const view_strides& strides);
/// A view of a tensor that is written: no two elements of [batch, heads, seqlen, dim] share a
/// place.
void require_output(const char* name, const void* data, const view_strides& strides,
                    std::int64_t batch, std::int64_t heads, std::int64_t seqlen, int dim,
                    std::size_t element_bytes);

template <class T>
void require_view(const char* name, const sequence_view<T>& view, int dim) {
  require_view(name, view.data, {view.batch_stride, view.head_stride, view.token_stride}, dim,
               sizeof(T));
}
template <class T>
void require_scalars(const char* name, const sequence_view<T>& view) {
  require_scalars(name, view.data, {view.batch_stride, view.head_stride, view.token_stride});
}
template <class T>
void require_output(const char* name, const sequence_view<T>& view, std::int64_t batch,
                    std::int64_t heads, std::int64_t seqlen, int dim) {
  require_output(name, view.data, {view.batch_stride, view.head_stride, view.token_stride}, batch,
                 heads, seqlen, dim, sizeof(T));
}

/// The memory from the first to the last element of a tensor [batch, heads, seqlen, dim].
template <class T>
std::span<const std::byte> extent(const sequence_view<T>& view, std::int64_t batch,
                                  std::int64_t heads, std::int64_t seqlen, int dim) {
  const T* const end = view.token(batch - 1, heads - 1, seqlen - 1) + dim;
  return std::as_bytes(std::span(static_cast<const T*>(view.data), end));
}

}  // namespace based
