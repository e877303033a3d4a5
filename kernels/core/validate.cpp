#include "kernels/core/validate.h"

#include <fmt/format.h>

#include <limits>

namespace based {

void require_size(const char* name, std::int64_t value) {
  BASED_REQUIRE(value >= 1, fmt::format("{} is {}, must be at least 1", name, value));
}

void require_head_dim(int head_dim) {
  BASED_REQUIRE(head_dim == 64 || head_dim == 128,
                fmt::format("head_dim is {}, must be 64 or 128", head_dim));
}

void require_addressable(std::int64_t batch, std::int64_t heads, std::int64_t seqlen, int dim) {
  const double bytes = static_cast<double>(batch) * static_cast<double>(heads) *
                       static_cast<double>(seqlen) * dim * sizeof(float);
  BASED_REQUIRE(
      bytes < static_cast<double>(std::numeric_limits<std::int64_t>::max()),
      fmt::format("batch {} x heads {} x seqlen {} needs {:.3g} bytes a tensor, more than "
                  "2^63",
                  batch, heads, seqlen, bytes));
}

void require_pointer(const char* name, const void* pointer) {
  BASED_REQUIRE(pointer != nullptr, fmt::format("{} is null", name));
  BASED_REQUIRE(
      reinterpret_cast<std::uintptr_t>(pointer) % tensor_alignment == 0,
      fmt::format("{} at {} is not aligned to {} bytes", name, pointer, tensor_alignment));
}

namespace {

void require_not_negative(const char* name, const view_strides& strides) {
  const auto& [batch, head, token] = strides;
  BASED_REQUIRE(batch >= 0 && head >= 0 && token >= 0,
                fmt::format("{} has strides {}, {}, {}, none of which may be negative", name, batch,
                            head, token));
}

}  // namespace

void require_scalars(const char* name, const void* data, const view_strides& strides) {
  require_pointer(name, data);
  require_not_negative(name, strides);
}

void require_view(const char* name, const void* data, const view_strides& strides, int dim,
                  std::size_t element_bytes) {
  require_pointer(name, data);
  const auto& [batch, head, token] = strides;
  BASED_REQUIRE(token >= dim,
                fmt::format("{} has a token stride of {}, must be at least its dimension {}", name,
                            token, dim));
  require_not_negative(name, strides);
  const auto step = static_cast<std::int64_t>(tensor_alignment / element_bytes);
  BASED_REQUIRE(token % step == 0 && head % step == 0 && batch % step == 0,
                fmt::format("{} has strides {}, {}, {}, which must be multiples of {} elements",
                            name, batch, head, token, step));
}

void require_output(const char* name, const void* data, const view_strides& strides,
                    std::int64_t batch, std::int64_t heads, std::int64_t seqlen, int dim,
                    std::size_t element_bytes) {
  require_view(name, data, strides, dim, element_bytes);
  struct dimension {
    std::int64_t stride, size;
  };
  std::array dimensions = {dimension{strides.batch, batch}, dimension{strides.head, heads},
                           dimension{strides.token, seqlen}};
  std::ranges::sort(dimensions, {}, &dimension::stride);
  double extent = dim;  // of the dimensions that the loop has passed
  for (const auto& [stride, size] : dimensions) {
    if (size == 1) continue;
    const auto step = static_cast<double>(stride);
    BASED_REQUIRE(step >= extent, fmt::format("{} overlaps itself with strides {}, {}, {}", name,
                                              strides.batch, strides.head, strides.token));
    extent += step * static_cast<double>(size - 1);
  }
}

void require_workspace(const void* workspace, std::size_t bytes, std::size_t needed) {
  BASED_REQUIRE(bytes >= needed, fmt::format("workspace has {} bytes, needs {}", bytes, needed));
  if (needed > 0) require_pointer("workspace", workspace);
}

void require_state(const char* name, const void* state, std::size_t bytes, std::size_t needed) {
  require_pointer(name, state);
  BASED_REQUIRE(bytes == needed, fmt::format("{} has {} bytes, must have {}", name, bytes, needed));
}

void require_state(const char* name, std::span<const float> state, std::size_t needed) {
  require_state(name, state.data(), state.size_bytes(), needed);
}

void require_apart(const char* name, std::span<const std::byte> memory, const char* other_name,
                   std::span<const std::byte> other) {
  const auto* const end = memory.data() + memory.size();
  const auto* const other_end = other.data() + other.size();
  BASED_REQUIRE(
      end <= other.data() || other_end <= memory.data(),
      fmt::format("{} at {} and {} at {} overlap, {} and {} bytes", name, fmt::ptr(memory.data()),
                  other_name, fmt::ptr(other.data()), memory.size(), other.size()));
}

}  // namespace based
