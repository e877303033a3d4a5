// Views of the suite's tensors: sequences [B, H, N, D] with strides, and the recurrent KV state.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>

#include "kernels/common/features.h"

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

/// The state after some tokens: per (b, h), kv[r][c] = sum_n phi_k(k_n)[r] v_n[c] and
/// z[r] = sum_n phi_k(k_n)[r], rows in the compact order of features.h, fp32, contiguous.
template <class T>
struct kv_state_view {
  std::span<T> kv = {};  ///< [B, H, 153, 64]
  std::span<T> z = {};   ///< [B, H, 153]; needed with normalisation only

  BASED_HOST_DEVICE constexpr T* kv_head(std::int64_t head) const {
    return kv.data() + head * compact_features * value_dim;
  }
  BASED_HOST_DEVICE constexpr T* z_head(std::int64_t head) const {
    return z.empty() ? nullptr : z.data() + head * compact_features;
  }

  template <std::same_as<const T> Const>
  constexpr operator kv_state_view<Const>() const {
    return {kv, z};
  }
};

}  // namespace based
