// Views of the suite's tensors: sequences [B, H, N, D] with strides.
#pragma once

#include <concepts>
#include <cstdint>

#ifdef __CUDACC__
#define BASED_HOST_DEVICE __host__ __device__
#else
#define BASED_HOST_DEVICE
#endif

namespace based {

/// A [B, H, N, D] tensor whose last dimension is contiguous; strides count elements.
template <class T>
struct sequence_view {
  T* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t token_stride = 0;

  /// Contiguous [B, H, N, D].
  static constexpr sequence_view bhnd(T* data, std::int64_t heads, std::int64_t seqlen, int dim) {
    return {data, heads * seqlen * dim, seqlen * dim, dim};
  }
  /// Contiguous [B, N, H, D].
  static constexpr sequence_view bnhd(T* data, std::int64_t heads, std::int64_t seqlen, int dim) {
    return {data, seqlen * heads * dim, dim, heads * dim};
  }

  /// The D elements of token n of (batch b, head h).
  BASED_HOST_DEVICE constexpr T* token(std::int64_t b, std::int64_t h, std::int64_t n) const {
    return data + b * batch_stride + h * head_stride + n * token_stride;
  }

  template <std::same_as<const T> Const>
  constexpr operator sequence_view<Const>() const {
    return {data, batch_stride, head_stride, token_stride};
  }
};

}  // namespace based
